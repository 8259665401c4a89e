# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rows of the dashboard about what servers use: cache, GPU, host memory, and what Kubernetes says."""

from __future__ import annotations

from trtkit.deploy.monitoring.alerts_gpu import BY_GPU, memory_limit, memory_ratio
from trtkit.deploy.monitoring.alerts_kubernetes import MEMORY
from trtkit.deploy.monitoring.alerts_promised import COLD
from trtkit.deploy.monitoring.panel import Panel, Query, Row
from trtkit.deploy.monitoring.scope import Where, dcgm, pods_of
from trtkit.deploy.monitoring.variables import of_pods, per_model, rate
from trtkit.deploy.planned import Plan

_PINNED = "nv_pinned_memory_pool_{}_bytes"


def cache_row(plan: Plan, where: Where) -> Row:
    """Whether the response cache is worth its memory; Redis, as Compose may have it, does not tell how full it is."""
    hits, misses = (per_model(rate(plan, f"nv_cache_num_{kind}_per_model")) for kind in ("hits", "misses"))
    times = {
        kind: f"{per_model(rate(plan, f'nv_cache_{kind}_duration_per_model'))} / ({count} > 0)"
        for kind, count in (("hit", hits), ("miss", misses))
    }
    pods = of_pods(plan)
    panels = [
        Panel(
            "Hits", f"Share of lookups that the cache answered; an alert says when it stays under {COLD:.0%}.",
            "percentunit", (Query(f"{hits} / (({hits} + {misses}) > 0)", "{{model}}"),), most=1,
        ),
        Panel(
            "Time of a hit and of a miss", "Mean time of a lookup that hits, and of a miss with its insertion.",
            "µs", tuple(Query(expr, f"{{{{model}}}} {kind}") for kind, expr in times.items()),
        ),
    ]  # fmt: skip
    if where == "kubernetes" or not plan.spec.compose.redis:
        panels += [
            Panel(
                "Full", "Used share of the cache's memory in each pod.", "percentunit",
                (Query(f"max by (pod) (nv_cache_util{pods})", "{{pod}}"),), width=4, most=1,
            ),
            Panel(
                "Evictions", "Entries per second that had to make room.", "short",
                (Query(f"sum by (pod) (rate(nv_cache_num_evictions{pods}[$__rate_interval]))", "{{pod}}"),), width=4,
            ),
        ]  # fmt: skip
    return Row("Response cache", tuple(panels))


def gpu_row(plan: Plan, where: Where) -> Row:
    """GPUs, as dcgm-exporter sees them, and as the server does where it has whole ones."""
    busy = "DCGM_FI_PROF_GR_ENGINE_ACTIVE" if plan.spec.gpu.mig else "DCGM_FI_DEV_GPU_UTIL"
    unit, most = ("percentunit", 1.0) if plan.spec.gpu.mig else ("percent", 100.0)
    legend = "{{Hostname}} {{UUID}} {{GPU_I_ID}}"
    limit, why = memory_limit(plan)

    def by_gpu(metric: str) -> str:
        return f"max by ({BY_GPU}) ({dcgm(plan, where, metric)})"

    note = "On a MIG slice the engine's activity: utilization is not measured there." if plan.spec.gpu.mig else (
        "Of the whole GPU, whoever uses it." if plan.spec.gpu.time_slicing or plan.spec.gpu.mps else "Of each GPU."
    )  # fmt: skip
    panels = [
        Panel("GPU utilization (DCGM)", note, unit, (Query(by_gpu(busy), legend),), most=most),
        Panel("GPU memory (DCGM)", f"Used share of the memory; the limit: {why}.", "percentunit",
              (Query(memory_ratio(plan, where), legend),), limit=limit, most=1),
        Panel("GPU memory used (DCGM)", "Framebuffer in use, without what the driver reserves.", "mbytes",
              (Query(by_gpu("DCGM_FI_DEV_FB_USED"), legend),)),
        Panel("GPU temperature (DCGM)", "Above its limit a GPU lowers its clock.", "celsius",
              (Query(by_gpu("DCGM_FI_DEV_GPU_TEMP"), legend),), width=6),
        Panel("GPU power (DCGM)", "Of each GPU.", "watt", (Query(by_gpu("DCGM_FI_DEV_POWER_USAGE"), legend),), width=6),
        Panel("GPU clock (DCGM)", "Of the multiprocessors; lower under load means throttling.", "rotmhz",
              (Query(by_gpu("DCGM_FI_DEV_SM_CLOCK"), legend),), width=6),
        Panel("XID errors (DCGM)", "Code of the driver's last error; 0 for none.", "short",
              (Query(by_gpu("DCGM_FI_DEV_XID_ERRORS"), legend),), limit=1, width=6),
    ]  # fmt: skip
    return Row("GPU", tuple(panels if plan.spec.gpu.mig else [*panels, *_seen_by_the_server(plan)]))


