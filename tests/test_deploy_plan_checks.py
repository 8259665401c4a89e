# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What cannot work is refused, with the key, its place and the figures; and what is near to it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import TARGETS, deploy_project
from perf_results import measurement
from trtkit.deploy.plan import make_plan
from trtkit.errors import ProjectError, RepositoryError, TrtkitError

L40S = {"product": "NVIDIA-L40S"}
A100 = {"product": "NVIDIA-A100-SXM4-80GB"}
A_PLAN = Path(__file__).parent / "lint" / "PLN010_larger_batches_than_the_profile" / "right" / "m"


def refused(folder: Path, environment: str = "", **deploy: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        make_plan(deploy_project(folder, {"target": "cpu", **deploy}), environment)
    assert str(caught.value).startswith("trtkit.yaml:")
    return str(caught.value)


def accepted(folder: Path, **deploy: Any) -> tuple[str, ...]:
    return make_plan(deploy_project(folder, {"target": "cpu", **deploy})).warnings


def load_file(folder: Path, **over: Any) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    value = {"load_s": 41.0, "host_mib": 1000.0, "shm_mib": 3.0, "models": {}, "digest": "x", **over}
    (folder / "measured.json").write_text(json.dumps(value))
    return {"load": "measured.json"}


def perf_file(folder: Path, **arguments: Any) -> dict[str, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    report = {"data": "", "measurements": [measurement(model="encoder", **arguments).to_json()]}
    (folder / "perf.json").write_text(json.dumps(report))
    return {"perf": ["perf.json"]}


BLOCKS: list[tuple[dict[str, Any], str]] = [
    ({"server": {"control_mode": "poll"}}, "deploy.server.control_mode: poll reads a model while it is being copied"),
    ({"server": {"control_mode": "explicit"}}, "deploy.server.control_mode: explicit loads only what is named"),
    ({"models": ["encoder"], "server": {"control_mode": "none"}},
     "deploy.models: with server.control_mode: none the server loads every model of the repository"),
    ({"resources": {"memory": "0Gi"}}, "deploy.resources.memory: 0Gi is less than 1Mi; write a size such as 4Gi"),
    ({"resources": {"memory": "9000Pi"}}, "deploy.resources.memory: 9000Pi is more than 64 bits count"),
    ({"resources": {"shm": "100k"}}, "deploy.resources.shm: 100k is less than 1Mi"),
    ({"resources": {"temporary": "500m"}}, "deploy.resources.temporary: 500m is less than 1Mi"),
    ({"storage": {"size": "0"}}, "deploy.storage.size: 0 is less than 1Mi; write a size such as 4Gi"),
    ({"resources": {"cpu": "0.0001"}}, "deploy.resources.cpu: 0.0001 is less than 1m, a thousandth of a core"),
    ({"cluster": {"quota_cpu": "0"}}, "deploy.cluster.quota_cpu: 0 is less than 1m"),
    ({"scaling": {"min_replicas": 2**31}}, "deploy.scaling.min_replicas: 2147483648 is more than the 2147483647"),
    ({"kube_version": "1.22"}, "deploy.kube_version: 1.22 does not know what is rendered"),
    ({"storage": {"kind": "baked"}}, "deploy.storage.kind: baked needs `registry:`"),
    ({"storage": {"kind": "baked"}, "registry": "r.io/a", "kserve": True}, "deploy.kserve: KServe reads a bucket or a"),
    ({"scaling": {"kind": "hpa", "metric": "gpu"}}, "deploy.scaling.metric: gpu, and the target runs on the CPU"),
    ({"target": "gpu", "gpu": {**A100, "mig": "1g.10gb"}, "scaling": {"kind": "hpa", "metric": "gpu"}},
     "gpu with gpu.mig: utilization is not reported for slices"),
    ({"target": "gpu", "gpu": {**L40S, "time_slicing": 2}, "scaling": {"kind": "keda", "metric": "gpu"}},
     "gpu with gpu.time_slicing: utilization is that of all pods"),
    ({"target": "gpu", "scaling": {"vpa": "Auto"}}, "deploy.scaling.vpa: Auto restarts GPU pods"),
    ({"target": "gpu", "scaling": {"vpa": "Recreate"}}, "deploy.scaling.vpa: Recreate restarts GPU pods"),
    ({"scaling": {"kind": "hpa", "metric": "cpu", "vpa": "Initial"}}, "Initial and an HPA on cpu change each other's"),
    ({"server": {"exit_timeout_seconds": 1}}, "deploy.server.exit_timeout_seconds: 1 s leaves no time"),
    ({"image": "nvcr.io/nvidia/tritonserver:23.08-py3", "scaling": {"kind": "hpa", "metric": "pending"}},
     "pending needs nv_inference_pending_request_count, which came with 23.09, and the server is 23.08"),
    ({"target": "gpu", "gpu": {"memory_mib": 300}}, "deploy.gpu.product: a pod needs 567 MiB (weights 1, "
     "activations 1, arena 1, context 500, pool 64), the GPU has 300"),
    ({"target": "gpu", "gpu": {**L40S, "time_slicing": 100}},
     "deploy.gpu.time_slicing: 100 pods of 567 MiB need 56,700 MiB together, and the GPU has 46,068; its memory is not "
     "divided, take 81 at most"),
    ({"target": "gpu", "gpu": {**L40S, "mps": 100}}, "deploy.gpu.mps: 100 pods of 567 MiB"),
    ({"target": "gpu", "gpu": {**A100, "mig": "3g.20gb"}}, "NVIDIA-A100-SXM4-80GB gives no slice 3g.20gb"),
    ({"target": "gpu", "gpu": {**L40S, "mig": "1g.10gb"}}, "NVIDIA-L40S gives no slice 1g.10gb; it has no MIG"),
    ({"target": "gpu", "gpu": {**A100, "mig": "1g.10gb", "count": 2}},
     "deploy.gpu.count: 2 slices 1g.10gb: a process of CUDA uses one MIG device only"),
    ({"target": "gpu", "gpu": {**L40S, "time_slicing": 2, "count": 2}}, "2 shares by time_slicing may all be"),
    ({"target": "gpu", "gpu": L40S, "cluster": {"quota_gpus": 1}},
     "deploy.cluster.quota_gpus: 1 is less than 2, what 2 replicas of 1 need"),
    ({"target": "gpu", "gpu": {**L40S, "count": 4}, "cluster": {"gpus_per_node": 2}},
     "deploy.gpu.count: 4, and a node has 2"),
    ({"target": "gpu", "gpu": {**L40S, "count": 3}, "cluster": {"nodes": 1, "gpus_per_node": 4}},
     "deploy.scaling.min_replicas: 2 replicas of 3 GPUs; 1 nodes of 4 hold 1"),
    ({"target": "gpu", "gpu": L40S, "cluster": {"free_gpus": 0}, "rollout": {"max_surge": 1, "max_unavailable": 0}},
     "deploy.rollout.max_surge: 1 further pods need 1 GPUs and 0 are free (cluster.free_gpus: 0)"),
    ({"target": "gpu", "gpu": L40S, "cluster": {"quota_gpus": 2}, "rollout": {"max_unavailable": 0}},
     "deploy.rollout.max_unavailable: 1 further pods need 1 GPUs and 0 are free (cluster.quota_gpus 2 less 2 in use)"),
    ({"cluster": {"node_memory": "512Mi"}}, "deploy.cluster.node_memory: a pod needs 732 MiB of host memory"),
    ({"cluster": {"quota_memory": "1Gi"}}, "deploy.cluster.quota_memory: 1Gi is 1,024 MiB, less than 2 replicas of"),
    ({"cluster": {"quota_cpu": "2"}}, "deploy.cluster.quota_cpu: 2 cores are less than 2 replicas of 3 need"),
    ({"resources": {"memory": "64Mi"}}, "deploy.resources.shm: 64 MiB of /dev/shm count as host memory"),
    ({"storage": {"access_mode": "ReadWriteOnce"}}, "deploy.storage.access_mode: ReadWriteOnce is mounted on one node"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "sentence"), BLOCKS, ids=lambda value: value[:45] if isinstance(value, str) else "")
def test_what_cannot_work_is_refused(tmp_path: Path, block: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(tmp_path, **block)


@pytest.mark.parametrize(
    "block",
    [
        {"scaling": {"vpa": "Recreate"}},  # restarts of CPU pods are cheap
        {"target": "gpu", "gpu": L40S, "cluster": {"quota_gpus": 2}},
        {"target": "gpu", "gpu": {**L40S, "time_slicing": 81}},
        {"target": "gpu", "gpu": L40S, "rollout": {"max_surge": 1}},  # what is free is not known
        {"target": "gpu", "gpu": L40S, "cluster": {"free_gpus": 1}, "rollout": {"max_surge": 1, "max_unavailable": 0}},
        {"target": "gpu", "gpu": {"memory_mib": 567}},
        {"cluster": {"node_memory": "732Mi", "quota_memory": "1464Mi", "quota_cpu": "6"}},
        {"storage": {"access_mode": "ReadWriteOnce"}, "scaling": {"min_replicas": 1}},
        {"storage": {"kind": "baked"}, "registry": "r.io/a"},
        {"server": {"exit_timeout_seconds": 2}},
        {"resources": {"cpu": "1m", "shm": "1Mi", "temporary": "1Mi"}, "kube_version": "1.23"},
        {"models": ["encoder"]},
    ],
)
def test_what_just_works_is_not_refused(tmp_path: Path, block: dict[str, Any]) -> None:
    accepted(tmp_path, **block)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--strict-model-config=false", "is deprecated; use --disable-auto-complete-config"),
        ("--log-verbos=1", "tritonserver has no option --log-verbos, and would not start; did you mean --log-verbose?"),
        ("--load-model=encoder", "--load-model follows from models; set that instead"),
        ("--http-port=9000", "--http-port is set by trtkit, as the probes and Services need it"),
        ("--metrics-config=counter_latencies=false", "freezes nv_inference_request_success"),
        ("--http-restricted-api=health:k=v", "--http-restricted-api closes health: probes and clients are refused"),
        ("--allow-http=false", "the probes and the proxies speak HTTP"),
        ("--allow-metrics=0", "leaves nothing to alert and scale on"),
        ("--allow-client-shm=true", "--allow-client-shm came with 26.04, and the server is 25.01; it would not start"),
        ("log-info=true", "'log-info=true' is no option"),
        ("--log-info", "--log-info has no value"),
    ],
)
def test_unhealthy_options_are_refused(tmp_path: Path, option: str, sentence: str) -> None:
    found = refused(tmp_path, server={"options": [option]})
    assert "deploy.server.options: " in found
    assert sentence in found


def test_a_start_that_is_shorter_than_the_measured_load(tmp_path: Path) -> None:
    found = refused(tmp_path, server={"startup_seconds": 8}, measurements=load_file(tmp_path))
    assert "deploy.server.startup_seconds: 8 s, and loading took 41 s (41 s measured (measured.json))" in found
    assert "take 82, or leave it out" in found
    accepted(tmp_path / "b", server={"startup_seconds": 41}, measurements=load_file(tmp_path / "b"))


def test_a_tenth_of_the_computed_budget_is_too_small(tmp_path: Path) -> None:
    plan = make_plan(deploy_project(tmp_path, {"target": "cpu", "measurements": load_file(tmp_path)}))
    tenth = plan.startup.budget.whole // 10
    assert "deploy.server.startup_seconds: 8 s" in refused(
        tmp_path / "b", server={"startup_seconds": tenth}, measurements=load_file(tmp_path / "b")
    )


def test_sizes_smaller_than_what_was_measured(tmp_path: Path) -> None:
    found = refused(tmp_path, resources={"memory": "900Mi"}, measurements=load_file(tmp_path))
    assert "deploy.resources.memory: 900Mi is 900 MiB, and loading took 1,003 (measured.json)" in found
    there = tmp_path / "b"
    found = refused(there, resources={"shm": "2Mi"}, measurements=load_file(there))
    assert "deploy.resources.shm: 2Mi is 2 MiB, and 3 were used" in found


def test_a_slice_that_is_too_small_says_which_one_is_enough(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "gpu", "gpu": {**A100, "mig": "1g.10gb"}})
    with (tmp_path / "model_repository/encoder/1/weights.bin").open("wb") as file:
        file.truncate(70 << 20)
    config = tmp_path / "model_repository/encoder/config.pbtxt"
    config.write_text(config.read_text().replace("count: 2", "count: 200"))  # sessions of 70 MiB each
    with pytest.raises(ProjectError, match=r"needs 14,567 MiB \(weights 14,001, .*\), slice 1g.10gb has 9,728; the "
                                           r"smallest slice that is enough is 1g.20gb"):  # fmt: skip
        make_plan(project)


