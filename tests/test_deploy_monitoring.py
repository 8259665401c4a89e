# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Rules, their unit tests, scrape configuration and dashboard, by promtool, amtool and a typed Grafana SDK.

What a live server on a CPU cannot show (GPU, kube-state-metrics, the histogram of 24.11) is shown here on synthetic
series. test_deploy_live_monitoring.py has the rest on a real Prometheus.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from deploy_matrix import CONFIGS, MATRIX, MODELS, deploy_project, matrix_project
from deploy_tools import program, run, write_all
from part_models import write_part
from trtkit.cli.deploy_monitoring import monitoring
from trtkit.deploy.figure import Figure, plain
from trtkit.deploy.monitoring.alerts_gpu import memory_limit
from trtkit.deploy.monitoring.alerts_servers import start_hold_s
from trtkit.deploy.monitoring.dashboard import dashboard, expressions
from trtkit.deploy.monitoring.latency import blind_spots, bucket_over
from trtkit.deploy.monitoring.objects import monitoring_objects
from trtkit.deploy.monitoring.panel import WIDTH
from trtkit.deploy.monitoring.rendered import monitoring_files
from trtkit.deploy.monitoring.rule_tests import unit_test_file
from trtkit.deploy.monitoring.rules import alerts, rule_file
from trtkit.deploy.monitoring.scope import FIRST_RESPONSE, buckets_of, escaped
from trtkit.deploy.monitoring.stack import alertmanager_file, prometheus_file
from trtkit.deploy.monitoring.timing import Timing, duration, timing_of
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan
from trtkit.errors import ProjectError

STREAM = CONFIGS["echo"].replace('"echo"', '"%s"') + "model_transaction_policy { decoupled: true }\n"
BUCKETS = """
model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [ 20, 50, 2.5 ] }
} }
"""
UNIT_TESTED = {
    "several_models": "static", "cpu_old_server": "static", "cpu": "kubernetes", "mig": "kubernetes",
    "hpa": "kubernetes", "streams": "kubernetes", "fallback": "static",
}  # fmt: skip
"""The rows that differ in their alerts; promtool needs seconds for each."""


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    folder = tmp_path_factory.mktemp("plans")
    found = {name: make_plan(matrix_project(folder / name, name)) for name in MATRIX}
    return {**found, "streams": streams_plan(folder / "streams"), "fallback": fallback_plan(folder / "fallback")}


def streams_plan(folder: Path) -> Plan:
    """Two decoupled models: one whose histogram has a bucket at its objective, and one with the default buckets."""
    CONFIGS.update(exact=STREAM % "exact" + BUCKETS, coarse=STREAM % "coarse")
    try:
        models = {"exact": {"latency_p99_ms": 50}, "coarse": {"latency_p99_ms": 80}}
        return make_plan(deploy_project(folder, {"target": "cpu", "slo": {"models": models}}, ("exact", "coarse")))
    finally:
        del CONFIGS["exact"], CONFIGS["coarse"]


def fallback_plan(folder: Path) -> Plan:
    """A model with another one to fall back on."""
    project = deploy_project(folder, {"target": "cpu"}, ("echo", "encoder"))
    write_part(project.repository, "careful", "fallback", {"models": "echo, encoder"}, edit=with_tensors_of_echo)
    return make_plan(project)


def with_tensors_of_echo(config: Any) -> None:
    del config.output[:]
    config.input[0].dims[:] = [4]
    config.output.add(name="y", data_type="TYPE_FP32", dims=[4])
    config.max_batch_size = 8


def both(plan: Plan, timing: Timing | None = None) -> dict[str, str]:
    return {
        f"{where}/{name}": make(plan, timing, where=where)
        for where in ("static", "kubernetes")
        for name, make in (("rules.yml", rule_file), ("rules_test.yml", unit_test_file))
    }


def names_of(plan: Plan, where: str = "static") -> set[str]:
    return {alert.name for alert in alerts(plan, timing_of(plan), where)}


