# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the Deployment and the objects around it say, field by field, and why it is so."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from deploy_objects import plans_of, with_spec
from trtkit.deploy.figure import Figure, plain
from trtkit.deploy.kubernetes import placement, probes, storage
from trtkit.deploy.kubernetes.access import service_account
from trtkit.deploy.kubernetes.limits import disruption_budget
from trtkit.deploy.kubernetes.settings import environment, settings
from trtkit.deploy.kubernetes.workload import deployment, pod_template
from trtkit.deploy.planned import Plan


def with_gpu(plan: Plan, **changes: Any) -> Plan:
    assert plan.gpu
    return replace(plan, gpu=replace(plan.gpu, **changes))


# readiness


def test_a_strict_server_is_asked_as_a_whole() -> None:
    assert probes.readiness(plans_of("cpu")[""]) == {"httpGet": {"path": "/v2/health/ready", "port": "http"}}


def test_one_promised_model_is_asked_for_itself() -> None:
    assert probes.readiness(plans_of("explicit")[""]) == {
        "httpGet": {"path": "/v2/models/encoder/ready", "port": "http"}
    }


@pytest.mark.parametrize(
    ("strict", "ready", "expected"),
    [
        (True, {"encoder", "echo"}, True),
        (True, {"encoder"}, False),
        (True, {"echo"}, False),
        (False, {"encoder", "echo"}, True),
        (False, {"encoder"}, True),
        (False, {"echo"}, True),
        (False, set(), False),
    ],
)
def test_several_promised_models_are_asked_one_by_one(strict: bool, ready: set[str], expected: bool) -> None:
    """The rendered script, run with a real curl against a server that answers as Triton does."""
    plan = with_spec(plans_of("explicit")[""], "server", strict=strict, control_mode="explicit")
    plan = replace(plan, spec=plan.spec.model_copy(update={"models": ["encoder", "echo"]}))
    shell, option, script = plain(probes.readiness(plan))["exec"]["command"]
    with models_ready(ready) as port:
        done = subprocess.run([shell, option, script.replace(":8000", f":{port}")], timeout=30, capture_output=True)
    assert (done.returncode == 0) is expected
    assert done.stdout == b""


def test_without_a_server_nothing_is_ready() -> None:
    for strict in (True, False):
        plan = with_spec(plans_of("explicit")[""], "server", strict=strict, control_mode="explicit")
        plan = replace(plan, spec=plan.spec.model_copy(update={"models": ["encoder", "echo"]}))
        shell, option, script = plain(probes.readiness(plan))["exec"]["command"]
        with models_ready(set()) as port:
            pass
        done = subprocess.run([shell, option, script.replace(":8000", f":{port}")], timeout=30, capture_output=True)
        assert done.returncode == 1


