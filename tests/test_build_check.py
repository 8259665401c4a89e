# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit build --check``: a committed config that is not what would be generated is told, and nothing is written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from test_build import times, tree
from trtkit.build import build_models
from trtkit.errors import ExportError, RepositoryError, TrtkitError
from trtkit.project import load_project

MODELS = """models:
  a: {source: {onnx: a.onnx}, config: {dynamic_batching: {max_queue_delay_microseconds: 500}}, configs: CONFIGS}
  e: {ensemble: [{model: a}]}
"""


class Clone:
    """A project whose configs are committed, with or without the built versions."""

    def __init__(self, root: Path) -> None:
        self.root, self.repository = root, root / "model_repository"
        self.config = self.repository / "a" / "config.pbtxt"

    def write(self, models: str) -> None:
        (self.root / "trtkit.yaml").write_text(models)

    def check(self, *names: str) -> tuple[dict[str, dict[str, Any]], TrtkitError | None]:
        """The rows by model and file, and the error; the repository is as it was."""
        before = tree(self.repository)
        results, error = build_models(load_project(self.root / "trtkit.yaml"), names, check=True)
        assert tree(self.repository) == before
        return {r.model: {row["file"]: row for row in r.config_check or ()} for r in results}, error

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trtkit", "build", "--check", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check")
    onnx.save(times(2), str(root / "a.onnx"))
    (root / "trtkit.yaml").write_text(MODELS.replace("CONFIGS", "{fast: {max_batch_size: 2}}"))
    assert build_models(load_project(root / "trtkit.yaml"))[1] is None
    return root


@pytest.fixture
def clone(built: Path, tmp_path: Path) -> Clone:
    return Clone(Path(shutil.copytree(built, tmp_path / "clone")))


