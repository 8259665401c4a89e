# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""All objects of a plan, in a fixed order."""

from __future__ import annotations

from trtkit.deploy.kubernetes.access import network_policy, service_account
from trtkit.deploy.kubernetes.exposure import exposure_objects
from trtkit.deploy.kubernetes.limits import disruption_budget, namespace, priority_class, quota
from trtkit.deploy.kubernetes.meta import Object
from trtkit.deploy.kubernetes.scaling import scaling_objects
from trtkit.deploy.kubernetes.services import services
from trtkit.deploy.kubernetes.settings import config_map
from trtkit.deploy.kubernetes.storage import claim
from trtkit.deploy.kubernetes.workload import deployment
from trtkit.deploy.monitoring.objects import monitoring_objects
from trtkit.deploy.planned import Plan


def groups(plan: Plan) -> dict[str, list[Object]]:
    """The objects by what they are about, in the order they are to be read in; no group is empty."""
    found = {
        "namespace": [namespace(plan), priority_class(plan), *quota(plan)],
        "access": [service_account(plan), network_policy(plan)],
        "storage": claim(plan),
        "deployment": [config_map(plan), deployment(plan), disruption_budget(plan)],
        "services": services(plan),
        "exposure": exposure_objects(plan),
        "scaling": scaling_objects(plan),
        "monitoring": monitoring_objects(plan),
    }
    return {name: objects for name, objects in found.items() if objects}


def objects(plan: Plan) -> list[Object]:
    """Every Kubernetes object of a plan; `Noted` values in them become comments.

    Kinds that the API server knows only with an operator installed, such as ScaledObject, PodMonitor or HTTPRoute,
    are there only when the plan asks for them. KServe's InferenceService is not among them: it would run a second
    time what the Deployment runs; see `kserve.files`.
    """
    return [item for group in groups(plan).values() for item in group]
