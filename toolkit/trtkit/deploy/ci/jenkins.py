# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Jenkins: a declarative pipeline for a multibranch project."""

from __future__ import annotations

from trtkit.deploy.ci import steps
from trtkit.deploy.ci.facts import Facts, Stage

FILE = "Jenkinsfile"
_HEAD = """// Rendered by `trtkit deploy ci jenkins` from trtkit.yaml; docs/deploy-ci.md of trtkit explains it.
// Agents: `docker` with a Docker daemon, `kubectl` with kubectl{agents}.
// Credentials: kubeconfig-ENVIRONMENT (secret file){more}.
"""
_OPTIONS = ["disableConcurrentBuilds()", "timeout(time: 2, unit: 'DAYS')", "timestamps()", "skipDefaultCheckout(true)"]
_LOGIN = (
    "usernamePassword(credentialsId: 'registry', usernameVariable: 'REGISTRY_USERNAME', "
    "passwordVariable: 'REGISTRY_PASSWORD')"
)


def pipeline(facts: Facts) -> str:
    """The file."""
    names = {name: "secret text" for s in facts.stages for name in steps.CREDENTIALS[s.plan.spec.storage.kind]}
    registry = {"registry": "username and password"} if facts.makes_image else {}
    more = "".join(f", {name} ({kind})" for name, kind in {**names, **registry}.items())
    agents = f", `{facts.gpu_runner}` with the target's GPU" if facts.gpu_runner else ""
    return _HEAD.format(more=more, agents=agents) + "\n".join(_pipeline(facts)) + "\n"


def _pipeline(facts: Facts) -> list[str]:
    body = [
        "agent none",
        *_block("options", _OPTIONS),
        *_block("environment", [f"TRTKIT = {_string(facts.package)} // deploy.ci.package; of cpu and gpu exactly one"]),
        *_block("stages", _stages(facts)),
    ]  # fmt: skip
    return _block("pipeline", body)


def _stages(facts: Facts) -> list[str]:
    test = [
        *steps.unit_tests(facts), *steps.build(facts, facts.test_target), *steps.lint(facts),
        *(steps.load_and_compare(facts) if facts.on_cpu else []),
    ]  # fmt: skip
    found = _stage("build, load, compare", _python(facts), facts, [_checkout(facts, test)], stash="built")
    if facts.on_cpu and facts.models:
        found += _stage("gate the performance", _python(facts), facts, [_checkout(facts, steps.perf(facts), "built")])
    if facts.gpu_runner:
        lines = [*steps.build(facts, facts.target), *steps.load_and_compare(facts), *steps.perf(facts)]
        agent = [
            f"agent {{ label {_string(facts.gpu_runner)} }}",
            f"environment {{ TRTKIT = {_string(facts.gpu_package)} }}",
        ]
        found += _stage(
            "the same on the target's GPU", agent, facts, [_checkout(facts, lines, "built")], stash="built-on-gpu"
        )
    found += _package(facts)
    for number, stage in enumerate(facts.stages):
        found += _deploy(facts, stage, asks=number > 0 or len(facts.stages) == 1)
    return found


def _python(facts: Facts) -> list[str]:
    return [f"agent {{ docker {{ label 'docker'; image 'python:{facts.base.spec.ci.python}' }} }}"]


def _checkout(facts: Facts, lines: list[str], unstash: str = "") -> list[str]:
    """Steps in a workspace with the sources, trtkit, and what another stage kept."""
    start = ["set -eu", *steps.install(facts), 'export PATH="$PWD/.ci-venv/bin:$PATH"', f"mkdir -p {steps.REPORTS}"]
    fetch = [f"unstash '{unstash}'"] if unstash and facts.builds else []
    return ["checkout scm", *fetch, *_sh([*start, *lines])]


def _stage(
    name: str, head: list[str], facts: Facts, bodies: list[list[str]], *, stash: str = "", when: list[str] | None = None
) -> list[str]:
    folders = [facts.repository, "deploy"] if stash == "deployable" else [facts.repository, ".trtkit"]
    kept = ",".join(f"{folder}/**" for folder in folders)
    inner = [line for body in bodies for line in body]
    if stash == "deployable" or (stash and facts.builds):
        inner.append(f"stash name: '{stash}', includes: '{kept}', useDefaultExcludes: false")
    reports = [
        f"junit testResults: '{steps.REPORTS}/*.xml', allowEmptyResults: true",
        f"archiveArtifacts artifacts: '{steps.REPORTS}/**', allowEmptyArchive: true",
    ]
    content = [*head, *(when or []), *_block("steps", inner), *_block("post", _block("always", reports))]
    return _block(f"stage({_string(name)})", content)


