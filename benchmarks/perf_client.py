# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How much load trtkit's client makes, against tritonclient's asyncio client doing the same in the same run.

    python benchmarks/perf_client.py [--concurrency 8] [--seconds 1.5] [--rounds 3]

Starts the embedded server with one 64-wide MatMul model (Python backend). The two clients take turns, so that
a busy machine disturbs both; the medians over the rounds are compared. Both send the same single request in a
closed loop. Only the ratios mean something: client and server share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trtkit import perf
from trtkit.server import RunningServer, serve

CONFIG = """
name: "matmul"
backend: "python"
max_batch_size: 16
input { name: "x" data_type: TYPE_FP32 dims: 64 }
output { name: "y" data_type: TYPE_FP32 dims: 64 }
dynamic_batching { }
instance_group { count: 1 kind: KIND_CPU }
"""

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.eye(64, dtype=np.float32)

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x @ self.weights)]) for x in inputs]
"""

X = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)


class Result(NamedTuple):
    """Requests per second, and the client's CPU time for each in microseconds."""

    requests_per_s: float
    client_us: float


def ours(url: str, protocol: str, concurrency: int, seconds: float) -> Result:
    """trtkit.perf for three windows of a third of the time."""
    result = perf.measure(
        url, "matmul", protocol=protocol, inputs={"x": X}, concurrency=concurrency,
        warmup_s=0.3, window_s=seconds / 3, max_windows=3,
    )  # fmt: skip
    if result.errors:
        raise SystemExit(f"trtkit over {protocol}: {result.errors}")
    return Result(result.requests_per_s, result.client_cpu_share / result.requests_per_s * 1e6)


def theirs(url: str, protocol: str, concurrency: int, seconds: float) -> Result:
    """The asyncio client of tritonclient: one coroutine for each request in flight, inputs prepared once."""
    return asyncio.run(_tritonclient(url, protocol, concurrency, seconds))


async def _tritonclient(url: str, protocol: str, concurrency: int, seconds: float) -> Result:
    if protocol == "http":
        import tritonclient.http.aio as api

        client: Any = api.InferenceServerClient(url, conn_limit=concurrency)
    else:
        import tritonclient.grpc.aio as api

        client = api.InferenceServerClient(url)
    tensor = api.InferInput("x", list(X.shape), "FP32")
    tensor.set_data_from_numpy(X)
    done, stop = 0, False

    async def loop() -> None:
        nonlocal done
        while not stop:
            await client.infer("matmul", [tensor])
            done += 1

    loops = [asyncio.create_task(loop()) for _ in range(concurrency)]
    await asyncio.sleep(0.3)
    done, started, cpu = 0, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    count, elapsed, cpu = done, time.perf_counter() - started, time.process_time() - cpu
    stop = True
    await asyncio.gather(*loops)
    await client.close()
    return Result(count / elapsed, cpu / count * 1e6)


def median(results: list[Result]) -> Result:
    """The median of each figure."""
    return Result(*(statistics.median(values) for values in zip(*results, strict=True)))


def compare(server: RunningServer, protocol: str, concurrency: int, seconds: float, rounds: int) -> None:
    """Let the clients take turns and print both and their ratio."""
    url = server.http_url if protocol == "http" else server.grpc_url
    clients: dict[str, Callable[[str, str, int, float], Result]] = {"trtkit": ours, "tritonclient aio": theirs}
    runs: dict[str, list[Result]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            runs[name].append(client(url, protocol, concurrency, seconds))
    medians = {name: median(results) for name, results in runs.items()}
    for name, result in medians.items():
        spread = ", ".join(f"{run.requests_per_s:,.0f}" for run in runs[name])
        print(
            f"{protocol:4}  {name:16}  {result.requests_per_s:8,.0f} infer/s"
            f"  {result.client_us:6.1f} µs client CPU/request  ({spread})"
        )
    mine, other = medians["trtkit"], medians["tritonclient aio"]
    print(
        f"{protocol:4}  trtkit makes {mine.requests_per_s / other.requests_per_s:.2f} × the load "
        f"for {mine.client_us / other.client_us:.2f} × the client CPU per request"
    )


def main() -> None:
    """Start the server and compare over both protocols."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.5, help="measured time of one turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each client")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
        model = Path(folder) / "matmul"
        (model / "1").mkdir(parents=True)
        (model / "config.pbtxt").write_text(CONFIG)
        (model / "1" / "model.py").write_text(MODEL)
        with serve(Path(folder)) as server:
            for protocol in ("http", "grpc"):
                compare(server, protocol, given.concurrency, given.seconds, given.rounds)


if __name__ == "__main__":
    main()
