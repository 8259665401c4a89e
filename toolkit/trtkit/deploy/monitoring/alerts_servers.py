# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts on the servers themselves: gone, not loading, stuck, overloaded."""

from __future__ import annotations

import math

from trtkit.deploy.monitoring.records import PENDING_OF_POD, server_labels, traffic
from trtkit.deploy.monitoring.rule import Alert, Series
from trtkit.deploy.monitoring.scope import BY_MODEL, ENVOY_JOB, LOAD, PENDING, Where, of_models, selector
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan

LOAD_SHARE = 0.75
"""The share of the start budget that loading one model may take."""
OVERLOAD = 2
"""How many times the autoscaler's target the mean of the pods may be."""


def server_alerts(plan: Plan, timing: Timing) -> list[Alert]:
    """The alerts that need nothing but the server's metrics."""
    found = [_pod_down(plan, timing)]
    if plan.scaling.replicas.value != 0:
        found.insert(0, _absent(plan, timing))
    found += [_model_missing(plan, timing, model.name) for model in plan.models]
    if plan.server_has_metric(PENDING):
        found.append(_stuck(plan, timing))
        if plan.scaling.kind != "none" and plan.scaling.metric == "pending":
            found.append(_pending_high(plan, timing))
    if plan.server_has_metric(LOAD):
        found.append(_load_near_budget(plan, timing))
    return found


def proxy_alerts(plan: Plan, timing: Timing, where: Where) -> list[Alert]:
    """That clients have nothing to talk to though all servers are well; where Envoy is part of what is rendered."""
    if where != "static":
        return []
    labels = {"job": ENVOY_JOB, "namespace": plan.namespace}
    alert = Alert(
        "ProxyDown",
        f'max by (job, namespace) (up{{namespace="{plan.namespace}", job="{ENVOY_JOB}"}}) == 0',
        "every request goes through it; its start takes seconds",
        timing.hold_s(60),
        "critical",
        f"Envoy in front of {plan.name} does not answer: no client reaches a server",
        """The servers may be well, but clients talk to Envoy. Look at its container and its log (docker compose
        logs envoy): a configuration that it does not take, its memory limit, a port of the host that is taken.""",
        (Series("up", labels, value=0.0),),
        (Series("up", labels, value=1.0),),
        (labels, 0.0),
    )
    return [alert]


def start_hold_s(plan: Plan, timing: Timing) -> int:
    """How long a server may be silent, s: its start budget and two minutes, in whole minutes.

    No port opens before all models are loaded, so a starting server and a dead one look the same until then.
    """
    return timing.hold_s(60 * math.ceil((float(plan.startup.budget.value) + 120) / 60))


def _absent(plan: Plan, timing: Timing) -> Alert:
    stable = selector(plan, 'track="stable"')
    return Alert(
        "Absent",
        f"absent(nv_inference_request_success{stable})",
        f"longer than the start budget of {plan.startup.budget.text}, in which no port is open",
        start_hold_s(plan, timing),
        "critical",
        "no stable server of {{ $labels.job }} in {{ $labels.namespace }} gives metrics",
        """No server answers Prometheus: all are down, none has loaded its models, or Prometheus does not
        find them. Look at the pods first (pending for a GPU, crash looping, images that cannot be
        pulled), then at the targets page of Prometheus: without a target the monitor's labels are not
        those that this Prometheus selects.""",
        (),
        traffic(server_labels(plan, plan.models[0].name), 1.0, 0.0),
        ({"job": plan.name, "namespace": plan.namespace, "track": "stable"}, 1.0),
    )


def _pod_down(plan: Plan, timing: Timing) -> Alert:
    labels = _pod(plan)
    return Alert(
        "PodDown",
        f"max by (job, namespace, pod, track) (up{selector(plan)}) == 0",
        f"longer than the start budget of {plan.startup.budget.text}, in which no port is open",
        start_hold_s(plan, timing),
        "warning",
        "{{ $labels.pod }} does not answer on its metrics port",
        """This server has not opened its ports for longer than its start may take, or has stopped answering.
        Look at its log for the model that fails to load, and at the events of the pod.""",
        (Series("up", labels, value=0.0),),
        (Series("up", labels, value=1.0),),
        (labels, 0.0),
    )


