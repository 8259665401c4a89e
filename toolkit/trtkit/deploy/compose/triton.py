# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The service of the server, and of a release that is tried out beside it."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.compose.service import Node, hardened, probe, variable
from trtkit.deploy.figure import Figure, Noted, noted
from trtkit.deploy.kubernetes.settings import settings
from trtkit.deploy.planned import HTTP_PORT, MODELS_PATH, UID, Plan

BUCKET_SECRET = "bucket.json"
_TENSOR_FILES = 65536


def server(plan: Plan, *, canary: bool = False) -> Node:
    """Triton.

    Args:
        plan: what is served.
        canary: the service of another release, which starts only with its profile.
    """
    prefix = "CANARY_" if canary else ""
    main = variable("TRITON_IMAGE", plan.served_image)
    service: Node = {
        "image": variable("CANARY_IMAGE", main) if canary else main,
        **({"profiles": ["canary"]} if canary else {}),
        **hardened(_memory_limit(plan), pids=4096),
        "init": Noted(True, "ends what Python models leave behind"),
        "user": f"{UID}:{UID}",
        "command": command(plan),
        "environment": _environment(plan),
        "tmpfs": [_temporary(plan)],
        "shm_size": noted(plan.memory.shm, f"{plan.memory.shm.whole}m"),
        "ulimits": _ulimits(),
        "stop_grace_period": noted(stop_grace(plan), f"{stop_grace(plan).value}s"),
        "healthcheck": _health(plan),
        "networks": ["serving", "cache"] if plan.spec.compose.redis else ["serving"],
        "labels": {"trtkit.io/repo-digest": plan.digest, "trtkit.io/track": "canary" if canary else "stable"},
        **_models(plan, prefix),
        **_secrets(plan),
    }
    if plan.gpu is not None:
        service["deploy"] = {"resources": {"reservations": {"devices": [_device(plan, prefix)]}}}
    if plan.spec.compose.redis:
        service["depends_on"] = {"redis": {"condition": "service_healthy"}}
    return service


def command(plan: Plan) -> list[Any]:
    """The command line, each option with its reason; with the shared cache in place of the local one."""
    reasons = dict(plan.flags)
    line: list[Any] = []
    for argument in plan.arguments:
        if plan.spec.compose.redis and argument.startswith("--cache-config="):
            continue
        line.append(Noted(argument, reasons[argument]) if reasons.get(argument) else argument)
    if plan.spec.compose.redis:
        line.append(Noted("--cache-config=redis,host=redis,port=6379", "compose.redis: one cache for every server"))
    return line


def stop_grace(plan: Plan) -> Figure:
    """From SIGTERM to SIGKILL; there is no preStop: Envoy sees by itself that the server stops."""
    grace, pre_stop = plan.drain.grace, plan.drain.pre_stop
    seconds = grace.whole - pre_stop.whole
    left = seconds - plan.drain.exit_timeout.whole
    why = f"exit timeout {plan.drain.exit_timeout.text}, unloading included, then {left} s to end its processes"
    return Figure(seconds, "s", why, "computed")


def _memory_limit(plan: Plan) -> Any:
    host, temporary = plan.memory.host, plan.memory.temporary
    why = f"{host.text} for the server with /dev/shm, {temporary.text} for /tmp, which is memory too; {host.why}"
    return Noted(f"{host.whole + temporary.whole}m", why)


def _temporary(plan: Plan) -> Any:
    """Docker mounts a tmpfs noexec unless it is told otherwise."""
    size = plan.memory.temporary
    why = f"{size.why}; exec: packed Python environments and libraries of models are unpacked here and loaded"
    return Noted(f"/tmp:exec,mode=1777,size={size.whole}m", why)


def _environment(plan: Plan) -> Node:
    variables = settings(plan)
    if plan.spec.storage.kind == "gcs" and plan.spec.storage.secret:
        variables["GOOGLE_APPLICATION_CREDENTIALS"] = f"/run/secrets/{BUCKET_SECRET}"
    elif plan.spec.storage.secret:
        variables["TRITON_CLOUD_CREDENTIAL_PATH"] = f"/run/secrets/{BUCKET_SECRET}"
    return variables


def _ulimits() -> Node:
    return {
        "memlock": Noted(-1, "pinned memory"),
        "stack": 67108864,
        "nofile": Noted({"soft": _TENSOR_FILES, "hard": _TENSOR_FILES}, "connections and model files"),
    }


def _health(plan: Plan) -> Node:
    """Ready, and not live: Envoy may start only when models answer."""
    path = "/v2/health/ready" if plan.spec.server.strict else "/v2/health/live"
    asked = ["curl", "-fsS", "-o", "/dev/null", "--max-time", "4", f"http://127.0.0.1:{HTTP_PORT}{path}"]
    budget = plan.startup.budget
    return probe(asked, start=noted(budget, f"{budget.whole}s"))


def _models(plan: Plan, prefix: str) -> Node:
    if plan.spec.storage.kind != "pvc":
        return {}
    source = "${MODELS_DIR:?the folder of the model repository; see .env.example}"
    if prefix:
        source = "${CANARY_MODELS_DIR:-${MODELS_DIR}}"
    volume = {"type": "bind", "source": source, "target": MODELS_PATH, "read_only": True}
    return {"volumes": [{**volume, "bind": {"create_host_path": False}}]}


def _secrets(plan: Plan) -> Node:
    return {"secrets": [BUCKET_SECRET]} if plan.spec.storage.secret else {}


def _device(plan: Plan, prefix: str) -> Node:
    """One named GPU, so that a canary can have another one; several are counted."""
    assert plan.gpu is not None
    if plan.gpu.count > 1:
        return {"driver": "nvidia", "count": plan.gpu.count, "capabilities": ["gpu"]}
    mig = plan.spec.gpu.mig
    first = Noted(variable(f"{prefix}GPU_DEVICE", "0:0"), f"GPU:slice of {mig}; or its UUID, by nvidia-smi -L")
    whole = variable(f"{prefix}GPU_DEVICE", "0")
    return {"driver": "nvidia", "device_ids": [first if mig else whole], "capabilities": ["gpu"]}
