# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The race: real graphs in ONNX Runtime side by side, and the rules of the choice for any numbers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto

from precision_models import Graph, conv_net, overflows_in_fp16
from trtkit.dtypes import DType
from trtkit.errors import BuildError, DataError, ExportError
from trtkit.export.quiet import quiet
from trtkit.numerics import Array, Difference
from trtkit.precision.emulate import cpu_runnable
from trtkit.precision.half import to_half
from trtkit.project import Tolerance
from trtkit.race.axes import _box
from trtkit.race.candidate import PRECISIONS, Candidate
from trtkit.race.choose import Choice, choose
from trtkit.race.labels import Box, place
from trtkit.race.measure import Row, measure
from trtkit.race.plot import draw, plot_svg
from trtkit.race.runner import CpuRunner
from trtkit.race.table import columns, remarks, size_text, table, to_json
from trtkit.race.timing import ROUNDS, Timing, take_turns, times_faster
from trtkit.tolerance import tolerance_for


def tolerance(precision: str, output: str, dtype: DType) -> tuple[float, float]:
    return tolerance_for(precision, dtype, output, Tolerance())


def race(candidates: list[Candidate], rows: Mapping[str, Array], **given: Any) -> list[Row]:
    options = {"batch_sizes": (1, 8), "metric": None, "tolerance": tolerance, "seconds": 0.15}
    return measure(candidates, rows, **(options | given))


# ---------------------------------------------------------------- real graphs


