# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What an ensemble takes over from the models of its steps: tensors, and whether responses are decoupled.

Source: Triton core, ``src/ensemble_scheduler/ensemble_utils.cc``, ``ValidateEnsembleConfig``; for circles between
ensembles ``src/model_repository_manager/model_repository_manager.cc``, ``CircularDependencyCheck``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from trtkit.config import ModelConfig
from trtkit.lint.ensemble_graph import SCHEDULING, Wiring
from trtkit.lint.model import Model
from trtkit.lint.shapes import type_of
from trtkit.pbtxt import Path


def is_ensemble(model: Model) -> bool:
    """Whether the config has steps to run."""
    return bool(model.written.HasField(SCHEDULING))


def models_of_steps(model: Model) -> list[Model | None]:
    """The model of each step; None where the repository has none of that name."""
    models = model.repository.models
    return [models.get(step.model_name) for step in model.config.ensemble_scheduling.step]


def served_config(model: Model | None) -> ModelConfig | None:
    """The config that a step's model is served with; None where that is not known."""
    if model is None or not model.readable:
        return None
    return model.config if is_ensemble(model) else model.completed


@dataclass(frozen=True)
class Mention:
    """What one place says about a tensor of an ensemble.

    Attributes:
        owner: the model whose tensor it is.
        data_type: e.g. ``TYPE_FP32``.
        dims: as in that model's config.
        shape: with the batch in front, where that model batches.
        path: of the map's entry, or of the ensemble's input or output.
    """

    owner: str
    data_type: str
    dims: Sequence[int]
    shape: Sequence[int]
    path: Path


def mentions(model: Model) -> Iterator[tuple[str, Mention | None]]:
    """Each tensor as often as it is mentioned, in the server's order; None where nobody knows what it is there."""
    config, wiring, own = model.config, _wiring(model), set[str]()
    for side, tensors in (("input", config.input), ("output", config.output)):
        for index, each in enumerate(tensors):
            if each.name not in own:  # the server does not compare an output with an input of its name
                yield each.name, _mention(model.name, each, config, (side, index), reshaped=True)
            own.add(each.name)
    for step, other in enumerate(models_of_steps(model)):
        served = served_config(other)
        if other is None or served is None:
            yield from ((entry.tensor, None) for entry in (*wiring.reads[step], *wiring.writes[step]))
            continue
        for entries, tensors in ((wiring.reads[step], served.input), (wiring.writes[step], served.output)):
            by_name = {each.name: each for each in tensors}
            for entry in entries:
                found = by_name.get(entry.name)
                yield entry.tensor, _mention(other.name, found, served, entry.path) if found is not None else None


def _mention(owner: str, tensor: Any, config: ModelConfig, path: Path, *, reshaped: bool = False) -> Mention | None:
    """The server looks at the reshape of the ensemble's own tensors, and at the dims of the steps'."""
    dims = list(tensor.reshape.shape if reshaped and tensor.HasField("reshape") else tensor.dims)
    if not tensor.data_type or not tensor.dims:  # that config is wrong in itself
        return None
    return Mention(owner, type_of(tensor), dims, [-1, *dims] if config.max_batch_size > 0 else dims, path)


Label = int | None
"""0 for what comes with the request, else the decoupled step (from 1) it comes from; None for unknown."""


@dataclass(frozen=True)
class Conflict:
    """A step, or the ensemble's end, that is given tensors of different decoupled models.

    Attributes:
        step: its index; None for the ensemble's end.
        path: of a tensor that does not go with those before it.
        tensors: two tensors that do not go together, and the labels they have.
    """

    step: int | None
    path: Path
    tensors: tuple[tuple[str, int], tuple[str, int]]


@dataclass(frozen=True)
class Facts:
    """What follows from the models under a model.

    Attributes:
        cycle: the names of ensembles that depend on each other, on which this one is built; () for none.
        decoupled: whether its responses are; None for unknown.
        conflicts: between decoupled steps.
    """

    cycle: tuple[str, ...]
    decoupled: bool | None
    conflicts: tuple[Conflict, ...] = ()


