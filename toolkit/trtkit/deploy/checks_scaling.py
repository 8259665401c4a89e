# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""scaling and exposure: what an API server or a controller would refuse, and what would have no effect.

Limits of the HPA are those of autoscaling/v2 (pkg/apis/autoscaling/validation in Kubernetes), of routes and listeners
those of the Gateway API's CRDs, of cron triggers KEDA's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from trtkit.deploy.cron import cron_window
from trtkit.deploy.measured import PerfMeasurement
from trtkit.deploy.planned import Plan
from trtkit.deploy.releases import has
from trtkit.errors import ProjectError
from trtkit.project import Deploy
from trtkit.project.spec_deploy import Exposure, Scaling

Found = Iterator[tuple[tuple[str, ...], str]]
"""Keys of the block, and what is wrong there."""
_MOST_WINDOW_S, _MOST_PERIOD_S, _LEAST_TARGET = 3600, 1800, 0.001
_MOST_TIMEOUT_S = 99_999
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def _at(key: str, sentence: str) -> tuple[tuple[str, ...], str]:
    return tuple(key.split(".")), sentence


def scaling_problems(spec: Deploy, *, on_gpu: bool) -> Found:
    """What `scaling:` says that cannot work."""
    scaling = spec.scaling
    yield from _kind_problems(scaling)
    if scaling.kind != "none":
        yield from _metric_problems(spec, on_gpu=on_gpu)
        yield from _limit_problems(scaling)
        yield from _address_problems(scaling)
    yield from _cron_problems(scaling)
    yield from _vpa_problems(spec, on_gpu=on_gpu)


def _kind_problems(scaling: Scaling) -> Found:
    if scaling.kind == "none" and scaling.hpa:
        yield _at("scaling.hpa", "true, and kind is none, which renders no autoscaler; set `kind: hpa`")
    if scaling.kind == "hpa" and scaling.hpa is False:
        yield _at("scaling.hpa", "false, and kind is hpa; leave one of them out")


def _metric_problems(spec: Deploy, *, on_gpu: bool) -> Found:
    scaling = spec.scaling
    shared = next((f"gpu.{key}" for key in ("mig", "time_slicing", "mps") if getattr(spec.gpu, key)), None)
    if scaling.metric == "gpu":
        if not on_gpu:
            yield _at("scaling.metric", "gpu, and the target runs on the CPU; take pending")
        elif shared:
            what = "is not reported for slices" if spec.gpu.mig else "is that of all pods on the GPU together"
            yield _at("scaling.metric", f"gpu with {shared}: utilization {what}; take pending or queue")
        if scaling.target is not None and not 1 < scaling.target <= 100:
            yield _at("scaling.target", f"{scaling.target:g} of metric gpu, which DCGM counts from 0 to 100; take 70")
    if scaling.metric == "cpu" and scaling.target is not None and round(scaling.target) < 1:
        yield _at("scaling.target", f"{scaling.target:g} of metric cpu, a whole percentage; take 70")
    if scaling.target is not None and scaling.target < _LEAST_TARGET:
        yield _at("scaling.target", f"{scaling.target:g} is less than {_LEAST_TARGET:g}; an HPA counts in thousandths")


def _limit_problems(scaling: Scaling) -> Found:
    limits = {
        "up_stabilization_seconds": _MOST_WINDOW_S, "down_stabilization_seconds": _MOST_WINDOW_S,
        "up_period_seconds": _MOST_PERIOD_S, "down_period_seconds": _MOST_PERIOD_S,
    }  # fmt: skip
    for key, most in limits.items():
        if getattr(scaling, key) > most:
            yield _at(f"scaling.{key}", f"{getattr(scaling, key)} s; an HPA takes {most} at most")


def _address_problems(scaling: Scaling) -> Found:
    text = scaling.prometheus_url
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good:
        yield _at("scaling.prometheus_url", f"'{text}' is no address; write one such as http://prometheus:9090")
    elif url.password is not None or url.username is not None:
        yield _at(
            "scaling.prometheus_url", "it holds a user or a password, which would stand in a manifest; leave them out"
        )


def _cron_problems(scaling: Scaling) -> Found:
    least, most = scaling.min_replicas, scaling.max_replicas
    for number, cron in enumerate(scaling.cron, 1):
        try:
            cron_window(cron.start, cron.end, cron.timezone, cron.replicas)
        except ProjectError as exc:
            yield _at("scaling.cron", f"entry {number}: {exc}")
        if cron.replicas > most:
            yield _at("scaling.cron", f"entry {number}: {cron.replicas} replicas are more than max_replicas {most}")
        elif cron.replicas <= least:
            sentence = f"entry {number}: {cron.replicas} replicas change nothing; min_replicas is {least} already"
            yield _at("scaling.cron", sentence)


