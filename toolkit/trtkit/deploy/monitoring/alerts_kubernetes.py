# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts that need kube-state-metrics and cAdvisor: restarts, memory, replicas, autoscaling."""

from __future__ import annotations

from collections.abc import Callable

from trtkit.deploy.monitoring.alerts_servers import start_hold_s
from trtkit.deploy.monitoring.rule import Alert, Series
from trtkit.deploy.monitoring.scope import Where, pods_of
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan

RESTARTS = 2
"""More restarts in an hour than these are a loop."""
MEMORY = 0.9
"""The share of its memory limit over which a container may soon be killed."""
_RESTARTS = "kube_pod_container_status_restarts_total"


def kubernetes_alerts(plan: Plan, timing: Timing, where: Where) -> list[Alert]:
    """The alerts on pods and what makes them; none with a Prometheus of one's own."""
    if where == "static":
        return []
    makers: list[Callable[[Plan, Timing], Alert]] = [_crash_looping, _out_of_memory, _memory_high, _replicas_missing]
    if plan.scaling.kind != "none":
        makers.append(_at_most_replicas)
    return [maker(plan, timing) for maker in makers]


def _crash_looping(plan: Plan, timing: Timing) -> Alert:
    window = timing.window_s(3600)
    labels = _container(plan)
    return Alert(
        "CrashLooping",
        f"max by (namespace, pod) (increase({_RESTARTS}{pods_of(plan)}[{timing.window(3600)}])) > {RESTARTS}",
        "in an hour; one restart may be a node's doing",
        0,
        "critical",
        '{{ $labels.pod }} restarted {{ printf "%.1f" $value }} times within an hour',
        f"""The server ends again and again. Look at its last log (kubectl logs --previous): a model that does
        not load ends it with exit code 1; a start longer than the budget of {plan.startup.budget.text} is
        ended by the startup probe (see the pod's events); 137 is the memory limit.""",
        (Series(_RESTARTS, labels, per_s=10 / window),),
        (Series(_RESTARTS, labels, per_s=1 / window),),
        (_named(labels), 10.0),
        span_s=window,
    )


def _out_of_memory(plan: Plan, timing: Timing) -> Alert:
    window = timing.window_s(900)
    labels = _container(plan)
    reason = "kube_pod_container_status_last_terminated_reason"
    killed = Series(reason, {**labels, "reason": "OOMKilled"}, value=1.0)
    matchers = pods_of(plan).replace("{", '{reason="OOMKilled", ', 1)
    return Alert(
        "OutOfMemory",
        f"max by (namespace, pod) ({reason}{matchers}) == 1\nand on (namespace, pod)\n"
        f"increase({_RESTARTS}{pods_of(plan)}[{timing.window(900)}]) > 0",
        "the last end was the memory limit's, and it was a moment ago",
        0,
        "critical",
        "{{ $labels.pod }} was killed at its memory limit",
        f"""The container used more host memory than its limit, planned as {plan.memory.host.text}. /dev/shm
        and the copies of a remote repository count too. Measure again (trtkit deploy measure) with the
        load of production, or set deploy.resources.memory.""",
        (killed, Series(_RESTARTS, labels, per_s=2 / window)),
        (killed, Series(_RESTARTS, labels, value=1.0)),
        (_named(labels), 1.0),
        span_s=window,
    )


def _memory_high(plan: Plan, timing: Timing) -> Alert:
    labels = _container(plan)
    limit = "kube_pod_container_resource_limits"
    memory = pods_of(plan).replace("{", '{resource="memory", ', 1)
    limits = Series(limit, {**labels, "resource": "memory", "unit": "byte"}, value=1e9)
    return Alert(
        "MemoryHigh",
        f"max by (namespace, pod) (container_memory_working_set_bytes{pods_of(plan)})\n"
        f"/ max by (namespace, pod) ({limit}{memory})\n> {MEMORY:g}",
        "share of the container's memory limit",
        timing.hold_s(600),
        "warning",
        "{{ $labels.pod }} uses {{ $value | humanizePercentage }} of its memory limit",
        f"""The container is near its memory limit (planned: {plan.memory.host.text}) and will be killed at
        it. Look whether it grows steadily (a leak in a Python model, or a cache without a bound) or with
        the load.""",
        (Series("container_memory_working_set_bytes", labels, value=0.95e9), limits),
        (Series("container_memory_working_set_bytes", labels, value=0.85e9), limits),
        (_named(labels), 0.95),
    )


def _replicas_missing(plan: Plan, timing: Timing) -> Alert:
    labels = {"namespace": plan.namespace, "deployment": plan.name}
    matchers = f'{{namespace="{plan.namespace}", deployment="{plan.name}"}}'
    wanted = Series("kube_deployment_spec_replicas", labels, value=3.0)
    return Alert(
        "ReplicasMissing",
        f"max by (namespace, deployment) (kube_deployment_spec_replicas{matchers})\n"
        f"- max by (namespace, deployment) (kube_deployment_status_replicas_available{matchers}) > 0",
        f"longer than a rollout's step: the start budget of {plan.startup.budget.text} and ten minutes",
        start_hold_s(plan, timing) + timing.hold_s(600),
        "warning",
        "{{ $labels.deployment }}: {{ $value }} servers are missing",
        """Fewer servers are ready than wanted. Look at pods that are pending (kubectl describe: no free GPU,
        quota, node affinity), not ready (a model that does not load) or being replaced (kubectl rollout
        status).""",
        (wanted, Series("kube_deployment_status_replicas_available", labels, value=1.0)),
        (wanted, Series("kube_deployment_status_replicas_available", labels, value=3.0)),
        (labels, 2.0),
    )


def _at_most_replicas(plan: Plan, timing: Timing) -> Alert:
    name = f"keda-hpa-{plan.name}" if plan.scaling.kind == "keda" else plan.name
    labels = {"namespace": plan.namespace, "horizontalpodautoscaler": name}
    matchers = f'{{namespace="{plan.namespace}", horizontalpodautoscaler="{name}"}}'
    most = float(plan.scaling.max_replicas)
    prefix = "kube_horizontalpodautoscaler"

    def replicas(desired: float) -> tuple[Series, ...]:
        return (
            Series(f"{prefix}_status_desired_replicas", labels, value=desired),
            Series(f"{prefix}_spec_max_replicas", labels, value=most),
        )

    return Alert(
        "AtMostReplicas",
        f"max by (namespace, horizontalpodautoscaler) ({prefix}_status_desired_replicas{matchers})\n"
        f">= max by (namespace, horizontalpodautoscaler) ({prefix}_spec_max_replicas{matchers})",
        f"max_replicas is {plan.scaling.max_replicas}",
        timing.hold_s(1800),
        "warning",
        "{{ $labels.horizontalpodautoscaler }} is at its maximum of {{ $value }} replicas",
        """More load will not bring more servers. Look whether the objectives still hold; raise
        deploy.scaling.max_replicas (and the GPU quota), or make a pod serve more: batching, instances,
        precision.""",
        replicas(most),
        replicas(most - 1),
        (labels, most),
    )


def _container(plan: Plan) -> dict[str, str]:
    return {"namespace": plan.namespace, "pod": f"{plan.name}-5d8f-x2", "container": "triton"}


def _named(labels: dict[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in ("namespace", "pod")}
