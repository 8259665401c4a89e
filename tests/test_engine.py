# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines are really built, by TensorRT-RTX, which needs no GPU for it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_models import matmul_dynamic_batch
from trtkit.engine import ShapeRange, build_engine, plan_info, profile_problems
from trtkit.errors import BuildError

trt: Any = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")


RANGE = ShapeRange((1, 64), (8, 64), (32, 64))


@pytest.fixture
def matmul(tmp_path: Path) -> Path:
    """A graph with one input, x FP32 [batch, 64]-like, and a dynamic batch."""
    file = tmp_path / "matmul.onnx"
    onnx.save(matmul_dynamic_batch(), file)
    return file


def shapes(matmul: Path) -> tuple[str, ShapeRange]:
    value = onnx.load(matmul).graph.input[0]
    rest = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
    return value.name, ShapeRange((1, *rest), (8, *rest), (32, *rest))


def test_a_plan_is_built_and_says_what_it_is(matmul: Path) -> None:
    name, given_shapes = shapes(matmul)
    info = plan_info(build_engine(trt, matmul, [{name: given_shapes}]))
    assert info == {"flavour": "tensorrt_rtx", "version": trt.__version__}


def test_a_dynamic_input_needs_a_profile(matmul: Path) -> None:
    with pytest.raises(BuildError, match=r"matmul.onnx: a profile is needed: \w+\[-1"):
        build_engine(trt, matmul)


def test_a_graph_the_parser_refuses_names_its_node(tmp_path: Path) -> None:
    model = matmul_dynamic_batch()
    model.graph.node[0].op_type = "NoSuchOperator"
    model.graph.node[0].name = "the_guilty_one"
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BuildError, match="cannot parse .*the_guilty_one"):
        build_engine(trt, tmp_path / "bad.onnx")


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 100)
    with pytest.raises(BuildError, match="cannot parse"):
        build_engine(trt, tmp_path / "junk.onnx")


INPUTS = {"x": (-1, 64), "fixed": (3,)}


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ({}, "profile 0 has no shapes for input 'x' [-1, 64]"),
        ({"x": RANGE, "y": RANGE}, "profile 0: 'y' is no input; available: fixed, x"),
        ({"x": ShapeRange((1,), (8,), (32,))}, "min of 'x' is [1], the input has 2 dimensions: [-1, 64]"),
        ({"x": ShapeRange((0, 64), (8, 64), (32, 64))}, "min of 'x' is [0, 64]; every size has to be at least 1"),
        ({"x": ShapeRange((1, 64), (8, 64), (32, 65))}, "max of 'x' is [32, 65], the input is fixed to [-1, 64]"),
        ({"x": ShapeRange((9, 64), (8, 64), (32, 64))}, "'x' needs min <= opt <= max"),
    ],
)
def test_what_is_wrong_with_a_profile(profile: dict[str, ShapeRange], problem: str) -> None:
    assert problem in " ".join(profile_problems(INPUTS, [profile]))


def test_a_good_profile_has_no_problem() -> None:
    assert list(profile_problems(INPUTS, [{"x": RANGE}])) == []


@given(st.binary(max_size=80))
def test_no_bytes_break_plan_info(data: bytes) -> None:
    known = len(data) >= 28 and data[:8] in (b"ftrt" + bytes(4), b"vtrt" + bytes(4))
    with nullcontext() if known else pytest.raises(BuildError, match="not a TensorRT plan"):
        assert plan_info(data)["version"] == ".".join(map(str, data[24:28]))


def test_a_tensorrt_plan_s_version() -> None:
    header = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(36)
    assert plan_info(header) == {"flavour": "tensorrt", "version": "10.13.3.9"}
