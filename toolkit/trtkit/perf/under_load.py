# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A served model against its own reference, while it is under load: every answer, over every way to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtkit.errors import MeasurementError, ProjectError
from trtkit.numerics import Array
from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.checks.verify import Verification
from trtkit.perf.data.pool import Request, one_stream
from trtkit.perf.hooks import Given, Hooks
from trtkit.perf.load_levels import Levels, Range
from trtkit.perf.measurement import Measurement
from trtkit.perf.options import Options, ServerUrls
from trtkit.perf.session import run
from trtkit.project import Project, Tolerance
from trtkit.server import connect
from trtkit.signature import Signature
from trtkit.validate.run import Proof, proof_of

WAYS = {"http": ("http", "none"), "grpc": ("grpc", "none"), "shared memory": ("grpc", "system")}
"""The ways to a model by name: protocol, and shared memory."""


@dataclass(frozen=True)
class LoadedAnswers:
    """What was compared over one way.

    Attributes:
        model: its name.
        version: the served version.
        way: a key of `WAYS`.
        requests_per_s: that were answered meanwhile.
        errors: requests that failed.
        verification: of all answers.
    """

    model: str
    version: int
    way: str
    requests_per_s: float
    errors: int
    verification: Verification

    def problem(self) -> str:
        """Why the model does not pass, in one sentence; empty when it does."""
        if self.errors:
            return f"under load over {self.way} {self.errors:,} requests failed"
        return "" if self.verification.ok else f"under load over {self.way} {self.verification.sentence()}"

    def to_json(self) -> dict[str, Any]:
        """The form of reports."""
        return {**vars(self), "verification": self.verification.to_json(), "problem": self.problem()}


def validate_under_load(
    project: Project,
    model: str,
    urls: ServerUrls,
    *,
    ways: Sequence[str] = tuple(WAYS),
    concurrency: int = 8,
    seconds: float = 5.0,
    override: Tolerance | None = None,
    rows: int | None = None,
) -> list[LoadedAnswers]:
    """Compare every answer with the reference's for its own input: batches of changing sizes, many at once.

    Args:
        project: the project.
        model: a model of the project file.
        urls: where it is served.
        ways: to measure over, keys of `WAYS`; shared memory needs a server on this machine.
        concurrency: requests in flight.
        seconds: of load over each way.
        override: a tolerance instead of the project file's and the table's.
        rows: at most so many rows of data.

    Raises:
        ProjectError: an unknown way.
        ModelUnavailableError: the model is not ready, or what is served was not published here.
        DataError: there is no reference, or the data do not fit.
    """
    if unknown := [way for way in ways if way not in WAYS]:
        raise ProjectError(f"the way '{unknown[0]}' is unknown; available: {', '.join(WAYS)}")
    with connect(urls.http, "http") as client:
        proof = proof_of(project, model, client, override=override, rows=rows)
    given = Given(_pool(model, proof), _closeness(proof))
    found = []
    for way in ways:
        protocol, memory = WAYS[way]
        options = Options(
            model=model, protocol=protocol, shared_memory=memory, verify=True, warmup_s=0.2, duration_s=seconds,
            concurrency=Levels((Range(concurrency, concurrency),)), window_s=min(seconds / 5, 1.0), processes=1,
        )  # fmt: skip
        found.append(_answers(model, proof, way, _measured(options, urls, given)))
    return found


def _measured(options: Options, urls: ServerUrls, given: Given) -> Measurement:
    measured: list[Measurement] = []
    run(options, urls, Hooks(on_result=lambda one, _stages, _found: measured.append(one)), given)
    if measured[0].interrupted:
        raise KeyboardInterrupt
    return measured[0]


def _answers(model: str, proof: Proof, way: str, measured: Measurement) -> LoadedAnswers:
    if measured.verification is None:
        raise MeasurementError(f"no answer of model '{model}' over {way} was compared")
    version = proof.published.version
    return LoadedAnswers(model, version, way, measured.requests_per_s, measured.error_count, measured.verification)


def _pool(model: str, proof: Proof) -> Any:
    return one_stream(
        [
            Request(model, "", request, expected=_in_served_ranks(expected, proof.signature))
            for request, expected in zip(proof.requests, proof.expected, strict=True)
        ],
        proof.samples.origin,
    )


def _in_served_ranks(expected: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """The reference's outputs as they are served: a scalar per row is [1] in config.pbtxt."""
    ranks = {spec.name: len(spec.shape) for spec in signature.outputs}
    return {
        name: array[..., np.newaxis] if name in ranks and array.ndim + 1 == ranks[name] else array
        for name, array in expected.items()
    }


def _closeness(proof: Proof) -> Closeness:
    datatypes = {spec.name: spec.dtype.name for spec in proof.signature.outputs}
    return Closeness(proof.precision, proof.tolerance, datatypes)