def _package(facts: Facts) -> list[str]:
    on_gpu = bool(facts.gpu_runner) and facts.plans_on_gpu
    rebuild = [] if on_gpu or facts.target == facts.test_target else steps.build(facts, facts.target)
    image = [*steps.image_of(facts), 'printf "%s" "$IMAGE" > image.txt'] if facts.makes_image else []
    lines = _checkout(facts, [*rebuild, *steps.render(facts), *image], "built-on-gpu" if on_gpu else "built")
    named = [["stash name: 'image', includes: 'image.txt'"]] if image else []
    found = _stage("render", _python(facts), facts, [lines, *named], stash="deployable", when=_on_branch(facts))
    return found + (_image(facts) if facts.makes_image else [])


def _image(facts: Facts) -> list[str]:
    registry = facts.registry
    login = (
        'printf "%s" "$REGISTRY_PASSWORD" | docker login --username "$REGISTRY_USERNAME" --password-stdin '
        + (registry.partition("/")[0])
    )
    build = [
        "set -eu",
        login,
        'image=$(cat image.txt)',
        f'docker buildx build --file {steps.DOCKERFILE} --tag "$image" --push --metadata-file image.json '
        f"--cache-from type=registry,ref={registry}:build-cache "
        f"--cache-to type=registry,mode=max,ref={registry}:build-cache {steps.CONTEXT}",
    ]  # fmt: skip
    inner = [
        "checkout scm", "unstash 'deployable'", "unstash 'image'",
        *_block(f"withCredentials([{_LOGIN}])", _sh(build)), "archiveArtifacts artifacts: 'image.json'",
    ]  # fmt: skip
    return _block("stage('push the image')", ["agent { label 'docker' }", *_on_branch(facts), *_block("steps", inner)])


def _deploy(facts: Facts, stage: Stage, *, asks: bool) -> list[str]:
    storage = stage.plan.spec.storage
    bindings = [f"file(credentialsId: 'kubeconfig-{stage.name}', variable: 'KUBECONFIG')"]
    bindings += [f"string(credentialsId: '{name}', variable: '{name}')" for name in steps.CREDENTIALS[storage.kind]]
    env = {**({"AWS_DEFAULT_REGION": storage.region} if storage.region else {}), **steps.LOGIN[storage.kind]}
    exports = [f"export {name}={value}" for name, value in env.items()]
    lines = ["set -eu", *exports, *steps.publish(facts, stage.name), *steps.roll_out(stage.name)]
    minutes = 2 * stage.timeout.whole // 60 + 20
    approval = _block("input", [f"message 'Deploy to {stage.name}?'", "ok 'Deploy'"]) if asks else []
    limit = _block(f"timeout(time: {minutes}, unit: 'MINUTES')", _sh(lines))
    told = f"// twice {stage.timeout.text}, forth and back, and 20 min for the upload"
    body = ["unstash 'deployable'", told, *_block(f"withCredentials([{', '.join(bindings)}])", limit)]
    return _block(
        f"stage({_string(f'deploy to {stage.name}')})",
        ["agent { label 'kubectl' }", *_on_branch(facts, before_input=asks), *approval, *_block("steps", body)],
    )


def _on_branch(facts: Facts, *, before_input: bool = False) -> list[str]:
    """Of the deployed branch, and only what changed."""
    patterns = [f"changeset {_string(path)}" for path in (*facts.paths, FILE)]
    first = ["beforeInput true"] if before_input else []
    any_of = _block("anyOf", ["triggeredBy 'UserIdCause'", *patterns])
    return _block("when", [*first, "beforeAgent true", f"branch {_string(facts.base.spec.ci.branch)}", *any_of])


def _block(head: str, lines: list[str]) -> list[str]:
    return [f"{head} {{", *(f"    {line}" if line else "" for line in lines), "}"]


def _sh(lines: list[str]) -> list[str]:
    """A shell step; Groovy takes backslashes for its own in a text of three quotes."""
    return ["sh '''", *(line.replace("\\", "\\\\") for line in lines), "'''"]


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