def expr_of(plan: Plan, name: str, where: str = "static") -> str:
    return next(alert.expr for alert in alerts(plan, timing_of(plan), where) if alert.name == name)


def test_promtool_accepts_every_rule_and_every_expression_of_the_dashboard(
    plans: dict[str, Plan], tmp_path: Path
) -> None:
    for name, plan in plans.items():
        write_all(both(plan), tmp_path / name)
        for where in ("static", "kubernetes"):
            rules = [
                {"record": f"panel:{i}", "expr": filled(q.expr)} for i, (_, q) in enumerate(expressions(plan, where))
            ]
            document = {"groups": [{"name": "panels", "rules": rules}]}
            (tmp_path / name / where / "panels.yml").write_text(json.dumps(document))
    files = sorted(tmp_path.glob("*/*/rules.yml"))
    assert len(files) == 2 * len(plans)
    run(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files)
    run(program("promtool"), "check", "rules", *sorted(tmp_path.glob("*/*/panels.yml")))


def filled(expr: str) -> str:
    """A dashboard's expression with everything chosen."""
    return re.sub(r"\$(namespace|model|version|pod)\b", ".*", expr.replace("$__rate_interval", "1m"))


def test_the_rendered_unit_tests_pass(plans: dict[str, Plan], tmp_path: Path) -> None:
    for name in UNIT_TESTED:
        # promtool needs four times as long for a scrape interval of 15 s, the default, as for 60 s
        timing = Timing() if name == "mig" else Timing(60)
        write_all(both(plans[name], timing), tmp_path / name)
    files = [tmp_path / name / where / "rules_test.yml" for name, where in UNIT_TESTED.items()]
    run(program("promtool"), "test", "rules", *files)
    tested = {alert.name for name, where in UNIT_TESTED.items() for alert in alerts(plans[name], Timing(), where)}
    every = {alert.name for plan in plans.values() for where in ("static", "kubernetes")
             for alert in alerts(plan, Timing(), where)}  # fmt: skip
    assert tested == every


