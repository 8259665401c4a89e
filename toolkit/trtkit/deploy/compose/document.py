# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""All files of the Compose project."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.compose import around
from trtkit.deploy.compose.scripts import CANARY_SCRIPT, start_wait, update_script
from trtkit.deploy.compose.service import IMAGES, Node
from trtkit.deploy.compose.triton import BUCKET_SECRET, server
from trtkit.deploy.envoy.bootstrap import render
from trtkit.deploy.figure import Noted
from trtkit.deploy.monitoring import stack
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

_HEAD = """{name} on one host: Triton behind Envoy, with Prometheus, Alertmanager and Grafana.
Variables are in .env (see .env.example), secrets in secrets/; docs/deploy-containers.md of trtkit explains both.

    docker compose up --detach --wait --wait-timeout {wait}
    ./update.sh              # another repository or image, without a failed request"""
_IGNORED = """# what holds secrets or belongs to one host
.env
secrets/*
"""


def files(plan: Plan, repository: str = "../../model_repository") -> dict[str, str]:
    """The Compose project by relative path.

    Args:
        plan: what is served.
        repository: the model repository, relative to the folder of compose.yaml.
    """
    return {
        "compose.yaml": dump(document(plan), comment=_HEAD.format(name=plan.name, wait=start_wait(plan).value)),
        ".env.example": variables(plan, repository),
        ".gitignore": _IGNORED,
        "envoy/envoy.yaml": render(plan),
        "update.sh": update_script(plan),
        "canary.sh": CANARY_SCRIPT,
        **stack.files(plan, around.WEBHOOK_FILE if plan.spec.monitoring.webhook_url_file else None),
    }


def document(plan: Plan) -> Node:
    """compose.yaml, with `Noted` values."""
    return {
        "name": plan.name,
        "services": _services(plan),
        "networks": _networks(plan),
        "volumes": {name: {} for name in _volumes(plan)},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in secrets(plan)},
    }


def secrets(plan: Plan) -> dict[str, str]:
    """The files in secrets/ that have to be there, and what each holds."""
    found = {"grafana_admin_password": "the password of Grafana's user admin"}
    if plan.spec.monitoring.webhook_url_file is not None:
        found[around.WEBHOOK_SECRET] = "the address that Alertmanager sends alerts to"
    if plan.spec.storage.secret:
        found[BUCKET_SECRET] = _BUCKETS[plan.spec.storage.kind]
    if plan.spec.compose.rabbitmq:
        found["rabbitmq.conf"] = "two lines: default_user = NAME and default_pass = PASSWORD"
    return found


_BUCKETS = {
    "s3": '{"s3": {"": {"key_id": "…", "secret_key": "…", "region": "…"}}}',
    "gcs": "the key file of the service account, as Google gives it",
    "azure": '{"as": {"": {"account_str": "…", "account_key": "…"}}}',
}


def variables(plan: Plan, repository: str) -> str:
    """.env.example: every variable with its default."""
    settings = plan.spec.compose
    lines = ["# Copy to .env. What is commented out has the value that is shown.", ""]
    if plan.spec.storage.kind == "pvc":
        lines += [
            "# The model repository, as seen from this folder; readable by the user 1000.",
            f"MODELS_DIR={repository}",
        ]
    lines += [
        "",
        "# Triton's image; its digest (image@sha256:...) pins it for good.",
        f"# TRITON_IMAGE={plan.served_image}",
    ]
    if plan.gpu is not None and plan.gpu.count == 1:
        shown = "0:0" if plan.spec.gpu.mig else "0"
        lines += ["", "# The GPU, or MIG slice: its number or UUID (nvidia-smi -L).", f"# GPU_DEVICE={shown}"]
    lines += [
        "",
        "# The canary's (docker compose --profile canary up --detach --wait triton-canary).",
        "# CANARY_IMAGE=",
    ]
    lines += ["# CANARY_MODELS_DIR="] if plan.spec.storage.kind == "pvc" else []
    lines += ["# CANARY_GPU_DEVICE=1"] if plan.gpu is not None and plan.gpu.count == 1 else []
    ports = {"HTTP_PORT": settings.http_port, "GRPC_PORT": settings.http_port + 1, "GRAFANA_PORT": 3000}
    lines += ["", "# The host's interface and ports for clients and Grafana.", f"# BIND_ADDRESS={settings.address}"]
    lines += [f"# {name}={port}" for name, port in ports.items()]
    ports = {"PROMETHEUS_PORT": 9090, "ALERTMANAGER_PORT": 9093, **({"S3_PORT": 5000} if settings.s3 else {})}
    lines += ["", "# Those that ask nobody for a password: reach them over ssh.", "# UNGUARDED_ADDRESS=127.0.0.1"]
    lines += [f"# {name}={port}" for name, port in ports.items()]
    lines += ["", "# The other images."]
    lines += [f"# {name}={image}" for service, (name, image) in IMAGES.items() if service in _services(plan)]
    lines += [
        "",
        "# Secrets are files in secrets/, never variables. The containers' users have to be able to read them:",
    ]
    lines += ["# mkdir -m 700 secrets, so that on this host only you reach them, and chmod 644 for the files."]
    lines += [f"#   secrets/{name}: {what}" for name, what in secrets(plan).items()]
    return "\n".join(lines) + "\n"


def _services(plan: Plan) -> Node:
    settings = plan.spec.compose
    optional: dict[str, bool] = {
        "dcgm-exporter": plan.on_gpu, "redis": settings.redis, "rabbitmq": settings.rabbitmq, "s3": settings.s3,
    }  # fmt: skip
    makers = {
        "dcgm-exporter": around.dcgm_exporter, "redis": around.redis, "rabbitmq": around.rabbitmq, "s3": around.s3,
    }  # fmt: skip
    return {
        "triton": server(plan),
        "triton-canary": server(plan, canary=True),
        "envoy": around.envoy(plan),
        "prometheus": around.prometheus(plan),
        "alertmanager": around.alertmanager(plan),
        "grafana": around.grafana(plan),
        **{name: makers[name](plan) for name, wanted in optional.items() if wanted},
    }


def _networks(plan: Plan) -> Node:
    inside = plan.spec.storage.uri is None
    serving: Any = {"internal": True} if inside else Noted({}, "the server reads its bucket: not internal")
    found: Node = {
        "edge": Noted({}, "what the host's ports lead to"),
        "serving": serving,
        "monitoring": {"internal": True},
    }
    return {**found, **({"cache": {"internal": True}} if plan.spec.compose.redis else {})}


def _volumes(plan: Plan) -> list[str]:
    return ["prometheus", "alertmanager", "grafana", *(["rabbitmq"] if plan.spec.compose.rabbitmq else [])]
