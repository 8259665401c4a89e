# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Loads on a real server, as `trtkit perf` runs them, for tests."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conftest import processes
from trtkit.perf.hooks import Hooks
from trtkit.perf.load_levels import Levels, Range
from trtkit.perf.measurement import Measurement
from trtkit.perf.options import Options, ServerUrls
from trtkit.perf.session import run
from trtkit.server import RunningServer, start_server
from trtkit.server.process import Ports


def level(value: float) -> Levels:
    """One concurrency or request rate."""
    return Levels((Range(value, value),))


def urls_of(server: RunningServer) -> ServerUrls:
    return ServerUrls(server.http_url, server.grpc_url)


def loaded(server: RunningServer, model: str, **asked) -> Measurement:
    """One load; `on_window`, `concurrency` and `request_rate` are short forms, all else is of `Options`."""
    found = []
    on_window = asked.pop("on_window", None)
    asked = {"warmup_s": 0.0, "window_s": 0.1, "processes": 1, "stability": 100.0, "timeout_s": 30.0, **asked}
    asked |= {key: level(asked[key]) for key in ("concurrency", "request_rate") if key in asked}
    hooks = Hooks(
        on_window=(lambda _load, window: on_window(window)) if on_window else None,
        on_result=lambda measured, _stages, _diagnoses: found.append(measured),
    )
    run(Options(model=model, **asked), urls_of(server), hooks)
    (measured,) = found
    return measured


def kill(server: RunningServer) -> None:
    """As `kill -9` of the server and of its models' processes."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@contextmanager
def restartable(repository: Path, *options: str):
    """A running server, and a function that starts another one on its ports."""
    with ExitStack() as stack:
        first = start_server(stack, repository, options)
        ports = Ports(*(int(url.rpartition(":")[2]) for url in (first.http_url, first.grpc_url, first.metrics_url)))
        yield first, lambda: start_server(stack, repository, options, ports=ports)


def post(server: RunningServer, path: str) -> None:
    """A request of the repository extension."""
    with urllib.request.urlopen(f"http://{server.http_url}/v2/repository/{path}", data=b"{}", timeout=60):
        pass


def succeeded(server: RunningServer, model: str) -> int:
    """The requests that the server itself counted as answered."""
    with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{model}/stats", timeout=60) as answer:
        (stats,) = json.load(answer)["model_stats"]
    return stats["inference_stats"]["success"]["count"]


def regions(pid: int | None = None) -> list[str]:
    """The shared memory of a client's process, of this one when None, without that of the Python backend."""
    name = re.compile(rf"trtkit_{pid or os.getpid()}_\d+")
    return [file.name for file in Path("/dev/shm").iterdir() if name.fullmatch(file.name)]


def children() -> set[int]:
    """The processes that this one has started."""
    return {process.pid for process in processes() if process.parent == os.getpid()}
