# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What nodes need to share GPUs, and the Job that builds engines on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy_matrix import deploy_project
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes import engine_job, gpu_sharing
from trtkit.deploy.kubernetes.workload import container
from trtkit.deploy.plan import make_plan
from trtkit.project import Project, load_project

A100 = "NVIDIA-A100-SXM4-80GB"


def files_of(folder: Path, gpu: dict[str, Any], **block: Any) -> dict[str, str]:
    return gpu_sharing.files(make_plan(deploy_project(folder / "digits", {"target": "gpu", "gpu": gpu, **block})))


def test_whole_gpus_and_no_gpus_need_nothing(tmp_path: Path) -> None:
    assert files_of(tmp_path / "a", {"product": "NVIDIA-L40S"}) == {}
    assert gpu_sharing.files(make_plan(deploy_project(tmp_path / "b", {"target": "cpu"}))) == {}


@pytest.mark.parametrize(
    ("key", "way", "name"), [("time_slicing", "timeSlicing", "time-slicing-4"), ("mps", "mps", "mps-4")]
)
def test_shared_gpus(tmp_path: Path, key: str, way: str, name: str) -> None:
    found = files_of(tmp_path, {"product": "NVIDIA-L40S", key: 4})
    item = yaml.safe_load(found["gpu/device-plugin-config.yaml"])
    kubernetes_validate.validate(item, "1.33", strict=True)
    assert list(item["data"]) == [name]
    config = yaml.safe_load(item["data"][name])
    assert config["version"] == "v1"
    assert list(config["sharing"]) == [way]  # the plugin takes one way
    assert config["sharing"][way]["resources"] == [{"name": "nvidia.com/gpu", "replicas": 4}]
    assert config["sharing"][way]["renameByDefault"] is False
    assert f"nvidia.com/device-plugin.config={name}" in found["gpu/README.md"]
    assert item["metadata"]["name"] in found["gpu/README.md"]


def test_what_the_plugin_offers_is_what_the_pods_ask_for(tmp_path: Path) -> None:
    plan = make_plan(deploy_project(tmp_path, {"target": "gpu", "gpu": {"product": "NVIDIA-L40S", "time_slicing": 4}}))
    config = plain(gpu_sharing.plugin_config("timeSlicing", 4))["sharing"]["timeSlicing"]
    assert config["failRequestsGreaterThanOne"] is True
    limits = plain(container(plan))["resources"]["limits"]
    assert limits[config["resources"][0]["name"]] == 1


@pytest.mark.parametrize(
    ("product", "profile", "count"),
    [(A100, "1g.10gb", 7), (A100, "3g.40gb", 2), ("NVIDIA-A30", "1g.6gb", 4), ("NVIDIA-H100-80GB-HBM3", "2g.20gb", 3)],
)
def test_mig_slices(tmp_path: Path, product: str, profile: str, count: int) -> None:
    found = files_of(tmp_path, {"product": product, "mig": profile})
    item = yaml.safe_load(found["gpu/mig-config.yaml"])
    kubernetes_validate.validate(item, "1.33", strict=True)
    config = yaml.safe_load(item["data"]["config.yaml"])
    (devices,) = config["mig-configs"][f"trtkit-{profile}"]
    assert devices == {"devices": "all", "mig-enabled": True, "mig-devices": {profile: count}}
    runbook = found["gpu/README.md"]
    assert f"nvidia.com/mig.config=trtkit-{profile}" in runbook
    assert f"nvidia.com/mig-{profile}: 1" in runbook


def test_the_commands_of_the_runbook(tmp_path: Path) -> None:
    runbook = files_of(tmp_path, {"product": A100, "mig": "3g.40gb"})["gpu/README.md"]
    commands = re.findall(r"nvidia-smi ([^#`\n]+?)(?:\s+#|`|\n)", runbook)
    assert [command.strip() for command in commands[:3]] == [
        "-i 0 -mig 1", "-i 0 --gpu-reset", "mig -i 0 -lgip",
    ]  # fmt: skip
    assert "mig -i 0 -cgi 3g.40gb,3g.40gb -C" in commands  # as many as fit, with their compute instances
    assert "mig -i 0 -lgi" in [command.strip() for command in commands]
    assert not re.search(r"-mig [1-7]g\.", runbook)  # -mig takes 0 or 1, never a profile
    assert commands.index("mig -i 0 -dci") < commands.index("mig -i 0 -dgi") < commands.index("-i 0 -mig 0")


def test_the_strategy_decides_the_resource(tmp_path: Path) -> None:
    single = files_of(tmp_path, {"product": A100, "mig": "1g.10gb", "mig_strategy": "single"})["gpu/README.md"]
    assert '"strategy": "single"' in single
    assert "`nvidia.com/gpu: 1`" in single


TENSORRT = {
    "trt": {
        "backend": "tensorrt", "image": "nvcr.io/nvidia/tritonserver:25.01-py3", "compute_capability": "8.0",
        "tensorrt_version": "10.7.0",
    }
}  # fmt: skip


def engine_project(folder: Path, **block: Any) -> Project:
    project = deploy_project(folder, {"target": "cpu"})
    (folder / "model.onnx").write_bytes((project.repository / "encoder" / "1" / "model.onnx").read_bytes())
    value = yaml.safe_load(project.file.read_text())
    value["targets"] |= TENSORRT
    value["deploy"] = {"target": "trt", **block}
    value["models"] = {"encoder": {"source": {"onnx": "model.onnx"}}}
    project.file.write_text(yaml.safe_dump(value))
    return load_project(project.file)


@pytest.mark.parametrize(
    ("gpu", "resource", "label"),
    [
        ({"product": A100}, "nvidia.com/gpu", A100),
        ({"product": A100, "mig": "1g.10gb"}, "nvidia.com/mig-1g.10gb", A100),
        ({"product": A100, "mig": "1g.10gb", "mig_strategy": "single"}, "nvidia.com/gpu", f"{A100}-MIG-1g.10gb"),
    ],
)
def test_engines_are_built_on_what_serves_them(tmp_path: Path, gpu: dict[str, Any], resource: str, label: str) -> None:
    project = engine_project(tmp_path, gpu=gpu, namespace="serving")
    found = engine_job.files(project, make_plan(project))
    (job,) = yaml.safe_load_all(found["engine-build-job.yaml"])
    for minor in (28, 36):
        kubernetes_validate.validate(job, f"1.{minor}", strict=True)
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["namespace"] == "serving"
    assert pod["containers"][0]["resources"] == {"limits": {resource: 1}}
    assert pod["containers"][0]["image"] == TENSORRT["trt"]["image"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": label}
    assert pod["automountServiceAccountToken"] is False
    assert "trtkit build" in pod["containers"][0]["command"][-1]


def test_other_targets_build_no_engines(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "cpu"})
    assert engine_job.files(project, make_plan(project)) == {}