def test_an_objective_that_no_measured_load_meets(tmp_path: Path) -> None:
    found = refused(tmp_path, slo={"latency_p99_ms": 2}, measurements=perf_file(tmp_path, median_ms=3.0))
    assert "deploy.slo: encoder misses it at every measured load; at concurrency 8, 3" in found
    assert "promised are 2 ms (perf.json)" in found
    own = {"latency_p99_ms": 100, "models": {"encoder": {"latency_p99_ms": 2}}}
    assert "deploy.slo.models.encoder: " in refused(tmp_path / "b", slo=own, measurements=perf_file(tmp_path / "b"))
    accepted(tmp_path / "c", slo={"latency_p99_ms": 100}, measurements=perf_file(tmp_path / "c"))
    both = perf_file(tmp_path / "d")
    report = json.loads((tmp_path / "d" / "perf.json").read_text())
    report["measurements"].append(measurement(model="encoder", median_ms=400).to_json())
    (tmp_path / "d" / "perf.json").write_text(json.dumps(report))
    accepted(tmp_path / "d", slo={"latency_p99_ms": 100}, measurements=both)  # one of two loads meets it


def test_a_complaint_about_an_environment_names_its_line(tmp_path: Path) -> None:
    block = {"environments": {"production": {"server": {"control_mode": "poll"}}}}
    found = refused(tmp_path, environment="production", **block)
    assert found.endswith("(in environment 'production')")
    line = int(found.split(":")[1])
    assert "poll" in (tmp_path / "trtkit.yaml").read_text().splitlines()[line - 1]
    with pytest.raises(ProjectError, match=r"environment 'prod' is not in trtkit.yaml; available: production"):
        make_plan(deploy_project(tmp_path / "b", {"target": "cpu", **block}), "prod")


