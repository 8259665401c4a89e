# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit doctor cluster` on node lists of the forms that NVIDIA's programs and the clouds document."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_nodes import (
    CONTROL_PLANE,
    CORDONED,
    CPU_NODE,
    DEPRECATED_DRIVER,
    EKS,
    GKE,
    L40S,
    L40S_NODE,
    MIG_MIXED,
    MIG_SINGLE,
    NO_PLUGIN,
    OLD,
    PRESENT,
    TIME_SLICED,
    listed,
    node,
    pod,
)
from deploy_matrix import deploy_project
from trtkit.cli import run
from trtkit.deploy.clusters.node import read_node
from trtkit.deploy.clusters.read import parse
from trtkit.deploy.clusters.report import ClusterReport, examine_cluster
from trtkit.deploy.clusters.values import number
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump
from trtkit.errors import ProjectError

ON_L40S = {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}, "scaling": {"min_replicas": 2}}
ON_MIG = {"target": "gpu", "gpu": {"product": "NVIDIA-A100-SXM4-80GB", "mig": "1g.10gb"}}


def plan_of(folder: Path, **deploy: Any) -> Plan:
    return make_plan(deploy_project(folder, deploy))


def report(*nodes: dict[str, Any], plan: Plan | None = None, **further: Any) -> ClusterReport:
    pods = further.pop("pods", None)
    return examine_cluster(parse(listed(*nodes), None if pods is None else listed(*pods)), plan, **further)


def said(found: ClusterReport) -> str:
    return "\n".join(f"{f.severity}: {f.message} [{', '.join(f.nodes)}] {f.fix}" for f in found.findings)


def fits(found: ClusterReport) -> dict[str, int]:
    return {place.node.name: place.pods for place in found.places}


def barred(found: ClusterReport) -> str:
    return found.places[0].barred


def test_a_node_is_read_whole() -> None:
    found = read_node(L40S_NODE)
    assert (found.product, found.gpu_memory_mib, found.driver, found.compute_capability) == (
        "NVIDIA-L40S", 46068, "570.86.15", "8.9",
    )  # fmt: skip
    assert (found.ready, found.cordoned, found.sharing, found.mig_strategy) == (True, False, None, None)
    assert [taint.text for taint in found.taints] == ["nvidia.com/gpu=present:NoSchedule"]
    assert found.gpus["nvidia.com/gpu"].allocatable == 2
    assert found.cpu.allocatable == 31.85


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("500m", 0.5), ("131906824Ki", 131906824 * 1024), ("1Gi", 2**30), ("1G", 1e9), ("1e3", 1000),
     ("1.5Ti", 1.5 * 2**40), ("100u", 1e-4), (4, 4), (None, 0), ("many", 0), ("", 0),
     ("1e400", 0), ("9e18", 9e18), ("8Ei", 0)],
)  # fmt: skip
def test_quantities(text: Any, value: float) -> None:
    assert number(text) == pytest.approx(value)


def test_a_healthy_cluster_has_nothing_to_say() -> None:
    found = report(L40S_NODE, CPU_NODE, CONTROL_PLANE)
    assert found.holds
    assert said(found) == ""


def test_a_gpu_that_no_plugin_offers() -> None:
    found = report(NO_PLUGIN, CPU_NODE)
    assert not found.holds
    assert "error: a GPU is built in, and none is offered" in said(found)
    assert "[bare] helm repo add nvdp" in said(found)


def test_the_clouds_labels_tell_of_gpus_too() -> None:
    assert "[ip-10-0-1-7.ec2.internal] helm repo add nvdp" in said(report(EKS))
    bare = node("gke", {"cloud.google.com/gke-accelerator": "nvidia-l4"})
    assert "gpu-driver-version=default" in said(report(bare))


def test_discovery_that_does_not_run() -> None:
    unlabelled = report(node("plain", PRESENT, {"nvidia.com/gpu": 1}))
    assert unlabelled.holds
    assert "warning: GPU feature discovery does not run" in said(unlabelled)
    assert "gfd.enabled=true" in said(unlabelled)
    assert "choose nodes by cluster.node_selector {cloud.google.com/gke-accelerator: TYPE}" in said(report(GKE))
    no_driver = {name: value for name, value in L40S.items() if "driver" not in name}
    assert "the driver's version is not on a label" in said(report(node("n", no_driver, {"nvidia.com/gpu": 2})))


def test_gpus_that_the_plugin_found_unhealthy() -> None:
    found = report(node("sick", L40S, {"nvidia.com/gpu": 8}, allocatable={"nvidia.com/gpu": 6}))
    assert "error: 2 of 8 nvidia.com/gpu unhealthy [sick]" in said(found)