@pytest.mark.parametrize(
    ("was", "then"),
    [
        ("> 0.01", "> 0.5"),
        ('for: "5m"', 'for: "50m"'),
        ("severity: critical", "severity: warning"),
        ("/ 1000 > 100", "> 100"),
    ],
)
def test_the_rendered_unit_tests_notice_an_edited_rule(
    was: str, then: str, plans: dict[str, Plan], tmp_path: Path
) -> None:
    rules = rule_file(plans["baked"], Timing(60))
    assert was in rules
    files = {"rules.yml": rules.replace(was, then), "rules_test.yml": unit_test_file(plans["baked"], Timing(60))}
    write_all(files, tmp_path)
    command = [program("promtool"), "test", "rules", "rules_test.yml"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0
    write_all({"rules.yml": rules}, tmp_path)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_each_alert_explains_itself(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        for alert in alerts(plan, timing_of(plan), "kubernetes"):
            assert set(alert.annotations) == {"summary", "description"}
            assert re.search("[Ll]ook|[Cc]ompare|grep|Measure", alert.description)
            assert len(alert.description) > 100
            assert alert.why


def test_alerts_follow_what_the_server_measures(plans: dict[str, Plan]) -> None:
    assert "LoadNearBudget" in names_of(plans["cpu"])
    assert "LoadNearBudget" not in names_of(plans["cpu_old_server"])  # the metric came with 24.11
    assert "reason" not in str([q.expr for _, q in expressions(release(plans["cpu"], "24.05"), "static")])
    old = release(plans["several_models"], "23.08")
    assert "Stuck" not in names_of(old)
    assert "nv_inference_pending_request_count" not in rule_file(old) + json.dumps(dashboard(old, "static"))


def release(plan: Plan, value: str) -> Plan:
    return replace(plan, release=value)


def test_alerts_follow_what_the_plan_has(plans: dict[str, Plan]) -> None:
    assert "CacheCold" in names_of(plans["cpu"])
    assert "CacheCold" not in names_of(plans["baked"])
    assert "FallbackUsed" in names_of(plans["fallback"])
    assert "FallbackUsed" not in names_of(plans["cpu"])
    gpu = {"GpuMemoryHigh", "GpuXidError", "GpuMetricsAbsent"}
    assert names_of(plans["mig"]) >= gpu
    assert not names_of(plans["cpu"]) & gpu
    assert "PendingHigh" in names_of(plans["hpa"])
    assert "PendingHigh" not in names_of(plans["hpa_cpu"])
    assert "AtMostReplicas" in names_of(plans["hpa_cpu"], "kubernetes")
    assert "CrashLooping" not in names_of(plans["hpa_cpu"], "static")
    asleep = replace(plans["keda"], scaling=replace(plans["keda"].scaling, replicas=Figure(0, "pods", "", "declared")))
    assert names_of(plans["keda"]) - names_of(asleep) == {"Absent"}  # with no replicas there are no metrics, rightly


def test_thresholds_are_the_objectives(plans: dict[str, Plan]) -> None:
    plan = plans["several_models"]
    high = [alert.expr for alert in alerts(plan, Timing(), "static") if alert.name == "LatencyHigh"]
    assert [(expr.rpartition("> ")[2], re.findall(r'model=~?"([^"]*)"', expr)[0]) for expr in high] == [
        ("50", "encoder"), ("200", "echo|pipeline|tracker"),
    ]  # fmt: skip
    slow = [alert for alert in alerts(plan, Timing(), "static") if alert.name == "QueueTimeHigh"]
    assert [alert.expr.rpartition("> ")[2] for alert in slow] == ["5", "100"]


def test_nothing_is_alerted_that_was_not_promised(plans: dict[str, Plan]) -> None:
    plan = plans["several_models"]
    silent = replace(plan, objectives=tuple(replace(o, latency_p99_ms=None, queue_ms=None, error_ratio=None)
                                            for o in plan.objectives))  # fmt: skip
    promised = {"ErrorRatioHigh", "LatencyHigh", "MeanLatencyHigh", "QueueTimeHigh", "CanaryFailing", "CanarySlower"}
    assert names_of(plan) - names_of(silent) == promised


def test_a_model_with_the_cache_has_no_percentile_and_the_file_says_so(plans: dict[str, Plan]) -> None:
    assert 'model="cached"' in expr_of(plans["several_models"], "MeanLatencyHigh")
    assert "cached" not in expr_of(plans["several_models"], "LatencyHigh")
    assert "cached: latency_p99_ms 200 is watched by the mean latency only" in rule_file(plans["several_models"])


def test_only_decoupled_models_have_the_histogram(plans: dict[str, Plan]) -> None:
    assert FIRST_RESPONSE not in rule_file(plans["several_models"])
    assert FIRST_RESPONSE in rule_file(plans["streams"])
    assert FIRST_RESPONSE not in rule_file(release(plans["streams"], "24.10"))
    assert "before 24.11" in blind_spots(release(plans["streams"], "24.10"))[0]


def test_the_share_over_the_bucket_at_the_objective_is_alerted_or_over_the_next_one(plans: dict[str, Plan]) -> None:
    plan = plans["streams"]
    slow = {
        alert.labels["model"]: alert for alert in alerts(plan, Timing(), "static") if alert.name == "FirstResponseSlow"
    }
    assert 'le=~"50(\\\\.0)?"' in slow["exact"].expr
    assert 'le=~"100(\\\\.0)?"' in slow["coarse"].expr
    assert "the next bucket above is 100 ms" in slow["coarse"].why
    assert [line.partition(":")[0] for line in blind_spots(plan)] == ["coarse"]
    assert "the alert fires from 100 ms on; add 80 to model_metrics" in blind_spots(plan)[0]
    exact = next(model for model in plan.models if model.name == "exact")
    assert buckets_of(exact) == (2.5, 20.0, 50.0)
    assert [bucket_over(exact, limit) for limit in (1, 2.5, 50, 51)] == [2.5, 2.5, 50, None]


def test_an_objective_above_every_bucket_is_said_to_be_unwatched(plans: dict[str, Plan]) -> None:
    plan = plans["streams"]
    plan = replace(plan, objectives=tuple(replace(o, latency_p99_ms=9000) for o in plan.objectives))
    assert "FirstResponseSlow" not in names_of(plan)
    assert [("nothing is watched" in line) for line in blind_spots(plan)] == [True, True]


def test_the_wait_for_a_start_is_longer_than_its_budget(plans: dict[str, Plan]) -> None:
    for budget, hold in ((30, 180), (60, 180), (61, 240), (1800, 1920)):
        plan = replace(plans["cpu"], startup=replace(plans["cpu"].startup, budget=Figure(budget, "s", "", "computed")))
        assert start_hold_s(plan, Timing()) == hold


def test_the_limit_of_gpu_memory_is_above_what_is_planned(plans: dict[str, Plan]) -> None:
    plan = plans["one_gpu"]
    assert plan.gpu is not None
    assert plan.memory.gpu is not None

    def limit(planned: int) -> float:
        memory = replace(plan.memory, gpu=Figure(planned, "MiB", "", "computed"))
        gpu = replace(plan.gpu, memory=Figure(10_000, "MiB", "", "preset"))
        return memory_limit(replace(plan, memory=memory, gpu=gpu))[0]

    assert [limit(planned) for planned in (5000, 8700, 9200, 9900)] == [0.9, 0.9, 0.95, 0.99]


def test_a_window_has_at_least_four_scrapes() -> None:
    assert [Timing(15).window(60), Timing(30).window(60), Timing(30).window(300)] == ["1m", "2m", "5m"]
    assert [duration(seconds) for seconds in (1, 60, 90, 3600, 5400)] == ["1s", "1m", "90s", "1h", "90m"]
    assert Timing(1, scale=1 / 30).hold_s(300) == 10


def test_names_in_matchers_are_quoted() -> None:
    assert escaped("v1.2+x") == "v1\\\\.2\\\\+x"


def test_prometheus_and_alertmanager_accept_their_configuration(plans: dict[str, Plan], tmp_path: Path) -> None:
    for name, plan in plans.items():
        write_all(monitoring_files(plan), tmp_path / name)
        run(program("promtool"), "check", "config", tmp_path / name / "prometheus/prometheus.yml")
    run(program("amtool"), "check-config", *sorted(tmp_path.glob("*/alertmanager/alertmanager.yml")))


def test_the_receiver_reads_its_address_from_a_file(plans: dict[str, Plan], tmp_path: Path) -> None:
    plan = plans["cpu"]
    told = plan.spec.monitoring.model_copy(update={"webhook_url_file": "/run/secrets/alert_webhook_url"})
    text = alertmanager_file(replace(plan, spec=plan.spec.model_copy(update={"monitoring": told})))
    assert yaml.safe_load(text)["receivers"][0]["webhook_configs"][0]["url_file"] == "/run/secrets/alert_webhook_url"
    version = run(program("amtool"), "--version").split()[2].rstrip(",")
    if tuple(map(int, version.split(".")[:2])) < (0, 26):
        pytest.skip(f"amtool {version} does not know url_file, which came with 0.26")
    run(program("amtool"), "check-config", *write_all({"alertmanager.yml": text}, tmp_path).iterdir())


def test_a_relative_path_of_the_receivers_file_is_refused(plans: dict[str, Plan]) -> None:
    plan = plans["cpu"]
    told = plan.spec.monitoring.model_copy(update={"webhook_url_file": "secrets/hook"})
    with pytest.raises(ProjectError, match=r"secrets/hook, a relative path.* /run/secrets/hook"):
        alertmanager_file(replace(plan, spec=plan.spec.model_copy(update={"monitoring": told})))


def test_scraped_series_have_the_labels_that_rules_choose_by(plans: dict[str, Plan]) -> None:
    files = monitoring_files(plans["mig"])
    jobs = {job["job_name"]: job for job in yaml.safe_load(files["prometheus/prometheus.yml"])["scrape_configs"]}
    assert set(jobs) == {"mig", "dcgm-exporter", "envoy", "prometheus", "alertmanager"}
    assert jobs["mig"]["dns_sd_configs"][0]["names"] == ["triton", "triton-canary"]
    assert 'DCGM_FI_DEV_XID_ERRORS{namespace="triton", job="dcgm-exporter"}' in files["prometheus/rules.yml"]
    assert "exported_namespace" in files["kubernetes/rules.yml"]


def test_every_server_that_dns_knows_is_scraped_under_a_name_of_its_own(plans: dict[str, Plan], tmp_path: Path) -> None:
    """What DNS would find stands there, and Prometheus itself relabels it."""
    value = yaml.safe_load(prometheus_file(plans["cpu"]))
    job = value["scrape_configs"][0]
    port = job.pop("dns_sd_configs")[0]["port"]
    found = {"triton": ["10.0.0.5", "10.0.0.6"], "triton-canary": ["10.0.0.7"]}
    job["static_configs"] = [
        {"targets": [f"{address}:{port}" for address in addresses], "labels": {"__meta_dns_name": name}}
        for name, addresses in found.items()
    ]
    files = {"prometheus.yml": json.dumps({"scrape_configs": [job]})}
    told = run(program("promtool"), "check", "service-discovery", write_all(files, tmp_path) / "prometheus.yml", "cpu",
               "--timeout=2s")  # fmt: skip
    servers = [target["labels"] for target in json.loads(told[told.index("[") :])]
    same = {"job": "cpu", "namespace": "triton"}
    shown = [{key: labels[key] for key in ("job", "namespace", "pod", "track", "__address__")} for labels in servers]
    assert sorted(shown, key=lambda labels: labels["pod"]) == [
        {**same, "pod": "triton-10.0.0.5", "track": "stable", "__address__": "10.0.0.5:8002"},
        {**same, "pod": "triton-10.0.0.6", "track": "stable", "__address__": "10.0.0.6:8002"},
        {**same, "pod": "triton-canary-10.0.0.7", "track": "canary", "__address__": "10.0.0.7:8002"},
    ]


def test_rates_span_four_scrapes_whatever_the_data_source_is_set_to(tmp_path: Path) -> None:
    """Grafana takes the panel's interval before the data source's, whose default of 15 s is no minute."""
    plan = make_plan(deploy_project(tmp_path, {"target": "cpu", "monitoring": {"interval_seconds": 60}}, ("echo",)))
    panels = [panel for panel in dashboard(plan, "kubernetes")["panels"] if panel["type"] != "row"]
    assert {panel["interval"] for panel in panels} == {"1m"}


def test_a_cache_in_redis_has_no_panels_of_the_local_one(tmp_path: Path) -> None:
    plan = make_plan(deploy_project(tmp_path, {"target": "cpu", "compose": {"redis": True}}, ("cached",)))
    local = {"Full", "Evictions"}
    assert not local & {title for title, _ in expressions(plan, "static")}
    assert local <= {title for title, _ in expressions(plan, "kubernetes")}  # where each pod has its own


def test_a_canary_does_not_hide_that_no_stable_server_is_there(plans: dict[str, Plan]) -> None:
    assert 'track="stable"' in expr_of(plans["cpu"], "Absent")
    assert "ProxyDown" in names_of(plans["cpu"], "static")
    assert "ProxyDown" not in names_of(plans["cpu"], "kubernetes")


def test_the_monitors_choose_the_pods_and_keep_their_track(plans: dict[str, Plan]) -> None:
    pods, rules, shown = map(plain, monitoring_objects(plans["cpu"]))
    assert (pods["kind"], rules["kind"], shown["kind"]) == ("PodMonitor", "PrometheusRule", "ConfigMap")
    assert pods["spec"]["podTargetLabels"] == ["track", "trtkit.io/digest"]
    assert pods["spec"]["jobLabel"] == "app.kubernetes.io/instance"
    assert pods["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    assert all(item["metadata"]["labels"]["release"] == "prometheus" for item in (pods, rules))
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    services = plain(monitoring_objects(plans["servicemonitor"])[0])
    assert services["kind"] == "ServiceMonitor"
    assert services["spec"]["endpoints"] == pods["spec"]["podMetricsEndpoints"]
    assert services["metadata"]["labels"]["release"] == "kps"


@pytest.mark.parametrize("kind", ["none", "static"])
def test_without_an_operator_there_are_no_objects(kind: str, plans: dict[str, Plan]) -> None:
    plan = plans["cpu"]
    settings = plan.spec.monitoring.model_copy(update={"kind": kind})
    plan = replace(plan, spec=plan.spec.model_copy(update={"monitoring": settings}))
    assert monitoring_objects(plan) == []
    assert not [file for file in monitoring_files(plan) if file.startswith("kubernetes/")]


def lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What is in ours and not, or otherwise, in theirs."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [found for key in ours for found in lost(ours[key], theirs.get(key, "absent"), f"{path}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [found for i, pair in enumerate(zip(ours, theirs, strict=True)) for found in lost(*pair, f"{path}[{i}]")]
    return [] if ours == theirs else [f"{path}: {ours!r} became {theirs!r}"]


def test_a_typed_grafana_sdk_imports_the_dashboard_without_loss(plans: dict[str, Plan]) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    for plan in plans.values():
        ours = json.loads(json.dumps(dashboard(plan, "kubernetes")))
        theirs = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
        assert lost(ours, theirs) == []
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(theirs)))
        assert again == theirs


def test_panels_lie_beside_each_other_and_say_what_they_show(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        panels = dashboard(plan, "kubernetes")["panels"]
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= WIDTH
            assert not cells & taken
            taken |= cells
        graphs = [panel for panel in panels if panel["type"] != "row"]
        assert all(panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in graphs)
        assert all(target["legendFormat"] for panel in graphs for target in panel["targets"])
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_rows_follow_what_the_plan_has(plans: dict[str, Plan]) -> None:
    def titles(name: str, where: str = "static") -> set[str]:
        return {panel["title"] for panel in dashboard(plans[name], where)["panels"]}

    assert "Response cache" in titles("cpu")
    assert "Response cache" not in titles("mig")
    assert "GPU" not in titles("cpu")
    assert {"GPU", "GPU memory (DCGM)"} <= titles("mig")
    assert "GPU memory (Triton)" not in titles("mig")  # it has no metrics of MIG slices
    assert "GPU memory (Triton)" in titles("one_gpu")
    assert "First response" in titles("streams")
    assert "First response" not in titles("cpu")
    assert "Load time" not in titles("cpu_old_server")
    assert "Kubernetes" not in titles("cpu")
    assert "Kubernetes" in titles("cpu", "kubernetes")


def test_thresholds_of_panels_are_the_objectives_in_the_panels_unit(plans: dict[str, Plan]) -> None:
    def panel(name: str, title: str) -> Any:
        return next(panel for panel in dashboard(plans[name], "static")["panels"] if panel["title"] == title)

    one = panel("baked", "Queue time")
    assert one["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == 100_000
    assert one["fieldConfig"]["defaults"]["unit"] == "µs"
    several = [target["expr"] for target in panel("several_models", "Request, slowest pod")["targets"]]
    assert [expr.rpartition("+ ")[2] for expr in several[1:]] == ["50000", "200000"]
    assert 'model="encoder"' in several[1]


SYNTHETIC = {
    "DCGM_FI_DEV_GPU_UTIL": 70, "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.7, "DCGM_FI_DEV_FB_USED": 900,
    "DCGM_FI_DEV_FB_FREE": 100, "DCGM_FI_DEV_FB_RESERVED": 10, "DCGM_FI_DEV_GPU_TEMP": 60,
    "DCGM_FI_DEV_POWER_USAGE": 200, "DCGM_FI_DEV_SM_CLOCK": 1500, "DCGM_FI_DEV_XID_ERRORS": 0,
    "nv_gpu_utilization": 0.5, "nv_gpu_memory_used_bytes": 5, "nv_gpu_memory_total_bytes": 9,
    "nv_gpu_power_usage": 200, "nv_gpu_power_limit": 300, "nv_model_load_duration_secs": 3,
    "kube_deployment_spec_replicas": 2, "kube_deployment_status_replicas_available": 2,
    "kube_horizontalpodautoscaler_status_desired_replicas": 2, "kube_horizontalpodautoscaler_spec_min_replicas": 2,
    "kube_horizontalpodautoscaler_spec_max_replicas": 8, "container_memory_working_set_bytes": 5,
    "kube_pod_container_resource_limits": 9, "kube_pod_container_status_restarts_total": 0,
    f"{FIRST_RESPONSE}_bucket": 1,
}  # fmt: skip
"""What a CPU server of 24.10 on a plain machine does not have: name and value."""


@pytest.mark.parametrize("name", ["one_gpu", "mig", "hpa", "streams"])
def test_panels_without_a_live_source_return_data_on_synthetic_series(
    name: str, plans: dict[str, Plan], tmp_path: Path
) -> None:
    plan = plans[name]
    labels = {
        "namespace": "triton", "job": plan.name, "pod": f"{plan.name}-1", "container": "triton", "resource": "memory",
        "model": "m", "version": "1", "track": "stable", "deployment": plan.name, "horizontalpodautoscaler": plan.name,
        "UUID": "GPU-1", "Hostname": "a", "gpu_uuid": "GPU-1",
    }  # fmt: skip
    series = [
        {"series": f"{metric}{{{', '.join(f'{k}={json.dumps(v)}' for k, v in {**labels, 'le': le}.items())}}}",
         "values": f"{value}+1x40"}
        for metric, value in SYNTHETIC.items()
        for le in (("100", "+Inf") if metric.endswith("_bucket") else ("",))
    ]  # fmt: skip
    wanted = [q.expr for _, q in expressions(plan, "kubernetes") if any(metric in q.expr for metric in SYNTHETIC)]
    assert len(wanted) >= (7 if name == "streams" else 12)
    tests = [
        # NaN is not greater than anything
        {"expr": f"count(({filled(expr)}) > -1) >= bool 1", "eval_time": "5m",
         "exp_samples": [{"labels": "{}", "value": 1}]}
        for expr in wanted
    ]  # fmt: skip
    case = {"interval": "15s", "input_series": series, "promql_expr_test": tests}
    document = {"rule_files": [], "evaluation_interval": "15s", "tests": [case]}
    write_all({"panels_test.yml": json.dumps(document)}, tmp_path)
    run(program("promtool"), "test", "rules", tmp_path / "panels_test.yml")


def test_the_command_writes_everything_and_says_what_next(tmp_path: Path) -> None:
    deploy = {"target": "cpu", "slo": {"latency_p99_ms": 50}}
    deploy_project(tmp_path / "p", deploy, MODELS["cpu"])
    arguments = ["--project", str(tmp_path / "p")]
    done = CliRunner().invoke(monitoring, arguments, standalone_mode=False)
    assert done.exception is None, done.output
    assert "promtool test rules" in done.output
    assert "warning: cached: latency_p99_ms 50" in done.output
    written = {
        path.relative_to(tmp_path / "p/deploy/monitoring").as_posix()
        for path in tmp_path.glob("p/deploy/monitoring/**/*.*")
    }
    assert {
        "prometheus/prometheus.yml", "prometheus/rules.yml", "prometheus/rules_test.yml",
        "alertmanager/alertmanager.yml", "grafana/provisioning/datasources/prometheus.yml",
        "grafana/provisioning/dashboards/trtkit.yml", "grafana/dashboards/p.json",
        "kubernetes/monitoring.yaml", "kubernetes/rules.yml", "kubernetes/rules_test.yml",
    } <= written  # fmt: skip
    assert CliRunner().invoke(monitoring, [*arguments, "--check"], standalone_mode=False).return_value == 0


def test_the_files_are_the_same_each_time(plans: dict[str, Plan]) -> None:
    assert monitoring_files(plans["several_models"]) == monitoring_files(plans["several_models"])
