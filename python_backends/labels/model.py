# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Class indices, or the scores of all labels, to label strings; see README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_labels import BadLabels, Labels
from trtkit_multi_label import chosen
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_each, locate, numpy_type, tensor


class TritonPythonModel:
    """``index`` [...] to ``label`` [...], or ``scores`` [..., classes] to ``label`` [..., m] and ``count`` [..., 1]."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the labels and the parameters, and check the tensors of the config."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self._name = config["name"]
        self._labels = Labels(locate(args, parameters.text("labels", "labels.txt")))
        unknown = parameters.text("unknown", "")  # which may be empty, and is not there by default
        self._unknown = unknown.encode() if "unknown" in parameters else None
        self._threshold = parameters.number("threshold", 0.5)
        parameters.done()
        self._input = _checked_input(config)
        self._types = _checked_outputs(config, self._input)
        if len(self._labels) > np.iinfo(self._types.get("count", np.int64)).max:
            kind = self._types["count"]
            raise BadConfig(f"model '{self._name}': output 'count' is {kind}, but there are {len(self._labels)} labels")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in order: looking up labels costs the same for each row, alone or together."""
        return answer_each(self._name, requests, self._response)

    def _response(self, request: Any) -> Any:
        values = tensor(request, self._input)
        found = {"label": self._find(values)} if self._input == "index" else self._find_multiple(values)
        requested = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, found[name].astype(kind)) for name, kind in self._types.items() if name in requested]
        )

    def _find(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._labels.find(indices, self._unknown)
        except BadLabels as error:
            raise BadRequest(f"{error}; give the parameter 'unknown' a text for those") from None

    def _find_multiple(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        if scores.ndim == 0 or scores.shape[-1] != len(self._labels):
            given = f"{scores.shape[-1]} classes" if scores.ndim else "no dimension"
            raise BadRequest(f"input 'scores' has {given}, but the labels file has {len(self._labels)}")
        if scores.dtype.kind == "f" and np.isnan(scores).any():
            place = ", ".join(map(str, np.argwhere(np.isnan(scores))[0]))
            raise BadRequest(f"input 'scores' is NaN at [{place}], which is neither below nor above the threshold")
        table, counts = chosen(scores.reshape(-1, len(self._labels)), self._threshold)
        labels = np.full(table.shape, b"", np.object_)
        labels[table >= 0] = self._find(table[table >= 0])
        lead = scores.shape[:-1]
        return {"label": labels.reshape(*lead, labels.shape[1]), "count": counts.reshape(*lead, 1)}


def _checked_input(config: Mapping[str, Any]) -> str:
    """The name of the one input; BadConfig when it is another or of a type that it cannot be."""
    where = f"model '{config['name']}'"
    names = [entry["name"] for entry in config["input"]]
    if names not in (["index"], ["scores"]):
        raise BadConfig(f"{where}: the inputs are {names}, expected one: 'index' or 'scores'")
    kind = numpy_type(config, config["input"][0])
    if kind.kind not in ("iu" if names == ["index"] else "biuf"):
        expected = "a whole number" if names == ["index"] else "a number or TYPE_BOOL"
        raise BadConfig(f"{where}: input '{names[0]}' is {config['input'][0]['data_type']}, expected {expected}")
    return names[0]


def _checked_outputs(config: Mapping[str, Any], input_: str) -> dict[str, Any]:
    """The numpy type of each output; BadConfig when it has another than there is, or one of a wrong type."""
    where = f"model '{config['name']}'"
    letters = {"label": "O"} if input_ == "index" else {"label": "O", "count": "iu"}
    types = {entry["name"]: numpy_type(config, entry) for entry in config["output"]}
    for entry in config["output"]:
        name = entry["name"]
        if name not in letters:
            raise BadConfig(f"{where}: with input '{input_}' there is no output '{name}'; it has {', '.join(letters)}")
        if types[name].kind not in letters[name]:
            expected = "TYPE_STRING" if name == "label" else "a whole number"
            raise BadConfig(f"{where}: output '{name}' is {entry['data_type']}, expected {expected}")
    return types
