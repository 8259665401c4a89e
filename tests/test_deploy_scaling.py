# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HPA, KEDA and VPA: every metric is one that somebody defines, and every query says what it is to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy_custom_resources import check
from deploy_matrix import MODELS, deploy_project
from deploy_tools import program, run
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes.scaling import adapter_values, behavior, quantity, scaling_objects
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan

METRICS = ("pending", "queue", "rps", "gpu", "cpu")
EVERY = MODELS["several_models"]
CRON = {"timezone": "Asia/Shanghai", "start": "0 8 * * *", "end": "0 20 * * *", "replicas": 10}


def plan_of(folder: Path, scaling: dict[str, Any], models: tuple[str, ...] = ("encoder",), **block: Any) -> Plan:
    where = folder / f"digits-{len(list(folder.iterdir()))}"
    project = deploy_project(where, {"name": "digits", "target": "cpu", "scaling": scaling, **block}, models)
    return make_plan(project)


def on_gpu(metric: str) -> dict[str, Any]:
    return {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}} if metric == "gpu" else {}


def rendered(plan: Plan) -> dict[str, dict[str, Any]]:
    return {item["kind"]: plain(item) for item in scaling_objects(plan)}


def rules_of(plan: Plan) -> list[dict[str, Any]]:
    values = adapter_values(plan)
    assert values is not None
    return list(yaml.safe_load(values)["rules"]["custom"])


@pytest.mark.parametrize("metric", METRICS)
def test_an_hpa_is_one_that_every_kubernetes_knows(tmp_path: Path, metric: str) -> None:
    hpa = rendered(plan_of(tmp_path, {"kind": "hpa", "metric": metric}, **on_gpu(metric)))["HorizontalPodAutoscaler"]
    for minor in range(28, 37):
        kubernetes_validate.validate(hpa, f"1.{minor}", strict=True)


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_that_an_hpa_names_is_one_that_the_adapter_serves(tmp_path: Path, metric: str) -> None:
    plan = plan_of(tmp_path, {"kind": "hpa", "metric": metric, "target": 7}, **on_gpu(metric))
    (one,) = rendered(plan)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    if metric == "cpu":
        assert one == {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 7}},
        }
        assert adapter_values(plan) is None
        return
    (rule,) = rules_of(plan)
    assert one["type"] == "Pods"
    assert one["pods"]["metric"]["name"] == rule["name"]["as"]
    assert one["pods"]["target"] == {"type": "AverageValue", "averageValue": "7"}
    # the labels by which the adapter finds the pod have to be in the series it looks for
    labels = {value["resource"]: label for label, value in rule["resources"]["overrides"].items()}
    assert set(labels) == {"namespace", "pod"}
    assert all(f'{label}!=""' in rule["seriesQuery"] for label in labels.values())
    assert rule["metricsQuery"].count("<<.LabelMatchers>>") >= 1
    assert "<<.GroupBy>>" in rule["metricsQuery"]


def test_the_gpu_is_found_by_the_labels_that_the_exporter_gives_it(tmp_path: Path) -> None:
    (rule,) = rules_of(plan_of(tmp_path, {"kind": "hpa", "metric": "gpu"}, **on_gpu("gpu")))
    assert rule["seriesQuery"] == 'DCGM_FI_DEV_GPU_UTIL{exported_namespace!="",exported_pod!=""}'
    assert rule["resources"]["overrides"]["exported_pod"] == {"resource": "pod"}


def test_the_default_rules_of_the_adapter_are_off_and_prometheus_is_the_projects(tmp_path: Path) -> None:
    scaling = {"kind": "hpa", "prometheus_url": "https://prom.example.com/prefix/"}
    values = yaml.safe_load(str(adapter_values(plan_of(tmp_path, scaling))))
    assert values["rules"]["default"] is False
    assert values["prometheus"] == {"url": "https://prom.example.com", "port": 443, "path": "/prefix"}


def counted(plan: Plan) -> list[str]:
    """The models by which the HPA selects requests; [] for all."""
    (one,) = rendered(plan)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    selector = one["pods"]["metric"].get("selector")
    return list(selector["matchExpressions"][0]["values"]) if selector else []


def test_a_step_that_clients_call_themselves_counts(tmp_path: Path) -> None:
    """One that has an objective of its own; else its requests would be invisible to the HPA."""
    own = {"models": {"encoder": {"latency_p99_ms": 50}}}
    plan = plan_of(tmp_path, {"kind": "hpa", "metric": "rps"}, EVERY, slo=own)
    assert counted(plan) == ["cached", "encoder", "pipeline", "tracker"]  # echo is a step, and nothing else


