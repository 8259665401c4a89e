# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Throughput of python_backends/onnxruntime against a naive Python-based backend, on one server in the same run.

    python benchmarks/onnxruntime_backend.py [--quick] [--models conv] [--instances 1] [--loops 8 32] [--client wrk]

Three models with random weights, each served by both backends with the same configuration: `max_batch_size: 32`,
`dynamic_batching {}`, one instance and two. The backends take turns under the same closed loop, and the ratio of each
pair of neighbouring turns counts: its median over the rounds. Only ratios mean something, since server and client
share the cores; `wrk` makes the load where it is installed, because it leaves more of them to the server. Beside them
stands what ONNX Runtime does in this process with batches of 32 on one thread, and on all. Ends with 1 when a ratio is
below its goal: 1.15 on the conv net and the MatMul; on the encoder, whose time is almost all ONNX Runtime's, 1.0 less
the noise of a pair of turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from onnx_models import matmul_dynamic_batch
from precision_models import Graph, encoder
from trtkit import perf
from trtkit.server import RunningServer, embedded_launch, serve

ROOT = Path(__file__).resolve().parents[1]
BATCH = 32
NOISE = 0.03
OURS, NAIVE = "onnxruntime", "naive"
# for wrk: one request, sent again and again
WRK_SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Inference-Header-Content-Length"] = "{json_length}"
"""
CONFIG = """
backend: "{backend}"
max_batch_size: {batch}
{tensors}
dynamic_batching {{ }}
instance_group {{ count: {instances} kind: KIND_CPU }}
"""


class Case(NamedTuple):
    """A model: its file, one request for it, its output without the batch, and the ratio asked for."""

    model: onnx.ModelProto
    request: dict[str, np.ndarray]
    output: tuple[str, int]
    goal: float


class Figures(NamedTuple):
    """One turn: requests per second, and the CPU time of the server with its stubs for each, in microseconds."""

    throughput: float
    server_us: float


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    client: str
    rounds: int
    seconds: float


def conv_net() -> onnx.ModelProto:
    """Image FP32 [batch, 3, 64, 64] -> logits FP32 [batch, 10]: five convolutions of stride 2 with Relu, one Gemm."""
    graph, x, before = Graph(seed=5), "image", 3
    for index, count in enumerate((16, 32, 32, 64, 64)):
        weights = [graph.weight(f"w{index}", count, before, 3, 3), graph.weight(f"b{index}", count, scale=0.02)]
        x = graph.op("Conv", [x, *weights], f"conv{index}", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
        x, before = graph.op("Relu", [x], f"relu{index}"), count
    x = graph.op("Flatten", [graph.op("GlobalAveragePool", [x], "pooled")], "features", axis=1)
    graph.op("Gemm", [x, graph.weight("head", before, 10), graph.weight("bias", 10, scale=0.02)], "logits")
    return graph.model({"image": (onnx.TensorProto.FLOAT, ["batch", 3, 64, 64])}, {"logits": ["batch", 10]})


def cases() -> dict[str, Case]:
    """The models by name; each request is of one row."""
    random = np.random.default_rng(0)
    tokens = {"input_ids": random.integers(0, 1000, (1, 32)), "attention_mask": np.ones((1, 32), np.int64)}
    return {
        "matmul": Case(matmul_dynamic_batch(), {"x": random.random((1, 64), np.float32)}, ("y", 10), 1.15),
        "conv": Case(conv_net(), {"image": random.random((1, 3, 64, 64), np.float32)}, ("logits", 10), 1.15),
        "encoder": Case(encoder(), tokens, ("embedding", 384), 1 - NOISE),
    }


def write_repository(folder: Path, chosen: Mapping[str, Case], instances: list[int]) -> None:
    """Each model for each backend and number of instances."""
    for (name, case), backend, count in itertools.product(chosen.items(), (OURS, NAIVE), instances):
        version = folder / served_name(name, backend, count) / "1"
        version.mkdir(parents=True)
        onnx.save(case.model, version / "model.onnx")
        tensors = [
            f'input {{ name: "{key}" data_type: {"TYPE_INT64" if value.dtype.kind == "i" else "TYPE_FP32"} '
            f"dims: {list(value.shape[1:])} }}"
            for key, value in case.request.items()
        ]
        tensors.append(f'output {{ name: "{case.output[0]}" data_type: TYPE_FP32 dims: {case.output[1]} }}')
        text = CONFIG.format(backend=backend, batch=BATCH, tensors="\n".join(tensors), instances=count)
        (version.parent / "config.pbtxt").write_text(text)


def served_name(model: str, backend: str, instances: int) -> str:
    """The name of a model of `write_repository`."""
    return f"{model}_{backend}_{instances}"


def cpu_seconds(server: RunningServer) -> float:
    """The CPU time so far of the server and its stubs."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[2]) == server.process.pid:  # its process group
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def load(server: RunningServer, name: str, case: Case, concurrency: int, plan: Plan) -> Figures:
    """One turn under load: four windows, the first of which warms up."""
    if plan.client == "wrk":
        return wrk(server, name, case, concurrency, plan.seconds)
    cpu: list[float] = []
    result = perf.measure(
        server.http_url, name, inputs=case.request, concurrency=concurrency,
        warmup_s=0, window_s=plan.seconds / 3, windows=4, max_windows=4,
        on_window=lambda window: cpu.append(cpu_seconds(server)),
    )  # fmt: skip
    if result.errors or not result.requests_per_s:
        raise SystemExit(f"{name}: {result.errors or 'no answer in a whole turn; give --seconds more'}")
    requests = result.requests_per_s * result.duration_s
    return Figures(result.requests_per_s, (cpu[-1] - cpu[0]) / requests * 1e6)


