# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit build` with precision, calibration, targets and profiles: real graphs, real quantizers, real engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import precision_models
from trtkit import build_models, load_project
from trtkit.build_results import BuildResult
from trtkit.errors import BuildError, DataError, ProjectError, TrtkitError
from trtkit.inspection import inspect_onnx
from trtkit.project import Project

Build = Callable[..., BuildResult]


class Work:
    """A project folder with one model, `m`."""

    def __init__(self, root: Path, model: onnx.ModelProto) -> None:
        self.root = root
        onnx.save(model, root / "m.onnx")
        self.targets = ""

    def write(self, block: str, targets: str = "") -> Project:
        """trtkit.yaml with the model's keys from `block`, one per line."""
        lines = "".join(f"    {line}\n" for line in block.splitlines())
        text = f"models:\n  m:\n    source: {{onnx: m.onnx}}\n{lines}"
        (self.root / "trtkit.yaml").write_text(text + (f"targets: {targets}\n" if targets else ""))
        return load_project(self.root / "trtkit.yaml")

    def arrays(self, file: str, **arrays: Any) -> None:
        np.savez(self.root / file, **arrays)

    def build(self, block: str, targets: str = "", **options: Any) -> BuildResult:
        """Build and return the result; raises what the build raised."""
        results, error = build_models(self.write(block, targets), **options)
        if error:
            raise error
        return results[0]

    def reference_outputs(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the FP32 graph gives for images."""
        from trtkit.export.runtime import Session

        return Session(self.root / "m.onnx").run({"image": rows})["logits"]

    def refused(self, block: str, targets: str = "", **options: Any) -> TrtkitError:
        results, error = build_models(self.write(block, targets), **options)
        assert error is not None, results
        assert str(error) == results[0].error
        return error

    @property
    def published(self) -> Path:
        """The newest version's folder."""
        return max((self.root / "model_repository" / "m").glob("[0-9]*"), key=lambda path: int(path.name))

    def record(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.published / "trtkit.json").read_text())
        return value


