# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods there are: an HPA or KEDA, and a VPA for recommendations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from trtkit.deploy.figure import Figure, Noted, noted
from trtkit.deploy.kubernetes.meta import CONTAINER, Object, metadata
from trtkit.deploy.kubernetes.scaling_metrics import PodMetric, keda_query, pod_metric
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

POLLING_SECONDS = 15
FAILURES_BEFORE_FALLBACK = 3


def scaling_objects(plan: Plan) -> list[Object]:
    """The autoscaler of a plan: an HPA, or KEDA's objects, never both; and the VPA if there is to be one."""
    objects = []
    if plan.scaling.kind == "hpa":
        objects.append(_hpa(plan))
    if plan.scaling.kind == "keda":
        objects.append(_scaled_object(plan))
        objects += [_trigger_authentication(plan)] if plan.spec.scaling.queue else []
    return [*objects, *([_vpa(plan)] if plan.spec.scaling.vpa else [])]


def adapter_values(plan: Plan) -> str | None:
    """Values for the chart prometheus-community/prometheus-adapter; None unless an HPA reads a metric of Prometheus."""
    metric = pod_metric(plan) if plan.scaling.kind == "hpa" else None
    if metric is None:
        return None
    url = urlsplit(plan.spec.scaling.prometheus_url)
    values = {
        "prometheus": {
            "url": f"{url.scheme}://{url.hostname}",
            "port": url.port or (443 if url.scheme == "https" else 80),
            "path": url.path.rstrip("/"),
        },
        "rules": {
            "default": Noted(False, "the chart's own rules expose every series there is"),
            "custom": [adapter_rule(metric)],
        },
    }
    return dump(values, comment=_ADAPTER_COMMENT)


def adapter_rule(metric: PodMetric) -> dict[str, Any]:
    """A rule of prometheus-adapter: from a series to a metric of pods in the custom metrics API."""
    labels = {metric.namespace_label: {"resource": "namespace"}, metric.pod_label: {"resource": "pod"}}
    there = ",".join(f'{label}!=""' for label in labels)
    return {
        "seriesQuery": f"{metric.series}{{{there}}}",
        "resources": {"overrides": labels},
        "name": {"matches": f"^{metric.series}$", "as": Noted(metric.name, metric.why)},
        "metricsQuery": metric.query("<<.LabelMatchers>>", "<<.GroupBy>>"),
    }


def behavior(plan: Plan) -> dict[str, Any]:
    """How fast pods come and go, as autoscaling/v2 has it; KEDA passes it on to its HPA."""
    scaling = plan.scaling
    return {
        "scaleUp": _rules(scaling.up_seconds, scaling.up_percent, scaling.up_period),
        "scaleDown": _rules(scaling.down_seconds, scaling.down_percent, scaling.down_period),
    }


def quantity(value: float | int | str) -> str:
    """A number as Kubernetes writes quantities: ``8``, ``1500m``; thousandths are the smallest unit metrics have."""
    thousandths = max(1, round(Decimal(str(value)) * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


_ADAPTER_COMMENT = """\
helm upgrade --install prometheus-adapter prometheus-community/prometheus-adapter -n monitoring -f THIS_FILE
A cluster has one adapter: where it is installed already, add the rule to its rules.custom instead.
kubectl get --raw /apis/custom.metrics.k8s.io/v1beta1 lists what it serves."""


def _rules(window: Figure, percent: Figure, period: Figure) -> dict[str, Any]:
    pace = f"% of the pods in {period.whole} s, at most, and always one"
    return {
        "stabilizationWindowSeconds": noted(window),
        "policies": [{"type": "Percent", "value": Noted(percent.value, pace), "periodSeconds": period.value}],
    }


def _hpa(plan: Plan) -> Object:
    scaling = plan.scaling
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(plan),
        "spec": {
            "scaleTargetRef": _target(plan),
            "minReplicas": noted(scaling.replicas),
            "maxReplicas": scaling.max_replicas,
            "metrics": [_hpa_metric(plan)],
            "behavior": behavior(plan),
        },
    }


def _hpa_metric(plan: Plan) -> dict[str, Any]:
    metric, target = pod_metric(plan), plan.scaling.target
    if metric is None:
        utilization = {"type": "Utilization", "averageUtilization": noted(target, round(float(target.value)))}
        return {"type": "Resource", "resource": {"name": "cpu", "target": utilization}}
    identity: dict[str, Any] = {"name": Noted(metric.name, metric.why)}
    models = plan.scaling.counted if plan.scaling.metric == "rps" else ()
    if models:
        expression = {"key": "model", "operator": "In", "values": list(models)}
        why = "a request of an ensemble counts for its steps too; the adapter adds this to the query"
        identity["selector"] = Noted({"matchExpressions": [expression]}, why)
    value = noted(target, quantity(target.value))
    return {"type": "Pods", "pods": {"metric": identity, "target": {"type": "AverageValue", "averageValue": value}}}


def _scaled_object(plan: Plan) -> Object:
    scaling, spec = plan.scaling, plan.spec.scaling
    least = scaling.replicas.whole
    why_cooldown = "from the last activity to no pod at all" if least == 0 else "only of use for minReplicaCount 0"
    body: dict[str, Any] = {
        "scaleTargetRef": _target(plan),
        "pollingInterval": POLLING_SECONDS,
        "cooldownPeriod": noted(scaling.down_seconds) if least else Noted(scaling.down_seconds.whole, why_cooldown),
        "minReplicaCount": noted(scaling.replicas),
        "maxReplicaCount": scaling.max_replicas,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior(plan)}},
        "triggers": [
            _metric_trigger(plan),
            *([_queue_trigger(plan)] if spec.queue else []),
            *(_cron_trigger(plan, index) for index in range(len(spec.cron))),
        ],
    }
    if least == 0:
        budget = plan.startup.budget
        body["initialCooldownPeriod"] = Noted(budget.whole, f"the first pod may take the start-up budget: {budget.why}")
    elif pod_metric(plan) is not None:
        body["fallback"] = _fallback(least)
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata(plan), "spec": body}


