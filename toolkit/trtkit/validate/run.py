# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Validate one served model: same inputs to the server and to the reference, every output compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trtkit.errors import DataError, ExportError, ModelUnavailableError, ServerError
from trtkit.metrics import measure_metric
from trtkit.numerics import Array, Difference, difference
from trtkit.project import Project, Tolerance
from trtkit.repository import PublishedVersion, versions
from trtkit.samples import Samples, evaluation_samples, recorded_inputs
from trtkit.server import Client
from trtkit.signature import Signature
from trtkit.tolerance import largest_value, outside_share, tolerance_for
from trtkit.validate.reference import Reference, reference_for

_RANDOM_ROWS = 32


@dataclass(frozen=True)
class OutputResult:
    """One output over one protocol.

    Attributes:
        protocol: ``http`` or ``grpc``.
        output: its name.
        rtol: relative tolerance.
        atol: absolute tolerance.
        difference: how far it is from the reference.
    """

    protocol: str
    output: str
    rtol: float
    atol: float
    difference: Difference

    def sentence(self) -> str:
        """What is wrong, with the worst element; only of use when the difference did not pass."""
        d = self.difference
        if d.problem:
            return f"output '{self.output}' over {self.protocol}: {d.problem}"
        return (
            f"output '{self.output}' over {self.protocol}: {d.outside} of {d.elements} elements outside rtol "
            f"{self.rtol:g} and atol {self.atol:g}; the worst is element {list(d.worst or ())}: served "
            f"{d.worst_actual}, reference {d.worst_reference}"
        )


@dataclass(frozen=True)
class MetricResult:
    """The task metric over one protocol; larger is better.

    Attributes:
        protocol: ``http`` or ``grpc``.
        name: the metric.
        reference: the reference's value.
        served: the served model's.
        max_drop: how far `served` may be below `reference`.
    """

    protocol: str
    name: str
    reference: float
    served: float
    max_drop: float

    @property
    def passed(self) -> bool:
        """Whether the drop is inside the budget; a NaN is not."""
        return bool(self.reference - self.served <= self.max_drop)

    def sentence(self) -> str:
        """The two values and the budget."""
        return (
            f"{self.name} over {self.protocol}: served {self.served:.4f}, reference {self.reference:.4f}, "
            f"allowed drop {self.max_drop:g}"
        )


@dataclass(frozen=True)
class ModelReport:
    """What validation found of one model.

    Attributes:
        model: its name.
        version: the served version.
        precision: of the served graph.
        rows: how many rows of data were compared per protocol.
        data: where the rows are from.
        outputs: one result per protocol and output.
        metrics: one result per protocol, when there is a task metric.
    """

    model: str
    version: int
    precision: str
    rows: int
    data: str
    outputs: list[OutputResult]
    metrics: list[MetricResult]

    def problems(self) -> list[str]:
        """A sentence for each output and metric that did not pass."""
        return [o.sentence() for o in self.outputs if not o.difference.passed] + [
            m.sentence() for m in self.metrics if not m.passed
        ]

    def to_json(self) -> dict[str, Any]:
        """The form of ``trtkit validate --json``."""
        return {
            **asdict(self),
            "outputs": [{**asdict(o), "difference": o.difference.to_json()} for o in self.outputs],
            "metrics": [{**asdict(m), "passed": m.passed} for m in self.metrics],
            "passed": not self.problems(),
            "problems": self.problems(),
        }


@dataclass(frozen=True)
class Proof:
    """Requests to a served model with the answers of its reference.

    Attributes:
        published: the version that is served.
        signature: of the served model.
        samples: the rows in the requests.
        requests: of changing batch sizes, one array per input.
        expected: the reference's outputs for each request.
        precision: of the served graph.
        tolerance: the project file's, or the one given instead.
    """

    published: PublishedVersion
    signature: Signature
    samples: Samples
    requests: list[dict[str, Array]]
    expected: list[dict[str, Array]]
    precision: str
    tolerance: Tolerance


def proof_of(
    project: Project, model: str, client: Client, *, override: Tolerance | None = None, rows: int | None = None
) -> Proof:
    """The requests that prove a served model, and what its reference answers; the arguments are `validate_model`'s.

    Raises:
        ModelUnavailableError: the model is not ready, or what is served was not published here.
        DataError: there is no reference, or the data do not fit.
    """
    published = _served_version(project, model, client)
    signature = client.signature(model)
    reference = reference_for(project, model, published, client)
    samples = _samples(project, model, signature, published, rows)
    requests = list(_requests(samples, client.config(model).max_batch_size))
    return Proof(
        published,
        signature,
        samples,
        requests,
        _expected(model, reference, requests, samples.origin),
        str(published.record.get("precision", "fp32")),
        override or project.models[model].tolerance,
    )


