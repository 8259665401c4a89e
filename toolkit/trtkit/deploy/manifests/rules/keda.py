# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""KEDA: triggers, and what wakes a Deployment that was scaled to zero."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.known_triton import RATIOS
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Object
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.lint.model import Found

_TRITON = re.compile(r"\bnv_|triton|nv_inference")
_SCALED = ("ScaledObject", "ScaledJob")


def triggers(files: FileSet, kind: str = "") -> Iterator[tuple[Object, Node]]:
    """The triggers of a type, or all."""
    for each in files.of_kind(*_SCALED):
        for trigger in each.spec["triggers"].items:
            if kind in ("", trigger["type"].text):
                yield each, trigger


def _on_triton(trigger: Node) -> bool:
    return trigger["type"].text == "prometheus" and bool(_TRITON.search(trigger.at("metadata", "query").text))


@rule("KED001", "nothing-wakes-it")
def nothing_wakes_it(files: FileSet) -> Iterator[Found]:
    """A Deployment is scaled to zero on metrics that only its own pods have.

    Without a pod there is no nv_* series, so nothing ever says that one is needed. Scale to zero on something outside:
    a queue's length, the gateway's requests, a schedule; or keep one replica.

    Wrong:
        minReplicaCount: 0
        triggers: [{type: prometheus, metadata: {query: "sum(nv_inference_pending_request_count)"}}]

    Right:
        minReplicaCount: 1
        triggers: [{type: prometheus, metadata: {query: "sum(nv_inference_pending_request_count)"}}]
    """
    for each in files.of_kind("ScaledObject"):
        least = each.spec["idleReplicaCount"] if each.spec["idleReplicaCount"] else each.spec["minReplicaCount"]
        made = each.spec["triggers"].items
        wakes = [one for one in made if not _on_triton(one) and one["type"].text not in ("cpu", "memory")]
        if (least.number or 0) == 0 and any(_on_triton(one) for one in made) and not wakes:
            says = "at zero replicas no pod has a metric of Triton's, so nothing wakes it"
            yield found(
                least if least else each.spec, f"{says}; set minReplicaCount: 1, or add a queue, a gateway or cron"
            )
    for each in files.of_kind("HorizontalPodAutoscaler"):
        names = [node.text for key, node in each.spec["metrics"].walk() if key == "name"]
        least = each.spec["minReplicas"]
        if least.number == 0 and names and all(_TRITON.search(name) for name in names):
            yield found(least, "at zero replicas no pod has a metric of Triton's, so nothing wakes it; use 1")


@rule("KED002", "missing-data-counts-as-zero", WARNING)
def missing_data_is_zero(files: FileSet) -> Iterator[Found]:
    """A trigger on Triton's metrics takes missing data for 0.

    That is KEDA's default (ignoreNullValues: "true"). While pods load, or Prometheus is away, there are no series, and
    KEDA scales down in the middle of the load. With "false" it keeps the number, or does what `fallback` says.

    Wrong:
        metadata: {query: "sum(nv_inference_pending_request_count)", threshold: "4"}

    Right:
        metadata: {query: "sum(nv_inference_pending_request_count)", threshold: "4", ignoreNullValues: "false"}
    """
    for _, trigger in triggers(files, "prometheus"):
        given = trigger.at("metadata", "ignoreNullValues")
        if _on_triton(trigger) and given.truth is not False:
            says = 'missing data counts as 0 and scales down while pods load; set ignoreNullValues: "false"'
            yield found(given if given else trigger["metadata"], says)


@rule("KED003", "queue-length-is-deprecated")
def queue_length(files: FileSet) -> Iterator[Found]:
    """A rabbitmq trigger has queueLength.

    Together with mode or value KEDA refuses it: "queueLength is deprecated; use mode and value" (KEDA's source); the
    CRD takes it, so it shows only in the operator's log.

    Wrong:
        metadata: {queueName: inference, queueLength: "20", mode: QueueLength, value: "20"}

    Right:
        metadata: {queueName: inference, mode: QueueLength, value: "20"}
    """
    for _, trigger in triggers(files, "rabbitmq"):
        data = trigger["metadata"]
        if data["queueLength"]:
            both = data["mode"] or data["value"]
            says = (
                "queueLength stands beside mode/value, and KEDA refuses both" if both else "queueLength is deprecated"
            )
            yield found(data["queueLength"], f"{says}; write mode: QueueLength and value")


@rule("KED004", "metric-name-is-gone", WARNING)
def metric_name(files: FileSet) -> Iterator[Found]:
    """A trigger's metadata has metricName.

    It is gone since KEDA 2.13 and does nothing; the trigger's own `name` names the metric.

    Wrong:
        - {type: prometheus, metadata: {metricName: pending, query: "..."}}

    Right:
        - {type: prometheus, name: pending, metadata: {query: "..."}}
    """
    for _, trigger in triggers(files):
        given = trigger.at("metadata", "metricName")
        if given:
            yield found(given, "metricName does nothing since KEDA 2.13; give the trigger a name")


@rule("KED005", "rabbitmq-without-credentials", WARNING)
def rabbitmq_credentials(files: FileSet) -> Iterator[Found]:
    """A rabbitmq trigger has no credentials, or has them in its text.

    Name a TriggerAuthentication (authenticationRef) that reads the host from a Secret, or hostFromEnv.

    Wrong:
        metadata: {host: "amqp://rabbitmq:5672/", queueName: inference, mode: QueueLength, value: "20"}

    Right:
        metadata: {queueName: inference, mode: QueueLength, value: "20"}
        authenticationRef: {name: rabbitmq}
    """
    for _, trigger in triggers(files, "rabbitmq"):
        data = trigger["metadata"]
        named = trigger.at("authenticationRef", "name") or data["hostFromEnv"]
        if re.search(r"://[^/@:]+:[^/@]+@", data["host"].text):
            yield found(data["host"], "the host holds a password; read it from a Secret with a TriggerAuthentication")
        elif not named:
            yield found(data, "there are no credentials; name a TriggerAuthentication in authenticationRef")


@rule("KED006", "threshold-in-percent-of-a-ratio")
def threshold_of_ratio(files: FileSet) -> Iterator[Found]:
    """A trigger's threshold is a percentage, and its query gives a ratio.

    nv_gpu_utilization goes from 0 to 1, so a threshold of 80 is never reached.

    Wrong:
        metadata: {query: "avg(nv_gpu_utilization)", threshold: "80"}

    Right:
        metadata: {query: "100 * avg(nv_gpu_utilization)", threshold: "80"}
    """
    for _, trigger in triggers(files, "prometheus"):
        query, threshold = trigger.at("metadata", "query").text, trigger.at("metadata", "threshold")
        ratio = next((name for name in sorted(RATIOS) if re.search(rf"\b{name}\b", query)), None)
        if ratio and (threshold.number or 0) > 1 and not re.search(r"\b100(\.0)?\b", query):
            yield found(threshold, f"{ratio} goes from 0 to 1; a threshold of {threshold.text} is never reached")


RULES = (
    nothing_wakes_it,
    missing_data_is_zero,
    queue_length,
    metric_name,
    rabbitmq_credentials,
    threshold_of_ratio,
)
