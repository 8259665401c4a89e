# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the microbenchmarks of the parts share; `benchmarks/python_parts.py` runs them.

A file ``benchmarks/parts/<part>.py`` has one function. It writes its models into an empty repository and says what
to send to them; the server that serves this repository is started afterwards, once for the file::

    from harness import Case, part_module, write_part

    def benchmark(repository: Path) -> list[Case]:
        write_part(repository, "best_five", "top_k", {"k": "5"})
        scores = np.random.default_rng(0).random((1, 1000), np.float32)
        top_k = part_module("top_k", "trtkit_top_k")
        return [Case("best_five", "1,000 scores", {"scores": scores}, lambda: top_k.best(scores, 5))]

``write_part`` is that of tests/part_models.py: parameters, files of the version directory, ``edit`` for the config.
Other models that a case needs (those that a router calls) are written by hand or with `write_model` of
tests/conftest.py, which is importable too.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tritonclient import http as httpclient

from trtkit import perf
from trtkit.compat import python_backends_folder
from trtkit.server import RunningServer, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from part_models import write_part  # the path above comes first

__all__ = ["Case", "Row", "measured", "part_module", "write_part"]


@dataclass(frozen=True)
class Case:
    """One row of the table for each concurrency.

    Attributes:
        model: where the requests go.
        request: what one request is, in words.
        inputs: one request, or a pool of them that are sent in turn: an array per input, with the batch dimension
            when the model has one. Arrays of bytes objects for BYTES.
        compute: does in this process, once, what the part computes for one request: the limit. None: the part
            computes nothing of its own (a router).
        batch_size: samples in each request.
    """

    model: str
    request: str
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    compute: Callable[[], object] | None = None
    batch_size: int = 1


@dataclass(frozen=True)
class Row:
    """A case, measured at one concurrency.

    Attributes:
        infer_per_s: samples answered per second.
        server_us: microseconds of CPU time that the server and its Python processes took for one sample.
        compute_us: microseconds of CPU time, of all threads, of the part's own work for one sample, in this process.
        stable: whether the last windows agree.
    """

    case: Case
    concurrency: int
    infer_per_s: float
    server_us: float
    compute_us: float | None
    stable: bool

    @property
    def share(self) -> float | None:
        """How much of the server's work is the part's own; the rest is transport, scheduling and Python around it."""
        return None if self.compute_us is None else self.compute_us / self.server_us


def part_module(part: str, module: str) -> ModuleType:
    """A module of a part that does not import ``triton_python_backend_utils``."""
    folder = str(python_backends_folder() / part)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(module)


def measured(
    file: Path, repository: Path, *, protocol: str, concurrencies: Sequence[int], seconds: float
) -> Iterator[Row]:
    """Run one file of benchmarks.

    Args:
        file: with a function ``benchmark``, see above.
        repository: an empty folder.
        protocol: ``http`` or ``grpc``.
        concurrencies: each case is measured at each.
        seconds: measured time of each, in three windows; more when they do not agree.
    """
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cases = module.benchmark(repository)
    computes = [_compute_us(case) for case in cases]
    with serve(repository) as server:
        for case, compute in zip(cases, computes, strict=True):
            for concurrency in concurrencies:
                yield _row(server, protocol, case, compute, concurrency, seconds)


def _compute_us(case: Case) -> float | None:
    """The least of five turns of at least 50 ms each, per sample."""
    if case.compute is None:
        return None
    case.compute()
    turns = [_seconds_per_call(case.compute) for _ in range(5)]
    return min(turns) * 1e6 / case.batch_size


def _seconds_per_call(call: Callable[[], object]) -> float:
    started, calls = time.process_time(), 0
    while (elapsed := time.process_time() - started) < 0.05 or not calls:
        call()
        calls += 1
    return elapsed / calls


def _row(
    server: RunningServer, protocol: str, case: Case, compute_us: float | None, concurrency: int, seconds: float
) -> Row:
    url = server.grpc_url if protocol == "grpc" else server.http_url
    samples, cpu = _answered(server, case.model), _cpu_seconds(server)
    result = perf.measure(
        url, case.model, protocol=protocol, inputs=case.inputs, concurrency=concurrency, batch_size=case.batch_size,
        warmup_s=seconds / 3, window_s=seconds / 3, max_windows=6,
    )  # fmt: skip
    if result.errors:
        raise SystemExit(f"{case.model}, {case.request}: {result.errors}")
    samples, cpu = _answered(server, case.model) - samples, _cpu_seconds(server) - cpu
    return Row(case, concurrency, result.throughput_infer_per_s, cpu * 1e6 / samples, compute_us, result.stable)


def _answered(server: RunningServer, model: str) -> int:
    """How many samples the model has answered so far."""
    with httpclient.InferenceServerClient(server.http_url) as client:
        return int(client.get_inference_statistics(model)["model_stats"][0]["inference_count"])


def _cpu_seconds(server: RunningServer) -> float:
    """CPU time of the server and its Python processes so far, which are one process group."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended in between
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[2]) == server.process.pid:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
