# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble against the models of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.config import ModelConfig
from trtkit.lint.edits import set_value
from trtkit.lint.ensemble_graph import Entry, step_path
from trtkit.lint.ensemble_steps import (
    Conflict,
    Mention,
    facts_of,
    is_ensemble,
    mentions,
    models_of_steps,
    served_config,
    wiring_of,
    words_of_model,
)
from trtkit.lint.finding import Fix, Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.lint.rules.ensemble_wiring import near
from trtkit.pbtxt import Path

Steps = Iterator[tuple[int, Any, Model]]
_TYPES = ModelConfig().input.add().DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number


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
            fix = set_value(document, path, "-1") if document is not None and not written else None
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
        fix = set_value(model.document, ("max_batch_size",), str(limit)) if model.document is not None else None
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


def _pairs(model: Model) -> Iterator[tuple[str, Mention, Mention]]:
    """Each mention of a tensor with the first one; none where the first is not known."""
    first: dict[str, Mention | None] = {}
    for tensor, mention in mentions(model) if is_ensemble(model) else ():
        known = first.setdefault(tensor, mention)
        if known is not None and mention is not None and known is not mention:
            yield tensor, known, mention


def _same(one: Mention, other: Mention) -> bool:
    """Whether the shapes go together: by dims, or with the batch in front (CompareDimsWithWildcard)."""
    return any(
        len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))
        for left, right in ((one.dims, other.dims), (one.shape, other.shape))
    )


@rule("ENS027", "tensor-of-two-data-types", server=True)
def data_types_differ(model: Model) -> Iterator[Found]:
    """A tensor of the ensemble has one data type where it is written and another where it is read.

    Source: core, ensemble_utils.cc, ValidateTensorConsistency.

    Wrong:
        output { name: "ids" data_type: TYPE_INT32 dims: [ 4 ] }  # the step's output is TYPE_INT64

    Right:
        output { name: "ids" data_type: TYPE_INT64 dims: [ 4 ] }
    """
    for tensor, one, other in _pairs(model):
        if one.data_type != other.data_type:
            words = f"in ensemble {model.config.name}, ensemble tensor {tensor}: inconsistent data type"
            told = (
                f"{_TYPES[one.data_type].name} is inferred from model {one.owner} "
                f"while {_TYPES[other.data_type].name} is inferred from model {other.owner}"
            )
            advice = "write the type of the step" if one.owner == model.name else "put a step between them that casts"
            yield model.found(other.path, f"{words}: {told}; {advice}")


@rule("ENS028", "tensor-of-two-shapes", server=True)
def shapes_differ(model: Model) -> Iterator[Found]:
    """A tensor of the ensemble has one shape where it is written and another where it is read.

    -1 goes with any size. Of the ensemble's own inputs and outputs the reshape counts, of the steps' tensors
    the dims. A step that does not batch may have the batch as its first dim, -1.
    Source: core, ensemble_utils.cc, ValidateTensorConsistency.

    Wrong:
        input { name: "image" data_type: TYPE_FP32 dims: [ 224, 224, 3 ] }  # the step's: [ 3, 224, 224 ]

    Right:
        input { name: "image" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    for tensor, one, other in _pairs(model):
        if one.data_type == other.data_type and not _same(one, other):
            words = f"in ensemble {model.config.name}, ensemble tensor {tensor}: inconsistent shape"
            told = (
                f"{_text(one)} is inferred from model {one.owner} "
                f"while {_text(other)} is inferred from model {other.owner}"
            )
            yield model.found(other.path, f"{words}: {told}; the dims have to agree, or be -1")


def _text(mention: Mention) -> str:
    return "[" + ",".join(str(size) for size in mention.shape) + "]"


@rule("ENS029", "inputs-of-different-decoupled-models", server=True)
def decoupled_sources_differ(model: Model) -> Iterator[Found]:
    """A step, or the ensemble's end, is given tensors of different decoupled models.

    A decoupled step gives any number of responses, so its tensors go only with tensors that come from the same
    step; the request's own inputs are one such source too. All outputs of the ensemble have to go together.
    Source: core, ensemble_utils.cc, ValidateEnsembleConfig.

    Wrong:
        step { model_name: "stream" input_map { key: "x" value: "x" } output_map { key: "y" value: "part" } }
        step {
          model_name: "join" input_map { key: "whole" value: "x" } input_map { key: "part" value: "part" }
          output_map { key: "y" value: "y" }
        }

    Right:
        step {
          model_name: "stream" input_map { key: "x" value: "x" }
          output_map { key: "y" value: "part" } output_map { key: "x" value: "whole" }
        }
        step {
          model_name: "join" input_map { key: "whole" value: "whole" } input_map { key: "part" value: "part" }
          output_map { key: "y" value: "y" }
        }
    """
    for conflict in facts_of(model).conflicts if is_ensemble(model) else ():
        words = f"in ensemble {model.config.name}, step of model '{_reader(model, conflict)}'"
        told = " and ".join(f"'{tensor}' comes from {_source(model, label)}" for tensor, label in conflict.tensors)
        yield model.found(conflict.path, f"{words} receives inputs originated from different decoupled models; {told}")


def _reader(model: Model, conflict: Conflict) -> str:
    """The model that the server names: the one that mentions the step's output first."""
    wiring = wiring_of(model)
    if wiring is None or conflict.step is None:
        return model.name
    return words_of_model(model, wiring.writes[conflict.step][0].tensor)


