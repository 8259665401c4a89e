# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How the repository gets into a rendered claim: a pod that mounts it for writing, and a script that fills it."""

from __future__ import annotations

import shlex
from typing import Any

from trtkit.artifacts import hash_file
from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.limits import namespace
from trtkit.deploy.kubernetes.meta import Object, labels, metadata, selector
from trtkit.deploy.kubernetes.storage import claim, claim_name, folder, renders_claim
from trtkit.deploy.kubernetes.workload import container_security, pod_security
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump_all
from trtkit.project import Project

_SCRIPT = """#!/bin/sh
# Copies a model repository to the claim {claim}: whole and checked, or not at all.
# A digest that is there already is left alone. Usage: upload.sh REPOSITORY
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=${{1:?usage: upload.sh REPOSITORY}}
namespace={namespace}
pod={pod}
folder={folder}
incoming={incoming}

in_pod() {{ kubectl --namespace "$namespace" exec --stdin "$pod" -- sh -c "$1"; }}

refused() {{
  echo "$repository is not what these files were rendered from$1; run trtkit deploy k8s again" >&2
  exit 1
}}
(cd "$repository" && sha256sum --check --quiet --strict "$here/sha256sums") || refused ""
count=$(cd "$repository" && find -L {models} -type f ! -path '*/__pycache__/*' -print | wc -l)
[ "$count" -eq "$(wc -l <"$here/sha256sums")" ] || refused ", which had fewer files"
kubectl apply --filename "$here/claim.yaml"
# one that was left behind may have ended, and would never be ready
kubectl delete --filename "$here/pod.yaml" --ignore-not-found
kubectl apply --filename "$here/pod.yaml"
trap 'kubectl delete --filename "$here/pod.yaml" --wait=false' EXIT
kubectl --namespace "$namespace" wait --for=condition=Ready "pod/$pod" --timeout=900s || {{
  kubectl --namespace "$namespace" describe "pod/$pod" "persistentvolumeclaim/{claim}" >&2
  exit 1
}}
# an empty one is no repository: some nodes make it for a pod that was there first
if [ "$(in_pod "ls -A '$folder' 2>/dev/null | grep -q . && echo there || echo absent")" = there ]; then
  echo "$folder is there already"
  exit 0
fi
tar -C "$repository" --dereference --exclude=__pycache__ -cf - {models} |
  in_pod "rm -rf '$incoming' && mkdir -p '$incoming' && tar -C '$incoming' -xf -"
in_pod "cd '$incoming' && sha256sum --check --quiet --strict -" <"$here/sha256sums"
in_pod "sync && mv -T '$incoming' '$folder'"
echo "$folder is complete"
"""


def files(project: Project, plan: Plan) -> dict[str, str]:
    """The pod, the claim it needs, the checksums and the script; {} where no claim is rendered.

    Args:
        project: its repository's files are those that are checked.
        plan: of one environment.
    """
    if not renders_claim(plan):
        return {}
    return {
        "claim.yaml": dump_all([namespace(plan), *claim(plan)], comment="What has to be there before the pod."),
        "pod.yaml": dump_all(
            [_silence(plan), upload_pod(plan)], comment="Mounts the claim for writing, for as long as upload.sh runs."
        ),
        "sha256sums": _checksums(project, plan),
        "upload.sh": _script(plan),
    }


def upload_pod(plan: Plan) -> Object:
    """A pod that waits to be written to; no Service chooses it."""
    name = "upload"
    meta = metadata(plan, name)
    own = {**labels(plan), **_upload_selector(plan), "app.kubernetes.io/component": name}
    resources = {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "100Mi"}
    limits = {key: value for key, value in resources.items() if key != "cpu"}
    container: dict[str, Any] = {
        "name": name,
        "image": Noted(plan.image, "on the nodes already, and it has tar and sha256sum"),
        "command": ["sleep", "infinity"],
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
        "resources": {"requests": resources, "limits": limits},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "models", "mountPath": "/claim"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, "labels": own},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": Noted(21_600, "should the script be killed before it deletes the pod"),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(),
            "containers": [container],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim_name(plan)}}],
        },
    }


def _upload_selector(plan: Plan) -> dict[str, str]:
    return {**selector(plan), "app.kubernetes.io/name": "triton-upload"}


def _silence(plan: Plan) -> Object:
    """No network for the pod: `kubectl exec` comes through the node."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan, "upload"),
        "spec": {"podSelector": {"matchLabels": _upload_selector(plan)}, "policyTypes": ["Ingress", "Egress"]},
    }


def _script(plan: Plan) -> str:
    target = f"/claim/{folder(plan)}"
    parent, _, last = target.rpartition("/")
    values = {
        "claim": claim_name(plan),
        "namespace": plan.namespace,
        "pod": f"{plan.name}-upload",
        "folder": shlex.quote(target),
        "incoming": shlex.quote(f"{parent}/.incoming-{last}"),
        "models": " ".join(shlex.quote(model.name) for model in plan.models),
    }
    return _SCRIPT.format(**values)


def _checksums(project: Project, plan: Plan) -> str:
    """As ``sha256sum --check`` reads them, of the files that the digest is of."""
    rows = [
        f"{hash_file(file)}  {file.relative_to(project.repository).as_posix()}\n"
        for model in plan.models
        for file in sorted((project.repository / model.name).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
    return "".join(rows)
