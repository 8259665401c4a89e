# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Profiles are refused in a sentence before TensorRT sees them, and what is not refused, TensorRT-RTX builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from trtkit.dtypes import by_name
from trtkit.engine.boxes import Box, find_axes, hull, intersection, parted, subtract
from trtkit.engine.profiles import (
    Profile,
    ShapeRange,
    as_yaml,
    default_profiles,
    from_json,
    profile_for,
    profile_gaps,
    profile_problems,
    profiles_from_spec,
    to_json,
)
from trtkit.errors import BuildError
from trtkit.project.spec import ShapeRangeSpec
from trtkit.signature import TensorSpec

INPUTS = {"ids": (-1, -1), "mask": (-1, -1), "fixed": (3,)}
AXES = {"ids": ("batch", "sequence"), "mask": ("batch", "sequence"), "fixed": (3,)}


def both(low: int, best: int, high: int, batch: tuple[int, int, int] = (1, 8, 8)) -> dict[str, ShapeRange]:
    """A profile for ids and mask."""
    ends = zip(batch, (low, best, high), strict=True)
    one = ShapeRange(*ends)
    return {"ids": one, "mask": one}


def problems(profiles: Sequence[Profile], **options: Any) -> list[str]:
    return list(profile_problems(INPUTS, profiles, **{"axes": AXES, "max_batch_size": 8, **options}))


def test_profiles_that_fit_have_no_problem() -> None:
    given_profiles = [
        both(1, 32, 64),
        both(65, 128, 256),
        {**both(257, 300, 512), "fixed": ShapeRange((3,), (3,), (3,))},
    ]
    assert problems(given_profiles) == []
    assert profile_gaps(INPUTS, given_profiles, axes=AXES, max_batch_size=8) == []


IDS, SHORT = both(1, 32, 64)["ids"], ShapeRange((1, 1), (8, 16), (8, 16))


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ({"ids": IDS}, "profile 0 has no shapes for input 'mask' [-1, -1]"),
        (
            {**both(1, 2, 3), "maks": IDS},
            "profile 0: 'maks' is no input; did you mean 'mask'? (available: fixed, ids, mask)",
        ),
        (
            {"ids": IDS, "mask": ShapeRange((1,), (8,), (8,))},
            "profile 0: min of 'mask' is [1], the input has 2 dimensions: [-1, -1]",
        ),
        (
            {"ids": IDS, "mask": ShapeRange((1, 1), (8, 32), (8,))},
            "profile 0: max of 'mask' is [8], the input has 2 dimensions: [-1, -1]",
        ),
        (
            {**both(1, 2, 3), "fixed": ShapeRange((3,), (4,), (3,))},
            "profile 0: opt of 'fixed' is [4], the input is fixed to [3]",
        ),
        (
            {"ids": IDS, "mask": ShapeRange((1, 0), (8, 32), (8, 64))},
            "profile 0: min of 'mask' is [1, 0]; every size has to be at least 1",
        ),
        (
            {"ids": IDS, "mask": ShapeRange((1, 1), (8, 32), (8, 1 << 31))},
            "profile 0: max of 'mask' is [8, 2147483648]; TensorRT takes sizes up to 2147483647",
        ),
        (both(9, 8, 64), "profile 0: 'ids' needs min <= opt <= max in axis 1, got 9, 8, 64"),
        (both(1, 65, 64), "profile 0: 'mask' needs min <= opt <= max in axis 1, got 1, 65, 64"),
        (
            {"ids": SHORT, "mask": ShapeRange((1, 17), (8, 17), (8, 32))},
            "profile 0: no request can satisfy it: 'sequence' is one size, and these ranges share none: "
            "axis 1 of 'ids' 1..16, axis 1 of 'mask' 17..32",
        ),
        (
            {"ids": SHORT, "mask": IDS},
            "profile 0: 'sequence' is one size, but opt differs: axis 1 of 'ids' 16, axis 1 of 'mask' 32; "
            "give every input the same",
        ),
        (
            {"ids": IDS, "mask": ShapeRange((1, 1), (4, 32), (4, 64))},
            "profile 0: a request has one batch size, but the batch ranges differ: axis 0 of 'ids' 1..8, "
            "axis 0 of 'mask' 1..4; give every input the same",
        ),
        (
            both(1, 32, 64, batch=(1, 8, 16)),
            "profile 0 takes batches up to 16, which no request reaches: max_batch_size is 8; "
            "lower its max to 8 or raise max_batch_size",
        ),
        (
            both(1, 32, 64, batch=(9, 9, 16)),
            "profile 0 takes batches from 9 on, which no request reaches: max_batch_size is 8; "
            "leave it out or raise max_batch_size",
        ),
        (
            both(1, 32, 64, batch=(1, 4, 4)),
            "no profile takes a batch above 4, but max_batch_size is 8, so larger batches would be refused; "
            "raise a profile's max to 8 or lower max_batch_size to 4",
        ),
        (
            both(1, 32, 64, batch=(2, 4, 8)),
            "no profile takes batch 1, the smallest is 2, so a single request would be refused",
        ),
    ],
)
def test_what_is_wrong_with_one_profile(profile: Profile, problem: str) -> None:
    assert problem in problems([profile])


