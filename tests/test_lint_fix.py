# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit lint --fix`: what it changes, what it keeps, what it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lint_judge import TRITON
from lint_repositories import BAD, GOOD, PYTHON, lint, write_model
from test_lint_golden import ALL, flags_of, materialised, options, shown
from trtkit.config import ModelConfig, to_text
from trtkit.errors import RepositoryError
from trtkit.lint import fixing
from trtkit.lint.edits import insertion
from trtkit.lint.finding import Edit, Finding, Fix, Severity
from trtkit.lint.fixing import fix
from trtkit.lint.model import Model
from trtkit.lint.outcome import lint_place
from trtkit.lint.places import find_places
from trtkit.lint.rule import Rule, rule
from trtkit.lint.rules import RULES
from trtkit.lint.server_facts import ServerFacts
from trtkit.pbtxt import read

PBT = tuple(each for each in RULES if each.category in ("PBT", "IGN"))


def fixed(root: Path, rules: tuple[Rule, ...] = PBT) -> fixing.Fixed:
    (place,) = find_places([str(root)])
    first = lint_place(place, rules, ServerFacts())
    return fix(first, lambda tree: lint_place(place, rules, ServerFacts(), tree))


def config_of(root: Path, model: str) -> bytes:
    return (root / model / "config.pbtxt").read_bytes()


def test_what_can_be_mended_is_and_the_rest_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models", "bad", f"# kept\n{BAD}nonsense: 3\n")
    code, out, _ = lint(capsys, "models", "--select", "PBT", "--fix", "--no-context")
    assert code == 1
    assert out.splitlines()[0] == "models/bad/config.pbtxt: fixed PBT002: write max_batch_size"
    assert "nonsense" in out
    assert out.endswith("1 error in 1 model\n")
    wanted = f"# kept\n{BAD}nonsense: 3\n".replace("max_batchsize", "max_batch_size")
    assert config_of(tmp_path / "models", "bad").decode() == wanted


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path, "bad", BAD)
    assert lint(capsys, str(tmp_path), "--select", "PBT", "--fix")[0] == 0
    before = (model / "config.pbtxt").stat()
    assert lint(capsys, str(tmp_path), "--select", "PBT", "--fix")[1] == "nothing found in 1 model\n"
    after = (model / "config.pbtxt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_line_ends_other_bytes_and_mode_are_kept(tmp_path: Path) -> None:
    before = b'# caf\xe9 \xff\r\nname: "bad"\r\nmax_batchsize: 8'
    model = write_model(tmp_path, "bad", before)
    (model / "config.pbtxt").chmod(0o640)
    fixed(tmp_path).write()
    assert config_of(tmp_path, "bad") == before.replace(b"max_batchsize", b"max_batch_size")
    assert stat.S_IMODE((model / "config.pbtxt").stat().st_mode) == 0o640
    assert sorted(each.name for each in model.iterdir()) == ["1", "config.pbtxt"], "nothing is left behind"


def test_a_new_line_ends_as_the_others_do(tmp_path: Path) -> None:
    @rule("TOY001", "adds-a-line")
    def adds(model: Model) -> Any:
        if model.document and not model.written.max_batch_size:
            edit = insertion(model.document, (), "max_batch_size: 8")
            yield model.found((), "none", fix=Fix("add it", (edit,)))

    write_model(tmp_path, "m", b'name: "m"\r\nbackend: "python"')
    fixed(tmp_path, (adds,)).write()
    assert config_of(tmp_path, "m") == b'name: "m"\r\nbackend: "python"\r\nmax_batch_size: 8\r\n'


def test_a_link_stays_one_and_its_target_is_changed(tmp_path: Path) -> None:
    model = write_model(tmp_path / "models", "bad", BAD)
    (model / "config.pbtxt").rename(tmp_path / "real.pbtxt")
    (model / "config.pbtxt").symlink_to(tmp_path / "real.pbtxt")
    fixed(tmp_path / "models").write()
    assert (model / "config.pbtxt").is_symlink()
    assert "max_batch_size" in (tmp_path / "real.pbtxt").read_text()


def test_another_link_to_the_same_file_keeps_the_old_text(tmp_path: Path) -> None:
    """A published version may share its files with the cache."""
    model = write_model(tmp_path / "models", "bad", BAD)
    os.link(model / "config.pbtxt", tmp_path / "cached")
    fixed(tmp_path / "models").write()
    assert (tmp_path / "cached").read_text() == BAD


def test_fixes_that_touch_take_turns(tmp_path: Path) -> None:
    write_model(tmp_path, "m", 'name: "m"  # trtkit: ignore=PBT002,PBT003,PBX,PBT004\n')
    result = fixed(tmp_path)
    result.write()
    assert config_of(tmp_path, "m") == b'name: "m"\n'
    assert result.outcome.findings == ()
    assert len(result.applied) == 4


def test_a_fix_that_would_break_the_file_is_refused_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @rule("TOY001", "breaks-it", needs_config=False)
    def breaks(model: Model) -> Any:
        if model.document:
            end = len(model.document.text)
            yield model.found((), "broken", fix=Fix("break it", (Edit(end, end, "}\n"),)))

    write_model(tmp_path, "bad", BAD)
    result = fixed(tmp_path, (*PBT, breaks))
    assert [each.code for each in result.refused] == ["TOY001"]
    assert [each.code for each in result.applied] == ["PBT002"]
    assert result.after == {"bad/config.pbtxt": BAD.replace("max_batchsize", "max_batch_size").encode()}
    monkeypatch.setattr("trtkit.lint.rules.RULES", (breaks,))
    _, out, _ = lint(capsys, str(tmp_path), "--fix", "--no-context")
    assert "TOY001 is not fixed: the file would read worse than before" in out


def test_a_python_file_that_would_not_parse_is_refused(tmp_path: Path) -> None:
    @rule("TOY001", "breaks-python")
    def breaks(model: Model) -> Any:
        found = model.found_in("1/model.py", "broken", 1, 1)
        yield type(found)(found.file, found.message, 1, 1, Fix("break it", (Edit(0, 0, "(\n"),)))

    write_model(tmp_path, "m", GOOD)
    assert fixed(tmp_path, (breaks,)).after == {}


def test_two_fixes_that_undo_each_other_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @rule("TOY001", "never-content", Severity.ADVICE)
    def never(model: Model) -> Any:
        if model.document:
            size = model.written.max_batch_size
            span = model.document.span(("max_batch_size",))
            text = str(3 - size)
            yield model.found(
                ("max_batch_size",), f"it is {size}", fix=Fix("turn", (Edit(span.value, span.end, text),))
            )

    write_model(tmp_path, "m", "max_batch_size: 1\n")
    result = fixed(tmp_path, (never,))
    assert result.unfinished
    assert len(result.applied) == fixing.MAX_ROUNDS
    assert read(config_of(tmp_path, "m"), ModelConfig).problems == []


def test_diff_shows_what_fix_does_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = b'# \xff\r\nname: "bad"\r\nmax_batchsize: 8'
    write_model(tmp_path / "models", "bad", before)
    write_model(tmp_path / "models", "good", GOOD)
    code, diff, _ = lint(capsysbinary, "models", "--select", "PBT", "--diff")
    assert code == 1
    assert config_of(tmp_path / "models", "bad") == before
    done = subprocess.run(["git", "apply", "-p0", "-"], input=diff, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert config_of(tmp_path / "models", "bad") == before.replace(b"max_batchsize", b"max_batch_size")
    assert lint(capsysbinary, "models", "--select", "PBT", "--diff") == (0, b"", b"")


def test_a_generated_config_is_to_be_fixed_in_trtkit_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @rule("TOY001", "wants-batches")
    def wants(model: Model) -> Any:
        if model.document:
            edit = insertion(model.document, (), "max_batch_size: 8")
            yield model.found(("name",), "no batches", fix=Fix("add", (edit,)))

    text = to_text(read(GOOD, ModelConfig).message)
    write_model(tmp_path, "good", text)
    monkeypatch.setattr("trtkit.lint.rules.RULES", (wants,))
    code, out, _ = lint(capsys, str(tmp_path), "--fix", "--no-context")
    assert code == 1
    assert "fixable" not in out
    assert "good/config.pbtxt: generated from trtkit.yaml: change the model's `config:` block there" in out
    assert config_of(tmp_path, "good").decode() == text
    (tmp_path / "good" / "config.pbtxt").write_text(text + "# edited by hand\n")
    assert "1 fixable with --fix" in lint(capsys, str(tmp_path))[1]


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bad", BAD)
    result = fixed(tmp_path)
    (model / "config.pbtxt").write_text("# somebody else\n")
    with pytest.raises(RepositoryError, match="was changed while it was being fixed"):
        result.write()
    assert (model / "config.pbtxt").read_text() == "# somebody else\n"


def test_a_folder_that_cannot_be_written_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path, "bad", BAD)
    result = fixed(tmp_path)
    (model / "gone").mkdir()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RepositoryError, match="cannot be written: No space left on device; it is as it was"):
        result.write()
    assert config_of(tmp_path, "bad") == BAD.encode()
    assert sorted(each.name for each in model.iterdir()) == ["1", "config.pbtxt", "gone"]


