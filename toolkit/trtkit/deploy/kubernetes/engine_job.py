# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The build of TensorRT engines on the target's GPU, as a Job in the cluster that serves them.

An engine runs on the GPU it was built for, so it is built where it will run: the same node label, the same slice.
"""

from __future__ import annotations

from typing import Any

import yaml

from trtkit.container_build import kubernetes_job
from trtkit.deploy.figure import Noted
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump_all
from trtkit.project import Project

FILE = "engine-build-job.yaml"
CLAIM = "trtkit-project"
"""The claim in which the project's folder lies."""


def files(project: Project, plan: Plan) -> dict[str, str]:
    """The Jobs by relative path; none for targets without engines, and for a project that builds nothing.

    Raises:
        ProjectError: the target has no image, or its TensorRT cannot be installed in it.
    """
    if plan.target.backend != "tensorrt" or not project.models:
        return {}
    wanted = [model.name for model in plan.models if model.name in project.models] if plan.spec.models else []
    product = plan.gpu.product if plan.gpu else None
    text = kubernetes_job(project, wanted, plan.target_name, plan.target, claim=CLAIM, gpu_product=product)
    jobs = [_placed(job, plan) for job in yaml.safe_load_all(text)]
    names = " ".join(f"job/{job['metadata']['name']}" for job in jobs)
    return {FILE: dump_all(jobs, comment=f"{_HOW}\n{_RUN} {names}")}


def _placed(job: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """A Job where the plan's pods run: in its namespace, on the resource that they get."""
    assert plan.gpu is not None
    job["metadata"]["namespace"] = plan.namespace
    pod = job["spec"]["template"]["spec"]
    pod["automountServiceAccountToken"] = False
    limits = {plan.gpu.resource: Noted(1, "what the served pods get: an engine is tuned to its GPU, or slice")}
    pod["containers"][0]["resources"] = {"limits": limits}
    if plan.gpu.product is None and plan.spec.cluster.node_selector:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **plan.spec.cluster.node_selector}
    return job


_HOW = f"""\
Builds the engines on the GPU they will run on; trtkit has not run this. Not part of the kustomization: run it before.
The project's folder has to lie in the claim {CLAIM}. The Job runs as root and installs trtkit, which a namespace that
enforces the Pod Security Standard restricted refuses: run it in another one, with that namespace below.
A GPU that others use meanwhile gives slower engines: the builder times its choices."""
_RUN = f"kubectl create -f {FILE} && kubectl wait -n NAMESPACE --for=condition=complete --timeout=2h"
