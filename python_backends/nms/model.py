# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression for detectors, image by image; outputs of one length, so that responses batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_nms import Candidates, Limits
from trtkit_nms_layouts import ACTIVATIONS, BACKGROUNDS, BOX_FORMATS, LAYOUTS, BadShape, Detector
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_each, output_type, tensor

# output -> its shape for one image, "n" being max_detections
_OUTPUTS: dict[str, tuple[int | str, ...]] = {
    "num_detections": (1,),
    "detection_boxes": ("n", 4),
    "detection_scores": ("n",),
    "detection_classes": ("n",),
}
_WHOLE = {"num_detections", "detection_classes"}


class TritonPythonModel:
    """What a detector says, by its layout, to `num_detections`, `detection_boxes`, `_scores` and `_classes`."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the parameters, and check that the config has the tensors they need."""
        config = json.loads(args["model_config"])
        self.name = config["name"]
        self.batches = int(config["max_batch_size"]) > 0
        parameters = Parameters(config)
        self.detector = _detector(parameters)
        parameters.done()
        self.inputs = LAYOUTS[self.detector.layout]
        _check_tensors(config, self.inputs, self.detector)
        self.types = {entry["name"]: output_type(config, entry["name"]) for entry in config["output"]}

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in order."""
        return answer_each(self.name, requests, self._answer)

    def _answer(self, request: Any) -> Any:
        tensors = {name: tensor(request, name) for name in self.inputs}
        first = self.inputs[0]
        several = tensors[first].ndim == 3
        if self.batches and not several:
            raise BadRequest(f"input '{first}' has shape {list(tensors[first].shape)}, expected 3 dimensions")
        if not several:
            tensors = {name: array[np.newaxis] for name, array in tensors.items()}
        wanted = [name for name in request.requested_output_names() if name in self.types]
        outputs = self._padded(self._detect(tensors), wanted)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array if several else array[0]) for name, array in outputs.items()]
        )

    def _detect(self, tensors: Mapping[str, np.ndarray]) -> list[Candidates]:
        """What is found in each row."""
        rows = {name: len(array) for name, array in tensors.items()}
        if len(set(rows.values())) > 1:
            raise BadRequest(f"its inputs have different numbers of rows: {rows}")
        try:
            return [
                self.detector.detect({name: array[row] for name, array in tensors.items()})
                for row in range(rows[self.inputs[0]])
            ]
        except BadShape as error:
            raise BadRequest(str(error)) from error

    def _padded(self, rows: Sequence[Candidates], wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs asked for, with a row for each image."""
        most = self.detector.limits.max_detections
        shapes = {name: [len(rows), *(most if n == "n" else n for n in _OUTPUTS[name])] for name in wanted}
        outputs = {name: np.zeros(shapes[name], self.types[name]) for name in wanted}
        if "detection_classes" in outputs:
            outputs["detection_classes"][:] = -1
        for row, found in enumerate(rows):
            count = len(found.scores)
            values = {
                "num_detections": count,
                "detection_boxes": found.boxes,
                "detection_scores": found.scores,
                "detection_classes": found.classes,
            }
            for name, array in outputs.items():
                array[row, : count if name != "num_detections" else 1] = values[name]
        return outputs


def _detector(parameters: Parameters) -> Detector:
    """What the parameters ask for."""
    return Detector(
        layout=parameters.choice("layout", LAYOUTS, "boxes_scores"),
        box_format=parameters.choice("box_format", BOX_FORMATS, "xyxy"),
        activation=parameters.choice("activation", ACTIVATIONS, "none"),
        background=parameters.choice("background", BACKGROUNDS, "none"),
        limits=Limits(
            iou_threshold=parameters.number("iou_threshold", 0.45, least=0, most=1),
            score_threshold=parameters.number("score_threshold", 0.25),
            max_detections=parameters.integer("max_detections", 100, least=1),
            class_agnostic=parameters.flag("class_agnostic", False),
            multi_label=parameters.flag("multi_label", False),
        ),
    )


def _check_tensors(config: Mapping[str, Any], inputs: Sequence[str], detector: Detector) -> None:
    """BadConfig where config.pbtxt has other tensors than the parameters need."""
    declared = [entry["name"] for entry in config["input"]]
    if sorted(declared) != sorted(inputs):
        raise BadConfig(
            f"model '{config['name']}': layout '{detector.layout}' reads the inputs {', '.join(inputs)}; "
            f"config.pbtxt has {', '.join(declared)}"
        )
    for entry in config["output"]:
        shape = _OUTPUTS.get(entry["name"])
        if shape is None:
            raise BadConfig(f"model '{config['name']}': unknown output '{entry['name']}'; it has {', '.join(_OUTPUTS)}")
        if entry["name"] in _WHOLE and entry["data_type"] not in ("TYPE_INT32", "TYPE_INT64"):
            raise BadConfig(
                f"model '{config['name']}': output '{entry['name']}' is {entry['data_type']}, expected TYPE_INT32"
            )
        made = [detector.limits.max_detections if n == "n" else n for n in shape]
        dims = [int(dim) for dim in entry["dims"]]
        if len(dims) > len(made) and not int(config["max_batch_size"]):
            dims = dims[1:]  # the batch, which this config spells out
        if len(dims) != len(made) or any(dim not in (-1, n) for dim, n in zip(dims, made, strict=True)):
            raise BadConfig(
                f"model '{config['name']}': output '{entry['name']}' has dims {dims}, but max_detections makes {made}"
            )
