# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines built in a process of their own: a crash of the library takes that process down and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from trtkit import errors
from trtkit.artifacts import file_errors
from trtkit.engine.options import EngineOptions
from trtkit.engine.profiles import Profile, to_json
from trtkit.engine.progress import OnProgress
from trtkit.errors import BuildError

_LOG_LINES = 12


def build_in_process(
    module_name: str,
    onnx_file: Path,
    profiles: Sequence[Profile],
    options: EngineOptions,
    folder: Path,
    on_progress: OnProgress | None = None,
    *,
    log: Path | None = None,
    device: int | None = None,
) -> dict[str, Any]:
    """Build an engine in a process of its own: ``model.plan`` and ``engine.json`` in a folder.

    Args:
        module_name: of the TensorRT module, ``tensorrt`` or ``tensorrt_rtx``.
        onnx_file: the graph.
        profiles: as for `trtkit.engine.build_engine`.
        options: the same.
        folder: made if it is not there.
        on_progress: the same; called here. What it raises kills the process and is raised.
        log: where the library's messages go; default: nowhere, except for their end in the message of a death.
        device: the number of the GPU to build on, among those this process sees; default: the first.

    Returns:
        What engine.json holds.

    Raises:
        MissingDependencyError: the module is not installed, or cannot build here.
        BuildError: the build failed, or the process died, with the end of its log.
        RepositoryError: the file system refused.
    """
    request = {
        "task": "build",
        "module": module_name,
        "onnx": str(onnx_file.resolve()),
        "profiles": to_json(profiles),
        "options": options.to_json(),
    }
    return run_worker(request, folder, on_progress, log, device)


def run_worker(
    request: Mapping[str, Any],
    folder: Path,
    on_progress: OnProgress | None = None,
    log: Path | None = None,
    device: int | None = None,
) -> dict[str, Any]:
    """Run ``python -m trtkit.engine.worker`` and wait for its answer; see `build_in_process`."""
    with file_errors(f"making {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        output: IO[bytes] = log.open("w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    full = {**request, "folder": str(folder.resolve()), "progress": on_progress is not None}
    with output, tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(full).encode())
        stdin.seek(0)
        answer, code = _run(stdin, output, folder, on_progress, _environment(device))
        if answer is None:
            raise BuildError(_death(request, code, output, log))
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    result: dict[str, Any] = answer["result"]
    return result


def _environment(device: int | None) -> dict[str, str]:
    """This process's, with only one GPU to be seen when one is asked for."""
    if device is None:
        return dict(os.environ)
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": visible[device] if device < len(visible) else str(device)}


def _run(
    stdin: IO[bytes],
    output: IO[bytes],
    folder: Path,
    on_progress: OnProgress | None,
    environment: Mapping[str, str],
) -> tuple[dict[str, Any] | None, int]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        process = subprocess.Popen(
            [sys.executable, "-m", "trtkit.engine.worker", str(writer), str(os.getpid())],
            stdin=stdin, stdout=output, stderr=subprocess.STDOUT, pass_fds=[writer], cwd=folder,
            env=environment,
        )  # fmt: skip
        os.close(writer)
        try:
            answer = _listen(pipe, on_progress)
            return answer, process.wait()
        except BaseException:  # Ctrl-C, or what the callback raised
            process.kill()
            process.wait()
            raise


def _listen(pipe: IO[bytes], on_progress: OnProgress | None) -> dict[str, Any] | None:
    """The worker's answer, after its progress; None when it ended before it gave one."""
    answer = None
    for line in pipe:
        try:
            message = json.loads(line)
        except ValueError:  # it died while it wrote
            return None
        if "progress" not in message:
            answer = message
        elif on_progress:
            on_progress(*message["progress"])
    return answer


def _death(request: Mapping[str, Any], code: int, output: IO[bytes], log: Path | None) -> str:
    names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    how += ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
    output.seek(0)
    end = "\n".join(output.read().decode(errors="replace").splitlines()[-_LOG_LINES:]) or "(empty)"
    what = f"{Path(request['onnx']).name}: {request['module']} in its own process {how}"
    return f"{what}; the end of {log or 'its log'}:\n{end}"
