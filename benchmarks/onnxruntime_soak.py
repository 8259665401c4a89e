# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Two minutes of good and bad requests at once for python_backends/onnxruntime: python benchmarks/onnxruntime_soak.py.

32 loops, half over HTTP and half over gRPC, ask questions of some 20 kinds in random order, with a string of 100 MB
now and then; requests of different kinds share batches. Every good answer is compared with onnxruntime in this
process; every bad request must get the error that names what is wrong with it; requests taken back by the client may
stay without an answer. Then 10,000 bad requests alone. Ends with 1 when an answer was wrong, a process of the server
was restarted, or memory was not flat: the resident memory of the server and of each stub is sampled four times a
second, the first fifth of the time is warm-up, and of the rest the least of the last third may be above that of the
first third by at most 2 % and 4 MiB (the least, because a long string in flight is no leak).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tritonclient.http import InferenceServerClient

from soak_load import Report, ask_all, processes
from soak_questions import bad_questions, giant_string, good_questions, not_utf8, pool, write_repository
from trtkit.server import RunningServer, serve

DRAWS = 50
GIANT = giant_string(100)


def verdict(title: str, report: Report) -> bool:
    """Print what came back; whether all of it is as it must be."""
    print(f"\n{title}: {report.answered.total():,} answers, {report.cancelled:,} taken back by the client")
    for kind, count in sorted(report.answered.items()):
        print(f"  {kind:24} {count:9,}")
    for problem in report.wrong:
        print(f"  WRONG: {problem}")
    for name, (first, last) in report.growth().items():
        print(f"  {name:28} {first / 2**20:8.1f} MiB, then {last / 2**20:8.1f} MiB resident")
    if grown := report.grown():
        print(f"  GREW: {', '.join(grown)}")
    return not report.wrong and not grown


def print_batches(server: RunningServer) -> None:
    """How many requests shared a run, by model: whether good ones had bad mates."""
    with InferenceServerClient(server.http_url) as client:
        for row in client.get_inference_statistics()["model_stats"]:
            print(f"  {row['name']:24} {row['inference_count'] / max(1, row['execution_count']):9.1f} rows a batch")


def main() -> int:
    """Serve, ask, print; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of the mixed load")
    parser.add_argument("--bad", type=int, default=10_000, help="bad requests afterwards")
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-soak-") as folder:
        write_repository(Path(folder))
        with serve(Path(folder)) as server:
            ask_all(server, [GIANT], count=8, concurrency=1)  # so that the shared memory has the size it needs
            before = processes(server)
            questions = pool(DRAWS, (good_questions, bad_questions, not_utf8))
            mixed = ask_all(server, questions, seconds=given.seconds, concurrency=given.concurrency, rare=GIANT)
            right = verdict(f"{given.seconds:g} s of good and bad requests", mixed)
            print_batches(server)
            bad = ask_all(server, pool(DRAWS, (bad_questions,)), count=given.bad, concurrency=given.concurrency)
            right &= verdict(f"{given.bad:,} bad requests", bad)
            after = processes(server)
            if after.keys() != before.keys():
                print(f"processes were restarted: {sorted(before)} became {sorted(after)}")
                right = False
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
