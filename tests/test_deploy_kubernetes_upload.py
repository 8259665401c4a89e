# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The script that fills a claim, run with a kubectl that runs everything on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from deploy_objects import KUBE_VERSIONS, parsed, plans_of, project_of
from deploy_tools import program, run, write_all
from trtkit.deploy.kubernetes import upload
from trtkit.deploy.kubernetes.meta import selector
from trtkit.deploy.kubernetes.storage import claim_name

KUBECTL = """#!/bin/sh
echo "$@" >>"$KUBECTL_LOG"
[ -n "$KUBECTL_FAILS" ] && [ "$4" = "$KUBECTL_FAILS" ] && exit 1
# kubectl --namespace NAMESPACE exec --stdin POD -- sh -c SCRIPT, with the claim in a folder
[ "$3" = exec ] || exit 0
exec sh -c "$(printf %s "$9" | sed "s#/claim#$CLAIM#g")"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Rendered files, a stub of kubectl, a copy of the repository, and an empty claim."""
    project = project_of("cpu")
    write_all(upload.files(project, plans_of("cpu")[""]), tmp_path / "upload")
    shutil.copytree(project.repository, tmp_path / "repository")
    (tmp_path / "claim").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    return tmp_path


def filled(place: Path, fails: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "CLAIM": str(place / "claim"),
        "KUBECTL_LOG": str(place / "log"), "KUBECTL_FAILS": fails,
    }  # fmt: skip
    command = ["sh", str(place / "upload" / "upload.sh"), str(place / "repository")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_repository_arrives_whole_and_the_pod_goes(place: Path) -> None:
    (place / "repository" / "echo" / "1" / "__pycache__").mkdir()
    (place / "repository" / "echo" / "1" / "__pycache__" / "model.pyc").write_bytes(b"stale")
    done = filled(place)
    assert done.returncode == 0, done.stderr
    digest = plans_of("cpu")[""].digest[:12]
    assert [entry.name for entry in (place / "claim").iterdir()] == [digest]
    assert content(place / "claim" / digest) == content(project_of("cpu").repository)
    log = (place / "log").read_text().splitlines()
    assert "claim.yaml" in log[0]
    assert "pod.yaml" in log[2]
    assert log[-1].startswith("delete --filename")
    assert log[-1].endswith("pod.yaml --wait=false")


def test_a_digest_that_is_there_is_left_alone(place: Path) -> None:
    there = place / "claim" / plans_of("cpu")[""].digest[:12]
    there.mkdir()
    (there / "mark").write_text("there before")
    done = filled(place)
    assert done.returncode == 0
    assert "is there already" in done.stdout
    assert [entry.name for entry in there.iterdir()] == ["mark"]


def test_an_empty_folder_that_a_node_made_is_filled(place: Path) -> None:
    there = place / "claim" / plans_of("cpu")[""].digest[:12]
    there.mkdir()
    done = filled(place)
    assert done.returncode == 0, done.stderr
    assert content(there) == content(project_of("cpu").repository)


def test_a_version_that_came_after_rendering_is_refused(place: Path) -> None:
    """Its server would answer from it, as the newest one is served, under a digest that does not know it."""
    shutil.copytree(place / "repository" / "echo" / "1", place / "repository" / "echo" / "2")
    done = filled(place)
    assert done.returncode == 1
    assert "which had fewer files; run trtkit deploy k8s again" in done.stderr
    assert not (place / "log").exists()


def test_a_pod_that_an_earlier_run_left_behind_goes_first(place: Path) -> None:
    filled(place)
    log = (place / "log").read_text().splitlines()
    applied = next(number for number, line in enumerate(log) if line.startswith("apply") and "pod.yaml" in line)
    assert log[applied - 1].startswith("delete --filename")
    assert log[applied - 1].endswith("--ignore-not-found")


def test_a_copy_that_was_cut_off_is_begun_again(place: Path) -> None:
    left = place / "claim" / f".incoming-{plans_of('cpu')[''].digest[:12]}"
    left.mkdir()
    (left / "half").write_text("half")
    assert filled(place).returncode == 0
    assert [entry.name for entry in (place / "claim").iterdir()] == [plans_of("cpu")[""].digest[:12]]
    assert not (place / "claim" / plans_of("cpu")[""].digest[:12] / "half").exists()


def test_another_repository_is_refused_before_anything_is_sent(place: Path) -> None:
    (place / "repository" / "echo" / "config.pbtxt").write_text("changed")
    done = filled(place)
    assert done.returncode == 1
    assert "run trtkit deploy k8s again" in done.stderr
    assert not (place / "log").exists()


def test_a_file_that_arrives_damaged_is_never_in_its_place(place: Path) -> None:
    tar = shutil.which("tar")
    damaging = place / "bin" / "tar"
    script = '[ "$3" = -xf ] && echo more >>"$2/echo/config.pbtxt"'
    damaging.write_text(f'#!/bin/sh\n{tar} "$@" || exit 1\n{script}\nexit 0\n')
    damaging.chmod(0o755)
    done = filled(place)
    assert done.returncode != 0
    assert [entry.name for entry in (place / "claim").iterdir()] == [f".incoming-{plans_of('cpu')[''].digest[:12]}"]
    assert (place / "log").read_text().splitlines()[-1].startswith("delete --filename")


def test_without_the_pod_nothing_is_copied(place: Path) -> None:
    assert filled(place, fails="--for=condition=Ready").returncode != 0
    log = (place / "log").read_text().splitlines()
    assert log[-2].endswith("describe pod/digits-upload persistentvolumeclaim/digits-models")  # the events say why
    assert log[-1].startswith("delete --filename")
    assert not list((place / "claim").iterdir())


def test_the_script_needs_a_repository(place: Path) -> None:
    done = subprocess.run(["sh", str(place / "upload" / "upload.sh")], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "usage: upload.sh REPOSITORY" in done.stderr


def test_shellcheck_finds_nothing(place: Path) -> None:
    run(program("shellcheck"), place / "upload" / "upload.sh")


def test_the_pod_is_chosen_by_no_service_and_mounts_the_claim_for_writing() -> None:
    plan = plans_of("cpu")[""]
    files = upload.files(project_of("cpu"), plan)
    policy, pod = parsed(files["pod.yaml"]).values()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert not selector(plan).items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": claim_name(plan)}
    assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    for item in [policy, pod, *parsed(files["claim.yaml"]).values()]:
        for kube_version in KUBE_VERSIONS:
            kubernetes_validate.validate(item, kube_version, strict=True)


@pytest.mark.parametrize("row", ["s3_keys", "gcs", "baked"])
def test_what_has_no_claim_of_ours_needs_no_upload(row: str) -> None:
    assert upload.files(project_of(row), plans_of(row)[""]) == {}
