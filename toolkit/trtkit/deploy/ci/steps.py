# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The shell commands of a pipeline, one job after the other; the three systems only wrap them."""

from __future__ import annotations

import re

from trtkit.deploy.ci.facts import Facts, quoted

REPORTS = "reports"
"""Where every report goes: JUnit XML, SARIF, JSON, bundles of measurements."""
BASELINES = "perf-baseline"
"""A committed folder with a bundle for each model, to compare with."""
ROLLOUT = "deploy/ci/rollout.sh"
DOCKERFILE, CONTEXT = "deploy/docker/Dockerfile", "."
CREDENTIALS: dict[str, tuple[str, ...]] = {
    "pvc": (),
    "baked": (),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gcs": ("CLOUDSDK_AUTH_ACCESS_TOKEN",),
    "azure": ("AZCOPY_SPA_APPLICATION_ID", "AZCOPY_SPA_CLIENT_SECRET", "AZCOPY_TENANT_ID"),
}
"""Secrets that `publish` needs, by the kind of storage, under the names that the programs read."""
LOGIN: dict[str, dict[str, str]] = {
    "pvc": {}, "baked": {}, "s3": {}, "gcs": {}, "azure": {"AZCOPY_AUTO_LOGIN_TYPE": "SPN"},
}  # fmt: skip
"""Further variables that it needs."""


def install(facts: Facts) -> list[str]:
    """A virtual environment with trtkit, and what the project needs beside it."""
    lines = ["python -m venv .ci-venv", '.ci-venv/bin/python -m pip install --quiet "$TRTKIT"']
    if facts.has_requirements:
        lines.append(".ci-venv/bin/python -m pip install --quiet --requirement requirements.txt")
    if facts.has_tests:
        lines.append(".ci-venv/bin/python -m pip install --quiet pytest")
    return lines


def unit_tests(facts: Facts) -> list[str]:
    """The project's own tests; [] where it has none."""
    return [f"python -m pytest --junitxml={REPORTS}/tests.xml tests"] if facts.has_tests else []


def build(facts: Facts, target: str) -> list[str]:
    """Everything that is served; what did not change comes from .trtkit. [] where the repository is committed."""
    chosen = f" --target {quoted(target)}" if target else ""
    return [f"trtkit build{chosen} --report {REPORTS}/build.json"] if facts.builds else []


def lint(facts: Facts) -> list[str]:
    """The repository, as the deployed server will take it."""
    plan = facts.base
    gpus = f" --gpus {plan.spec.gpu.count}" if plan.gpu else ""
    return [
        f"trtkit lint {quoted(facts.repository)} --image {quoted(plan.image)}{gpus} --format sarif "
        f"--output {REPORTS}/lint.sarif"
    ]


def load_and_compare(facts: Facts) -> list[str]:
    """Every model in the real server on the CPU, its golden samples, and the accuracy gates of `evaluate:`."""
    if facts.builds:
        return [f"trtkit validate --junit {REPORTS}/validate.xml --report {REPORTS}/validate.json"]
    return [f"trtkit infer {quoted(name)} --random --repository {quoted(facts.repository)}" for name in facts.served]


def perf(facts: Facts) -> list[str]:
    """Measure each model, and compare with its baseline where one is committed."""
    lines = []
    for name in facts.models:
        bundle = f"{REPORTS}/perf/{name}"
        measure = (
            f"trtkit perf -m {quoted(name)} --concurrency 4 --stability 20 --fail-on-errors "
            f"--junit {quoted(f'{REPORTS}/perf-{name}.xml')} --bundle {quoted(bundle)}"
        )
        baseline = quoted(f"{BASELINES}/{name}")
        lines += [
            measure,
            f"if [ -d {baseline} ]; then",
            f"  trtkit perf compare {baseline} {quoted(bundle)} --fail-if {quoted(facts.perf_gate)}",
            "else",
            f"  echo {quoted(f'no {BASELINES}/{name} to compare with: commit {bundle} of a good run as that')}",
            "fi",
        ]
    return lines


def render(facts: Facts) -> list[str]:
    """What is deployed, with the digest of exactly what was built and tested."""
    image = [f"trtkit deploy docker{_of_image(facts)}"] if facts.makes_image else []
    return [*image, "trtkit deploy k8s", "trtkit deploy lint deploy"]


def publish(facts: Facts, name: str) -> list[str]:
    """Where the pods read the repository: a claim, a bucket; an image was pushed before."""
    stage = next(stage for stage in facts.stages if stage.name == name)
    storage, repository = stage.plan.spec.storage, quoted(facts.repository)
    if storage.kind == "pvc":
        script = f"deploy/k8s/upload/{stage.overlay.rpartition('/')[2]}/upload.sh"
        return [f"if [ -f {script} ]; then sh {script} {repository}; fi"]
    if storage.kind == "s3":
        where = _s3(storage.uri or "")
        # weights first: no config is ever there before what it names
        first = f"aws s3 sync --no-progress --exclude '*.pbtxt' {repository} {where}"
        return [first, f"aws s3 sync --no-progress {repository} {where}"]
    if storage.kind == "gcs":
        first = f"gcloud storage rsync --recursive --exclude='.*\\.pbtxt$' {repository} {quoted(storage.uri or '')}"
        return [first, f"gcloud storage rsync --recursive {repository} {quoted(storage.uri or '')}"]
    if storage.kind == "azure":
        return [f"azcopy copy {repository}/'*' {quoted(_azure(storage.uri or ''))} --recursive"]
    return []


def _s3(uri: str) -> str:
    """s3://bucket/path, or s3://https://host:443/bucket/path of a store of one's own, as the AWS CLI takes them."""
    found = re.fullmatch(r"s3://(https?://[^/]+)/(.*)", uri)
    return f"--endpoint-url {quoted(found[1])} {quoted(f's3://{found[2]}')}" if found else quoted(uri)


def _azure(uri: str) -> str:
    """as://account/container/path as the address that azcopy takes."""
    account, _, rest = uri.removeprefix("as://").partition("/")
    return f"https://{account}.blob.core.windows.net/{rest}"


def image_of(facts: Facts) -> list[str]:
    """The environment variable IMAGE: what the rendered manifests call the image."""
    read = "python -c 'import json, sys; print(json.load(sys.stdin)[\"image\"])'"
    return [f"IMAGE=$(trtkit deploy plan{_of_image(facts)} --json | {read})"]


def _of_image(facts: Facts) -> str:
    """The option of the environment whose image is built."""
    environment = facts.image_stage.plan.environment if facts.image_stage else ""
    return f" --environment {quoted(environment)}" if environment else ""


def roll_out(name: str) -> list[str]:
    """Apply, wait, and go back when it does not hold."""
    return [f"sh {ROLLOUT} {quoted(name)}"]
