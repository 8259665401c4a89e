# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How the steps of an ensemble are wired: which tensors they read and write, and in which order they can run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trtkit.errors import nearest
from trtkit.lint.edits import removed
from trtkit.lint.ensemble_facts import wiring_of
from trtkit.lint.ensemble_graph import SCHEDULING, Entry, Wiring, step_path
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.pbtxt import Path

_FIRST_WITH_INFLIGHT = (2, 63)
_MANY = 200  # names beyond which the nearest is not looked for: it takes a millisecond each


def near(given: str, available: Iterable[str]) -> str:
    """The end of a sentence about a name that is not there."""
    names = list(available)
    return nearest(given, names) if len(names) <= _MANY else f"none of the {len(names)} that there are"


@rule("ENS011", "tensor-written-twice", server=True)
def tensor_written_twice(model: Model) -> Iterator[Found]:
    """Two output_map entries write one tensor of the ensemble.

    Two outputs of one step count as well.
    Source: core, model_config_utils.cc, BuildEnsembleGraph.

    Wrong:
        step { model_name: "a" output_map { key: "y" value: "t" } }
        step { model_name: "b" output_map { key: "y" value: "t" } }

    Right:
        step { model_name: "a" output_map { key: "y" value: "t" } }
        step { model_name: "b" output_map { key: "y" value: "u" } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for tensor, (first, *others) in wiring.writers.items():
        for entry in others:
            words = f"ensemble tensor '{tensor}' can appear in an output map only once"
            where = f"for ensemble '{model.config.name}' step {entry.step}"
            told = f"step {first.step} writes it too, from '{first.name}'"
            yield model.found(entry.path, f"{words} {where}; {told}: give one of them another name")


@rule("ENS012", "ensemble-input-not-used", server=True)
def input_not_used(model: Model) -> Iterator[Found]:
    """No step reads an input of the ensemble.

    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        input { name: "z" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" input_map { key: "x" value: "x" } } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" input_map { key: "x" value: "x" } } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for name, index in wiring.inputs.items():
        if not wiring.known(name):
            words = f"ensemble input '{name}' for ensemble '{model.config.name}' is not used"
            told = f"map it to an input of a step, or leave it out; steps read: {_listed(wiring.readers)}"
            yield model.found(("input", index), f"{words}; {told}")


@rule("ENS013", "ensemble-output-not-mapped", server=True)
def output_not_mapped(model: Model) -> Iterator[Found]:
    """No step has an output of the ensemble in a map.

    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        output { name: "scores" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" output_map { key: "y" value: "y" } } }

    Right:
        output { name: "scores" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" output_map { key: "y" value: "scores" } } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for name, index in wiring.outputs.items():
        if not wiring.known(name):
            words = f"ensemble output '{name}' for ensemble '{model.config.name}' is not used"
            told = f"map an output of a step to it; steps write: {_listed(wiring.writers)}"
            yield model.found(("output", index), f"{words}; {told}")


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:20]) + (", …" if len(listed) > 20 else "") or "nothing"


def _not_ready(model: Model, wiring: Wiring, tensor: str) -> str:
    """The server's words for a tensor that is never ready."""
    name, output = model.config.name, wiring.blocked.get(tensor)
    if output is None:
        return f"ensemble tensor '{tensor}' is unused in ensemble '{name}'"
    words = f"output '{output}' for ensemble '{name}' is not written"
    return (
        words if output == tensor else f"{words}: at least one of its depending tensors, '{tensor}', is not connected"
    )


def _step(model: Model, entry: Entry) -> str:
    return f"step {entry.step} ('{model.config.ensemble_scheduling.step[entry.step].model_name}')"


