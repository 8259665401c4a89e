# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How much load trtkit's client makes, against perf_analyzer, wrk and h2load on the same server in the same run.

    python benchmarks/perf_client.py [--cases matmul conv conv-shm] [--protocols http grpc] [--loops 8 32] [--rounds 5]

One 64-wide MatMul, and a convolutional net with images of 1x3x224x224 with and without shared memory, both served by
python_backends/onnxruntime. The clients take turns, so that a busy machine disturbs all; the median over the rounds
of the ratios of neighbouring turns counts. Only ratios mean something: client and server share the cores. wrk (HTTP)
and h2load (gRPC) are used where they are installed, perf_analyzer is fetched from the package index. Ends with 1 when
trtkit makes less than 1.25 times perf_analyzer's load on the MatMul, or for more client CPU per request, or less than
0.8 of wrk's.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from tritonclient.grpc import service_pb2
from tritonclient.http import InferenceServerClient, InferInput

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from peers.load_generators import Turn, perf_analyzer, run_h2load, run_perf_analyzer, run_wrk

from onnx_models import matmul_dynamic_batch
from precision_models import Graph
from trtkit import perf
from trtkit.perf.hooks import Hooks
from trtkit.perf.options import Levels, Options, Range, ServerUrls
from trtkit.perf.session import run
from trtkit.server import RunningServer, serve

