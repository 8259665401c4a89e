# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit doctor cluster``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trtkit.cli.common import console, json_option, print_json, project_option
from trtkit.cli.deploy_common import environment_option

if TYPE_CHECKING:
    from trtkit.deploy.clusters.read import Seen
    from trtkit.deploy.clusters.report import ClusterReport
    from trtkit.deploy.planned import Plan

_HELP = """Check a Kubernetes cluster: GPUs, MIG, labels, drivers, taints, and whether the project fits on it.

Reads what kubectl shows, live or from files, and changes nothing. With a project file and a built repository here,
its plan's pods are laid on the nodes: GPUs, memory and CPU against what other pods have left.

\b
    trtkit doctor cluster                              # the cluster that kubectl talks to
    kubectl get nodes -o json > nodes.json
    kubectl get pods --all-namespaces -o json > pods.json
    trtkit doctor cluster --nodes nodes.json --pods pods.json --environment production

Exits 3 when something keeps pods with a GPU, or the project's, from running. docs/doctor-cluster.md explains what is
looked at."""


@click.command(help=_HELP)
@click.option("--nodes", metavar="FILE", help="Output of `kubectl get nodes -o json`; - for standard input.")
@click.option("--pods", metavar="FILE", help="Output of `kubectl get pods --all-namespaces -o json`.")
@click.option("--context", metavar="NAME", help="Of the kubeconfig, when kubectl is asked. Default: the current one.")
@click.option("--image", help="The tritonserver image to check drivers for. Default: the project's.")
@environment_option
@project_option
@json_option
def cluster(
    nodes: str | None, pods: str | None, context: str | None, image: str | None, environment: str,
    project_path: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Read the cluster, examine it, and say what was found."""
    from trtkit.deploy.clusters.report import examine_cluster
    from trtkit.errors import MissingDependencyError

    seen = _seen(nodes, pods, context)
    plan, note = _plan(project_path, environment, image)
    report = examine_cluster(seen, plan, image)
    if as_json:
        print_json({**report.to_json(), "note": note})
    else:
        _print(report, note)
    return 0 if report.holds else MissingDependencyError.exit_code


def _seen(nodes: str | None, pods: str | None, context: str | None) -> Seen:
    from trtkit.deploy.clusters.read import ask, parse
    from trtkit.errors import ProjectError

    if nodes is None:
        if pods is not None:
            raise ProjectError("--pods needs --nodes: both have to be of the same cluster")
        return ask(context)
    return parse(_text(nodes), None if pods is None else _text(pods))


def _text(file: str) -> str:
    from trtkit.errors import ProjectError

    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ProjectError(f"{file} cannot be read: {getattr(exc, 'strerror', None) or 'it is no text'}") from exc


def _plan(path: Path | None, environment: str, image: str | None) -> tuple[Plan | None, str]:
    """What is to run there, or why that is not known; where it was asked for, that is an error."""
    from trtkit.cli.common import optional_project
    from trtkit.deploy.plan import make_plan
    from trtkit.errors import ProjectError, TrtkitError

    project = optional_project(path)
    if project is None:
        if environment:
            raise ProjectError(f"--environment {environment} needs a project file; pass --project")
        return None, "no project file is here, so only the nodes were looked at"
    try:
        return make_plan(project, environment, image=image), ""
    except TrtkitError as exc:
        if path is not None or environment:
            raise
        return None, f"only the nodes were looked at, since there is no plan: {exc}"


def _print(report: ClusterReport, note: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("node", "GPUs", "product", "driver", "state", *(["pods that fit"] if report.plan else []))
    fits = {place.node.name: str(place.pods) for place in report.places}
    for node in report.seen.nodes:
        gpus = ", ".join(f"{a.allocatable:.0f} {name.removeprefix('nvidia.com/')}" for name, a in node.gpus.items())
        state = "cordoned" if node.cordoned else "Ready" if node.ready else "not Ready"
        cells = [node.name, gpus or "-", node.product or "-", node.driver or "-", state]
        table.add_row(*map(Text, [*cells, *([fits[node.name]] if report.plan else [])]))
    out = console()
    out.print(table)
    style = {"error": "red", "warning": "yellow", "advice": "dim"}
    for finding in report.findings:
        where = f" [{', '.join(finding.nodes[:6])}{', …' if len(finding.nodes) > 6 else ''}]" if finding.nodes else ""
        out.print(Text(finding.severity, style=style[finding.severity]), Text(f"{finding.message}{where}"), sep=": ")
        if finding.fix:
            sys.stdout.write(f"    {finding.fix}\n")
    _print_end(report, note)


def _print_end(report: ClusterReport, note: str) -> None:
    if note:
        sys.stdout.write(f"{note}\n")
    if report.seen.pods is None:
        sys.stdout.write("what other pods hold is not known; everything counts as free (--pods)\n")
    if report.plan:
        wanted = max(1, report.plan.scaling.replicas.whole)
        sys.stdout.write(f"{report.plan.name}: {report.pods} pods fit, {wanted} are needed\n")
    if report.block:
        from trtkit.deploy.yaml_out import dump

        sys.stdout.write("\nthe project file can say:\n\n" + dump({"deploy": report.block}))
