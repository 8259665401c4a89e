# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From a repository to the findings: which config is looked at, and how findings are said."""

from __future__ import annotations

from pathlib import Path

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from lint_repositories import findings
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.server_facts import ServerFacts

PIPELINE = """
name: "pipeline"
platform: "ensemble"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step {
    model_name: "echo"
    model_version: -1
    input_map { key: "x" value: "IN" }
    output_map { key: "y" value: "OUT" }
  }
}
"""


def errors(repository: Path, *flags: str) -> list[Finding]:
    return [finding for finding in findings(repository, facts=ServerFacts(flags)) if finding.severity == Severity.ERROR]


def test_the_config_that_the_flag_names_is_the_one_that_counts(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    write_model(tmp_path, "pipeline", PIPELINE, ECHO_MODEL)
    (tmp_path / "echo" / "configs").mkdir()
    (tmp_path / "echo" / "configs" / "small.pbtxt").write_text(ECHO_CONFIG.replace("size: 8", "size: 2"))
    assert errors(tmp_path) == []
    assert errors(tmp_path, "--model-config-name=other") == []
    (found,) = errors(tmp_path, "--model-config-name=small")
    assert (found.file, found.line) == ("pipeline/config.pbtxt", 4)
    assert "only allows maximum batch size to be 2" in found.message


def test_every_config_of_a_model_is_looked_at(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    (tmp_path / "echo" / "configs").mkdir()
    (tmp_path / "echo" / "configs" / "a.pbtxt").write_text(ECHO_CONFIG.replace("size: 8", "size: -8"))
    assert [(finding.file, finding.line) for finding in errors(tmp_path)] == [("echo/configs/a.pbtxt", 4)]


def test_a_message_is_one_line_whatever_the_names_hold(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        "echo",
        ECHO_CONFIG.replace('name: "x"', r'name: "a\n\033[31m\360\237\230\200"' + " dims: 0"),
        ECHO_MODEL,
    )
    messages = [finding.message for finding in errors(tmp_path)]
    assert any("a\\n\\x1b[31m\U0001f600" in message for message in messages), messages
    assert all(message.isprintable() for message in messages)
    write_model(tmp_path, "long", ECHO_CONFIG.replace('"echo"', f'"{"n" * 5000}"'), ECHO_MODEL)
    assert max(len(finding.message) for finding in errors(tmp_path)) == 1001
