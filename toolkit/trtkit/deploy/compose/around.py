# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The services around the server: Envoy, monitoring, and the optional cache, queue and storage."""

from __future__ import annotations

from trtkit.deploy.compose.service import Node, hardened, image, over_tcp, probe, variable
from trtkit.deploy.envoy.addresses import COMPOSE
from trtkit.deploy.envoy.bootstrap import memory_mib
from trtkit.deploy.figure import Noted, noted
from trtkit.deploy.planned import Plan

WEBHOOK_SECRET = "alert_webhook_url"
WEBHOOK_FILE = f"/run/secrets/{WEBHOOK_SECRET}"
"""Where Alertmanager reads it, whatever path the project file names for other ways to run it."""

_CONFIG = {"type": "bind", "read_only": True, "bind": {"create_host_path": False}}


def envoy(plan: Plan) -> Node:
    """The one address of clients."""
    port = plan.spec.compose.http_port
    return {
        "image": image("envoy"),
        **hardened("512m"),
        "mem_limit": noted(memory_mib(plan), f"{memory_mib(plan).whole}m"),
        "user": "101:101",
        "command": ["envoy", "-c", "/etc/envoy/envoy.yaml", "--log-level", "warning", "--concurrency", "2"],
        "ports": [
            _published(plan, "HTTP_PORT", port, COMPOSE.http),
            _published(plan, "GRPC_PORT", port + 1, COMPOSE.grpc),
        ],
        "volumes": [{**_CONFIG, "source": "./envoy/envoy.yaml", "target": "/etc/envoy/envoy.yaml"}],
        "tmpfs": ["/tmp:mode=1777,size=16m"],
        "depends_on": {"triton": {"condition": Noted("service_healthy", "an open port does not mean loaded models")}},
        "healthcheck": probe(over_tcp(COMPOSE.metrics, "/ready"), start="10s"),
        "networks": ["edge", "serving"],
    }


def prometheus(plan: Plan) -> Node:
    """Scrapes the servers and Envoy, and evaluates the rules."""
    return {
        "image": image("prometheus"),
        **hardened("2g"),
        "user": "65534:65534",
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
            Noted("--storage.tsdb.retention.size=10GB", "whichever comes first"),
        ],
        "ports": [_guarded("PROMETHEUS_PORT", 9090)],
        "volumes": [
            {**_CONFIG, "source": "./prometheus", "target": "/etc/prometheus"},
            {"type": "volume", "source": "prometheus", "target": "/prometheus"},
        ],
        "healthcheck": probe(["wget", "-q", "--spider", "http://127.0.0.1:9090/-/healthy"]),
        "networks": ["edge", "serving", "monitoring"],
    }


def alertmanager(plan: Plan) -> Node:
    """Groups alerts and tells people; on its port they are silenced."""
    told = plan.spec.monitoring.webhook_url_file is not None
    return {
        "image": image("alertmanager"),
        **hardened("256m"),
        "user": "65534:65534",
        "command": [
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
            Noted("--cluster.listen-address=", "one of them: no gossip"),
        ],
        "volumes": [
            {**_CONFIG, "source": "./alertmanager", "target": "/etc/alertmanager"},
            {"type": "volume", "source": "alertmanager", "target": "/alertmanager"},
        ],
        "ports": [_guarded("ALERTMANAGER_PORT", 9093)],
        **({"secrets": [WEBHOOK_SECRET]} if told else {}),
        "healthcheck": probe(["wget", "-q", "--spider", "http://127.0.0.1:9093/-/healthy"]),
        "networks": ["edge", "monitoring"],
    }