def _fallback(least: int) -> dict[str, Any]:
    blind = f"{FAILURES_BEFORE_FALLBACK} x {POLLING_SECONDS} s without an answer of Prometheus"
    return {
        "failureThreshold": Noted(FAILURES_BEFORE_FALLBACK, blind),
        "replicas": Noted(least, "the smallest number"),
        "behavior": Noted("currentReplicasIfHigher", "while blind, no pod goes; of KEDA 2.17 and newer"),
    }


def _metric_trigger(plan: Plan) -> dict[str, Any]:
    metric, target = pod_metric(plan), plan.scaling.target
    if metric is None:
        value = noted(target, str(round(float(target.value))))
        return {"type": "cpu", "metricType": "Utilization", "metadata": {"value": value}}
    asleep = plan.scaling.replicas.whole == 0
    ignore = (
        Noted("true", "without a pod there is no series; the queue or the hours wake the first one")
        if asleep
        else Noted("false", "missing data is an error, not an idle server: pods that load have no metrics")
    )
    return {
        "type": "prometheus",
        "name": metric.name.replace("_", "-"),
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": plan.spec.scaling.prometheus_url,
            "query": Noted(keda_query(plan, metric), f"{metric.why}; KEDA divides by the number of pods"),
            "threshold": noted(target, f"{float(target.value):g}"),
            "ignoreNullValues": ignore,
        },
    }


def _queue_trigger(plan: Plan) -> dict[str, Any]:
    queue = plan.spec.scaling.queue
    assert queue is not None
    return {
        "type": "rabbitmq",
        "name": "queue",
        "metricType": "AverageValue",
        "metadata": {
            "protocol": "auto",
            "queueName": queue.name,
            "mode": "QueueLength",
            "value": Noted(str(queue.length), "messages for each pod"),
        },
        "authenticationRef": {"name": f"{plan.name}-queue"},
    }


def _cron_trigger(plan: Plan, index: int) -> dict[str, Any]:
    cron = plan.spec.scaling.cron[index]
    return {
        "type": "cron",
        "name": f"hours-{index + 1}",
        "metadata": {
            "timezone": Noted(cron.timezone, "the hours follow its daylight saving time"),
            "start": cron.start,
            "end": cron.end,
            "desiredReplicas": str(cron.replicas),
        },
    }


def _trigger_authentication(plan: Plan) -> Object:
    queue = plan.spec.scaling.queue
    assert queue is not None
    reference = {
        "parameter": "host",
        "name": queue.secret,
        "key": Noted("host", "amqp://user:password@host:5672/vhost"),
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": metadata(plan, "queue"),
        "spec": {"secretTargetRef": [reference]},
    }


def _vpa(plan: Plan) -> Object:
    mode = plan.spec.scaling.vpa
    policy: dict[str, Any] = {
        "containerName": CONTAINER,
        "controlledResources": ["cpu", "memory"],
        "minAllowed": {"memory": Noted(f"{plan.memory.host.whole}Mi", f"never below the plan: {plan.memory.host.why}")},
    }
    if plan.spec.cluster.node_memory:
        policy["maxAllowed"] = {"memory": Noted(plan.spec.cluster.node_memory, "of a node")}
    return {
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": metadata(plan),
        "spec": {
            "targetRef": _target(plan),
            "updatePolicy": {"updateMode": Noted(mode, _VPA_MODES.get(str(mode), "restarts pods"))},
            "resourcePolicy": {"containerPolicies": [policy]},
        },
    }


_VPA_MODES = {
    "Off": "recommends only: kubectl describe vpa",
    "Initial": "on new pods only; running ones stay as they are",
    "InPlaceOrRecreate": "changes running pods (Kubernetes 1.33 and newer), and restarts those it cannot change",
}


def _target(plan: Plan) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name}