def test_a_repository_that_does_not_lint(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "cpu"})
    config = tmp_path / "model_repository/encoder/config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: -1"))
    with pytest.raises(RepositoryError, match=r"does not lint: encoder/config.pbtxt:3: BAT001 .*see `trtkit lint`"):
        make_plan(project)


def plan_project(folder: Path, **target: Any) -> TrtkitError:
    """A model with a plan of TensorRT 10.13.3.9 for compute capability 8.9, deployed where it does not load."""
    targets = {**TARGETS, "trt": {"backend": "tensorrt", "compute_capability": "8.9", **target}}
    project = deploy_project(folder, {"target": "trt", "gpu": {"memory_mib": 20000}}, (), targets=targets)
    shutil.copytree(A_PLAN, folder / "model_repository" / "m")
    with pytest.raises(RepositoryError) as caught:
        make_plan(project)
    return caught.value


def test_a_plan_of_another_tensorrt_or_for_another_gpu(tmp_path: Path) -> None:
    image = "nvcr.io/nvidia/tritonserver:25.01-py3"
    assert "was built by TensorRT 10.13.3.9 and" in str(plan_project(tmp_path / "a", image=image))
    right = "nvcr.io/nvidia/tritonserver:25.10-py3"
    found = str(plan_project(tmp_path / "b", image=right, compute_capability="9.0"))
    assert "m/1/model.plan was built for compute capability" in found
    assert "the target's GPUs have 9.0" in found


def test_what_may_surprise_is_said(tmp_path: Path) -> None:
    said = accepted(
        tmp_path, target="gpu", gpu={"memory_mib": 600}, scaling={"kind": "hpa", "metric": "rps", "min_replicas": 1},
        server={"pre_stop_seconds": 5, "strict": False}, slo={"latency_p99_ms": 90_000},
    )  # fmt: skip
    for part in (
        "start-up is estimated (15 s)", "pods scale on rps 100 requests/s, which was not measured",
        "server.pre_stop_seconds is 5", "may take 90000 ms by its objective, and a stopping server waits 60 s",
        "one replica and no GPU that is known to be free", "567 MiB of a GPU's 600 MiB", "server.strict is false",
    ):  # fmt: skip
        assert any(part in each for each in said), part
    assert len(said) == 7


def test_a_full_quota_at_the_most_replicas_is_said(tmp_path: Path) -> None:
    scaling = {"kind": "hpa", "min_replicas": 2, "max_replicas": 8}
    said = accepted(tmp_path, target="gpu", gpu=L40S, scaling=scaling, cluster={"quota_gpus": 8, "free_gpus": 3})
    assert any("at max_replicas 8 the quota of 8 GPUs leaves 0" in each for each in said)
