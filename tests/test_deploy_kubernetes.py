# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The objects of the whole matrix: real schemas, and what schemas do not see."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from deploy_custom_resources import SPECS, check, mistakes
from deploy_matrix import MATRIX
from deploy_objects import KUBE_VERSIONS, Key, matrix_plans, planned, plans_of
from deploy_tools import program, run, write_all
from trtkit.deploy.kubernetes import kustomize
from trtkit.deploy.kubernetes.meta import selector
from trtkit.deploy.planned import Plan

BUILT_IN = {
    "Namespace", "PriorityClass", "ResourceQuota", "LimitRange", "ServiceAccount", "NetworkPolicy", "ConfigMap",
    "PersistentVolumeClaim", "Service", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress",
    "Secret",
}  # fmt: skip
"""Kinds that every API server has; the schemas of others are not in kubernetes-validate."""
ALWAYS = {"Namespace", "PriorityClass", "ServiceAccount", "NetworkPolicy", "ConfigMap", "Service", "Deployment"}
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
PLANS = dict(matrix_plans())
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def one(objects: dict[Key, dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [item for (this, _, _), item in objects.items() if this == kind]
    return found


def pod_of(plan: Plan) -> dict[str, Any]:
    return one(planned(plan), "Deployment")["spec"]["template"]


def walk(value: Any, path: str = "") -> Any:
    yield path, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from walk(item, f"{path}/{key}")


@pytest.mark.parametrize("kube_version", KUBE_VERSIONS)
def test_every_object_has_the_fields_that_this_kubernetes_knows(kube_version: str) -> None:
    checked, seen = set(), set()
    for row, plan in matrix_plans(kube_version):
        for (kind, _, name), item in planned(plan).items():
            if kind in BUILT_IN and json.dumps(item) not in seen:
                seen.add(json.dumps(item))
                try:
                    kubernetes_validate.validate(item, kube_version, strict=True)
                except kubernetes_validate.ValidationError as exc:
                    pytest.fail(f"{row}: {kind} {name}: {exc}")
                checked.add(kind)
    assert ALWAYS | {"HorizontalPodAutoscaler", "Ingress", "ResourceQuota", "LimitRange"} <= checked


def test_the_schemas_see_a_field_that_is_too_new() -> None:
    """The check above fails where a field is not gated."""
    new = planned(plans_of("cpu", "1.30")[""])[("Deployment", "triton", "digits")]
    assert "sleep" in json.dumps(new["spec"]["template"]["spec"]["containers"][0]["lifecycle"])
    with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
        kubernetes_validate.validate(new, "1.28", strict=True)


def test_every_operator_s_object_has_fields_that_its_definition_knows() -> None:
    checked = set()
    for plan in PLANS.values():
        for (kind, _, _), item in planned(plan).items():
            if kind not in BUILT_IN:
                check(item)
                checked.add((item["apiVersion"], kind))
    # an InferenceService stands beside these objects and not among them; test_deploy_kserve.py checks it
    beside = {key for key in SPECS if key[1] == "InferenceService"}
    assert checked == set(SPECS) - beside, "a kind that nothing renders any more"


def test_a_field_that_a_definition_does_not_know_is_seen() -> None:
    item = one(planned(plans_of("keda")[""]), "ScaledObject")
    spec = item["spec"]
    spec["triggers"][0]["metricName"] = "triton"  # KEDA removed it with 2.13
    del spec["scaleTargetRef"]
    assert sorted(mistakes(item)) == [
        "spec.triggers[0]: Additional properties are not allowed ('metricName' was unexpected)",
        "spec: 'scaleTargetRef' is a required property",
    ]


@every_plan
def test_kubectl_can_note_every_object_in_an_annotation(plan: Plan) -> None:
    """`kubectl apply` keeps what it applied in one, and annotations together have room for 256 KiB."""
    assert max(len(json.dumps(item)) for item in planned(plan).values()) < 250 << 10


@every_plan
def test_every_object_is_named_labelled_and_there_once(plan: Plan) -> None:
    for kind, namespace, name in (found := planned(plan)):
        meta = found[kind, namespace, name]["metadata"]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name), name
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "trtkit"
        for _, value in walk(found[kind, namespace, name]):
            for text in value.get("labels", {}).values() if isinstance(value, dict) and kind in BUILT_IN else ():
                assert isinstance(text, str)
                assert len(text) <= 63
                assert LABEL.fullmatch(text), text


@every_plan
def test_kinds_of_operators_are_there_only_where_the_plan_asks_for_them(plan: Plan) -> None:
    kinds = {kind for kind, _, _ in planned(plan)} - BUILT_IN
    wanted = set()
    wanted |= {"Gateway", "HTTPRoute", "GRPCRoute"} if plan.spec.exposure.kind == "gateway" else set()
    wanted |= {"ScaledObject", "TriggerAuthentication"} if plan.scaling.kind == "keda" else set()
    wanted |= {"VerticalPodAutoscaler"} if plan.spec.scaling.vpa else set()
    wanted |= {"InferenceService", "ServingRuntime"} if plan.spec.kserve else set()
    monitors = {"podmonitor": "PodMonitor", "servicemonitor": "ServiceMonitor"}
    wanted |= {monitors.get(plan.spec.monitoring.kind, "PrometheusRule"), "PrometheusRule"}
    assert kinds <= wanted


@every_plan
def test_a_gpu_is_in_the_limits_and_memory_is_requested_as_limited(plan: Plan) -> None:
    for item in planned(plan).values():
        for path, value in walk(item):
            if not (isinstance(value, dict) and path.endswith("/resources") and "requests" in value):
                continue
            requests, limits = value["requests"], value.get("limits", {})
            for name in requests:
                assert not name.startswith("nvidia.com/") or limits.get(name) == requests[name], path
            if "memory" in limits:
                assert limits["memory"] == requests["memory"]
            assert "cpu" not in limits
    resources = pod_of(plan)["spec"]["containers"][0]["resources"]
    gpus = {name: count for name, count in resources["limits"].items() if name.startswith("nvidia.com/")}
    assert gpus == ({plan.gpu.resource: plan.gpu.count} if plan.gpu else {})


@every_plan
def test_selectors_choose_the_pods_and_nothing_else(plan: Plan) -> None:
    objects = planned(plan)
    labels = pod_of(plan)["metadata"]["labels"]
    deployment = one(objects, "Deployment")
    chosen = [
        deployment["spec"]["selector"]["matchLabels"],
        one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    chosen += [item["spec"]["selector"] for (kind, _, _), item in objects.items() if kind == "Service"]
    chosen.append(one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    for wanted in chosen:
        assert wanted.items() <= labels.items()
        assert selector(plan).items() <= wanted.items()
    # no digest in a selector: a Deployment's cannot be changed
    assert not any(plan.digest[:12] in str(wanted) for wanted in chosen)


def test_labels_of_the_project_file_are_on_everything_but_in_no_selector() -> None:
    plan = plans_of("cpu")[""]
    own = {"team": "vision", "app.kubernetes.io/name": "mine", "track": "mine"}
    objects = planned(_with(plan, spec=plan.spec.model_copy(update={"labels": own})))
    assert all(item["metadata"]["labels"]["team"] == "vision" for item in objects.values())
    template = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert template["team"] == "vision"
    chosen = one(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert chosen == one(planned(plan), "Deployment")["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= template.items()


@every_plan
def test_every_port_and_every_volume_that_is_named_is_there(plan: Plan) -> None:
    pod = pod_of(plan)["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    for (kind, _, name), item in planned(plan).items():
        if kind == "Service":
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= set(ports), name
            assert all(ports[port["name"]] == port["port"] for port in item["spec"]["ports"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe].get("httpGet", {"port": "http"})["port"] in ports
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    settings = one_named(planned(plan), "ConfigMap", f"{plan.name}-settings")["data"]
    for row in container["env"]:
        reference = row["valueFrom"].get("configMapKeyRef")
        assert reference is None or (reference["name"] == f"{plan.name}-settings" and reference["key"] in settings)
    assert "envFrom" not in container
    claims = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    ]
    for name in claims:
        assert plan.spec.storage.claim == name or one_named(planned(plan), "PersistentVolumeClaim", name)


def one_named(objects: dict[Key, dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for (this, _, called), item in objects.items() if (this, called) == (kind, name)]
    return found


@every_plan
def test_the_arithmetic_of_start_and_end_holds(plan: Plan) -> None:
    pod = pod_of(plan)["spec"]
    (container,) = pod["containers"]
    startup, readiness = container["startupProbe"], container["readinessProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= float(plan.startup.budget.value)
    assert startup["httpGet"]["path"] == "/v2/health/live"
    assert readiness["timeoutSeconds"] <= readiness["periodSeconds"]
    (exit_timeout,) = [
        int(arg.partition("=")[2]) for arg in container["args"] if arg.startswith("--exit-timeout-secs=")
    ]
    stop = container["lifecycle"]["preStop"]
    waits = stop["sleep"]["seconds"] if "sleep" in stop else int(stop["exec"]["command"][1])
    assert waits == plan.drain.pre_stop.whole >= 10
    assert pod["terminationGracePeriodSeconds"] >= waits + exit_timeout + 10
    strategy = one(planned(plan), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxSurge"] + strategy["maxUnavailable"] > 0
    deadline = one(planned(plan), "Deployment")["spec"]["progressDeadlineSeconds"]
    assert deadline > startup["failureThreshold"] * startup["periodSeconds"]


@every_plan
def test_the_pod_keeps_to_the_restricted_standard(plan: Plan) -> None:
    pod = pod_of(plan)["spec"]
    (container,) = pod["containers"]
    security = pod["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 1000, 1000)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret", "configMap"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostPath"} & {
        key for _, value in walk(pod) if isinstance(value, dict) for key in value
    }
    assert pod["automountServiceAccountToken"] is False


@every_plan
def test_no_secret_is_written_out(plan: Plan) -> None:
    objects = planned(plan)
    assert not [key for key in objects if key[0] == "Secret"]
    settings = one_named(objects, "ConfigMap", f"{plan.name}-settings")["data"]
    assert not [key for key in settings if "SECRET" in key or key.endswith(("_KEY", "_KEY_ID", "_TOKEN"))]


def test_another_repository_is_another_pod_template_and_nothing_else() -> None:
    """A digest change is a rollout; the selector, which cannot change, stays."""
    plan = plans_of("cpu")[""]
    other = _with(plan, digest="f" * 64)
    before, after = planned(plan), planned(other)
    assert before.keys() == after.keys()
    differing = {key[0] for key in before if before[key] != after[key]}
    assert differing == {"Deployment"}
    template = one(after, "Deployment")["spec"]["template"]
    assert template["metadata"]["annotations"]["trtkit.io/repo-digest"] == "f" * 64
    (mount,) = [m for m in template["spec"]["containers"][0]["volumeMounts"] if m["name"] == "models"]
    assert mount["subPath"] == "f" * 12
    assert mount["readOnly"]


def test_another_setting_is_another_pod_template() -> None:
    """Pods read a ConfigMap when they start, so its checksum is an annotation of theirs."""
    west = plans_of("s3_keys")[""]
    storage = west.spec.storage.model_copy(update={"region": "us-west-2"})
    other = _with(west, spec=west.spec.model_copy(update={"storage": storage}))
    assert pod_of(west)["metadata"]["annotations"] != pod_of(other)["metadata"]["annotations"]


def test_replicas_belong_to_who_scales() -> None:
    fixed = one(planned(plans_of("cpu")[""]), "Deployment")["spec"]
    assert fixed["replicas"] == plans_of("cpu")[""].scaling.replicas.whole
    for row in ("hpa", "keda"):
        assert "replicas" not in one(planned(plans_of(row)[""]), "Deployment")["spec"]


@pytest.mark.parametrize("row", MATRIX)
def test_the_matrix_applies_to_a_cluster(row: str, tmp_path: Path) -> None:
    kubeconfig = os.environ.get("TRTKIT_TEST_KUBECONFIG") or os.environ.get("KUBECONFIG")
    if not kubeconfig:
        pytest.skip("no cluster: neither TRTKIT_TEST_KUBECONFIG nor KUBECONFIG is set")
    plans = dict(plans_of(row))
    folder = write_all(kustomize.files(plans.pop(""), plans), tmp_path)
    kubectl = program("kubectl")
    for place in ("base", *(f"overlays/{name}" for name in plans)):
        # a dry run creates no namespace for the objects after it
        (namespace,) = {plan.namespace for plan in plans_of(row).values() if place.endswith(plan.environment or "base")}
        if "NotFound" in _namespace_state(kubectl, kubeconfig, namespace):
            pytest.skip(f"the cluster has no namespace {namespace}, which a dry run does not create; create it")
        command = (kubectl, "--kubeconfig", kubeconfig, "apply", "--dry-run=server", "-k", folder / place)
        run(*command)


def _namespace_state(kubectl: str, kubeconfig: str, namespace: str) -> str:
    import subprocess

    done = subprocess.run(
        [kubectl, "--kubeconfig", kubeconfig, "get", "namespace", namespace], capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def _with(plan: Plan, **changes: Any) -> Plan:
    from dataclasses import replace

    return replace(plan, **changes)