def test_a_request_of_an_ensemble_counts_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"kind": "hpa", "metric": "rps"}, EVERY)
    (one,) = rendered(plan)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (expression,) = one["pods"]["metric"]["selector"]["matchExpressions"]
    assert expression == {"key": "model", "operator": "In", "values": ["cached", "pipeline", "tracker"]}
    keda = rendered(plan_of(tmp_path, {"kind": "keda", "metric": "rps"}, EVERY))["ScaledObject"]
    assert 'model=~"cached|pipeline|tracker"' in keda["spec"]["triggers"][0]["metadata"]["query"]
    (alone,) = rendered(plan_of(tmp_path, {"kind": "hpa", "metric": "rps"}))["HorizontalPodAutoscaler"]["spec"][
        "metrics"
    ]
    assert "selector" not in alone["pods"]["metric"]


# what four pods report for a minute: one works, one idles, one hangs, one of another deployment works
WORKING, IDLE, HANGING, OTHER = "1a-aaaaa", "1a-bbbbb", "1a-ccccc", "canary-1a-aaaaa"
REPORTED = [
    ("pending_request_count", WORKING, "a", "3x20"),
    ("pending_request_count", WORKING, "b", "4x20"),
    ("pending_request_count", IDLE, "a", "0x20"),
    ("pending_request_count", HANGING, "a", "9x20"),
    ("pending_request_count", OTHER, "a", "50x20"),
    ("request_success", WORKING, "a", "0+150x20"),
    ("request_success", WORKING, "b", "0+15x20"),
    ("request_success", IDLE, "a", "70x20"),
    ("request_success", HANGING, "a", "80x20"),
    ("request_success", OTHER, "a", "0+1500x20"),
    ("queue_duration_us", WORKING, "a", "0+300000x20"),
    ("queue_duration_us", WORKING, "b", "0+600000x20"),
    ("queue_duration_us", IDLE, "a", "500x20"),
    ("queue_duration_us", HANGING, "a", "500x20"),
    ("queue_duration_us", OTHER, "a", "0+9000000x20"),
]
GPUS = [(WORKING, "0", "80x20"), (WORKING, "1", "40x20"), (OTHER, "2", "100x20")]
SERIES = [
    {"series": f'nv_inference_{name}{{namespace="triton",pod="digits-{pod}",model="{model}"}}', "values": values}
    for name, pod, model, values in REPORTED
] + [
    {
        "series": f'DCGM_FI_DEV_GPU_UTIL{{exported_namespace="triton",exported_pod="digits-{pod}",gpu="{gpu}"}}',
        "values": v,
    }
    for pod, gpu, v in GPUS
]
# per 15 s: 150 successes are 10/s, 15 are 1/s; 300000 us of queue for 150 requests are 2 ms, 600000 for 15 are 40 ms
EXPECTED = {
    "pending": {"digits-1a-aaaaa": 7, "digits-1a-bbbbb": 0, "digits-1a-ccccc": 9},
    # the model that waits longest; 0 for the idle pod; nothing for the one that answers nothing while requests wait
    "queue": {"digits-1a-aaaaa": 40, "digits-1a-bbbbb": 0},
    "rps": {"digits-1a-aaaaa": 11, "digits-1a-bbbbb": 0, "digits-1a-ccccc": 0},
    "gpu": {"digits-1a-aaaaa": 60},
}


def promtool_test(folder: Path, expected: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """Let the real Prometheus evaluate queries over SERIES, 5 minutes in."""
    tests = [{"expr": query, "eval_time": "5m", "exp_samples": samples} for query, samples in expected]
    case = {"interval": "15s", "input_series": SERIES, "promql_expr_test": tests}
    (folder / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [case]}))
    run(program("promtool"), "test", "rules", folder / "test.yml")


@pytest.mark.parametrize("metric", sorted(EXPECTED))
def test_what_a_real_prometheus_answers_the_adapter(tmp_path: Path, metric: str) -> None:
    plan = plan_of(tmp_path, {"kind": "hpa", "metric": metric}, **on_gpu(metric))
    (rule,) = rules_of(plan)
    labels = {value["resource"]: label for label, value in rule["resources"]["overrides"].items()}
    matchers = f'{labels["namespace"]}="triton",{labels["pod"]}=~"{"|".join(f"digits-1a-{c * 5}" for c in "abc")}"'
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", matchers).replace("<<.GroupBy>>", labels["pod"])
    samples = [
        {"labels": json.dumps(labels["pod"])[1:-1].join(("{", f'="{pod}"}}')), "value": value}
        for pod, value in EXPECTED[metric].items()
    ]
    promtool_test(tmp_path, [(query, samples)])


@pytest.mark.parametrize("metric", sorted(EXPECTED))
def test_what_a_real_prometheus_answers_keda(tmp_path: Path, metric: str) -> None:
    plan = plan_of(tmp_path, {"kind": "keda", "metric": metric}, **on_gpu(metric))
    (trigger,) = rendered(plan)["ScaledObject"]["spec"]["triggers"]
    total = sum(EXPECTED[metric].values())
    promtool_test(tmp_path, [(trigger["metadata"]["query"], [{"labels": "{}", "value": total}])])


