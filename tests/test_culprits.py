# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The nodes that keep a half-precision graph from its tolerance are found, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, parser

from precision_models import Graph, conv_net, encoder, overflows_in_fp16
from trtkit.build import build_models
from trtkit.engine import ShapeRange, build_engine
from trtkit.errors import BuildError, ConfigError, ExportError
from trtkit.export.runtime import Session
from trtkit.numerics import difference
from trtkit.precision import culprits as module
from trtkit.precision.culprits import find_culprits, nodes_to_keep, overflowing_nodes
from trtkit.precision.emulate import cpu_runnable
from trtkit.project import load_project

FLOAT = TensorProto.FLOAT


def within(reference: Mapping[str, Any], outputs: Mapping[str, Any]) -> bool:
    return all(difference(reference[name], outputs[name], 1e-2, 1e-2).passed for name in reference)


def never(reference: Mapping[str, Any], outputs: Mapping[str, Any]) -> bool:
    return False


def normal(*shape: int, mean: float = 0.0) -> Any:
    return np.random.default_rng(0).normal(mean, 1, shape).astype(np.float32)


def is_inside(model: ModelProto, result: ModelProto, rows: Mapping[str, Any]) -> bool:
    expected = Session(model.SerializeToString()).run(rows)
    return within(expected, Session(cpu_runnable(result).SerializeToString()).run(rows))


def test_what_overflows_is_named_with_what_has_to_be_beside_it(tmp_path: Path) -> None:
    model, rows = overflows_in_fp16(), {"x": normal(40, 16, mean=1000)}
    found = find_culprits(model, "FP16", rows, within)
    largest = float((rows["x"] ** 2).max())
    mean = float((rows["x"] ** 2).mean(axis=1).max())
    assert found.nodes == {
        "node_squares": f"its output reaches {largest:.3g}, FP16 holds up to 65504",
        "node_mean_square": f"its output reaches {mean:.3g}, FP16 holds up to 65504",
        "node_root": f"it reads 'mean_square', which reaches {mean:.3g}, FP16 holds up to 65504",
    }
    assert (found.passed, found.minimal, found.trials, found.converted) == (True, True, 2, 3)
    assert set(found.result.kept) == set(found.nodes)
    assert is_inside(model, found.result.model, rows)
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    onnx.save(found.result.model, tmp_path / "kept.onnx")
    plan: Any = build_engine(trt, tmp_path / "kept.onnx", [{"x": ShapeRange((1, 16), (4, 16), (8, 16))}])
    assert getattr(plan, "plan", plan)


def test_small_inputs_and_bf16_need_nothing() -> None:
    for dtype, mean in (("FP16", 1), ("BF16", 1000)):
        found = find_culprits(overflows_in_fp16(), dtype, {"x": normal(8, 16, mean=mean)}, within)
        assert (found.nodes, found.trials, found.passed, found.converted) == ({}, 1, True, 6), dtype


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_an_encoder_needs_nothing(dtype: str) -> None:
    mask = np.array([[1] * 12, [1] * 7 + [0] * 5])
    rows = {"input_ids": np.random.default_rng(0).integers(0, 100, (2, 12)), "attention_mask": mask}
    wide = within if dtype == "FP16" else lambda a, b: difference(a["embedding"], b["embedding"], 5e-2, 5e-2).passed
    model = encoder(2, 64, 4, 100)
    found = find_culprits(model, dtype, rows, wide)
    assert found.nodes == {}
    assert found.converted == len(model.graph.node)


def offset_net(layers: int = 12) -> ModelProto:
    """x [batch, 16] -> y: 3000 is added and subtracted again, which leaves FP16 no digits, then dense layers."""
    graph = Graph(seed=5)
    x = graph.op("Tanh", [graph.dense("x", "first", 16, 16)], "before")
    shifted = graph.op("Add", [x, graph.constant("offset", 3000.0)], "shifted")
    moved = graph.op("Reshape", [shifted, graph.constant("shape", [-1, 16], np.int64)], "moved")
    x = graph.op("Sub", [moved, "offset"], "back")
    for index in range(layers):
        x = graph.op("Tanh", [graph.dense(x, f"dense{index}", 16, 16)], f"act{index}")
    graph.op("Mul", [x, graph.constant("two", 2.0)], "y")
    return graph.model({"x": (FLOAT, ["batch", 16])}, {"y": ["batch", 16]})


def test_lost_digits_are_found_by_bisection() -> None:
    model, rows = offset_net(), {"x": normal(20, 16)}
    found = find_culprits(model, "FP16", rows, within)
    assert found.nodes == {"node_shifted": "found by bisection", "node_back": "found by bisection"}
    assert set(found.result.kept) == {"node_shifted", "node_moved", "node_back"}  # the Reshape between them follows
    assert found.passed
    assert found.minimal
    assert found.trials <= 16
    assert is_inside(model, found.result.model, rows)