def wrk(server: RunningServer, name: str, case: Case, concurrency: int, seconds: float) -> Figures:
    """One turn under the load of wrk: one thread of C, the cheapest client there is."""
    tensors = [InferInput(key, list(value.shape), triton_type(value)) for key, value in case.request.items()]
    for tensor, value in zip(tensors, case.request.values(), strict=True):
        tensor.set_data_from_numpy(value)
    body, json_length = InferenceServerClient.generate_request_body(tensors)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "request.lua"
        script.write_text(WRK_SCRIPT.format(body=f"{folder}/body", json_length=json_length))
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s", f"-s{script}"]
        url = f"http://{server.http_url}/v2/models/{name}/infer"
        before = cpu_seconds(server)
        text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in .*Requests/sec:\s+([\d.]+)", text, re.DOTALL)
    if "Non-2xx" in text or "Socket errors" in text or not found:
        raise SystemExit(f"{name}: {text}")
    return Figures(float(found[2]), (cpu_seconds(server) - before) / int(found[1]) * 1e6)


def triton_type(array: np.ndarray) -> str:
    """The tensor type's name in requests."""
    return str(np_to_triton_dtype(array.dtype))


def take_turns(
    server: RunningServer, model: str, case: Case, instances: int, loop: int, plan: Plan
) -> dict[str, list[Figures]]:
    """The figures of both backends, round by round; which one begins alternates."""
    taken: dict[str, list[Figures]] = {OURS: [], NAIVE: []}
    for index in range(plan.rounds):
        for backend in (OURS, NAIVE) if index % 2 else (NAIVE, OURS):
            taken[backend].append(load(server, served_name(model, backend, instances), case, loop, plan))
    return taken


def in_process(case: Case, threads: int, seconds: float) -> float:
    """Rows per second of ONNX Runtime here, in batches of 32."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {name: np.repeat(value, BATCH, axis=0) for name, value in case.request.items()}
    runs, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        session.run(None, feed)
        runs += 1
    return runs * BATCH / elapsed


def rows(
    server: RunningServer, chosen: Mapping[str, Case], instances: list[int], loops: list[int], plan: Plan
) -> Iterator[bool]:
    """Measure and print line by line; whether each reached its goal."""
    for name, case in chosen.items():
        limits = [in_process(case, threads, plan.seconds) for threads in (1, os.cpu_count() or 1)]
        for count, loop in itertools.product(instances, loops):
            taken = take_turns(server, name, case, count, loop, plan)
            ratios = [ours.throughput / naive.throughput for ours, naive in zip(*taken.values(), strict=True)]
            ratio = statistics.median(ratios)
            low, _, high = statistics.quantiles(ratios, n=4)
            throughput, cpu = ([medians(taken[key])[part] for key in (NAIVE, OURS)] for part in (0, 1))
            print(
                f"{name:8} {count:9} {loop:5} {throughput[0]:9,.0f} {throughput[1]:9,.0f} "
                f"{ratio:6.2f} ({low:.2f} to {high:.2f}) {case.goal:5.2f} {limits[0]:11,.0f} {limits[1]:11,.0f}"
                f" {cpu[0]:11,.0f} {cpu[1]:7,.0f} {cpu[0] / cpu[1]:5.2f}{'' if ratio >= case.goal else '  below'}",
                flush=True,
            )
            yield ratio >= case.goal


def medians(turns: list[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*(statistics.median(values) for values in zip(*turns, strict=True)))


def arguments() -> argparse.Namespace:
    """What to measure, from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(cases()), default=list(cases()))
    parser.add_argument("--instances", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--loops", nargs="+", type=int, default=[8, 32], help="requests kept in flight")
    client = "wrk" if shutil.which("wrk") else "trtkit"  # it leaves more of the cores to the server
    parser.add_argument("--client", choices=["trtkit", "wrk"], default=client, help="what makes the load")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each backend, two or more")
    parser.add_argument("--seconds", type=float, default=0.9, help="measured time of a turn")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second: for development")
    parser.add_argument("--ours", type=Path, default=ROOT / "python_backends" / OURS, help="folder of our backend")
    return parser.parse_args()


def main() -> int:
    """Serve, measure, print; 1 when a goal is missed."""
    given = arguments()
    plan = Plan(given.client, 3, 0.5) if given.quick else Plan(given.client, given.rounds, given.seconds)
    chosen = {name: case for name, case in cases().items() if name in given.models}
    launch = embedded_launch()
    folders = {OURS: given.ours, NAIVE: Path(__file__).parent / "naive_backend"}
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
        write_repository(Path(folder), chosen, given.instances)
        with serve(Path(folder), launch=replace(launch, backends={**launch.backends, **folders})) as server:
            print(
                "                              infer/s              ours/naive             "
                "in-process, infer/s     server's CPU, µs/request\n"
                "model    instances  loop     naive      ours  ratio    (quartiles)   goal    1 thread         all"
                "       naive    ours ratio"
            )
            reached = list(rows(server, chosen, given.instances, given.loops, plan))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
