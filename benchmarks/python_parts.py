# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many requests per second the parts answer, beside what their own work takes without a server.

    python benchmarks/python_parts.py [PART ...] [--concurrency 1,8] [--protocol grpc] [--seconds 1.5]

Runs benchmarks/parts/<part>.py for each part, in turn, each with a server of its own. *server µs* is the CPU time that
the server and its Python processes take for one sample; *own work* is that of the part's computation alone, in this
process, before the server starts; *share* is the one of the other: 1.00 would be a server that costs nothing. Client
and server share the cores: on a busy machine infer/s means little, CPU times still do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from trtkit.perf import parse_levels

sys.path.insert(0, str(Path(__file__).resolve().parent / "parts"))

from harness import Row, measured  # the path above comes first

PARTS = Path(__file__).resolve().parent / "parts"
COLUMNS = {
    "part": "16", "request": "40", "in flight": ">9", "infer/s": ">9",
    "server µs": ">9", "own work µs": ">11", "share": ">5",
}  # fmt: skip


def main() -> None:
    """Run what is asked for and print one table."""
    files = {file.stem: file for file in sorted(PARTS.glob("*.py")) if file.stem != "harness"}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(files)}")
    parser.add_argument("--concurrency", default="1,8", help="requests in flight, with commas between them")
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--seconds", type=float, default=1.5, help="measured time of a row")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(files):
        parser.error(f"no benchmark of {', '.join(sorted(unknown))}; there are {', '.join(files)}")
    print("  ".join(f"{name:{width}}" for name, width in COLUMNS.items()))
    for part in given.parts or files:
        with tempfile.TemporaryDirectory(prefix="trtkit-benchmark-") as folder:
            rows = measured(
                files[part], Path(folder), protocol=given.protocol,
                concurrencies=parse_levels(given.concurrency), seconds=given.seconds,
            )  # fmt: skip
            for row in rows:
                print(line(part, row), flush=True)


def line(part: str, row: Row) -> str:
    """One row of the table."""
    compute = "-" if row.compute_us is None else f"{row.compute_us:,.1f}"
    share = "-" if row.share is None else f"{row.share:.2f}"
    values = (
        part,
        row.case.request,
        row.concurrency,
        f"{row.infer_per_s:,.0f}",
        f"{row.server_us:,.0f}",
        compute,
        share,
    )
    cells = [f"{value:{width}}" for value, width in zip(values, COLUMNS.values(), strict=True)]
    return "  ".join(cells) + ("" if row.stable else "  (windows differ)")


if __name__ == "__main__":
    main()
