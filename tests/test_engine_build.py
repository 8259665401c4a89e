# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a build publishes for a GPU target.

The GPUs and the library's own build are stand-ins: where TensorRT would write a plan, the header of one is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

import onnx_models
import precision_models
from trtkit import build_models, load_project
from trtkit.build_results import BuildResult
from trtkit.config import read_config
from trtkit.engine import EngineOptions, Profile
from trtkit.engine.profiles import to_json
from trtkit.errors import BuildError
from trtkit.gpu import Gpu, GpuState

IMAGE = "nvcr.io/nvidia/tritonserver:25.01-py3"  # TensorRT 10.8.0
MODEL = """\
models:
  m:
    source: {onnx: m.onnx}
    config: {max_batch_size: 16}
    profiles:
      - image: {min: [1, 1, 32, 32], opt: [2, 1, 32, 32], max: [4, 1, 32, 32]}
      - image: {min: [5, 1, 32, 32], opt: [16, 1, 32, 32], max: [16, 1, 32, 32]}
"""


class Machine:
    """A machine with GPUs and a TensorRT, as far as the build asks for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root, self.built, self.version, self.io = root, [], "10.8.0.43", []
        self.gpus = (Gpu("NVIDIA L40S", "8.9", 48 << 30),)
        onnx.save(precision_models.conv_net(channels=(4,)), root / "m.onnx")
        for module in ("trtkit.build_gpu", "trtkit.targets"):
            monkeypatch.setattr(f"{module}.gpu_state", lambda: GpuState("570.0", "12.8", self.gpus))
        for module in ("trtkit.build_gpu", "trtkit.build_plans", "trtkit.targets"):
            monkeypatch.setattr(f"{module}.installed", lambda name: self.version)
        monkeypatch.setattr("trtkit.build_plans.build_in_process", self.build_in_process)

    def build_in_process(
        self, module: str, graph: Path, profiles: Sequence[Profile], options: EngineOptions, folder: Path,
        on_progress: Any = None, *, device: int | None = None, log: Path | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        on_progress("building", 0.5, 3.0)
        capability = self.gpus[device or 0].compute_capability
        version = bytes(int(part) for part in self.version.split("."))
        (folder / "model.plan").write_bytes(b"ftrt" + bytes(20) + version + bytes(36) + capability.encode())
        manifest = {
            "compute_capability": capability, "profiles": to_json(profiles), "options": options.to_json(),
            "io": self.io,
        }  # fmt: skip
        (folder / "engine.json").write_text(json.dumps(manifest))
        self.built.append((module, capability, options))
        return manifest

    def build(self, target: str, model: str = MODEL) -> BuildResult:
        (self.root / "trtkit.yaml").write_text(f"targets: {{gpu: {target}}}\n{model}")
        results, error = build_models(load_project(self.root / "trtkit.yaml"))
        if error:
            raise error
        return results[0]

    @property
    def folder(self) -> Path:
        return self.root / "model_repository" / "m"

    def config(self) -> ModelConfig:
        return read_config((self.folder / "config.pbtxt").read_text(), "config.pbtxt")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


TENSORRT = f'{{backend: tensorrt, image: "{IMAGE}", compute_capability: "8.9"}}'


def test_a_plan_is_published_with_its_manifest_and_config(machine: Machine) -> None:
    result = machine.build(TENSORRT)
    assert [stage.stage for stage in result.stages] == ["export", "engine.sm89", "config", "publish"]
    assert sorted(file.name for file in (machine.folder / "1").iterdir()) == [
        "engine.json",
        "model.plan",
        "trtkit.json",
    ]
    config = machine.config()
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    group = config.instance_group[0]
    assert (group.kind, list(group.profile)) == (ModelInstanceGroup.KIND_GPU, ["0", "1"])
    assert machine.built[0][0] == "tensorrt"
    assert machine.built[0][2].max_batch_size == 16
    assert machine.build(TENSORRT).up_to_date
    assert len(machine.built) == 1


SEQUENCES = """\
models:
  m:
    source: {onnx: m.onnx}
    config: {max_batch_size: 8}
    profiles:
      - x: {min: [1, 1], opt: [4, 2], max: [8, 16]}
      - x: {min: [1, 17], opt: [8, 40], max: [8, 64]}