def test_a_dynamic_graph_needs_a_profile() -> None:
    assert problems([]) == ["a profile is needed: ids[-1, -1], mask[-1, -1] have dynamic axes"]
    assert list(profile_problems({"x": (-1,)}, [])) == ["a profile is needed: x[-1] has dynamic axes"]


def test_a_fixed_graph_needs_none_and_takes_its_own_shape() -> None:
    own = {"x": ShapeRange((2, 3), (2, 3), (2, 3))}
    assert list(profile_problems({"x": (2, 3)}, [])) == []
    assert list(profile_problems({"x": (2, 3)}, [own], max_batch_size=8)) == []
    assert list(profile_problems({"x": (2, 3)}, [own, {}])) == [
        "profile 1 is the same as profile 0; leave one of them out"
    ]
    wrong = {"x": ShapeRange((2, 3), (2, 3), (2, 4))}
    assert list(profile_problems({"x": (2, 3)}, [wrong])) == [
        "profile 0: max of 'x' is [2, 4], the input is fixed to [2, 3]"
    ]


def test_names_that_are_not_known_are_not_compared() -> None:
    given_profiles = [{"ids": SHORT, "mask": ShapeRange((1, 17), (8, 17), (8, 32))}]
    assert problems(given_profiles, axes=None) == []
    unnamed = {"ids": ("batch", ""), "mask": ("batch", "")}
    assert problems(given_profiles, axes=unnamed) == []


def test_the_batch_is_one_axis_under_whatever_name() -> None:
    named = {"ids": ("batch", "sequence"), "mask": ("rows", "sequence")}
    uneven = [{"ids": IDS, "mask": ShapeRange((1, 1), (4, 32), (4, 64))}]
    assert "the batch ranges differ" in problems(uneven, axes=named)[0]
    assert "the batch ranges differ" in problems(uneven, axes=None)[0]
    assert problems(uneven, axes=named, max_batch_size=0) == []


def test_batches_are_left_alone_when_the_server_does_not_batch() -> None:
    for limit in (0, None):
        assert problems([both(1, 32, 64, batch=(2, 4, 16))], max_batch_size=limit) == []


def test_batches_are_split_between_profiles() -> None:
    inputs = {"x": (-1, 4)}
    profiles = [{"x": ShapeRange((a, 4), (b, 4), (b, 4))} for a, b in ((1, 4), (5, 32))]
    assert list(profile_problems(inputs, profiles, max_batch_size=32)) == []
    assert profile_for(profiles, {"x": (5, 4)}) == 1


def test_overlapping_profiles_are_explained() -> None:
    pair = [both(1, 32, 64), both(33, 128, 256)]
    assert problems(pair) == [
        "profiles 0 and 1 overlap: both take batch 1..8, sequence 33..64, for example ids [1, 33], mask [1, 33], and "
        "the rule by which the server picks one of them is not to be relied on; "
        "they no longer do when 'sequence' of profile 1 is 65..256"
    ]
    assert problems(pair, overlapping=True) == []