def _source(model: Model, label: int) -> str:
    if label == 0:
        return "the request"
    return f"step {label - 1} ('{model.config.ensemble_scheduling.step[label - 1].model_name}')"


@rule("ENS030", "response-cache-of-a-decoupled-ensemble", server=True, fixable=True)
def cache_of_decoupled(model: Model) -> Iterator[Found]:
    """An ensemble with a decoupled step has the response cache on.

    The ensemble is then decoupled itself, whatever its config says.
    Source: core, model_config_utils.cc, ValidateModelConfig, after ensemble_utils.cc has set ``decoupled``.

    Wrong:
        platform: "ensemble"  # a step's model is decoupled
        response_cache { enable: true }

    Right:
        platform: "ensemble"
    """
    config = model.config
    if not is_ensemble(model) or not config.response_cache.enable or config.model_transaction_policy.decoupled:
        return
    if facts_of(model).decoupled:
        words = f"Response Cache does not currently support model {config.name} with 'decoupled' transaction policy"
        told = "its steps make it decoupled; switch the cache on in the configs of the other steps"
        fix = _cache_off(model)
        yield model.found(("response_cache",), f"{words}. Please disable the response cache.; {told}", fix=fix)


def _cache_off(model: Model) -> Fix | None:
    return set_value(model.document, ("response_cache", "enable"), "false") if model.document is not None else None


@rule("ENS031", "decoupled-is-not-read", Severity.WARNING, fixable=True)
def decoupled_not_read(model: Model) -> Iterator[Found]:
    """An ensemble's model_transaction_policy says something else than its steps make of it.

    The server overwrites it: an ensemble is decoupled when a step is.
    Source: core, ensemble_utils.cc, ValidateEnsembleConfig.

    Wrong:
        platform: "ensemble"  # no step's model is decoupled
        model_transaction_policy { decoupled: true }

    Right:
        platform: "ensemble"
    """
    path: Path = ("model_transaction_policy", "decoupled")
    document = model.document
    if not is_ensemble(model) or document is None or path not in document.spans:
        return
    written, derived = model.config.model_transaction_policy.decoupled, facts_of(model).decoupled
    if derived is not None and written != derived:
        given, found = str(written).lower(), str(derived).lower()
        why = "a step is decoupled" if derived else "no step is decoupled"
        message = f"decoupled is written as {given}, and the server makes it {found}, because {why}"
        yield model.found(path, message, fix=set_value(document, path, found))


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
    step_input_not_mapped, step_output_unknown, data_types_differ, shapes_differ, decoupled_sources_differ,
    cache_of_decoupled, decoupled_not_read, optional_but_needed,
)  # fmt: skip
