# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble against the models of its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trtkit.config import ModelConfig
from trtkit.lint.edits import set_value
from trtkit.lint.ensemble_facts import (
    facts_of,
    is_ensemble,
    models_of_steps,
    served_config,
    wiring_of,
)
from trtkit.lint.ensemble_graph import Entry, step_path
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.lint.rules.ensemble_wiring import near
from trtkit.pbtxt import Path

Steps = Iterator[tuple[int, Any, Model]]


def _steps(model: Model) -> Steps:
    """The steps whose models are in the repository."""
    others = models_of_steps(model)
    for index, (step, other) in enumerate(zip(model.config.ensemble_scheduling.step, others, strict=True)):
        if other is not None:
            yield index, step, other


@rule("ENS020", "step-of-an-unknown-model", server=True)
def unknown_model(model: Model) -> Iterator[Found]:
    """A step names a model that is not in the repository.

    Source: core, model_repository_manager.cc, ConnectDependencyGraph.

    Wrong:
        step { model_name: "restnet" model_version: -1 }

    Right:
        step { model_name: "resnet" model_version: -1 }
    """
    for index, (step, other) in enumerate(
        zip(model.config.ensemble_scheduling.step, models_of_steps(model), strict=True)
    ):
        if other is None and step.model_name:
            words = f"ensemble {model.config.name} contains models that are not available or ambiguous"
            told = (
                f"{step.model_name}; the repository has no such model; {near(step.model_name, model.repository.models)}"
            )
            yield model.found(step_path(index, "model_name"), f"{words}: {told}")


@rule("ENS021", "ensembles-depend-on-each-other", server=True)
def ensembles_in_a_circle(model: Model) -> Iterator[Found]:
    """Ensembles are steps of each other.

    The server refuses those of the circle. One that is built on them and is no part of it makes the server end
    with a segmentation fault when it is loaded (measured with 2.51), because its search never comes back.
    Source: core, model_repository_manager.cc, CircularDependencyCheck.

    Wrong:
        name: "a"
        platform: "ensemble"
        ensemble_scheduling { step { model_name: "a" model_version: -1 } }

    Right:
        name: "a"
        platform: "ensemble"
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }
    """
    cycle = facts_of(model).cycle if is_ensemble(model) else ()
    if not cycle:
        return
    names = [*cycle[:20], cycle[0]]
    if model.name in cycle:
        at = cycle.index(model.name)
        names = [*[*cycle[at:], *cycle[:at]][:20], model.name]
        words = f"circular dependency between ensembles: {model.name} -> ... -> {names[-2]} -> {model.name}"
    else:
        words = f"ensemble {model.name} is built on ensembles that depend on each other: the server crashes on it"
    guilty = next((index for index, _, other in _steps(model) if facts_of(other).cycle), 0)
    yield model.found(step_path(guilty, "model_name"), f"{words}; the circle is {' -> '.join(names)}")


@rule("ENS022", "step-version-not-served", server=True, fixable=True)
def version_not_served(model: Model) -> Iterator[Found]:
    """A step asks for a version that its model does not serve.

    A step without model_version asks for version 0: protobuf's default is not -1, the latest.
    Source: core, model_repository_manager.cc, CheckNode.

    Wrong:
        step { model_name: "m" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }

    Right:
        step {
          model_name: "m" model_version: -1
          input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }
        }
    """
    for index, step, other in _steps(model):
        if step.model_version == -1 or not other.readable or not other.served_versions:
            continue
        if step.model_version not in other.served_versions:
            path = step_path(index, "model_version")
            document = model.document
            written = document is not None and path in document.spans
            words = f"ensemble '{model.config.name}' depends on '{other.name}' whose required version"
            served = ", ".join(str(version) for version in other.served_versions[:20])
            why = "" if written else "model_version is not written, which means 0; "
            told = f"{why}write -1 for the latest, or one of those served: {served}"
            fix = None if written else set_value(document, path, "-1")
            yield model.found(path, f"{words} {step.model_version} is not loaded; {told}", fix=fix)


@rule("ENS023", "ensemble-max-batch-size-above-a-step", server=True, fixable=True)
def batch_above_step(model: Model) -> Iterator[Found]:
    """The ensemble takes larger batches than one of its steps.

    Steps that do not batch are left out of this.
    Source: core, ensemble_utils.cc, ValidateEnsembleConfig.

    Wrong:
        max_batch_size: 16  # of a step's model: 8

    Right:
        max_batch_size: 8  # of a step's model: 8
    """
    served = [(other, config) for _, _, other in _steps(model) if (config := served_config(other)) is not None]
    batching = [(config.max_batch_size, other.name) for other, config in served if config.max_batch_size > 0]
    largest = model.config.max_batch_size
    if is_ensemble(model) and batching and min(batching)[0] < largest:
        limit, name = min(batching)
        words = f"ensemble {model.config.name} allows maximum batch size {largest}, but it contains model {name}"
        fix = set_value(model.document, ("max_batch_size",), str(limit))
        told = f"which only allows maximum batch size to be {limit}; lower the ensemble's to {limit}"
        yield model.found(("max_batch_size",), f"{words} {told}", fix=fix)


Sides = Iterator[tuple[int, Model, ModelConfig, list[Entry], list[Entry]]]


def _known_steps(model: Model) -> Sides:
    """The steps whose models' configs are known, with their maps."""
    wiring = wiring_of(model)
    for index, _, other in _steps(model) if wiring else ():
        config = served_config(other)
        if config is not None and wiring is not None:
            yield index, other, config, wiring.reads[index], wiring.writes[index]