def both_net() -> ModelProto:
    """An overflow and lost digits, one after the other."""
    graph = Graph(seed=6)
    graph.op("Mul", ["x", graph.constant("thousand", 1000.0)], "large")
    graph.op("Mul", ["large", "thousand"], "huge")
    graph.op("Div", ["huge", "thousand"], "smaller")
    graph.op("Div", ["smaller", "thousand"], "small")
    graph.op("Add", ["small", graph.constant("offset", 3000.0)], "shifted")
    graph.op("Sub", ["shifted", "offset"], "back")
    graph.op("Tanh", [graph.dense("back", "last", 16, 16)], "y")
    return graph.model({"x": (FLOAT, ["batch", 16])}, {"y": ["batch", 16]})


def test_an_overflow_and_lost_digits() -> None:
    model, rows = both_net(), {"x": normal(20, 16)}
    found = find_culprits(model, "FP16", rows, within)
    assert set(found.nodes) == {"node_huge", "node_smaller", "node_shifted", "node_back"}
    assert found.nodes["node_smaller"].startswith("it reads 'huge', which reaches")
    assert found.nodes["node_back"] == "found by bisection"
    assert found.passed
    assert is_inside(model, found.result.model, rows)


def test_an_overflow_that_does_no_harm_is_not_kept() -> None:
    """Infinity is as good as 1e5 for a Tanh; only the digits that get lost are guilty."""
    graph = Graph(seed=6)
    graph.op("Mul", ["x", graph.constant("ten_thousand", 10000.0)], "large")
    graph.op("Tanh", ["large"], "sign")
    graph.op("Add", ["x", graph.constant("offset", 3000.0)], "shifted")
    graph.op("Sub", ["shifted", "offset"], "back")
    graph.op("Mul", ["back", "sign"], "y")
    model = graph.model({"x": (FLOAT, ["batch", 16])}, {"y": ["batch", 16]})
    rows = {"x": np.sign(normal(20, 16)) * (np.abs(normal(20, 16)) + 10)}
    assert set(overflowing_nodes(model, "FP16", rows).reasons) == {"node_large", "node_sign"}
    found = find_culprits(model, "FP16", rows, within)
    assert found.nodes == dict.fromkeys(["node_shifted", "node_back"], "found by bisection")
    assert (found.passed, found.minimal) == (True, True)


def test_kept_nodes_stay_and_half_inputs_are_fed() -> None:
    found = find_culprits(offset_net(2), "FP16", {"x": normal(5, 16)}, within, keep_nodes=["node_shifted", "node_back"])
    assert found.nodes == {}
    assert set(found.result.kept) == {"node_shifted", "node_moved", "node_back"}
    found = find_culprits(conv_net((4,), 8), "FP16", {"image": normal(2, 1, 8, 8)}, within, keep_io_types=False)
    assert found.passed
    assert found.result.model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def test_when_even_fp32_fails_it_is_said() -> None:
    found = find_culprits(conv_net((4, 8), 8), "FP16", {"image": normal(2, 1, 8, 8)}, never)
    assert (found.nodes, found.passed, found.trials) == ({}, False, 2)
    assert found.converted == len(conv_net((4, 8)).graph.node)


def test_when_the_trials_run_out_the_smallest_set_that_passed_is_kept() -> None:
    model, rows = offset_net(), {"x": normal(20, 16)}
    found = find_culprits(model, "FP16", rows, within, trials=5)
    assert found.passed
    assert not found.minimal
    assert found.trials == 5
    assert {"node_shifted", "node_back"} < set(found.nodes)
    assert is_inside(model, found.result.model, rows)
    found = find_culprits(model, "FP16", rows, within, trials=1)
    assert (found.passed, found.trials, found.nodes) == (False, 1, {})


def test_a_name_to_keep_that_matches_nothing() -> None:
    with pytest.raises(ConfigError, match="no node 'node_sqares'; did you mean 'node_squares'"):
        find_culprits(overflows_in_fp16(), "FP16", {"x": normal(2, 16)}, within, keep_nodes=["node_sqares"])


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot run the model on x\[2, 15\]"):
        find_culprits(overflows_in_fp16(), "FP16", {"x": normal(2, 15)}, within)


# the direct search


def test_every_row_and_value_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, int]] = []
    run = Session.run

    def watched(self: Session, rows: Any, outputs: Any = None) -> Any:
        runs.append((len(rows["x"]), len(outputs)))
        return run(self, rows, outputs)

    monkeypatch.setattr(Session, "run", watched)
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 4)
    rows = {"x": np.ones((21, 16), np.float32)}
    rows["x"][20] = 1000  # in the last row only
    found = overflowing_nodes(overflows_in_fp16(), "FP16", rows, rows_at_once=8)
    assert set(found.reasons) == {"node_squares", "node_mean_square", "node_root"}
    assert runs == [(8, 4), (8, 2), (8, 4), (8, 2), (5, 4), (5, 2)]