def statuses(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {model: {file: row["status"] for file, row in files.items()} for model, files in rows.items()}


def test_what_was_built_passes(clone: Clone) -> None:
    rows, error = clone.check()
    assert error is None
    assert {status for files in statuses(rows).values() for status in files.values()} == {"same"}
    assert set(rows["a"]) == {"config.pbtxt", "configs/fast.pbtxt"}


def test_a_fresh_clone_without_versions_and_cache_passes(clone: Clone) -> None:
    shutil.rmtree(clone.root / ".trtkit")
    for version in clone.repository.glob("*/1"):
        shutil.rmtree(version)
    assert clone.check()[1] is None
    assert not list(clone.repository.glob("*/1")), "nothing was published"


def test_a_changed_value_is_told_with_its_path(clone: Clone) -> None:
    clone.edit("max_queue_delay_microseconds: 500", "max_queue_delay_microseconds: 100")
    rows, error = clone.check()
    assert isinstance(error, RepositoryError)
    assert str(error) == (
        "the committed configs of a are not what would be generated; run `trtkit build` and commit what it writes"
    )
    row = rows["a"]["config.pbtxt"]
    assert row["status"] == "differs"
    assert row["note"] == "it was edited by hand, so that a build refuses to replace it"
    path = "dynamic_batching.max_queue_delay_microseconds"
    assert row["differences"] == [{"path": path, "first": "100", "second": "500"}]
    assert statuses(rows)["e"]["config.pbtxt"] == "same", "ensembles follow from what would be generated"


def test_a_changed_project_file_is_told(clone: Clone) -> None:
    clone.write(MODELS.replace("500", "700").replace("CONFIGS", "{fast: {max_batch_size: 2}}"))
    rows, error = clone.check()
    assert isinstance(error, RepositoryError)
    assert statuses(rows)["a"] == {"config.pbtxt": "differs", "configs/fast.pbtxt": "differs"}


def test_comments_and_order_do_not_matter_and_are_told(clone: Clone) -> None:
    lines = clone.config.read_text().splitlines()
    clone.config.write_text("\n".join(["# ours", *lines[1:]]) + "\n")
    rows, error = clone.check()
    assert error is None
    row = rows["a"]["config.pbtxt"]
    assert row["status"] == "text"
    assert row["note"] == (
        "equal as a message, only its text differs; it was edited by hand, so that a build refuses to replace it"
    )


@pytest.mark.parametrize(
    ("content", "note"),
    [(b"max_batch_size: x", "a/config.pbtxt:1:17"), (b"\xff\xfe", "cannot be read")],
    ids=["no config", "no text"],
)
def test_a_config_that_cannot_be_read_differs(clone: Clone, content: bytes, note: str) -> None:
    clone.config.write_bytes(content)
    rows, error = clone.check()
    assert isinstance(error, RepositoryError)
    assert note in rows["a"]["config.pbtxt"]["note"]


def test_a_config_of_a_name_that_is_gone_and_one_that_is_missing(clone: Clone) -> None:
    clone.write(MODELS.replace("CONFIGS", "{slow: {max_batch_size: 2}}"))
    rows, error = clone.check()
    assert isinstance(error, RepositoryError)
    assert statuses(rows)["a"] == {
        "config.pbtxt": "same", "configs/slow.pbtxt": "absent", "configs/fast.pbtxt": "differs",
    }  # fmt: skip
    assert rows["a"]["configs/fast.pbtxt"]["note"] == "a build removes it"


def test_a_labels_file_that_is_named_has_to_be_there(clone: Clone) -> None:
    config = "config: {output: [{name: y, label_filename: labels.txt}]}"
    clone.write(f"models:\n  a: {{source: {{onnx: a.onnx}}, {config}}}\n")
    shutil.rmtree(clone.repository)
    (clone.repository / "a").mkdir(parents=True)
    (clone.repository / "a" / "labels.txt").write_text("one\n")
    assert build_models(load_project(clone.root / "trtkit.yaml"))[1] is None
    assert clone.check()[1] is None
    (clone.repository / "a" / "labels.txt").unlink()
    rows, error = clone.check()
    assert str(error) == "labels files of a are missing; put them into the model's folder"
    assert statuses(rows)["a"] == {"config.pbtxt": "same", "labels.txt": "missing"}
    assert rows["a"]["labels.txt"]["note"] == "the config names this labels file, which is not there"


def test_a_model_that_is_not_committed_passes_unless_it_is_named(clone: Clone) -> None:
    shutil.rmtree(clone.repository / "e")
    rows, error = clone.check()
    assert (set(statuses(rows)["e"].values()), error) == ({"absent"}, None)
    assert isinstance(clone.check("e")[1], RepositoryError)


def test_a_check_that_compared_nothing_fails(clone: Clone) -> None:
    shutil.rmtree(clone.repository)
    clone.repository.mkdir()
    assert "no config was compared" in str(clone.check()[1])


def test_a_model_that_cannot_be_built_is_an_error_and_the_others_are_compared(clone: Clone) -> None:
    text = (clone.root / "trtkit.yaml").read_text()
    clone.write(text + "  b: {source: {onnx: b.onnx}}\n  f: {ensemble: [{model: b}]}\n")
    (clone.root / "b.onnx").write_bytes(b"no model")
    rows, error = clone.check()
    assert isinstance(error, ExportError)
    assert statuses(rows)["a"]["config.pbtxt"] == "same"
    assert rows["b"] == rows["f"] == {}


def test_what_a_killed_build_left_stays_until_a_build(clone: Clone) -> None:
    left = clone.root / ".trtkit" / "staging-x"
    left.mkdir()
    clone.check()
    assert left.is_dir()


def test_the_command_and_its_exit_codes(clone: Clone) -> None:
    result = clone.command()
    assert (result.returncode, result.stderr) == (0, "")
    assert "a/config.pbtxt: is what would be generated\n" in result.stdout
    clone.edit("max_queue_delay_microseconds: 500", "max_queue_delay_microseconds: 100")
    result = clone.command("a")
    assert result.returncode == 6
    assert "    dynamic_batching.max_queue_delay_microseconds: 100 -> 500\n" in result.stdout
    assert "trtkit build: the committed configs of a are not what would be generated" in result.stderr
    result = clone.command("--json")
    assert result.returncode == 6
    rows = json.loads(result.stdout)["models"][0]["config_check"]
    assert rows[0]["differences"][0]["second"] == "500"
    result = clone.command("--force")
    assert (result.returncode, "--check writes nothing" in result.stderr) == (2, True)
