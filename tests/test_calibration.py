# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Ranges of tensors: against numpy, against ONNX Runtime's calibrators, and what bad data say."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from precision_models import Graph, conv_net, encoder
from trtkit.errors import DataError
from trtkit.export.quiet import quiet
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision import observed
from trtkit.precision.calibration import Ranges, TensorRange, calibrate, tensors_to_calibrate
from trtkit.precision.histogram import Histogram

RNG = np.random.default_rng(7)
IMAGES = RNG.normal(0.2, 1, (48, 1, 8, 8)).astype(np.float32)
FINITE = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def small_net() -> onnx.ModelProto:
    return conv_net((4, 6), 8)


def ranges_of(model: onnx.ModelProto, folder: Path, rows: Any, **changed: Any) -> Ranges:
    file = folder / "model.onnx"
    onnx.save(model, file)
    options = {"method": "minmax", "percentile": 99.9, "batch_rows": 16, "where": "trtkit.yaml:3:5", **changed}
    return calibrate(file, rows, options.pop("tensors", None) or tensors_to_calibrate(model), **options)


# --- histograms ---------------------------------------------------------------------------------------------------


def naive_divergences(counts: Array, levels: int) -> list[float]:
    """Migacz's search as it is published, bin by bin."""
    found = []
    for size in range(levels, len(counts) + 1):
        p, q = counts[:size].astype(float), np.zeros(size)
        p[-1] += counts[size:].sum()
        level = np.arange(size) * levels // size
        for one in range(levels):
            inside = (level == one) & (p > 0)
            if inside.any():
                q[inside] = counts[:size][level == one].sum() / inside.sum()
        q[(p > 0) & (q == 0)] = 1e-4
        if not counts[:size].sum():
            found.append(np.inf)
            continue
        p, q = p / p.sum(), q / counts[:size].sum()
        some = p > 0
        found.append(float((p[some] * np.log(p[some] / q[some])).sum()))
    return found


@given(counts=hnp.arrays(np.int64, st.integers(4, 40), elements=st.integers(0, 50)), levels=st.integers(2, 8))
def test_divergences_are_those_of_the_published_search(counts: Array, levels: int) -> None:
    levels = min(levels, len(counts))
    counts[-1] += 1  # the largest magnitude was seen
    histogram = Histogram(1.0, len(counts))
    histogram.counts = counts
    assert histogram.divergences(levels) == pytest.approx(naive_divergences(counts, levels), abs=1e-9)


@given(values=hnp.arrays(np.float32, st.integers(1, 300), elements=FINITE), percent=st.floats(50.1, 100))
def test_a_percentile_keeps_the_share_and_no_bin_more(values: Array, percent: float) -> None:
    magnitudes = np.abs(values.astype(np.float64))
    if not magnitudes.max():
        return
    histogram = Histogram(float(magnitudes.max()))
    for part in np.array_split(values, 3):
        histogram.add(part)
    assert histogram.total == values.size
    assert histogram.zeros == (values == 0).sum()
    threshold, width = histogram.percentile(percent), histogram.largest / 2048
    assert (magnitudes <= threshold * (1 + 1e-9)).mean() >= percent / 100 - 1e-12
    below = threshold - width * (1 + 1e-6)
    assert below <= 0 or (magnitudes < below).mean() < percent / 100
    assert histogram.clipped(threshold) == pytest.approx((magnitudes > threshold).mean(), abs=2 / 2048 + 1e-9)


def test_entropy_clips_a_long_tail_and_keeps_a_flat_one() -> None:
    tail = np.concatenate([RNG.normal(0, 1, 200_000), [100.0]])
    flat = RNG.uniform(-1, 1, 200_000)
    thresholds = []
    for values in (tail, flat):
        histogram = Histogram(float(np.abs(values).max()))
        histogram.add(values)
        thresholds.append(histogram.entropy())
    assert 3 < thresholds[0] < 20
    assert thresholds[1] > 0.95


def test_zeros_do_not_draw_the_entropy_threshold_down() -> None:
    values = np.abs(RNG.normal(0, 1, 50_000))
    plain, relu = Histogram(float(values.max())), Histogram(float(values.max()))
    plain.add(values)
    relu.add(np.concatenate([values, np.zeros(500_000)]))
    assert plain.entropy() == relu.entropy()