def test_in_other_formats_the_fixes_are_told_beside_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path, "bad", BAD)
    _, out, err = lint(capsys, str(tmp_path), "--select", "PBT", "--fix", "--format", "github")
    assert out == ""
    assert "fixed PBT002" in err


def fixed_case(case: str, folder: Path) -> tuple[list[Finding], fixing.Fixed]:
    """What is found in the wrong side of a golden case, and what is left after fixing."""
    root = materialised(case, "wrong", folder)
    (place,) = find_places([str(root)])
    given, flags = options(case), flags_of(case, "wrong")
    triton = None if "image" in given else str(given.get("triton", TRITON))
    facts = ServerFacts(None if flags is None else tuple(flags), given.get("image"), triton, given.get("gpus", 0))
    first = lint_place(place, RULES, facts)
    return list(first.findings), fix(first, lambda tree: lint_place(place, RULES, facts, tree))


@pytest.mark.parametrize("case", ALL)
def test_a_golden_case_s_fixes_mend_it_and_break_nothing(case: str, tmp_path: Path) -> None:
    before, result = fixed_case(case, tmp_path)
    left = [(each.code, each.file, each.message) for each in result.outcome.findings]
    for finding in before:
        if finding.fix is not None:
            assert (finding.code, finding.file, finding.message) not in left
    assert result.refused == []
    assert not result.unfinished
    assert {each.code for each in result.outcome.findings if each.severity == Severity.ERROR} <= {
        each.code for each in before
    }, shown(list(result.outcome.findings))


def test_a_rule_says_whether_it_has_a_fix(tmp_path: Path) -> None:
    seen = {each.code for case in ALL for each in fixed_case(case, tmp_path)[0] if each.fix is not None}
    assert {each.code for each in RULES if each.fixable} == seen


def test_only_the_named_model_is_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path, "bad", BAD)
    write_model(tmp_path, "worse", BAD, PYTHON)
    lint(capsys, str(tmp_path / "worse"), "--select", "PBT", "--fix")
    assert config_of(tmp_path, "bad").decode() == BAD
    assert "max_batch_size" in config_of(tmp_path, "worse").decode()