def grafana(plan: Plan) -> Node:
    """The dashboard."""
    return {
        "image": image("grafana"),
        **hardened("512m"),
        "user": "472:472",
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana_admin_password",
            "GF_USERS_ALLOW_SIGN_UP": "false",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        },
        "ports": [_published(plan, "GRAFANA_PORT", 3000, 3000)],
        "volumes": [
            {**_CONFIG, "source": "./grafana/provisioning", "target": "/etc/grafana/provisioning"},
            {**_CONFIG, "source": "./grafana/dashboards", "target": "/var/lib/grafana/dashboards"},
            {"type": "volume", "source": "grafana", "target": "/var/lib/grafana"},
        ],
        "tmpfs": ["/tmp:mode=1777,size=64m"],
        "secrets": ["grafana_admin_password"],
        "depends_on": {"prometheus": {"condition": "service_healthy"}},
        "healthcheck": probe(["wget", "-q", "--spider", "http://127.0.0.1:3000/api/health"]),
        "networks": ["edge", "monitoring"],
    }


def dcgm_exporter(plan: Plan) -> Node:
    """The GPUs' metrics; only on a GPU target."""
    devices = [{"driver": "nvidia", "count": "all", "capabilities": ["gpu", "utility"]}]
    return {
        "image": image("dcgm-exporter"),
        **hardened("512m"),
        "read_only": Noted(False, "not tried with a read-only root"),
        "cap_add": [Noted("SYS_ADMIN", "the profiling metrics DCGM_FI_PROF_*, without which a MIG slice has none")],
        "deploy": {"resources": {"reservations": {"devices": devices}}},
        "healthcheck": probe(over_tcp(9400, "/health")),
        "networks": ["serving"],
    }


def redis(plan: Plan) -> Node:
    """The response cache of all servers; a restart empties it."""
    return {
        "image": image("redis"),
        **hardened("640m"),
        "user": "999:1000",
        "command": [
            "redis-server",
            "--maxmemory", "512mb", "--maxmemory-policy", "allkeys-lru",
            "--save", "", "--appendonly", "no",
        ],
        "healthcheck": probe(["redis-cli", "ping"], start="5s"),
        "networks": ["cache"],
    }  # fmt: skip


def rabbitmq(plan: Plan) -> Node:
    """A queue for requests that may wait; a consumer of your own takes them to Envoy."""
    return {
        "image": image("rabbitmq"),
        **hardened("1g", pids=1024),
        "user": "100:101",
        "environment": {"RABBITMQ_NODENAME": "rabbit@localhost"},
        "volumes": [{"type": "volume", "source": "rabbitmq", "target": "/var/lib/rabbitmq"}],
        "tmpfs": ["/tmp:mode=1777,size=16m", "/var/log/rabbitmq:mode=1777,size=16m"],
        "secrets": [{"source": "rabbitmq.conf", "target": "/etc/rabbitmq/conf.d/20-users.conf"}],
        "healthcheck": {
            **probe(["rabbitmq-diagnostics", "-q", "ping"], start="60s"),
            "interval": Noted("30s", "each check starts an Erlang machine of its own"),
            "timeout": "20s",
        },
        "networks": ["edge", "serving"],
    }


def s3(plan: Plan) -> Node:
    """An S3 server for trials: it forgets everything when it stops, and lets everybody in."""
    return {
        "image": image("s3"),
        "profiles": ["s3"],
        **hardened("2g"),
        "user": "1000:1000",
        "environment": {"MOTO_PORT": "5000"},
        "tmpfs": ["/tmp:mode=1777,size=64m"],
        "ports": [_guarded("S3_PORT", 5000)],
        "healthcheck": probe(
            ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/moto-api/')"]
        ),
        "networks": ["edge", "serving"],
    }


def _published(plan: Plan, name: str, host: int, container: int) -> str:
    address = variable("BIND_ADDRESS", plan.spec.compose.address)
    return f"{address}:{variable(name, str(host))}:{container}"


def _guarded(name: str, port: int) -> str:
    """A port that asks for no login: not on the clients' interface, which may be the whole network's."""
    return f"{variable('UNGUARDED_ADDRESS', '127.0.0.1')}:{variable(name, str(port))}:{port}"
