# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How quickly the command line starts, as ratios in one run: python benchmarks/cli_start.py.

Asked for: `trtkit --help` at most 4 times a bare `python -c pass`; a second `trtkit build` of the sample
project under 1.5 times `trtkit --help` plus one second.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 15


def seconds(command: list[str]) -> float:
    """The wall time of one run, in seconds."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Run the three in turn, so that a busy moment meets all of them, and compare the medians."""
    trtkit = shutil.which("trtkit", path=str(Path(sys.executable).parent)) or "trtkit"
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "trtkit --help": [trtkit, "--help"],
        "trtkit build, nothing to do": [trtkit, "build"],
    }
    seconds(commands["trtkit build, nothing to do"])
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    bare, help_, build = (statistics.median(values) for values in times.values())
    for name, values in times.items():
        print(f"{name}: median {statistics.median(values) * 1e3:.1f} ms, least {min(values) * 1e3:.1f} ms of {RUNS}")
    print(f"help / bare python: {help_ / bare:.2f} (at most 4)")
    print(f"second build: {build:.3f} s (at most {1.5 * help_ + 1:.3f} s)")


if __name__ == "__main__":
    main()