def _missing(config: ModelConfig, reads: list[Entry]) -> list[str]:
    """The inputs that a step's model needs and that are not mapped."""
    mapped = {entry.name for entry in reads}
    return [each.name for each in config.input if each.name not in mapped and not each.optional]


def _strangers(config: ModelConfig, reads: list[Entry]) -> list[Entry]:
    """The entries of an input_map that name no input of the model."""
    names = {each.name for each in config.input}
    return [entry for entry in reads if entry.name not in names]


@rule("ENS024", "step-input-unknown", server=True)
def step_input_unknown(model: Model) -> Iterator[Found]:
    """A key of an input_map is no input of the step's model.

    Source: core, ensemble_utils.cc, ValidateTensorMapping.

    Wrong:
        step { model_name: "m" input_map { key: "imagee" value: "x" } }  # m's input: image

    Right:
        step { model_name: "m" input_map { key: "image" value: "x" } }
    """
    for _, other, config, reads, _ in _known_steps(model):
        missing = _missing(config, reads) or [each.name for each in config.input]
        for entry in _strangers(config, reads):
            words = f"in ensemble {model.config.name}, ensemble tensor {entry.tensor} is mapping to non-existing input"
            yield model.found(entry.path, f"{words} {entry.name} in model {other.name}; {near(entry.name, missing)}")


@rule("ENS025", "step-input-not-mapped", server=True)
def step_input_not_mapped(model: Model) -> Iterator[Found]:
    """An input of a step's model is not mapped.

    Every input is, except those that the model's config calls optional. Where an unknown input is mapped too,
    that is taken for the same mistake.
    Source: core, ensemble_utils.cc, ValidateTensorMapping.

    Wrong:
        step { model_name: "m" input_map { key: "ids" value: "ids" } }  # m's inputs: ids, mask

    Right:
        step {
          model_name: "m" input_map { key: "ids" value: "ids" } input_map { key: "mask" value: "mask" }
        }
    """
    for index, other, config, reads, _ in _known_steps(model):
        missing = _missing(config, reads)
        if not reads or len(missing) <= len(_strangers(config, reads)):
            continue
        for name in missing:
            words = f"in ensemble {model.config.name}, input {name} in model {other.name}"
            told = "map it, or call it optional in the model's config if the model does without"
            path = step_path(index, "input_map")
            yield model.found(path, f"{words} is not mapped to any ensemble tensors; {told}")


@rule("ENS026", "step-output-unknown", server=True)
def step_output_unknown(model: Model) -> Iterator[Found]:
    """A key of an output_map is no output of the step's model.

    Source: core, ensemble_utils.cc, ValidateTensorMapping.

    Wrong:
        step { model_name: "m" output_map { key: "score" value: "y" } }  # m's output: scores

    Right:
        step { model_name: "m" output_map { key: "scores" value: "y" } }
    """
    for _, other, config, _, writes in _known_steps(model):
        names = [each.name for each in config.output]
        for entry in writes:
            if entry.name not in set(names):
                words = f"in ensemble {model.config.name}, ensemble tensor {entry.tensor}"
                told = f"is mapped from non-existing output {entry.name} in model {other.name}"
                yield model.found(entry.path, f"{words} {told}; {near(entry.name, names)}")


@rule("ENS033", "step-output-twice", server=True)
def step_output_twice(model: Model) -> Iterator[Found]:
    """A step's model has two outputs of one name, and an output_map has it as a key.

    The server takes such a model by itself, and refuses the ensemble.
    Source: core, ensemble_utils.cc, ValidateTensorMapping.

    Wrong:
        step { model_name: "m" output_map { key: "y" value: "y" } }  # m's outputs: y, y

    Right:
        step { model_name: "m" output_map { key: "y" value: "y" } }  # m's outputs: y, z
    """
    for _, other, config, _, writes in _known_steps(model):
        count = Counter(each.name for each in config.output)
        for entry in writes:
            if count[entry.name] > 1:
                words = f"in ensemble {model.config.name}, multiple outputs in model {other.name}"
                told = f"all of them are called '{entry.name}'; rename them in the config of {other.name}"
                yield model.found(entry.path, f"{words} are mapped to the same ensemble tensor {entry.tensor}; {told}")


@rule("ENS032", "optional-input-of-a-step-that-needs-it", Severity.WARNING)
def optional_but_needed(model: Model) -> Iterator[Found]:
    """An input of the ensemble is optional, but the input of a step it is mapped to is not.

    The server loads it, and refuses each request without the input: "expected 1 inputs but got 0 inputs for
    model 'm'" (measured with tritonserver 2.51).

    Wrong:
        input { name: "mask" data_type: TYPE_FP32 dims: [ 4 ] optional: true }  # not optional in the step's model

    Right:
        input { name: "mask" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    optional = {each.name: index for index, each in enumerate(model.config.input) if each.optional}
    for _, other, config, reads, _ in _known_steps(model) if optional else ():
        needed = {each.name for each in config.input if not each.optional}
        for entry in reads:
            if entry.tensor in optional and entry.name in needed:
                message = f"input '{entry.tensor}' is optional, but input '{entry.name}' of model '{other.name}' is not"
                path: Path = ("input", optional[entry.tensor], "optional")
                yield model.found(path, f"{message}: requests without it fail; say the same in both configs")


RULES: tuple[Rule, ...] = (
    unknown_model, ensembles_in_a_circle, version_not_served, batch_above_step, step_input_unknown,
    step_input_not_mapped, step_output_unknown, optional_but_needed, step_output_twice,
)  # fmt: skip
