# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The autoscaler of a simulation: as it was said on the command line, else as `trtkit deploy k8s` renders it."""

from __future__ import annotations

from trtkit.deploy.cron import cron_window
from trtkit.deploy.figure import Figure
from trtkit.deploy.kubernetes import scaling as rendered
from trtkit.deploy.planned import Plan
from trtkit.deploy.scaling_plan import RPS_SHARE
from trtkit.deploy.simulation.behavior import Behavior, Policy, Rules
from trtkit.deploy.simulation.picker import Picker, preset
from trtkit.deploy.simulation.settings import METRICS, UNITS, Fallback, Keda, Metric, Pod, Scaler
from trtkit.errors import ProjectError
from trtkit.project.spec_deploy import Scaling

_PRESETS = {"pending": 8.0, "queue": 50.0, "gpu": 70.0, "cpu": 70.0}


def scaler_of(pick: Picker, plan: Plan | None, pod: Pod) -> Scaler:
    """The autoscaler.

    Raises:
        ProjectError: its limits or its target are not possible.
    """
    own = plan.scaling if plan else None
    kind = pick.given.get("autoscaler") or (own.kind if own else "hpa")
    if kind == "none" and pick.given.get("metric") and not pick.given.get("autoscaler"):
        kind = "hpa"  # who names a metric wants to see it at work
    minimum = int(pick.need("min_replicas", "pods", own.replicas if own else None, preset(2, "pods", "one may fail")))
    if kind == "none":
        name, behavior = f"{minimum} pods, fixed", _behavior(pick, plan)  # a search starts from it
        return Scaler(name, minimum, minimum, (), behavior, scrape_s=_scrape_s(plan))
    maximum = int(pick.need("max_replicas", "pods", _most(plan, minimum)))
    if maximum < max(1, minimum):
        raise ProjectError(f"--max-replicas {maximum} is less than the minimum of {minimum}")
    metric = _metric(pick, plan, pod, kind)
    behavior = _behavior(pick, plan)
    keda = _keda(plan, minimum, behavior.down.window_s) if kind == "keda" else None
    if minimum == 0 and (keda is None or not (keda.cron or keda.queue_length)):
        raise ProjectError("0 replicas need KEDA with a cron or queue trigger; nothing else starts the first pod again")
    name = "HPA" if keda is None else "KEDA"
    return Scaler(name, minimum, maximum, (metric,), behavior, scrape_s=_scrape_s(plan), keda=keda)


def _most(plan: Plan | None, minimum: int) -> Figure:
    if plan is None:
        return preset(4 * max(1, minimum), "pods", "4 x the smallest number")
    return Figure(plan.scaling.max_replicas, "pods", "scaling.max_replicas", "declared")


def _scrape_s(plan: Plan | None) -> float:
    return float(plan.spec.monitoring.interval_seconds) if plan else 15.0


def _metric(pick: Picker, plan: Plan | None, pod: Pod, autoscaler: str) -> Metric:
    own = plan.scaling if plan else None
    kind = pick.given.get("metric") or (own.metric if own else "rps")
    if kind not in METRICS:
        raise ProjectError(f"metric '{kind}' is not one of {', '.join(METRICS)}")
    planned = own.target if own and own.metric == kind and own.kind != "none" else None
    if kind == "rps":
        rate = RPS_SHARE * pod.capacity
        usual = Figure(rate, UNITS[kind], f"{100 * RPS_SHARE:g} % of the capacity", "computed")
    else:
        usual = preset(_PRESETS[kind], UNITS[kind], "nothing was measured")
    target = pick.need("target", UNITS[kind], planned, usual)
    if not target >= 0.001:
        raise ProjectError(f"--target {target:g} is too small; an HPA counts in thousandths")
    window_s = max(60.0, 4 * _scrape_s(plan))  # as scaling_metrics.rate_window
    return Metric(kind, target, "per_pod" if autoscaler == "keda" else "pods", window_s)


def _behavior(pick: Picker, plan: Plan | None) -> Behavior:
    own = plan.scaling if plan else None
    up, down = (own.up_seconds, own.down_seconds) if own else (None, None)
    up_s = pick.need("up_stabilization", "s", up, preset(0, "s", "Kubernetes' default"))
    down_s = pick.need("down_stabilization", "s", down, preset(300, "s", "Kubernetes' default"))
    return Behavior(
        Rules(up_s, (_pace(pick, "up", own.up_percent if own else None, own.up_period if own else None),)),
        Rules(down_s, (_pace(pick, "down", own.down_percent if own else None, own.down_period if own else None),)),
    )


def _pace(pick: Picker, way: str, percent: Figure | None, period: Figure | None) -> Policy:
    """Of the plan, or the project file's presets."""
    usual = Scaling()
    share = pick.need(f"{way}_percent", "%", percent, preset(getattr(usual, f"{way}_percent"), "%", "trtkit's preset"))
    seconds = preset(getattr(usual, f"{way}_period_seconds"), "s", "trtkit's preset")
    return Policy("Percent", int(share), pick.need(f"{way}_period", "s", period, seconds))


def _keda(plan: Plan | None, minimum: int, cooldown_s: float) -> Keda:
    """As the ScaledObject is rendered."""
    spec = plan.spec.scaling if plan else None
    windows = [cron_window(one.start, one.end, one.timezone, one.replicas) for one in spec.cron] if spec else []
    return Keda(
        polling_s=float(rendered.POLLING_SECONDS),
        cooldown_s=cooldown_s,
        initial_cooldown_s=float(plan.startup.budget.value) if plan and minimum == 0 else 0.0,
        cron=tuple(windows),
        queue_length=float(spec.queue.length) if spec and spec.queue else None,
        null_is_zero=minimum == 0,
        fallback=Fallback(rendered.FAILURES_BEFORE_FALLBACK, minimum, keeps_more=True) if minimum else None,
    )
