# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``kill -9`` of `trtkit build` at random moments: after each kill the repository is whole, and the server loads it.

    python benchmarks/kill_build.py [--kills 50] [--seed 1] [--no-server]

Two ONNX models and the ensemble of both change before each build, mostly in their widths and batch sizes. Two
of three kills fall into the milliseconds in which the build publishes, the others anywhere before; half of them
hit the build alone, the others its workers too. After each kill: every version is compared with its record,
config.pbtxt with the graph, the ensemble with its steps, old versions with what they were; the embedded server
loads all of it and its answer is compared. After every second kill a build has to complete; at the end, too.
Ends with 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from test_build_kill import Victim
from trtkit.errors import TrtkitError
from trtkit.repository import latest


def main() -> int:
    """Kill, look, print a line per kill and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-server", action="store_true", help="look at the files only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trtkit-kill-") as folder:
        victim = Victim(Path(folder), options.seed)
        victim.change()
        victim.build()
        victim.change()
        before, publication = victim.measure()
        print(f"a build publishes after {before:.2f} s, for {publication * 1000:.0f} ms")
        return run(victim, before, publication, options.kills, not options.no_server)


def run(victim: Victim, before: float, publication: float, kills: int, server: bool) -> int:
    """Kill so often; 1 when something did not hold."""
    outcomes: Counter[str] = Counter()
    for turn in range(kills):
        started = time.perf_counter()
        versions = numbers(victim)
        kill = victim.change_and_kill(before, publication)
        published = "published" if numbers(victim) != versions else "as it was"
        outcome = f"{'killed' if kill.alive else 'had ended'}, {published}"
        try:
            look(victim, server, complete=turn % 2 == 0 or turn == kills - 1)
        except (AssertionError, TrtkitError) as exc:
            outcome = "DID NOT HOLD"
            print(exc)
        outcomes[outcome] += 1
        seconds = time.perf_counter() - started
        reached = kill.reached or "no output yet"
        print(f"{turn + 1:3}. after {kill.seconds:5.2f} s: {outcome:22} ({reached}) [{seconds:.1f} s]")
    print(f"{kills} kills: {', '.join(f'{count} × {outcome}' for outcome, count in sorted(outcomes.items()))}")
    return 1 if outcomes["DID NOT HOLD"] else 0


def look(victim: Victim, server: bool, *, complete: bool) -> None:
    """The checks after a kill; `complete`: and a build, and the checks again."""
    victim.check()
    if server:
        victim.serve()
    if complete:
        victim.build()
        victim.check()


def numbers(victim: Victim) -> list[int]:
    """The latest version of each model."""
    found = [latest(victim.repository, name) for name in ("a", "b", "e")]
    return [version.version for version in found if version]


if __name__ == "__main__":
    sys.exit(main())
