# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether `trtkit perf` reports what is true, on Python models whose times are known.

    python benchmarks/perf_truth.py [--cases latency stall rate tokens] [--quick]

The input of each request says how long the model sleeps, and the model writes down how long it really slept.

latency  Constant, bimodal and one stall of a second, in closed loops over HTTP and gRPC. The reported p50, p90 and p99
         (and the maximum where there is a stall), less the server's own time for a request, are within 2 % or 0.3 ms of
         those of the sleeps, whichever is more. That time is the median of requests that do not sleep, sent now and
         then, so that the server is as idle as it is below; it is printed.
stall    One instance, a fixed rate, a second's stall in the middle. The p99 from the intended time is within 2 % of
         what the recursion of a queue with one server gives for the schedule (Lindley 1952).
rate     500 requests/s at even and at Poisson times: the p99 of the schedule lag is below 1 ms, the delivered rate
         within 0.5 %, the gaps between sends are exponential (Kolmogorov-Smirnov, p > 0.01), and the same seed
         gives the same times.
tokens   A decoupled model that sends 30 responses, the first after 60 ms and the others every 20 ms, over gRPC streams
         and generate_stream: time to first response (less the server's own time, as above), gaps and responses per
         second and user are within 2 %.

Ends with 1 when something is not. Wants a quiet machine: what disturbs the client is in its latencies, as it should.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from trtkit import perf
from trtkit.numerics import Array
from trtkit.perf.statistics.latency import nearest_rank
from trtkit.server import RunningServer, serve

Times = npt.NDArray[np.int64]

MS = 1_000_000
RATE = 500.0
FIRST_S, GAP_S, TOKENS = 0.060, 0.020, 30
_SHARE, _NEAR_NS = 0.02, 0.3 * MS
_OWN_RATE, _OWN_REQUESTS = 40.0, 80

SLEEPER = """
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.log = os.open(parameters["log"]["string_value"], flags)

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        number, wanted_ns = pb_utils.get_input_tensor_by_name(request, "x").as_numpy().tolist()
        start_ns = time.perf_counter_ns()
        if wanted_ns:
            time.sleep(wanted_ns / 1e9)
        took_ns = time.perf_counter_ns() - start_ns
        os.write(self.log, b"%d %d\\n" % (number, took_ns))
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array([took_ns]))])
"""
SLEEPER_CONFIG = """
backend: "python"
input {{ name: "x" data_type: TYPE_INT64 dims: 2 }}
output {{ name: "y" data_type: TYPE_INT64 dims: 1 }}
instance_group {{ count: {instances} kind: KIND_CPU }}
parameters {{ key: "log" value: {{ string_value: "{log}" }} }}
"""

SPEAKER = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            due = time.perf_counter()
            first, gap, count = pb_utils.get_input_tensor_by_name(request, "x").as_numpy().tolist()
            sender = request.get_response_sender()
            for number in range(int(count)):
                due += gap if number else first
                time.sleep(max(due - time.perf_counter(), 0))
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array([number], np.int32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
SPEAKER_CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: 3 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }
model_transaction_policy { decoupled: true }
instance_group { count: 2 kind: KIND_CPU }
"""


class Table:
    """Prints a line for each figure, and remembers whether all were as they should be."""

    def __init__(self) -> None:
        self.held = True
        print(f"{'case':44} {'reported':>10} {'true':>10} {'off by':>10}")

    def near(self, case: str, reported: float, true: float, allowed: float, unit: str = "ms") -> None:
        """Two figures that must not be farther from each other than is allowed."""
        held = abs(reported - true) <= allowed
        off = f"{(reported - true) / true:+10.2%}" if true else f"{reported - true:+10.3f}"
        self._line(f"{case:44} {reported:10.3f} {true:10.3f} {off} {unit}", held)

    def bound(self, case: str, reported: float, held: bool, goal: str, unit: str = "") -> None:
        """A figure with a goal of its own."""
        self._line(f"{case:44} {reported:10.3f} {goal:>10} {'':10} {unit}", held)

    def _line(self, text: str, held: bool) -> None:
        self.held &= held
        print(text if held else f"{text}  missed", flush=True)


class Sleepers:
    """The server with the models that sleep.

    Args:
        server: it.
        folder: where the models write down how long they slept.
    """

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self._server, self._folder = server, folder

    def url(self, protocol: str) -> str:
        """Where a protocol is spoken."""
        return self._server.grpc_url if protocol.startswith("grpc") else self._server.http_url

    def measure(
        self, model: str, sleeps_ns: Sequence[int], protocol: str, **load: Any
    ) -> tuple[perf.Measurement, Times]:
        """Send each request once: the measurement, and how long each request of it really slept, by its number."""
        log = self._folder / model
        log.write_text("")
        inputs = [{"x": np.array([number, sleep])} for number, sleep in enumerate(sleeps_ns)]
        found = perf.measure(
            self.url(protocol), model, inputs=inputs, protocol=protocol, requests=len(inputs), warmup_s=0, **load
        )
        if found.errors:
            raise SystemExit(f"{model}: {found.errors}")
        lines = np.array([line.split() for line in log.read_text().splitlines()], np.int64)
        return found, lines[np.argsort(lines[:, 0]), 1]

    def own_time_ns(self, protocol: str, model: str = "many", x: Array | None = None) -> int:
        """What a request takes that does not sleep: the median, on a server that has little to do."""
        found = perf.measure(
            self.url(protocol), model, inputs={"x": np.array([0, 0]) if x is None else x}, protocol=protocol,
            request_rate=_OWN_RATE, requests=_OWN_REQUESTS, warmup_s=0,
        )  # fmt: skip
        if found.errors:
            raise SystemExit(f"{model}: {found.errors}")
        own_ns = int(np.median(found.all_records.latency_ns))
        print(f"{protocol}: the server's own time for a request of '{model}' is {own_ns / MS:.3f} ms, and is taken off")
        return own_ns


def latencies(sleepers: Sleepers, table: Table, quick: bool) -> None:
    """Closed loops of two, with instances enough."""
    count = 200 if quick else 600
    rng = np.random.default_rng(1)
    schedules = {
        "constant 50 ms": [50 * MS] * count,
        "bimodal 40 ms, 80 ms": rng.permutation([40 * MS] * (count * 7 // 10) + [80 * MS] * (count * 3 // 10)).tolist(),
        "20 ms, one stall of 1 s": [20 * MS] * (count // 2) + [1000 * MS] + [20 * MS] * (count // 2),
    }
    for protocol in ("http", "grpc"):
        own = sleepers.own_time_ns(protocol)
        for name, sleeps in schedules.items():
            found, slept = sleepers.measure("many", sleeps, protocol, concurrency=2)
            _compare(table, f"{name}, {protocol}", found, slept, own)


def _compare(table: Table, case: str, found: perf.Measurement, slept: Times, own_ns: int) -> None:
    """The percentiles of what was reported against those of how long the same requests slept."""
    assert found.latency is not None
    true = np.sort(slept[found.records.index])
    shown = {"p50": 500, "p90": 900, "p99": 990} | ({"max": 1000} if "stall" in case else {})
    for label, per_mille in shown.items():
        reported = found.latency.max_ns if label == "max" else found.latency.percentile(per_mille)
        expected = nearest_rank(true, per_mille)
        allowed = max(_SHARE * expected, _NEAR_NS)
        table.near(f"{case}, {label}", (reported - own_ns) / MS, expected / MS, allowed / MS)


def stall(sleepers: Sleepers, table: Table, quick: bool) -> None:
    """At a fixed rate one instance stalls for a second: every request of that second waits."""
    count = 500 if quick else 1000
    sleeps = [0] * (count // 3) + [1000 * MS] + [0] * (count - count // 3 - 1)
    for protocol in ("http", "grpc"):
        own = sleepers.own_time_ns(protocol)
        found, slept = sleepers.measure("one", sleeps, protocol, request_rate=100)
        assert found.intended_latency is not None
        records = found.records
        expected = np.sort(_queue(slept + own, 10 * MS)[records.index])
        true = nearest_rank(expected, 990)
        table.near(
            f"stall at 100/s, {protocol}, p99 intended",
            found.intended_latency.p99_ns / MS,
            true / MS,
            _SHARE * true / MS,
        )
        top = nearest_rank(expected, 1000)
        table.near(
            f"stall at 100/s, {protocol}, max intended", found.intended_latency.max_ns / MS, top / MS, _SHARE * top / MS
        )
    closed, _ = sleepers.measure("one", sleeps, "http", concurrency=1)
    assert closed.latency is not None
    print(f"(the same server in a closed loop of one shows a p99 of {closed.latency.p99_ns / MS:.3f} ms)")


def _queue(service_ns: Times, gap_ns: int) -> Times:
    """The times from arrival to end of requests at even times in a queue with one server.

    Formula (Lindley 1952): the wait of request i + 1 is max(0, wait i + service i − gap).
    """
    waits, wait = [], 0
    for service in service_ns.tolist():
        waits.append(wait + service)
        wait = max(0, wait + service - gap_ns)
    return np.array(waits)


def rates(sleepers: Sleepers, table: Table, quick: bool) -> None:
    """The open loop's sends against its schedule."""
    seconds = 4 if quick else 20
    intended: list[Times] = []
    for arrival, protocol, seed in (
        ("constant", "http", 0), ("constant", "grpc", 0), ("poisson", "http", 7), ("poisson", "grpc", 7),
        ("poisson", "http", 8),
    ):  # fmt: skip
        found = perf.measure(
            sleepers.url(protocol), "many", inputs={"x": np.array([0, 0])}, protocol=protocol, request_rate=RATE,
            arrival=arrival, seed=seed, warmup_s=0, requests=round(RATE * seconds),
        )  # fmt: skip
        if found.errors:
            raise SystemExit(f"{arrival}: {found.errors}")
        records, lag = found.all_records, found.schedule_lag
        assert lag is not None
        case = f"{RATE:g}/s {arrival}, {protocol}, seed {seed}"
        table.bound(f"{case}: p99 lag", lag.p99_ns / MS, lag.p99_ns < MS, "< 1", "ms")
        sent, wanted = np.sort(records.sent_ns), np.sort(records.intended_ns)
        delivered, asked = (len(times) / float(times[-1] - times[0]) * 1e9 for times in (sent, wanted))
        table.near(f"{case}: sent", delivered, asked, 0.005 * asked, "requests/s")
        if arrival == "constant":
            table.near(f"{case}: scheduled", asked, RATE, 0.005 * RATE, "requests/s")
            continue
        _exponential(table, f"{case}: scheduled gaps", np.diff(wanted))
        _exponential(table, f"{case}: sent gaps", np.diff(sent))
        intended.append(wanted - wanted[0])
    same, other = (bool(np.array_equal(intended[0], times)) for times in intended[1:])
    table.bound("the same seed gives the same times", float(same), same, "1")
    table.bound("another seed gives the same times", float(other), not other, "0")


def _exponential(table: Table, case: str, gaps_ns: Times) -> None:
    """Kolmogorov and Smirnov's test of gaps against the exponential distribution of the rate."""
    result = stats.kstest(gaps_ns / 1e9, stats.expon(scale=1 / RATE).cdf)
    table.bound(f"{case}: KS p (D {result.statistic:.4f})", result.pvalue, result.pvalue > 0.01, "> 0.01")


def tokens(sleepers: Sleepers, table: Table, quick: bool) -> None:
    """Responses at known times."""
    x = np.array([FIRST_S, GAP_S, TOKENS], np.float32)
    for protocol in ("grpc-stream", "generate-stream"):
        own = sleepers.own_time_ns(protocol, "speaker", np.array([0, 0, 1], np.float32))
        found = perf.measure(
            sleepers.url(protocol), "speaker", inputs={"x": x}, protocol=protocol, concurrency=2, warmup_s=0,
            requests=10 if quick else 40,
        )  # fmt: skip
        streaming = found.streaming
        if found.errors or streaming is None or not (streaming.first_response and streaming.inter_response):
            raise SystemExit(f"speaker over {protocol}: {found.errors}")
        first, gaps = streaming.first_response, streaming.inter_response
        for name, reported in (("p50", first.p50_ns), ("mean", first.mean_ns)):
            table.near(f"{protocol}: TTFT {name}", (reported - own) / MS, FIRST_S * 1e3, _SHARE * FIRST_S * 1e3)
        for name, reported in (("p50", gaps.p50_ns), ("mean", gaps.mean_ns)):
            table.near(f"{protocol}: ITL {name}", reported / MS, GAP_S * 1e3, _SHARE * GAP_S * 1e3)
        per_user = 1 / GAP_S
        table.near(
            f"{protocol}: per user", streaming.responses_per_s_per_user or 0.0, per_user, _SHARE * per_user, "tokens/s"
        )
        count = streaming.responses_per_request_min
        table.bound(f"{protocol}: tokens in the shortest answer", count, count == TOKENS, str(TOKENS))


CASES: dict[str, Callable[[Sleepers, Table, bool], None]] = {
    "latency": latencies, "stall": stall, "rate": rates, "tokens": tokens,
}  # fmt: skip


def write_repository(folder: Path, logs: Path) -> None:
    """The models: `one` and `many` sleep (with one and four instances), `speaker` streams."""
    for name, python, config in _models(logs):
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(python)
        (version.parent / "config.pbtxt").write_text(config)


def _models(logs: Path) -> Iterator[tuple[str, str, str]]:
    for name, instances in (("one", 1), ("many", 4)):
        yield name, SLEEPER, SLEEPER_CONFIG.format(instances=instances, log=logs / name)
    yield "speaker", SPEAKER, SPEAKER_CONFIG


def main() -> int:
    """Serve, measure, print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as name:
        folder, logs = Path(name) / "repository", Path(name)
        write_repository(folder, logs)
        with serve(folder) as server:
            sleepers, table = Sleepers(server, logs), Table()
            for case in given.cases:
                CASES[case](sleepers, table, given.quick)
    return 0 if table.held else 1


if __name__ == "__main__":
    sys.exit(main())
