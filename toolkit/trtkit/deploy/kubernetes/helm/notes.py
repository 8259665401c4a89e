# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""NOTES.txt: what Helm prints after an installation."""

from __future__ import annotations

from trtkit.deploy.kubernetes.storage import claim_name, renders_claim
from trtkit.deploy.planned import HTTP_PORT, Plan


def notes(plan: Plan) -> str:
    """The text; the namespace in it is the release's."""
    budget = plan.startup.budget
    models = ""
    if renders_claim(plan):
        models = f"""
The models have to be in PersistentVolumeClaim {claim_name(plan)}, which is not part of the release, in the folder
{{{{ .Values.repository.digest | trunc 12 }}}}; pods wait for it. k8s/upload/ENVIRONMENT/upload.sh, rendered with this
chart for the namespace of each environment, makes the claim and the folder.
"""
    return f"""\
{plan.name} of release {{{{ .Release.Name }}}}, repository {{{{ .Values.repository.digest | trunc 12 }}}}.

No port opens until all models are loaded; at the latest after {budget.text} ({budget.why}) pods are restarted:
  kubectl -n {{{{ .Release.Namespace }}}} rollout status deployment/{plan.name}
{models}
A first request:
  kubectl -n {{{{ .Release.Namespace }}}} port-forward service/{plan.name} {HTTP_PORT}:{HTTP_PORT} &
  curl --fail http://127.0.0.1:{HTTP_PORT}/v2/health/ready
  curl http://127.0.0.1:{HTTP_PORT}/v2/models/{plan.models[0].name}

The namespace is not part of the release; its pods hold the Pod Security Standard restricted:
  kubectl label namespace {{{{ .Release.Namespace }}}} pod-security.kubernetes.io/enforce=restricted
"""
