# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A real Envoy with the rendered configuration, in front of real servers on this machine."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

from deploy_tools import program
from trtkit.deploy.envoy.addresses import Addresses, Server
from trtkit.deploy.envoy.bootstrap import render
from trtkit.deploy.planned import Plan
from trtkit.server.process import LOCALHOST, RunningServer, free_ports

SLEEPER = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            time.sleep(float(x[0, 0]))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return responses
"""
"""A model that takes as many seconds as its first value says."""


def place(server: RunningServer) -> Server:
    """A server's address for Envoy."""
    http, grpc = (int(url.rpartition(":")[2]) for url in (server.http_url, server.grpc_url))
    return Server(LOCALHOST, http, grpc)


def start_envoy(
    stack: ExitStack, folder: Path, plan: Plan, stable: tuple[Server, ...], canary: tuple[Server, ...] = ()
) -> Addresses:
    """Start Envoy, wait until it has seen every stable server well, and stop it with the stack."""
    clients, inside = free_ports(), free_ports()
    addresses = Addresses(stable, canary, LOCALHOST, clients.http, clients.grpc, clients.metrics, inside.http)
    (folder / "envoy.yaml").write_text(render(plan, addresses))
    command = [program("envoy"), "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "2"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
    stack.callback(lambda: (process.terminate(), process.wait(20)))
    wanted = {f"triton_{wire}_stable": len(stable) for wire in ("http", "grpc")}
    deadline = time.monotonic() + 30
    while {name: healthy(addresses, name) for name in wanted} != wanted:
        log_text = (folder / "envoy.log").read_text()
        assert process.poll() is None, log_text
        assert time.monotonic() < deadline, log_text
        time.sleep(0.1)
    return addresses


def healthy(addresses: Addresses, cluster: str) -> int:
    """How many servers of a cluster Envoy takes for well."""
    with suppress(OSError):
        return int(stat(addresses, "envoy_cluster_membership_healthy", cluster))
    return -1


def stat(addresses: Addresses, name: str, cluster: str) -> float:
    """A metric of a cluster as Prometheus gets it; 0 where there is none yet."""
    _, text = get(f"http://{LOCALHOST}:{addresses.metrics}/stats/prometheus")
    for line in text.splitlines():
        if line.startswith(f"{name}{{") and f'envoy_cluster_name="{cluster}"' in line:
            return float(line.rpartition(" ")[2])
    return 0.0


def get(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """A request's status and text, whatever the status is."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode()
