# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""KServe's InferenceService: on the ports and with the storage that its Triton runtime has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy_custom_resources import check
from deploy_matrix import deploy_project
from trtkit.cli import run as trtkit
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes.kserve import files, kserve_objects, storage_uri
from trtkit.deploy.kubernetes.storage import claim_name
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan
from trtkit.errors import ProjectError


def plan_of(folder: Path, **block: Any) -> Plan:
    return make_plan(deploy_project(folder / "digits", {"target": "cpu", "kserve": True, **block}))


def service_of(plan: Plan) -> dict[str, Any]:
    (item,) = kserve_objects(plan)
    return dict(plain(item))


def test_an_inference_service_has_the_fields_that_kserve_knows(tmp_path: Path) -> None:
    item = service_of(plan_of(tmp_path))
    check(item)
    assert item["metadata"]["name"] == "digits-kserve"
    predictor = item["spec"]["predictor"]
    assert predictor["model"]["modelFormat"] == {"name": "triton"}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert predictor["model"][probe]["httpGet"]["port"] == 8080


def test_its_pod_is_one_that_kubernetes_takes(tmp_path: Path) -> None:
    gpu = {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}}
    predictor = service_of(plan_of(tmp_path, **gpu))["spec"]["predictor"]
    model = predictor["model"]
    container = {key: model[key] for key in model if key not in (
        "modelFormat", "runtime", "protocolVersion", "storageUri",
    )}  # fmt: skip
    ours = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy", "model")
    spec = {key: predictor[key] for key in predictor if key not in ours}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {**spec, "containers": [{"name": "kserve-container", **container}]},
    }  # fmt: skip
    kubernetes_validate.validate(pod, "1.33", strict=True)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_drain_of_the_deployment_holds_here_too(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    predictor = service_of(plan)["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] == plan.drain.grace.whole
    assert predictor["model"]["lifecycle"] == {"preStop": {"sleep": {"seconds": plan.drain.pre_stop.whole}}}
    assert f"--exit-timeout-secs={plan.drain.exit_timeout.whole}" in predictor["model"]["args"]
    # the runtime has these already, on its own ports
    assert not [flag for flag in predictor["model"]["args"] if "-port=" in flag or "--model-repository" in flag]


@pytest.mark.parametrize(
    ("storage", "uri"),
    [
        ({"kind": "s3", "uri": "s3://models/digits", "region": "a", "secret": "k"}, "s3://models/digits"),
        (
            {"kind": "s3", "uri": "s3://https://minio.example.com:9000/models/digits", "region": "a", "secret": "k"},
            "s3://models/digits",
        ),
        ({"kind": "gcs", "uri": "gs://models/digits", "secret": "k"}, "gs://models/digits"),
        (
            {"kind": "azure", "uri": "as://account/container/digits", "secret": "k"},
            "https://account.blob.core.windows.net/container/digits",
        ),
        ({"kind": "pvc", "claim": "shared", "path": "a/b"}, "pvc://shared/a/b"),
    ],
)
def test_where_the_repository_is(tmp_path: Path, storage: dict[str, Any], uri: str) -> None:
    assert storage_uri(plan_of(tmp_path, storage=storage)) == uri


def test_the_rendered_claim_is_the_deployments(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert storage_uri(plan) == f"pvc://{claim_name(plan)}/{plan.digest[:12]}"


def test_a_repository_in_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="deploy.kserve.*baked"):
        kserve_objects(plan_of(tmp_path, storage={"kind": "baked"}, registry="registry.example.com/digits"))


def test_kserve_scales_on_the_processor_only(tmp_path: Path) -> None:
    cpu = service_of(plan_of(tmp_path / "a", scaling={"kind": "hpa", "metric": "cpu", "max_replicas": 6}))
    assert cpu["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"
    assert (cpu["spec"]["predictor"]["maxReplicas"], cpu["spec"]["predictor"]["scaleMetric"]) == (6, "cpu")
    pending = service_of(plan_of(tmp_path / "b", scaling={"kind": "hpa", "max_replicas": 6}))
    assert pending["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    assert pending["spec"]["predictor"]["minReplicas"] == pending["spec"]["predictor"]["maxReplicas"]


def test_nobody_gets_one_who_did_not_ask(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, kserve=False)
    assert kserve_objects(plan) == []
    assert files(plan, "base.yaml") == {}


def test_it_stands_beside_what_is_applied_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the Deployment in one kustomization, or one chart, the GPUs would be needed twice."""
    environments = {"production": {"namespace": "prod"}, "plain": {"kserve": False}}
    project = deploy_project(tmp_path / "digits", {"target": "cpu", "kserve": True, "environments": environments})
    monkeypatch.chdir(project.root)
    assert trtkit(["deploy", "k8s"]) == 0
    out = capsys.readouterr().out
    assert "  kubectl apply -f deploy/k8s/kserve/production.yaml  # KServe's InferenceService, instead of" in out
    assert "kserve/plain.yaml" not in out
    root = project.root / "deploy"
    written = sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
    having = [name for name in written if "InferenceService" in (root / name).read_text()]
    assert having == ["k8s/kserve/base.yaml", "k8s/kserve/production.yaml"]
    items = {item["kind"]: item for item in yaml.safe_load_all((root / having[1]).read_text())}
    assert list(items) == ["Namespace", "ServiceAccount", "PersistentVolumeClaim", "InferenceService"]
    predictor = items["InferenceService"]["spec"]["predictor"]
    assert predictor["serviceAccountName"] == items["ServiceAccount"]["metadata"]["name"]
    assert f"pvc://{items['PersistentVolumeClaim']['metadata']['name']}/" in predictor["model"]["storageUri"]
    assert {item["metadata"].get("namespace", "prod") for item in items.values()} == {"prod"}
