# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What served outputs are compared with: the FP32 ONNX graph in this process.

The reference is the artifact in the cache, checked against its hash, never the published file. An ensemble's
reference is its steps one after the other: the ones with a graph in this process, Python models through the
server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trtkit.artifacts import Cache
from trtkit.config.wiring import wired_steps
from trtkit.errors import DataError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.project import EnsembleStep, Project
from trtkit.repository import PublishedVersion, versions
from trtkit.server import Client

_BY_CHANCE = "split"  # the part whose answer depends on more than the request
Reference = Callable[[Mapping[str, Array]], dict[str, Array]]


def reference_for(project: Project, model: str, published: PublishedVersion, client: Client) -> Reference:
    """The function from inputs to what should be served.

    Args:
        project: the project.
        model: a model of the project file.
        published: the version that is served.
        client: for the Python models of an ensemble.

    Raises:
        DataError: the reference is not in the cache, or not what it was; or the model has none but itself.
    """
    if why := why_no_reference(project, model):
        raise DataError(why)
    if project.models[model].ensemble is None:
        session = Session(_reference_file(project, published))
        return lambda inputs: session.run(session.cast(_with_ranks(inputs, session.input_ranks)))
    return _ensemble_reference(project, model, client)


def why_no_reference(project: Project, model: str) -> str:
    """Why there is nothing that a model's outputs could be compared with, as a sentence; ``""`` when there is."""
    if _is_python_model(project, model):
        return f"model '{model}' is a Python model, and its own reference; validate an ensemble that it is a step of"
    steps = [step.model for step in project.models[model].ensemble or [] if step.model in project.models]
    behind = [model for step in steps for model in project.models[step].models if model in project.models]
    for step in [*steps, *behind]:
        source = project.models[step].source
        if source and source.part == _BY_CHANCE:
            of = ", ".join(project.models[step].models)
            return f"ensemble '{model}': which of {of} answers, chance decides at '{step}'; validate each of those"
        if why := why_no_reference(project, step) if project.models[step].ensemble else "":
            return why
    return ""


def _is_python_model(project: Project, model: str) -> bool:
    source = project.models[model].source
    return source is not None and not source.is_graph


def _with_ranks(inputs: Mapping[str, Array], ranks: Mapping[str, int]) -> dict[str, Array]:
    """The inputs with as many axes as the model wants: one value per row is [rows, 1] in Triton's dims."""
    fitted = dict(inputs)
    for name, array in inputs.items():
        rank = ranks.get(name, array.ndim)
        if array.ndim == rank + 1 and array.shape[-1] == 1:
            fitted[name] = array.reshape(array.shape[:-1])
        elif array.ndim == rank - 1:
            fitted[name] = array.reshape((*array.shape, 1))
    return fitted


def _reference_file(project: Project, published: PublishedVersion) -> Path:
    sha256 = str(published.record.get("reference", ""))
    artifact = Cache(project.state).verified("onnx", sha256) if sha256 else None
    if artifact is None:
        why = "is not in the cache, or was changed there" if sha256 else "is not recorded (trtkit did not publish it)"
        raise DataError(
            f"model '{published.model}': the reference of version {published.version} {why}; "
            f"run `trtkit build {published.model}` on this machine first"
        )
    return artifact.path / MODEL_FILE


def _ensemble_reference(project: Project, model: str, client: Client) -> Reference:
    given = project.models[model].ensemble or []
    steps = wired_steps(project, model, [client.config(step.model) for step in given])
    runs = [_step_reference(project, step, client) for step in given]
    outputs = [output.name for output in client.config(model).output]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = dict(inputs)
        left = list(zip(steps, runs, strict=True))
        while left:
            ready = next((pair for pair in left if set(pair[0].inputs.values()) <= set(tensors)), None)
            if ready is None:
                missing = sorted(set(left[0][0].inputs.values()) - set(tensors))
                raise DataError(f"ensemble '{model}': step '{left[0][0].model}' has no tensor '{missing[0]}' to read")
            step, step_run = ready
            answers = step_run({own: tensors[outer] for own, outer in step.inputs.items()})
            tensors |= {outer: answers[own] for own, outer in step.outputs.items()}
            left.remove(ready)
        return {name: tensors[name] for name in outputs}

    return run


def _step_reference(project: Project, step: EnsembleStep, client: Client) -> Reference:
    """A step's reference: its graph; a Python model, which is its own reference, answers through the server."""
    if step.model not in project.models or _is_python_model(project, step.model):
        ranks = {spec.name: len(spec.shape) for spec in client.signature(step.model).inputs}
        return lambda inputs: client.infer(step.model, _with_ranks(inputs, ranks))
    return reference_for(project, step.model, _served_version(project, step, client), client)


def _served_version(project: Project, step: EnsembleStep, client: Client) -> PublishedVersion:
    """The published version that the server answers a step with: the pinned one, or its newest."""
    ready = [int(version) for version in client.ready_models().get(step.model, [])]
    wanted = step.model_version if step.model_version > 0 else max(ready, default=0)
    for published in versions(project.repository, step.model):
        if published.version == wanted:
            return published
    raise DataError(
        f"model '{step.model}': the server at {client.url} serves version {wanted}, which is not in "
        f"{project.repository}, so that there is no reference for it"
    )
