# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""When the server's container counts as started, alive and ready, and how it stops.

What the server does (run with tritonserver 2.51): no port opens until all models of the start are loaded; with
``--model-control-mode=explicit`` it is ready with no model at all, and not ready while any model loads; where a model
failed and ``--exit-on-error=false``, it is never ready as a whole.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from trtkit.deploy.figure import Noted, noted
from trtkit.deploy.planned import HTTP_PORT, Plan

PROBE_TIMEOUT = 5
"""Of each probe, s: an answer is milliseconds away, but its thread may have to wait for the processor."""


def probes(plan: Plan) -> dict[str, Any]:
    """The three probes of the server's container."""
    start = plan.startup
    return {
        "startupProbe": {
            **_get("/v2/health/live"),
            "periodSeconds": start.period,
            "failureThreshold": Noted(start.failures, f"x {start.period} s >= {start.budget.text}: {start.budget.why}"),
            "timeoutSeconds": PROBE_TIMEOUT,
        },
        "livenessProbe": {
            **_get("/v2/health/live"),
            "periodSeconds": 10,
            "failureThreshold": Noted(6, "a minute: a restart costs the whole start again, and what is in flight"),
            "timeoutSeconds": PROBE_TIMEOUT,
        },
        "readinessProbe": {
            **readiness(plan),
            "periodSeconds": 5,
            "failureThreshold": 3,
            "timeoutSeconds": PROBE_TIMEOUT,
        },
    }


def readiness(plan: Plan) -> dict[str, Any]:
    """The check of the readiness probe: of the server as a whole, or of the models that are promised.

    A probe of kind httpGet asks for one path. For several models curl, which NVIDIA's images have, asks for each.
    """
    if plan.spec.server.control_mode == "none" and plan.spec.server.strict:
        return _get("/v2/health/ready")
    paths = [f"/v2/models/{quote(name)}/ready" for name in promised(plan)]
    if len(paths) == 1:
        return _get(paths[0])
    ask = f'curl --fail --silent --output /dev/null --max-time 2 "http://127.0.0.1:{HTTP_PORT}$path"'
    each = f"{ask} || exit 1" if plan.spec.server.strict else f"{ask} && exit 0"
    end = "exit 0" if plan.spec.server.strict else "exit 1"
    why = (
        "every model" if plan.spec.server.strict else "any model: the server was told to go on without those that fail"
    )
    script = f"for path in {' '.join(paths)}; do {each}; done; {end}"
    return {"exec": Noted({"command": ["sh", "-c", script]}, f"ready with {why}; httpGet asks for one path only")}


def promised(plan: Plan) -> list[str]:
    """The models that clients call: those of the project file, else all."""
    return list(plan.spec.models) or [model.name for model in plan.models]


def lifecycle(plan: Plan) -> dict[str, Any]:
    """The wait before SIGTERM, on which the server refuses new connections at once; {} for none."""
    figure = plan.drain.pre_stop
    if figure.whole == 0:
        return {}
    if plan.cluster_has("lifecycle.preStop.sleep"):
        return {"preStop": {"sleep": {"seconds": noted(figure)}}}
    return {"preStop": {"exec": {"command": ["sleep", noted(figure, str(figure.whole))]}}}


def _get(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}}
