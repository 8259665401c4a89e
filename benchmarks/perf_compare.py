# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether `trtkit perf compare` tells a true slowdown of 5 % from chance.

    python benchmarks/perf_compare.py [--cases sleep compute] [--trials 20] [--seconds 0.3] [--pairs 4]

Two pairs of Python models: one sleeps 20.0 ms and the other 21.0 ms, one computes something and the other 5 % more of
it. A trial runs the first, the second and the first again in turns, so often as `--pairs` says, and compares the runs
as the command does: the first with the second must be significant (any quantity, B the worse), and the first with
itself must not. Both in at least 18 of 20 trials; ends with 1 otherwise. Wants a quiet machine, as everybody who
compares does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trtkit import perf
from trtkit.perf.statistics.compare import Comparison, RunSide, compare, run_of
from trtkit.server import RunningServer, serve

SLEEP_MS = (20.0, 21.0)
SLOWDOWN = 1.05
NEEDED = 0.9
_COMPUTED_MS = 8.0

MODEL = """
import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.sleep_s = float(parameters["sleep_s"]["string_value"])
        self.turns = int(parameters["turns"]["string_value"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        if self.sleep_s:
            time.sleep(self.sleep_s)
        total = 0
        for number in range(self.turns):
            total += number * number
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
        )
"""
CONFIG = """
backend: "python"
input {{ name: "x" data_type: TYPE_FP32 dims: 4 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 4 }}
instance_group {{ count: {instances} kind: KIND_CPU }}
parameters {{ key: "sleep_s" value: {{ string_value: "{sleep_s}" }} }}
parameters {{ key: "turns" value: {{ string_value: "{turns}" }} }}
"""
CONCURRENCY = {"sleep": 4, "compute": 1}


def models() -> Iterator[tuple[str, str]]:
    """The names and configs: `sleep_a`, `sleep_b`, `compute_a`, `compute_b`."""
    for side, sleep_ms in zip("ab", SLEEP_MS, strict=True):
        yield f"sleep_{side}", CONFIG.format(instances=CONCURRENCY["sleep"], sleep_s=sleep_ms / 1e3, turns=0)
    turns = round(_COMPUTED_MS * _turns_per_ms())
    for side, factor in (("a", 1.0), ("b", SLOWDOWN)):
        yield f"compute_{side}", CONFIG.format(instances=1, sleep_s=0, turns=round(turns * factor))


def _turns_per_ms() -> float:
    """How fast this machine counts: the best of some tries."""
    turns, best = 100_000, float("inf")
    for _ in range(10):
        start, total = time.perf_counter(), 0
        for number in range(turns):
            total += number * number
        best = min(best, time.perf_counter() - start)
    return turns / best / 1e3


def write_repository(folder: Path) -> None:
    """All models."""
    for name, config in models():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (version.parent / "config.pbtxt").write_text(config)


def one_run(server: RunningServer, model: str, concurrency: int, seconds: float) -> perf.Measurement:
    """A short run of exactly so long."""
    found = perf.measure(
        server.http_url, model, inputs={"x": np.zeros(4, np.float32)}, concurrency=concurrency, warmup_s=0.1,
        window_s=seconds / 3, windows=3, max_windows=3, duration_s=seconds,
    )  # fmt: skip
    if found.errors:
        raise SystemExit(f"{model}: {found.errors}")
    return found


def trial(server: RunningServer, case: str, seconds: float, pairs: int) -> tuple[Comparison, Comparison]:
    """The first model against the second, and against itself."""
    names = {"a": f"{case}_a", "b": f"{case}_b", "again": f"{case}_a"}
    runs: dict[str, list[perf.Measurement]] = {side: [] for side in names}
    for _ in range(pairs):
        for side, name in names.items():
            runs[side].append(one_run(server, name, CONCURRENCY[case], seconds))
    sides = {side: RunSide("trial", tuple(map(run_of, found))) for side, found in runs.items()}
    return compare(sides["a"], sides["b"]), compare(sides["a"], sides["again"])


def slower(comparison: Comparison) -> bool:
    """Whether B was found to be the worse."""
    return any(difference.worse for difference in comparison.differences)


def judge(server: RunningServer, case: str, given: argparse.Namespace) -> bool:
    """All trials of a case; whether enough of them were right."""
    found, alarms = 0, 0
    for _ in range(given.trials):
        different, same = trial(server, case, given.seconds, given.pairs)
        found += slower(different)
        alarms += same.significant
        print(f"{case:8}  {_shown(different)}   {_shown(same)}", flush=True)
    quiet = given.trials - alarms
    print(f"{case}: 5 % slower called significant in {found} of {given.trials} trials, equal called equal in {quiet}")
    return bool(min(found, quiet) >= NEEDED * given.trials)


def _shown(comparison: Comparison) -> str:
    """The throughput and what was significant."""
    throughput = next(one for one in comparison.differences if one.name == "throughput")
    named = ", ".join(one.name for one in comparison.differences if one.significant) or "nothing"
    turns = "" if comparison.interleaved else " (not interleaved)"
    return f"throughput {throughput.change or 0:+7.2%}, significant: {named:28}{turns}"


def main() -> int:
    """Serve, compare, print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CONCURRENCY), default=list(CONCURRENCY))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.3, help="measured time of one run")
    parser.add_argument("--pairs", type=int, default=4, help="runs of each side in a trial")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
        write_repository(Path(folder))
        with serve(Path(folder)) as server:
            held = [judge(server, case, given) for case in given.cases]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