def test_nodes_that_take_no_pods() -> None:
    text = said(report(CORDONED, node("gone", L40S, {"nvidia.com/gpu": 2}, ready=False)))
    assert "warning: cordoned: takes no new pods [cordoned] kubectl uncordon cordoned" in text
    assert "warning: not Ready [gone]" in text


def test_many_nodes_with_the_same_fault_are_one_finding() -> None:
    away = [node(f"n{i}", L40S, {"nvidia.com/gpu": 2}, ready=False) for i in range(300)]
    found = [finding for finding in report(*away).findings if finding.message == "not Ready"]
    assert len(found) == 1
    assert len(found[0].nodes) == 300
    assert found[0].fix == "kubectl describe node NODE"


def test_shared_gpus() -> None:
    assert "warning: 4 pods share each GPU by time-slicing" in said(report(TIME_SLICED))
    assert read_node(node("s", {}, {"nvidia.com/gpu.shared": 4})).sharing == "time-slicing"


def test_slicing_that_failed() -> None:
    broken = {**MIG_MIXED, "metadata": {"name": "m", "labels": {"nvidia.com/mig.config.state": "failed"}}}
    assert "slicing by MIG is failed [m]" in said(report(broken))
    assert "slicing" not in said(report(MIG_MIXED))


def test_taints_that_our_pods_do_not_tolerate() -> None:
    team = node("team", L40S, {"nvidia.com/gpu": 2}, taints=({"key": "team", "value": "a", "effect": "NoSchedule"},))
    assert "tainted with team=a:NoSchedule, which the rendered pods do not tolerate [team]" in said(report(team))
    only_asking = ({"key": "team", "value": "a", "effect": "PreferNoSchedule"},)
    assert said(report(node("soft", L40S, {"nvidia.com/gpu": 2}, taints=only_asking))) == ""
    evicting = ({"key": "nvidia.com/gpu", "effect": "NoExecute"},)
    assert "tainted with nvidia.com/gpu:NoExecute" in said(
        report(node("e", L40S, {"nvidia.com/gpu": 2}, taints=evicting))
    )


def test_an_exporter_is_missed_only_where_pods_are_known() -> None:
    exporter = pod("dcgm-exporter-x", "l40s", image="nvcr.io/nvidia/k8s/dcgm-exporter:4.5.3")
    assert said(report(L40S_NODE)) == ""
    assert "advice: no DCGM exporter runs" in said(report(L40S_NODE, pods=[pod("a", "l40s")]))
    assert said(report(L40S_NODE, pods=[exporter])) == ""


def test_old_drivers_without_a_project() -> None:
    image = "nvcr.io/nvidia/tritonserver:25.01-py3"
    found = report(L40S_NODE, OLD, image=image)
    assert "driver 535.104.05 is older than 570" in said(found)
    assert "[old]" in said(found)
    assert "driver" not in said(report(L40S_NODE, image=image))


@pytest.mark.parametrize("labels", [DEPRECATED_DRIVER, {"nvidia.com/cuda.driver-version.major": "535"}])
def test_each_form_of_the_driver_s_labels(labels: dict[str, str]) -> None:
    found = read_node(node("n", {**PRESENT, **labels}, {"nvidia.com/gpu": 1}))
    assert (found.driver or "").startswith("535")


def test_kubernetes_versions(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, target="cpu", kube_version="1.31")
    assert "rendered for Kubernetes 1.31, and the oldest node has 1.29" in said(report(EKS, GKE, plan=plan))
    assert "Kubernetes 1.24 is older than 1.25" in said(report(node("n", version="v1.24.17-eks-1")))
    assert "Kubernetes" not in said(report(node("n", version="v1.31.0"), plan=plan))


def test_pods_fit_by_gpus_and_by_what_others_hold(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **ON_L40S)
    assert fits(report(L40S_NODE, CPU_NODE, plan=plan)) == {"l40s": 2, "cpu": 0}
    held = report(L40S_NODE, plan=plan, pods=[pod("a", "l40s", {"nvidia.com/gpu": 1})])
    assert fits(held) == {"l40s": 1}
    assert "error: 2 pods are needed and 1 fit" in said(held)
    ended = [pod("a", "l40s", {"nvidia.com/gpu": 2}, phase="Succeeded")]
    assert fits(report(L40S_NODE, plan=plan, pods=ended)) == {"l40s": 2}


def test_the_plan_s_own_pods_make_room_for_its_new_ones(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **ON_L40S)
    ours = {"app.kubernetes.io/name": "triton", "app.kubernetes.io/instance": plan.name, "track": "stable"}
    running = [pod("t", "l40s", {"nvidia.com/gpu": 2}, namespace=plan.namespace, labels=ours)]
    assert fits(report(L40S_NODE, plan=plan, pods=running)) == {"l40s": 2}
    theirs = [pod("t", "l40s", {"nvidia.com/gpu": 2}, namespace="another", labels=ours)]
    assert fits(report(L40S_NODE, plan=plan, pods=theirs)) == {"l40s": 0}


