# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import trtkit
from trtkit.container_build import _job_name, _yaml_lines, docker_command, in_container_files, kubernetes_job
from trtkit.errors import ProjectError
from trtkit.project import Project, load_project

IMAGE = "nvcr.io/nvidia/tritonserver:24.08-py3"
MODELS = "models:\n  digits: {source: {onnx: m.onnx}}\n  enc: {source: {torch: m.py:net}, inputs: {x: {shape: [1]}}}\n"


def project_with(folder: Path, target: str, more: str = MODELS) -> Project:
    (folder / "m.onnx").touch()
    (folder / "m.py").write_text("net = 1\n")
    (folder / "trtkit.yaml").write_text(f"targets:\n  l40s: {{{target}}}\n{more}")
    return load_project(folder / "trtkit.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_with(tmp_path, f'backend: tensorrt, image: "{IMAGE}", compute_capability: ["8.9", "9.0"]')


def arguments(command: str) -> list[str]:
    """What docker gets, as a shell with its own ``docker`` sees it."""
    show = 'docker() { printf "%s\\0" "$@"; }\n' + command
    done = subprocess.run(["bash", "-euc", show], capture_output=True, text=True, timeout=20, check=True, cwd="/")
    return done.stdout.split("\0")[:-1]


def test_the_docker_command_builds_in_the_image_on_a_gpu_as_this_user(project: Project) -> None:
    args = arguments(docker_command(project, ["digits"], "l40s", project.targets["l40s"]))
    assert args[0] == "run"
    assert {"--rm", "--gpus=1", f"--user={os.getuid()}:{os.getgid()}", "--workdir=/project"} <= set(args)
    assert "--mount=type=bind,source=/,target=/project" in args
    assert args[-4:-1] == [IMAGE, "bash", "-ceu"]
    requirement, install, build = args[-1].splitlines()
    assert shlex.split(requirement) == [f"trtkit=trtkit[cpu]=={trtkit.__version__}"]
    assert shlex.split(install)[-2:] == ["${TRTKIT_REQUIREMENT:-$trtkit}", "tensorrt==10.3.0.*"]
    assert build.endswith("-m trtkit build digits --project trtkit.yaml --target l40s")


def test_the_inner_script_runs_its_steps_in_order(project: Project, tmp_path: Path) -> None:
    script = arguments(docker_command(project, [], "l40s", project.targets["l40s"]))[-1]
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "${PYTHONPATH-none} $*"\n')
    python.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TRTKIT_REQUIREMENT": "./a b.whl[cpu]"}
    done = subprocess.run(["bash", "-ceu", script], env=env, capture_output=True, text=True, timeout=20, check=True)
    assert "--target /tmp/trtkit ./a b.whl[cpu] tensorrt" in done.stdout, "a wheel, where no index has trtkit"
    env["TRTKIT_REQUIREMENT"] = ""  # as in the Job
    done = subprocess.run(["bash", "-ceu", script], env=env, capture_output=True, text=True, timeout=20, check=True)
    install, build = done.stdout.splitlines()
    assert install.startswith("none -m pip install")
    assert f"trtkit[cpu,torch]=={trtkit.__version__}" in install
    assert build == "/tmp/trtkit -m trtkit build --project trtkit.yaml --target l40s"


def test_a_requirement_of_ones_own(project: Project) -> None:
    script = arguments(
        docker_command(project, [], "l40s", project.targets["l40s"], requirement="./dist/trtkit 1.whl[cpu]")
    )[-1]
    assert shlex.split(script.splitlines()[0]) == ["trtkit=./dist/trtkit 1.whl[cpu]"]


def test_one_job_for_each_compute_capability(project: Project) -> None:
    jobs = list(yaml.safe_load_all(kubernetes_job(project, ["enc"], "l40s", project.targets["l40s"])))
    pods = [job["spec"]["template"]["spec"] for job in jobs]
    selectors = [{key.rpartition(".")[2]: value for key, value in pod["nodeSelector"].items()} for pod in pods]
    assert selectors == [{"major": "8", "minor": "9"}, {"major": "9", "minor": "0"}]
    assert len({job["metadata"]["name"] for job in jobs}) == 2
    (container,) = pods[0]["containers"]
    docker = arguments(docker_command(project, ["enc"], "l40s", project.targets["l40s"]))
    assert container["command"] == docker[-3:]
    assert container["image"] == IMAGE
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert jobs[0]["apiVersion"] == "batch/v1"
    assert pods[0]["restartPolicy"] == "Never"
    assert pods[0]["volumes"][0] == {"name": "project", "persistentVolumeClaim": {"claimName": "trtkit-project"}}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pods[0]["volumes"]}


def test_nodes_by_product(project: Project) -> None:
    text = kubernetes_job(project, [], "l40s", project.targets["l40s"], claim="data", gpu_product="NVIDIA-L40S")
    (job,) = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "data"}