@rule("ENS014", "tensor-read-but-not-written", server=True)
def read_but_not_written(model: Model) -> Iterator[Found]:
    """A step reads a tensor that no step writes and that is no input of the ensemble.

    The step never runs, and what depends on it is never written.
    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        input { name: "image" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" input_map { key: "x" value: "img" } } }

    Right:
        input { name: "image" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" input_map { key: "x" value: "image" } } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for tensor, entry in wiring.unconnected.items():
        told = f"{_step(model, entry)} reads '{tensor}', which no step writes and which is no input"
        names = {*wiring.inputs, *wiring.writers}
        yield model.found(entry.path, f"{_not_ready(model, wiring, tensor)}; {told}; {near(tensor, names)}")


@rule("ENS015", "tensor-written-but-not-read", server=True, fixable=True)
def written_but_not_read(model: Model) -> Iterator[Found]:
    """A step writes a tensor that no step reads and that is no output of the ensemble.

    An output of a model that is not needed is left out of the output_map.
    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling {
          step { model_name: "m" output_map { key: "y" value: "y" } output_map { key: "mask" value: "mask" } }
        }

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling { step { model_name: "m" output_map { key: "y" value: "y" } } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for tensor, entry in wiring.unread.items():
        needed = any(each.tensor not in wiring.unread for each in wiring.writes[entry.step])
        words = f"ensemble tensor '{tensor}' is unused in ensemble '{model.config.name}'"
        told = f"{_step(model, entry)} writes it and nothing reads it: leave it out of the map"
        fix = removed(model.document, entry.path) if needed else None
        yield model.found(entry.path, f"{words}; {told}", fix=fix)


@rule("ENS016", "steps-wait-for-each-other", server=True)
def steps_in_a_circle(model: Model) -> Iterator[Found]:
    """Steps wait for each other's outputs, so that none of them ever runs.

    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        step { model_name: "a" input_map { key: "x" value: "t" } output_map { key: "y" value: "u" } }
        step { model_name: "b" input_map { key: "x" value: "u" } output_map { key: "y" value: "t" } }

    Right:
        step { model_name: "a" input_map { key: "x" value: "x" } output_map { key: "y" value: "u" } }
        step { model_name: "b" input_map { key: "x" value: "u" } output_map { key: "y" value: "t" } }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for cycle in wiring.cycles:
        circle = " -> ".join(entry.tensor for entry in (*cycle[:20], cycle[0]))
        told = f"steps {', '.join(str(entry.step) for entry in cycle[:20])} wait for each other: {circle}"
        yield model.found(cycle[0].path, f"{_not_ready(model, wiring, cycle[0].tensor)}; {told}")


@rule("ENS017", "step-writes-an-input", Severity.WARNING)
def step_writes_input(model: Model) -> Iterator[Found]:
    """A step writes a tensor that is an input of the ensemble.

    The server loads it. Then the steps that read the tensor run for the request's and again for the step's, so
    that a request has several answers, or none ever (measured with tritonserver 2.51).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling {
          step { model_name: "m" input_map { key: "x" value: "x" } output_map { key: "y" value: "x" } }
        }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        ensemble_scheduling {
          step { model_name: "m" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }
        }
    """
    wiring = wiring_of(model)
    if wiring is None:
        return
    for tensor, entries in wiring.writers.items():
        if tensor in wiring.inputs:
            told = f"{_step(model, entries[0])} writes '{tensor}', which is an input of the ensemble"
            yield model.found(entries[0].path, f"{told}: its readers run twice or for ever; give it another name")


@rule("ENS018", "model-namespace-is-not-read", Severity.WARNING, fixable=True)
def model_namespace(model: Model) -> Iterator[Found]:
    """A step has a model_namespace, which the server replaces.

    It looks for the step's model in the ensemble's own namespace, and then for the only one of that name.
    Source: core, model_repository_manager.cc, ConnectDependencyGraph.

    Wrong:
        step { model_name: "m" model_version: -1 model_namespace: "/models/other" }

    Right:
        step { model_name: "m" model_version: -1 }
    """
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        if step.model_namespace:
            path = step_path(index, "model_namespace")
            message = f"the server puts its own value in the place of model_namespace '{step.model_namespace}'"
            yield model.found(path, f"{message}; leave it out", fix=removed(model.document, path))


@rule("ENS019", "max-inflight-requests-unknown", server=True, fixable=True, depends_on_server=True)
def inflight_unknown(model: Model) -> Iterator[Found]:
    """max_inflight_requests is written for a server that does not know it.

    It came after Triton 2.62 (25.10); an older server refuses the whole config for the unknown field.
    Source: server, pull request 8458.

    Wrong:
        ensemble_scheduling { max_inflight_requests: 4 }

    Right:
        ensemble_scheduling { }
    """
    path: Path = (SCHEDULING, "max_inflight_requests")
    written = model.document is not None and path in model.document.spans
    if written and not model.server.is_from(_FIRST_WITH_INFLIGHT):
        words = 'Message type "inference.ModelEnsembling" has no field named "max_inflight_requests"'
        told = f"Triton {model.server.version_text} does not know it, it came after 2.62: leave it out"
        yield model.found(path, f"{words}; {told}", fix=removed(model.document, path))


RULES: tuple[Rule, ...] = (
    tensor_written_twice, input_not_used, output_not_mapped, read_but_not_written, written_but_not_read,
    steps_in_a_circle, step_writes_input, model_namespace, inflight_unknown,
)  # fmt: skip