def test_init_containers_count_as_the_scheduler_counts_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **ON_L40S)
    starter = {"name": "i", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    assert fits(report(L40S_NODE, plan=plan, pods=[pod("a", "l40s", starters=[starter])])) == {"l40s": 0}
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    with_sidecar = [pod("a", "l40s", {"nvidia.com/gpu": 1}, starters=[sidecar])]
    assert fits(report(L40S_NODE, plan=plan, pods=with_sidecar)) == {"l40s": 0}


def test_memory_bounds_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **ON_L40S)
    small = report(node("small", L40S, {"nvidia.com/gpu": 2}, memory="1Gi"), plan=plan)
    assert fits(small) == {"small": 0}
    assert "not enough free memory (1 node)" in said(small)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (CORDONED, "cordoned"),
        (OLD, "its driver 535.104.05 is older than"),
        (TIME_SLICED, "its label nvidia.com/gpu.product is NVIDIA-L40S-SHARED, wanted NVIDIA-L40S"),
        (MIG_MIXED, "offers no nvidia.com/gpu, but nvidia.com/mig-1g.10gb, nvidia.com/mig-3g.40gb"),
        (NO_PLUGIN, "offers no nvidia.com/gpu"),
        (GKE, "its label nvidia.com/gpu.product is absent"),
        (node("n", L40S, {"nvidia.com/gpu": 2}, ready=False), "not Ready"),
    ],
)  # fmt: skip
def test_why_a_node_is_none_for_the_plan(given: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = report(given, plan=plan_of(tmp_path, **ON_L40S))
    assert why in barred(found)
    assert not found.holds
    assert why in said(found)


def test_plans_run_on_the_gpus_they_were_built_for(tmp_path: Path) -> None:
    labels = {**L40S, "nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "0"}
    other = node("a100", labels, {"nvidia.com/gpu": 2})
    graphs = plan_of(tmp_path, **ON_L40S)
    assert barred(report(other, plan=graphs)) == ""
    plans = replace(graphs, target=graphs.target.model_copy(update={"backend": "tensorrt"}))
    assert barred(report(other, plan=plans)) == "its compute capability is 8.0, and the plans are for 8.9"
    assert barred(report(L40S_NODE, plan=plans)) == ""


def test_labels_of_the_project_s_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, target="cpu", cluster={"node_selector": {"pool": "serving"}})
    found = report(CPU_NODE, node("mine", {"pool": "serving"}), plan=plan)
    assert barred(found) == "without the label pool=serving"
    assert fits(found)["mine"] > 0


def test_mig_slices(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "a", **ON_MIG)
    assert fits(report(MIG_MIXED, plan=plan)) == {"mig-mixed": 7}
    wrong = report(MIG_SINGLE, plan=plan)
    assert "offers no nvidia.com/mig-1g.10gb, but nvidia.com/gpu" in said(wrong)
    assert "nvidia.com/mig.config=all-1g.10gb" in said(wrong)


def test_slices_of_the_strategy_single(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, target="gpu", gpu={**ON_MIG["gpu"], "mig_strategy": "single"})  # type: ignore[dict-item]
    assert fits(report(MIG_SINGLE, plan=plan))["mig-single"] > 0


def test_a_surge_without_a_spare_gpu(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **{**ON_L40S, "rollout": {"max_surge": 1}, "cluster": {"free_gpus": 3}})
    assert plan.rollout.max_surge.whole == 1
    assert "a rollout needs 2 + 1 pods at once and 2 fit" in said(report(L40S_NODE, plan=plan))
    assert report(L40S_NODE, {**L40S_NODE, "metadata": {"name": "b", "labels": L40S}}, plan=plan).holds


def test_scaling_beyond_the_nodes_is_a_warning(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, **{**ON_L40S, "scaling": {"kind": "hpa", "min_replicas": 1, "max_replicas": 6}})
    found = report(L40S_NODE, plan=plan)
    assert "warning: scaling up to 6 pods needs more nodes: 2 fit" in said(found)


def test_the_block_for_the_project_file(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "a", **ON_L40S)
    found = report(L40S_NODE, CPU_NODE, plan=plan, pods=[pod("a", "l40s", {"nvidia.com/gpu": 1})])
    assert found.block == {
        "kube_version": "1.30",
        "gpu": {"product": "NVIDIA-L40S", "memory_mib": 46068},
        "cluster": {"nodes": 1, "gpus_per_node": 2, "free_gpus": 1, "node_memory": "126Gi"},
    }
    (tmp_path / "b").mkdir()
    (tmp_path / "b/trtkit.yaml").write_text(dump({"deploy": found.block}))
    assert run(["schema"]) == 0
    from trtkit.project import load_project

    assert load_project(tmp_path / "b/trtkit.yaml").deploy.cluster.free_gpus == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"items": 1}', '{"items": [1]}', '{"kind": "Pod"}', "apiVersion: v1", "[" * 10_000,
             '{"items": [{"kind": "Pod"}]}'],
)  # fmt: skip
def test_what_is_no_list_of_nodes(text: str) -> None:
    with pytest.raises(ProjectError, match="kubectl get nodes -o json"):
        parse(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["2", "1Gi", "True"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "status", "labels", "taints", "key", "effect", "capacity", "allocatable", "name",
                 "nvidia.com/gpu", "conditions", "type", "nodeInfo", "kubeletVersion", "nodeName", "containers",
                 "resources", "limits", "image", "overhead", "initContainers"]
            ),
            inner, max_size=4,
        )
    ),
    max_leaves=25,
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), values, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(objects, max_size=3), st.lists(objects, max_size=3))
def test_fields_of_wrong_types_are_as_if_absent(nodes: list[Any], pods: list[Any]) -> None:
    found = report(*nodes, pods=pods)
    json.dumps(found.to_json())
    assert found.holds or nodes == [] or said(found)


