# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What routing in the server costs and whether it holds: split, fallback, shadow, and the hop itself.

    python benchmarks/routing.py [hop] [split] [fallback] [shadow] [--seconds 8] [--rounds 3]

hop       closed loops of 1, 8 and 32 on a small model, directly and through `route`; the difference is the hop.
split     20,000 requests of 4,000 sessions at 90/10: the share of the canary, and whether a session ever moved.
fallback  requests at concurrency 8 while the first model's process is killed: how many were answered, and how late.
shadow    the p99 of the primary, directly, through `route` and through `shadow`, in turns, under the same open loop:
          once for models that keep a core busy for 4 ms, once for models that wait 4 ms for another device.

All ways take turns; on a busy machine take short ones and many: --seconds 2 --rounds 25.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as grpcclient

from trtkit import perf
from trtkit.server import RunningServer, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from conftest import processes  # the path above comes first
from part_models import write_part
from routing_models import metric, write_variant

REQUESTS, SESSIONS = 20_000, 4_000
RATE = 40  # requests a second of the open loop
WORK_MS = 4

_WORK = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, x):
        if "WAITS" == "WAITS":
            time.sleep(WORK_MS / 1e3)
        else:
            until = time.thread_time() + WORK_MS / 1e3
            while time.thread_time() < until:
                pass
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x * 2)])
"""


def y_only(config: object) -> None:
    """The models of the open loop have one output."""
    del config.output[1]  # type: ignore[attr-defined]


def hop(server: RunningServer, seconds: float, rounds: int) -> None:
    """Closed loops, directly and through `route`."""
    x = np.ones((1, 1), np.float32)
    for concurrency in (1, 8, 32):
        rates: dict[str, list[float]] = {"small": [], "route": []}
        for _ in range(rounds):
            for model, runs in rates.items():
                result = perf.measure(
                    server.grpc_url, model, protocol="grpc", inputs={"x": x}, outputs=["y"], concurrency=concurrency,
                    warmup_s=0.5, window_s=seconds / 6, windows=3, max_windows=3,
                )  # fmt: skip
                runs.append(result.requests_per_s)
        direct, routed = (statistics.median(runs) for runs in rates.values())
        cost = (concurrency / routed - concurrency / direct) * 1e6
        print(
            f"hop, closed loop of {concurrency:2}: {direct:7,.0f} infer/s directly, {routed:7,.0f} through route; "
            f"{cost:,.0f} µs more per request"
        )


async def _send(url: str, model: str, requests: list[dict[str, int]], concurrency: int) -> list[tuple[str, float]]:
    """The variant and the latency in seconds of each request; the variant is the error when it has one."""
    tensor = grpcclient.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    answers: list[tuple[str, float]] = [("", 0.0)] * len(requests)
    todo = iter(enumerate(requests))
    async with grpcclient.InferenceServerClient(url) as client:

        async def work() -> None:
            for index, options in todo:
                started = time.perf_counter()
                try:
                    result = await client.infer(model, [tensor], **options)
                    variant = result.as_numpy("variant")[0, 0].decode()
                except grpcclient.InferenceServerException as error:
                    variant = f"error: {error}"
                answers[index] = variant, time.perf_counter() - started

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return answers


def split(server: RunningServer) -> None:
    """Weights and sessions."""
    sessions = [1 + step % SESSIONS for step in range(REQUESTS)]
    answers = asyncio.run(_send(server.grpc_url, "split", [{"sequence_id": each} for each in sessions], 32))
    names = [name for name, _ in answers]
    moved = {session for session, name in zip(sessions, names, strict=True) if name != names[session - 1]}
    plain = [name for name, _ in asyncio.run(_send(server.grpc_url, "split", [{}] * REQUESTS, 32))]
    failed = sum(name.startswith("error") for name in names + plain)
    print(
        f"split 90/10, {REQUESTS:,} requests of {SESSIONS:,} sessions: {names.count('canary') / REQUESTS:.2%} canary, "
        f"{len(moved)} sessions moved; without sessions: {plain.count('canary') / REQUESTS:.2%} canary; "
        f"{failed} errors"
    )


def fallback(server: RunningServer) -> None:
    """Kill the first model's process in the middle."""
    (stub,) = [
        process.pid
        for process in processes()
        if process.parent == server.process.pid and "/mortal/" in Path(f"/proc/{process.pid}/cmdline").read_text()
    ]

    async def run() -> list[tuple[str, float]]:
        asyncio.get_running_loop().call_later(1.0, os.kill, stub, signal.SIGKILL)
        return await _send(server.grpc_url, "fallback", [{}] * 5_000, 8)

    answers = asyncio.run(run())
    counts = Counter(name for name, _ in answers)
    latencies = sorted(latency for _, latency in answers)
    answered = sum(not name.startswith("error") for name, _ in answers)
    print(
        f"fallback, first model killed (deadline 50 ms): {answered:,} of {len(answers):,} answered, {dict(counts)}; "
        f"p50 {latencies[len(latencies) // 2] * 1e3:.1f} ms, p99.9 {latencies[-len(latencies) // 1000] * 1e3:.0f} ms, "
        f"slowest {latencies[-1] * 1e3:.0f} ms"
    )


