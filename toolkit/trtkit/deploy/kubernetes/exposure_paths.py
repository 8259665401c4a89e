# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which of the server's HTTP paths clients outside of the cluster need, and get.

The rest stays inside: the model repository, shared memory, tracing and logging change the server; configurations and
statistics tell of it; metrics have a port of their own. Prefixes would not do: ``/v2/models/NAME/trace/setting`` lies
below the path of the model.
"""

from __future__ import annotations

from trtkit.deploy.planned import Plan

HEALTH_PATHS = ("/v2/health/live", "/v2/health/ready")
MODEL_PATHS = ("", "/ready", "/infer", "/generate", "/generate_stream")
"""Below a model, or a version of it: its metadata, readiness, inference, and the generate extension."""


def public_paths(plan: Plan) -> tuple[str, ...]:
    """Every path that is routed from outside, each to be matched exactly."""
    models = [
        f"/v2/models/{model.name}{version}{path}"
        for model in plan.models
        for version in ("", *(f"/versions/{number}" for number in model.versions))
        for path in MODEL_PATHS
    ]
    return (*HEALTH_PATHS, *models)