"""


def test_each_profile_is_warmed_up_in_its_shapes(machine: Machine) -> None:
    machine.build(TENSORRT)
    assert [(one.name, one.batch_size) for one in machine.config().model_warmup] == [
        ("profile_0", 2),
        ("profile_1", 16),
    ]
    onnx.save(onnx_models.identity(onnx.TensorProto.FLOAT, ["batch", "sequence"]), machine.root / "m.onnx")
    for target in (TENSORRT, '{backend: onnxruntime, execution_provider: tensorrt, compute_capability: "8.9"}'):
        machine.build(target, SEQUENCES)
        requests = [(one.batch_size, one.inputs["x"]) for one in machine.config().model_warmup]
        assert [(size, list(tensor.dims)) for size, tensor in requests] == [(4, [2]), (8, [40])]
        for _, tensor in requests:
            file = machine.folder / "warmup" / tensor.input_data_file
            assert file.stat().st_size == 4 * int(np.prod(tensor.dims))
        assert machine.build(target, SEQUENCES).up_to_date
        file.write_bytes(b"")
        assert not machine.build(target, SEQUENCES).up_to_date, "the server refuses a model whose warm-up data is gone"
        assert file.stat().st_size == 160


def test_a_profile_whose_shapes_the_graph_does_not_take_is_not_warmed_up(machine: Machine) -> None:
    """x + [1, 2, 3] takes a row of one or three."""
    model = onnx_models.identity(onnx.TensorProto.FLOAT, ["batch", "sequence"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2, 3], np.float32), "c"))
    model.graph.node[0].CopyFrom(onnx.helper.make_node("Add", ["x", "c"], ["y"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "wide"
    onnx.save(model, machine.root / "m.onnx")
    profiles = SEQUENCES.replace("opt: [4, 2]", "opt: [4, 3]")
    machine.build(TENSORRT, profiles)
    assert [one.name for one in machine.config().model_warmup] == ["profile_0"]


def test_every_instance_group_gets_the_profiles(machine: Machine) -> None:
    groups = "{max_batch_size: 16, instance_group: [{count: 2, kind: KIND_GPU}, {kind: KIND_GPU, profile: ['1']}]}"
    machine.build(TENSORRT, MODEL.replace("{max_batch_size: 16}", groups))
    assert [list(group.profile) for group in machine.config().instance_group] == [["0", "1"], ["1"]]


def test_one_plan_per_compute_capability(machine: Machine) -> None:
    machine.gpus = (*machine.gpus, Gpu("NVIDIA A10", "8.6", 24 << 30))
    machine.build(TENSORRT.replace('"8.9"', '["8.6", "8.9"]'))
    names = {file.name for file in (machine.folder / "1").iterdir()}
    assert names == {
        "model_sm86.plan",
        "model_sm86.plan.json",
        "model_sm89.plan",
        "model_sm89.plan.json",
        "trtkit.json",
    }
    assert dict(machine.config().cc_model_filenames) == {"8.6": "model_sm86.plan", "8.9": "model_sm89.plan"}
    assert (machine.folder / "1" / "model_sm86.plan").read_bytes().endswith(b"8.6")
    assert not machine.config().default_model_filename


def test_plans_of_several_gpus_come_together_from_several_machines(machine: Machine) -> None:
    both = TENSORRT.replace('"8.9"', '["8.6", "8.9"]')
    with pytest.raises(BuildError, match=r"not 8\.6; missing is 8\.6, the others are built"):
        machine.build(both)
    machine.gpus = (Gpu("NVIDIA A10", "8.6", 24 << 30),)
    machine.build(both)
    assert [capability for _, capability, _ in machine.built] == ["8.9", "8.6"]
    assert dict(machine.config().cc_model_filenames) == {"8.6": "model_sm86.plan", "8.9": "model_sm89.plan"}
    assert (machine.folder / "1" / "model_sm89.plan").read_bytes().endswith(b"8.9")
    machine.gpus = ()
    assert machine.build(both).up_to_date, "without any GPU, the plans are still those of the target"


def test_the_race_needs_one_kind_of_gpu(machine: Machine) -> None:
    both = TENSORRT.replace('"8.9"', '["8.6", "8.9"]')
    with pytest.raises(BuildError, match=r"one kind of GPU, and target 'gpu' has 8\.6, 8\.9; name a precision"):
        machine.build(both, MODEL.replace("    config:", "    precision: auto\n    config:"))
    assert machine.built == []


def test_a_plan_for_other_profiles_is_not_taken(machine: Machine) -> None:
    machine.build(TENSORRT)
    machine.gpus = ()
    with pytest.raises(BuildError, match="no plan was built for model 'm': this machine has no GPU"):
        machine.build(TENSORRT, MODEL.replace("opt: [2, 1, 32, 32]", "opt: [3, 1, 32, 32]"))


def test_the_config_has_the_types_of_the_engine(machine: Machine) -> None:
    """TensorRT 8.6 gives INT32 for INT64, and every version FP32 for FP64."""
    onnx.save(precision_models.encoder(layers=1, hidden=32, heads=2, vocabulary=50), machine.root / "m.onnx")
    machine.io = [{"name": name, "dtype": "INT32"} for name in ("input_ids", "attention_mask")]
    shapes = "{min: [1, 1], opt: [4, 16], max: [8, 32]}"
    machine.build(
        TENSORRT,
        "models: {m: {source: {onnx: m.onnx}, config: {max_batch_size: 8}, "
        f"profiles: [{{input_ids: {shapes}, attention_mask: {shapes}}}]}}}}\n",
    )
    config = machine.config()
    assert [DataType.Name(tensor.data_type) for tensor in config.input] == ["TYPE_INT32"] * 2
    warmup = config.model_warmup[0].inputs["input_ids"]
    assert DataType.Name(warmup.data_type) == "TYPE_INT32"
    file = machine.folder / "warmup" / warmup.input_data_file
    assert file.stat().st_size == 4 * int(np.prod(warmup.dims))


def test_another_tensorrt_than_the_images_is_refused_before_the_build(machine: Machine) -> None:
    machine.version = "10.3.0.26"
    with pytest.raises(BuildError, match=r"TensorRT 10\.3\.0.* has 10\.8") as caught:
        machine.build(TENSORRT)
    assert "24.08-py3" in str(caught.value), "the image that has it"
    assert machine.built == []
    assert not machine.folder.exists()


def test_a_gpu_of_another_kind_is_no_gpu_for_the_target(machine: Machine) -> None:
    machine.gpus = (Gpu("NVIDIA A10", "8.6", 24 << 30),)
    with pytest.raises(BuildError, match=r"this machine's GPU has compute capability 8\.6, not 8\.9"):
        machine.build(TENSORRT)


def test_the_tensorrt_execution_provider_is_one_setting(machine: Machine) -> None:
    machine.build('{backend: onnxruntime, execution_provider: tensorrt, compute_capability: "8.9"}')
    config = machine.config()
    assert config.backend == "onnxruntime"
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["trt_engine_cache_enable"] == "true"
    assert "image:" in accelerator.parameters["trt_profile_max_shapes"]
    assert (machine.folder / "1" / "model.onnx").exists()


def test_the_cuda_execution_provider_needs_no_profiles(machine: Machine) -> None:
    onnx.save(precision_models.encoder(layers=1, hidden=32, heads=2, vocabulary=50), machine.root / "m.onnx")
    machine.build("{backend: onnxruntime, execution_provider: cuda}", "models: {m: {source: {onnx: m.onnx}}}\n")
    assert machine.config().instance_group[0].kind == ModelInstanceGroup.KIND_GPU


def test_shapes_between_the_profiles_are_named(machine: Machine) -> None:
    assert machine.build(TENSORRT).notes == []
    result = machine.build(TENSORRT, MODEL.replace("min: [5, 1, 32, 32]", "min: [9, 1, 32, 32]"))
    assert len(result.notes) == 1, result.notes
    assert "5..8" in result.notes[0]
