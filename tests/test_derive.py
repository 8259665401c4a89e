# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Profiles from recorded shapes: read with every line checked, cut where padding is least, and counted honestly."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from itertools import combinations, pairwise, product
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_models import encoder
from test_profiles import Rtx
from trtkit.dtypes import by_name
from trtkit.engine.cuts import Load, Region, best_cuts, divide
from trtkit.engine.derive import Derived, count_rows, derive_profiles, profile_rows, read_shapes
from trtkit.engine.profiles import Profile, profile_for, profile_gaps, profile_problems
from trtkit.errors import BuildError, DataError, ProjectError
from trtkit.signature import TensorSpec


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, by_name("INT64"), shape)


TEXT = [spec("input_ids", "batch", "sequence"), spec("attention_mask", "batch", "sequence")]
IMAGE = [spec("image", "batch", 3, "height", "width")]
TRANSLATION = [spec("source", "batch", "s"), spec("target", "batch", "t"), spec("cross", "batch", "t", "s")]


def text(*lengths: int, batch: int = 1) -> list[tuple[dict[str, tuple[int, ...]], int]]:
    """One request of each length."""
    return [({one.name: (batch, length) for one in TEXT}, 1) for length in lengths]


def ends(derived: Derived, name: str, axis: int) -> list[tuple[int, int, int]]:
    """Min, opt and max of one axis in every profile."""
    shapes = [one.profile[name] for one in derived.profiles]
    return [(one.min[axis], one.opt[axis], one.max[axis]) for one in shapes]


# ── reading ───────────────────────────────────────────────────────────────────


def write(folder: Path, *lines: object) -> Path:
    file = folder / "shapes.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def test_lines_are_read_and_equal_ones_counted(tmp_path: Path) -> None:
    short, long = {"input_ids": [1, 5], "attention_mask": [1, 5]}, {"input_ids": [2, 9], "attention_mask": [2, 9]}
    file = write(tmp_path, "\ufeff" + json.dumps(short), "", {**long, "count": 3}, {"inputs": short, "count": 2}, short)
    assert read_shapes(file, TEXT) == [
        ({"input_ids": (1, 5), "attention_mask": (1, 5)}, 4),
        ({"input_ids": (2, 9), "attention_mask": (2, 9)}, 3),
    ]


def test_a_fixed_input_may_be_left_out(tmp_path: Path) -> None:
    inputs = [spec("x", "n"), spec("scale", 3)]
    file = write(tmp_path, {"x": [4]}, {"x": [4], "scale": [3]})
    recorded = read_shapes(file, inputs)
    assert [shapes for shapes, _ in recorded] == [{"x": (4,), "scale": (3,)}] * 2
    assert derive_profiles(recorded, inputs, 1, 0).requests == 2
    assert derive_profiles([({"x": (4,)}, 1)], inputs, 1, 0).elements == 7


def test_inputs_may_be_called_count_and_inputs(tmp_path: Path) -> None:
    count, inputs = spec("count", "n"), spec("inputs", "m")
    assert read_shapes(write(tmp_path, {"count": [4]}), [count]) == [({"count": (4,)}, 1)]
    assert read_shapes(write(tmp_path, {"inputs": {"count": [4]}, "count": 2}), [count]) == [({"count": (4,)}, 2)]
    assert read_shapes(write(tmp_path, {"inputs": [4], "count": 2}), [inputs]) == [({"inputs": (4,)}, 2)]
    assert read_shapes(write(tmp_path, {"inputs": [4], "count": [5]}), [count, inputs])[0][1] == 1


