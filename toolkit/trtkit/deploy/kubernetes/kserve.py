# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The repository as an InferenceService of KServe, with what its Triton runtime leaves out: probes, drain, sizes.

The runtime ``kserve-tritonserver`` starts ``tritonserver --model-store=/mnt/models --grpc-port=9000 --http-port=8080``
and appends the arguments of the InferenceService; a storage initializer copies the repository to /mnt/models before.
"""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted, noted
from trtkit.deploy.kubernetes.access import service_account, service_account_name
from trtkit.deploy.kubernetes.limits import namespace
from trtkit.deploy.kubernetes.meta import DIGEST_ANNOTATION, Object, metadata
from trtkit.deploy.kubernetes.placement import placement
from trtkit.deploy.kubernetes.probes import lifecycle, probes
from trtkit.deploy.kubernetes.storage import claim, claim_name, folder
from trtkit.deploy.kubernetes.workload import container_security, pod_security, resources
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump_all
from trtkit.errors import ProjectError

KSERVE_HTTP_PORT = 8080
"""Of KServe's Triton runtime; gRPC is on 9000, metrics on 8002."""


def files(plan: Plan, name: str) -> dict[str, str]:
    """A file with the InferenceService and what it needs, instead of the Deployment; {} where nobody asked for it.

    Not in the kustomization or the chart: what runs there would run twice, and take its GPUs twice.

    Args:
        plan: of the environment.
        name: of the file.

    Raises:
        ProjectError: the repository is baked into an image, which KServe's runtime does not look at.
    """
    if not plan.spec.kserve:
        return {}
    needed = [namespace(plan), service_account(plan), *claim(plan)]
    return {name: dump_all([*needed, *kserve_objects(plan)], comment=_COMMENT)}


_COMMENT = """\
Instead of the Deployment, not beside it: each would take GPUs. Apply this file alone, where a claim is rendered after
its upload: kubectl apply -f THIS_FILE
Services, routes, scaling, network policy and monitoring of the kustomization are those of the Deployment's pods."""


def kserve_objects(plan: Plan) -> list[Object]:
    """The InferenceService, where the project asks for one.

    Raises:
        ProjectError: the repository is baked into an image, which KServe's runtime does not look at.
    """
    if not plan.spec.kserve:
        return []
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            # not the plan's own name: KServe makes objects of this name too
            "metadata": metadata(plan, "kserve", annotations=_annotations(plan)),
            "spec": {"predictor": _predictor(plan)},
        }
    ]


def storage_uri(plan: Plan) -> str:
    """Where KServe's storage initializer finds the repository.

    Raises:
        ProjectError: it is in an image.
    """
    storage = plan.spec.storage
    if storage.kind == "baked":
        raise ProjectError(
            "deploy.kserve: storage is baked, and KServe's Triton runtime serves only what its storage initializer "
            "copies; set `storage:` to pvc, s3, gcs or azure, or leave kserve out"
        )
    if storage.kind == "pvc":
        inner = folder(plan)
        return f"pvc://{claim_name(plan)}" + (f"/{inner}" if inner else "")
    uri = str(storage.uri)
    if storage.kind == "azure":
        account, _, path = uri.removeprefix("as://").partition("/")
        return f"https://{account}.blob.core.windows.net/{path}"
    scheme, _, rest = uri.partition("://")
    if rest.startswith(("http://", "https://")):  # tritonserver's way to name an endpoint
        rest = rest.partition("://")[2].partition("/")[2]
    return f"{scheme}://{rest}"


def _annotations(plan: Plan) -> dict[str, Any]:
    mode = Noted("RawDeployment", "a Deployment; newer versions of KServe call it Standard")
    scaler = "hpa" if _on_cpu(plan) else "external"
    why = (
        "KServe's own HPA, on CPU"
        if _on_cpu(plan)
        else "no HPA of KServe: it knows CPU and memory, none of Triton's metrics"
    )
    return {
        "serving.kserve.io/deploymentMode": mode,
        "serving.kserve.io/autoscalerClass": Noted(scaler, why),
        "serving.kserve.io/enable-prometheus-scraping": Noted("true", "of port 8002, by the runtime's own annotations"),
        DIGEST_ANNOTATION: Noted(plan.digest[:12], "another repository is another digest, and so a rollout"),
    }


def _on_cpu(plan: Plan) -> bool:
    return plan.scaling.kind != "none" and plan.scaling.metric == "cpu"


def _predictor(plan: Plan) -> dict[str, Any]:
    scaling, memory = plan.scaling, plan.memory
    shm = {"medium": "Memory", "sizeLimit": noted(memory.shm, f"{memory.shm.whole}Mi")}
    tmp = {"sizeLimit": noted(memory.temporary, f"{memory.temporary.whole}Mi")}
    target = {"scaleMetric": "cpu", "scaleTarget": noted(scaling.target, round(float(scaling.target.value)))}
    return {
        "minReplicas": noted(scaling.replicas, max(1, scaling.replicas.whole)),
        "maxReplicas": scaling.max_replicas if _on_cpu(plan) else max(1, scaling.replicas.whole),
        **(target if _on_cpu(plan) else {}),
        "serviceAccountName": Noted(service_account_name(plan), _credentials(plan)),
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": _rollout(plan)},
        "terminationGracePeriodSeconds": noted(plan.drain.grace),
        "securityContext": pod_security(),
        **{key: value for key, value in placement(plan).items() if key != "topologySpreadConstraints"},
        "model": _model(plan),
        "volumes": [{"name": "shm", "emptyDir": shm}, {"name": "tmp", "emptyDir": tmp}],
    }


def _rollout(plan: Plan) -> dict[str, Any]:
    return {"maxSurge": noted(plan.rollout.max_surge), "maxUnavailable": noted(plan.rollout.max_unavailable)}


def _credentials(plan: Plan) -> str:
    storage = plan.spec.storage
    if storage.secret:
        return (
            f"KServe reads Secrets that the account lists: secrets: [name: {storage.secret}], with KServe's annotations"
        )
    return "with workload identity" if storage.identity else "no credentials: the storage needs none"


def _model(plan: Plan) -> dict[str, Any]:
    wait = lifecycle(plan)
    return {
        "modelFormat": {"name": "triton"},
        "runtime": "kserve-tritonserver",
        "protocolVersion": "v2",
        "storageUri": storage_uri(plan),
        "image": Noted(plan.image, "instead of the runtime's own version"),
        "args": [Noted(flag, why) for flag, why in plan.flags],
        "env": [{"name": "HOME", "value": Noted("/tmp", "the root file system is read-only")}],
        "resources": resources(plan),
        "securityContext": container_security(),
        **{name: _on_port(probe) for name, probe in probes(plan).items()},
        **({"lifecycle": wait} if wait else {}),
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "tmp", "mountPath": "/tmp"}],
    }


def _on_port(probe: dict[str, Any]) -> dict[str, Any]:
    """A probe of the Deployment, asking KServe's port; for several models it asks for the server as a whole."""
    get = probe.get("httpGet", {"path": "/v2/health/ready"})
    others = {key: value for key, value in probe.items() if key not in ("httpGet", "exec")}
    return {"httpGet": {**get, "port": KSERVE_HTTP_PORT}, **others}