def test_the_same_sizes_with_another_opt_are_an_overlap_and_all_the_same_a_duplicate() -> None:
    other = [both(1, 32, 64), both(1, 33, 64)]
    assert problems(other)[0].endswith("; leave one of them out")
    assert problems(other, overlapping=True) == []
    for overlapping in (False, True):
        same = problems([both(1, 32, 64)] * 2, overlapping=overlapping)
        assert same == ["profile 1 is the same as profile 0; leave one of them out"]


def test_profiles_are_disjoint_when_one_axis_is() -> None:
    named = {"a": ("batch", "n"), "b": ("batch", "m")}
    shapes = [{"a": ShapeRange((1, x), (1, x), (1, x)), "b": ShapeRange((1, 1), (1, 5), (1, 9))} for x in (1, 2)]
    assert list(profile_problems({"a": (-1, -1), "b": (-1, -1)}, shapes, axes=named, max_batch_size=1)) == []
    # without the name, a shape of 'mask' alone would make these disjoint; with it, so does 'ids'
    narrow = {"ids": both(1, 16, 32)["ids"], "mask": both(1, 16, 128)["ids"]}
    assert problems([narrow, both(33, 64, 128)]) == []


def test_shape_tensors_hold_values() -> None:
    inputs = {"x": (-1,), "to": (2,)}
    x = ShapeRange((1,), (8,), (32,))

    def found(*to: Sequence[int]) -> list[str]:
        return list(profile_problems(inputs, [{"x": x, "to": ShapeRange(*map(tuple, to))}], shape_tensors={"to": 2}))

    assert found((0, 1), (2, 4), (4, 8)) == []
    assert found((-1, 1), (-1, 4), (-1, 8)) == []
    assert found((1,), (2,), (3,)) == ["profile 0: min of 'to' is [1]; it holds sizes, 2 of them: give those values"]
    assert found((0, 5), (2, 4), (4, 8)) == ["profile 0: 'to' needs min <= opt <= max in value 1, got 5, 4, 8"]
    (missing,) = profile_problems(inputs, [{"x": x}], shape_tensors={"to"})
    assert missing == "profile 0 has no values for input 'to' [2]"
    (unknown,) = profile_problems({"to": (-1,)}, [{"to": x}], shape_tensors={"to"})
    assert unknown == "profile 0: 'to' [-1] holds sizes, and TensorRT needs to know how many; give it a fixed length"
    (none,) = profile_problems({"to": (2,)}, [], shape_tensors={"to"})
    assert none == "a profile is needed: to[2] has dynamic axes or hold sizes"
    apart = [{"x": x, "to": ShapeRange((n, 0), (n, 0), (n, 0))} for n in (0, 1)]
    assert list(profile_problems(inputs, apart, shape_tensors={"to"})) == []


def test_gaps_are_told() -> None:
    assert profile_gaps(INPUTS, [both(1, 32, 64), both(100, 128, 256)], axes=AXES, max_batch_size=8) == [
        "no profile takes sequence 65..99, although the profiles reach over batch 1..8, sequence 1..256; "
        "such a request fails"
    ]
    assert profile_gaps(INPUTS, []) == []


def test_the_profile_of_a_request() -> None:
    profiles = [both(1, 32, 64), both(65, 128, 256)]
    for size, expected in ((1, 0), (64, 0), (65, 1), (256, 1), (257, None)):
        assert profile_for(profiles, {"ids": (2, size), "mask": (2, size), "fixed": (3,)}) == expected
    assert profile_for(profiles, {"ids": (2, 3), "mask": (2, 65)}) is None
    assert profile_for(profiles, {"ids": (2, 3)}) is None
    assert profile_for(profiles, {"ids": (2, 3), "mask": (2,)}) is None


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, by_name("FP32"), shape)


