# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Everything that ``trtkit deploy k8s`` writes: kustomize, the Helm chart, and what is applied beside them."""

from __future__ import annotations

from collections.abc import Mapping

from trtkit.deploy.kubernetes import engine_job, gpu_sharing, kserve, kustomize, upload
from trtkit.deploy.kubernetes.helm import chart
from trtkit.deploy.kubernetes.scaling import adapter_values
from trtkit.deploy.planned import Plan
from trtkit.project import Project

BASE = "base"
"""The folder of the block itself, beside those of the environments."""


def files(project: Project, base: Plan, environments: Mapping[str, Plan]) -> dict[str, str]:
    """The files by relative path.

    ``k8s/base`` and ``k8s/overlays`` are for kustomize, ``helm/NAME`` is a chart with the same objects,
    ``k8s/upload/ENVIRONMENT`` fills the models' claim, ``k8s/cluster/ENVIRONMENT`` is for who runs the cluster, and
    ``k8s/kserve/ENVIRONMENT.yaml`` is instead of the Deployment, where the project asks for it.

    Args:
        project: for the checksums of its repository, and the job that builds its engines.
        base: the plan of the block itself.
        environments: the plans of the environments, by name.
    """
    found = _below("k8s", kustomize.files(base, environments))
    found |= _below(f"helm/{base.name}", chart.files(base, environments))
    common = cluster_files(project, base)
    for environment, plan in {BASE: base, **environments}.items():
        found |= _below(f"k8s/upload/{environment}", upload.files(project, plan))
        found |= _below("k8s/kserve", kserve.files(plan, f"{environment}.yaml"))
        own = cluster_files(project, plan)
        if plan is base or own != common:
            found |= _below(f"k8s/cluster/{environment}", own)
    return found


def cluster_files(project: Project, plan: Plan) -> dict[str, str]:
    """What is no object of the plan's namespace: nodes' GPU configuration, adapter values, the engine build."""
    values = adapter_values(plan)
    return {
        **gpu_sharing.files(plan),
        **({"prometheus-adapter-values.yaml": values} if values else {}),
        **engine_job.files(project, plan),
    }


def _below(folder: str, files_there: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files_there.items()}
