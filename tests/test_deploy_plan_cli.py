# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy plan``: its table, its JSON, its picture, its refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy_matrix import deploy_project, matrix_project
from trtkit.cli import run
from trtkit.deploy.density import report_of
from trtkit.deploy.plan import plan_and_place
from trtkit.deploy.plan_plot import bars
from trtkit.deploy.plan_report import notes

DOCS = Path(__file__).parent.parent / "docs"
A100 = {"product": "NVIDIA-A100-SXM4-80GB"}


def test_the_table_has_every_figure_its_reason_and_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix_project(tmp_path, "hpa")
    assert run(["deploy", "plan", "--project", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for part in (
        "1 x nvidia.com/gpu of NVIDIA-L40S, driver 570.86 or newer",
        "2 to 8, by hpa on pending; a startup probe every 5 s", "a further pod needs 1 gpu, and 6 are free",
        "preStop 15 + exit timeout 60 + 15", "--exit-timeout-secs=60 # requests in flight",
        "warning: start-up is estimated",
        "│ shared GPU │ 46,068 MiB │ 77 │ 154 │",
    ):  # fmt: skip
        assert part in out, part


def test_the_json_has_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = matrix_project(tmp_path, "environments")
    assert run(["deploy", "plan", "--project", str(tmp_path), "-e", "production", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    plan, _ = plan_and_place(project, "production")
    assert (value["environment"], value["kube_version"], value["digest"]) == ("production", "1.33", plan.digest)
    figures = {(group, name): figure for group, names in value["figures"].items() for name, figure in names.items()}
    assert figures == {(group, name): figure.to_json() for group, name, figure in plan.figures()}
    assert value["command"] == plan.arguments
    assert value["startup_probe"] == {"period_s": plan.startup.period, "failures": plan.startup.failures}
    assert value["scaling"] == {"kind": "hpa", "metric": "pending", "max_replicas": 12, "counted": []}
    described = (DOCS / "deploy.md").read_text().partition("plan --json`")[2].partition("\n## ")[0]
    assert [key for key in value if f"`{key}`" not in described] == []
    assert [row["way"] for row in value["density"]["ways"]] == ["whole GPU", "shared GPU"]


def test_refusals_are_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy_project(tmp_path, {"target": "cpu", "server": {"control_mode": "poll"}})
    assert run(["deploy", "plan", "--project", str(tmp_path)]) == 2
    assert "poll reads a model while it is being copied" in capsys.readouterr().err
    assert run(["deploy", "plan", "--project", str(tmp_path), "-e", "nowhere"]) == 2
    assert "environment 'nowhere' is not in trtkit.yaml" in capsys.readouterr().err
    assert run(["deploy", "plan", "--project", str(tmp_path), "--kube-version", "v1.30.2"]) == 2
    assert "'v1.30.2' is no version of Kubernetes" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_picture_is_drawn_the_same_each_time(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix_project(tmp_path, "mig")
    files = [tmp_path / "a" / f"one.{suffix}", tmp_path / f"two.{suffix}"]
    for file in files:
        assert run(["deploy", "plan", "--project", str(tmp_path), "--plot", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    if suffix == "svg":
        assert ElementTree.fromstring(files[0].read_text()).tag.endswith("svg")
    assert "picture written to" in capsys.readouterr().out


def test_a_picture_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix_project(tmp_path, "cpu")
    assert run(["deploy", "plan", "--project", str(tmp_path), "--json", "--plot", "a.jpg"]) == 2
    assert "a picture is .svg or .png" in capsys.readouterr().err


def test_the_bars_add_up(tmp_path: Path) -> None:
    deploy = {"target": "gpu", "gpu": {**A100, "time_slicing": 3}, "cluster": {"node_memory": "256Gi"}}
    plan, _ = plan_and_place(deploy_project(tmp_path, deploy))
    gpu, host = bars(plan)
    assert plan.memory.gpu is not None
    assert gpu[0] == "GPU memory"
    assert sum(size for _, size in gpu[1]) == 3 * plan.memory.gpu.whole
    assert gpu[2:] == (81920, "NVIDIA-A100-SXM4-80GB")
    assert sum(size for _, size in host[1]) == plan.memory.host.whole
    assert host[2] == 256 * 1024


def test_which_models_together_on_one_gpu(tmp_path: Path) -> None:
    """Two copies of a model with 60 sessions of 30 MiB: 1,801 MiB each, and 564 for the server."""
    deploy = {"target": "gpu", "gpu": {"memory_mib": 6000}, "cluster": {"node_memory": "64Gi"}}
    project = deploy_project(tmp_path, deploy)
    repository = tmp_path / "model_repository"
    first, second = repository / "encoder", repository / "second"
    with (first / "1" / "weights.bin").open("wb") as file:
        file.truncate(30 << 20)
    config = (first / "config.pbtxt").read_text().replace("count: 2", "count: 60")
    (first / "config.pbtxt").write_text(config)
    shutil.copytree(first, second)
    (second / "config.pbtxt").write_text(config.replace('"encoder"', '"second"'))
    plan, place = plan_and_place(project)
    report = report_of(plan, place)
    assert {name: need // 100 for name, need in report.models.items()} == {"encoder": 18, "second": 18}
    assert [each.models for each in report.bins] == [("encoder", "second")]  # 4,166 of 95 % of 6,000
    assert report.by_host == 64 * 1024 // plan.memory.host.whole
    assert "GPU 1: encoder, second" in notes(report)[0]