def test_a_target_without_a_capability_selects_no_nodes(tmp_path: Path) -> None:
    project = project_with(tmp_path, f'backend: tensorrt, image: "{IMAGE}"')
    (job,) = yaml.safe_load_all(kubernetes_job(project, [], "l40s", project.targets["l40s"]))
    assert "nodeSelector" not in job["spec"]["template"]["spec"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_reads_the_jobs(project: Project, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(kubernetes_job(project, [], "l40s", project.targets["l40s"]))
    (tmp_path / "kustomization.yaml").write_text("resources: [job.yaml]\n")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kind: Job") == 2


def test_the_files_say_that_nothing_was_run(project: Project) -> None:
    script, job = in_container_files(project, ["enc"], "l40s", project.targets["l40s"])
    assert script.parent == job.parent == project.state / "container"
    said = "trtkit has not run this: run it on a GPU of compute capability 8.9, then on one of 9.0."
    assert said in script.read_text()
    assert said in job.read_text()
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=20)
    assert os.access(script, os.X_OK)
    assert len(list(yaml.safe_load_all(job.read_text()))) == 2
    assert in_container_files(project, ["digits"], "l40s", project.targets["l40s"])[0] != script


def test_the_script_runs_docker_in_the_projects_folder(project: Project, tmp_path: Path) -> None:
    script, _ = in_container_files(project, ["digits"], "l40s", project.targets["l40s"])
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    docker.chmod(0o755)
    env = {"PATH": f"{docker.parent}:/usr/bin:/bin"}
    done = subprocess.run([str(script)], env=env, cwd="/", capture_output=True, text=True, timeout=20, check=True)
    assert f"--mount=type=bind,source={project.root},target=/project" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("target", "more", "words"),
    [
        (f'backend: onnxruntime, image: "{IMAGE}"', MODELS, "2:3: target 'l40s' is of backend onnxruntime; only"),
        ("backend: tensorrt", MODELS, "target 'l40s' names no image to build in; add `image:"),
        (f'backend: tensorrt, image: "{IMAGE}"', f"repository: ../models\n{MODELS}", "outside the project's folder"),
        ('backend: tensorrt, image: "tritonserver:24.02-py3"', MODELS, "8.6.3.1 of tritonserver:24.02-py3 is not on"),
        ('backend: tensorrt, image: "tritonserver:26.06-py3"', MODELS, "only 11 is known; give all numbers"),
        ('backend: tensorrt, image: ours, tensorrt_version: "10"', MODELS, "only 10 is known"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_in_a_container(tmp_path: Path, target: str, more: str, words: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    project = project_with(folder, target, more)
    for make in (docker_command, kubernetes_job, in_container_files):
        with pytest.raises(ProjectError, match=re.escape(words)):
            make(project, [], "l40s", project.targets["l40s"])


@pytest.mark.parametrize("block", ["evaluate: {data: ../e.npz}", "calibration: {data: ../e.npz}"])
def test_data_outside_of_the_project_are_not_seen_in_the_container(tmp_path: Path, block: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "e.npz").touch()
    models = f"models:\n  digits:\n    source: {{onnx: m.onnx}}\n    {block}\n  other: {{source: {{onnx: m.onnx}}}}\n"
    project = project_with(tmp_path / "project", f'backend: tensorrt, image: "{IMAGE}"', models)
    with pytest.raises(ProjectError, match=r"trtkit\.yaml:6:\d+: .*e\.npz lies outside the project's folder"):
        docker_command(project, ["digits"], "l40s", project.targets["l40s"])
    assert docker_command(project, ["other"], "l40s", project.targets["l40s"])


@pytest.mark.parametrize(("version", "pin"), [("", None), (', tensorrt_version: "8.6.1"', "tensorrt==8.6.1.*")])
def test_a_custom_image_brings_its_own_tensorrt_unless_the_target_says_which(
    tmp_path: Path, version: str, pin: str | None
) -> None:
    project = project_with(tmp_path, f"backend: tensorrt, image: ours/triton{version}")
    script = arguments(docker_command(project, [], "l40s", project.targets["l40s"]))[-1]
    assert ("import tensorrt" in script) == (pin is None)
    assert pin is None or pin in script


ANY = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\u2028\u2029\ufeff\ufffe\uffff"))
SCALARS = ANY | st.integers() | st.booleans()


@given(st.recursive(st.dictionaries(ANY, SCALARS, min_size=1), lambda inner: st.dictionaries(
    ANY, SCALARS | inner | st.lists(SCALARS | inner, min_size=1), min_size=1), max_leaves=12))  # fmt: skip
def test_what_is_written_as_yaml_is_read_back(value: dict[str, Any]) -> None:
    assert yaml.safe_load("\n".join(_yaml_lines(value))) == value


def test_a_script_of_several_lines_is_kept() -> None:
    value = {"a": [{"b": ["x", "one 'two'\nthree: #4"]}]}
    assert yaml.safe_load("\n".join(_yaml_lines(value))) == value
    assert json.dumps("one 'two'\nthree: #4") not in "\n".join(_yaml_lines(value))


@given(st.lists(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.\-]{0,80}\Z"), min_size=1, max_size=3))
def test_a_job_has_a_name_that_kubernetes_takes(parts: list[str]) -> None:
    name = _job_name("trtkit-build", *parts)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_job_names_stay_apart() -> None:
    assert len({_job_name("b", name) for name in ("a.b", "a-b", "a_b", "A-b", "x" * 70, "x" * 71)}) == 6