def validate_model(
    project: Project, model: str, clients: list[Client], *, override: Tolerance | None = None, rows: int | None = None
) -> ModelReport:
    """Compare what each client is served with the reference.

    Args:
        project: the project.
        model: a model of the project file.
        clients: one per protocol.
        override: a tolerance instead of the project file's and the table's.
        rows: at most so many rows; default: all evaluation samples, or 32 random rows.

    Raises:
        ModelUnavailableError: the model is not ready, or what is served was not published here.
        DataError: there is no reference, or the data do not fit.
        ServerError: the server refused a request.
    """
    proof = proof_of(project, model, clients[0], override=override, rows=rows)
    samples, expected = proof.samples, _joined(proof.expected)
    outputs: list[OutputResult] = []
    metrics: list[MetricResult] = []
    for client in clients:
        served = _served(client, model, proof.requests, samples.origin)
        for spec in proof.signature.outputs:
            wanted = expected[spec.name]
            largest = largest_value(wanted)
            rtol, atol = tolerance_for(proof.precision, spec.dtype, spec.name, proof.tolerance, largest)
            share = outside_share(proof.precision, spec.dtype)
            found = _difference(spec.dtype.name, wanted, served.get(spec.name), rtol, atol, share)
            outputs.append(OutputResult(client.protocol, spec.name, rtol, atol, found))
        metrics += _metric(project, model, client.protocol, expected, served, samples.labels)
    version = proof.published.version
    return ModelReport(model, version, proof.precision, len(samples), samples.origin, outputs, metrics)


def _served_version(project: Project, model: str, client: Client) -> PublishedVersion:
    client.require_model(model)
    served = max(int(version) for version in client.ready_models()[model])
    for published in versions(project.repository, model):
        if published.version == served:
            return published
    raise ModelUnavailableError(
        f"the server at {client.url} serves version {served} of '{model}', which is not in {project.repository}"
    )


def _samples(
    project: Project, model: str, signature: Signature, published: PublishedVersion, rows: int | None
) -> Samples:
    samples = evaluation_samples(project, model, signature.inputs)
    if samples is None:
        batching = published.record.get("max_batch_size", 1) > 0
        count = (rows or _RANDOM_ROWS) if batching else int(published.record.get("axis_size", 1))
        made = recorded_inputs(published.record, signature.inputs, count, seed=11)
        return Samples(made, None, "random data")
    if rows is None:
        return samples
    labels = None if samples.labels is None else samples.labels[:rows]
    return replace(samples, inputs=samples.rows(0, rows), labels=labels)


def _requests(samples: Samples, max_batch_size: int) -> Iterator[dict[str, Array]]:
    """The rows as requests of changing sizes: one row, the largest batch, and an odd one between."""
    if not max_batch_size:
        yield samples.inputs
        return
    sizes = (1, max_batch_size, max(1, max_batch_size // 2 - 1))
    start = turn = 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        yield samples.rows(start, start + size)
        start, turn = start + size, turn + 1


def _expected(
    model: str, reference: Reference, requests: list[dict[str, Array]], origin: str
) -> list[dict[str, Array]]:
    try:
        return [reference(request) for request in requests]
    except ExportError as exc:
        remedy = "; give the model real ones with `evaluate:`" if origin == "random data" else ""
        raise DataError(f"model '{model}': the reference cannot take {origin}: {exc}{remedy}") from exc


def _served(client: Client, model: str, requests: list[dict[str, Array]], origin: str) -> dict[str, Array]:
    try:
        return _joined([client.infer(model, request) for request in requests])
    except ServerError as exc:
        if origin != "random data":
            raise
        raise type(exc)(f"{exc} (on random data; give the model real ones with `evaluate:`)") from exc


def _joined(answers: list[dict[str, Array]]) -> dict[str, Array]:
    try:
        return {
            name: np.concatenate([a[name] for a in answers]) if len(answers) > 1 else answers[0][name]
            for name in answers[0]
        }
    except ValueError as exc:
        raise DataError(f"the outputs of requests of different sizes do not fit together: {exc}") from exc


def _difference(
    type_name: str, expected: Array, served: Array | None, rtol: float, atol: float, share: float
) -> Difference:
    if served is None:
        return Difference(0, problem="the server did not answer it")
    if expected.size == served.size and expected.ndim + 1 == served.ndim and served.shape[-1] == 1:
        expected = expected.reshape(served.shape)  # a scalar per row is [1] in config.pbtxt
    if type_name == "BF16":
        expected, served = _from_bf16(expected), _from_bf16(served)
    return difference(expected, served, rtol, atol, share)


def _from_bf16(array: Array) -> Array:
    if array.dtype != np.uint16:
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


def _metric(
    project: Project,
    model: str,
    protocol: str,
    expected: Mapping[str, Array],
    served: Mapping[str, Array],
    labels: Array | None,
) -> list[MetricResult]:
    evaluate = project.models[model].evaluate
    if evaluate is None or evaluate.metric is None:
        return []
    if labels is None:
        where = project.where("models", model, "evaluate")
        raise DataError(
            f"{where}: the metric '{evaluate.metric}' needs labels; have '{evaluate.data}' give (inputs, labels)"
        )
    values = [measure_metric(project, model, outputs, labels) for outputs in (expected, served)]
    return [MetricResult(protocol, evaluate.metric, values[0], values[1], evaluate.max_drop)]
