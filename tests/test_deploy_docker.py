# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered Dockerfile and its ignore file: hadolint over the matrix, and what is decided in them."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import MATRIX, MODELS, ONE, deploy_project, matrix_project
from deploy_tools import program, run, write_all
from trtkit.deploy.docker.dockerfile import files
from trtkit.deploy.plan import make_plan
from trtkit.errors import ProjectError
from trtkit.project import load_project


def rendered(folder: Path, models: tuple[str, ...] = ONE, **deploy: Any) -> dict[str, str]:
    project = deploy_project(folder, {"target": "cpu", **deploy}, models)
    return files(project, make_plan(project))


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    paths = []
    for name in MATRIX:
        project = matrix_project(tmp_path / name, name)
        write_all(files(project, make_plan(project)), tmp_path / name / "deploy/docker")
        paths.append(tmp_path / name / "deploy/docker/Dockerfile")
    custom = rendered(tmp_path / "custom", image="registry.example.com/triton:1", server={"release": "25.01"})
    paths.append(write_all(custom, tmp_path / "custom") / "Dockerfile")
    run(program("hadolint"), *paths)
    for path in paths:
        # an ignored rule has its reason in the line above
        lines = path.read_text().splitlines()
        for before, line in pairwise(lines):
            if "hadolint ignore=" in line:
                codes = line.partition("=")[2].split(",")
                assert before.startswith("# ")
                assert len(codes) == 1 or all(code in before for code in codes)


def test_checkov_finds_nothing(tmp_path: Path) -> None:
    write_all(rendered(tmp_path / "p", ("encoder", "echo")), tmp_path / "out")
    options = ("--framework", "dockerfile", "--compact", "--quiet", "--skip-download")
    assert "Failed checks: 0" in run(program("checkov"), "--file", tmp_path / "out/Dockerfile", *options)


def test_only_the_backends_that_are_used_are_copied(tmp_path: Path) -> None:
    text = rendered(tmp_path / "a", ("encoder", "echo", "pipeline"))["Dockerfile"]
    assert _backends(text) == {"onnxruntime", "python"}
    assert "libgomp1" in text
    assert re.search(r"libpython3\.\d+", text)
    text = rendered(tmp_path / "b", ("encoder",))["Dockerfile"]
    assert _backends(text) == {"onnxruntime"}
    assert "python3-pip" not in text


def test_caches_are_copied_where_a_model_uses_them(tmp_path: Path) -> None:
    assert "caches/" not in rendered(tmp_path / "a")["Dockerfile"]
    assert "caches/local" in rendered(tmp_path / "b", ("cached",))["Dockerfile"]
    both = rendered(tmp_path / "c", ("cached",), compose={"redis": True})["Dockerfile"]
    assert "caches/redis" in both


def test_an_image_without_a_small_twin_is_used_whole(tmp_path: Path) -> None:
    text = rendered(tmp_path / "p", image="registry.example.com/triton:1", server={"release": "25.01"})["Dockerfile"]
    assert "AS full" not in text
    assert "BASE_TAG=" not in text.partition("ARG")[2]
    assert "USER 1000:1000" in text


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("localhost:5000/triton", "localhost:5000/triton", "latest"),
        ("triton:1", "triton", "1"),
        (f"r.example.com/triton@sha256:{'a' * 64}", "r.example.com/triton@sha256", "a" * 64),
    ],
)
def test_any_image_can_be_replaced_when_it_is_built(tmp_path: Path, image: str, name: str, tag: str) -> None:
    text = rendered(tmp_path / "p", image=image, server={"release": "25.01"})["Dockerfile"]
    assert f"ARG SERVER_REPOSITORY={name}\nARG SERVER_TAG={tag}\n" in text


def test_how_it_runs(tmp_path: Path) -> None:
    project = deploy_project(tmp_path / "p", {"target": "cpu", "server": {"startup_seconds": 90}})
    plan = make_plan(project)
    text = files(project, plan)["Dockerfile"]
    assert "--start-period=90s" in text
    assert re.search(r"^USER 1000:1000$", text, re.M)
    assert re.search(r"^STOPSIGNAL SIGTERM$", text, re.M)
    command = re.search(r"^CMD (\[.*?\])$", text, re.M | re.S)
    assert command is not None
    assert json.loads(command[1].replace("\\\n", "")) == plan.arguments
    # curl is what the probe runs, and it is installed
    assert 'CMD ["curl"' in text
    assert re.search(r"^ +ca-certificates curl ", text, re.M)


def test_what_changes_least_comes_first(tmp_path: Path) -> None:
    text = rendered(tmp_path / "p", ("encoder", "echo"), storage={"kind": "baked"}, registry="r.example.com/d")[
        "Dockerfile"
    ]
    order = [text.index(part) for part in ("apt-get install", "/backends/", "USER 1000", "COPY --chown", "repo-digest")]
    assert order == sorted(order)


def test_baked_models_are_copied_one_by_one_and_mounted_ones_not(tmp_path: Path) -> None:
    baked = rendered(tmp_path / "a", ("encoder", "echo"), storage={"kind": "baked"}, registry="r.example.com/d")
    assert baked["Dockerfile"].count("COPY --chown=1000:1000 model_repository/") == 2
    assert "trtkit.io/repo-digest" in baked["Dockerfile"]
    mounted = rendered(tmp_path / "b", ("encoder", "echo"))
    assert "model_repository" not in mounted["Dockerfile"] + mounted["Dockerfile.dockerignore"]
    assert "repo-digest" not in mounted["Dockerfile"]


def test_packages_that_python_models_import_are_listed(tmp_path: Path) -> None:
    project = deploy_project(tmp_path / "p", {"target": "cpu"}, ("encoder", "echo", "tracker"))
    plan = make_plan(project)
    version = project.repository / "echo/1"
    (version / "model.py").write_text(
        "import json\nimport numpy as np\nimport helper\nfrom PIL import Image\nfrom . import beside\n"
        "import triton_python_backend_utils as pb_utils\n\ndef later():\n    import no_such_package.inner\n"
    )
    (version / "helper.py").write_text("import os\n")
    (version / "beside.py").write_text("")
    found = files(project, plan)
    listed = [line.partition("  #")[0] for line in found["requirements.txt"].splitlines()[1:]]
    assert [line.partition("==")[0] for line in listed] == ["no_such_package", "pillow"]
    assert "requirements.txt" in found["Dockerfile"]
    run(program("hadolint"), write_all(found, tmp_path / "p/deploy/docker") / "Dockerfile")
    assert "!deploy/docker/requirements.txt" in found["Dockerfile.dockerignore"]


def test_a_repository_outside_of_the_project_is_refused(tmp_path: Path) -> None:
    project = deploy_project(tmp_path / "p", {"target": "cpu"})
    (tmp_path / "p/model_repository").rename(tmp_path / "elsewhere")
    value = json.loads(project.file.read_text())
    project.file.write_text(json.dumps({**value, "repository": "../elsewhere"}))
    outside = load_project(project.file)
    with pytest.raises(ProjectError, match="outside of the project's folder"):
        files(outside, make_plan(outside))


def test_the_rows_of_the_matrix_bake_what_they_say(tmp_path: Path) -> None:
    for name in MATRIX:
        project = deploy_project(tmp_path / name, MATRIX[name], MODELS.get(name, ONE))
        plan = make_plan(project)
        assert ("COPY --chown" in files(project, plan)["Dockerfile"]) is plan.baked


def _backends(text: str) -> set[str]:
    return set(re.findall(r"/opt/tritonserver/backends/(\w+) ", text))
