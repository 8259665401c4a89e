# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Fields, types, words and limits of the operators' kinds that trtkit renders: a schema of each one's spec.

kubernetes-validate has no schemas of these kinds, and an API server drops what a definition does not know, or refuses
it. Typed from the projects' own CRDs (Prometheus operator 0.80, KEDA 2.20, Gateway API 1.6, VPA v1, KServe 0.17); only
fields that trtkit uses, or might: one that is not here is a mistake, or one to look up and add.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema

INTEGER, STRING = {"type": "integer"}, {"type": "string"}
ANY: dict[str, Any] = {}
QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?([numkMGT]|[KMGT]i)?$"}


def fields(required: str = "", /, **properties: Any) -> dict[str, Any]:
    """An object with these fields and no other."""
    return {
        "type": "object", "properties": properties, "additionalProperties": False, "required": required.split(),
    }  # fmt: skip


def items(of: Any, most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": of, **({"maxItems": most} if most else {})}


def words(*allowed: str) -> dict[str, Any]:
    return {"enum": list(allowed)}


STRINGS = {"type": "object", "additionalProperties": STRING}
BOOLEAN = {"type": "boolean"}
HOST = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}

PROMETHEUS_DURATION = {
    "type": "string", "pattern": "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
}  # fmt: skip
RELABELING = fields(
    action=words("replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase"),
    sourceLabels=items(STRING), separator=STRING, targetLabel=STRING, regex=STRING, replacement=STRING, modulus=INTEGER,
)  # fmt: skip
ENDPOINT = fields(
    port=STRING, path=STRING, scheme=words("http", "https"), interval=PROMETHEUS_DURATION,
    scrapeTimeout=PROMETHEUS_DURATION, honorLabels=BOOLEAN, relabelings=items(RELABELING),
    metricRelabelings=items(RELABELING),
)  # fmt: skip
CHOSEN = {
    "selector": fields(matchLabels=STRINGS, matchExpressions=items(ANY)), "jobLabel": STRING, "sampleLimit": INTEGER,
    "namespaceSelector": fields(matchNames=items(STRING), any=BOOLEAN), "podTargetLabels": items(STRING),
}  # fmt: skip
POD_MONITOR = fields("selector podMetricsEndpoints", podMetricsEndpoints=items(ENDPOINT), **CHOSEN)
SERVICE_MONITOR = fields("selector endpoints", endpoints=items(ENDPOINT), targetLabels=items(STRING), **CHOSEN)
RULE = fields(
    "expr", alert=STRING, record=STRING, expr={"type": ["string", "integer"]}, keep_firing_for=PROMETHEUS_DURATION,
    labels=STRINGS, annotations=STRINGS, **{"for": PROMETHEUS_DURATION},
)  # fmt: skip
GROUP = fields("name rules", name=STRING, interval=PROMETHEUS_DURATION, labels=STRINGS, rules=items(RULE))
PROMETHEUS_RULE = fields("groups", groups=items(GROUP))