@contextmanager
def models_ready(names: set[str]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path in {f"/v2/models/{name}/ready" for name in names}
            self.send_response(200 if ready else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# the end


@pytest.mark.parametrize(
    ("kube_version", "expected"),
    [("1.28", {"exec": {"command": ["sleep", "15"]}}), ("1.30", {"sleep": {"seconds": 15}})],
)
def test_the_wait_before_sigterm(kube_version: str, expected: dict[str, Any]) -> None:
    assert plain(probes.lifecycle(plans_of("cpu", kube_version)[""])) == {"preStop": expected}


def test_no_wait_is_no_hook() -> None:
    plan = plans_of("cpu")[""]
    none = replace(plan, drain=replace(plan.drain, pre_stop=Figure(0, "s", "declared", "declared")))
    assert probes.lifecycle(none) == {}
    assert "lifecycle" not in pod_template(none)["spec"]["containers"][0]


# placement


@pytest.mark.parametrize(
    ("row", "product"),
    [("one_gpu", "NVIDIA-L40S"), ("time_slicing", "NVIDIA-L40S-SHARED"), ("mig", "NVIDIA-A100-SXM4-80GB")],
)
def test_a_node_has_the_product_as_its_label_says_it(row: str, product: str) -> None:
    plan = with_gpu(plans_of(row)[""], driver=None)
    assert schedulable(plan, {placement.PRODUCT: product})
    assert not schedulable(plan, {placement.PRODUCT: "Tesla-T4"})


@pytest.mark.parametrize(
    ("node", "fits"),
    [((569, 99), False), ((570, 85), False), ((570, 86), True), ((570, 124), True), ((571, 0), True)],
)
def test_the_driver_s_version_is_compared_as_the_scheduler_does(node: tuple[int, int], fits: bool) -> None:
    plan = with_gpu(plans_of("one_gpu")[""], driver="570.86.10", product=None, min_node_memory=None)
    labels = {placement.DRIVER_MAJOR: str(node[0]), placement.DRIVER_MINOR: str(node[1])}
    assert schedulable(plan, labels) is fits


@pytest.mark.parametrize(
    ("driver", "node", "fits"), [("570", "569", False), ("570", "570", True), ("570.00", "570", True)]
)
def test_a_driver_without_a_minor_version(driver: str, node: str, fits: bool) -> None:
    plan = with_gpu(plans_of("one_gpu")[""], driver=driver, product=None, min_node_memory=None)
    assert schedulable(plan, {placement.DRIVER_MAJOR: node}) is fits


@pytest.mark.parametrize(("memory", "fits"), [("15999", False), ("16000", False), ("16001", True)])
def test_memory_has_to_be_greater_than_the_plan_says(memory: str, fits: bool) -> None:
    plan = with_gpu(
        plans_of("one_gpu")[""], driver=None, product=None, min_node_memory=Figure(16000, "MiB", "one less", "computed")
    )
    assert schedulable(plan, {placement.MEMORY: memory}) is fits


def schedulable(plan: Plan, labels: dict[str, str]) -> bool:
    """NodeSelectorTerms as Kubernetes documents them: one term, and in it every expression."""
    affinity = plain(placement.placement(plan))["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return any(all(_meets(labels, one) for one in term["matchExpressions"]) for term in terms)


def _meets(labels: dict[str, str], wanted: dict[str, Any]) -> bool:
    value = labels.get(wanted["key"])
    if wanted["operator"] == "In":
        return value in wanted["values"]
    assert wanted["operator"] == "Gt"
    (limit,) = wanted["values"]
    assert isinstance(limit, str)
    return value is not None and int(value) > int(limit)


def test_a_cpu_pod_has_no_gpu_and_sees_none() -> None:
    plan = plans_of("cpu")[""]
    pod = plain(pod_template(plan))["spec"]
    assert "tolerations" not in pod
    assert "affinity" not in pod
    assert plain(settings(plan))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in settings(plans_of("one_gpu")[""])


def test_pods_of_a_rollout_spread_by_themselves_where_kubernetes_can() -> None:
    spread = plain(placement.placement(plans_of("cpu")[""]))["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in spread)
    old = replace(plans_of("cpu")[""], spec=plans_of("cpu")[""].spec.model_copy(update={"kube_version": "1.26"}))
    assert "matchLabelKeys" not in str(placement.placement(old))
    assert "unhealthyPodEvictionPolicy" not in str(disruption_budget(old))


# storage


def test_a_digest_has_a_folder_of_its_own_in_a_claim_of_ours() -> None:
    plan = plans_of("cpu")[""]
    assert storage.folder(plan) == plan.digest[:12]
    assert storage.folder(with_spec(plan, "storage", path="/team/a/")) == f"team/a/{plan.digest[:12]}"


@pytest.mark.parametrize(("path", "expected"), [(None, None), ("/models/", "models")])
def test_a_claim_that_is_there_is_mounted_as_the_project_says(path: str | None, expected: str | None) -> None:
    plan = with_spec(plans_of("cpu")[""], "storage", claim="shared", path=path)
    assert storage.folder(plan) == expected
    assert storage.claim(plan) == []
    (volume,) = [volume for volume in storage.volumes(plan) if volume["name"] == "models"]
    assert volume["persistentVolumeClaim"] == {"claimName": "shared", "readOnly": True}


@pytest.mark.parametrize(("mib", "size"), [(0, "1Gi"), (256, "1Gi"), (257, "2Gi"), (1024, "4Gi"), (9000, "64Gi")])
def test_a_claim_has_room_for_four_repositories(mib: int, size: str) -> None:
    plan = plans_of("one_gpu")[""]
    models = (replace(plan.models[0], weight_bytes=mib << 20),)
    assert storage.claim_size(replace(plan, models=models)).value == size
    assert storage.claim_size(with_spec(plan, "storage", size="7Gi")).value == "7Gi"


def test_under_mps_dev_shm_is_the_device_plugin_s() -> None:
    plan = with_spec(plans_of("one_gpu")[""], "gpu", mps=2)
    assert {mount["mountPath"] for mount in storage.mounts(plan)} == {"/tmp", "/models"}


# credentials


def test_bucket_keys_come_one_by_one_from_their_secret() -> None:
    rows = {row["name"]: row["valueFrom"] for row in plain(environment(plans_of("s3_keys")[""]))}
    assert rows["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "bucket-keys", "key": "AWS_ACCESS_KEY_ID"}}
    assert rows["AWS_SESSION_TOKEN"]["secretKeyRef"]["optional"] is True
    assert plain(settings(plans_of("s3_keys")[""]))["AWS_DEFAULT_REGION"] == "eu-central-1"
    pod = plain(pod_template(plans_of("s3_keys")[""]))["spec"]
    assert "models" not in {volume["name"] for volume in pod["volumes"]}


def test_workload_identity_needs_no_secret() -> None:
    plan = plans_of("s3_identity")[""]
    assert not [row for row in environment(plan) if "secretKeyRef" in row["valueFrom"]]
    account = plain(service_account(plan))
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": plan.spec.storage.identity}
    assert account["automountServiceAccountToken"] is False
    google = plain(service_account(plans_of("gcs")[""]))
    assert google["metadata"]["annotations"] == {"iam.gke.io/gcp-service-account": "triton@p.iam.gserviceaccount.com"}


def test_azure_s_identity_is_a_label_of_the_pod_too() -> None:
    plan = with_spec(
        plans_of("s3_identity")[""],
        "storage",
        kind="azure",
        uri="as://account/container/path",
        identity="id",
        region=None,
    )
    assert plain(pod_template(plan))["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    assert plain(settings(plan))["AZURE_STORAGE_ACCOUNT"] == "account"
    # no selector may have a label that depends on the storage
    assert "azure" not in str(deployment(plan)["spec"]["selector"])


def test_a_google_key_is_a_file() -> None:
    plan = with_spec(plans_of("gcs")[""], "storage", identity=None, secret="key")
    path = plain(settings(plan))["GOOGLE_APPLICATION_CREDENTIALS"]
    (mount,) = [mount for mount in storage.mounts(plan) if mount["name"] == "bucket"]
    assert path == f"{mount['mountPath']}/credentials.json"