def images(rows: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 1, (rows, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def conv(tmp_path: Path) -> Work:
    """A convolutional net with calibration and evaluation data."""
    work = Work(tmp_path, precision_models.conv_net(channels=(8, 16)))
    work.arrays("calibration.npz", image=images(16, seed=1))
    work.arrays("holdout.npz", image=images(32, seed=2))
    return work


@pytest.fixture
def overflow(tmp_path: Path) -> Work:
    work = Work(tmp_path, precision_models.overflows_in_fp16())
    work.arrays("holdout.npz", x=np.random.default_rng(4).normal(0, 1000, (64, 16)).astype(np.float32))
    return work


CALIBRATED = "calibration: {data: calibration.npz}\nevaluate: {data: holdout.npz}\n"
L40S = '{l40s: {backend: tensorrt, image: "nvcr.io/nvidia/tritonserver:25.11-py3", compute_capability: "8.9"}}'
FALLBACK = L40S.replace('"8.9"', '"8.9", fallback: onnxruntime')
PROFILES = """\
profiles:
  - image: {min: [1, 1, 32, 32], opt: [8, 1, 32, 32], max: [32, 1, 32, 32]}
config: {max_batch_size: 32}
"""


def ran(result: BuildResult) -> list[str]:
    return [stage.stage for stage in result.stages if stage.ran]


def test_int8_is_published_with_its_evidence(conv: Work) -> None:
    result = conv.build(f"precision: int8\n{CALIBRATED}")
    assert (result.precision, result.target) == ("int8", "cpu")
    summary = inspect_onnx(conv.published / "model.onnx")
    assert summary.quantize_linear > 0 < summary.dequantize_linear
    record = conv.record()
    assert record["precision"] == "int8"
    assert record["artifact"] != record["reference"], "the FP32 graph stays the reference"
    assert record["conversion"]["quantized"]
    assert 0 < result.max_abs_error < 1


def test_fp16_is_published_and_its_inputs_stay_fp32(conv: Work) -> None:
    conv.build(f"precision: fp16\n{CALIBRATED}")
    summary = inspect_onnx(conv.published / "model.onnx")
    assert summary.initializers["FP16"]["elements"] > 10 * summary.initializers.get("FP32", {"elements": 0})["elements"]
    assert summary.inputs == ["image FP32 [batch, 1, 32, 32]"]
    assert conv.record()["conversion"]["culprits"] == {}


def test_io_types_in_half_reach_config_and_warmup(conv: Work) -> None:
    conv.build(f"precision: fp16\nkeep: {{io_types: false}}\n{CALIBRATED}")
    config = (conv.root / "model_repository" / "m" / "config.pbtxt").read_text()
    assert config.count("TYPE_FP16") >= 3, "input, output and warm-up"
    assert "TYPE_FP32" not in config
    warmup = conv.root / "model_repository" / "m" / "warmup" / "input_0.bin"
    assert warmup.stat().st_size == 32 * 32 * 2


def test_a_changed_calibration_sample_rebuilds_exactly_the_stages_after_it(conv: Work) -> None:
    block = f"precision: int8\n{CALIBRATED}"
    assert ran(conv.build(block)) == ["export", "calibration", "precision", "config", "publish"]
    assert conv.build(block).up_to_date
    changed = images(16, seed=1)
    changed[3, 0, 5, 5] = 9.0
    conv.arrays("calibration.npz", image=changed)
    result = conv.build(block)
    assert ran(result) == ["calibration", "precision", "publish"]
    assert result.stages[1].why == "changed: calibration.npz"
    assert result.stages[2].why == "changed: calibration cache"
    assert result.version == 2


def test_a_changed_sample_that_changes_no_range_stops_at_the_calibration(conv: Work) -> None:
    """The last image is a copy of the first in the second set: minima and maxima are the same."""
    rows = images(16, seed=1)
    rows[0] *= 3  # holds the extremes
    conv.arrays("calibration.npz", image=rows)
    block = f"precision: int8\n{CALIBRATED}"
    conv.build(block)
    rows[15, 0, 0, 0] += 1e-3
    conv.arrays("calibration.npz", image=rows)
    assert "export" not in ran(conv.build(block))


def test_the_nodes_that_overflow_in_fp16_are_found_and_kept(overflow: Work) -> None:
    result = overflow.build("precision: fp16\nevaluate: {data: holdout.npz}")
    culprits = overflow.record()["conversion"]["culprits"]
    assert "node_squares" in culprits
    assert "65504" in culprits["node_squares"]
    assert len(culprits) <= 3, culprits
    assert any("stay in FP32" in note for note in result.notes)


def test_precision_needs_calibration(conv: Work) -> None:
    error = conv.refused("precision: int8")
    assert isinstance(error, DataError)
    assert "int8 needs real rows" in str(error)
    assert "calibration:" in str(error)


def test_a_metric_below_the_budget_is_not_published(conv: Work) -> None:
    """Labels are the FP32 graph's own top class, and calibration rows a thousand times too small."""
    from trtkit.export.runtime import Session

    rows = images(200, seed=2)
    labels = Session(conv.root / "m.onnx").run({"image": rows})["logits"].argmax(axis=1)
    conv.arrays("holdout.npz", image=rows, labels=labels)
    conv.arrays("calibration.npz", image=images(16, seed=1) / 1000)
    error = conv.refused(
        "precision: int8\ncalibration: {data: calibration.npz}\nevaluate: {data: holdout.npz, metric: top1}"
    )
    assert "int8 misses the accuracy budget: top1 0." in str(error)
    assert not (conv.root / "model_repository" / "m").exists()


@pytest.mark.parametrize(
    ("block", "targets", "sentence"),
    [
        ("precision: bf16", "", "bf16"),
        ("precision: fp8\ncalibration: {data: calibration.npz}", "", "fp8"),
        ("precision: int8+fp16\ncalibration: {data: calibration.npz}", "", r"int8\+fp16 is for GPUs"),
        ("precision: fp8", L40S.replace("8.9", "8.6"), "fp8"),
    ],
)
def test_a_precision_that_the_target_cannot_run(conv: Work, block: str, targets: str, sentence: str) -> None:
    with pytest.raises(BuildError, match=sentence):
        conv.build(block, targets)


def test_without_a_gpu_no_plan_is_claimed(conv: Work) -> None:
    error = conv.refused(f"precision: fp16\nevaluate: {{data: holdout.npz}}\n{PROFILES}", L40S)
    assert "no plan was built for model 'm': this machine has no GPU" in str(error)
    assert "--in-container" in str(error)
    assert "fallback: onnxruntime" in str(error)
    assert not (conv.root / "model_repository" / "m").exists()


def test_the_fallback_serves_the_graph_and_says_so(conv: Work) -> None:
    result = conv.build(f"precision: fp16\nevaluate: {{data: holdout.npz}}\n{PROFILES}", FALLBACK)
    assert result.version == 1
    assert result.target == "l40s"
    assert "no plan was built" in result.no_plan
    assert (conv.published / "model.onnx").exists()
    assert 'backend: "onnxruntime"' in (conv.root / "model_repository" / "m" / "config.pbtxt").read_text()
    assert "no plan was built" in conv.record()["no_plan"]


@pytest.mark.parametrize("precision", ["bf16", "fp8+fp16"])
def test_the_fallback_is_a_graph_that_onnxruntime_runs(conv: Work, precision: str) -> None:
    block = f"precision: {precision}\n{CALIBRATED}{PROFILES}"
    result = conv.build(block, FALLBACK)
    assert result.precision == "fp32"
    assert f"onnxruntime does not run {precision}" in result.no_plan
    assert conv.record()["artifact"] == conv.record()["reference"]


def test_in_container_writes_what_builds_it(conv: Work) -> None:
    result = conv.build(f"precision: fp16\nevaluate: {{data: holdout.npz}}\n{PROFILES}", FALLBACK, in_container=True)
    files = sorted((conv.root / ".trtkit").rglob("*l40s*"))
    text = "".join(file.read_text() for file in files if file.is_file())
    assert "nvcr.io/nvidia/tritonserver:25.11-py3" in text
    assert "kind: Job" in text
    assert "docker run" in text
    assert "no plan was built" in result.no_plan


def test_in_container_without_a_fallback_publishes_nothing_and_is_no_error(conv: Work) -> None:
    result = conv.build(f"precision: int8\n{CALIBRATED}{PROFILES}", L40S, in_container=True)
    assert "build-l40s-m.sh" in result.skipped
    assert [stage.stage for stage in result.stages] == ["export"], "the container makes the rest"
    assert not (conv.root / "model_repository" / "m").exists()
    assert (conv.root / ".trtkit" / "container" / "build-l40s-m.sh").exists()


def test_the_container_builds_what_this_build_was_asked_for(tmp_path: Path) -> None:
    work = Work(tmp_path, precision_models.encoder(layers=1, hidden=32, heads=2, vocabulary=50))
    (tmp_path / "shapes.jsonl").write_text('{"input_ids": [1, 9], "attention_mask": [1, 9]}\n')
    asked = {"names": ["m"], "race": True, "profiles_from": tmp_path / "shapes.jsonl", "profile_count": 1}
    work.build("", L40S, in_container=True, **asked)
    script = (tmp_path / ".trtkit" / "container" / "build-l40s-m.sh").read_text()
    assert "--target l40s --race --profiles-from shapes.jsonl --count 1" in script
    error = work.refused("", L40S, **asked)
    assert "`trtkit build m --target l40s --race --profiles-from shapes.jsonl --count 1 --in-container`" in str(error)


def test_only_plans_are_built_in_a_container(conv: Work) -> None:
    with pytest.raises(ProjectError, match=r"target 'cpu' is of backend onnxruntime; .* \(available: l40s\)"):
        build_models(conv.write("", f"{{cpu: {{}}, {L40S[1:]}"), in_container=True)
    assert not (conv.root / "model_repository").exists()


def test_without_gpu_and_fallback_nothing_is_calibrated(conv: Work) -> None:
    results, error = build_models(conv.write(f"precision: int8\n{CALIBRATED}{PROFILES}", L40S))
    assert "no plan was built for model 'm': this machine has no GPU" in str(error)
    assert [stage.stage for stage in results[0].stages] == ["export"]


@pytest.mark.parametrize("whole_group", [True, False], ids=["ctrl-C", "the build alone"])
def test_an_interrupted_race_ends_at_once_and_the_next_build_recovers(conv: Work, whole_group: bool) -> None:
    conv.write("evaluate: {data: holdout.npz}")
    command = [sys.executable, "-m", "trtkit", "build", "--race"]
    with subprocess.Popen(
        command, cwd=conv.root, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr is not None
        while "race" not in build.stderr.readline():
            assert build.poll() is None
        time.sleep(0.7)
        started = time.monotonic()
        (os.killpg if whole_group else os.kill)(build.pid, signal.SIGINT)
        _, said = build.communicate(timeout=60)
    assert build.returncode == 130
    assert said.split() == ["interrupted"]
    assert time.monotonic() - started < 2
    assert "KeyboardInterrupt" not in (conv.root / ".trtkit" / "logs" / "m.race.log").read_text(), "it is the build's"
    result = conv.build("evaluate: {data: holdout.npz}", race=True)
    assert ran(result)[0] == "race", "the export was kept"


def test_a_target_that_is_not_there(conv: Work) -> None:
    with pytest.raises(ProjectError, match="target 'l4' is not in trtkit.yaml; did you mean 'l40s'"):
        build_models(conv.write("", L40S), target="l4")


class TestCheckEngine:
    """`--check-engine`, with TensorRT-RTX."""

    @pytest.fixture(autouse=True)
    def _rtx(self) -> None:
        pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

    def test_it_builds_and_says_for_what(self, conv: Work) -> None:
        result = conv.build(f"precision: int8\n{CALIBRATED}{PROFILES}", FALLBACK, check_engine=True)
        assert "check-engine" in ran(result)
        assert result.check_engine is not None
        assert "8.9" in result.check_engine["summary"]
        again = conv.build(f"precision: int8\n{CALIBRATED}{PROFILES}", FALLBACK, check_engine=True)
        assert again.up_to_date

    def test_a_graph_for_the_cpu_is_refused(self, conv: Work) -> None:
        error = conv.refused(f"precision: int8\n{CALIBRATED}", check_engine=True)
        assert "the int8 graph of target 'cpu' is quantized for the CPU; choose a target on a GPU" in str(error)

    def test_what_it_found_is_told_when_no_plan_can_be_built(self, conv: Work) -> None:
        results, error = build_models(conv.write(f"precision: fp16\n{PROFILES}", L40S), check_engine=True)
        assert "no plan was built" in str(error)
        assert results[0].check_engine is not None
        assert "8.9" in results[0].check_engine["summary"]

    def test_a_profile_error_comes_before_the_library(self, conv: Work) -> None:
        wrong = PROFILES.replace("opt: [8, 1, 32, 32]", "opt: [8, 1, 32, 33]")
        with pytest.raises(ProjectError, match=r"trtkit.yaml:\d+:\d+: profile 0"):
            conv.build(wrong, check_engine=True)


def test_profiles_are_derived_from_recorded_shapes(tmp_path: Path) -> None:
    work = Work(tmp_path, precision_models.encoder(layers=1, hidden=32, heads=2, vocabulary=50))
    lengths = [12, 13, 14, 60, 61, 62, 63, 64] * 5
    lines = [json.dumps({"input_ids": [1, n], "attention_mask": [1, n]}) for n in lengths]
    (tmp_path / "shapes.jsonl").write_text("\n".join(lines))
    block = "config: {max_batch_size: 8}\n"
    results, error = build_models(work.write(block), ["m"], profiles_from=tmp_path / "shapes.jsonl", profile_count=2)
    assert error is None, error
    derived = results[0].derived
    assert derived is not None
    assert len(results[0].profiles) == 2
    assert derived["yaml"].startswith("profiles:")
    again = work.write(block + derived["yaml"])
    assert len(again.models["m"].profiles) == 2, "what is printed can be pasted"


def depthwise_net(channels: int = 8, size: int = 16) -> onnx.ModelProto:
    """x FP32 [batch, channels, size, size] -> y of the same shape, through four depthwise convolutions."""
    graph, x = precision_models.Graph(seed=8), "x"
    for index in range(4):
        weights = graph.weight(f"weight{index}", channels, 1, 3, 3)
        x = graph.op("Conv", [x, weights], f"conv{index}", group=channels, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = graph.op("Relu", [x], f"relu{index}" if index < 3 else "y")
    shape = ["batch", channels, size, size]
    return graph.model({"x": (onnx.TensorProto.FLOAT, shape)}, {"y": shape})


def test_the_race_takes_fp32_where_int8_is_slower(tmp_path: Path) -> None:
    """ONNX Runtime's INT8 kernels take two to three times as long for depthwise convolutions."""
    work = Work(tmp_path, depthwise_net())
    work.arrays("rows.npz", x=np.random.default_rng(3).normal(0, 1, (16, 8, 16, 16)).astype(np.float32))
    block = "precision: auto\ncalibration: {data: rows.npz}\nevaluate: {data: rows.npz}"
    result = work.build(block)
    assert result.precision == "fp32"
    assert result.race is not None
    assert result.race["speedups"]["int8"]["median"] < 0.8
    assert "slower" in result.race["verdicts"]["int8"]
    assert "<svg" in (tmp_path / ".trtkit" / "reports" / "m.race.svg").read_text()
    record = work.record()
    assert record["artifact"] == record["reference"], "the exported graph itself"
    assert record["race"]["chosen"] == "fp32"
    assert work.build(block).up_to_date, "a race is not run again for nothing"


def test_without_calibration_the_race_says_what_is_missing(conv: Work) -> None:
    result = conv.build("evaluate: {data: holdout.npz}", race=True)
    assert result.race is not None
    assert "calibration" in result.race["verdicts"]["int8"]


def test_the_weights_of_a_transformers_folder_are_part_of_the_key(tmp_path: Path) -> None:
    """Rust reads them, where no audit hook sees it."""
    transformers = pytest.importorskip("transformers", reason="the extra huggingface is not installed")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=30, max_position_embeddings=32, **shape)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "trtkit.yaml").write_text("models: {m: {source: {huggingface: bert}}}\n")

    def build() -> BuildResult:
        results, error = build_models(load_project(tmp_path / "trtkit.yaml"))
        assert error is None, error
        return results[0]

    assert "export" in ran(build())
    assert build().up_to_date
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    again = build()
    assert again.stages[0].why == "changed: bert/model.safetensors"
    assert again.version == 2


@pytest.mark.triton
@pytest.mark.parametrize(("precision", "io_types"), [("int8", True), ("fp16", True), ("fp16", False)])
def test_the_served_model_is_its_reference_within_the_tolerance(conv: Work, precision: str, io_types: bool) -> None:
    """The C++ of the real server, our backend, and the FP32 graph as the reference."""
    from trtkit.server import connect, serve
    from trtkit.validate import validate_model

    project = conv.write(f"precision: {precision}\nkeep: {{io_types: {str(io_types).lower()}}}\n{CALIBRATED}")
    assert build_models(project)[1] is None
    with serve(project.repository) as server, connect(server.http_url, "http") as client:
        report = validate_model(project, "m", [client])
    assert report.precision == precision
    assert report.problems() == []
    assert report.outputs[0].difference.max_abs > 0, "it is another graph"


@pytest.mark.triton
def test_a_wrong_scale_in_a_served_int8_model_is_found(conv: Work) -> None:
    from trtkit.server import connect, serve
    from trtkit.validate import validate_model

    project = conv.write(f"precision: int8\n{CALIBRATED}")
    assert build_models(project)[1] is None
    file = conv.published / "model.onnx"
    model = onnx.load(file)
    scale = next(t for t in model.graph.initializer if "image" in t.name and "scale" in t.name)
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(0.05), scale.name))
    onnx.save(model, file)
    with serve(project.repository) as server, connect(server.http_url, "http") as client:
        report = validate_model(project, "m", [client])
    assert report.problems()


