# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Start the real server on the repository, and measure how long it loads and how much memory it takes."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from trtkit.deploy.digests import digest_of
from trtkit.deploy.facts import read_models
from trtkit.deploy.measured import SCHEMA
from trtkit.errors import ProjectError
from trtkit.lint.flags import flags_for
from trtkit.lint.run import open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree
from trtkit.perf.server.processes import family
from trtkit.server import RunningServer, embedded_launch, start_server, tritonserver_launch
from trtkit.server.launch import Launch

_PROC, _SHM = Path("/proc"), Path("/dev/shm")
_EVERY_S = 0.05
_SETTLE_S = 1.0
# I1122 01:02:03.456789 12 model_lifecycle.cc:472] "loading: digits:1"; quotes came with 23.12
_LINE = re.compile(
    r"^[IVWE]\d{4} (?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d\.\d+) .*?\"?(?P<what>loading: |successfully loaded ')"
    r"(?P<model>[^:'\"\s]+)"
)


@dataclass(frozen=True)
class Use:
    """What the server and its Python processes use, MiB.

    Attributes:
        host_mib: resident memory; a page that several of them share counts once (PSS), without /dev/shm.
        shm_mib: of /dev/shm, by the blocks of its own files there.
    """

    host_mib: float
    shm_mib: float


@dataclass(frozen=True)
class Start:
    """One start of the server.

    Attributes:
        load_s: from the process's start until it said it is ready.
        host_mib, shm_mib: the largest seen, see `Use`.
        models: load time of each model, s; those that the log tells.
        version: Triton's own, e.g. ``2.51.0``; '' when it did not say.
    """

    load_s: float
    host_mib: float
    shm_mib: float
    models: dict[str, float]
    version: str


@dataclass
class _Peak:
    host_mib: float = 0.0
    shm_mib: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self, use: Use) -> None:
        self.host_mib, self.shm_mib = max(self.host_mib, use.host_mib), max(self.shm_mib, use.shm_mib)


def measure(
    repository: Path,
    *,
    models: Sequence[str] = (),
    runs: int = 2,
    tritonserver: Path | None = None,
    ready_timeout_s: float = 600.0,
    said: Callable[[Start], None] = lambda _: None,
    state: Path | None = None,
) -> dict[str, Any]:
    """Start the server several times, and keep the largest of each figure.

    Args:
        repository: the model repository.
        models: load only these; () for all.
        runs: how often it is started.
        tritonserver: a binary; default: the embedded server.
        ready_timeout_s: how long one start may take.
        said: called after each start.
        state: the project's state folder; see `digest_of`.

    Returns:
        A JSON document: what `measurements.load` names, see docs/deploy.md.

    Raises:
        ProjectError: there is no such model, or fewer than one run.
        RepositoryError: the repository cannot be read.
        ServerError: the server did not start, or a model did not load.
    """
    if runs < 1:
        raise ProjectError(f"--runs {runs}: it has to be started at least once")
    launch = tritonserver_launch(tritonserver) if tritonserver else embedded_launch()
    served = read_models(repository, models, 0)
    options = _options(repository, models)
    starts = []
    for _ in range(runs):
        starts.append(_start(repository, options, launch, ready_timeout_s))
        said(starts[-1])
    names = {name for start in starts for name in start.models}
    return {
        "schema": SCHEMA,
        "load_s": round(max(start.load_s for start in starts), 3),
        "host_mib": round(max(start.host_mib for start in starts), 1),
        "shm_mib": round(max(start.shm_mib for start in starts), 1),
        "models": {name: round(max(start.models.get(name, 0.0) for start in starts), 3) for name in sorted(names)},
        "digest": digest_of(repository, served, state),
        "starts": [vars(start) for start in starts],
        "context": _context(launch, options, starts[-1].version, embedded=tritonserver is None),
    }


def _options(repository: Path, models: Sequence[str]) -> list[str]:
    """Only the wanted models, the flags that they need, and a log that says when each was loaded."""
    opened = open_repository(LocalTree(repository), ServerFacts())
    control = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models)] if models else []
    return [*control, *flags_for(opened, (), models), "--log-verbose=0"]


def _start(repository: Path, options: Sequence[str], launch: Launch, timeout_s: float) -> Start:
    with ExitStack() as stack:
        with _watched() as peak:
            begin = time.perf_counter()
            server = start_server(stack, repository, options, launch=launch, ready_timeout_s=timeout_s)
            seconds = time.perf_counter() - begin
            time.sleep(_SETTLE_S)  # what loading set going, such as a thread's arena
        peak.take(use_of(server))
        log, version = server.log.read_text(errors="replace"), _version(server)
    return Start(round(seconds, 3), round(peak.host_mib, 1), round(peak.shm_mib, 1), load_times(log), version)


def _version(server: RunningServer) -> str:
    with suppress(OSError, ValueError, AttributeError), urlopen(f"http://{server.http_url}/v2", timeout=5) as answer:
        return str(json.load(answer).get("version", ""))
    return ""


@contextmanager
def _watched() -> Iterator[_Peak]:
    """Look at the processes that this one starts, until the end of the block."""
    peak = _Peak()
    before = set(family(os.getpid()))

    def look() -> None:
        while not peak.ended.wait(_EVERY_S):
            mine = [pid for pid in family(os.getpid()) if pid not in before]
            peak.take(Use(_host_mib(mine), _shm_mib(mine)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak.ended.set()
        thread.join()


def use_of(server: RunningServer) -> Use:
    """What a running server and its Python processes use now."""
    mine = family(server.process.pid)
    return Use(_host_mib(mine), _shm_mib(mine))


def _host_mib(pids: Sequence[int]) -> float:
    """PSS without shared memory of several processes; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            rows = dict(line.split(":", 1) for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:])
            total += int(rows["Pss"].split()[0]) - int(rows.get("Pss_Shmem", "0 kB").split()[0])
    return total / 1024


def _shm_mib(pids: Sequence[int]) -> float:
    """Blocks of the files in /dev/shm that the processes have mapped."""
    files: set[str] = set()
    for pid in pids:
        with suppress(OSError):
            maps = (_PROC / str(pid) / "maps").read_text()
            files.update(re.findall(rf"{_SHM}/\S+", maps))
    total = 0
    for file in files:
        with suppress(OSError):
            total += Path(file).stat().st_blocks * 512
    return total / 2**20


def load_times(log: str) -> dict[str, float]:
    """Seconds between "loading" and "successfully loaded" of each model, from a server's log.

    Of several versions the last one counts, from the first line about the model.
    """
    begun: dict[str, float] = {}
    found: dict[str, float] = {}
    for line in log.splitlines():
        if match := _LINE.match(line):
            at = int(match["h"]) * 3600 + int(match["m"]) * 60 + float(match["s"])
            if match["what"].startswith("loading"):
                begun.setdefault(match["model"], at)
            elif match["model"] in begun:
                found[match["model"]] = round((at - begun[match["model"]]) % 86400, 3)
    return found


def _context(launch: Launch, options: Sequence[str], version: str, *, embedded: bool) -> dict[str, Any]:
    """What the figures hold for."""
    from trtkit.compat import installed

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "server": f"embedded (nvidia-pytriton {installed('nvidia-pytriton')})" if embedded else launch.command[0],
        "triton": version,
        "options": list(options),
        "cores": len(os.sched_getaffinity(0)),
        "memory": "PSS of the server and its Python processes without shared memory, MiB",
        "page_cache": "as it was: the files may have been in memory already; a cold node takes longer",
    }
