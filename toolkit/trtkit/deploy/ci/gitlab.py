# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""GitLab CI: one pipeline; environments after the first are deployed by hand."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.ci import steps
from trtkit.deploy.ci.facts import Facts, Stage, quoted
from trtkit.deploy.figure import Noted
from trtkit.deploy.yaml_out import dump

FILE = ".gitlab-ci.yml"
_COMMENT = """Rendered by `trtkit deploy ci gitlab` from trtkit.yaml; docs/deploy-ci.md of trtkit explains it.
Variables, protected, masked, and each for its environment only: KUBECONFIG (of type file){more}.
Approval: Settings > CI/CD > Protected environments."""


def pipeline(facts: Facts) -> str:
    """The file."""
    names = [name for stage in facts.stages for name in steps.CREDENTIALS[stage.plan.spec.storage.kind]]
    names += ["REGISTRY_USERNAME", "REGISTRY_PASSWORD"] if facts.makes_image else []
    document = {
        "stages": ["test", "gate", "package", "deploy"],
        "workflow": {"rules": [
            {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}, {"if": _on_branch(facts)},
        ]},
        "variables": {
            "TRTKIT": Noted(facts.package, "deploy.ci.package; of cpu and gpu exactly one"),
            "KUBECTL_IMAGE": Noted("alpine/k8s:1.34.1", "any image with a shell and kubectl; pin it by digest"),
            "PIP_CACHE_DIR": "$CI_PROJECT_DIR/.cache/pip",
        },
        "default": {"image": f"python:{facts.base.spec.ci.python}", "interruptible": True, "timeout": "1h"},
        ".trtkit": {
            "before_script": _start(facts),
            "rules": [{"changes": [*facts.paths, FILE]}],
            "cache": {
                "key": {"files": ["trtkit.yaml"], "prefix": "trtkit"},
                "paths": [".cache/pip", *([".trtkit"] if facts.builds else [])],
                "policy": "pull",
            },
        },
        **_jobs(facts),
    }  # fmt: skip
    return dump(document, comment=_COMMENT.format(more="".join(f", {name}" for name in dict.fromkeys(names))))


def _on_branch(facts: Facts) -> str:
    return f'$CI_COMMIT_BRANCH == "{facts.base.spec.ci.branch}"'


def _jobs(facts: Facts) -> dict[str, Any]:
    jobs: dict[str, Any] = {"test": _test(facts)}
    if facts.on_cpu and facts.models:
        jobs["perf"] = _perf(facts)
    if facts.gpu_runner:
        jobs["gpu"] = _gpu(facts, facts.gpu_runner)
    jobs["render"] = _render(facts, [*jobs])
    before = "render"
    if facts.makes_image:
        jobs["push-image"] = _image(facts)  # `image` is a word of GitLab
        before = "push-image"
    for number, stage in enumerate(facts.stages):
        jobs[f"deploy-{stage.name}"] = _deploy(facts, stage, before, by_hand=number > 0 or len(facts.stages) == 1)
        before = f"deploy-{stage.name}"
    return jobs


def _start(facts: Facts) -> list[str]:
    return [*steps.install(facts), 'export PATH="$PWD/.ci-venv/bin:$PATH"', f"mkdir -p {steps.REPORTS}"]


def _built(facts: Facts) -> list[str]:
    """What the next jobs need; a committed repository they have."""
    return [facts.repository, ".trtkit"] if facts.builds else []


def _artifacts(paths: list[str], *, junit: bool = True) -> dict[str, Any]:
    reports = {"reports": {"junit": f"{steps.REPORTS}/*.xml"}} if junit else {}
    return {"when": "always", "expire_in": "1 week", "paths": [*paths, steps.REPORTS], **reports}


def _test(facts: Facts) -> dict[str, Any]:
    lines = [
        *steps.unit_tests(facts), *steps.build(facts, facts.test_target), *steps.lint(facts),
        *(steps.load_and_compare(facts) if facts.on_cpu else []),
    ]  # fmt: skip
    cache = {
        "key": {"files": ["trtkit.yaml"], "prefix": "trtkit"},
        "paths": [".cache/pip", *([".trtkit"] if facts.builds else [])],
        "policy": "pull-push",
    }
    return {
        "extends": ".trtkit", "stage": "test", "script": lines, "cache": cache, "artifacts": _artifacts(_built(facts)),
    }  # fmt: skip


