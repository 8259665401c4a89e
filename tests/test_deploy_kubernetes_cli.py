# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit deploy k8s` and the checkers of other people on all it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy_matrix import MATRIX, matrix_project
from deploy_objects import plans_of, project_of
from deploy_tools import program, run, write_all
from trtkit.cli import run as trtkit
from trtkit.deploy.kubernetes import kustomize, render
from trtkit.deploy.kubernetes.upload import files as upload_files

SKIPPED = {
    "CKV_K8S_11": "CPU limits: a limit throttles a server within its period, and adds latency; requests share fairly",
    "CKV_K8S_15": "imagePullPolicy Always: releases are fixed tags, and images of 10 GB on the node make starts quick",
    "CKV_K8S_40": "uid above 10000: triton-server of NVIDIA's images is 1000, and owns /opt/tritonserver",
    "CKV_K8S_43": "image by digest: whoever mirrors the image knows it; image: in the project file takes NAME@sha256:…",
    "CKV_K8S_35": "secrets as files: the server reads a bucket's keys from variables only",
}
"""Checks of checkov that our objects fail on purpose, and why."""
OF_THE_UPLOAD = {"CKV_K8S_8": "it only waits to be written to", "CKV_K8S_9": "no Service chooses it"}
"""Those that only the pod fails that an upload runs in."""


def failed_checks(folder: Path) -> Iterator[dict[str, Any]]:
    options = ("--framework", "kubernetes", "--output", "json", "--soft-fail", "--compact", "--quiet")
    report = json.loads(run(program("checkov"), "--directory", folder, *options, "--skip-download", timeout=240))
    assert report["summary"]["resource_count"] > 100
    assert report["summary"]["passed"] > 1000
    assert not report["summary"]["parsing_errors"]
    yield from report["results"]["failed_checks"]


@pytest.mark.slow
def test_checkov_finds_only_what_we_mean(tmp_path: Path) -> None:
    places: dict[str, str] = {}  # many rows have the same: each text is checked once
    for row in MATRIX:
        base = plans_of(row)[""]
        rendered = kustomize.files(base, {}) | {
            f"upload/{name}": text for name, text in upload_files(project_of(row), base).items()
        }
        places |= {text: f"{row}/{name}" for name, text in rendered.items()}
    write_all({place: text for text, place in places.items()}, tmp_path)
    found: dict[str, set[str]] = {}
    for check in failed_checks(tmp_path):
        if check["check_id"] in OF_THE_UPLOAD and check["resource"].startswith("Pod."):
            continue
        found.setdefault(f"{check['check_id']} {check['check_name']}", set()).add(
            f"{check['file_path']} {check['resource']}"
        )
    unknown = {name: sorted(where)[:3] for name, where in found.items() if name.partition(" ")[0] not in SKIPPED}
    assert not unknown
    assert {name.partition(" ")[0] for name in found} == set(SKIPPED), "a skip that nothing needs any more"


def test_everything_is_written_then_kept_and_what_is_edited_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = matrix_project(tmp_path / "digits", "environments")
    monkeypatch.chdir(project.root)
    assert trtkit(["deploy", "k8s", "--check"]) == 1
    assert not (project.root / "deploy").exists()
    assert trtkit(["deploy", "k8s"]) == 0
    out = capsys.readouterr().out
    assert "  kubectl apply -k deploy/k8s/overlays/production\n" in out
    assert "  sh deploy/k8s/upload/staging/upload.sh model_repository\n" in out
    for place in ("base", "overlays/staging", "overlays/production"):
        assert yaml.safe_load((project.root / "deploy" / "k8s" / place / "kustomization.yaml").read_text())["resources"]
    assert (project.root / "deploy" / "k8s" / "upload" / "staging" / "upload.sh").stat().st_mode & 0o111
    assert trtkit(["deploy", "k8s", "--check"]) == 0
    edited = project.root / "deploy" / "k8s" / "base" / "services.yaml"
    edited.write_text("mine")
    assert trtkit(["deploy", "k8s"]) != 0
    assert edited.read_text() == "mine"
    assert "services.yaml" in capsys.readouterr().err
    assert trtkit(["deploy", "k8s", "--force"]) == 0
    assert edited.read_text() != "mine"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("s3_keys", "# Secret bucket-keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) has to be in namespace triton"),
        ("ingress", "# Secret digits-tls (tls.crt, tls.key) has to be in namespace triton"),
        ("keda", "# Secret rabbitmq (host) has to be in namespace triton"),
    ],
)
def test_the_secrets_that_are_needed_are_named(
    row: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "here"
    assert trtkit(["deploy", "k8s", "--project", str(project_of(row).root), "--output", str(output)]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "named"), [("gateway", "class nginx"), ("gateway_existing", "gateway public"), ("ingress", ""), ("cpu", "")]
)
def test_a_proxy_that_the_network_policy_cannot_know_is_pointed_at(
    row: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_of(row)
    assert (
        trtkit(["deploy", "k8s", "--project", str(project.root / "trtkit.yaml"), "--output", str(tmp_path / "a")]) == 0
    )
    printed = capsys.readouterr().out
    label = "# kubectl label namespace PROXYS_NAMESPACE trtkit.io/triton-client=true"
    assert (label in printed) == bool(named)
    assert not named or f"where the proxy's pods ({named}) run" in printed


def test_the_cluster_s_version_gates_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = matrix_project(tmp_path / "digits", "cpu")
    texts = []
    for version in ("1.28", "1.33"):
        output = tmp_path / version
        arguments = ["--project", str(project.root), "--kube-version", version, "--output", str(output), "--json"]
        assert trtkit(["deploy", "k8s", *arguments]) == 0
        written = json.loads(capsys.readouterr().out)
        assert written["files"]["k8s/base/deployment.yaml"] == "create"
        texts.append((output / "k8s" / "base" / "deployment.yaml").read_text())
    assert "exec:" in texts[0]
    assert "exec:" not in texts[1]
    assert "sleep:" in texts[1]


@pytest.mark.parametrize("arguments", [["--kube-version", "2"], ["--kube-version", "new"]])
def test_a_version_that_is_none_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = matrix_project(tmp_path / "digits", "cpu")
    assert trtkit(["deploy", "k8s", "--project", str(project.root), *arguments]) not in (0, 70)
    assert arguments[1] in capsys.readouterr().err
    assert not (project.root / "deploy").exists()


@pytest.mark.parametrize("row", MATRIX)
def test_every_file_has_one_place_and_no_path_of_this_machine(row: str) -> None:
    plans = dict(plans_of(row))
    base = plans.pop("")
    files = render.files(project_of(row), base, plans)
    assert all(name.split("/")[0] in ("k8s", "helm") for name in files)
    assert not [name for name, text in files.items() if str(project_of(row).root) in text]
    again = render.files(project_of(row), base, plans)
    assert files == again


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from trtkit.cli import run; run(['deploy', 'k8s', '--help']); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    out = run(sys.executable, "-c", code)
    assert "overlays/production" in out
    assert not {"numpy", "onnx", "grpc", "yaml", "pydantic"} & set(out.splitlines()[-1].split())
