# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy docker``."""

from __future__ import annotations

from pathlib import Path

import click

from trtkit.cli.deploy_common import deliver, environment_option, output_options

_HELP = """Render a Dockerfile of tritonserver with only the backends that the repository uses.

It starts from the server's small image, takes the pieces it needs out of the whole one, and runs as user 1000 on a
read-only file system. The models are mounted, or part of the image with `deploy: {storage: {kind: baked}}`. The files
are a Dockerfile, Dockerfile.dockerignore beside it, and requirements.txt where Python models import packages.

\b
    trtkit deploy docker
    docker build --file deploy/docker/Dockerfile --tag digits:1 .
    trtkit deploy docker --check         # in a pipeline: exit 1 when it is not up to date"""


@click.command(help=_HELP)
@environment_option
@output_options("deploy/docker")
def docker(
    project_path: Path | None, environment: str, output: Path | None, check: bool, force: bool, as_json: bool
) -> int:
    """Render the Dockerfile."""
    from trtkit.deploy.docker.dockerfile import context_of, files
    from trtkit.deploy.plan import make_plan
    from trtkit.project import find_project

    project = find_project(project_path)
    folder = output or project.root / "deploy" / "docker"
    inside = context_of(folder, project.root)
    rendered = files(project, make_plan(project, environment), inside)
    after = f"build it in {project.root}: docker build --file {inside}/Dockerfile ."
    return deliver(rendered, folder, "docker", check=check, force=force, as_json=as_json, after=after)
