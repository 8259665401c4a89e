# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the models of an ensemble's steps make of its tensors: data types, shapes, decoupled responses."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.edits import set_value
from trtkit.lint.ensemble_facts import Conflict, Mention, facts_of, is_ensemble, mentions, wiring_of, words_of_model
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.lint.shapes import agree, shape_text
from trtkit.pbtxt import Path


def _pairs(model: Model) -> Iterator[tuple[str, Mention, Mention]]:
    """Each mention of a tensor with the first one; none where the first is not known."""
    first: dict[str, Mention | None] = {}
    for tensor, mention in mentions(model) if is_ensemble(model) else ():
        known = first.setdefault(tensor, mention)
        if known is not None and mention is not None and known is not mention:
            yield tensor, known, mention


def _same(one: Mention, other: Mention) -> bool:
    """Whether the shapes go together: by dims, or with the batch in front (CompareDimsWithWildcard)."""
    return agree(one.dims, other.dims) or agree(one.shape, other.shape)


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
                f"{one.data_type} is inferred from model {one.owner} "
                f"while {other.data_type} is inferred from model {other.owner}"
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
                f"{shape_text(one.shape)} is inferred from model {one.owner} "
                f"while {shape_text(other.shape)} is inferred from model {other.owner}"
            )
            yield model.found(other.path, f"{words}: {told}; the dims have to agree, or be -1")


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
        fix = set_value(model.document, ("response_cache", "enable"), "false")
        yield model.found(("response_cache",), f"{words}. Please disable the response cache.; {told}", fix=fix)


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


RULES: tuple[Rule, ...] = (
    data_types_differ, shapes_differ, decoupled_sources_differ, cache_of_decoupled, decoupled_not_read,
)  # fmt: skip