def _seen_by_the_server(plan: Plan) -> list[Panel]:
    """Triton's own metrics of GPUs; it has none of MIG slices."""
    pods, legend = of_pods(plan), "{{pod}} {{gpu_uuid}}"
    by = "pod, gpu_uuid"
    used, total = (f"max by ({by}) (nv_gpu_memory_{kind}_bytes{pods})" for kind in ("used", "total"))
    return [
        Panel("GPU utilization (Triton)", "By the server's own measurement, 0 to 1.", "percentunit",
              (Query(f"max by ({by}) (nv_gpu_utilization{pods})", legend),), most=1),
        Panel("GPU memory (Triton)", "Used share, without what the driver reserves.", "percentunit",
              (Query(f"{used} / {total}", legend),), most=1),
        Panel("GPU power (Triton)", "Now, and the limit.", "watt",
              (Query(f"max by ({by}) (nv_gpu_power_usage{pods})", legend),
               Query(f"max by ({by}) (nv_gpu_power_limit{pods})", f"limit {legend}"))),
    ]  # fmt: skip


def host_row(plan: Plan) -> Row:
    """Host memory and CPU as the server sees them."""
    pods = of_pods(plan)
    used, total = (f"max by (pod) (nv_cpu_memory_{kind}_bytes{pods})" for kind in ("used", "total"))
    node = "Of the whole node, not of the container."
    panels = [
        Panel("Node CPU", node, "percentunit", (Query(f"max by (pod) (nv_cpu_utilization{pods})", "{{pod}}"),), most=1),
        Panel("Node memory", node, "bytes", (Query(used, "{{pod}} used"), Query(total, "{{pod}} total"))),
    ]
    if plan.server_has_metric(_PINNED.format("total")):
        queries = tuple(
            Query(f"max by (pod) ({_PINNED.format(kind)}{pods})", f"{{{{pod}}}} {kind}") for kind in ("used", "total")
        )
        what = "Page-locked memory for copies to a GPU; when it is used up, copies are slower."
        panels.append(Panel("Pinned memory", what, "bytes", queries))
    return Row("Host", tuple(panels))


def kubernetes_row(plan: Plan) -> Row:
    """What kube-state-metrics and cAdvisor say of the pods."""
    pods = pods_of(plan).replace(f'namespace="{plan.namespace}"', 'namespace=~"$namespace"')
    deployment = f'{{namespace=~"$namespace", deployment="{plan.name}"}}'
    replicas = [
        Query(f"max by (deployment) (kube_deployment_{kind}{deployment})", legend)
        for kind, legend in (("spec_replicas", "wanted"), ("status_replicas_available", "available"))
    ]
    limits = "kube_pod_container_resource_limits" + pods.replace("{", '{resource="memory", ', 1)
    memory = f"max by (pod) (container_memory_working_set_bytes{pods}) / max by (pod) ({limits})"
    restarts = f"max by (pod) (increase(kube_pod_container_status_restarts_total{pods}[1h]))"
    return Row(
        "Kubernetes",
        (
            Panel("Servers", "Wanted and available ones" + (", and the autoscaler's bounds." if _scales(plan) else "."),
                  "short", (*replicas, *_autoscaler(plan))),
            Panel("Memory", "Working set by the container's limit; at 1 it is killed.", "percentunit",
                  (Query(memory, "{{pod}}"),), limit=MEMORY, most=1),
            Panel("Restarts", "Within the last hour.", "short", (Query(restarts, "{{pod}}"),)),
        ),
    )  # fmt: skip


def _scales(plan: Plan) -> bool:
    return plan.scaling.kind != "none"


def _autoscaler(plan: Plan) -> list[Query]:
    if not _scales(plan):
        return []
    name = f"keda-hpa-{plan.name}" if plan.scaling.kind == "keda" else plan.name
    matchers = f'{{namespace=~"$namespace", horizontalpodautoscaler="{name}"}}'
    kinds = {"status_desired_replicas": "desired", "spec_min_replicas": "least", "spec_max_replicas": "most"}
    prefix = "kube_horizontalpodautoscaler"
    return [
        Query(f"max by (horizontalpodautoscaler) ({prefix}_{kind}{matchers})", name) for kind, name in kinds.items()
    ]