GOOD = {"input_ids": [1, 5], "attention_mask": [1, 5]}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): {"),
        ("[" * 100_000, "not JSON ("),
        ("9" * 5000, "999"),
        (
            [1, 5],
            '[1, 5] is no JSON object; expected e.g. {"input_ids": [1, 1], "attention_mask": [1, 1]}',
        ),
        (
            {**GOOD, "input": [1]},
            "'input' is no input; did you mean 'input_ids'? (available: attention_mask, input_ids)",
        ),
        (
            {"input_ids": [1, 5]},
            "no shape for input 'attention_mask'; the model has attention_mask INT64 [batch, sequence]",
        ),
        (
            {**GOOD, "input_ids": [5]},
            "the shape of 'input_ids' is [5]; the model has input_ids INT64 [batch, sequence]",
        ),
        (
            {**GOOD, "input_ids": 5},
            "the shape of 'input_ids' is 5; expected a list of integers, "
            "the model has input_ids INT64 [batch, sequence]",
        ),
        ({**GOOD, "input_ids": [1, 5.0]}, "the shape of 'input_ids' is [1, 5.0]; expected a list of integers"),
        ({**GOOD, "input_ids": [True, 5]}, "the shape of 'input_ids' is [True, 5]; expected a list of integers"),
        (
            {**GOOD, "input_ids": [0, 5]},
            "the shape of 'input_ids' is [0, 5]; every size has to be from 1 to 2147483647",
        ),
        ({**GOOD, "input_ids": [1, 1 << 31]}, "is [1, 2147483648]; every size has to be from 1 to 2147483647"),
        (
            {**GOOD, "input_ids": [1, 6]},
            "'sequence' is one size in every request, but it is 6 in 'input_ids' and 5 in 'attention_mask'",
        ),
        ({**GOOD, "count": 0}, "count is 0; expected how many requests had these shapes, at least 1"),
        ({**GOOD, "count": "2"}, "count is 2; expected how many"),
        ({"inputs": GOOD, "input_ids": [1, 5]}, "input_ids beside 'inputs'; only 'count' may be there"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: object, sentence: str) -> None:
    file = write(tmp_path, GOOD, line)
    with pytest.raises(DataError) as caught:
        read_shapes(file, TEXT)
    assert str(caught.value).startswith("shapes.jsonl:2: ")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_fixed_axis_is_fixed(tmp_path: Path) -> None:
    file = write(tmp_path, {"image": [1, 4, 8, 8]})
    with pytest.raises(
        DataError, match=r":1: the shape of 'image' is \[1, 4, 8, 8\]; the model has image INT64 \[batch"
    ):
        read_shapes(file, IMAGE)


def test_files_that_hold_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shapes.jsonl holds no shapes; expected one JSON object per line, e.g. "):
        read_shapes(write(tmp_path, "", "  "), TEXT)
    with pytest.raises(DataError, match="cannot read the recorded shapes .*none.jsonl: No such file"):
        read_shapes(tmp_path / "none.jsonl", TEXT)
    with pytest.raises(DataError, match="cannot read the recorded shapes .*: Is a directory"):
        read_shapes(tmp_path, TEXT)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary is no text: invalid start byte at byte 0; expected JSON lines"):
        read_shapes(tmp_path / "binary", TEXT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input_ids", "attention_mask", "inputs", "count", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(json_values.map(json.dumps) | st.text(max_size=20), max_size=3))
def test_no_line_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    file = tmp_path_factory.mktemp("lines") / "shapes.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    try:
        recorded = read_shapes(file, TEXT)
    except DataError:
        return
    assert all(shapes["input_ids"] == shapes["attention_mask"] for shapes, _ in recorded)


# ── cutting ───────────────────────────────────────────────────────────────────


def cut_costs(load: Load, regions: Sequence[Region]) -> int:
    """The elements when every point is padded to its region's largest sizes, point by point."""
    total = 0
    for point, weights in zip(load.points, load.weights, strict=True):
        (region,) = [r for r in regions if all(low <= x <= high for x, (low, high) in zip(point, r, strict=True))]
        for weight, powers in zip(weights, load.powers, strict=True):
            total += weight * prod(high**power for (_, high), power in zip(region, powers, strict=True))
    return total


def loads(axes: int, largest: int, most: int) -> st.SearchStrategy[Load]:
    """Loads with a linear and a mixed summand."""
    point = st.tuples(*[st.integers(1, largest)] * axes)
    powers = ((1,) * axes, (2, *[0] * (axes - 1)))
    weights = st.tuples(st.integers(0, 9), st.integers(0, 3))
    return st.dictionaries(point, weights, min_size=1, max_size=most).map(
        lambda found: Load(powers, tuple(sorted(found)), tuple(found[point] for point in sorted(found)))
    )


@given(loads(1, 40, 9), st.integers(1, 10))
def test_cuts_along_one_axis_are_the_best_there_are(load: Load, most: int) -> None:
    parts = divide(load, (1,), most)
    sizes = [point[0] for point in load.points]
    for number, found in enumerate(parts, 1):
        possible = []
        for last in combinations(sizes[:-1], number - 1):
            borders = [0, *last, sizes[-1]]
            possible.append(cut_costs(load, [((low + 1, high),) for low, high in pairwise(borders)]))
        assert found.elements == min(possible) == cut_costs(load, found.regions)
        assert len(found.regions) == number
    least = sum(load.elements([index], point) for index, point in enumerate(load.points))
    assert parts[-1].elements == least or len(parts) == most
    assert all(part.elements > least for part in parts[:-1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), min_size=1, max_size=9), st.integers(1, 9))
def test_dynamic_programming_against_every_choice_of_cuts(items: list[tuple[int, int]], most: int) -> None:
    weights, sizes = [w for w, _ in items], sorted(s for _, s in items)

    def cost(begin: int, end: int) -> int:
        return sum(weights[begin:end]) * sizes[end - 1]

    for number, (least, found) in enumerate(best_cuts(cost, len(items), most), 1):
        every = [(*cuts, len(items)) for cuts in combinations(range(1, len(items)), number - 1)]
        costs = {cuts: sum(cost(a, b) for a, b in pairwise((0, *cuts))) for cuts in every}
        assert least == min(costs.values()) == costs[tuple(found)]


@given(loads(2, 12, 8) | loads(3, 6, 6), st.integers(1, 6))
def test_cuts_along_several_axes_hold_every_size_once_and_beat_one_axis_alone(load: Load, most: int) -> None:
    lows = tuple(1 for _ in load.tops)
    parts = divide(load, lows, most)
    for before, found in pairwise(parts):
        assert found.elements < before.elements
    unpadded = sum(load.elements([index], point) for index, point in enumerate(load.points))
    assert len(parts) == most or parts[-1].elements == unpadded
    for number, found in enumerate(parts, 1):
        assert len(found.regions) == number
        assert found.elements == cut_costs(load, found.regions)
        volumes = sum(prod(high - low + 1 for low, high in region) for region in found.regions)
        assert volumes == prod(load.tops)
        for one, two in combinations(found.regions, 2):
            assert any(a[1] < b[0] or b[1] < a[0] for a, b in zip(one, two, strict=True))
        for axis in range(len(lows)):
            sizes = sorted({point[axis] for point in load.points})
            for last in combinations(sizes[:-1], number - 1):
                slabs = [
                    tuple((low + 1, high) if i == axis else (1, top) for i, top in enumerate(load.tops))
                    for low, high in pairwise([0, *last, sizes[-1]])
                ]
                assert found.elements <= cut_costs(load, slabs)


def test_guillotine_cuts_find_the_corners() -> None:
    """Small, wide, high and large: four parts need cuts along both axes."""
    points = tuple(sorted(product((10, 100), repeat=2)))
    parts = divide(Load(((1, 1),), points, ((1000,),) * 4), (1, 1), 4)
    assert parts[-1].regions == (
        ((1, 10), (1, 10)), ((1, 10), (11, 100)), ((11, 100), (1, 10)), ((11, 100), (11, 100)),
    )  # fmt: skip
    assert parts[-1].elements == 1000 * 110 * 110


def test_the_best_cuts_along_one_axis_are_split_on_along_others() -> None:
    """Cut first between 3 and 5 of the second axis, then along the first; greedy cuts alone leave 940."""
    load = Load(((1, 1),), ((1, 3), (5, 3), (9, 5)), ((2,), (2,), (20,)))
    assert [parts.elements for parts in divide(load, (1, 1), 4)] == [1080, 1000, 960, 936]


# ── profiles ──────────────────────────────────────────────────────────────────


def volume(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(map(prod, shapes.values()))


def padding(recorded: Any, profiles: Sequence[Profile], *, own_batch: bool) -> list[int]:
    """By profile, the elements added when its requests are padded to its max, by the definition."""
    added = [0] * len(profiles)
    for shapes, count in recorded:
        index = profile_for(profiles, shapes)
        assert index is not None
        largest = {
            name: list(profiles[index][name].max) if name in profiles[index] else s for name, s in shapes.items()
        }
        if own_batch:
            largest = {name: (shapes[name][0], *sizes[1:]) for name, sizes in largest.items()}
        added[index] += count * (volume(largest) - volume(shapes))
    return added


def check(recorded: Any, inputs: Sequence[TensorSpec], derived: Derived, limit: int, *, own_batch: bool) -> None:
    """What has to hold for all derived profiles."""
    profiles = [one.profile for one in derived.profiles]
    dims, named = {one.name: one.dims for one in inputs}, {one.name: one.shape for one in inputs}
    assert not list(profile_problems(dims, profiles, axes=named, max_batch_size=limit))
    assert not profile_gaps(dims, profiles, axes=named, max_batch_size=limit)
    assert [one.padded for one in derived.profiles] == padding(recorded, profiles, own_batch=own_batch)
    assert derived.padded_by_count[-1] == sum(one.padded for one in derived.profiles)
    assert derived.padded_by_count[0] - derived.padded_by_count[-1] == sum(one.saved for one in derived.profiles)
    assert len(derived.padded_by_count) == len(profiles)
    assert derived.elements == sum(one.elements for one in derived.profiles)
    assert derived.elements == sum(count * volume(shapes) for shapes, count in recorded)
    assert derived.requests == sum(one.requests for one in derived.profiles) == sum(count for _, count in recorded)
    assert json.loads(json.dumps(derived.to_json()))["requests"] == derived.requests


batches, lengths, counts = st.integers(1, 8), st.integers(1, 50), st.integers(1, 5)
text_requests = st.lists(st.tuples(batches, lengths, counts), min_size=1, max_size=12)


@given(text_requests, st.integers(1, 5), st.integers(8, 9))
def test_profiles_of_text(found: list[tuple[int, int, int]], count: int, limit: int) -> None:
    recorded = [({one.name: (batch, length) for one in TEXT}, number) for batch, length, number in found]
    derived = derive_profiles(recorded, TEXT, count, limit)
    check(recorded, TEXT, derived, limit, own_batch=True)
    assert {(low, best, high) for low, best, high in ends(derived, "input_ids", 0)} == {(1, limit, limit)}
    distinct = {length for _, length, _ in found}
    assert len(derived.profiles) == min(count, len(distinct))
    assert ends(derived, "input_ids", 1)[0][0] == 1
    assert ends(derived, "input_ids", 1)[-1][2] == max(distinct)


@given(text_requests, st.integers(1, 5), st.sampled_from([0, 8, 20]))
def test_profiles_of_a_batch_alone(found: list[tuple[int, int, int]], count: int, limit: int) -> None:
    inputs = [spec("x", "batch", 5), spec("scale", 2)]
    recorded = [({"x": (batch, 5), "scale": (2,)}, number) for batch, _, number in found]
    derived = derive_profiles(recorded, inputs, count, limit)
    check(recorded, inputs, derived, limit, own_batch=False)
    assert ends(derived, "x", 0)[-1][2] == max(limit, max(batch for batch, _, _ in found))


@given(
    st.lists(st.tuples(batches, st.integers(1, 12), st.integers(1, 12), counts), min_size=1, max_size=10),
    st.integers(1, 5),
    st.sampled_from([0, 8]),
)
def test_profiles_of_several_axes(found: list[tuple[int, int, int, int]], count: int, limit: int) -> None:
    recorded = [({"source": (b, s), "target": (b, t), "cross": (b, t, s)}, number) for b, s, t, number in found]
    derived = derive_profiles(recorded, TRANSLATION, count, limit)
    check(recorded, TRANSLATION, derived, limit, own_batch=limit > 0)


def test_what_is_cut_and_saved_in_numbers() -> None:
    recorded = [*[(shapes, 90) for shapes, _ in text(10)], *[(shapes, 10) for shapes, _ in text(100)]]
    derived = derive_profiles(recorded, TEXT, 2, 4)
    assert ends(derived, "input_ids", 1) == [(1, 10, 10), (11, 100, 100)]
    assert derived.padded_by_count == (2 * 90 * 90, 0)
    assert [(one.requests, one.padded, one.saved) for one in derived.profiles] == [(90, 0, 2 * 90 * 90), (10, 0, 0)]
    assert derived.notes == ("a request with 'sequence' above 100 was never recorded and will be refused",)
    assert profile_rows(derived) == [
        ["profile", "sequence", "opt", "requests", "share", "padding", "saves"],
        ["0", "1..10", "10", "90", "90.0 %", "0.0 %", "81.0 %"],
        ["1", "11..100", "100", "10", "10.0 %", "0.0 %", "0.0 %"],
    ]
    assert count_rows(derived) == [
        ["profiles", "padded elements", "padding", "saves"],
        ["1", "16,200", "81.0 %", "0.0 %"],
        ["2", "0", "0.0 %", "81.0 %"],
    ]


def test_requests_count_with_their_rows() -> None:
    """Eight rows of 20 are worth a profile rather than two requests of one row of 10."""
    recorded = [*text(10, 10), *text(20, batch=8), *text(40)]
    assert ends(derive_profiles(recorded, TEXT, 2, 8), "input_ids", 1) == [(1, 20, 20), (21, 40, 40)]


def test_opt_is_the_median_of_the_work() -> None:
    recorded = [*text(*[10] * 9), *text(60), *text(100)]
    # 90 of 250 elements are in requests of 10, half is reached at 60
    assert ends(derive_profiles(recorded, TEXT, 1, 1), "input_ids", 1) == [(1, 60, 100)]


def test_the_first_profile_may_begin_at_the_smallest_seen() -> None:
    recorded = text(30, 50)
    assert ends(derive_profiles(recorded, TEXT, 2, 8, smallest_seen=True), "input_ids", 1) == [
        (30, 30, 30),
        (31, 50, 50),
    ]
    rows = [({"x": (4,)}, 1)]
    assert ends(derive_profiles(rows, [spec("x", "batch")], 1, 8, smallest_seen=True), "x", 0) == [(1, 4, 8)]


def test_fewer_profiles_than_asked_for_are_said_so() -> None:
    derived = derive_profiles(text(10, 20, 20), TEXT, 5, 1)
    assert len(derived.profiles) == 2
    assert derived.notes[0] == "2 instead of 5 profiles: with these nothing is padded, more save nothing"


def test_profiles_without_requests_are_said_so() -> None:
    derived = derive_profiles([({"x": (4,)}, 1)], [spec("x", "batch")], 2, 8)
    assert ends(derived, "x", 0) == [(1, 4, 4), (5, 8, 8)]
    assert derived.notes == (
        "profile 1 (batch 5..8) takes none of the recorded requests; it is there for the server's larger batches",
    )
    corners = [({"image": (1, 3, 9, 1)}, 1), ({"image": (1, 3, 1, 9)}, 1)]
    derived = derive_profiles(corners, IMAGE, 3, 1)
    assert derived.notes[1] == (
        "profile 2 (height 2..9, width 2..9) takes none of the recorded requests; "
        "it is there for shapes between the recorded ones"
    )
    assert derived.notes[0].startswith("a request with 'height' above 9 or 'width' above 9 was never recorded")


def test_axes_without_names_are_cut_each_alone() -> None:
    inputs = [spec("x", "", ""), spec("z", "")]
    recorded = [({"x": (1, 5), "z": (1,)}, 1), ({"x": (2, 9), "z": (2,)}, 1)]
    derived = derive_profiles(recorded, inputs, 2, 4)
    assert list(derived.profiles[0].sizes) == ["x[1]"]
    check(recorded, inputs, derived, 4, own_batch=True)


def test_what_cannot_be_derived() -> None:
    with pytest.raises(ProjectError, match="0 profiles cannot be derived; --count is 1 or more"):
        derive_profiles(text(5), TEXT, 0, 1)
    with pytest.raises(BuildError, match=r"x INT64 \[2, 3\]: no axis is dynamic, so there is nothing"):
        derive_profiles([({"x": (2, 3)}, 1)], [spec("x", 2, 3)], 2, 0)
    with pytest.raises(DataError, match="no request shapes were recorded"):
        derive_profiles([], TEXT, 2, 1)
    with pytest.raises(DataError, match=r"1 recorded request has 9 rows \('input_ids' \[9, 5\]\), more than max_batch"):
        derive_profiles(text(5, batch=9), TEXT, 2, 8)
    with pytest.raises(DataError, match="a recorded request does not fit the model: 'batch' is one size in every"):
        derive_profiles([({"x": (1,), "z": (2,)}, 1)], [spec("x", "batch"), spec("z", "rows")], 2, 8)
    with pytest.raises(DataError, match="does not fit the model: no shape for input 'attention_mask'"):
        derive_profiles([({"input_ids": (1, 2)}, 1)], TEXT, 2, 8)


def test_ten_thousand_lines_of_512_lengths_take_less_than_two_seconds(tmp_path: Path) -> None:
    draw = random.Random(5)
    drawn = [min(512, 1 + int(draw.expovariate(1 / 90))) for _ in range(9_488)] + list(range(1, 513))
    file = write(tmp_path, *({"input_ids": [1, n], "attention_mask": [1, n]} for n in drawn))
    begin = time.perf_counter()
    derived = derive_profiles(read_shapes(file, TEXT), TEXT, 8, 32)
    assert time.perf_counter() - begin < 2
    assert len(derived.profiles) == 8
    assert derived.requests == 10_000
    saved = [before - after for before, after in pairwise(derived.padded_by_count)]
    assert saved == sorted(saved, reverse=True)  # each further profile is worth less


@pytest.mark.parametrize("count", [1, 3])
def test_tensorrt_builds_derived_profiles(count: int) -> None:
    derived = derive_profiles(text(3, 5, 5, 17, 30, 31, 64), TEXT, count, 4)
    model = encoder(layers=1, hidden=16, heads=2, vocabulary=20)
    assert Rtx().accepts(model, [one.profile for one in derived.profiles])


@settings(max_examples=20)
@given(text_requests)
def test_more_profiles_never_pad_more(found: list[tuple[int, int, int]]) -> None:
    recorded = [({one.name: (batch, length) for one in TEXT}, number) for batch, length, number in found]
    derived = derive_profiles(recorded, TEXT, 12, 8)
    assert all(after < before for before, after in pairwise(derived.padded_by_count))
    assert derived.padded_by_count[-1] == 0