@pytest.fixture(scope="module")
def small_conv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small convolutional model and its dynamic INT8 form, whose ConvInteger has no fast kernel on CPUs."""
    from onnxruntime.quantization import quantize_dynamic

    folder = tmp_path_factory.mktemp("small_conv")
    plain, quantized = folder / "fp32.onnx", folder / "int8.onnx"
    onnx.save(conv_net((8, 16), 16), plain)
    with quiet():
        quantize_dynamic(plain, quantized)
    return plain, quantized


IMAGES = {"image": np.random.default_rng(0).standard_normal((20, 1, 16, 16)).astype(np.float32)}


def test_int8_that_is_slower_is_not_taken_and_the_table_says_so(small_conv: tuple[Path, Path]) -> None:
    plain, quantized = small_conv
    rows = race([Candidate("fp32", "fp32", plain), Candidate("int8", "int8", quantized)], IMAGES)
    assert rows[1].outputs["logits"].passed, "only its speed is against it"
    assert times_faster(rows[1].timings[8], rows[0].timings[8]).median < 1 / 1.3
    choice = choose(rows, 0.0, False)
    assert choice.name == "fp32"
    assert choice.batch == 8
    found = dict(zip(columns(rows), table(rows, choice)[1], strict=True))
    assert found["verdict"].endswith("times slower than fp32")
    assert float(found["speed-up"]) < 1 / 1.3
    assert found["size"] == size_text(quantized.stat().st_size)


def test_one_and_the_same_graph_has_no_error(small_conv: tuple[Path, Path]) -> None:
    rows = race([Candidate("fp32", "fp32", small_conv[0]), Candidate("int8", "int8", small_conv[0])], IMAGES)
    assert rows[1].max_abs == 0.0
    assert rows[1].allowed_share == 0.0


def half_candidate(name: str, folder: Path, keep: tuple[str, ...]) -> Candidate:
    """overflows_in_fp16() in FP16, and beside it the graph with all of its roundings, some of which CPUs leave out."""
    made = to_half(overflows_in_fp16(), "FP16", keep_nodes=keep)
    file, runnable = folder / f"{name}.onnx", folder / f"{name}_runnable.onnx"
    onnx.save(made.model, file)
    onnx.save(cpu_runnable(made.model), runnable)
    return Candidate(name, "fp16", file, run_file=runnable, kept=made.kept, notes=("a note",))


def test_an_overflow_in_fp16_disqualifies_and_kept_nodes_are_reported(tmp_path: Path) -> None:
    guilty = ("node_squares", "node_mean_square", "node_root")
    onnx.save(overflows_in_fp16(), tmp_path / "fp32.onnx")
    plain, kept = half_candidate("fp16", tmp_path, ()), half_candidate("kept", tmp_path, guilty)
    x = {"x": np.random.default_rng(0).normal(0, 1000, (16, 16)).astype(np.float32)}
    rows = race([Candidate("fp32", "fp32", tmp_path / "fp32.onnx"), plain, kept], x)
    choice = choose(rows, 0.0, False)
    assert choice.verdicts["fp16"].startswith("not accurate enough: ")
    assert rows[2].outputs["y"].passed
    assert choice.verdicts["kept"].endswith(f"; {len(kept.kept)} nodes stay in FP32")
    lines = remarks(rows)
    assert all(f"kept: {node} stays in FP32: {kept.kept[node]}" in lines for node in guilty)
    assert lines[-1] == "kept: a note"


def test_what_was_not_built_does_not_load_or_does_not_run_is_in_the_table(
    tmp_path: Path, small_conv: tuple[Path, Path]
) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    onnx.save(conv_net((8,), 8), tmp_path / "other.onnx")
    rows = race(
        [
            Candidate("fp32", "fp32", small_conv[0]),
            Candidate("fp8", "fp8", failed="no operator could be quantized"),
            Candidate("junk", "fp16", tmp_path / "junk.onnx"),
            Candidate("other", "int8", tmp_path / "other.onnx"),
        ],
        IMAGES,
    )
    choice = choose(rows, 0.0, False)
    assert choice.name == "fp32"
    assert choice.verdicts["fp8"] == "failed: no operator could be quantized"
    assert choice.verdicts["junk"].startswith("failed: ONNX Runtime")
    assert choice.verdicts["other"].startswith("failed: ONNX Runtime")
    assert table(rows, choice)[1][1:-1] == ["–"] * 6
    record = json.loads(json.dumps(to_json(rows, choice), allow_nan=False))
    assert [c["name"] for c in record["candidates"]] == ["fp32", "fp8", "junk", "other"]
    assert record["candidates"][0]["file"] == "fp32.onnx"
    assert len(record["candidates"][0]["timings"][1]["rounds_ns"]) >= 5


def test_a_race_needs_its_reference(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="the race has no reference: fp32: it broke"):
        race([Candidate("fp32", "fp32", failed="it broke")], IMAGES)


def test_the_error_comes_from_the_run_file_and_a_file_that_does_not_run_is_not_timed(
    tmp_path: Path, small_conv: tuple[Path, Path]
) -> None:
    (tmp_path / "plan.plan").write_bytes(b"no graph")
    fp8 = Candidate("fp8", "fp8", tmp_path / "plan.plan", run_file=small_conv[1])
    rows = race([Candidate("fp32", "fp32", small_conv[0]), fp8], IMAGES)
    assert rows[1].max_abs is not None
    assert rows[1].max_abs > 0
    assert rows[1].size_bytes == 8
    assert not rows[1].timings
    choice = choose(rows, 0.0, False)
    assert choice.verdicts["fp8"].startswith("not timed: ONNX Runtime")
    assert remarks(rows)[0].startswith("fp8: not timed: ONNX Runtime")


def scaled(name: str, factor: float, kind: str, folder: Path) -> Candidate:
    """y = kind(factor * x)."""
    graph = Graph(seed=0)
    graph.op("Mul", ["x", graph.constant("factor", factor)], "product")
    graph.op(kind, ["product"], "y")
    onnx.save(graph.model({"x": (TensorProto.FLOAT, ["n"])}, {"y": ["n"]}), folder / f"{name}.onnx")
    return Candidate(name, "fp32" if name == "fp32" else "fp16", folder / f"{name}.onnx")


def test_the_error_is_given_as_a_share_of_the_tolerance_and_the_metric_as_its_drop(tmp_path: Path) -> None:
    x = np.array([-1.0, 0.5, 100.0], np.float32)
    candidates = [
        scaled("fp32", 2.0, "Identity", tmp_path),
        scaled("worse", 1.75, "Identity", tmp_path),
        scaled("nan", 2.0, "Sqrt", tmp_path),
        scaled("shape", 2.0, "Shape", tmp_path),
    ]

    def metric(outputs: Mapping[str, Array]) -> float:
        return float(outputs["y"][-1])

    rows = race(candidates, {"x": x}, metric=metric, tolerance=lambda *_: (0.25, 0.125))
    assert rows[1].allowed_share == pytest.approx(25 / (0.25 * 200 + 0.125))
    assert rows[1].max_abs == 25.0
    assert (rows[1].metric, rows[1].drop) == (175.0, 25.0)
    assert rows[2].allowed_share == math.inf
    assert rows[2].max_abs is None
    assert rows[3].allowed_share == math.inf
    rows = race(candidates[:2], {"x": x}, tolerance=lambda precision, *_: (0.0, 10.0 if precision == "fp16" else 0.0))
    assert (rows[0].allowed_share, rows[1].allowed_share) == (0.0, 2.5)


def batch_sizes_seen(count: int, sizes: tuple[int, ...], tmp_path: Path) -> tuple[set[int], set[int]]:
    """The batches in which the outputs are computed, and those that are timed."""
    graph = Graph(seed=0)
    graph.op("Add", ["x", "x"], "y")
    onnx.save(graph.model({"x": (TensorProto.FLOAT, ["n", 2])}, {"y": ["n", 2]}), tmp_path / "add.onnx")
    ran: set[int] = set()

    class Counting(CpuRunner):
        def run(self, inputs: Mapping[str, Array], outputs: object = None) -> dict[str, Array]:
            ran.add(len(inputs["x"]))
            return super().run(inputs)

        def timed(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
            timed.add(len(inputs["x"]))
            assert all((row == rows["x"][index % count]).all() for index, row in enumerate(inputs["x"]))
            return lambda: None

    timed: set[int] = set()
    rows = {"x": np.arange(count * 2, dtype=np.float32).reshape(count, 2)}
    seen: list[int] = []

    def metric(outputs: Mapping[str, Array]) -> float:
        assert np.array_equal(outputs["y"], rows["x"] * 2)
        seen.append(len(outputs["y"]))
        return 1.0

    race(
        [Candidate("fp32", "fp32", tmp_path / "add.onnx")],
        rows,
        batch_sizes=sizes,
        metric=metric,
        runner=Counting,
        seconds=0.01,
    )
    assert set(seen) == {count}
    return ran, timed


@pytest.mark.parametrize(
    ("count", "sizes", "ran", "timed"),
    [
        (10, (1, 4, 2), {4, 2}, {1, 4}),
        (3, (1, 8), {3}, {1, 8}),
        (6, (2,), {2}, {2}),
        (5, (), {5}, {5}),
    ],
    ids=["cut", "repeated", "one size", "whole requests"],
)
def test_rows_are_batched_cut_and_repeated(
    count: int, sizes: tuple[int, ...], ran: set[int], timed: set[int], tmp_path: Path
) -> None:
    assert batch_sizes_seen(count, sizes, tmp_path) == (ran, timed)


def test_a_graph_with_half_inputs_gets_them(tmp_path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = Graph(seed=0)
    graph.op("MatMul", ["x", graph.weight("w", 4, 4)], "y")
    model = graph.model({"x": (TensorProto.FLOAT, ["n", 4])}, {"y": ["n", 4]})
    onnx.save(model, tmp_path / "fp32.onnx")
    onnx.save(convert_float_to_float16(model, keep_io_types=False), tmp_path / "fp16.onnx")
    files = [Candidate(name, name, tmp_path / f"{name}.onnx") for name in ("fp32", "fp16")]
    rows = race(files, {"x": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)})
    assert rows[1].problem == rows[1].untimed == ""
    assert 0 < rows[1].outputs["y"].max_abs < 0.01
    assert 0 < rows[1].allowed_share < 1


def test_text_is_timed_too(tmp_path: Path) -> None:
    graph = Graph(seed=0)
    graph.op("Identity", ["x"], "y")
    model = graph.model({"x": (TensorProto.STRING, ["n"])}, {"y": ["n"]})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(model, tmp_path / "text.onnx")
    words = np.array([b"one", b"two", b"drei"], dtype=object)
    rows = race([Candidate("fp32", "fp32", tmp_path / "text.onnx")], {"x": words})
    assert set(rows[0].timings) == {1, 8}
    assert rows[0].allowed_share == 0.0


def test_a_missing_output_and_a_metric_that_refuses(tmp_path: Path, small_conv: tuple[Path, Path]) -> None:
    model = conv_net((8, 16), 16)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "renamed"
    onnx.save(model, tmp_path / "renamed.onnx")

    def metric(outputs: Mapping[str, Array]) -> float:
        if "logits" not in outputs:
            raise DataError("the metric needs logits")
        return 1.0

    files = [Candidate("fp32", "fp32", small_conv[0]), Candidate("int8", "int8", tmp_path / "renamed.onnx")]
    rows = race(files, IMAGES, metric=metric)
    assert choose(rows, 0.1, True).verdicts["int8"] == "failed: the metric needs logits"
    rows = race(files, IMAGES)
    assert "output 'logits': it has no such output" in choose(rows, 0.1, False).verdicts["int8"]


def test_the_size_counts_external_data(tmp_path: Path) -> None:
    model = conv_net((8,), 8)
    onnx.save(model, tmp_path / "inside.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=0)
    inside = Candidate("a", "fp32", tmp_path / "inside.onnx").size_bytes()
    outside = Candidate("b", "fp32", tmp_path / "model.onnx").size_bytes()
    graph_alone = (tmp_path / "model.onnx").stat().st_size
    weights = (tmp_path / "weights.data").stat().st_size
    assert outside == graph_alone + weights
    assert inside is not None
    assert outside > weights > inside / 3
    assert Candidate("c", "fp32").size_bytes() is None


def test_a_bare_call_of_a_refused_input_is_a_sentence(small_conv: tuple[Path, Path]) -> None:
    with pytest.raises(ExportError, match="cannot run the model on image"):
        CpuRunner(small_conv[0], 1).timed({"image": np.zeros((1, 3, 16, 16), np.float32)})


# ---------------------------------------------------------------- timing


def sleeper(milliseconds: float) -> Callable[[], object]:
    return lambda: time.sleep(milliseconds / 1e3)


def test_calls_take_turns() -> None:
    order: list[str] = []
    calls: dict[str, Callable[[], object]] = {
        name: lambda name=name: order.append(name) or time.sleep(0.004) for name in "abc"
    }
    found = take_turns(calls, 4, seconds=0.06)
    (count,) = {len(timing.rounds_ns) for timing in found.values()}
    assert 5 <= count <= ROUNDS
    in_rounds = order[-3 * count :]
    rounds = [tuple(in_rounds[at : at + 3]) for at in range(0, len(in_rounds), 3)]
    assert {frozenset(turn) for turn in rounds} == {frozenset("abc")}, "each has its turn in every round"
    assert {turn[0] for turn in rounds} == set("abc"), "and is the first one now and then"


def test_slow_calls_end_before_all_rounds() -> None:
    started = time.perf_counter()
    found = take_turns({"slow": sleeper(30), "fast": sleeper(1)}, 1, seconds=0.05)
    assert len(found["slow"].rounds_ns) == len(found["fast"].rounds_ns) == 5
    assert time.perf_counter() - started < 3
    assert times_faster(found["fast"], found["slow"]).is_faster
    assert times_faster(found["slow"], found["fast"]).is_slower
    assert take_turns({}, 1, seconds=1.0) == {}


# ---------------------------------------------------------------- choosing


def row(
    name: str,
    precision: str,
    rounds: tuple[float, ...] | None,
    *,
    drop: float | None = None,
    failed: str = "",
    **difference: Any,
) -> Row:
    """A measured row: microseconds per round at batch 8, and how it compares."""
    candidate = Candidate(name, precision, None if failed else Path("model.onnx"), failed=failed)
    if failed:
        return Row(candidate, problem=failed, untimed=failed)
    timings = {} if rounds is None else {8: Timing(8, tuple(max(1, round(r * 1e3)) for r in rounds))}
    found = Difference(100, **difference)
    share = math.inf if found.nonfinite else 2.0 * bool(found.outside)
    metric = None if drop is None else 0.9 - drop
    untimed = "" if rounds else "no GPU"
    return Row(candidate, 1000, {"y": found}, share, metric, drop, timings, untimed=untimed)


def steady(name: str, precision: str, microseconds: float, **given: Any) -> Row:
    return row(name, precision, (microseconds,) * 9, **given)


REFERENCE = steady("fp32", "fp32", 100, drop=0.0)


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        (steady("int8", "int8", 140, drop=0.0), "1.4 times slower than fp32"),
        (steady("int8", "int8", 101, drop=0.0), "a tie goes to the higher precision"),
        (steady("int8", "int8", 99, drop=0.0), "not faster than fp32 beyond the noise (1.01 times, quartiles"),
        (row("int8", "int8", (50, 60, 150) * 3, drop=0.0), "not faster than fp32 beyond the noise"),
        (steady("int8", "int8", 50, drop=0.006), "the metric falls by 0.006, 0.005 is allowed"),
        (steady("int8", "int8", 140, drop=0.006), "0.005 is allowed; and 1.4 times slower than fp32"),
        (steady("int8", "int8", 50, drop=math.nan), "its metric is not a number"),
        (steady("int8", "int8", 50, drop=0.0, nonfinite=3), "has NaN or infinity in 3 of 100 elements, where fp32"),
        (steady("int8", "int8", 50, drop=0.0, problem="shape [1] instead of [2]"), "output 'y': shape [1] instead"),
        (row("int8", "int8", None, drop=0.0), "not timed: no GPU"),
        (row("int8", "int8", None, failed="nothing to quantize"), "failed: nothing to quantize"),
    ],
)
def test_why_a_candidate_is_not_taken(candidate: Row, sentence: str) -> None:
    choice = choose([REFERENCE, candidate], 0.005, True)
    assert choice.name == "fp32"
    assert sentence in choice.verdicts["int8"]
    assert choice.verdicts["fp32"] == "taken: the reference"


def test_without_a_metric_the_tolerance_decides() -> None:
    outside = steady("int8", "int8", 50, outside=2, max_abs=0.3)
    choice = choose([steady("fp32", "fp32", 100), outside], 0.005, False)
    assert choice.verdicts["int8"] == (
        "not accurate enough: 2 of 100 elements of 'y' are outside the tolerance, the largest error is 0.3"
    )
    assert choose([REFERENCE, steady("int8", "int8", 50, outside=2, drop=0.005)], 0.005, True).name == "int8"


def test_a_reference_whose_metric_is_no_number_or_that_was_not_timed_is_taken() -> None:
    reference, other = steady("fp32", "fp32", 100, drop=math.nan), steady("int8", "int8", 50, drop=math.nan)
    assert choose([reference, other], 0.005, True).name == "fp32"
    choice = choose([row("fp32", "fp32", None, drop=0.0), steady("int8", "int8", 50, drop=0.0)], 0.005, True)
    assert (choice.name, choice.verdicts["int8"]) == ("fp32", "nothing to compare with: fp32 was not timed")
    assert "it was not timed" in choice.why
    assert choose([row("fp32", "fp32", None)], 0.005, False).batch is None


def test_int8_has_to_be_faster_than_fp16_even_if_that_one_is_not_accurate() -> None:
    rows = [REFERENCE, steady("fp16", "fp16", 40, drop=0.5), steady("int8", "int8", 60, drop=0.0)]
    choice = choose(rows, 0.005, True)
    assert choice.name == "fp32"
    assert choice.verdicts["int8"] == "1.5 times slower than fp16"
    tie = choose([*rows[:2], steady("int8", "int8", 40, drop=0.0)], 0.005, True)
    assert tie.name == "fp32"
    assert "not faster than fp16 beyond the noise" in tie.verdicts["int8"]


def test_the_largest_batch_decides_unless_another_is_named() -> None:
    def timed(small: int, large: int) -> dict[int, Timing]:
        return {1: Timing(1, (small,) * 5), 8: Timing(8, (large,) * 5)}

    reference = Row(Candidate("fp32", "fp32", Path("a")), timings=timed(100, 100))
    other = Row(Candidate("int8", "int8", Path("b")), timings=timed(200, 50))
    assert choose([reference, other], 0.0, False).name == "int8"
    assert choose([reference, other], 0.0, False, batch=1).name == "fp32"


ORDERED = st.lists(st.sampled_from(PRECISIONS[1:]), max_size=6, unique=True)
MICROSECONDS = st.integers(10, 400)


@given(ORDERED, st.data())
def test_without_noise_the_fastest_accurate_one_is_taken(precisions: list[str], data: st.DataObject) -> None:
    times = {p: data.draw(MICROSECONDS) for p in ("fp32", *precisions)}
    drops = {p: data.draw(st.sampled_from((-0.01, 0.0, 0.005, 0.02, math.nan))) for p in precisions} | {"fp32": 0.0}
    for one in times.values():  # gains around 2 % are another test's
        assume(all(one == other or abs(math.log(one / other)) > 0.03 for other in times.values()))
    rows = [steady(p, p, t, drop=drops[p]) for p, t in times.items()]
    unquantized = min(t for p, t in times.items() if "8" not in p)
    good = [
        p for p in times
        if p == "fp32" or (drops[p] <= 0.005 and not ("8" in p and times[p] >= unquantized))
    ]  # fmt: skip
    expected = min(good, key=lambda p: (times[p], PRECISIONS.index(p)))
    choice = choose(rows, 0.005, True)
    assert choice.name == expected
    assert choose([rows[0], *reversed(rows[1:])], 0.005, True).name == expected
    assert choose([*rows, row("late", "fp8", None, failed="no")], 0.005, True).name == expected


NOISY = st.lists(st.integers(50, 200), min_size=7, max_size=7).map(tuple)


@given(ORDERED, st.data())
def test_whatever_the_noise(precisions: list[str], data: st.DataObject) -> None:
    rows = [
        row(p, p, data.draw(st.none() | NOISY), drop=data.draw(st.sampled_from((0.0, 0.005, 0.02, math.nan))),
            nonfinite=data.draw(st.sampled_from((0, 0, 0, 1))))
        for p in ("fp32", *precisions)
    ]  # fmt: skip
    choice = choose(rows, 0.005, True)
    assert set(choice.verdicts) == {r.name for r in rows}
    assert [name for name, text in choice.verdicts.items() if text.startswith("taken")] == [choice.name]
    taken = next(r for r in rows if r.name == choice.name)
    if taken is not rows[0]:
        assert taken.drop is not None
        assert taken.drop <= 0.005
        assert not taken.outputs["y"].nonfinite
        assert choice.speedups[taken.name].is_faster, "the reference wins ties"
        if taken.candidate.is_quantized:
            for other in rows:
                if not other.candidate.is_quantized and other.timings:
                    assert times_faster(taken.timings[8], other.timings[8]).median > 1
    json.dumps(to_json(rows, choice), allow_nan=False)
    assert all(len(cells) == len(columns(rows)) for cells in table(rows, choice))


# ---------------------------------------------------------------- the plot

FRAME = Box(0, 0, 690, 390)
SPOT = st.tuples(st.floats(0, 690), st.floats(0, 390))


@given(st.lists(SPOT, min_size=1, max_size=8), st.sampled_from(((180, 30), (120, 26), (215, 34))))
def test_labels_do_not_overlap(points: list[tuple[float, float]], size: tuple[float, float]) -> None:
    boxes = place(points, [size] * len(points), FRAME, radius=7)
    for index, box in enumerate(boxes):
        assert box.inside(FRAME)
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert not any(box.overlaps(Box(x - 7, y - 7, x + 7, y + 7)) for x, y in points)


def test_a_label_stays_near_its_point_and_off_the_lines() -> None:
    line = Box(0, 195, 690, 205)
    (box,) = place([(300, 200)], [(180, 30)], FRAME, radius=7, avoid=[line])
    assert not box.overlaps(line)
    assert math.dist(box.nearest(300, 200), (300, 200)) < 30
    (cramped,) = place([(5, 5)], [(80, 30)], Box(0, 0, 90, 60), radius=7, avoid=[Box(0, 0, 90, 60)])
    assert cramped.inside(Box(0, 0, 90, 60))


def eight_rows() -> list[Row]:
    return [
        REFERENCE,
        steady("fp16", "fp16", 121, drop=0.0, max_abs=0.003),
        steady("bf16", "bf16", 137, drop=0.0019, max_abs=0.03),
        steady("int8", "int8", 52, drop=0.0019, max_abs=0.21),
        steady("int8+fp16", "int8+fp16", 54, drop=0.0022, max_abs=0.22),
        steady("fp8", "fp8", 900, drop=-0.001, max_abs=0.4),
        steady("$int8_{m}", "int8", 66, drop=0.0056, max_abs=0.25),
        steady("nan", "int8", 53, drop=math.nan, nonfinite=2),
        row("fp8+fp16", "fp8+fp16", None, failed="the library refuses it & says <why>, " * 20),
    ]


def test_eight_labels_in_the_figure_do_not_overlap() -> None:
    rows = eight_rows()
    figure = draw(rows, choose(rows, 0.005, True), "digits")
    axes = figure.axes[0]
    boxes = {t.get_text(): _box(t, axes) for t in axes.texts}
    assert len(boxes) == 9, "eight candidates and the budget"
    assert sum("(taken)" in text for text in boxes) == 1
    texts = list(boxes)
    for index, text in enumerate(texts):
        for other in texts[:index]:
            assert not boxes[text].overlaps(boxes[other]), (text, other)
    assert all(t.get_window_extent().x1 < figure.bbox.width for t in figure.texts), "long sentences are cut"
    assert axes.get_xscale() == "log"


def test_the_svg_says_what_was_measured_and_reruns_give_the_same_bytes() -> None:
    rows = eight_rows()
    choice = choose(rows, 0.005, True)
    svg = plot_svg(rows, choice, "digits")
    ids = {element.get("id") for element in ElementTree.fromstring(svg).iter()}
    assert {"budget", *(f"label-{r.name}" for r in rows[:-1])} <= ids
    assert "label-fp8+fp16" not in ids
    assert b"dc:date" not in svg
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_race as t;"
        "rows = t.eight_rows(); sys.stdout.buffer.write(t.plot_svg(rows, t.choose(rows, 0.005, True), 'digits'))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=Path(__file__).parents[1])
    assert again.stdout == svg


@pytest.mark.parametrize("max_drop", [0.0, 0.005])
@pytest.mark.parametrize("with_metric", [True, False])
def test_nothing_to_draw_and_nothing_between(max_drop: float, with_metric: bool) -> None:
    for rows in (
        [REFERENCE],
        [row("fp32", "fp32", None, drop=0.0)],
        [REFERENCE, steady("int8", "int8", 100, drop=0.0)],
    ):
        choice = choose(rows, max_drop, with_metric)
        assert plot_svg(rows, choice, "m" * 200).startswith(b"<?xml")
        labels = draw(rows, choice, "m").axes
        assert bool(labels) == bool(rows[0].timings)


def test_the_plot_without_a_metric_shows_shares_of_the_tolerance() -> None:
    rows = [steady("fp32", "fp32", 100), steady("int8", "int8", 50, outside=1, max_abs=0.5)]
    choice: Choice = choose(rows, 0.005, False)
    axes = draw(rows, choice, "digits").axes[0]
    assert "tolerance" in axes.get_ylabel()
    assert any("int8 (outside)" in text.get_text() for text in axes.texts)
    assert axes.get_xlim()[0] == 0.0
