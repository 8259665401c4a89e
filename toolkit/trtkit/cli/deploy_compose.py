# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy compose``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from trtkit.cli.deploy_common import deliver, environment_option, output_options

_HELP = """Render a Compose project for one host: Triton behind Envoy, with Prometheus, Alertmanager and Grafana.

\b
    trtkit deploy compose
    cd deploy/compose
    cp .env.example .env                 # the repository's folder, ports, images
    mkdir -m 700 secrets                 # .env.example says which files belong there
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

    from trtkit.cli.common import console
    from trtkit.deploy.compose.document import files
    from trtkit.deploy.plan import make_plan
    from trtkit.project import find_project

    project = find_project(project_path)
    folder = output or project.root / "deploy" / "compose"
    repository = Path(os.path.relpath(project.repository.resolve(), folder.resolve())).as_posix()
    plan = make_plan(project, environment)
    rendered = files(plan, repository)
    if not as_json and plan.spec.monitoring.webhook_url_file is None:
        console(stderr=True).print("warning: nobody is told of alerts: set deploy.monitoring.webhook_url_file")
    after = f"next: cd {folder}, cp .env.example .env, put secrets into secrets/, docker compose up --detach --wait"
    code = deliver(rendered, folder, "compose", check=check, force=force, as_json=as_json, after=after)
    if not check:
        _make_readable(folder, rendered)
    return code


def _make_readable(folder: Path, rendered: Iterable[str]) -> None:
    """The folders that are mounted, also where the umask keeps them from others: containers have users of their own."""
    from trtkit.artifacts import file_errors

    mounted = {folder / above for file in rendered for above in Path(file).parents} - {folder}
    with file_errors(f"writing to {folder}"):
        for path in mounted:
            path.chmod(0o755)
