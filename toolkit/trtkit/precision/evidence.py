# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a converted graph is from the exported one: the same rows through both, outputs and task metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trtkit.dtypes import by_numpy
from trtkit.errors import DataError
from trtkit.metrics import measure_metric
from trtkit.numerics import Array, difference
from trtkit.project import Project
from trtkit.samples import Samples, calibration_samples, evaluation_samples, recorded_inputs
from trtkit.signature import Signature
from trtkit.tolerance import largest_value, outside_share, tolerance_for

Outputs = Mapping[str, Array]
_RANDOM_ROWS = 32
_BATCH_ROWS = 64


class Runs(Protocol):
    """What answers requests: a `trtkit.export.runtime.Session`."""

    def cast(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs in the floating-point types it takes."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for full input arrays."""


@dataclass(frozen=True)
class Evidence:
    """The rows that conversions of one model are judged on.

    Attributes:
        project: the project.
        name: the model.
        samples: the ``evaluate:`` data, or random rows.
        max_batch_size: 0 for a model that takes all of them as one request.
    """

    project: Project
    name: str
    samples: Samples
    max_batch_size: int

    def requests(self) -> Iterator[dict[str, Array]]:
        """The rows as requests that the model takes."""
        if not self.max_batch_size:
            yield self.samples.inputs
            return
        step = min(self.max_batch_size, _BATCH_ROWS)
        for start in range(0, len(self.samples), step):
            yield self.samples.rows(start, start + step)

    def outputs(self, session: Runs) -> dict[str, Array]:
        """The outputs for all rows, joined along the batch."""
        answers = [session.run(session.cast(request)) for request in self.requests()]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def within(self, precision: str, reference: Outputs, outputs: Outputs) -> bool:
        """Whether every output is inside the tolerance of a precision."""
        return all(row["passed"] for row in self.differences(precision, reference, outputs).values())

    def differences(self, precision: str, reference: Outputs, outputs: Outputs) -> dict[str, dict[str, Any]]:
        """Per output how far it is from the reference, with the tolerance that was applied."""
        found = {}
        for name, expected in reference.items():
            rtol, atol = self.tolerance(precision, name, expected)
            share = outside_share(precision, by_numpy(expected.dtype.name))
            result = difference(expected, outputs[name].astype(expected.dtype), rtol, atol, share)
            decision = expected.dtype.kind != "f"
            found[name] = {**result.to_json(), "rtol": rtol, "atol": atol, "decision": decision}
        return found

    def tolerance(self, precision: str, name: str, expected: Array) -> tuple[float, float]:
        """(rtol, atol) of one output in a precision."""
        override = self.project.models[self.name].tolerance
        return tolerance_for(precision, by_numpy(expected.dtype.name), name, override, largest_value(expected))

    def metric(self, outputs: Outputs) -> float | None:
        """The task metric, larger is better; None where the model has none."""
        evaluate = self.project.models[self.name].evaluate
        if evaluate is None or evaluate.metric is None:
            return None
        if self.samples.labels is None:
            where = self.project.where("models", self.name, "evaluate")
            raise DataError(
                f"{where}: the metric '{evaluate.metric}' needs labels; have '{evaluate.data}' give (inputs, labels)"
            )
        return measure_metric(self.project, self.name, outputs, self.samples.labels)

    @property
    def max_drop(self) -> float | None:
        """The accuracy budget; None where there is no metric to hold it."""
        evaluate = self.project.models[self.name].evaluate
        return evaluate.max_drop if evaluate and evaluate.metric else None


def gather_evidence(project: Project, name: str, facts: Mapping[str, Any]) -> Evidence:
    """The evaluation samples of a model; without any, its calibration rows; else random ones.

    Random rows are what the export found the model to take, which may lie outside the calibrated ranges. A model that
    does not batch takes all rows as one request, for which calibration rows are not made.

    Args:
        project: the project.
        name: the model.
        facts: of the export.
    """
    signature = Signature.from_json(facts["signature"])
    largest = int(facts["max_batch_size"])
    samples = evaluation_samples(project, name, signature.inputs)
    if samples is None and largest and project.models[name].calibration:
        samples = calibration_samples(project, name, signature.inputs)
    if samples is None:
        rows = _RANDOM_ROWS if largest else int(facts.get("axis_size", 1))
        samples = Samples(recorded_inputs(facts, signature.inputs, rows, seed=11), None, "random data")
    return Evidence(project, name, samples, largest)