POLICY = fields("type value periodSeconds", type=words("Percent", "Pods"), value=INTEGER, periodSeconds=INTEGER)
RULES = fields(
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600}, policies=items(POLICY),
    selectPolicy=words("Max", "Min", "Disabled"),
)  # fmt: skip
TRIGGER = fields(
    "type metadata", type=STRING, name=STRING, metricType=words("AverageValue", "Value", "Utilization"),
    metadata=STRINGS, authenticationRef=fields("name", name=STRING, kind=STRING), useCachedMetrics=BOOLEAN,
)  # fmt: skip
METADATA = {
    "prometheus": fields(
        "serverAddress query threshold", serverAddress=STRING, query=STRING, threshold=STRING,
        activationThreshold=STRING, ignoreNullValues=words("true", "false"),
    ),
    "rabbitmq": fields(
        "queueName mode value", protocol=words("auto", "amqp", "http"), queueName=STRING,
        mode=words("QueueLength", "MessageRate", "DeliverGetRate"), value=STRING,
    ),
    "cron": fields(
        "timezone start end desiredReplicas", timezone=STRING, start=STRING, end=STRING, desiredReplicas=STRING
    ),
    "cpu": fields("value", value=STRING),
}  # fmt: skip
SCALED_OBJECT = fields(
    "scaleTargetRef triggers",
    scaleTargetRef=fields("name", apiVersion=STRING, kind=STRING, name=STRING, envSourceContainerName=STRING),
    pollingInterval=INTEGER, cooldownPeriod=INTEGER, initialCooldownPeriod=INTEGER, idleReplicaCount=INTEGER,
    minReplicaCount=INTEGER, maxReplicaCount=INTEGER, triggers=items(TRIGGER),
    fallback=fields(
        "failureThreshold replicas", failureThreshold=INTEGER, replicas=INTEGER,
        behavior=words("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"),
    ),
    advanced=fields(
        restoreToOriginalReplicaCount=BOOLEAN,
        horizontalPodAutoscalerConfig=fields(name=STRING, behavior=fields(scaleUp=RULES, scaleDown=RULES)),
    ),
)  # fmt: skip
TRIGGER_AUTHENTICATION = fields(
    secretTargetRef=items(fields("parameter name key", parameter=STRING, name=STRING, key=STRING))
)
VPA = fields(
    "targetRef",
    targetRef=fields("kind name", apiVersion=STRING, kind=STRING, name=STRING),
    updatePolicy=fields(
        updateMode=words("Off", "Initial", "Recreate", "InPlaceOrRecreate", "Auto"), minReplicas=INTEGER
    ),
    resourcePolicy=fields(
        containerPolicies=items(
            fields(
                containerName=STRING, mode=words("Auto", "Off"),
                controlledResources=items(words("cpu", "memory")),
                controlledValues=words("RequestsAndLimits", "RequestsOnly"),
                minAllowed={"type": "object", "additionalProperties": QUANTITY},
                maxAllowed={"type": "object", "additionalProperties": QUANTITY},
            )
        )
    ),
)  # fmt: skip
PARENT = fields("name", name=STRING, namespace=STRING, sectionName=STRING, kind=STRING, port=PORT)
BACKEND = fields("name", name=STRING, namespace=STRING, kind=STRING, port=PORT, weight=INTEGER)
HTTP_MATCH = fields(
    path=fields(type=words("Exact", "PathPrefix", "RegularExpression"), value={"type": "string", "maxLength": 1024}),
    method=STRING, headers=items(ANY, 16),
)  # fmt: skip
HTTP_ROUTE = fields(
    parentRefs=items(PARENT, 32), hostnames=items(HOST, 16),
    rules=items(
        fields(
            name=STRING, matches=items(HTTP_MATCH, 64), filters=items(ANY, 16), backendRefs=items(BACKEND, 16),
            timeouts=fields(request=DURATION, backendRequest=DURATION),
        ), 16,
    ),
)  # fmt: skip
GRPC_ROUTE = fields(
    parentRefs=items(PARENT, 32), hostnames=items(HOST, 16),
    rules=items(
        fields(  # no timeouts here
            name=STRING, filters=items(ANY, 16), backendRefs=items(BACKEND, 16),
            matches=items(
                fields(
                    method=fields(
                        type=words("Exact", "RegularExpression"),
                        service={"type": "string", "pattern": r"^(?i:\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*)$"},
                        method={"type": "string", "pattern": "^[A-Za-z_][A-Za-z_0-9]*$"},
                    ),
                    headers=items(ANY, 16),
                ), 8,
            ),
        ), 16,
    ),
)  # fmt: skip
LISTENER = fields(
    "name port protocol", name=STRING, hostname=HOST, port=PORT, protocol=words("HTTP", "HTTPS", "TLS", "TCP", "UDP"),
    tls=fields(
        mode=words("Terminate", "Passthrough"),
        certificateRefs=items(fields("name", kind=STRING, group=STRING, name=STRING, namespace=STRING)),
    ),
    allowedRoutes=fields(namespaces={"type": "object", "properties": {"from": words("All", "Same", "Selector")}}),
)  # fmt: skip
GATEWAY = fields("gatewayClassName listeners", gatewayClassName=STRING, listeners=items(LISTENER, 64))
INFERENCE_SERVICE = fields(
    "predictor",
    predictor=fields(
        "model", minReplicas=INTEGER, maxReplicas=INTEGER, scaleTarget=INTEGER,
        scaleMetric=words("cpu", "memory", "concurrency", "rps"), deploymentStrategy=ANY, labels=STRINGS,
        serviceAccountName=STRING, terminationGracePeriodSeconds=INTEGER, securityContext=ANY, nodeSelector=ANY,
        affinity=ANY, tolerations=ANY, volumes=ANY, timeout=INTEGER, canaryTrafficPercent=INTEGER,
        model=fields(
            "modelFormat", modelFormat=fields("name", name=STRING, version=STRING), runtime=STRING,
            protocolVersion=words("v1", "v2", "grpc-v1", "grpc-v2"), storageUri=STRING, image=STRING,
            args=items(STRING), resources=ANY, securityContext=ANY, startupProbe=ANY, livenessProbe=ANY,
            readinessProbe=ANY, lifecycle=ANY, volumeMounts=ANY, env=ANY, runtimeVersion=STRING,
        ),
    ),
)  # fmt: skip
SPECS = {
    ("monitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
    ("keda.sh/v1alpha1", "ScaledObject"): SCALED_OBJECT,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): TRIGGER_AUTHENTICATION,
    ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"): VPA,
    ("gateway.networking.k8s.io/v1", "Gateway"): GATEWAY,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HTTP_ROUTE,
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): GRPC_ROUTE,
    ("serving.kserve.io/v1beta1", "InferenceService"): INFERENCE_SERVICE,
}


def mistakes(item: dict[str, Any]) -> Iterator[str]:
    """Where an object has a field, a type or a word that its CRD does not know, or lacks one that it asks for."""
    known = SPECS.get((item["apiVersion"], item["kind"]))
    if known is None:
        yield f"{item['apiVersion']} {item['kind']} is not known"
        return
    if not isinstance(item.get("spec"), dict):
        yield "there is no spec"
        return
    yield from _problems(item["spec"], known, "spec")
    for index, trigger in enumerate(item["spec"].get("triggers", ())):
        yield from _problems(trigger["metadata"], METADATA[trigger["type"]], f"spec.triggers[{index}].metadata")


def _problems(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
        yield f"{path}{error.json_path.removeprefix('$')}: {error.message}"


def check(item: dict[str, Any]) -> None:
    """Fail where an object has mistakes, and for what the projects' own rules refuse beyond their schemas."""
    assert list(mistakes(item)) == []
    if item["kind"] in ("HTTPRoute", "GRPCRoute"):
        assert sum(len(rule["matches"]) for rule in item["spec"]["rules"]) <= 128
    if item["kind"] == "ScaledObject":
        assert item["spec"]["minReplicaCount"] <= item["spec"]["maxReplicaCount"]
        names = [trigger["name"] for trigger in item["spec"]["triggers"] if "name" in trigger]
        assert len(set(names)) == len(names)
