# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy measure`` on the real server, and what a plan makes of it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import ECHO_MODEL
from deploy_matrix import deploy_project
from trtkit.cli import run
from trtkit.deploy.measure import load_times
from trtkit.deploy.plan import make_plan
from trtkit.errors import ProjectError
from trtkit.project import load_project
from trtkit.server import start_server

SLOW = ECHO_MODEL.replace(
    "class TritonPythonModel:",
    "class TritonPythonModel:\n    def initialize(self, args):\n        import time\n\n        time.sleep(3)\n        "
    "self.kept = bytearray(200 << 20)\n        self.kept[:] = bytes([1]) * len(self.kept)\n",
)

LOG = """
I1121 23:59:58.500000 12 model_lifecycle.cc:472] "loading: encoder:1"
I1121 23:59:58.600000 12 model_lifecycle.cc:472] "loading: echo:1"
I1121 23:59:59.000000 12 model_lifecycle.cc:838] "successfully loaded 'echo'"
I1122 00:00:01.250000 12 model_lifecycle.cc:838] "successfully loaded 'encoder'"
I0822 10:00:00.000000 1 model_lifecycle.cc:462] loading: old:1
I0822 10:00:02.000000 1 model_lifecycle.cc:817] successfully loaded 'old'
I1122 00:00:01.250000 12 model_lifecycle.cc:838] "successfully loaded 'never_begun'"
"""


def test_load_times_are_read_from_the_log() -> None:
    assert load_times(LOG) == {"echo": 0.4, "encoder": 2.75, "old": 2.0}


@pytest.mark.triton
def test_a_slow_model_is_measured_and_planned_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that sleeps 3 s and keeps 200 MiB: the load, the memory, the budget, and a budget that is too small."""
    project = deploy_project(tmp_path, {"target": "old"}, ("echo",))
    (project.repository / "echo" / "1" / "model.py").write_text(SLOW)
    assert run(["deploy", "measure", "--project", str(tmp_path), "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "name it in trtkit.yaml: `deploy: {measurements: {load: deploy/measured.json}}`" in out
    value = json.loads((tmp_path / "deploy" / "measured.json").read_text())
    assert value["load_s"] > 3
    assert value["models"]["echo"] >= 3
    assert value["host_mib"] > 200
    assert value["shm_mib"] >= 1  # the Python backend's region, since 23.09
    assert value["context"]["triton"] == "2.51.0"
    named = {"target": "old", "measurements": {"load": "deploy/measured.json"}}
    document = json.loads((tmp_path / "trtkit.yaml").read_text())
    (tmp_path / "trtkit.yaml").write_text(json.dumps({**document, "deploy": named}))
    plan = make_plan(load_project(tmp_path / "trtkit.yaml"))
    assert plan.warnings == ()  # the digest is that of the measured repository
    assert plan.startup.load.origin == "measured"
    assert plan.startup.budget.whole >= 2 * value["load_s"]
    assert plan.memory.host.whole > 400
    tight = {**named, "server": {"startup_seconds": max(1, plan.startup.budget.whole // 12)}}
    (tmp_path / "trtkit.yaml").write_text(json.dumps({**document, "deploy": tight}))
    with pytest.raises(ProjectError, match=r"startup_seconds: 2 s, and loading took"):
        make_plan(load_project(tmp_path / "trtkit.yaml"))


@pytest.mark.triton
def test_the_real_server_takes_the_plans_flags(tmp_path: Path) -> None:
    """Those for its release, 24.10; the restricted APIs are closed, the others are not."""
    server_block = {"control_mode": "explicit", "strict": False}
    project = deploy_project(tmp_path, {"target": "old", "models": ["cached"], "server": server_block}, ("cached",))
    plan = make_plan(project)
    flags = [flag for flag, _ in plan.flags]
    with ExitStack() as stack:
        server = start_server(stack, project.repository, flags)

        def status(path: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> int:
            request = urllib.request.Request(f"http://{server.http_url}{path}", headers=headers or {}, data=data)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as exc:
                return exc.code

        key = next(flag for flag in flags if flag.startswith("--http-restricted-api")).rpartition("=")[2]
        assert (
            status("/v2/health/ready") == status("/v2/models/cached/ready") == status("/v2/models/cached/stats") == 200
        )
        assert status("/v2/systemsharedmemory/status") == status("/v2/logging") == 403
        assert status("/v2/repository/models/cached/unload", data=b"{}") == 403
        assert status("/v2/models/cached/ready") == 200
        assert status("/v2/systemsharedmemory/status", {"trtkit-admin": key}) == 200


def test_a_missing_model_is_said_before_a_server_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deploy_project(tmp_path, {"target": "cpu", "models": ["nobody"], "server": {"control_mode": "explicit"}})
    assert run(["deploy", "measure", "--project", str(tmp_path)]) == 2
    assert "model 'nobody' is not in" in capsys.readouterr().err
