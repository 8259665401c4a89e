# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the golden cases of LAY do not show: names at their limits, and what is not to be found."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from lint_repositories import findings
from trtkit.errors import ServerStartError
from trtkit.lint.finding import Finding
from trtkit.lint.model import version_of
from trtkit.lint.rules import RULES
from trtkit.lint.server_facts import ServerFacts
from trtkit.server import serve


def lint(root: Path, models: Sequence[str] = ()) -> list[Finding]:
    facts = ServerFacts(triton="2.51", gpus=0)
    return findings(root, [each for each in RULES if each.category == "LAY"], facts, models)


def echo(root: Path, more: str = "") -> Path:
    write_model(root, "echo", ECHO_CONFIG + more, ECHO_MODEL)
    return root / "echo"


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1), ("0", 0), ("7.tmp", 7), ("2_backup", 2), (" 3", 3), ("+3", 3), ("-1", -1), ("01", None),
        ("00", None), ("x1", None), ("²", None), ("١", None), ("warmup", None), ("configs", None),
        ("initial_state", None), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_versions_are_read_as_the_server_does(name: str, version: int | None) -> None:
    assert version_of(name) == version


@given(st.text(min_size=1, max_size=30))
def test_any_name_has_a_version_or_none(name: str) -> None:
    version = version_of(name)
    assert version is None or -(2**63) <= version < 2**63


@given(st.integers(0, 2**63 - 1))
def test_a_plain_number_is_its_own_version(number: int) -> None:
    assert version_of(str(number)) == number


def test_a_right_model_has_nothing(tmp_path: Path) -> None:
    folder = echo(tmp_path)
    for name in ("0", "2"):
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(ECHO_MODEL)
    for name in ("warmup", "configs", "initial_state", "helpers"):
        (folder / name).mkdir()
    (tmp_path / "README.md").write_text("")
    assert lint(tmp_path) == []


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ("all { }", None),
        ("latest { num_versions: 5 }", None),
        ("", None),
        ("latest { num_versions: 0 }", "LAY003"),
        ("specific { }", "LAY003"),
        ("specific { versions: [ 2, 3 ] }", "LAY003"),
        ("specific { versions: [ 1, 3 ] }", "LAY004"),
    ],
)
def test_policies(policy: str, code: str | None, tmp_path: Path) -> None:
    echo(tmp_path, f"version_policy {{ {policy} }}")
    assert [each.code for each in lint(tmp_path)] == ([code] if code else [])


def test_the_finding_of_a_version_is_at_its_number(tmp_path: Path) -> None:
    echo(tmp_path, "version_policy {\n  specific { versions: [ 1, 9 ] }\n}\n")
    (found,) = lint(tmp_path)
    lines = (tmp_path / "echo/config.pbtxt").read_text().split("\n")
    assert found.line is not None
    assert found.column is not None
    assert lines[found.line - 1][found.column - 1] == "9"


def test_the_fix_of_a_name_is_the_folder(tmp_path: Path) -> None:
    (echo(tmp_path)).rename(tmp_path / 'a"b')
    (found,) = (each for each in lint(tmp_path) if each.code == "LAY001")
    assert found.fix is not None
    (edit,) = found.fix.edits
    assert edit.text == r'"a\"b"'


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (".config.pbtxt.swp", True), (".#config.pbtxt", True), ("#config.pbtxt#", True), ("config.pbtxt~", True),
        (".DS_Store", True), ("._config.pbtxt", True), ("model.py.bak", True), ("labels.txt", False), (".env", False),
        ("trtkit.json", False), (".gitkeep", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("folder", ["", "1"])
def test_leftovers_of_editors(name: str, found: bool, folder: str, tmp_path: Path) -> None:
    (echo(tmp_path) / folder / name).write_text("x")
    assert [each.code for each in lint(tmp_path)] == (["LAY026"] if found else [])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("config.pbtx", True), ("Config.pbtxt", True), ("config.pbtxt.txt", True), ("config.pb.txt", True),
        ("conf.pbtxt", True), ("config.pbttxt", True), ("labels.txt", False), ("config.json", False),
        ("a.pbtxt", False),
    ],
)  # fmt: skip
def test_misspelt_configs(name: str, found: bool, tmp_path: Path) -> None:
    (echo(tmp_path) / "config.pbtxt").rename(tmp_path / "echo" / name)
    assert [each.code for each in lint(tmp_path)] == (["LAY015"] if found else [])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a-b_c.d~e", False), ("my model", True), ("ünï", True), ("50%", True), ("a?b", True), ("a#b", True),
        ("a..b", True),
    ],
)  # fmt: skip
def test_names_in_urls(name: str, found: bool, tmp_path: Path) -> None:
    write_model(tmp_path, name, ECHO_CONFIG.replace('"echo"', f'"{name}"'), ECHO_MODEL)
    assert [each.code for each in lint(tmp_path)] == (["LAY011"] if found else [])


def test_labels_are_counted_by_lines_and_elements(tmp_path: Path) -> None:
    config = ECHO_CONFIG.replace("output { ", 'output { label_filename: "sub/labels.txt" ')
    write_model(tmp_path, "echo", config, ECHO_MODEL)
    (tmp_path / "echo/sub").mkdir()
    labels = tmp_path / "echo/sub/labels.txt"
    for text, codes in (("a\nb\nc\nd", []), ("a\nb\nc\nd\n", []), ("", ["LAY022"]), ("a\nb\nc\nd\ne", ["LAY022"])):
        labels.write_text(text)
        assert [each.code for each in lint(tmp_path)] == codes
    (tmp_path / "echo/config.pbtxt").write_text(config.replace("dims: 4", "dims: -1"))
    assert lint(tmp_path) == []


def test_rules_about_the_repository_are_not_for_single_models(tmp_path: Path) -> None:
    echo(tmp_path)
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "gone").symlink_to("nowhere")
    assert {(each.code, each.model) for each in lint(tmp_path)} == {("LAY013", ""), ("LAY014", "")}
    assert lint(tmp_path, ["echo"]) == []


@pytest.mark.triton
def test_a_broken_link_in_the_repository_ends_a_server_that_loads_all(tmp_path: Path) -> None:
    echo(tmp_path)
    with serve(tmp_path):
        pass
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(ServerStartError), serve(tmp_path, ready_timeout_s=30):
        pass


@pytest.mark.triton
def test_a_file_named_config_hides_changes_from_the_server(tmp_path: Path) -> None:
    folder = echo(tmp_path)

    def batch_after_a_change() -> int:
        with serve(tmp_path, models=["echo"]) as server:
            url = f"http://{server.http_url}/v2"
            (folder / "config.pbtxt").write_text(ECHO_CONFIG.replace("max_batch_size: 8", "max_batch_size: 16"))
            later = time.time() + 5
            os.utime(folder / "config.pbtxt", (later, later))
            urllib.request.urlopen(f"{url}/repository/models/echo/load", data=b"{}").close()
            with urllib.request.urlopen(f"{url}/models/echo/config") as answer:
                return int(json.load(answer)["max_batch_size"])

    assert batch_after_a_change() == 16
    (folder / "config.pbtxt").write_text(ECHO_CONFIG)
    (folder / "config").write_text("")
    assert batch_after_a_change() == 8
    assert [each.code for each in lint(tmp_path)] == ["LAY027"]
