# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the block that are less than what is needed, and measurements that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import deploy_project
from perf_results import measurement
from trtkit.deploy.plan import make_plan
from trtkit.errors import ProjectError

GOOD = {"load_s": 41.0, "host_mib": 1000.0, "shm_mib": 3.0, "models": {"encoder": 4.0}, "digest": "x"}
INF = float("inf")


def warnings(folder: Path, *models: str, **deploy: Any) -> str:
    return "\n".join(make_plan(deploy_project(folder, {"target": "cpu", **deploy}, models or ("encoder",))).warnings)


def test_less_memory_than_a_pod_is_expected_to_use(tmp_path: Path) -> None:
    """300 for the server, 1 + 1 for the weights, 64 of /dev/shm; the buffer is on top."""
    said = warnings(tmp_path, resources={"memory": "365Mi"})
    assert "resources.memory 365Mi is 365 MiB, and a pod is expected to use 366 (server 300 + weights 1 + " in said
    assert "resources.memory" not in warnings(tmp_path / "b", resources={"memory": "366Mi"})


def test_less_shm_than_computed(tmp_path: Path) -> None:
    said = warnings(tmp_path, "echo", resources={"shm": "63Mi"})
    assert "resources.shm 63Mi is 63 MiB, less than the 64 that were computed" in said
    assert "resources.shm" not in warnings(tmp_path / "b", "echo", resources={"shm": "64Mi"})


def test_a_start_shorter_than_the_estimate(tmp_path: Path) -> None:
    assert "server.startup_seconds 4 is less than the estimated load time 5 s" in warnings(
        tmp_path, server={"startup_seconds": 4}
    )
    assert "startup_seconds" not in warnings(tmp_path / "b", server={"startup_seconds": 6})


def test_a_version_of_kubernetes_that_nobody_tried(tmp_path: Path) -> None:
    assert "kube_version 1.99 is newer than 1.36" in warnings(tmp_path, kube_version="1.99")
    assert "kube_version" not in warnings(tmp_path / "b", kube_version="1.36")


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"schema": 2}, "measured.json has schema 2, and this trtkit reads 1"),
        ({"models": {"other": 3.0}}, "measured none of the served models (encoder) but other; run `trtkit deploy"),
        ({"host_mib": 1e300}, "host_mib 1e+300 and shm_mib 3 have to be positive numbers below 1e+09"),
        ({"load_s": INF}, "load_s inf"),
        ({"models": None}, "measured.json is no report of `trtkit deploy measure`"),
    ],
)
def test_a_load_measurement_that_cannot_be(tmp_path: Path, over: dict[str, Any], sentence: str) -> None:
    (tmp_path / "measured.json").write_text(json.dumps({**GOOD, **over}))
    with pytest.raises(ProjectError) as caught:
        make_plan(deploy_project(tmp_path, {"target": "cpu", "measurements": {"load": "measured.json"}}))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({"requests_per_s": -1.0}, "a load of 'encoder' has a figure that is negative or no number"),
        ({"requests_per_s": float("nan")}, "has a figure that is negative or no number"),
        ({"resources": {"server_cpu_share_mean": INF}}, "has a figure that is negative or no number"),
        ({"error_count": INF}, "perf.json is no report of `trtkit perf --json`"),
        (None, "perf.json holds no measurement"),
    ],
)
def test_a_load_report_that_cannot_be(tmp_path: Path, over: dict[str, Any] | None, sentence: str) -> None:
    rows = [] if over is None else [{**measurement(model="encoder").to_json(), **over}]
    (tmp_path / "perf.json").write_text(json.dumps({"measurements": rows}))
    with pytest.raises(ProjectError) as caught:
        make_plan(deploy_project(tmp_path, {"target": "cpu", "measurements": {"perf": ["perf.json"]}}))
    assert sentence in str(caught.value)