# --- calibration --------------------------------------------------------------------------------------------------


def test_minmax_is_what_numpy_finds(tmp_path: Path) -> None:
    model = small_net()
    ranges = ranges_of(model, tmp_path, {"image": IMAGES}, batch_rows=7)
    inner = [name for name in ranges.ranges if name != "image"]
    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    everything.graph.output.extend([helper.make_empty_tensor_value_info(n) for n in inner if n != "logits"])
    values = Session(everything.SerializeToString()).run({"image": IMAGES}) | {"image": IMAGES}
    for name, found in ranges.ranges.items():
        assert (found.low, found.high) == pytest.approx((values[name].min(), values[name].max()), rel=1e-5, abs=1e-6)
    assert {"image", "pool0", "conv1", "features", "logits"} <= set(ranges.ranges)
    assert ranges.samples == ranges.coverage["samples"] == 48
    assert ranges.coverage["shapes"] == {"image": [[7, 1, 8, 8], [6, 1, 8, 8]]}


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_reruns_are_byte_identical_and_come_back_from_json(tmp_path: Path, method: str) -> None:
    texts = {json.dumps(ranges_of(small_net(), tmp_path, {"image": IMAGES}, method=method).to_json()) for _ in range(2)}
    assert len(texts) == 1
    read = Ranges.from_json(json.loads(texts.pop()))
    assert read == ranges_of(small_net(), tmp_path, {"image": IMAGES}, method=method)
    assert read.method == method


def ort_ranges(
    file: Path, kind: str, operators: Sequence[str] = ("Conv", "Gemm"), **options: Any
) -> dict[str, tuple[float, float]]:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"image": IMAGES[i : i + 16]} for i in range(0, 48, 16)]

        def get_next(self) -> Any:
            return self.left.pop(0) if self.left else None

    with quiet():
        calibrator = quantization.create_calibrator(
            file, list(operators), augmented_model_path=str(file.parent / "augmented.onnx"),
            calibrate_method=quantization.CalibrationMethod[kind], extra_options=options,
        )  # fmt: skip
        calibrator.collect_data(Reader())
        data = calibrator.compute_data()
    return {name: tuple(float(np.asarray(v).ravel()[0]) for v in found.range_value) for name, found in data.items()}


def test_minmax_equals_onnxruntimes(tmp_path: Path) -> None:
    ours = ranges_of(small_net(), tmp_path, {"image": IMAGES}).ranges
    theirs = ort_ranges(tmp_path / "model.onnx", "MinMax", symmetric=False)
    assert len(theirs) >= 6
    for name, pair in theirs.items():
        assert (ours[name].low, ours[name].high) == pytest.approx(pair, rel=1e-5, abs=1e-6)


def test_percentile_is_near_onnxruntimes(tmp_path: Path) -> None:
    ours = ranges_of(small_net(), tmp_path, {"image": IMAGES}, method="percentile", percentile=99.0).ranges
    theirs = ort_ranges(tmp_path / "model.onnx", "Percentile", symmetric=True, percentile=99.0, num_bins=2048)
    for name, (_, high) in theirs.items():
        assert ours[name].largest == pytest.approx(high, rel=0.02), name


def test_entropy_is_near_onnxruntimes_with_as_many_bins(tmp_path: Path) -> None:
    """Near only: ONNX Runtime's bins and levels cover both signs, and it counts zeros."""
    ours = ranges_of(small_net(), tmp_path, {"image": IMAGES}, method="entropy").ranges
    everything = Ranges.from_json(ranges_of(small_net(), tmp_path, {"image": IMAGES}).to_json()).ranges
    theirs = ort_ranges(tmp_path / "model.onnx", "Entropy", ["Gemm"], num_bins=2048, num_quantized_bins=128)
    assert set(theirs) == {"features", "logits"}
    for name, pair in theirs.items():
        assert ours[name].largest == pytest.approx(max(map(abs, pair)), rel=0.1)
    assert ours["image"].largest < everything["image"].largest, "it is no no-op"


