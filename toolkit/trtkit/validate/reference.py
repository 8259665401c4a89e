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
from trtkit.errors import DataError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.project import Project
from trtkit.repository import PublishedVersion, latest
from trtkit.server import Client

Reference = Callable[[Mapping[str, Array]], dict[str, Array]]


def reference_for(project: Project, model: str, published: PublishedVersion, client: Client) -> Reference:
    """The function from inputs to what should be served.

    Args:
        project: the project.
        model: a model of the project file.
        published: the version that is served.
        client: for the Python models of an ensemble.

    Raises:
        DataError: the reference is not in the cache, or not what it was.
    """
    if project.models[model].ensemble is None:
        return Session(_reference_file(project, published)).run
    return _ensemble_reference(project, model, client)


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
    steps = project.models[model].ensemble or []
    runs = {step.model: _step_reference(project, step.model, client) for step in steps}
    outputs = [output.name for output in client.config(model).output]

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = dict(inputs)
        left = list(steps)
        while left:
            step = next(s for s in left if set(s.inputs.values()) <= set(tensors))
            answers = runs[step.model]({own: tensors[outer] for own, outer in step.inputs.items()})
            tensors |= {outer: answers[own] for own, outer in step.outputs.items()}
            left.remove(step)
        return {name: tensors[name] for name in outputs}

    return run


def _step_reference(project: Project, model: str, client: Client) -> Reference:
    published = latest(project.repository, model)
    if model in project.models and published is not None:
        return reference_for(project, model, published, client)
    return lambda inputs: client.infer(model, inputs)