def test_the_profile_of_a_model_whose_batch_alone_is_dynamic() -> None:
    inputs = [spec("x", "batch", 3), spec("z", "rows"), spec("fixed", 3)]
    (profile,) = default_profiles(inputs, 32)
    assert profile == {"x": ShapeRange((1, 3), (32, 3), (32, 3)), "z": ShapeRange((1,), (32,), (32,))}
    assert default_profiles([spec("x", 2, 3)], 0) == []


def test_other_axes_cannot_be_guessed() -> None:
    inputs = [spec("ids", "batch", "sequence"), spec("mask", "batch", "sequence"), spec("x", "batch", "")]
    with pytest.raises(BuildError) as caught:
        default_profiles(inputs, 4, {"sequence": 37})
    sentence, _, block = str(caught.value).partition(", for example ")
    assert "\n" not in block
    assert sentence == (
        "which sizes will be served cannot be guessed for 'sequence' (axis 1 of ids, axis 1 of mask); "
        "'x[1]' (axis 1 of x); give the model `profiles:` with yours, "
        "or derive them from recorded shapes with --profiles-from"
    )
    (pasted,) = yaml.safe_load(block)["profiles"]
    assert pasted["ids"] == {"min": [1, 1], "opt": [4, 37], "max": [4, 37]}
    profiles = profiles_from_spec([{name: ShapeRangeSpec(**one) for name, one in pasted.items()}])
    named = {one.name: one.shape for one in inputs}
    assert not list(profile_problems({s.name: s.dims for s in inputs}, profiles, axes=named, max_batch_size=4))


def test_without_batching_the_first_axis_is_one_like_the_others() -> None:
    with pytest.raises(BuildError, match=r"cannot be guessed for 'batch' \(axis 0 of x\)"):
        default_profiles([spec("x", "batch", 3)], 0)


@given(
    st.lists(st.lists(st.sampled_from([1, 3, 7]), max_size=3).map(tuple), min_size=1, max_size=4),
    st.lists(st.sampled_from(["batch", "rows", ""]), min_size=4, max_size=4),
    st.integers(1, 64),
)
def test_default_profiles_have_no_problems(rests: list[tuple[int, ...]], batches: list[str], limit: int) -> None:
    inputs = [spec(f"x{i}", batch, *rest) for i, (rest, batch) in enumerate(zip(rests, batches, strict=False))]
    dims, named = {one.name: one.dims for one in inputs}, {one.name: one.shape for one in inputs}
    assert not list(profile_problems(dims, default_profiles(inputs, limit), axes=named, max_batch_size=limit))


sizes = st.integers(0, 1 << 31)
shape_ranges = st.integers(0, 4).flatmap(
    lambda rank: st.builds(ShapeRange, *[st.lists(sizes, min_size=rank, max_size=rank).map(tuple)] * 3)
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.lists(st.dictionaries(names | st.sampled_from(["yes", "null", "1", "- a", "x:", "input.1"]), shape_ranges)))
def test_profiles_come_back_from_json_and_yaml(profiles: list[dict[str, ShapeRange]]) -> None:
    assert from_json(to_json(profiles)) == profiles
    assert yaml.safe_load(as_yaml(profiles))["profiles"] == to_json(profiles)


@pytest.mark.parametrize(
    "value", [3, [3], [{"x": 3}], [{"x": {"min": [1], "opt": [1]}}], [{"x": {"min": ["1"], "opt": [1], "max": [1]}}]]
)
def test_what_is_no_profile_is_not_read_as_one(value: Any) -> None:
    with pytest.raises(BuildError, match="these are no profiles"):
        from_json(value)


ranges = st.tuples(st.integers(1, 5), st.integers(1, 5)).map(lambda ends: (min(ends), max(ends)))
boxes = st.tuples(ranges, ranges).map(lambda ends: dict(zip("ab", ends, strict=True)))


def cells(box: Box | None) -> set[tuple[int, ...]]:
    """Every shape of a box."""
    return set(product(*(range(low, high + 1) for low, high in box.values()))) if box else set()


