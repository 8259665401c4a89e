# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The main job on the sample project: build, serve, validate, measure; what `make demo` runs.

Each step is the command a user would type; the last table is read from the reports they write.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from train_digits import write_images
from trtkit import find_project, serve
from trtkit.server import RunningServer, connect
from trtkit.validate import why_no_reference

ROOT = Path(__file__).resolve().parents[1]
REPORTS = Path(".trtkit") / "reports"


UNSTABLE = 9


def run(*arguments: str, accept: tuple[int, ...] = (0,)) -> None:
    """Run one trtkit command and show it; its failure is ours."""
    print(f"\n$ trtkit {' '.join(arguments)}", flush=True)
    code = subprocess.call([sys.executable, "-m", "trtkit", *arguments], cwd=ROOT)
    if code not in accept:
        sys.exit(code)


def read(name: str) -> dict[str, Any]:
    """A report that a command wrote."""
    value: dict[str, Any] = json.loads((ROOT / REPORTS / f"{name}.json").read_text())
    return value


def summary(models: list[str]) -> Table:
    """One row per model, from the reports of build, validate and perf."""
    columns = ("model", "version", "precision", "size", "worst error", "metric (reference)", "infer/s", "p99")
    table = Table(*columns, title="The sample project, served and measured")
    built = {row["model"]: row for row in read("build")["models"]}
    proven = {row["model"]: row for row in read("validate")["models"]}
    for model in models:
        errors = [output["difference"]["max_abs"] for output in proven[model]["outputs"]]
        worst = max(*errors, built[model]["max_abs_error"] or 0.0)  # source to export, and reference to served
        metric = min(proven[model]["metrics"], key=lambda row: float(row["served"]), default=None)
        measured = read(f"perf-{model}")["measurements"][-1]
        table.add_row(
            model,
            str(built[model]["version"]),
            built[model]["precision"],
            f"{built[model]['byte_size'] / 1e3:.1f} kB" if built[model]["byte_size"] else "–",
            f"{worst:.1e}",
            f"{metric['served']:.4f} ({metric['reference']:.4f})" if metric else "–",
            f"{measured['throughput_infer_per_s']:.0f}{'' if measured['stable'] else ' (unstable)'}",
            f"{measured['latency']['p99_ns'] / 1e6:.2f} ms",
        )
    return table


def show_split(server: RunningServer, images: list[Path]) -> None:
    """One image after the other to `digits_ab`, and which model answered how often, from the server's own metrics."""
    print("\n$ one request to digits_ab for each of", len(images), "images")
    with connect(server.http_url) as client:
        for image in images:
            client.infer("digits_ab", {"IMAGE": np.array([[image.read_bytes()]], dtype=object)})
    time.sleep(0.5)  # the model hands its counters over ten times a second
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    print(*(line for line in lines if line.startswith("trtkit_variant_requests_total{")), sep="\n", flush=True)


def main() -> None:
    """The commands in order, against one served repository."""
    project = find_project(ROOT)
    images = write_images(ROOT / "demo" / "images")
    run("build", "--report", str(REPORTS / "build.json"))
    rows = [row for row in read("build")["models"] if row["version"]]
    served = [row["model"] for row in rows]
    models = [name for name in served if not why_no_reference(project, name)]  # what there is something to compare with
    print("\n$ trtkit serve", flush=True)
    with serve(project.repository, models=served) as server:
        print(f"ready at {server.http_url} (HTTP) and {server.grpc_url} (gRPC)")
        shown = [str(image.relative_to(ROOT)) for image in images[:5]]
        run("infer", "digits_pipeline", *shown, "--url", server.http_url)
        show_split(server, images)
        if "text_pipeline" in served:
            texts = json.dumps([["The flowers of the iris have petals."], ["Cells of the tumour are benign."]])
            run("infer", "text_pipeline", "--input", f"TEXT={texts}", "--url", server.http_url)
        urls = ("--url", server.http_url, "--grpc-url", server.grpc_url)
        run("validate", *models, *urls, "--report", str(REPORTS / "validate.json"))
        for model in models:
            report = ("--report", str(REPORTS / f"perf-{model}.json"))
            windows = () if model == "digits" else ("--window", "1", "--max-windows", "5")
            # on a busy machine a measurement may not become stable; the table says so
            run("perf", model, "--concurrency", "8", *windows, "--url", server.http_url, *report, accept=(0, UNSTABLE))
    print()
    Console(width=None if sys.stdout.isatty() else 120).print(summary(models))


if __name__ == "__main__":
    main()