def test_infinities_and_inputs_that_overflow() -> None:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17]> g (float[N,4] x, float[N,4] z) => (float[N,4] y) '
        "{ [e] e = Log(z) [a] y = Add(x, e) }"
    )
    rows = {"x": np.full((2, 4), 1e5, np.float32), "z": np.zeros((2, 4), np.float32)}
    found = overflowing_nodes(model, "FP16", rows)
    # minus infinity, which both e and a give, is no overflow
    assert found.reasons == {"a": "it reads 'x', which reaches 1e+05, FP16 holds up to 65504"}


def test_a_fixed_batch_is_run_as_a_whole() -> None:
    model = overflows_in_fp16()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 12
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 12
    found = overflowing_nodes(model, "FP16", {"x": normal(12, 16, mean=1000)}, rows_at_once=5)
    assert len(found.reasons) == 3
    assert found.groups == [frozenset(found.reasons)]


# the search


@given(st.data())
def test_the_set_found_is_the_guilty_one(data: st.DataObject) -> None:
    names = [f"n{index}" for index in range(data.draw(st.integers(1, 40)))]
    guilty = frozenset(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=5)))
    at_first = frozenset(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=3)))
    tried: list[frozenset[str]] = []

    def fails(kept: frozenset[str]) -> bool:
        tried.append(kept)
        assert at_first <= kept
        return not guilty <= kept

    found = nodes_to_keep(names, fails, at_first=at_first, trials=1000)
    assert found.nodes == [name for name in names if name in guilty - at_first]
    assert (found.passes, found.minimal, found.trials) == (True, True, len(tried))
    assert len(tried) == len(set(tried)), "nothing is tried twice"
    count = max(1, len(found.nodes))
    assert found.trials <= 2 + 2 * count * (np.log2(len(names) / count) + 2)


@given(st.data())
def test_with_any_budget_what_is_found_passed(data: st.DataObject) -> None:
    names = [f"n{index}" for index in range(data.draw(st.integers(1, 30)))]
    ways = data.draw(st.lists(st.frozensets(st.sampled_from(names), min_size=1, max_size=4), min_size=1, max_size=3))
    budget = data.draw(st.integers(0, 12))
    passed: list[frozenset[str]] = []

    def fails(kept: frozenset[str]) -> bool:
        good = any(way <= kept for way in ways)
        if good:
            passed.append(kept)
        return not good

    found = nodes_to_keep(names, fails, trials=budget)
    assert found.trials <= budget
    assert found.passes == bool(passed)
    if found.passes:
        assert frozenset(found.nodes) in passed
        assert len(found.nodes) == min(map(len, passed))
    if found.minimal:
        for name in found.nodes:
            assert not any(way <= frozenset(found.nodes) - {name} for way in ways)


def test_nothing_helps() -> None:
    found = nodes_to_keep(["a", "b"], lambda kept: True)
    assert (found.nodes, found.passes, found.trials) == ([], False, 2)
    assert not nodes_to_keep([], lambda kept: True).passes


def test_a_border_in_bf16_is_refused_with_the_key_that_asks_for_it(tmp_path: Path) -> None:
    onnx.save(conv_net((4,), 8), tmp_path / "m.onnx")
    (tmp_path / "trtkit.yaml").write_text(
        "targets:\n  gpu: {backend: tensorrt, image: 'nvcr.io/nvidia/tritonserver:25.11-py3', "
        "compute_capability: '8.9', fallback: onnxruntime}\nmodels:\n  m:\n    source: {onnx: m.onnx}\n"
        "    precision: bf16\n    keep: {io_types: false}\n"
    )
    _, error = build_models(load_project(tmp_path / "trtkit.yaml"), target="gpu")
    assert isinstance(error, BuildError)
    assert str(error).startswith("trtkit.yaml:7:12: 'image' would be BF16, which ONNX Runtime's Python API cannot pass")


def test_values_outside_the_tolerance_that_no_metric_judges_are_said(tmp_path: Path) -> None:
    """Indices of a TopK among scores that INT8 cannot tell apart."""
    graph = Graph(seed=3)
    scores = graph.op("MatMul", ["x", graph.constant("w", np.full((8, 64), 0.5) + normal(8, 64) * 1e-3)], "scores")
    graph.op("ArgMax", [scores], "y", axis=1, keepdims=0)
    model = graph.model({"x": (FLOAT, ["batch", 8])}, {"y": ["batch"]})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "rows.npz", x=normal(32, 8))
    block = "models:\n  m:\n    source: {onnx: m.onnx}\n    precision: int8\n    calibration: {data: rows.npz}\n"
    (tmp_path / "trtkit.yaml").write_text(block + "    evaluate: {data: rows.npz}\n")
    results, error = build_models(load_project(tmp_path / "trtkit.yaml"))
    assert error is None
    (note,) = [note for note in results[0].notes if "outside the tolerance" in note]
    assert " of 32 values of output 'y' are outside the tolerance on rows.npz, and no metric decides" in note