# by model, so that ensembles of ensembles are looked at once; each run has models of its own
_FACTS: WeakKeyDictionary[Model, Facts] = WeakKeyDictionary()
_WIRINGS: WeakKeyDictionary[Model, Wiring] = WeakKeyDictionary()


def _wiring(model: Model) -> Wiring:
    if model not in _WIRINGS:
        _WIRINGS[model] = Wiring(model.config)
    return _WIRINGS[model]


def wiring_of(model: Model) -> Wiring | None:
    """How the steps are wired; None for a model that is no ensemble."""
    return _wiring(model) if is_ensemble(model) else None


def facts_of(model: Model) -> Facts:
    """What follows from the steps, and from the steps of steps; without recursion, for a chain may be long."""
    path: dict[Model, Iterator[Model]] = {model: _ensembles_under(model)} if model not in _FACTS else {}
    circles: dict[Model, tuple[str, ...]] = {}
    while path:
        current = next(reversed(path))
        following = next((each for each in path[current] if each not in _FACTS), None)
        if following is None:
            del path[current]
            _FACTS[current] = _facts(current, circles.get(current, ()))
        elif following in path:
            members = list(path)
            circles[current] = tuple(each.name for each in members[members.index(following) :])
        else:
            path[following] = _ensembles_under(following)
    return _FACTS[model]


def _ensembles_under(model: Model) -> Iterator[Model]:
    found = dict.fromkeys(each for each in models_of_steps(model) if each is not None)
    return (each for each in found if each.readable and is_ensemble(each))


def _facts(model: Model, cycle: tuple[str, ...]) -> Facts:
    below = (_FACTS[each].cycle for each in _ensembles_under(model) if each in _FACTS)
    cycle = cycle or next((each for each in below if each), ())
    return Facts(cycle, None) if cycle else _labelled(model)


def _labelled(model: Model) -> Facts:
    """Follow the tensors from the inputs, as the server does once all steps are loaded."""
    wiring, decoupled = _wiring(model), [_decoupled(each) for each in models_of_steps(model)]
    labels: dict[str, Label] = dict.fromkeys(wiring.inputs, 0)
    conflicts, seen = [], set[bool | None]()
    for step in wiring.flow[1]:
        made = [entry.tensor for entry in wiring.writes[step] if entry.tensor not in wiring.inputs]
        if made:  # the server looks at tensors, and those of the inputs are done when it begins
            conflict, label = _joined(step, [(entry.tensor, entry.path) for entry in wiring.reads[step]], labels)
            conflicts += [conflict] if conflict else []
            labels |= dict.fromkeys(made, {True: step + 1, False: label, None: None}[decoupled[step]])
            seen.add(decoupled[step])
    ends: list[tuple[str, Path]] = [(name, ("output", index)) for name, index in wiring.outputs.items()]
    conflict, _ = _joined(None, ends, labels)
    conflicts += [conflict] if conflict else []
    return Facts((), True if True in seen else None if None in seen else False, tuple(conflicts))


def _joined(
    step: int | None, tensors: list[tuple[str, Path]], labels: dict[str, Label]
) -> tuple[Conflict | None, Label]:
    """The one label that tensors have; None for it where they differ, or none is known."""
    known = [(name, path, label) for name, path in tensors if (label := labels.get(name)) is not None]
    if not known:
        return None, None
    first, _, label = known[0]
    other = next(((name, path, its) for name, path, its in known if its != label), None)
    if other is None:
        return None, label
    return Conflict(step, other[1], ((first, label), (other[0], other[2]))), None


def _decoupled(model: Model | None) -> bool | None:
    if model is not None and model.readable and is_ensemble(model):
        return _FACTS[model].decoupled if model in _FACTS else None
    served = served_config(model)
    return None if served is None else served.model_transaction_policy.decoupled


def words_of_model(model: Model, tensor: str) -> str:
    """The model that the server names for a tensor: the one that mentions it first."""
    return next((each.owner for name, each in mentions(model) if name == tensor and each), model.name)