CONFIG = """
backend: "onnxruntime"
max_batch_size: 32
input {{ name: "{input}" data_type: TYPE_FP32 dims: {dims} }}
output {{ name: "{output}" data_type: TYPE_FP32 dims: {size} }}
dynamic_batching {{ }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""
MATMUL = ("x", [64], "y", 10)
CONV = ("image", [3, 224, 224], "logits", 10)
TENSORS = {"matmul": MATMUL, "conv": CONV}
CASES = ["matmul", "conv", "conv-shm"]
Client = Callable[[], "Turn | None"]


def conv_net() -> onnx.ModelProto:
    """Image FP32 [batch, 3, 224, 224] -> logits FP32 [batch, 10]: four small convolutions of stride 4 and 2."""
    graph, x, before = Graph(seed=5), "image", 3
    for index, (count, stride) in enumerate(((8, 4), (8, 4), (16, 2), (16, 2))):
        weights = [graph.weight(f"w{index}", count, before, 3, 3), graph.weight(f"b{index}", count, scale=0.02)]
        x = graph.op("Conv", [x, *weights], f"conv{index}", kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)
        x, before = graph.op("Relu", [x], f"relu{index}"), count
    x = graph.op("Flatten", [graph.op("GlobalAveragePool", [x], "pooled")], "features", axis=1)
    graph.op("Gemm", [x, graph.weight("head", before, 10), graph.weight("bias", 10, scale=0.02)], "logits")
    return graph.model({"image": (onnx.TensorProto.FLOAT, ["batch", 3, 224, 224])}, {"logits": ["batch", 10]})


def write_repository(folder: Path) -> None:
    """Both models."""
    for name, model in (("matmul", matmul_dynamic_batch()), ("conv", conv_net())):
        version = folder / name / "1"
        version.mkdir(parents=True)
        onnx.save(model, version / "model.onnx")
        tensor, dims, output, size = TENSORS[name]
        text = CONFIG.format(input=tensor, dims=dims, output=output, size=size)
        (version.parent / "config.pbtxt").write_text(text)


def ours(server: RunningServer, protocol: str, model: str, loop: int, seconds: float, memory: str) -> Turn:
    """Trtkit for so long, after a fifth of that."""
    found: list[perf.Measurement] = []
    options = Options(
        model=model, protocol=protocol, concurrency=Levels((Range(loop, loop),)), shared_memory=memory,
        warmup_s=seconds / 5, window_s=seconds / 3, duration_s=seconds, processes=1,
    )  # fmt: skip
    urls = ServerUrls(server.http_url, server.grpc_url)
    run(options, urls, Hooks(on_result=lambda measured, _stages, _found: found.append(measured)))
    if found[0].errors:
        raise SystemExit(f"trtkit: {found[0].errors}")
    return Turn(found[0].requests_per_s, found[0].client.cpu_us_per_request or 0.0)


def peers_of(
    server: RunningServer, protocol: str, model: str, loop: int, seconds: float, memory: str
) -> dict[str, Client]:
    """The other clients that are there, by name."""
    url = server.http_url if protocol == "http" else server.grpc_url
    clients: dict[str, Client] = {}
    program = perf_analyzer()
    if program:
        count = round(ours(server, protocol, model, loop, seconds / 2, memory).requests_per_s * seconds)
        extra = ("--shared-memory", memory) if memory != "none" else ()
        clients["perf_analyzer"] = partial(run_perf_analyzer, program, url, protocol, model, loop, count, *extra)
    if memory != "none":
        return clients
    name, dims, _, _ = TENSORS[model]
    array = np.random.default_rng(0).random((1, *dims), np.float32)
    if protocol == "http" and shutil.which("wrk"):
        tensor = InferInput(name, list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        body, json_length = InferenceServerClient.generate_request_body([tensor])
        path = f"/v2/models/{model}/infer"
        clients["wrk"] = partial(run_wrk, url, path, body, json_length, loop, max(1, round(seconds)))
    if protocol == "grpc" and shutil.which("h2load"):
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
        request.inputs.add(name=name, datatype="FP32", shape=array.shape)
        count = round(ours(server, protocol, model, loop, seconds / 2, memory).requests_per_s * seconds)
        clients["h2load"] = partial(run_h2load, url, request.SerializeToString(), loop, count)
    return clients


def compare(server: RunningServer, case: str, protocol: str, loop: int, given: argparse.Namespace) -> bool:
    """Let the clients take turns and print each beside ours; whether the goals are met."""
    model, _, memory = case.partition("-")
    parts = (server, protocol, model, loop, given.seconds, "system" if memory else "none")
    peers = peers_of(*parts)
    turns: dict[str, list[tuple[Turn, Turn]]] = {name: [] for name in peers}
    mine: list[Turn] = []
    for index in range(given.rounds):
        for name, client in peers.items():
            pair = [partial(ours, *parts), client]
            first, second = (one() for one in (pair if index % 2 else pair[::-1]))
            own, other = (first, second) if index % 2 else (second, first)
            mine.append(own)  # type: ignore[arg-type]
            if other is not None:
                turns[name].append((own, other))  # type: ignore[arg-type]
    shown = f"{case:8}  {protocol:4}  {loop:4}"
    cpu = statistics.median(turn.client_us for turn in mine)
    print(f"{shown}  {'trtkit':14} {statistics.median(t.requests_per_s for t in mine):9,.0f} {cpu:9.1f}", flush=True)
    lines = [_line(shown, name, pairs, case == "matmul") for name, pairs in turns.items()]
    return all(lines)


def _line(shown: str, name: str, pairs: list[tuple[Turn, Turn]], counts: bool) -> bool:
    if not pairs:
        print(f"{shown}  {name:14} hung in every round")
        return True
    ratios = [own.requests_per_s / other.requests_per_s for own, other in pairs]
    cpu = statistics.median(own.client_us / other.client_us for own, other in pairs)
    ratio = statistics.median(ratios)
    goal = {"perf_analyzer": 1.25, "wrk": 0.8}.get(name, 0.0)
    held = not counts or (ratio >= goal and (name != "perf_analyzer" or cpu <= 1))
    its = Turn(*(statistics.median(values) for values in zip(*(other for _, other in pairs), strict=True)))
    print(
        f"{shown}  {name:14} {its.requests_per_s:9,.0f} {its.client_us:9.1f}"
        f"   {ratio:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})   {cpu:5.2f}{'' if held else '  below'}",
        flush=True,
    )
    return held


def main() -> int:
    """Serve, measure, print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", choices=["matmul", "conv", "conv-shm"], default=["matmul", "conv", "conv-shm"]
    )
    parser.add_argument("--protocols", nargs="+", choices=["http", "grpc"], default=["http", "grpc"])
    parser.add_argument("--loops", nargs="+", type=int, default=[8, 32], help="requests kept in flight")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time of one turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each client")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
        write_repository(Path(folder))
        with serve(Path(folder)) as server:
            print("case      way   loop  client           infer/s  µs CPU/request   ours/its (range)     CPU ours/its")
            held = [
                compare(server, case, protocol, loop, given)
                for case in given.cases for protocol in given.protocols for loop in given.loops
            ]  # fmt: skip
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
