# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Run one stage in a worker process and bring its error home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trtkit import errors
from trtkit.artifacts import file_errors
from trtkit.errors import BuildError
from trtkit.project import Project

_LOG_LINES = 12


class Workers:
    """The worker processes of one build, which end when it is interrupted.

    Ctrl-C reaches the main thread only: the workers are in sessions of their own, because what they would print about
    it is no reader's concern, and what they started has to end with them.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        """End them all; those that are started later end at once."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                _kill(process)

    @contextmanager
    def holding(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """A worker, for as long as it is waited for."""
        with self._lock:
            self._running.add(process)
            if self.stopped:
                _kill(process)
        try:
            yield
        except BaseException:
            _kill(process)
            process.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run_worker(
    project: Project, name: str, stage: str, inputs: dict[str, str], options: dict[str, Any], workers: Workers
) -> float:
    """Run one stage of a model in a process of its own, which remembers the run.

    Args:
        project: the project.
        name: the model.
        stage: ``export``, ``calibration``, ``precision``, ``race``, ``environment`` or ``python``.
        inputs: the fingerprints to remember the run with.
        options: what the stage starts from.
        workers: of the build, which this one joins.

    Returns:
        The seconds it took.

    Raises:
        TrtkitError: what the worker raised.
        BuildError: the worker died; with the end of its log.
    """
    log = project.state / "logs" / f"{name}.{stage}.log"
    with file_errors(f"writing {log}"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    request = {"project": str(project.file), "model": name, "stage": stage, "inputs": inputs, "options": options}
    reader, writer = os.pipe()
    with output, os.fdopen(reader, "rb") as pipe:
        process = subprocess.Popen(
            [sys.executable, "-m", "trtkit.build_worker", json.dumps(request), str(writer), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[writer], cwd=project.root,
            start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        with workers.holding(process):
            answer = pipe.read()
            code = process.wait()
    try:
        result = json.loads(answer)
    except ValueError as exc:  # nothing, or half of it
        raise BuildError(_death(name, stage, code, log)) from exc
    if "error" in result:
        raise getattr(errors, result["error"])(result["message"])
    return float(result["seconds"])


def _death(name: str, stage: str, code: int, log: Path) -> str:
    names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    end = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return f"model '{name}': the {stage} {how}; the end of {log}:\n{end}"
