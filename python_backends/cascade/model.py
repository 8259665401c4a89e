# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A cheap model first, a larger one for the rows it is unsure of. See README.md."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_parts import BadRequest, Parameters
from trtkit_routing import RoutingModel, Variant, cancelled, read_variants, wanted

_ROWS, _ESCALATED = "trtkit_cascade_rows_total", "trtkit_cascade_escalated_rows_total"


class TritonPythonModel(RoutingModel):
    """The part ``cascade``."""

    counters: ClassVar = {
        _ROWS: "Rows that the variant was asked about",
        _ESCALATED: "Rows that the variant was unsure of, and that went on to the next one",
    }

    def configure(self, parameters: Parameters) -> None:
        """Read the chain of models and what makes a row unsure."""
        self._variants = read_variants(parameters, "models", self.name, least=2)
        self._output = parameters.text("output")
        self._softmax = parameters.choice("activation", ("none", "softmax"), "none") == "softmax"
        self._measure = _MEASURES[parameters.choice("measure", _MEASURES, "max")]
        self._threshold = parameters.number("threshold", least=0)

    def answer(self, request: Any) -> Any:
        """Ask the first model about all rows, each further one about those that the one before was unsure of."""
        count = self.rows(request)
        rows, names = np.arange(count), np.full(count, "", dtype=np.object_)
        answers: dict[str, Any] = {}
        for variant in self._variants:
            response = self._ask(request, variant, None if len(rows) == count else rows)
            if response.has_error():
                return response
            given = {tensor.name(): tensor for tensor in response.output_tensors()}
            answers = given if len(rows) == count else self._merged(answers, given, rows, variant)
            names[rows] = variant.name
            self.metrics.add(_ROWS, len(rows), variant=variant.name)
            if variant is self._variants[-1]:
                break
            rows = rows[self._unsure(given, len(rows), variant)]
            self.metrics.add(_ESCALATED, len(rows), variant=variant.name)
            if not len(rows):
                break
            if request.is_cancelled():
                return cancelled()
        outputs = [answers[name] for name in wanted(request) if name in answers]
        return self.marked(request, outputs, names) if self.marks(request) else pb_utils.InferenceResponse(outputs)

    def _ask(self, request: Any, variant: Variant, rows: np.ndarray | None) -> Any:
        """The variant's response to all rows (None) or some."""
        inputs = None
        if rows is not None:
            inputs = [pb_utils.Tensor(tensor.name(), tensor.as_numpy()[rows]) for tensor in request.inputs()]
        outputs = set(wanted(request))
        if variant is not self._variants[-1]:
            outputs.add(self._output)
        call = self.call(request, variant, inputs=inputs, outputs=list(outputs))
        return self.run(call, variant)

    def _unsure(self, given: dict[str, Any], count: int, variant: Variant) -> np.ndarray:
        """Whether each row must go on: where any of its distributions is unsure, or NaN."""
        if self._output not in given:
            raise BadRequest(f"'{variant.name}' gave no output '{self._output}'; it gave {', '.join(given)}")
        scores = given[self._output].as_numpy().astype(np.float64)
        if not count:
            return np.empty(0, np.bool_)
        if self.batches and len(scores) != count:
            raise BadRequest(f"'{variant.name}' answered {count} rows with {len(scores)} of '{self._output}'")
        if scores.ndim < 1 + self.batches:
            raise BadRequest(f"output '{self._output}' of '{variant.name}' has shape {list(scores.shape)}, no classes")
        with np.errstate(all="ignore"):
            sure = self._measure(_softmax(scores) if self._softmax else scores, self._threshold)
        return ~sure.reshape(count, -1).all(axis=1)

    def _merged(
        self, answers: dict[str, Any], given: dict[str, Any], rows: np.ndarray, variant: Variant
    ) -> dict[str, Any]:
        """The answers so far with some rows replaced."""
        merged = {}
        for name in (name for name in given if name in answers):
            before, after = answers[name].as_numpy().copy(), given[name].as_numpy()
            if after.shape[:1] != rows.shape:
                raise BadRequest(
                    f"'{variant.name}' answered {len(rows)} rows with shape {list(after.shape)} of '{name}'"
                )
            if (before.dtype, before.shape[1:]) != (after.dtype, after.shape[1:]):
                raise BadRequest(
                    f"output '{name}' of '{variant.name}' is {after.dtype} {list(after.shape[1:])} a row, but "
                    f"{before.dtype} {list(before.shape[1:])} before it; rows of both cannot be in one response"
                )
            before[rows] = after
            merged[name] = pb_utils.Tensor(name, before)
        return merged


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=-1, keepdims=True)


def _by_max(scores: np.ndarray, threshold: float) -> np.ndarray:
    return scores.max(axis=-1, initial=-np.inf) >= threshold


def _by_margin(scores: np.ndarray, threshold: float) -> np.ndarray:
    if scores.shape[-1] < 2:
        return _by_max(scores, threshold)
    second, first = np.moveaxis(np.partition(scores, -2, axis=-1)[..., -2:], -1, 0)
    return first - second >= threshold


def _by_entropy(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Entropy from 0, sure, to 1, all classes alike."""
    terms = np.where(scores == 0, 0, scores * np.log(scores))
    return -terms.sum(axis=-1) / np.log(max(scores.shape[-1], 2)) <= threshold


_MEASURES = {"max": _by_max, "margin": _by_margin, "entropy": _by_entropy}