@given(boxes, boxes)
def test_boxes_against_every_shape_in_them(first: Box, second: Box) -> None:
    shared = intersection(first, second)
    assert cells(shared) == cells(first) & cells(second)
    left = subtract(first, second)
    assert set().union(*map(cells, left)) == cells(first) - cells(second)
    assert sum(len(cells(part)) for part in left) == len(cells(first) - cells(second))
    assert cells(hull([first, second])) >= cells(first) | cells(second)
    change = parted(first, second, "a")
    assert (change is None) == (first == second)
    if change is not None and shared is not None:
        which, axis, ends = change
        pair = [first, second]
        assert ends[0] <= ends[1]
        assert cells({**pair[which], axis: ends}) < cells(pair[which])
        assert intersection({**pair[which], axis: ends}, pair[1 - which]) is None
        assert axis == "b" or first["b"] == second["b"]


@given(st.lists(st.tuples(ranges, ranges, ranges, ranges), min_size=1, max_size=3))
def test_overlaps_gaps_and_choices_against_brute_force(given_ranges: list[tuple[tuple[int, int], ...]]) -> None:
    """ids [n, m] and mask [m, k]: 'm' is one size in both."""
    named = {"ids": ("n", "m"), "mask": ("m", "k")}
    inputs = {"ids": (-1, -1), "mask": (-1, -1)}
    profiles = [
        {"ids": span(n, m, max(m[0], same[0])), "mask": span(same, k, k[0], max(m[0], same[0]))}
        for n, m, same, k in given_ranges
    ]
    requests = list(product(range(1, 6), repeat=3))

    def takes(profile: Profile, request: tuple[int, ...]) -> bool:
        return profile_for([profile], {"ids": request[:2], "mask": request[1:]}) == 0

    found = list(profile_problems(inputs, profiles, axes=named))
    for index, profile in enumerate(profiles):
        possible = any(takes(profile, request) for request in requests)
        assert any(f"profile {index}: no request" in text for text in found) is not possible
    for one, two in combinations(range(len(profiles)), 2):
        shared = any(takes(profiles[one], request) and takes(profiles[two], request) for request in requests)
        said = (f"profiles {one} and {two} overlap", f"profile {two} is the same as profile {one};")
        assert any(text.startswith(said) for text in found) == shared
    sound = [profile for profile in profiles if any(takes(profile, request) for request in requests)]
    taken = {request for request in requests if any(takes(profile, request) for profile in sound)}
    whole = hull([find_axes(inputs, names=named).box(profile) for profile in sound])
    assert bool(profile_gaps(inputs, sound, axes=named)) == bool(cells(whole) - taken)


def span(first: tuple[int, int], second: tuple[int, int], best: int, first_best: int = 0) -> ShapeRange:
    """The shapes of an input with two axes; opt inside where that is possible."""
    lows, highs = zip(first, second, strict=True)
    wanted = (first_best or first[0], best)
    best_sizes = tuple(min(max(w, low), high) for w, low, high in zip(wanted, lows, highs, strict=True))
    return ShapeRange(lows, best_sizes, highs)


# ── against TensorRT-RTX ──────────────────────────────────────────────────────


