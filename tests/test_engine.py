# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines are really built, by TensorRT-RTX, which needs no GPU for it; and what plans and engine.json say."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_models import identity, matmul_dynamic_batch
from precision_models import conv_net, encoder
from trtkit.engine import (
    EngineOptions,
    ShapeRange,
    build_engine,
    manifest_of,
    manifest_problems,
    plan_header,
    plan_info,
    read_manifest,
    save_engine,
)
from trtkit.engine.progress import Progress
from trtkit.errors import BuildError

trt: Any = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

FOR_ADA = EngineOptions(compute_capabilities=("8.9",))
X = {"x": ShapeRange((1, 64), (8, 64), (32, 64))}


def images(*batches: tuple[int, int, int], size: int = 16) -> list[dict[str, ShapeRange]]:
    return [{"image": ShapeRange(*((batch, 1, size, size) for batch in three))} for three in batches]


def tokens(*lengths: tuple[int, int]) -> list[dict[str, ShapeRange]]:
    """A profile for each range of lengths, batches 1 to 4, for both inputs of the encoder."""
    ranges = [ShapeRange((1, low), (4, high), (4, high)) for low, high in lengths]
    return [{"input_ids": one, "attention_mask": one} for one in ranges]


def saved(model: ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


def quantized_matmul(kind: int) -> ModelProto:
    """x FP32 [batch, 64] -> y FP32 [batch, 64], with Q/DQ to `kind` before both of the MatMul's inputs."""
    weight = np.random.default_rng(5).standard_normal((64, 64), dtype=np.float32)
    nodes = []
    for name in ("x", "weight"):
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]))
    nodes.append(helper.make_node("MatMul", ["x_dq", "weight_dq"], ["y"], name="product"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.float32(0.1), "scale"),
            helper.make_tensor("zero", kind, [], [0]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def reshape_by_input() -> ModelProto:
    """x FP32 [batch, 6] and its new shape INT64 [2] -> y FP32 of that shape."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6]),
            helper.make_tensor_value_info("to", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture
def matmul(tmp_path: Path) -> Path:
    return saved(matmul_dynamic_batch(), tmp_path)


# real builds


@pytest.mark.parametrize(
    "profiles", [images((1, 8, 32)), images((1, 1, 1), (2, 8, 8), (9, 32, 32))], ids=["one profile", "three profiles"]
)
def test_a_convolutional_net(tmp_path: Path, profiles: Any) -> None:
    built = build_engine(trt, saved(conv_net((8, 16), 16), tmp_path), profiles, FOR_ADA)
    header = plan_header(built.plan)
    assert (header.flavour, header.version_text) == ("tensorrt_rtx", trt.__version__)
    assert header.compute_capabilities == ("8.9",)
    assert [len(built.facts["profiles"]), built.facts["layers"]["FP32"]] == [len(profiles), 9]


@pytest.mark.parametrize(
    "profiles", [tokens((1, 32)), tokens((1, 8), (9, 16), (17, 32))], ids=["one profile", "three profiles"]
)
def test_a_transformer_encoder(tmp_path: Path, profiles: Any) -> None:
    built = build_engine(trt, saved(encoder(1, 32, 2, 50), tmp_path), profiles, FOR_ADA)
    assert plan_info(built.plan) == {"flavour": "tensorrt_rtx", "version": trt.__version__}
    io = {entry["name"]: (entry["dtype"], entry["shape"], entry["mode"]) for entry in built.facts["io"]}
    assert io["input_ids"] == ("INT64", [-1, -1], "input")
    assert io["embedding"] == ("FP32", [-1, 32], "output")


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.INT8, "INT8"), (TensorProto.FLOAT8E4M3FN, "FP8")])
def test_quantized_layers_are_found(tmp_path: Path, kind: int, name: str) -> None:
    facts = build_engine(trt, saved(quantized_matmul(kind), tmp_path), [X], FOR_ADA).facts
    assert (facts["layers"], facts["precision_source"]) == ({name: 1}, "network")


def test_an_input_that_holds_sizes_takes_values(tmp_path: Path) -> None:
    file = saved(reshape_by_input(), tmp_path)
    profile = {"x": ShapeRange((2, 6), (2, 6), (4, 6)), "to": ShapeRange((2, 6), (2, 6), (4, 6))}
    facts = build_engine(trt, file, [profile], FOR_ADA).facts
    assert [(entry["name"], entry["sizes"]) for entry in facts["io"]] == [("x", False), ("to", True), ("y", False)]
    with pytest.raises(BuildError, match="profile 0 has no values for input 'to'"):
        build_engine(trt, file, [{"x": profile["x"]}], FOR_ADA)


def test_int64_stays_and_double_becomes_float(tmp_path: Path) -> None:
    profile = [{"x": ShapeRange((1, 4), (1, 4), (2, 4))}]
    for kind, expected in ((TensorProto.INT64, "INT64"), (TensorProto.DOUBLE, "FP32")):
        facts = build_engine(trt, saved(identity(kind, ["batch", 4]), tmp_path), profile, FOR_ADA).facts
        assert [entry["dtype"] for entry in facts["io"]] == [expected, expected]


def test_progress_of_a_real_build(matmul: Path) -> None:
    told: list[tuple[str, float, float | None]] = []
    build_engine(trt, matmul, [X], FOR_ADA, on_progress=lambda *what: told.append(what))
    fractions = [fraction for _, fraction, _ in told]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 10
    assert (fractions[0], told[-1]) == (0.0, ("done", 1.0, 0.0))
    assert all(eta is None or eta >= 0 for _, _, eta in told)


def test_a_raising_callback_stops_the_real_library(matmul: Path) -> None:
    calls: list[str] = []

    def on_progress(phase: str, fraction: float, eta: float | None) -> None:
        calls.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(trt, matmul, [X], FOR_ADA, on_progress=on_progress)
    assert len(calls) == 1


# refusals


def test_a_graph_the_parser_refuses_names_all_its_nodes(tmp_path: Path) -> None:
    model = matmul_dynamic_batch()
    model.graph.node[0].op_type, model.graph.node[0].name = "NoSuchOperator", "the_guilty_one"
    with pytest.raises(
        BuildError, match=r"cannot parse .*bad.onnx: node 'the_guilty_one' \(NoSuchOperator\): neither an"
    ):
        build_engine(trt, saved(model, tmp_path, "bad.onnx"), [X])


def test_half_inputs_with_float_weights(tmp_path: Path) -> None:
    model = matmul_dynamic_batch()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(BuildError, match=r"node '0' \(MatMul\): .*must have same input types") as raised:
        build_engine(trt, saved(model, tmp_path), [X])
    assert "cudaError" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"junk" * 100, matmul_dynamic_batch().SerializeToString()[:-100]])
def test_a_file_that_is_no_onnx_or_half_of_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(BuildError, match=r"cannot parse .*broken.onnx: "):
        build_engine(trt, tmp_path / "broken.onnx", [X])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"there is no ONNX file .*none.onnx"):
        build_engine(trt, tmp_path / "none.onnx", [X])


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ([], r"a profile is needed: x\[-1, 64\]"),
        ([{"y": X["x"]}], "profile 0 has no shapes for input 'x'"),
        ([{"x": ShapeRange((0, 64), (8, 64), (32, 64))}], "every size has to be at least 1"),
        ([{"x": ShapeRange((9, 64), (8, 64), (32, 64))}], "'x' needs min <= opt <= max"),
        (
            [{"x": ShapeRange((1, 64), (8, 64), (32, 65))}],
            r"max of 'x' is \[32, 65\], the input is fixed to \[-1, 64\]",
        ),
        ([X, {"x": ShapeRange((8, 64), (8, 64), (64, 64))}], "profiles 0 and 1"),
    ],
)
def test_profiles_that_do_not_fit(matmul: Path, profiles: Any, expected: str) -> None:
    with pytest.raises(BuildError, match=rf"model.onnx: .*{expected}"):
        build_engine(trt, matmul, profiles)


def test_profiles_may_overlap_when_asked_to(matmul: Path) -> None:
    profiles = [X, {"x": ShapeRange((8, 64), (8, 64), (64, 64))}]
    assert build_engine(trt, matmul, profiles, replace(FOR_ADA, overlapping_profiles=True)).plan


def test_profiles_and_max_batch_size(matmul: Path) -> None:
    with pytest.raises(BuildError, match="profile 0 takes batches up to 32, which no request reaches"):
        build_engine(trt, matmul, [X], EngineOptions(max_batch_size=16))


def test_a_workspace_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot build model.onnx: .*no tactics .*within workspace limit") as raised:
        build_engine(
            trt, saved(conv_net((8,), 16), tmp_path), images((1, 8, 8)), replace(FOR_ADA, workspace_bytes=1024)
        )
    assert "_src" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workspace_bytes": 0}, "workspace_bytes is 0; it has to be at least 1"),
        ({"optimization_level": 6}, "optimization_level is 6; it goes from 0 to 5"),
        (
            {"hardware_compatibility": "ampere"},
            "hardware_compatibility 'ampere' is unknown; did you mean 'ampere_plus'",
        ),
        ({"plugins": ("none.so",)}, "there is no plugin library none.so"),
        ({"compute_capabilities": ("9.0",)}, "has no compute capability 9.0; "),
        ({"strip_plan": True}, "strip_plan with TensorRT-RTX needs a GPU to build, and there is none here"),
        ({"refit": True}, "refit with TensorRT-RTX needs a GPU to build, and there is none here"),
    ],
)
def test_options_that_cannot_be(
    matmul: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: str
) -> None:
    monkeypatch.setattr("trtkit.engine.builder.find_gpu", lambda: None)
    with pytest.raises(BuildError, match=f"model.onnx: .*{expected}"):
        build_engine(trt, matmul, [X], EngineOptions(**options))


def test_a_plugin_library_that_is_none(matmul: Path) -> None:
    with pytest.raises(BuildError, match="cannot load the plugin library .*invalid ELF header"):
        build_engine(trt, matmul, [X], EngineOptions(plugins=(str(matmul),)))


@given(
    st.builds(
        EngineOptions,
        workspace_bytes=st.integers(1, 1 << 40),
        optimization_level=st.none() | st.integers(0, 5),
        plugins=st.lists(st.text(max_size=5), max_size=2).map(tuple),
        timing_cache=st.none() | st.just(Path("/somewhere")),
        compute_capabilities=st.lists(st.sampled_from(["8.9", "12.0"]), max_size=2).map(tuple),
        max_batch_size=st.none() | st.integers(0, 9),
    )
)
def test_options_survive_json(options: EngineOptions) -> None:
    assert EngineOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


# engine.json


@pytest.fixture
def engine_folder(matmul: Path, tmp_path: Path) -> Path:
    save_engine(tmp_path / "out", build_engine(trt, matmul, [X], FOR_ADA), matmul)
    return tmp_path / "out"


def test_engine_json_of_a_real_build(engine_folder: Path, matmul: Path) -> None:
    manifest = read_manifest(engine_folder / "engine.json")
    assert manifest["source"] == {"file": "model.onnx", "sha256": _sha256(matmul)}
    assert manifest["plan"]["sha256"] == _sha256(engine_folder / "model.plan")
    assert (manifest["flavour"], manifest["tensorrt_version"]) == ("tensorrt_rtx", trt.__version__)
    assert manifest["profiles"] == [{"x": {"min": [1, 64], "opt": [8, 64], "max": [32, 64]}}]
    assert manifest["layers"] == {"FP32": 1}
    assert manifest["options"]["compute_capabilities"] == ["8.9"]
    assert manifest["build_seconds"] > 0
    assert manifest_of(engine_folder / "model.plan") == manifest
    assert manifest_problems(engine_folder) == []


def _sha256(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_manifest_of_one_of_several_plans(engine_folder: Path) -> None:
    (engine_folder / "engine.json").rename(engine_folder / "model_sm89.plan.json")
    manifest = manifest_of(engine_folder / "model_sm89.plan")
    assert manifest is not None
    assert manifest["flavour"] == "tensorrt_rtx"
    assert manifest_of(engine_folder / "model.plan") is None


def test_a_plan_that_is_not_the_manifest_s(engine_folder: Path) -> None:
    plan = engine_folder / "model.plan"
    content = bytearray(plan.read_bytes())
    content[-1] ^= 1
    plan.write_bytes(content)
    assert manifest_problems(engine_folder) == [
        f"{plan} is not the plan that its engine.json describes; build the engine again"
    ]
    plan.write_bytes(tensorrt_header())
    problems = " ".join(manifest_problems(engine_folder))
    assert "has the flavour tensorrt, its engine.json says tensorrt_rtx" in problems
    assert f"has the TensorRT version 10.3.0.26, its engine.json says {trt.__version__}" in problems
    assert "has the size 64, its engine.json says" in problems


def test_a_version_with_fewer_numbers_is_the_same(engine_folder: Path) -> None:
    manifest = json.loads((engine_folder / "engine.json").read_text())
    manifest["tensorrt_version"] = trt.__version__.rpartition(".")[0]
    (engine_folder / "engine.json").write_text(json.dumps(manifest))
    assert manifest_problems(engine_folder) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is no engine.json of trtkit: it is no JSON"),
        ("[" * 100_000, "is no engine.json of trtkit: it is no JSON"),
        ("[]", "it has no schema number; build the engine again"),
        ('{"name": "x"}', "it has no schema number; build the engine again"),
        ('{"schema": 99}', "has schema 99, this trtkit reads 1; build the engine again"),
        ('{"schema": 1, "plan": []}', "its field 'plan' is missing or of another type"),
    ],
)
def test_manifests_that_are_none(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "engine.json").write_text(content)
    with pytest.raises(BuildError, match=expected):
        read_manifest(tmp_path / "engine.json")


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="engine.json cannot be read: No such file"):
        read_manifest(tmp_path / "engine.json")


# the header of a plan


def tensorrt_header(*version: int) -> bytes:
    return b"ftrt" + bytes(20) + bytes(version or (10, 3, 0, 26)) + bytes(36)


def test_the_header_of_a_tensorrt_plan(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(tensorrt_header() + bytes(1000))
    header = plan_header(tmp_path / "model.plan")
    assert (header.flavour, header.version_text, header.byte_size) == ("tensorrt", "10.3.0.26", 1064)
    assert (header.version[:2], header.compute_capabilities) == ((10, 3), ())
    assert plan_info(tensorrt_header(10, 13, 3, 9)) == {"flavour": "tensorrt", "version": "10.13.3.9"}


def test_a_portable_plan(matmul: Path) -> None:
    header = plan_header(build_engine(trt, matmul, [X]).plan)
    assert header.compute_capabilities == ("8.0", "8.6", "8.9", "12.0", "12.1")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a TensorRT plan: empty"),
        (b"ft", r"not a TensorRT plan: it begins with b'ft'"),
        (b"PK\x03\x04" + bytes(100), "not a TensorRT plan: it begins with"),
        (b"ftrt\x01" + bytes(100), "not a TensorRT plan: it begins with"),
        (b"ftrt" + bytes(10), "a TensorRT plan that is cut off after 14 bytes"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "x.plan").write_bytes(content)
    with pytest.raises(BuildError, match=rf"x.plan: {expected}"):
        plan_header(tmp_path / "x.plan")


def test_a_plan_that_is_cut_off(engine_folder: Path) -> None:
    plan = engine_folder / "model.plan"
    size = plan.stat().st_size
    plan.write_bytes(plan.read_bytes()[: size // 2])
    with pytest.raises(BuildError, match=f"a TensorRT-RTX plan of {size} bytes that is cut off after {size // 2}"):
        plan_header(plan)


def test_no_plan_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="none.plan cannot be read: No such file"):
        plan_header(tmp_path / "none.plan")
    with pytest.raises(BuildError, match="cannot be read: Is a directory"):
        plan_header(tmp_path)


@given(st.binary(max_size=80), st.sampled_from([b"", b"ftrt" + bytes(4), b"vtrt" + bytes(4)]))
def test_no_bytes_break_the_header(tail: bytes, head: bytes) -> None:
    data = head + tail
    known = len(data) >= 28 and data[:8] in (b"ftrt" + bytes(4), b"vtrt" + bytes(4))
    with nullcontext() if known else pytest.raises(BuildError, match="not a TensorRT plan"):
        assert plan_info(data)["version"] == ".".join(map(str, data[24:28]))
    cut_off = data[:4] == b"vtrt" and int.from_bytes(data[16:24], "little") > len(data)
    with nullcontext() if known and not cut_off else pytest.raises(BuildError):
        assert plan_header(data).version == tuple(data[24:28])


# progress


@st.composite
def phases(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Calls of a monitor as the library makes them: nested phases, finished with or without all their steps."""
    calls: list[tuple[str, Any]] = []

    def phase(name: str, parent: str | None, depth: int) -> None:
        steps = draw(st.integers(0, 4))
        calls.append(("phase_start", (name, parent, steps)))
        for step in range(draw(st.integers(0, steps))):
            for child in range(draw(st.integers(0, 2)) if depth < 3 else 0):
                phase(f"{name}.{child}", name, depth + 1)
            calls.append(("step_complete", (name, step)))
        calls.append(("phase_finish", (name,)))

    for root in range(draw(st.integers(1, 3))):
        phase(f"root{root}", None, 0)
    return calls


@given(phases(), st.lists(st.floats(0, 100), min_size=200, max_size=200))
def test_progress_only_grows(calls: list[tuple[str, Any]], waits: list[float]) -> None:
    now, told = [0.0], []
    progress = Progress(lambda *what: told.append(what), clock=lambda: now[0])
    for (name, arguments), wait in zip(calls, waits, strict=False):
        now[0] += wait
        getattr(progress, name)(*arguments)
    progress.finished()
    fractions = [fraction for _, fraction, _ in told]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 0.99 for fraction in fractions[:-1])
    assert told[-1] == ("done", 1.0, 0.0)
    assert all(eta is None or eta >= 0 for _, _, eta in told)


def test_the_time_that_is_left() -> None:
    now, told = [0.0], []
    progress = Progress(lambda *what: told.append(what), clock=lambda: now[0])
    progress.phase_start("all", None, 4)
    progress.phase_start("part", "all", 2)
    now[0] = 10.0
    progress.step_complete("part", 0)  # half of the half that a phase may take of its parent's first step
    progress.step_complete("all", 0)
    progress.step_complete("all", 1)
    assert told == [
        ("all", 0.0, None),
        ("part", 0.0, None),
        ("part", 0.0625, 150.0),
        ("all", 0.25, 30.0),
        ("all", 0.5, 10.0),
    ]


def test_steps_of_an_unknown_phase_change_nothing() -> None:
    told: list[Any] = []
    progress = Progress(lambda *what: told.append(what))
    assert progress.step_complete("never started", 3)
    progress.phase_finish("never started")
    assert told == []
