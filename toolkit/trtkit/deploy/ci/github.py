# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""GitHub Actions: one workflow, its third-party actions pinned to commits.

Every commit below was read in public workflows that name the version beside it. Nothing of an event (a title, a
branch's name) stands in a shell command; what a command needs comes by environment variables.
"""

from __future__ import annotations

from typing import Any

from trtkit.deploy.ci import steps
from trtkit.deploy.ci.facts import Facts, Stage
from trtkit.deploy.figure import Noted
from trtkit.deploy.yaml_out import dump

FILE = ".github/workflows/trtkit.yml"
ACTIONS = {
    "actions/checkout": ("11bd71901bbe5b1630ceea73d27597364c9af683", "v4.2.2"),
    "actions/setup-python": ("a26af69be951a213d495a4c3e4e4022e16d87065", "v5.6.0"),
    "actions/cache": ("5a3ec84eff668545956fd18022155c47e93e2684", "v4.2.3"),
    "actions/upload-artifact": ("ea165f8d65b6e75b540449e92b4886f43607fa02", "v4.6.2"),
    "actions/download-artifact": ("d3f86a106a0bac45b974a628896c90dbdf5c8093", "v4.3.0"),
    "github/codeql-action/upload-sarif": ("1b549b9259bda1cb5ddde3b41741a82a2d15a841", "v3.28.13"),
    "docker/setup-buildx-action": ("b5ca514318bd6ebac0fb2aedd5d36ec1b5c232a2", "v3.10.0"),
    "docker/login-action": ("74a5d142397b4f367a81961eba4e8cd7edddf772", "v3.4.0"),
    "docker/build-push-action": ("263435318d21b8e681c14492fe198d362a7d2c83", "v6.18.0"),
}
"""Commits by action, with the tag that they had."""
RUNNER = "ubuntu-24.04"
_FORK = "github.event.pull_request.head.repo.fork != true"
_SARIF = f"!cancelled() && {_FORK} && hashFiles('{steps.REPORTS}/lint.sarif') != ''"
_COMMENT = """Rendered by `trtkit deploy ci github` from trtkit.yaml; docs/deploy-ci.md of trtkit explains it.
Secrets, each in its environment's own settings: KUBECONFIG_DATA (a kubeconfig that may change one namespace){more}.
Approval: Settings > Environments > required reviewers. Until there are some, nothing waits.
There, too: deployment branches, only {branch}. Until then a workflow of any branch reads these secrets."""


def workflow(facts: Facts) -> str:
    """The file."""
    paths = [*facts.paths, FILE]
    branch = facts.base.spec.ci.branch
    document = {
        "name": "trtkit",
        "on": {
            "push": {"branches": [branch], "paths": Noted(paths, "what models are made from; nothing else starts it")},
            "pull_request": {"paths": paths},
            "workflow_dispatch": None,
        },
        "permissions": {"contents": "read"},
        "concurrency": {
            "group": "trtkit-${{ github.ref }}",
            "cancel-in-progress": Noted("${{ github.event_name == 'pull_request' }}", "no rollout is cut off"),
        },
        "defaults": {"run": {"shell": Noted("bash", "with -e and pipefail")}},
        "env": {"TRTKIT": Noted(facts.package, "deploy.ci.package; of cpu and gpu exactly one")},
        "jobs": _jobs(facts),
    }  # fmt: skip
    return dump(document, comment=_COMMENT.format(more=_secrets(facts), branch=branch))


def _secrets(facts: Facts) -> str:
    names = [name for stage in facts.stages for name in _credentials(stage)]
    names += ["REGISTRY_USERNAME", "REGISTRY_PASSWORD"] if facts.makes_image and not _on_github(facts) else []
    return "".join(f", {name}" for name in dict.fromkeys(names))


def _jobs(facts: Facts) -> dict[str, Any]:
    jobs = {"test": _test(facts)}
    if facts.on_cpu and facts.models:
        jobs["perf"] = _perf(facts)
    if facts.gpu_runner:
        jobs["gpu"] = _gpu(facts, facts.gpu_runner)
    jobs["package"] = _package(facts, [*jobs])
    before = "package"
    for stage in facts.stages:
        jobs[f"deploy-{stage.name}"] = _deploy(facts, stage, before)
        before = f"deploy-{stage.name}"
    return jobs


def _test(facts: Facts) -> dict[str, Any]:
    on_cpu = steps.load_and_compare(facts) if facts.on_cpu else []
    return {
        "name": "build, load, compare",
        "runs-on": RUNNER,
        "timeout-minutes": 60,
        "permissions": {"contents": "read", "security-events": Noted("write", "for the findings of the linter")},
        "steps": [
            *_start(facts),
            *_cache(facts),
            *_runs(
                ("unit tests", steps.unit_tests(facts)),
                ("build what changed", steps.build(facts, facts.test_target)),
                ("lint the repository", steps.lint(facts)),
            ),
            {**_use("github/codeql-action/upload-sarif", sarif_file=f"{steps.REPORTS}/lint.sarif"),
             "name": "show the findings", "if": f"${{{{ {_SARIF} }}}}"},
            *_runs(("load every model, compare, gate the accuracy", on_cpu)),
            *_keep(facts, "built", "test"),
        ],
    }  # fmt: skip


def _perf(facts: Facts) -> dict[str, Any]:
    return {
        "name": "gate the performance",
        "needs": ["test"],
        "runs-on": RUNNER,
        "timeout-minutes": 30,
        "steps": [
            *_start(facts),
            *_fetch(facts, "built"),
            *_runs(("measure and compare", steps.perf(facts))),
            _reports("perf"),
        ],
    }


def _gpu(facts: Facts, label: str) -> dict[str, Any]:
    """On the target's own GPU; never for a fork, whose code would run on the project's machine."""
    return {
        "name": "the same on the target's GPU",
        "needs": ["test"],
        "if": _FORK,
        "runs-on": ["self-hosted", label],
        "timeout-minutes": 120,
        "env": {"TRTKIT": facts.gpu_package},
        "steps": [
            *_start(facts),
            *_fetch(facts, "built"),
            *_runs(
                ("build for the target", steps.build(facts, facts.target)),
                ("load every model, compare, gate the accuracy", steps.load_and_compare(facts)),
                ("measure and compare", steps.perf(facts)),
            ),
            *_keep(facts, "built-on-gpu", "gpu"),
        ],
    }


def _package(facts: Facts, needs: list[str]) -> dict[str, Any]:
    on_gpu = bool(facts.gpu_runner) and facts.plans_on_gpu
    rebuild = [] if on_gpu or facts.target == facts.test_target else steps.build(facts, facts.target)
    packages = {"packages": Noted("write", "to push the image")} if facts.makes_image and _on_github(facts) else {}
    return {
        "name": "render, push the image",
        "needs": needs,
        "if": f"github.event_name != 'pull_request' && github.ref == 'refs/heads/{facts.base.spec.ci.branch}'",
        "runs-on": RUNNER,
        "timeout-minutes": 60,
        "permissions": {"contents": "read", **packages},
        "steps": [
            *_start(facts),
            *_fetch(facts, "built-on-gpu" if on_gpu else "built"),
            *_runs(("build for the target", rebuild), ("render with this digest", steps.render(facts))),
            *(_image(facts) if facts.makes_image else []),
            _use("actions/upload-artifact", name="deployable", path=f"{facts.repository}\ndeploy\n",
                 **{"if-no-files-found": "error", "include-hidden-files": True}),
        ],
    }  # fmt: skip


def _image(facts: Facts) -> list[dict[str, Any]]:
    host = facts.registry.partition("/")[0]
    user, password = ("github.actor", "secrets.GITHUB_TOKEN") if _on_github(facts) else (
        "secrets.REGISTRY_USERNAME", "secrets.REGISTRY_PASSWORD",
    )  # fmt: skip
    name = [*steps.image_of(facts), 'echo "image=$IMAGE" >> "$GITHUB_OUTPUT"']
    return [
        {"name": "name the image after the digest", "id": "image", "run": _script(name)},
        _use("docker/setup-buildx-action"),
        _use("docker/login-action", registry=host, username=f"${{{{ {user} }}}}", password=f"${{{{ {password} }}}}"),
        {
            **_use(
                "docker/build-push-action", context=steps.CONTEXT, file=steps.DOCKERFILE, push=True,
                tags="${{ steps.image.outputs.image }}",
                **{"cache-from": "type=gha", "cache-to": "type=gha,mode=max"},
            ),
            "name": "build and push", "id": "push",
        },
        {
            "name": "say the digest",
            "env": {"DIGEST": "${{ steps.push.outputs.digest }}", "IMAGE": "${{ steps.image.outputs.image }}"},
            "run": 'echo "pushed $IMAGE@$DIGEST" >> "$GITHUB_STEP_SUMMARY"',
        },
    ]  # fmt: skip


def _deploy(facts: Facts, stage: Stage, before: str) -> dict[str, Any]:
    minutes = 2 * stage.timeout.whole // 60 + 20
    return {
        "name": f"deploy to {stage.name}",
        "needs": [before],
        "runs-on": RUNNER,
        "timeout-minutes": Noted(minutes, f"twice {stage.timeout.text}, forth and back, and 20 for the upload"),
        "environment": Noted(stage.name, "waits for its reviewers"),
        "concurrency": {"group": f"deploy-{stage.name}", "cancel-in-progress": False},
        "steps": [
            _use("actions/download-artifact", name="deployable"),
            {
                "name": "say which cluster",
                "env": {"KUBECONFIG_DATA": "${{ secrets.KUBECONFIG_DATA }}"},
                "run": _script(
                    ['umask 077', 'printf "%s" "$KUBECONFIG_DATA" > "$RUNNER_TEMP/kubeconfig"',
                     'echo "KUBECONFIG=$RUNNER_TEMP/kubeconfig" >> "$GITHUB_ENV"']
                ),
            },
            *_uploads(facts, stage),
            *_runs(("roll out, or back", steps.roll_out(stage.name))),
        ],
    }  # fmt: skip


def _uploads(facts: Facts, stage: Stage) -> list[dict[str, Any]]:
    lines = steps.publish(facts, stage.name)
    if not lines:
        return []
    names = _credentials(stage)
    region = {"AWS_DEFAULT_REGION": stage.plan.spec.storage.region} if stage.plan.spec.storage.region else {}
    env = {
        **{name: f"${{{{ secrets.{name} }}}}" for name in names},
        **region,
        **steps.LOGIN[stage.plan.spec.storage.kind],
    }
    step = {"name": "bring the models to where pods read them", "run": _script(lines)}
    return [{**step, "env": env} if env else step]


def _credentials(stage: Stage) -> tuple[str, ...]:
    return steps.CREDENTIALS[stage.plan.spec.storage.kind]


def _on_github(facts: Facts) -> bool:
    return facts.registry.startswith("ghcr.io/")


def _start(facts: Facts) -> list[dict[str, Any]]:
    path = [*steps.install(facts), 'echo "$PWD/.ci-venv/bin" >> "$GITHUB_PATH"', f"mkdir -p {steps.REPORTS}"]
    return [
        _use("actions/checkout", **{"persist-credentials": False}),
        _use("actions/setup-python", **{
            "python-version": facts.base.spec.ci.python, "cache": "pip",
            "cache-dependency-path": "trtkit.yaml\nrequirements*.txt\n",
        }),
        {"name": "install", "run": _script(path)},
    ]  # fmt: skip


def _cache(facts: Facts) -> list[dict[str, Any]]:
    """The build's content-addressed store: what did not change is not built again."""
    if not facts.builds:
        return []
    files = ", ".join(f"'{path}'" for path in facts.paths if not path.startswith(("deploy/", "perf-baseline/")))
    prefix = f"trtkit-${{{{ runner.os }}}}-{facts.base.spec.ci.python}-"
    key = f"{prefix}${{{{ hashFiles({files}) }}}}"
    return [_use("actions/cache", path=".trtkit", key=key, **{"restore-keys": f"{prefix}\n"})]


def _keep(facts: Facts, name: str, of: str) -> list[dict[str, Any]]:
    """What was built, for the next jobs, and the reports, also of what failed."""
    kept = _use(
        "actions/upload-artifact", name=name, path=f"{facts.repository}\n.trtkit\n",
        **{"if-no-files-found": "error", "include-hidden-files": True, "retention-days": 7},
    )  # fmt: skip
    return [*([kept] if facts.builds else []), _reports(of)]


def _fetch(facts: Facts, name: str) -> list[dict[str, Any]]:
    """What another job built; a committed repository came with the sources."""
    return [_use("actions/download-artifact", name=name)] if facts.builds else []


def _reports(of: str) -> dict[str, Any]:
    uploaded = _use("actions/upload-artifact", name=f"reports-{of}", path=steps.REPORTS)
    return {**uploaded, "name": "keep the reports", "if": "${{ !cancelled() }}"}


def _runs(*named: tuple[str, list[str]]) -> list[dict[str, Any]]:
    return [{"name": name, "run": _script(lines)} for name, lines in named if lines]


def _script(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines) if len(lines) > 1 else lines[0]


def _use(action: str, **inputs: Any) -> dict[str, Any]:
    commit, tag = ACTIONS[action]
    return {"uses": Noted(f"{action}@{commit}", tag), **({"with": inputs} if inputs else {})}
