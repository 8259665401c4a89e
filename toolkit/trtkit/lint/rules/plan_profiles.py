# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Batches, profiles and CUDA graphs of a config against the profiles of its engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.plan_files import Engine, PlanFile, of_first_plan
from trtkit.lint.rule import Rule, rule
from trtkit.pbtxt import Path


def _indices(model: Model) -> list[tuple[Path, str]]:
    """The profiles that the instance groups list, with their places."""
    return [
        (("instance_group", group, "profile", index), profile)
        for group, each in enumerate(model.config.instance_group)
        for index, profile in enumerate(each.profile)
    ]


def _in_use(model: Model, engine: Engine) -> list[int]:
    """The profiles that are used: those listed, or the first one."""
    given = {int(text) for _, text in _indices(model) if text.isdigit()}
    return sorted(index for index in given if index < max(1, len(engine.profiles))) or [0]


def _batches(engine: Engine, profiles: Iterable[int]) -> list[tuple[int, int]]:
    """The smallest and the largest batch that each of some profiles takes."""
    return [found for index in profiles if (found := engine.batches(index)) is not None]


@rule("PLN010", "max-batch-size-above-the-engine", server=True, fixable=True)
@of_first_plan
def batch_above_engine(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """max_batch_size is larger than what the engine's profiles take.

    Those that instance_group lists count, and only the first profile where none is listed.
    Source: tensorrt_backend, model_state.cc, AutoCompleteConfigHelper.

    Wrong:
        max_batch_size: 16  # the engine's profile takes 1 to 8

    Right:
        max_batch_size: 8
    """
    used, given = _in_use(model, engine), model.config.max_batch_size
    largest = max((high for _, high in _batches(engine, used)), default=None)
    if largest is None or given <= largest:
        return
    others = max(high for _, high in _batches(engine, range(len(engine.profiles) or 1)))
    words = f"configuration specified max-batch {given} but TensorRT engine only supports max-batch {largest}"
    built = f"{plan.file} was built so (profile {', '.join(map(str, used))})"
    way = "list its profiles for more" if others > largest else "build with larger profiles"
    fix = None if others > largest else set_value(model.document, ("max_batch_size",), str(largest))
    yield model.found(("max_batch_size",), f"{words}; {built}; set it to {largest}, or {way}", fix=fix)


@rule("PLN011", "profile-beyond-the-engine", server=True)
@of_first_plan
def profile_beyond_engine(model: Model, _plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """An instance_group lists a profile that the engine does not have.

    Source: tensorrt_backend, model_state.cc, GetProfileIndices.

    Wrong:
        instance_group { profile: [ "0", "2" ] }  # the engine has 2 profiles

    Right:
        instance_group { profile: [ "0", "1" ] }
    """
    count = max(1, len(engine.profiles))
    for path, text in _indices(model):
        if text.isdigit() and int(text) >= count:
            words = f"configuration specified invalid profile {text}"
            told = f"Number of profiles supported by TensorRT engine: {count}"
            yield model.found(path, f"{words}. {told}; they are counted from 0")


@rule("PLN016", "only-the-first-profile", Severity.ADVICE)
@of_first_plan
def only_first_profile(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """The engine has several profiles, and the config uses the first one only.

    Without ``profile`` an instance group gets profile 0, and max_batch_size is limited by it.
    Source: tensorrt_backend, model_state.cc, GetProfileIndices.

    Wrong:
        instance_group { kind: KIND_GPU }  # the engine has 2 profiles

    Right:
        instance_group { kind: KIND_GPU profile: [ "0", "1" ] }
    """
    if len(engine.profiles) > 1 and not _indices(model):
        every = ", ".join(f'"{index}"' for index in range(len(engine.profiles)))
        message = f"{plan.file} has {len(engine.profiles)} profiles and only profile 0 is used"
        yield model.found(("instance_group",), f"{message}; write profile: [ {every} ] in the instance groups")


@rule("PLN017", "batch-that-no-profile-takes", Severity.WARNING)
@of_first_plan
def batch_gap(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """There are batches up to max_batch_size that no profile in use takes.

    The server makes such a batch all the same; its requests then fail.
    Source: tensorrt_backend, instance_state.cc, GetMostOptimizedProfile.

    Wrong:
        max_batch_size: 32  # the profiles take 1 to 4 and 16 to 32

    Right:
        max_batch_size: 32  # the profiles take 1 to 8 and 9 to 32
    """
    batches = sorted(_batches(engine, _in_use(model, engine)))
    top = min(model.config.max_batch_size, max((high for _, high in batches), default=0))
    reached, gaps = 0, []
    for low, high in batches:
        if low > reached + 1 and reached < top:
            gaps.append((reached + 1, min(low - 1, top)))
        reached = max(reached, high)
    if gaps:
        told = ", ".join(f"{low} to {high}" if low < high else str(low) for low, high in gaps[:5])
        message = f"no profile in use of {plan.file} takes a batch of {told}, so such requests fail"
        yield model.found(("max_batch_size",), f"{message}; build profiles without gaps, or list more of them")


@rule("PLN018", "preferred-batch-size-of-no-profile", Severity.ADVICE)
@of_first_plan
def preferred_of_no_profile(model: Model, _plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """A preferred batch size is not the one that a profile was optimized for.

    TensorRT chooses the kernels of a profile for its opt shape. Preferred sizes are worth their delay where they
    are those; without such profiles they are better left out.
    Source: Triton's docs, batcher.md, preferred batch sizes.

    Wrong:
        dynamic_batching { preferred_batch_size: [ 6 ] }  # the profile's opt is 8

    Right:
        dynamic_batching { preferred_batch_size: [ 8 ] }
    """
    best = sorted(engine.best_batches(_in_use(model, engine)))
    for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size if best else ()):
        if size not in best:
            path: Path = ("dynamic_batching", "preferred_batch_size", index)
            told = ", ".join(map(str, best))
            yield model.found(path, f"no profile in use is optimized for a batch of {size}; they are for {told}")


@rule("PLN019", "cuda-graph-that-is-not-captured", Severity.WARNING)
@of_first_plan
def graph_not_captured(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """A graph_spec is for a batch that is never made, or leaves an input of the engine out.

    The server logs that the graph could not be captured and runs without it.
    Source: tensorrt_backend, instance_state.cc, BuildCudaGraph and SetCudaGraphShape.

    Wrong:
        optimization { cuda { graphs: true graph_spec { batch_size: 64 } } }  # the profile takes 1 to 8

    Right:
        optimization { cuda { graphs: true graph_spec { batch_size: 8 } } }
    """
    batches = _batches(engine, _in_use(model, engine))
    for index, spec in enumerate(model.config.optimization.cuda.graph_spec):
        path: Path = ("optimization", "cuda", "graph_spec", index)
        most = model.config.max_batch_size or spec.batch_size
        taken = spec.batch_size <= most and any(low <= spec.batch_size <= high for low, high in batches)
        if spec.batch_size and batches and not taken:
            told = ", ".join(f"{low} to {high}" for low, high in batches)
            message = f"no CUDA graph is of use for batch {spec.batch_size}: max_batch_size is {most}"
            yield model.found((*path, "batch_size"), f"{message} and the profiles in use take {told}")
        for name in [name for name in engine.of("input") if spec.input and name not in spec.input]:
            words = f"trt failed to set binding dimension for unknown input '{name}' for {model.config.name}"
            yield model.found((*path, "input"), f"{words}; {plan.file} has it: give its dims too")


RULES: tuple[Rule, ...] = (
    batch_above_engine, profile_beyond_engine, only_first_profile, batch_gap, preferred_of_no_profile,
    graph_not_captured,
)  # fmt: skip