def _model_missing(plan: Plan, timing: Timing, model: str) -> Alert:
    labels = _pod(plan)
    up = Series("up", labels, value=1.0)

    def loaded(name: str) -> Series:
        return Series("nv_inference_request_success", {**labels, "model": name, "version": "1"})

    others = [loaded(other.name) for other in plan.models if other.name != model]
    return Alert(
        "ModelMissing",
        f"max by (job, namespace, pod, track) (up{selector(plan)}) == 1\nunless on (job, namespace, pod)\n"
        f"nv_inference_request_success{selector(plan, of_models([model]))}",
        "a server gives the series of a model as long as it is loaded",
        timing.hold_s(300),
        "critical",
        f"{{{{ $labels.pod }}}} does not serve {model}",
        f"""The server runs without the model {model}: it failed to load (tritonserver ran with
        --exit-on-error=false), or somebody unloaded it through the repository API. Its requests get an
        error. Look at the server's log and at /v2/repository/index.""",
        (up, *others),
        (up, *others, loaded(model)),
        (labels, 1.0),
        {"model": model},
    )


def _stuck(plan: Plan, timing: Timing) -> Alert:
    window = timing.window(300)
    by = f"{BY_MODEL}, pod"
    model = plan.models[0].name
    labels = server_labels(plan, model)
    rates = [
        f"sum by ({by}) (rate(nv_inference_request_{kind}{selector(plan)}[{window}]))"
        for kind in ("success", "failure")
    ]
    waiting = Series(PENDING, labels, value=3.0)
    return Alert(
        "Stuck",
        f"sum by ({by}) ({PENDING}{selector(plan)}) > 0\nand\n{rates[0]}\n+ {rates[1]} == 0",
        "requests wait, and none has ended for the whole window",
        timing.hold_s(600),
        "critical",
        "{{ $labels.model }} in {{ $labels.pod }}: {{ $value }} requests wait and none ends",
        """The backend hangs, or one execution takes longer than this alert waits. Look at the model's log
        and at GPU activity, then restart the pod. If answers do arrive, the server's counters are frozen:
        with --metrics-config=counter_latencies=false it stops counting requests too.""",
        (waiting, *traffic(labels, 0.0, 0.0)),
        (waiting, *traffic(labels, 1.0, 0.0)),
        ({key: labels[key] for key in ("job", "namespace", "model", "track", "pod")}, 3.0),
        span_s=timing.window_s(300),
    )


def _pending_high(plan: Plan, timing: Timing) -> Alert:
    target = float(plan.scaling.target.value)
    limit = OVERLOAD * target
    labels = server_labels(plan, plan.models[0].name)
    return Alert(
        "PendingHigh",
        f"avg by (job, namespace) ({PENDING_OF_POD}{selector(plan)}) > {limit:g}",
        f"{OVERLOAD} x {target:g}, the autoscaler's target for a pod",
        timing.hold_s(600),
        "warning",
        '{{ $labels.job }}: {{ printf "%.1f" $value }} requests wait for each pod',
        f"""Autoscaling has not brought the pending requests of a pod near its target of {target:g}. Look
        whether it is at max_replicas ({plan.scaling.max_replicas}), whether new pods are pending for want
        of a GPU, and whether the metric reaches it (kubectl describe hpa).""",
        (Series(PENDING, labels, value=2 * limit),),
        (Series(PENDING, labels, value=limit),),
        ({"job": plan.name, "namespace": plan.namespace}, 2 * limit),
    )


def _load_near_budget(plan: Plan, timing: Timing) -> Alert:
    limit = LOAD_SHARE * float(plan.startup.budget.value)
    labels = server_labels(plan, plan.models[0].name)
    return Alert(
        "LoadNearBudget",
        f"max by ({BY_MODEL}) ({LOAD}{selector(plan)}) > {limit:g}",
        f"{LOAD_SHARE:.0%} of the start budget of {plan.startup.budget.text}; s",
        timing.hold_s(60),
        "warning",
        '{{ $labels.model }} took {{ printf "%.1f" $value }} s to load',
        f"""Loading this model took most of the time that a start may take ({plan.startup.budget.text}): a
        slower disk or network, or a larger model, and the startup probe will restart servers that are
        still loading. Measure again with trtkit deploy measure, and render again, or set
        deploy.server.startup_seconds.""",
        (Series(LOAD, labels, value=1.2 * limit),),
        (Series(LOAD, labels, value=limit / 2),),
        ({key: labels[key] for key in ("job", "namespace", "model", "track")}, 1.2 * limit),
    )


def _pod(plan: Plan) -> dict[str, str]:
    return {"job": plan.name, "namespace": plan.namespace, "pod": f"{plan.name}-0", "track": "stable"}
