# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit lint` from the outside: what a path means, options, exit codes, text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import trtkit
from lint_repositories import BAD, GOOD, lint, write_model
from trtkit.lint.rules import RULES


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, of which `bad` has one error; the current folder is the one above."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models", "good", GOOD)
    write_model(tmp_path / "models", "bad", BAD)
    return tmp_path / "models"


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[tuple[str, str]]:
    """Model and code of what was found of PBT rules."""
    _, out, err = lint(capsys, "--json", "--select", "PBT", *arguments)
    assert not err
    return [(row["model"], row["code"]) for row in json.loads(out)["findings"]]


def test_a_finding_reads_like_this(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lint(capsys, "models", "--select", "PBT")
    lines = out.splitlines()
    assert code == 1
    assert lines[0].startswith(
        'models/bad/config.pbtxt:3:1: error PBT002 [*] Message type "inference.ModelConfig" has no'
    )
    assert lines[0].endswith("  (unknown-field)")
    assert lines[1:] == ["    3 | max_batchsize: 8", "      | ^", "", "1 error in 2 models (1 fixable with --fix)"]
    assert "\x1b" not in out, "no colors where there is no terminal"


def test_without_context_each_finding_is_one_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = lint(capsys, "models", "--select", "PBT", "--no-context")
    assert len(out.splitlines()) == 3


def test_nothing_found_is_said_with_the_number_of_models(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint(capsys, "models/good", "--select", "PBT") == (0, "nothing found in 1 model\n", "")


@pytest.mark.parametrize(
    ("path", "models"),
    [
        ("models", {"bad"}),
        ("models/", {"bad"}),
        ("models/bad", {"bad"}),
        ("models/bad/config.pbtxt", {"bad"}),
        ("models/bad/1/model.py", {"bad"}),
        ("models/good/config.pbtxt", set()),
    ],
)
def test_what_a_path_means(path: str, models: set[str], repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {model for model, _ in findings(capsys, path)} == models


def test_files_of_several_models_are_each_looked_at_once(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["models/bad/config.pbtxt", "models/bad/1/model.py", "models/good/config.pbtxt"]
    code, out, _ = lint(capsys, *paths, "--json", "--select", "PBT")
    assert code == 1
    assert json.loads(out)["summary"]["models"] == 2
    assert len(json.loads(out)["findings"]) == 1


def test_a_config_of_a_target_belongs_to_its_model(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "good" / "configs").mkdir()
    (repository / "good" / "configs" / "l40s.pbtxt").write_text("max_batchsize: 4\n")
    code, out, _ = lint(capsys, "models/good/configs/l40s.pbtxt", "--select", "PBT", "--no-context")
    assert code == 1
    assert out.startswith("models/good/configs/l40s.pbtxt:1:1: error PBT002")


def test_a_model_without_config_is_known_by_its_version_folder(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "good" / "config.pbtxt").unlink()
    _, out, _ = lint(capsys, "models/good", "--json", "--select", "PBT")
    assert json.loads(out)["summary"]["models"] == 1


def test_two_repositories_in_one_run(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(repository.parent / "others", "bad", BAD)
    assert findings(capsys, "models", "others/bad") == [("bad", "PBT002")] * 2


def test_from_inside_the_model_s_folder(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository / "bad")
    _, out, _ = lint(capsys, ".", "--select", "PBT", "--no-context")
    assert out.startswith("config.pbtxt:3:1: error PBT002")


def test_a_file_elsewhere_is_shown_whole(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    _, out, _ = lint(capsys, str(repository), "--select", "PBT", "--no-context")
    assert out.startswith(f"{repository}/bad/config.pbtxt:3:1: error PBT002")


def test_the_default_is_model_repository_then_the_project_s(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.rename(repository.parent / "model_repository")
    assert findings(capsys) == [("bad", "PBT002")]
    write_model(repository.parent / "of_project", "good", GOOD)
    text = "repository: of_project\nmodels: {a: {source: {onnx: a.onnx}}}\n"
    (repository.parent / "trtkit.yaml").write_text(text)
    (repository.parent / "a.onnx").write_bytes(b"")
    assert findings(capsys) == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere"], 2, "there is no nowhere; give a model repository"),
        (["empty"], 6, "there is no model in"),
        (["models", "empty"], 6, "/empty; a model is a folder"),
        (["models/bad/1"], 6, "there is no model in"),
        (["notes.txt"], 2, "notes.txt belongs to no model"),
        (["models", "--select", "PBT,PBX002"], 2, "--select 'PBX002' is no rule; did you mean 'PBT002'?"),
        (
            ["models", "--ignore", "unknown-feild"],
            2,
            "--ignore 'unknown-feild' is no rule; did you mean 'unknown-field'?",
        ),
        (["models", "--select", "PBT", "--ignore", "PBT"], 2, "leave no rule"),
        (["models", "--server-version", "2.x"], 2, "--server-version '2.x' is no version of Triton"),
        (["models", "--image", "my/triton:1"], 2, "nothing is known of the image my/triton:1"),
        (["--explain", "PBT999"], 2, "'PBT999' is no rule"),
        (["models", "--statistics", "--json"], 2, "--statistics is text"),
        (["models", "--output", "notes.txt/x"], 2, "notes.txt/x cannot be written"),
        (["nowhere://bucket"], 2, "is no URL that fsspec knows"),
        (["memory://nothing/here"], 2, "there is nothing at memory://nothing/here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_sentence(
    arguments: list[str], code: int, sentence: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.parent / "empty").mkdir()
    (repository.parent / "notes.txt").write_text("")
    found, out, err = lint(capsys, *arguments)
    assert (found, out) == (code, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_select_takes_codes_beginnings_and_names(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("PBT002", "pbt002", "PBT", "PBT0", "unknown-field", "ADV,PBT002"):
        _, out, _ = lint(capsys, "models/bad", "--json", "--select", words)
        assert "PBT002" in {row["code"] for row in json.loads(out)["findings"]}, words
    _, out, _ = lint(capsys, "models/bad", "--json", "--ignore", "unknown-field")
    assert "PBT002" not in {row["code"] for row in json.loads(out)["findings"]}


def test_fail_on_says_what_fails(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = repository / "good" / "config.pbtxt"
    config.write_text(f"{GOOD}# trtkit: ignore=PBT002\n")
    select = ("models/good", "--select", "IGN,PBT")
    assert [lint(capsys, *select, "--fail-on", level)[0] for level in ("error", "warning", "advice")] == [0, 0, 1]
    config.write_text(f"{GOOD}# trtkit: ignore=PBX\n")
    assert [lint(capsys, *select, "--fail-on", level)[0] for level in ("error", "warning", "advice")] == [0, 1, 1]


def test_flags_after_two_dashes_reach_the_rules(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "good" / "config.pbtxt").write_text(f"{GOOD}response_cache {{ enable: true }}\n")
    chosen = ("models/good", "--select", "FLG", "--json")
    without = json.loads(lint(capsys, *chosen, "--")[1])
    with_flag = json.loads(lint(capsys, *chosen, "--", "--cache-config", "local,size=1048576")[1])
    assert [row["code"] for row in without["findings"]] == ["FLG001"]
    assert with_flag["findings"] == []


def test_statistics_count_each_rule(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(repository, "worse", f"{BAD}bakend: 1\n")
    _, out, _ = lint(capsys, "models", "--statistics", "--select", "PBT")
    assert out.splitlines() == [
        "     3  error   PBT002  unknown-field",
        "",
        "3 errors in 3 models (3 fixable with --fix)",
    ]


def test_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = lint(capsys, "--rules")
    assert [line.split()[0] for line in out.splitlines()] == [rule.code for rule in RULES]
    row = next(line for line in out.splitlines() if line.startswith("PBT002"))
    assert row.split() == ["PBT002", "error", "unknown-field", "server", "[*]"]
    rows = json.loads(lint(capsys, "--rules", "--json", "--select", "PBT002")[1])
    assert [(row["code"], row["server"]) for row in rows] == [("PBT002", True)]


@pytest.mark.parametrize("word", ["PBT002", "pbt002", "unknown-field"])
def test_explain_prints_the_page(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lint(capsys, "--explain", word)
    assert code == 0
    assert out.startswith("PBT002 unknown-field (error: tritonserver refuses the model)\n\n")
    assert "Wrong:\n    max_batchsize: 8" in out


def test_output_to_a_file_leaves_the_last_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lint(capsys, "models", "--select", "PBT", "--format", "json", "--output", "reports/lint.json")
    assert (code, out) == (1, "1 error in 2 models (1 fixable with --fix); written to reports/lint.json\n")
    assert json.loads((repository.parent / "reports" / "lint.json").read_text())["summary"]["error"] == 1


def test_what_a_file_holds_cannot_reach_the_terminal(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "bad" / "config.pbtxt").write_bytes(b"max_batch_size: 8\n\x1b]0;owned\x07\t\xff = 3\n")
    code, out, _ = lint(capsys, "models/bad", "--select", "PBT")
    assert code == 1
    assert out.isascii() or "\udcff" not in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_of_a_line_without_end_a_window_is_shown(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "bad" / "config.pbtxt").write_text("input { } " * 1000 + "nonsense: 3")
    _, out, _ = lint(capsys, "models/bad", "--select", "PBT002")
    source, caret = out.splitlines()[1:3]
    assert len(source) < 140
    assert source[caret.index("^") :].startswith("nonsense: 3")


def test_a_url_is_read_where_it_is(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for file in repository.rglob("*"):
        if file.is_file():
            store.pipe(f"/bucket/{file.relative_to(repository.parent)}", file.read_bytes())
    assert findings(capsys, "memory://bucket/models") == [("bad", "PBT002")]
    assert findings(capsys, "memory://bucket/models/bad/config.pbtxt") == [("bad", "PBT002")]
    assert findings(capsys, "memory://bucket/models/good/") == []
    _, out, _ = lint(capsys, "memory://bucket/models/bad", "--select", "PBT", "--no-context")
    assert out.startswith("memory://bucket/models/bad/config.pbtxt:3:1: error PBT002")
    code, _, err = lint(capsys, "memory://bucket/models/bad", "--fix")
    assert (code, "--fix changes files of this machine only" in err) == (6, True)
    local = [row.message for row in trtkit.lint_repository("models")]
    assert [row.message for row in trtkit.lint_repository("memory://bucket/models")] == local


def test_from_python(repository: Path) -> None:
    (found,) = trtkit.lint_repository(repository, select_codes=["PBT"])
    assert (found.code, found.severity, found.place) == ("PBT002", trtkit.Severity.ERROR, "bad/config.pbtxt:3:1")
    assert trtkit.lint_repository(repository / "good", select_codes=["PBT"]) == []


def test_colors_only_on_a_terminal(repository: Path) -> None:
    """`script` gives the command a terminal."""
    import os
    import pty

    shown = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        shown.extend(data)
        return data

    command = [sys.executable, "-m", "trtkit", "lint", "models", "--select", "PBT", "--no-context"]
    stdin = os.open(os.devnull, os.O_RDONLY)
    kept = os.dup(0)
    os.dup2(stdin, 0)
    try:
        pty.spawn(["env", "TERM=xterm", *command], read)
    finally:
        os.dup2(kept, 0)
    assert b"\x1b[1;31merror PBT002" in shown


def test_a_reader_that_goes_away_is_no_defect(repository: Path) -> None:
    line = f"{sys.executable} -m trtkit lint models --json | head -c 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