async def _open_loop(url: str, model: str, seconds: float, seed: int) -> list[float]:
    """Latencies in milliseconds of requests that come at random times, whatever the server does."""
    arrivals = random.Random(seed)
    tensor = grpcclient.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    wanted = [grpcclient.InferRequestedOutput("y")]
    async with grpcclient.InferenceServerClient(url) as client:

        async def one() -> float:
            started = time.perf_counter()
            await client.infer(model, [tensor], outputs=wanted)
            return (time.perf_counter() - started) * 1e3

        tasks, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(arrivals.expovariate(RATE))
        return await asyncio.gather(*tasks)


def shadow(server: RunningServer, kind: str, seconds: float, rounds: int) -> None:
    """The p99 of the primary on its three ways, in turns."""
    ways = {"directly": f"{kind}_stable", "route": f"{kind}_route", "shadow": f"{kind}_shadow"}
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    for model in ways.values():
        asyncio.run(_open_loop(server.grpc_url, model, 1, 0))
    for turn in range(rounds):
        for way, model in ways.items():
            latencies[way] += asyncio.run(_open_loop(server.grpc_url, model, seconds, turn))
    p99 = {}
    for way, values in latencies.items():
        p50, p99[way] = np.percentile(values, [50, 99])
        print(f"shadow, {kind} {WORK_MS} ms, {RATE}/s, {way:8}: p50 {p50:6.2f} ms, p99 {p99[way]:6.2f} ms")
    counters = {
        what: metric(server, f"trtkit_shadow_{what}_total", model=ways["shadow"])
        for what in ("compared", "mismatches", "dropped")
    }
    print(
        f"shadow, {kind}: p99 through shadow is {p99['shadow'] / p99['route'] - 1:+.1%} of that through route, "
        f"{p99['shadow'] / p99['directly'] - 1:+.1%} of the direct one; "
        + ", ".join(f"{value:.0f} {what}" for what, value in counters.items())
    )


def write_models(repository: Path) -> None:
    """All models of all measurements."""
    for name in ("small", "stable", "canary", "mortal", "backup"):
        write_variant(repository, name, 2, edit=lambda config: config.dynamic_batching.SetInParent())
    write_part(repository, "route", "route", {"rules": "", "default": "small"})
    write_part(repository, "split", "split")
    write_part(repository, "fallback", "fallback", {"models": "mortal, backup", "deadline_microseconds": "50000"})
    for kind in ("busy", "waiting"):
        code = _WORK.replace("WORK_MS", str(WORK_MS)).replace('"WAITS" ==', f"{kind == 'waiting'} and 'WAITS' ==")
        for name in ("stable", "candidate"):
            write_variant(repository, f"{kind}_{name}", 2, model=code, edit=y_only)
        write_part(repository, f"{kind}_route", "route", {"rules": "", "default": f"{kind}_stable"})
        pair = {"primary": f"{kind}_stable", "candidate": f"{kind}_candidate"}
        write_part(repository, f"{kind}_shadow", "shadow", pair)


def main() -> None:
    """Measure what was asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="hop, split, fallback, shadow; default: all")
    parser.add_argument("--seconds", type=float, default=8, help="measured time of one turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    given = parser.parse_args()
    measurements: dict[str, Callable[[RunningServer], None]] = {
        "hop": lambda server: hop(server, given.seconds, given.rounds),
        "split": split,
        "shadow": lambda server: [shadow(server, kind, given.seconds, given.rounds) for kind in ("waiting", "busy")],
        "fallback": fallback,
    }
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
        write_models(Path(folder))
        with serve(Path(folder)) as server:
            for name, measure in measurements.items():
                if not given.what or name in given.what:
                    measure(server)
            server.kill()  # a clean end would wait for the killed process


if __name__ == "__main__":
    main()