def _perf(facts: Facts) -> dict[str, Any]:
    script = ["\n".join(steps.perf(facts)) + "\n"]
    return {"extends": ".trtkit", "stage": "gate", "needs": ["test"], "script": script, "artifacts": _artifacts([])}


def _gpu(facts: Facts, label: str) -> dict[str, Any]:
    lines = [*steps.build(facts, facts.target), *steps.load_and_compare(facts), "\n".join(steps.perf(facts)) + "\n"]
    return {
        "extends": ".trtkit", "stage": "gate", "needs": ["test"],
        "tags": [Noted(label, "a runner with the target's GPU")],
        "timeout": "2h", "variables": {"TRTKIT": facts.gpu_package}, "script": lines,
        "artifacts": _artifacts(_built(facts)),
    }  # fmt: skip


def _render(facts: Facts, needs: list[str]) -> dict[str, Any]:
    """The last job with trtkit; what comes after needs only docker or kubectl."""
    on_gpu = bool(facts.gpu_runner) and facts.plans_on_gpu
    rebuild = [] if on_gpu or facts.target == facts.test_target else steps.build(facts, facts.target)
    image = [*steps.image_of(facts), 'echo "IMAGE=$IMAGE" > image.env'] if facts.makes_image else []
    artifacts = _artifacts([facts.repository, "deploy"], junit=False)
    if facts.makes_image:
        artifacts["reports"] = {"dotenv": "image.env"}
    from_job = "gpu" if on_gpu else "test"
    return {
        "extends": ".trtkit", "stage": "package",
        "needs": [{"job": job, "artifacts": job == from_job} for job in needs],
        "rules": [{"if": _on_branch(facts), "changes": [*facts.paths, FILE]}],
        "script": [*rebuild, *steps.render(facts), *image], "artifacts": artifacts,
    }  # fmt: skip


def _image(facts: Facts) -> dict[str, Any]:
    cache = quoted(f"{facts.registry}:build-cache")
    host = quoted(facts.registry.partition("/")[0])
    return {
        "stage": "package", "needs": ["render"],
        "rules": [{"if": _on_branch(facts), "changes": [*facts.paths, FILE]}],
        "image": "docker:28", "services": ["docker:28-dind"],
        "variables": {"DOCKER_TLS_CERTDIR": "/certs", "DOCKER_HOST": "tcp://docker:2376", "DOCKER_TLS_VERIFY": "1",
                      "DOCKER_CERT_PATH": "/certs/client"},
        "script": [
            f'printf "%s" "$REGISTRY_PASSWORD" | docker login --username "$REGISTRY_USERNAME" --password-stdin {host}',
            "docker context create builder", "docker buildx create --use builder",
            f"docker buildx build --file {steps.DOCKERFILE} --tag \"$IMAGE\" --push --metadata-file image.json "
            f"--cache-from type=registry,ref={cache} --cache-to type=registry,mode=max,ref={cache} {steps.CONTEXT}",
            "grep containerimage.digest image.json",
        ],
        "artifacts": {"paths": ["image.json"], "expire_in": "1 year"},
    }  # fmt: skip


def _deploy(facts: Facts, stage: Stage, before: str, *, by_hand: bool) -> dict[str, Any]:
    minutes = 2 * stage.timeout.whole // 60 + 20
    rule = {"if": _on_branch(facts), "changes": [*facts.paths, FILE]}
    storage = stage.plan.spec.storage
    region = {"AWS_DEFAULT_REGION": storage.region} if storage.region else {}
    env = {**region, **steps.LOGIN[storage.kind]}
    by_somebody = {"when": Noted("manual", "somebody has to start it"), "allow_failure": False}
    host = stage.plan.spec.exposure.host
    address = {"url": f"https://{host}"} if host else {}
    needs: list[Any] = [{"job": "render", "artifacts": True}]
    needs += [{"job": before, "artifacts": False}] if before != "render" else []
    return {
        "stage": "deploy", "image": "$KUBECTL_IMAGE", "needs": needs,
        "rules": [{**rule, **by_somebody} if by_hand else rule],
        "environment": {"name": stage.name, **address},
        "resource_group": Noted(stage.name, "one rollout at a time"),
        "interruptible": False,
        "timeout": Noted(f"{minutes}m", f"twice {stage.timeout.text}, forth and back, and 20 for the upload"),
        **({"variables": env} if env else {}),
        "script": [*steps.publish(facts, stage.name), *steps.roll_out(stage.name)],
    }  # fmt: skip
