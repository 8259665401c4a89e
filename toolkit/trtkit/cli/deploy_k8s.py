# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy k8s``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trtkit.cli.deploy_common import deliver, kube_version_option, output_options

if TYPE_CHECKING:
    from trtkit.deploy.planned import Plan
    from trtkit.project import Project


@click.command(
    help="""Render Kubernetes objects: kustomize with an overlay for each environment, and a Helm chart of the same.

    Writes k8s/base and k8s/overlays/ENVIRONMENT, helm/NAME with a values file for each environment,
    k8s/upload/ENVIRONMENT (the script that copies the repository to its claim) and k8s/cluster/ENVIRONMENT (what is
    applied by hand: GPU sharing, prometheus-adapter, engine builds).

    \b
    Nothing is sent to a cluster. After it:
        sh deploy/k8s/upload/production/upload.sh model_repository
        kubectl apply -k deploy/k8s/overlays/production"""
)
@kube_version_option
@output_options("deploy")
def k8s(
    kube_version: str | None,
    project_path: Path | None,
    output: Path | None,
    check: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Render all environments."""
    from trtkit.deploy.kubernetes.render import files
    from trtkit.deploy.plan import make_plans
    from trtkit.project import find_project

    project = find_project(project_path)
    base, environments = make_plans(project, kube_version=kube_version)
    folder = output or project.root / "deploy"
    plans = [base, *environments.values()]
    for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings):
        sys.stderr.write(f"warning: {warning}\n")
    return deliver(
        files(project, base, environments), folder, "k8s",
        check=check, force=force, as_json=as_json, after=_next(project, folder, environments or {"": base}),
    )  # fmt: skip


def _next(project: Project, folder: Path, plans: dict[str, Plan]) -> str:
    """The commands that deploy what was rendered, and the Secrets that they need."""
    from trtkit.deploy.kubernetes.render import BASE
    from trtkit.deploy.kubernetes.storage import renders_claim

    lines = ["next:"]
    for environment, plan in plans.items():
        lines += [f"  # {what} has to be in namespace {plan.namespace}" for what in _secrets(plan)]
        lines += _admission(plan)
        if renders_claim(plan):
            script = _shown(folder / "k8s" / "upload" / (environment or BASE) / "upload.sh")
            lines.append(f"  sh {script} {_shown(project.repository)}")
        kustomization = folder / "k8s" / (f"overlays/{environment}" if environment else BASE)
        lines.append(f"  kubectl apply -k {_shown(kustomization)}")
        if plan.spec.kserve:
            alone = folder / "k8s" / "kserve" / f"{environment or BASE}.yaml"
            lines.append(f"  kubectl apply -f {_shown(alone)}  # KServe's InferenceService, instead of the line above")
    return "\n".join(lines)


def _admission(plan: Plan) -> list[str]:
    """What opens the NetworkPolicy to a proxy whose pods run where nothing in the project file says."""
    from trtkit.deploy.kubernetes.meta import CLIENT_LABEL

    exposure = plan.spec.exposure
    if exposure.kind == "none" or (exposure.kind, exposure.class_name) == ("ingress", "nginx"):
        return []
    named = f"gateway {exposure.gateway}" if exposure.gateway else f"class {exposure.class_name}"
    return [
        f"  # where the proxy's pods ({named}) run in a namespace of their own, it needs the label:",
        f"  # kubectl label namespace PROXYS_NAMESPACE {CLIENT_LABEL}=true",
    ]


def _secrets(plan: Plan) -> list[str]:
    """The Secrets that objects refer to, and their keys: trtkit writes none."""
    from trtkit.deploy.kubernetes.settings import secret_keys

    spec, found = plan.spec, []
    if spec.storage.secret:
        found.append(f"Secret {spec.storage.secret} ({', '.join(secret_keys(spec.storage.kind))})")
    if spec.exposure.tls_secret and spec.exposure.kind != "none":
        found.append(f"Secret {spec.exposure.tls_secret} (tls.crt, tls.key)")
    if spec.scaling.queue:
        found.append(f"Secret {spec.scaling.queue.secret} (host)")
    return found


def _shown(path: Path) -> str:
    """As it can be typed here."""
    near = os.path.relpath(path)
    return shlex.quote(str(path.resolve()) if near.startswith("..") else near)