def adds(first: list[str | int], second: list[str | int]) -> ModelProto:
    """x + z, element by element."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "z"], ["y"])],
        "adds",
        [info("x", TensorProto.FLOAT, first), info("z", TensorProto.FLOAT, second)],
        [info("y", TensorProto.FLOAT, first)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


class Rtx:
    """The library itself, with none of what trtkit puts before it."""

    def __init__(self) -> None:
        self.trt: Any = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
        trt = self.trt

        class Quiet(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                """Nothing is kept: only whether it builds counts."""

        self.log = Quiet()

    def accepts(self, model: ModelProto, profiles: Sequence[Profile], values: Sequence[str] = ()) -> bool:
        builder = self.trt.Builder(self.log)
        network = builder.create_network(0)
        parser = self.trt.OnnxParser(network, self.log)
        assert parser.parse(model.SerializeToString())
        config = builder.create_builder_config()
        for profile in profiles:
            optimization = builder.create_optimization_profile()
            for name, one in profile.items():
                put = optimization.set_shape_input if name in values else optimization.set_shape
                try:
                    put(name, one.min, one.opt, one.max)
                except RuntimeError:
                    return False
            if config.add_optimization_profile(optimization) < 0:
                return False
        return builder.build_serialized_network(network, config) is not None


@pytest.fixture(scope="module")
def rtx() -> Rtx:
    return Rtx()


ADDED = adds(["batch", "n"], ["batch", "n"])
ADDED_AXES = {"x": ("batch", "n"), "z": ("batch", "n")}
near = st.integers(1, 3)
rows = st.tuples(near, near, near).map(lambda three: tuple(sorted(three)))
one_range = st.tuples(rows, st.tuples(near, near, near) | rows).map(lambda axes: ShapeRange(*zip(*axes, strict=True)))
like_the_other = one_range.map(lambda one: {"x": one, "z": one})
any_profile = st.fixed_dictionaries({"x": one_range}, optional={"z": one_range}) | like_the_other


# the seed is fixed: what another would find costs a build of 50 ms each
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(any_profile, max_size=2))
def test_tensorrt_accepts_exactly_what_has_no_problem(rtx: Rtx, profiles: list[Profile]) -> None:
    found = list(profile_problems({"x": (-1, -1), "z": (-1, -1)}, profiles, axes=ADDED_AXES, overlapping=True))
    found = [text for text in found if "is the same as" not in text]  # a duplicate builds, for nothing
    assert rtx.accepts(ADDED, profiles) == (not found), found


@pytest.mark.parametrize(
    "profile",
    [
        {"x": ShapeRange((1,), (1,), (1,)), "z": ShapeRange((1, 1), (1, 1), (1, 1))},
        {"x": ShapeRange((1, 1), (1, 1), (1, 1 << 31)), "z": ShapeRange((1, 1), (1, 1), (1, 1))},
        {"x": ShapeRange((1, 3), (2, 2), (3, 4)), "z": ShapeRange((1, 1), (2, 2), (3, 4))},
    ],
)
def test_tensorrt_refuses_these_too(rtx: Rtx, profile: Profile) -> None:
    assert list(profile_problems({"x": (-1, -1), "z": (-1, -1)}, [profile]))
    assert not rtx.accepts(ADDED, [profile])


def test_tensorrt_is_silent_about_an_unknown_name_and_an_overlap(rtx: Rtx) -> None:
    one = ShapeRange((1, 1), (2, 2), (4, 4))
    for silent in ([{"x": one, "z": one, "unknown": one}], [{"x": one, "z": one}] * 2):
        assert list(profile_problems({"x": (-1, -1), "z": (-1, -1)}, silent))
        assert rtx.accepts(ADDED, silent)


def test_tensorrt_takes_values_of_shape_tensors(rtx: Rtx) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        "reshapes",
        [info("x", TensorProto.FLOAT, ["n"]), info("to", TensorProto.INT64, [2])],
        [info("y", TensorProto.FLOAT, ["a", "b"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    x = ShapeRange((1,), (8,), (32,))
    for values in (((0, 1), (2, 4), (4, 8)), ((-1, 1), (-1, 4), (-1, 8)), ((1,), (2,), (4,)), ((3, 1), (2, 4), (4, 8))):
        profile = {"x": x, "to": ShapeRange(*values)}
        found = list(profile_problems({"x": (-1,), "to": (2,)}, [profile], shape_tensors={"to"}))
        assert rtx.accepts(model, [profile], ["to"]) == (not found), found
    assert not rtx.accepts(model, [{"x": x}])


def test_the_sentences_are_one_line_each() -> None:
    for profile in ({}, both(9, 8, 64), {"ids": IDS, "mask": SHORT}):
        assert all(re.fullmatch(r"[^\n]{20,400}", text) for text in problems([profile]))
