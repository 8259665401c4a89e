# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy ci``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trtkit.cli.deploy_common import deliver, output_options

SYSTEMS = ("github", "gitlab", "jenkins")
_HELP = """Render pipelines: GitHub Actions, GitLab CI, Jenkins.

They lint and build the project, load every model in the real server (no GPU is needed), compare golden samples, gate
accuracy and performance, push the image, and deploy to each of deploy.environments in turn, with an approval, and
back again when the pods do not become ready. SYSTEMS are github, gitlab and jenkins; without any, those that were
rendered before are rendered again, at first github.

\b
    trtkit deploy ci github
    trtkit deploy ci gitlab jenkins --check

Writes .github/workflows/trtkit.yml, .gitlab-ci.yml or Jenkinsfile, and deploy/ci/rollout.sh, which all of them call.
docs/deploy-ci.md says which secrets they need."""


@click.command(help=_HELP)
@click.argument("systems", nargs=-1, type=click.Choice(SYSTEMS))
@output_options("the project's")
def ci(
    systems: tuple[str, ...], project_path: Path | None, output: Path | None, check: bool, force: bool, as_json: bool
) -> int:
    """Render the pipelines that were asked for, and those that are there."""
    from trtkit import __version__
    from trtkit.deploy.ci.facts import facts_of
    from trtkit.deploy.ci.render import SYSTEMS as RENDERERS
    from trtkit.deploy.ci.render import files, remarks
    from trtkit.deploy.files import changes
    from trtkit.deploy.plan import make_plans
    from trtkit.project import find_project

    project = find_project(project_path)
    folder = output or project.root
    there = {change.file for change in changes({}, folder, "ci")}
    before = [name for name, (file, _) in RENDERERS.items() if file in there]
    chosen = [name for name in SYSTEMS if name in systems or name in before] or ["github"]
    facts = facts_of(project, *make_plans(project), __version__)
    for remark in (*remarks(facts), *_misplaced(folder)):
        sys.stderr.write(f"warning: {remark}\n")
    return deliver(
        files(facts, chosen), folder, "ci", check=check, force=force, as_json=as_json,
        after="next: commit them, with deploy/ and trtkit.yaml; their first lines say which secrets they need",
    )  # fmt: skip


def _misplaced(folder: Path) -> list[str]:
    """Pipelines are read from the root of a checkout."""
    root = next((above for above in folder.resolve().parents if (above / ".git").exists()), None)
    if root is None or (folder / ".git").exists():
        return []
    return [f"{folder} is not the root of its git repository ({root}), and pipelines are read and run only there"]
