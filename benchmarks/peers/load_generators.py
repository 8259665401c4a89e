# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One turn of load from another load generator: perf_analyzer, wrk, h2load."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

# the newest tritonclient that carries a perf_analyzer for Debian 12's glibc, and the library that it needs
_WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trtkit-benchmarks"
_HANGS_S = 60


class Turn(NamedTuple):
    """Requests per second, and the client's CPU time for each in microseconds."""

    requests_per_s: float
    client_us: float


def perf_analyzer() -> Path | None:
    """The program, fetched from the package index on first use; None, with a word on why, when it cannot run."""
    program = _CACHE / "perf_analyzer"
    if not program.exists():
        try:
            _fetch(program)
        except (subprocess.CalledProcessError, StopIteration) as exc:
            sys.stderr.write(f"no perf_analyzer: {exc}\n")
            return None
    done = subprocess.run([program, "--help"], capture_output=True, text=True, env=_environment())
    if "error while loading shared libraries" in done.stderr:
        sys.stderr.write(f"no perf_analyzer: {done.stderr.strip()} (libb64 is Debian's libb64-0d)\n")
        return None
    return program


def _fetch(program: Path) -> None:
    """Take the program and its CUDA library out of their wheels."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *_WHEELS]
        subprocess.run(pip, check=True)
        for wheel in Path(folder).glob("*.whl"):
            shutil.unpack_archive(wheel, folder, "zip")
        _CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("libcudart.so.12", "perf_analyzer"):
            found = next(Path(folder).rglob(name))
            found.chmod(0o755)
            shutil.copy2(found, _CACHE / name)


def _environment() -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(_CACHE)}


def run_perf_analyzer(
    program: Path, url: str, protocol: str, model: str, concurrency: int, requests: int, *extra: str
) -> Turn | None:
    """One turn of so many requests; None when it hangs, as it does now and then over HTTP."""
    command = [program, "-m", model, "-u", url, "-i", protocol, "--concurrency-range", str(concurrency)]
    count = ["--request-count", str(requests), "--warmup-request-count", str(max(requests // 10, concurrency))]
    try:
        text, cpu_s = _run([*map(str, command), *count, *extra], _environment())
    except subprocess.TimeoutExpired:
        return None
    found = re.search(r"Throughput: ([\d.]+) infer/sec", text)
    if not found:
        raise SystemExit(f"perf_analyzer: {text}")
    return Turn(float(found[1]), cpu_s / (requests * 1.1) * 1e6)


def run_wrk(url: str, path: str, body: bytes, json_length: int, concurrency: int, seconds: int) -> Turn:
    """One turn of wrk over HTTP: one thread of C."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "request.lua"
        script.write_text(
            f'local file = io.open("{folder}/body", "rb")\nwrk.method, wrk.body = "POST", file:read("*a")\n'
            f'wrk.headers["Inference-Header-Content-Length"] = "{json_length}"\n'
        )
        text, cpu_s = _run(["wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", f"-s{script}", f"http://{url}{path}"])
    found = re.search(r"(\d+) requests in .*Requests/sec:\s+([\d.]+)", text, re.DOTALL)
    if "Non-2xx" in text or not found:
        raise SystemExit(f"wrk: {text}")
    return Turn(float(found[2]), cpu_s / int(found[1]) * 1e6)


def run_h2load(url: str, message: bytes, concurrency: int, requests: int) -> Turn:
    """One turn of h2load: gRPC framing over one connection."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\0" + len(message).to_bytes(4, "big") + message)
        file.flush()
        options = [f"-n{requests}", "-c1", f"-m{concurrency}", f"--data={file.name}"]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        target = f"http://{url}/inference.GRPCInferenceService/ModelInfer"
        text, cpu_s = _run(["h2load", *options, *headers, target])
    found = re.search(r"finished in .*, ([\d.]+) req/s", text)
    if not found or f"{requests} succeeded" not in text:
        raise SystemExit(f"h2load: {text}")
    return Turn(float(found[1]), cpu_s / requests * 1e6)


def _run(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, float]:
    """What a program prints, and the CPU time that it took in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_HANGS_S, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout + done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