def test_without_the_pending_gauge_an_idle_pod_still_has_a_queue_time(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"kind": "hpa", "metric": "queue"}, server={"release": "23.08"}, image="own:1")
    (rule,) = rules_of(plan)
    assert "nv_inference_pending_request_count" not in rule["metricsQuery"]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'pod="digits-1a-bbbbb"').replace("<<.GroupBy>>", "pod")
    promtool_test(tmp_path, [(query, [{"labels": '{pod="digits-1a-bbbbb"}', "value": 0}])])


@pytest.mark.parametrize("metric", METRICS)
def test_a_scaled_object_has_the_fields_that_keda_knows(tmp_path: Path, metric: str) -> None:
    scaling = {
        "kind": "keda",
        "metric": metric,
        "cron": [CRON, CRON],
        "queue": {"name": "inference"},
        "max_replicas": 20,
    }
    objects = rendered(plan_of(tmp_path, scaling, **on_gpu(metric)))
    assert set(objects) == {"ScaledObject", "TriggerAuthentication"}  # and no HPA beside it
    for item in objects.values():
        check(item)
    spec = objects["ScaledObject"]["spec"]
    assert [trigger["type"] for trigger in spec["triggers"]] == [
        "cpu" if metric == "cpu" else "prometheus", "rabbitmq", "cron", "cron",
    ]  # fmt: skip
    assert ("fallback" in spec) == (metric != "cpu")
    queue = spec["triggers"][1]
    assert queue["authenticationRef"]["name"] == objects["TriggerAuthentication"]["metadata"]["name"]
    assert "host" not in queue["metadata"]


def test_missing_data_is_an_error_unless_there_may_be_no_pod(tmp_path: Path) -> None:
    awake = rendered(plan_of(tmp_path, {"kind": "keda", "min_replicas": 2}))["ScaledObject"]["spec"]
    assert awake["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
    assert awake["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    scaling = {"kind": "keda", "min_replicas": 0, "queue": {"name": "inference"}}
    asleep = rendered(plan_of(tmp_path, scaling))["ScaledObject"]["spec"]
    # a fallback would wake a pod whenever there is none
    assert asleep["triggers"][0]["metadata"]["ignoreNullValues"] == "true"
    assert "fallback" not in asleep
    assert asleep["initialCooldownPeriod"] >= 1


def test_how_fast_pods_come_and_go(tmp_path: Path) -> None:
    usual = plain(behavior(plan_of(tmp_path, {"kind": "hpa"})))
    assert usual == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300, "policies": [{"type": "Percent", "value": 25, "periodSeconds": 120}],
        },
    }  # fmt: skip
    scaling = {
        "up_stabilization_seconds": 60, "down_stabilization_seconds": 400, "up_percent": 50, "up_period_seconds": 60,
        "down_percent": 10, "down_period_seconds": 30,
    }  # fmt: skip
    for kind in ("hpa", "keda"):
        plan = plan_of(tmp_path, {"kind": kind, **scaling})
        rules = plain(behavior(plan))
        assert rules["scaleUp"] == {
            "stabilizationWindowSeconds": 60, "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
        }  # fmt: skip
        assert rules["scaleDown"] == {
            "stabilizationWindowSeconds": 400, "policies": [{"type": "Percent", "value": 10, "periodSeconds": 30}],
        }  # fmt: skip
        (item,) = rendered(plan).values()
        spec = item["spec"]["advanced"]["horizontalPodAutoscalerConfig"] if kind == "keda" else item["spec"]
        assert spec["behavior"] == rules


@pytest.mark.parametrize("mode", ["Off", "Initial", "InPlaceOrRecreate"])
def test_a_vpa_stays_between_the_plan_and_the_node(tmp_path: Path, mode: str) -> None:
    block = {"cluster": {"node_memory": "64Gi"}, "kube_version": "1.33"}
    plan = plan_of(tmp_path, {"kind": "hpa", "vpa": mode}, **block)
    item = rendered(plan)["VerticalPodAutoscaler"]
    check(item)
    assert item["spec"]["updatePolicy"] == {"updateMode": mode}
    (policy,) = item["spec"]["resourcePolicy"]["containerPolicies"]
    assert policy["containerName"] == "triton"
    assert policy["minAllowed"] == {"memory": f"{plan.memory.host.whole}Mi"}
    assert policy["maxAllowed"] == {"memory": "64Gi"}


def test_a_fixed_number_of_pods_has_no_autoscaler(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {"kind": "none"})
    assert scaling_objects(plan) == []
    assert adapter_values(plan) is None


@given(st.floats(min_value=0.001, max_value=1e9, allow_nan=False))
def test_a_quantity_is_the_number_in_thousandths(value: float) -> None:
    text = quantity(value)
    back = int(text[:-1]) / 1000 if text.endswith("m") else float(text)
    assert back == pytest.approx(value, abs=0.00051)


@pytest.mark.parametrize(
    ("value", "text"), [(8.0, "8"), (1.5, "1500m"), (0.0001, "1m"), (70, "70"), (12.345, "12345m")]
)
def test_quantities(value: float, text: str) -> None:
    assert quantity(value) == text
