# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The k best classes of each row of scores; see README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_labels import Labels
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_together, bytes_array, locate, numpy_type, tensor
from trtkit_top_k import activate, best


class _Item(NamedTuple):
    """One request, read: its scores as rows, their shape without the classes, and the outputs it asks for."""

    rows: np.ndarray
    shape: tuple[int, ...]
    outputs: list[str]


class TritonPythonModel:
    """``scores`` [..., n] to ``index``, ``score`` and ``label``, each [..., k]."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the parameters and the labels, and check the outputs' types and dims."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self._name = config["name"]
        self._k = parameters.integer("k", 1, least=1)
        self._largest = parameters.flag("largest", True)
        self._activation = parameters.choice("activation", ("none", "softmax", "sigmoid"), "none")
        self._threshold = parameters.number("threshold") if parameters.text("threshold", "") else None
        labels = parameters.text("labels", "")
        self._labels = Labels(locate(args, labels)) if labels else None
        parameters.done()
        self._types = _checked_types(config, self._k, self._activation)
        self._check_index(config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Rank the rows of all requests with as many classes in one go."""
        return answer_together(self._name, requests, self._read, self._answer)

    def _read(self, request: Any) -> tuple[int, _Item]:
        scores = tensor(request, "scores")
        if scores.ndim == 0:
            raise BadRequest("input 'scores' is a scalar, expected at least one dimension: the classes")
        classes = scores.shape[-1]
        if classes < self._k:
            raise BadRequest(f"input 'scores' has {classes} classes, but the parameter k is {self._k}")
        if self._labels is not None and classes != len(self._labels):
            raise BadRequest(f"input 'scores' has {classes} classes, but the labels file has {len(self._labels)}")
        if classes > self._most_classes:
            raise BadRequest(
                f"input 'scores' has {classes} classes, but the type of output 'index' has no such numbers"
            )
        requested = request.requested_output_names()
        outputs = [name for name in self._types if name in requested]
        return classes, _Item(scores.reshape(-1, classes), scores.shape[:-1], outputs)

    def _check_index(self, config: Mapping[str, Any]) -> None:
        """Find how many classes the type of ``index`` can tell apart; BadConfig when these are too few."""
        kind = np.iinfo(self._types.get("index", np.int64))
        self._most_classes = int(kind.max) + 1
        where = f"model '{config['name']}': output 'index' cannot be {str(kind.dtype).upper()}"
        if kind.min == 0 and self._threshold is not None:
            raise BadConfig(f"{where}: with the parameter threshold, it is -1 for what is dropped")
        classes = max(_last_dim(config["input"][0]), len(self._labels or ()))
        if classes > self._most_classes:
            raise BadConfig(f"{where}: there are {classes} classes")

    def _answer(self, items: list[_Item]) -> list[Any]:
        rows = items[0].rows if len(items) == 1 else np.concatenate([item.rows for item in items])
        found = self._found(rows, {name for item in items for name in item.outputs})
        ends = np.cumsum([len(item.rows) for item in items])
        return [_response(item, found, end) for item, end in zip(items, ends.tolist(), strict=True)]

    def _found(self, rows: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
        """The outputs that any of the requests asks for, for all their rows."""
        chosen = best(rows, self._k, largest=self._largest)
        scores = dropped = None
        if "score" in outputs or self._threshold is not None:
            scores = activate(rows, chosen, self._activation)
        if self._threshold is not None:  # NaN is on neither side
            dropped = ~(scores >= self._threshold if self._largest else scores <= self._threshold)
        compute: dict[str, Callable[[], np.ndarray]] = {
            "index": lambda: chosen if dropped is None else np.where(dropped, -1, chosen),
            "score": lambda: scores,
            "label": lambda: self._found_labels(chosen, dropped),
        }
        with np.errstate(over="ignore"):  # what FP16 cannot hold becomes inf, as everywhere
            return {name: compute[name]().astype(self._types[name], copy=False) for name in outputs}

    def _found_labels(self, chosen: np.ndarray, dropped: np.ndarray | None) -> np.ndarray:
        if self._labels is None:
            labels = bytes_array(map(str, chosen.ravel().tolist()), chosen.shape)
        else:
            labels = self._labels.find(chosen)
        if dropped is not None:
            labels[dropped] = b""
        return labels


def _response(item: _Item, found: Mapping[str, np.ndarray], end: int) -> Any:
    """The response of a request whose rows end there."""
    begin = end - len(item.rows)
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor(name, found[name][begin:end].reshape(*item.shape, found[name].shape[1]))
            for name in item.outputs
        ]
    )


def _checked_types(config: Mapping[str, Any], k: int, activation: str) -> dict[str, Any]:
    """The numpy type of each output; BadConfig when an output or its type or dims cannot be."""
    where = f"model '{config['name']}'"
    if [entry["name"] for entry in config["input"]] != ["scores"]:
        raise BadConfig(f"{where}: expected one input, 'scores'")
    scores = config["input"][0]
    if 0 <= _last_dim(scores) < k:
        raise BadConfig(f"{where}: input 'scores' has {_last_dim(scores)} classes, but the parameter k is {k}")
    kinds = {entry["name"]: numpy_type(config, entry) for entry in config["output"]}
    computed = np.dtype(np.float32) if activation != "none" else numpy_type(config, scores)
    fits = {
        "index": lambda kind: kind.kind in "iu",
        "score": lambda kind: kind.kind == "f" or np.can_cast(computed, kind),
        "label": lambda kind: kind.kind == "O",
    }
    for entry in config["output"]:
        name = entry["name"]
        if name not in fits:
            raise BadConfig(f"{where}: there is no output '{name}'; it has {', '.join(fits)}")
        if not fits[name](kinds[name]):
            raise BadConfig(f"{where}: output '{name}' cannot be {entry['data_type']}; see the part's README.md")
        if _last_dim(entry) not in (-1, k):
            raise BadConfig(f"{where}: output '{name}' has dims {entry['dims']}, but the parameter k is {k}")
    return kinds


def _last_dim(entry: Mapping[str, Any]) -> int:
    """The number of classes as the configuration says; -1: any, or hidden by a reshape."""
    return entry["dims"][-1] if entry["dims"] and "reshape" not in entry else -1