def files(folder: Path, *nodes: dict[str, Any]) -> str:
    path = folder / "nodes.json"
    path.write_text(listed(*nodes))
    return str(path)


def test_the_command_without_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", "cluster", "--nodes", files(tmp_path, L40S_NODE)]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA-L40S" in out
    assert "no project file is here" in out
    assert run(["doctor", "cluster", "--nodes", files(tmp_path, NO_PLUGIN), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_the_command_with_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy_project(tmp_path / "p", {**ON_L40S, "environments": {"production": {"scaling": {"min_replicas": 3}}}})
    monkeypatch.chdir(tmp_path / "p")
    nodes = files(tmp_path, L40S_NODE)
    assert run(["doctor", "cluster", "--nodes", nodes]) == 0
    assert "2 pods fit, 2 are needed" in capsys.readouterr().out
    assert run(["doctor", "cluster", "--nodes", nodes, "--environment", "production"]) == 3
    assert "3 pods are needed and 2 fit" in capsys.readouterr().out
    assert run(["doctor", "cluster", "--nodes", nodes, "--environment", "productoin"]) == 2
    assert "did you mean 'production'" in capsys.readouterr().err


def test_an_unbuilt_project_leaves_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trtkit.yaml").write_text("repository: nothing\n")
    monkeypatch.chdir(tmp_path)
    nodes = files(tmp_path, L40S_NODE)
    assert run(["doctor", "cluster", "--nodes", nodes]) == 0
    assert "only the nodes were looked at, since there is no plan" in capsys.readouterr().out
    assert run(["doctor", "cluster", "--nodes", nodes, "--project", str(tmp_path)]) == 6


def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", "cluster", "--nodes", "absent.json"]) == 2
    assert run(["doctor", "cluster", "--pods", "pods.json"]) == 2
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert run(["doctor", "cluster", "--nodes", "binary"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def fake_kubectl(folder: Path, script: str) -> str:
    """A program called kubectl, and the PATH on which it is found."""
    folder.mkdir()
    path = folder / "kubectl"
    path.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_kubectl_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    script = (
        f"NODES, PODS = {listed(L40S_NODE)!r}, {listed(pod('a', 'l40s'))!r}\n"
        "assert sys.argv[1:3] == ['--context', 'west'], sys.argv\n"
        "print(NODES if sys.argv[3:] == ['get', 'nodes', '-o', 'json'] else PODS)"
    )
    monkeypatch.setenv("PATH", fake_kubectl(tmp_path / "bin", script))
    assert run(["doctor", "cluster", "--context", "west"]) == 0
    assert "no DCGM exporter runs" in capsys.readouterr().out


def test_pods_that_kubectl_may_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = f"sys.exit('Forbidden') if 'pods' in sys.argv else print({listed(L40S_NODE)!r})"
    monkeypatch.setenv("PATH", fake_kubectl(tmp_path / "bin", script))
    assert run(["doctor", "cluster"]) == 0
    assert "what other pods hold is not known" in capsys.readouterr().out


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = repr("E1122 02:04:22.9 8 memcache.go:265] Unhandled\nThe connection was refused")
    monkeypatch.setenv("PATH", fake_kubectl(tmp_path / "bin", f"sys.exit({words})"))
    assert run(["doctor", "cluster"]) == 5
    said = capsys.readouterr().err
    assert "failed: The connection was refused; choose" in said
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["doctor", "cluster"]) == 3
    assert "there is no kubectl here" in capsys.readouterr().err


def test_doctor_alone_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) in (0, 3)
    assert {"part", "state", "details"} <= set(json.loads(capsys.readouterr().out)[0])