def _vpa_problems(spec: Deploy, *, on_gpu: bool) -> Found:
    scaling, key = spec.scaling, "scaling.vpa"
    if scaling.vpa in ("Recreate", "Auto") and on_gpu:
        why = "restarts GPU pods to resize them, and each loads its models anew"
        yield _at(key, f"{scaling.vpa} {why}; take Off or Initial")
    if scaling.vpa == "InPlaceOrRecreate" and on_gpu:
        yield _at(key, "InPlaceOrRecreate restarts GPU pods that it cannot resize in place; take Off or Initial")
    if scaling.vpa == "InPlaceOrRecreate" and not has(spec.kube_version, "1.33"):
        why = f"needs Kubernetes 1.33 to resize pods in place, and in {spec.kube_version} restarts them"
        yield _at(key, f"InPlaceOrRecreate {why}; take Off or Initial")
    if scaling.vpa not in (None, "Off") and scaling.kind != "none" and scaling.metric == "cpu":
        what = "an HPA" if scaling.kind == "hpa" else "KEDA"
        yield _at(key, f"{scaling.vpa} and {what} on cpu change each other's input; take Off, or metric pending")


def exposure_problems(exposure: Exposure) -> Found:
    """What `exposure:` says that an API server or a controller would refuse, or ignore."""
    if exposure.kind == "gateway":
        yield from _gateway_problems(exposure)
    elif exposure.kind == "ingress" and exposure.gateway is not None:
        yield _at("exposure.gateway", f"{exposure.gateway}, and an Ingress uses no Gateway; set `kind: gateway`")
    if exposure.kind != "none" and exposure.gateway_namespace is not None and exposure.gateway is None:
        place = exposure.gateway_namespace
        yield _at("exposure.gateway_namespace", f"{place}, and no existing Gateway is named; add `gateway:`")


def _gateway_problems(exposure: Exposure) -> Found:
    rate, seconds = exposure.requests_per_second, exposure.timeout_seconds
    if rate is not None:
        why = "and Gateway API has no field for it; add the implementation's own policy, or take kind ingress"
        yield _at("exposure.requests_per_second", f"{rate}, {why}")
    if exposure.grpc and exposure.grpc_host == exposure.host:
        why = "Gateway API takes one listener for a host and port, and for its host either HTTPRoutes or GRPCRoutes"
        yield _at("exposure.grpc_host", f"{exposure.host} is the host of HTTP too; {why}; take another host")
    if exposure.gateway is not None and exposure.tls_secret is not None:
        why = f"and the existing Gateway {exposure.gateway} has certificates of its own; leave it out"
        yield _at("exposure.tls_secret", f"{exposure.tls_secret}, {why}")
    if seconds > _MOST_TIMEOUT_S:
        yield _at("exposure.timeout_seconds", f"{seconds}; Gateway API takes {_MOST_TIMEOUT_S} at most (five digits)")


def counted_problems(plan: Plan) -> Found:
    """Names of models that a label selector of an HPA cannot have."""
    if plan.scaling.kind != "hpa" or plan.scaling.metric != "rps":
        return
    for name in plan.scaling.counted:
        if not _LABEL.fullmatch(name):
            why = "by which an HPA selects models (at most 63 characters, a letter or digit first and last)"
            yield _at(
                "scaling.metric", f"rps, and '{name}' is no value of a label, {why}; rename it, or take kind keda"
            )


def scaling_warnings(plan: Plan, perf: tuple[PerfMeasurement, ...]) -> Iterator[str]:
    """What the chosen metric does not know."""
    scaling = plan.scaling
    if scaling.kind == "none" or scaling.metric == "cpu":
        return
    if scaling.target.origin in ("preset", "estimated"):
        yield (
            f"pods scale on {scaling.metric} {scaling.target.text}, which was not measured; run `trtkit perf --json` "
            "and name its report in measurements.perf"
        )
    measured = {one.model for one in perf}
    called = scaling.counted or tuple(model.name for model in plan.models)
    others = [name for name in called if name not in measured]
    if scaling.metric == "rps" and scaling.capacity is not None and others:
        known = ", ".join(name for name in called if name in measured)
        yield (
            f"requests of {', '.join(others)} were not measured, and rps counts them like those of {known}; measure "
            "the mix that clients send (`trtkit perf MODEL --mix MODEL=WEIGHT --json`)"
        )
