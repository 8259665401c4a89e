# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy measure``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trtkit.cli.common import json_option, print_json, project_option, write_report
from trtkit.cli.deploy_common import environment_option

if TYPE_CHECKING:
    from trtkit.deploy.measure import Start

DEFAULT = "deploy/measured.json"


@click.command(
    help="""Measure how long the real server takes to load the repository, and how much memory.

    The embedded server (or --tritonserver) is started --runs times on the models of the `deploy:` block; the largest
    of each figure is written to --output. Measured are the time from the process's start until it is ready, the
    resident memory of the server and its Python processes (pages they share count once), and their /dev/shm.

    Run it on the target, or on a machine like it: a faster disk, a GPU, another server all change the figures.
    Files that are in the page cache load faster than on a cold node; the plan therefore takes twice the time.

    \b
        trtkit deploy measure
        # then, in trtkit.yaml:
        # deploy: {measurements: {load: deploy/measured.json}}"""
)
@project_option
@environment_option
@click.option("--output", type=click.Path(path_type=Path), help=f"The file to write. Default: {DEFAULT}.")
@click.option("--runs", type=click.IntRange(min=1), default=2, show_default=True, help="How often it is started.")
@click.option("--tritonserver", type=click.Path(path_type=Path), help="A tritonserver binary. Default: the embedded.")
@click.option("--ready-timeout", type=click.FloatRange(min=1), default=600.0, show_default=True,
              help="Seconds until one start counts as failed.")  # fmt: skip
@json_option
def measure(
    project_path: Path | None, environment: str, output: Path | None, runs: int, tritonserver: Path | None,
    ready_timeout: float, as_json: bool,
) -> int:  # fmt: skip
    """Start it, say what was measured, write it."""
    from trtkit.deploy.measure import measure as measured_of
    from trtkit.deploy.plan import spec_of
    from trtkit.project import find_project

    project = find_project(project_path)
    spec = spec_of(project, environment)

    def said(start: Start) -> None:
        sys.stderr.write(
            f"ready after {start.load_s:.1f} s; {start.host_mib:.0f} MiB resident, {start.shm_mib:.0f} MiB /dev/shm\n"
        )

    found = measured_of(
        project.repository, models=spec.models, runs=runs, tritonserver=tritonserver, ready_timeout_s=ready_timeout,
        said=said, state=project.state,
    )  # fmt: skip
    file = output or project.root / DEFAULT
    write_report(file, found)
    if as_json:
        print_json(found)
        return 0
    inside = file.resolve().is_relative_to(project.root)
    shown = file.resolve().relative_to(project.root) if inside else file.resolve()
    used = spec.measurements.load == str(shown)
    sys.stdout.write(f"{found['load_s']:.1f} s to load, {found['host_mib']:.0f} MiB of host memory, "
                     f"{found['shm_mib']:.0f} MiB of /dev/shm: written to {file}\n")  # fmt: skip
    for name, seconds in sorted(found["models"].items(), key=lambda item: -item[1]):
        sys.stdout.write(f"  {seconds:7.2f} s  {name}\n")
    if not used:
        sys.stdout.write(f"name it in {project.file.name}: `deploy: {{measurements: {{load: {shown}}}}}`\n")
    return 0