def test_a_range_is_clipped_on_both_sides_and_says_how_much(tmp_path: Path) -> None:
    rows = {"image": np.clip(IMAGES, -1, None)}
    rows["image"][0, 0, 0, 0] = 50
    ranges = ranges_of(small_net(), tmp_path, rows, method="percentile", percentile=99.0)
    found = ranges.coverage["tensors"]["image"]
    assert (found["low"], found["high"]) == (-1, 50)
    assert ranges.ranges["image"].low == -1
    assert ranges.ranges["image"].high < 4
    assert 0 < found["clipped"] <= 0.011


def test_requests_may_be_fed_one_by_one(tmp_path: Path) -> None:
    model = encoder(1, 16, 2, 20)
    whole = [{"input_ids": RNG.integers(0, 20, (2, n)), "attention_mask": np.ones((2, n), np.int64)} for n in (3, 9)]
    ranges = ranges_of(model, tmp_path, whole)
    assert ranges.samples == 2
    assert ranges.coverage["shapes"]["input_ids"] == [[2, 3], [2, 9]]
    assert ranges.ranges["layer0_shares"].high <= 1


def test_a_fixed_batch_is_fed_whole(tmp_path: Path) -> None:
    model = small_net()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 20
    ranges = ranges_of(model, tmp_path, {"image": IMAGES})
    assert ranges.samples == 40
    with pytest.raises(DataError, match="the graph takes 20 samples at once; 19 were given"):
        ranges_of(model, tmp_path, {"image": IMAGES[:19]})


def test_memory_is_bounded_whatever_the_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ranges_of(small_net(), tmp_path, {"image": IMAGES}, method="percentile")
    largest: list[int] = []
    run = Session.run

    def watched(self: Session, inputs: Mapping[str, Array], outputs: Any = None) -> dict[str, Array]:
        answers = run(self, inputs, outputs)
        largest.append(sum(array.nbytes for array in answers.values()) if len(answers) > 1 else 0)
        return answers

    monkeypatch.setattr(observed, "_BUDGET_BYTES", 20_000)
    monkeypatch.setattr(Session, "run", watched)
    assert ranges_of(small_net(), tmp_path, {"image": IMAGES}, method="percentile") == whole
    known = largest[len(largest) // 2 :]  # the second pass knows every size
    assert any(known)
    assert max(known) <= 20_000


def test_external_data_are_found_and_the_models_folder_stays_as_it_is(tmp_path: Path) -> None:
    plain = ranges_of(small_net(), tmp_path, {"image": IMAGES})
    folder = tmp_path / "external"
    folder.mkdir()
    model = small_net()
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, folder / "model.onnx")
    names = tensors_to_calibrate(onnx.load(folder / "model.onnx", load_external_data=False))
    again = calibrate(
        folder / "model.onnx", {"image": IMAGES}, names, method="minmax", percentile=99, batch_rows=16, where="w"
    )
    assert again.ranges == plain.ranges
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "weights.bin"]


def dead_and_hot() -> onnx.ModelProto:
    """x FP32 [batch, 4] -> y: one MatMul of what is always 0, one of log(x)."""
    graph = Graph(seed=4)
    graph.op("Mul", ["x", graph.constant("zero", 0.0)], "nothing")
    graph.op("MatMul", ["nothing", graph.weight("w1", 4, 4)], "first")
    graph.op("Log", ["x"], "logged")
    graph.op("MatMul", ["logged", graph.weight("w2", 4, 4)], "second")
    graph.op("Add", ["first", "second"], "y")
    return graph.model({"x": (TensorProto.FLOAT, ["batch", 4])}, {"y": ["batch", 4]})


def test_dead_tensors_are_noted(tmp_path: Path) -> None:
    ranges = ranges_of(dead_and_hot(), tmp_path, {"x": RNG.uniform(1, 2, (8, 4)).astype("f")}, method="entropy")
    assert ranges.coverage["dead"] == ["nothing", "first"]
    assert ranges.ranges["nothing"] == TensorRange(0.0, 0.0)
    assert ranges.coverage["tensors"]["first"]["dead"] is True


X = RNG.uniform(1, 2, (8, 4)).astype("f")


