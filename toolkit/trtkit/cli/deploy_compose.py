# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy compose``."""

from __future__ import annotations

from pathlib import Path

import click

from trtkit.cli.deploy_common import deliver, environment_option, output_options

_HELP = """Render a Compose project for one host: Triton behind Envoy, with Prometheus, Alertmanager and Grafana.

\b
    trtkit deploy compose
    cd deploy/compose
    cp .env.example .env                 # the repository's folder, ports, images
    mkdir -p secrets                     # .env.example says which files belong there
    docker compose up --detach --wait
    ./update.sh                          # serve another repository without a failed request
    ./canary.sh 10                       # a tenth of the requests to another release

`deploy: {compose: {redis: true}}` adds a response cache that servers share, `rabbitmq: true` a queue, `s3: true` an S3
server for trials. docs/deploy-containers.md has the details."""


@click.command(help=_HELP)
@environment_option
@output_options("deploy/compose")
def compose(
    project_path: Path | None, environment: str, output: Path | None, check: bool, force: bool, as_json: bool
) -> int:
    """Render the Compose project."""
    import os

    from trtkit.deploy.compose.document import files
    from trtkit.deploy.plan import make_plan
    from trtkit.project import find_project

    project = find_project(project_path)
    folder = output or project.root / "deploy" / "compose"
    repository = Path(os.path.relpath(project.repository.resolve(), folder.resolve())).as_posix()
    rendered = files(make_plan(project, environment), repository)
    after = f"next: cd {folder}, cp .env.example .env, put secrets into secrets/, docker compose up --detach --wait"
    return deliver(rendered, folder, "compose", check=check, force=force, as_json=as_json, after=after)