class TestInspect:
    """`trtkit inspect` on plans."""

    @staticmethod
    def inspect(file: Path, *options: str) -> str:
        from click.testing import CliRunner

        from trtkit.cli.inspect import command

        result = CliRunner().invoke(command, [str(file), *options], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    def test_a_plan_of_tensorrt_rtx_shows_version_and_target(self, tmp_path: Path) -> None:
        trt = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
        from trtkit.engine import EngineOptions, ShapeRange, build_engine, save_engine

        onnx.save(precision_models.conv_net(channels=(4,)), tmp_path / "m.onnx")
        shapes = ShapeRange(*((n, 1, 32, 32) for n in (1, 4, 8)))
        built = build_engine(
            trt, tmp_path / "m.onnx", [{"image": shapes}], EngineOptions(compute_capabilities=("8.9",))
        )
        save_engine(tmp_path, built, tmp_path / "m.onnx")
        text = self.inspect(tmp_path / "model.plan")
        assert f"TensorRT-RTX {trt.__version__}" in text
        assert "8.9" in text
        assert "no tritonserver" in text
        found = json.loads(self.inspect(tmp_path / "model.plan", "--json"))
        assert (found["version"], found["compute_capabilities"]) == (trt.__version__, ["8.9"])
        assert found["manifest"]["source"]["file"] == "m.onnx"

    def test_a_plan_of_tensorrt_10_3_says_so_and_is_refused_elsewhere(self, tmp_path: Path) -> None:
        from trtkit.engine import plan_header
        from trtkit.preflight import plan_verdict
        from trtkit.project import Target

        file = tmp_path / "model.plan"
        file.write_bytes(b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100))
        text = self.inspect(file)
        assert "TensorRT 10.3.0.26" in text
        assert "24.08-py3" in text, "the image that loads it"
        verdict = plan_verdict(plan_header(file), None, Target(backend="tensorrt", tensorrt_version="10.13.3.9"))
        assert verdict.problem is not None
        assert "10.3.0.26" in verdict.problem
        assert "10.13.3.9" in verdict.problem
        assert "24.08-py3" in verdict.problem


def test_without_evaluation_data_the_calibration_rows_are_the_evidence(conv: Work) -> None:
    """Random rows would lie outside the calibrated ranges, and show an error that no real row has."""
    conv.arrays("calibration.npz", image=images(16, seed=1) / 100)
    block = "precision: int8\ncalibration: {data: calibration.npz}"
    result = conv.build(block)
    assert conv.record()["parity"]["data"] == "calibration.npz"
    assert result.max_abs_error is not None
    reference = float(np.abs(conv.reference_outputs(images(16, seed=1) / 100)).max())
    assert result.max_abs_error < 0.2 * reference


def test_tensorrt_has_no_strings(tmp_path: Path) -> None:
    from onnx_models import label_of_bytes

    work = Work(tmp_path, label_of_bytes())
    with pytest.raises(BuildError, match="TensorRT has no strings, and '.*' is BYTES; serve model 'm'"):
        work.build("", L40S)
