# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy lint``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trtkit.cli.common import json_option
from trtkit.cli.lint_report import explain, failed, list_rules, report, report_options


@click.command(
    help="""Say what goes wrong with a deployment of Triton, without a cluster.

    PATH is a file or a folder of anyone's: Kubernetes manifests (YAML, JSON, what kustomize or `helm template` prints),
    Dockerfiles and .dockerignore, Compose files, Prometheus rules, adapter rules and KEDA triggers, Grafana dashboards,
    Envoy and MIG configurations, GitHub workflows, shell and Python scripts. All files are judged together: a Service
    against its Deployment, a query against the server's image and options. Default: this folder.

    What is known beside the files makes more rules speak:

    \b
        trtkit deploy lint deploy --kube-version 1.30 --free-gpus 0 --measurement measured.json

    CODES are codes, the letters they begin with, or names of rules, with commas between. In a file,
    `# trtkit: ignore=CODE` at the end of a line, or alone above what it is for, leaves a finding out.

    Exits 1 when something at or above --fail-on was found.""",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--select", "chosen", multiple=True, metavar="CODES", help="Apply only these rules.")
@click.option("--ignore", "ignored", multiple=True, metavar="CODES", help="Leave these rules out.")
@click.option("--kube-version", metavar="1.NN", help="Of the cluster: which API versions and fields it has.")
@click.option("--release", metavar="YY.MM", help="Of tritonserver, where an image's tag does not say it.")
@click.option(
    "--load-seconds", type=click.FloatRange(min=0), help="From a container's start until all models are loaded."
)
@click.option(
    "--measurement", type=click.Path(path_type=Path), help="The same, from a report of `trtkit deploy measure`."
)
@click.option("--free-gpus", type=click.IntRange(min=0), help="How many more GPUs pods can get, quota considered.")
@report_options
@click.option("--explain", "explained", metavar="CODE", help="Print the page of a rule.")
@click.option("--rules", "listed", is_flag=True, help="List the rules.")
@json_option
def lint(paths: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Lint, report."""
    from trtkit.deploy.manifests.rules import RULES
    from trtkit.lint.selection import select

    given["form"] = "json" if as_json else given["form"]
    if given["explained"]:
        return explain(RULES, given["explained"])
    rules = select(RULES, given["chosen"], given["ignored"])
    if given["listed"]:
        return list_rules(rules, given["form"])
    from trtkit.deploy.manifests.known import known_of
    from trtkit.deploy.manifests.run import lint_files

    known = known_of(
        given["kube_version"], given["release"], given["load_seconds"], given["measurement"], given["free_gpus"]
    )
    linted = lint_files(paths or (".",), rules, known)
    report([linted.outcome], rules, given, linted.skipped)
    return failed([linted.outcome], given["fail_on"])
