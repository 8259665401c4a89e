# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run was made with: machine, versions, server, model, command line."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trtkit import __version__

_PACKAGES = ("numpy", "protobuf", "tritonclient", "onnxruntime", "onnxruntime-gpu", "tensorrt", "nvidia-pytriton")
_HEADER_OPTIONS = ("--header", "-H")
_GPU_FIELDS = ("uuid", "name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm", "power.limit")
_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_NVIDIA_SMI_TIMEOUT_S = 5.0
_READ_BYTES = 1 << 20


def run_context(
    command: Sequence[str],
    *,
    seed: int,
    data: str = "",
    server: Mapping[str, Any] | None = None,
    server_pid: int | None = None,
    config: Mapping[str, Any] | None = None,
    repository: Path | None = None,
    model: str = "",
) -> dict[str, Any]:
    """Everything that a bundle says beside the measurements; what cannot be found out is left out or None.

    Args:
        command: the command line, without secrets: values of headers and passwords in URLs are taken out here.
        seed: of everything random.
        data: what the requests held, for people.
        server: the server's metadata (name, version, extensions).
        server_pid: of a server on this machine, for its command line.
        config: the model's configuration, as the server gives it.
        repository: the model repository, when it is on this machine.
        model: its name, to find its version files there.
    """
    return {
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": without_secrets(command),
        "seed": seed,
        "data": data,
        "machine": machine(),
        "versions": versions(),
        "server": {**(server or {}), "command": server_command(server_pid) if server_pid else None},
        "model": {
            "name": model,
            "config": dict(config) if config else None,
            "files": model_files(repository / model) if repository and model == Path(model).name else None,
        },
    }


def without_secrets(command: Sequence[str]) -> list[str]:
    """A command line whose headers have no values and whose URLs no user names and passwords."""
    found: list[str] = []
    is_header = False
    for word in command:
        if is_header:
            found.append(_nameless(word))
        else:
            option, equals, value = word.partition("=")
            if equals and option in _HEADER_OPTIONS:
                word = f"{option}={_nameless(value)}"
            elif word.startswith("-H") and len(word) > 2:
                word = "-H" + _nameless(word[2:])
            found.append(re.sub(r"//[^/@\s]*@", "//…@", word))
        is_header = word in _HEADER_OPTIONS and not is_header
    return found


def _nameless(header: str) -> str:
    """A header as ``Name: …``; one without a name is gone altogether."""
    name, colon, _ = header.partition(":")
    return f"{name}: …" if colon else "…"


def machine() -> dict[str, Any]:
    """The hardware as far as it can be read: CPU, clocks, memory, GPUs."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _first_match(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)") or platform.processor() or None,
        "cores": os.cpu_count(),
        "usable_cores": cpus,
        "governor": _text(_CPU / "scaling_governor"),
        "clock_mhz": _number(_first_match(Path("/proc/cpuinfo"), r"cpu MHz\s*:\s*(.+)")),
        "max_clock_khz": _number(_text(_CPU / "cpuinfo_max_freq")),
        "memory_bytes": _memory_bytes(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "gpus": gpus(),
    }


def _memory_bytes() -> int | None:
    kibibytes = _number(_first_match(Path("/proc/meminfo"), r"MemTotal:\s*(\d+) kB"))
    return None if kibibytes is None else int(kibibytes) * 1024


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _first_match(file: Path, pattern: str) -> str | None:
    match = re.search(pattern, _text(file) or "")
    return match[1].strip() if match else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU; empty where there is none, or it does not answer in five seconds."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    question = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(", ") for line in done.stdout.splitlines())
    return [dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows if len(row) == len(_GPU_FIELDS)]


def versions() -> dict[str, str]:
    """Of trtkit, Python, and what is installed of the packages that matter."""
    found = {"trtkit": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def server_command(pid: int) -> list[str] | None:
    """The command line of a process of this machine; None when it cannot be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return without_secrets([word.decode(errors="replace") for word in words if word]) or None


def model_files(folder: Path) -> dict[str, str] | None:
    """The sha256 of every file of a model's folder, by its path in it; None when it cannot be read."""
    try:
        return {file.relative_to(folder).as_posix(): _sha256(file) for file in _files(folder)} or None
    except OSError:
        return None


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
