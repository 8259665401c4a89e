# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy``: a group of commands, each in a file of its own."""

from __future__ import annotations

import click

from trtkit.cli.deploy_ci import ci
from trtkit.cli.deploy_compose import compose
from trtkit.cli.deploy_docker import docker
from trtkit.cli.deploy_k8s import k8s
from trtkit.cli.deploy_lint import lint
from trtkit.cli.deploy_measure import measure
from trtkit.cli.deploy_monitoring import monitoring
from trtkit.cli.deploy_plan import plan
from trtkit.cli.deploy_simulate import simulate

_HELP = """Render what runs the repository: images, Compose, Kubernetes, monitoring, pipelines.

Everything follows from the `deploy:` block of the project file, the built repository and its measurements;
`trtkit deploy plan` says what follows and why. docs/deploy.md explains every figure.

\b
    trtkit deploy measure                # load time and memory of the real server
    trtkit deploy plan --environment production
    trtkit deploy compose && docker compose -f deploy/compose/compose.yaml up
    trtkit deploy k8s && kubectl apply -k deploy/k8s/overlays/production"""


@click.group(help=_HELP)
def command() -> None:
    """The group; each command does its own work."""


for _each in (plan, measure, docker, compose, k8s, monitoring, ci, lint, simulate):
    command.add_command(_each)
