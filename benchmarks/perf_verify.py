# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether `trtkit perf --verify` finds two rows that a server swaps in one batch of a thousand, and nothing else.

    python benchmarks/perf_verify.py [--requests 200000] [--protocols http grpc] [--memory none system]

Two Python models with dynamic batching. `swapping` swaps two rows of every thousandth batch that holds more than one
request, and writes down that it did; `healthy` is the same without that. Requests of 1, 2, 3 and 5 rows are in flight
at the same time: a process of this program for each size, with its share of the concurrency. Every swap has to be
found, as the two answers it spoils, and the healthy model must have no wrong answer among all its requests. Ends with
1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trtkit.perf.hooks import Hooks
from trtkit.perf.load_levels import Levels, Range
from trtkit.perf.measurement import Measurement
from trtkit.perf.options import Options, ServerUrls
from trtkit.perf.session import run
from trtkit.server import RunningServer, serve

SIZES = (1, 2, 3, 5)
EVERY = 1000
_SAMPLES = 60

MODEL = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.every = int(parameters["swap_every"]["string_value"])
        self.log = parameters["log"]["string_value"]
        self.batches = 0

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        y = np.concatenate(rows) * 2
        if len(requests) > 1:
            self.batches += 1
            if self.every and self.batches % self.every == 0:
                self.swap(y, len(rows[0]))
        parts = np.split(y, np.cumsum([len(part) for part in rows])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", part)]) for part in parts]

    def swap(self, y, second):
        if not np.array_equal(y[0], y[second]):
            y[[0, second]] = y[[second, 0]]
            with open(self.log, "a") as file:
                file.write("swapped\\n")
"""
CONFIG = """
backend: "python"
max_batch_size: 64
input {{ name: "x" data_type: TYPE_FP32 dims: 8 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 8 }}
instance_group {{ count: 1 kind: KIND_CPU }}
dynamic_batching {{ }}
parameters {{ key: "swap_every" value: {{ string_value: "{every}" }} }}
parameters {{ key: "log" value: {{ string_value: "{log}" }} }}
"""


class Share(NamedTuple):
    """The requests of one size."""

    urls: ServerUrls
    model: str
    data: Path
    protocol: str
    memory: str
    batch_size: int
    concurrency: int
    requests: int


class Checked(NamedTuple):
    """What was found among them."""

    requests: int
    wrong: int
    unchecked: int
    failed: int
    sentence: str


def checked(share: Share) -> Checked:
    """A load of one size with --verify; runs in a process of its own."""
    found: list[Measurement] = []
    options = Options(
        model=share.model, protocol=share.protocol, shared_memory=share.memory, input=share.data,
        batch_size=share.batch_size, concurrency=Levels((Range(share.concurrency, share.concurrency),)),
        requests=share.requests, warmup_s=0.0, processes=1, verify=True,
    )  # fmt: skip
    run(options, share.urls, Hooks(on_result=lambda measured, _stages, _found: found.append(measured)))
    verification = found[0].verification
    assert verification is not None
    why = verification.first[0].sentence if verification.first else ""
    return Checked(verification.checked, verification.mismatches, verification.unchecked, found[0].error_count, why)


def together(
    server: RunningServer, model: str, data: Path, protocol: str, memory: str, given: argparse.Namespace
) -> Checked:
    """All sizes at the same time."""
    urls = ServerUrls(server.http_url, server.grpc_url)
    each = (given.concurrency // len(SIZES), -(-given.requests // len(SIZES)))
    shares = [Share(urls, model, data, protocol, memory, size, *each) for size in SIZES]
    with ProcessPoolExecutor(len(SIZES), get_context("spawn")) as pool:
        parts = list(pool.map(checked, shares))
    sentence = next((part.sentence for part in parts if part.sentence), "")
    return Checked(
        sum(part.requests for part in parts),
        sum(part.wrong for part in parts),
        sum(part.unchecked for part in parts),
        sum(part.failed for part in parts),
        sentence,
    )


def judge(server: RunningServer, folder: Path, protocol: str, memory: str, given: argparse.Namespace) -> bool:
    """Both models over one way; whether every fault was found and nothing else."""
    log, data = folder / "swaps", folder / "data.npz"
    held = True
    for model in ("swapping", "healthy"):
        log.write_text("")
        start = time.perf_counter()
        found = together(server, model, data, protocol, memory, given)
        swaps = len(log.read_text().splitlines())
        right = (
            found.wrong == 2 * swaps
            and (swaps > 0) == (model == "swapping")
            and found.requests >= given.requests
            and not found.failed
            and not found.unchecked
        )
        rate = found.requests / (time.perf_counter() - start)
        print(
            f"{model:9} {protocol:5} {memory:7} {found.requests:9,} {found.wrong:6} {swaps:6} {rate:9,.0f}"
            f"{'' if right else '  missed'}  {found.sentence[:100]}",
            flush=True,
        )
        held &= right
    return held


def write_repository(folder: Path, log: Path) -> None:
    """Both models."""
    for name, every in (("swapping", EVERY), ("healthy", 0)):
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (version.parent / "config.pbtxt").write_text(CONFIG.format(every=every, log=log))


@contextmanager
def served() -> Iterator[tuple[RunningServer, Path]]:
    """The server, and the folder of the data and of the log."""
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as name:
        folder = Path(name)
        write_repository(folder / "repository", folder / "swaps")
        samples = np.random.default_rng(0).standard_normal((_SAMPLES, 8)).astype(np.float32)
        np.savez(folder / "data.npz", x=samples)
        with serve(folder / "repository") as server:
            yield server, folder


def main() -> int:
    """Serve, check, print; 1 when a fault was missed or invented."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="of each model")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--protocols", nargs="+", choices=["http", "grpc"], default=["http"])
    parser.add_argument("--memory", nargs="+", choices=["none", "system"], default=["none"])
    given = parser.parse_args()
    with served() as (server, folder):
        print("model     way   memory   requests  wrong  swaps requests/s")
        held = [
            judge(server, folder, protocol, memory, given) for protocol in given.protocols for memory in given.memory
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
