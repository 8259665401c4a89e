# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A build publishes nothing that the server would refuse, and serve adds the flags that configs need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import onnx_models
from trtkit.build import build_models
from trtkit.build_lint import planned_tree
from trtkit.errors import BuildError
from trtkit.project import load_project
from trtkit.repository import Publication

PROJECT = """\
models:
  m:
    source: {onnx: m.onnx}
    config:
      %s
  twice:
    ensemble:
      - {model: m, inputs: {x: IN}, outputs: {y: OUT}}
"""


def write(folder: Path, line: str) -> None:
    onnx.save(onnx_models.matmul_dynamic_batch(), str(folder / "m.onnx"))
    (folder / "trtkit.yaml").write_text(PROJECT % line)


def test_what_the_server_would_refuse_is_not_published(tmp_path: Path) -> None:
    write(tmp_path, "dynamic_batching: {preferred_batch_size: [64]}")
    results, error = build_models(load_project(tmp_path / "trtkit.yaml"))
    assert isinstance(error, BuildError)
    assert "trtkit.yaml:4:5: model 'm' is not published, because the server would refuse it: BAT003" in str(error)
    assert [bool(result.error) for result in results] == [True, True], "the ensemble would have no step"
    assert not (tmp_path / "model_repository" / "m").exists()
    write(tmp_path, "dynamic_batching: {preferred_batch_size: [4]}")
    results, error = build_models(load_project(tmp_path / "trtkit.yaml"))
    assert error is None
    assert [result.version for result in results] == [1, 1]


def test_a_published_model_stays_when_its_next_config_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, "response_cache: {enable: true}")
    assert build_models(load_project(tmp_path / "trtkit.yaml"))[1] is None
    before = (tmp_path / "model_repository" / "m" / "config.pbtxt").read_bytes()
    write(tmp_path, "dynamic_batching: {priority_levels: 2}")
    _, error = build_models(load_project(tmp_path / "trtkit.yaml"))
    assert "default priority level must be in range [1, 2] for m" in str(error)
    assert (tmp_path / "model_repository" / "m" / "config.pbtxt").read_bytes() == before


def test_a_mistake_that_every_config_has_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, "dynamic_batching: {preferred_batch_size: [64]}\n    configs: {a: {}, b: {}}")
    _, error = build_models(load_project(tmp_path / "trtkit.yaml"), ["m"])
    assert str(error).count("BAT003") == 1


def test_warm_up_data_that_no_config_reads_are_not_published(tmp_path: Path) -> None:
    write(tmp_path, "model_warmup: []\n    configs: {warm: {}}")
    project = load_project(tmp_path / "trtkit.yaml")
    results, error = build_models(project, ["m"])
    assert error is None
    assert not (tmp_path / "model_repository" / "m" / "warmup").exists()
    results, _ = build_models(project, ["m"])
    assert [result.up_to_date for result in results] == [True]


def test_the_tree_is_the_repository_as_it_will_be(tmp_path: Path) -> None:
    for file, text in {"m/config.pbtxt": "old", "m/configs/a.pbtxt": "a", "m/1/model.onnx": "1", "n/x": "x"}.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    plan = tmp_path / "n" / "x"
    tree = planned_tree(
        tmp_path,
        [
            Publication("m", "new", {"model.onnx": plan}, {"warmup/w": plan}, {}, {"a": None, "b": "b"}),
            Publication("e", "ensemble", {}, {}, {}),
        ],
    )
    assert [entry.name for entry in tree.entries("")] == ["e", "m", "n"]
    assert [(e.name, e.kind) for e in tree.entries("m")] == [
        ("1", "folder"), ("2", "folder"), ("config.pbtxt", "file"), ("configs", "folder"), ("warmup", "folder"),
    ]  # fmt: skip
    assert [entry.name for entry in tree.entries("m/configs")] == ["b.pbtxt"]
    assert [entry.name for entry in tree.entries("m/2")] == ["model.onnx"]
    assert [entry.name for entry in tree.entries("e")] == ["1", "config.pbtxt"]
    assert tree.entries("e/1") == []
    for file, content in {"m/config.pbtxt": b"new", "m/2/model.onnx": b"x", "n/x": b"x"}.items():
        with tree.open(file) as stream:
            assert stream.read() == content
    for missing in ("m/3", "q"):
        with pytest.raises(OSError, match=missing):
            tree.entries(missing)


def serve_dry(repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", "serve", "--repository", str(repository), "--dry-run", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_serve_adds_the_flag_that_a_config_needs(tmp_path: Path) -> None:
    write(tmp_path, "response_cache: {enable: true}")
    build_models(load_project(tmp_path / "trtkit.yaml"))
    repository = tmp_path / "model_repository"
    shown = serve_dry(repository)
    assert shown.stdout.endswith("--cache-config=local,size=104857600\n")
    assert shown.stderr == "added --cache-config=local,size=104857600, which m's config.pbtxt needs\n"
    given = serve_dry(repository, "--", "--cache-config=local,size=1024")
    assert given.stdout.count("--cache-config") == 1
    assert given.stderr == ""
    assert "--cache-config" not in serve_dry(repository, "--model", "twice").stdout


def test_the_flags_are_those_of_the_config_that_is_served(tmp_path: Path) -> None:
    write(tmp_path, "response_cache: {enable: true}\n    configs: {plain: {response_cache: null}, same: {}}")
    assert build_models(load_project(tmp_path / "trtkit.yaml"))[1] is None
    repository = tmp_path / "model_repository"
    assert "--cache-config" not in serve_dry(repository, "--model-config-name", "plain").stdout
    assert serve_dry(repository, "--model-config-name", "same").stderr.endswith("m's configs/same.pbtxt needs\n")
    assert serve_dry(repository, "--", "--model-config-name=same").stderr.endswith("m's configs/same.pbtxt needs\n")
