# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the number of pods follows: one PromQL expression for each metric, for prometheus-adapter and for KEDA.

Each gives one value for each pod, over all its models: an adapter that summed the ratios of single series would add up
queue times. They read the server's own series and no recording rule, so that scaling does not depend on rules
that somebody may not have loaded; `pending` is the expression of the recording rule ``pod:nv_inference_pending:sum``.
"""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.deploy.planned import Plan

_PENDING = "nv_inference_pending_request_count"
_SUCCESS = "nv_inference_request_success"
_QUEUE = "nv_inference_queue_duration_us"


@dataclass(frozen=True)
class PodMetric:
    """A metric with one value for each pod.

    Attributes:
        name: in the custom metrics API.
        series: the Prometheus series that it is discovered by.
        expression: PromQL with ``{matchers}`` and ``{by}`` in it.
        unit: of the value.
        namespace_label, pod_label: which labels of the series name the pod.
        why: what it tells, and what it does not.
    """

    name: str
    series: str
    expression: str
    unit: str
    why: str
    namespace_label: str = "namespace"
    pod_label: str = "pod"

    def query(self, matchers: str, by: str) -> str:
        """The expression for certain series.

        Args:
            matchers: label matchers, without braces.
            by: the labels that the result has.
        """
        return self.expression.replace("{matchers}", "{" + matchers + "}").replace("{by}", by)


def pod_metric(plan: Plan) -> PodMetric | None:
    """The metric of a plan; None for CPU utilization, which needs no Prometheus."""
    window = rate_window(plan)
    if plan.scaling.metric == "cpu":
        return None
    if plan.scaling.metric == "gpu":
        return _gpu()
    if plan.scaling.metric == "queue":
        return _queue(window, idle=plan.server_has_metric(_PENDING))
    if plan.scaling.metric == "rps":
        expression = f"sum(rate({_SUCCESS}{{matchers}}[{window}])) by ({{by}})"
        return PodMetric("triton_rps", _SUCCESS, expression, "requests/s", "successful requests per second of a pod")
    why = "requests that wait in a pod, over all its models"
    return PodMetric("triton_pending", _PENDING, f"sum({_PENDING}{{matchers}}) by ({{by}})", "requests", why)


def rate_window(plan: Plan) -> str:
    """The range of rate(): four scrapes, so that one lost scrape leaves two samples, and at least a minute."""
    return f"{max(60, 4 * plan.spec.monitoring.interval_seconds)}s"


def keda_query(plan: Plan, metric: PodMetric) -> str:
    """The sum over the pods: KEDA divides it by their number (AverageValue), as an HPA does with a Pods metric."""
    pods = f"{plan.name}-[a-z0-9]+-[a-z0-9]+"
    matchers = f'{metric.namespace_label}="{plan.namespace}",{metric.pod_label}=~"{pods}"'
    models = plan.scaling.counted if plan.scaling.metric == "rps" else ()
    if models:
        matchers += f',model=~"{"|".join(models)}"'
    return f"sum({metric.query(matchers, metric.pod_label)})"


def _queue(window: str, *, idle: bool) -> PodMetric:
    """The mean wait of the slowest model; 0 for a pod with nothing to do, nothing for one that answers nothing."""
    rates = [f"sum(rate({series}{{matchers}}[{window}])) by ({{by}}, model)" for series in (_QUEUE, _SUCCESS)]
    none = f"sum({_PENDING}{{matchers}}) by ({{by}}) == 0" if idle else f"0 * sum({_SUCCESS}{{matchers}}) by ({{by}})"
    return PodMetric(
        "triton_queue_ms",
        _QUEUE,
        f"max({rates[0]} / 1000 / ({rates[1]} > 0)) by ({{by}}) or ({none})",
        "ms",
        "mean time in the queue, of the model that waits longest; 0 when nothing waits",
    )


def _gpu() -> PodMetric:
    return PodMetric(
        "triton_gpu_percent",
        "DCGM_FI_DEV_GPU_UTIL",
        "avg(DCGM_FI_DEV_GPU_UTIL{matchers}) by ({by})",
        "%",
        "share of time in which the GPU ran anything; a GPU that is shared counts all its pods",
        *_DCGM_LABELS,
    )


# the exporter's own pod takes the labels namespace and pod (honorLabels: false of its chart), so Prometheus renames
# those of the pod that uses the GPU
_DCGM_LABELS = ("exported_namespace", "exported_pod")
