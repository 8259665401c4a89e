# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""NOTES.txt: what Helm prints after an installation."""

from __future__ import annotations

from trtkit.deploy.planned import HTTP_PORT, Plan


def notes(plan: Plan) -> str:
    """The text; the namespace in it is the release's."""
    budget = plan.startup.budget
    return f"""\
{plan.name} of release {{{{ .Release.Name }}}}, repository {{{{ .Values.repository.digest | trunc 12 }}}}.

No port opens until all models are loaded; at the latest after {budget.text} ({budget.why}) pods are restarted:
  kubectl -n {{{{ .Release.Namespace }}}} rollout status deployment/{plan.name}

A first request:
  kubectl -n {{{{ .Release.Namespace }}}} port-forward service/{plan.name} {HTTP_PORT}:{HTTP_PORT} &
  curl --fail http://127.0.0.1:{HTTP_PORT}/v2/health/ready
  curl http://127.0.0.1:{HTTP_PORT}/v2/models/{plan.models[0].name}

The namespace is not part of the release; its pods hold the Pod Security Standard restricted:
  kubectl label namespace {{{{ .Release.Namespace }}}} pod-security.kubernetes.io/enforce=restricted
"""