def with_value(value: float) -> Array:
    changed = X.copy()
    changed[5, 2] = value
    return changed


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({}, r"no calibration data for input x FP32 \[batch, 4\]; given: none"),
        ({"X": X}, r"data for 'X', which is no input of the model; .*available: x"),
        ({"x": X[:, :3]}, r"data for input x FP32 \[batch, 4\] have the shape \[8, 3\]"),
        ({"x": X.astype(str)}, r"data for input x .* are text; FP32 is needed"),
        ({"x": X[:1]}, "1 calibration sample; at least 2 are needed"),
        ([{"x": X}], "1 calibration sample; at least 2 are needed"),
        ([], "0 calibration samples; at least 2 are needed"),
        ({"x": X[:0]}, "0 calibration samples; at least 2 are needed"),
        ({"x": np.repeat(X[:1], 8, 0)}, "all calibration samples are the same"),
        ([{"x": X}, {"x": X}], "all calibration samples are the same"),
        ({"x": with_value(np.nan)}, r"hold NaN or infinite values, 1 of 32, the first at \[5, 2\]"),
        ({"x": with_value(np.inf)}, r"hold NaN or infinite values, 1 of 32"),
        ({"x": with_value(-1)}, r"tensor 'logged', made by Log 'node_logged', is not finite .*on samples 4 to 7"),
    ],
)
def test_what_bad_data_say(tmp_path: Path, rows: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=f"^trtkit.yaml:3:5.*{sentence}"):
        ranges_of(dead_and_hot(), tmp_path, rows, batch_rows=4)


def test_a_constant_input_is_refused_where_it_is_quantized(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the calibration data for input 'image' are 3 throughout"):
        ranges_of(small_net(), tmp_path, {"image": np.full((8, 1, 8, 8), 3, np.float32)})
    rows = {"input_ids": RNG.integers(0, 20, (4, 5)), "attention_mask": np.ones((4, 5), np.int64)}
    assert ranges_of(encoder(1, 16, 2, 20), tmp_path, rows).samples == 4, "a mask may be constant"


def test_a_model_that_cannot_take_the_data(tmp_path: Path) -> None:
    rows = {"input_ids": np.array([[1, 99], [2, 3]]), "attention_mask": np.ones((2, 2), np.int64)}
    with pytest.raises(DataError, match="the model cannot take samples 0 to 1: ONNX Runtime cannot run"):
        ranges_of(encoder(1, 16, 2, 20), tmp_path, rows)


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the graph has no tensor 'missing' to calibrate"):
        ranges_of(small_net(), tmp_path, {"image": IMAGES}, tensors=["missing"])


@pytest.mark.parametrize(
    "value", [None, [], {}, {"ranges": {"x": [1]}}, {"ranges": {"x": [2, 1]}, "method": "minmax", "percentile": 1.0,
    "samples": 2, "coverage": {}}, {"ranges": {"x": [0, float("nan")]}, "method": "m", "percentile": 1, "samples": 2,
    "coverage": {}}],
)  # fmt: skip
def test_what_is_no_calibration_cache(value: Any) -> None:
    with pytest.raises(DataError, match="this is no calibration cache of trtkit"):
        Ranges.from_json(value)


def test_which_tensors_are_calibrated() -> None:
    names = tensors_to_calibrate(encoder(1, 16, 2, 20))
    assert {"norm", "layer0_query_heads", "layer0_key_heads", "layer0_shares", "layer0_down_product"} <= set(names)
    assert not {"layer0_masked", "input_ids", "layer0_query.weight", "layer0_sum"} & set(names)
    assert len(set(names)) == len(names)
    net = tensors_to_calibrate(small_net())
    assert {"image", "relu0", "pool1", "pooled", "features", "logits"} <= set(net)
    assert "conv0.weight" not in net


@settings(max_examples=20)
@given(rows=hnp.arrays(np.float32, st.tuples(st.integers(2, 6), st.just(3)), elements=FINITE))
def test_ranges_of_any_data(rows: Array) -> None:
    """One MatMul with the identity: input and output have the rows' own extremes."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        if (rows == rows[:1]).all():
            with pytest.raises(DataError, match="throughout|are the same"):
                ranges_of(model, Path(folder), {"x": rows}, batch_rows=2)
            return
        exact = ranges_of(model, Path(folder), {"x": rows}, batch_rows=2)
        assert exact.ranges["x"] == TensorRange(float(rows.min()), float(rows.max()))
        for method in ("percentile", "entropy"):
            found = ranges_of(model, Path(folder), {"x": rows}, batch_rows=2, method=method).ranges["y"]
            assert exact.ranges["y"].low <= found.low <= found.high <= exact.ranges["y"].high
