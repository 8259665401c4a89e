# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comments that tell lint to be silent: what they cover, and that lint says when they do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import test_lint_golden as golden
from trtkit.config import ModelConfig
from trtkit.lint.finding import Edit, Fix, Severity
from trtkit.lint.ignores import Sheet, config_sheet, python_sheet
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.selection import words_of
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree
from trtkit.pbtxt import read

WORDS = words_of(RULES)


def sheet_of(text: str) -> Sheet:
    return config_sheet(read(text, ModelConfig), WORDS)


def hidden(text: str, code: str = "PBT005") -> list[int]:
    """The lines at which a finding of this code would be left out."""
    return [line for line in range(1, text.count("\n") + 2) if sheet_of(text).hides(code, line)]


@rule("TOY001", "counts-inputs", Severity.WARNING)
def toy(model: Model) -> Any:
    for index, _ in enumerate(model.written.input):
        yield model.found(("input", index), "an input", fix=Fix("x", (Edit(0, 0, "# x\n"),)))
    for index, _ in enumerate(model.written.output):
        yield model.found(("output", index, "dims"), "an output's dims")
    yield model.found_in("1/model.py", "a line of Python", 3, 1)
    yield model.found_in("1/model.bin", "a file without lines")


@rule("TOY002", "asks-the-server", Severity.WARNING, depends_on_server=True)
def asks(model: Model) -> Any:
    if model.server.gpus:
        yield model.found((), "gpus")


TOYS = (toy, asks, *(each for each in RULES if each.category == "IGN"))


def lint(
    tmp_path: Path, config: str, python: str = "a\nb\nc\n", rules: tuple[Rule, ...] = TOYS, gpus: int | None = None
) -> list[str]:  # fmt: skip
    """Code and place of each finding."""
    (tmp_path / "m" / "1").mkdir(parents=True, exist_ok=True)
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    (tmp_path / "m" / "1" / "model.py").write_text(python)
    repository = open_repository(LocalTree(tmp_path), ServerFacts((), None, "2.51", gpus))
    repository.words = words_of([*TOYS, *RULES])
    return [f"{each.code} {each.place.removeprefix('m/')}" for each in findings_of(repository, rules)]


def test_at_the_end_of_a_line_it_is_for_the_line_and_what_starts_there() -> None:
    text = 'input {  # trtkit: ignore=PBT005\n  name: "x"\n  dims: 4\n}\nmax_batch_size: 8\n'
    assert hidden(text) == [1, 2, 3, 4]
    text = 'input {\n  name: "x"  # trtkit: ignore=PBT005\n  dims: 4\n}\n'
    assert hidden(text) == [2]
    assert hidden(text, "PBT002") == []


def test_alone_it_is_for_the_next_field_whole() -> None:
    text = 'name: "m"\n# trtkit: ignore=PBT005\n\n# why\ninput {\n  name: "x"\n}\nmax_batch_size: 8\n'
    assert hidden(text) == [5, 6, 7]
    text = 'input [\n  { name: "x" },\n  # trtkit: ignore=PBT005\n  {\n    name: "y"\n  }\n]\nmax_batch_size: 8\n'
    assert hidden(text) == [4, 5, 6]


def test_alone_at_the_end_of_a_message_it_is_not_for_what_follows_the_message() -> None:
    text = 'input {\n  name: "x"\n  # trtkit: ignore=PBT005\n}\nmax_batch_size: 8\n'
    assert hidden(text) == [3]


def test_several_words_and_names_and_beginnings() -> None:
    text = "max_batch_size: 8 #trtkit:ignore = PBT005 , unknown-field,FLG  # we know why\n"
    assert [code for code in ("PBT005", "PBT002", "PBT001", "FLG001") if hidden(text, code)] == [
        "PBT005",
        "PBT002",
        "FLG001",
    ]


def test_after_another_comment() -> None:
    assert hidden("max_batch_size: 8  # of the card  # trtkit: ignore=PBT005\n") == [1]


def test_of_the_whole_model(tmp_path: Path) -> None:
    config = "# trtkit: ignore-file=TOY001\ninput { }\noutput { dims: 1 }\n"
    assert lint(tmp_path, config) == []
    assert "IGN002 config.pbtxt:1:23" in lint(tmp_path, config.replace("TOY001", "TOY002"), gpus=0)


def test_ignore_file_below_a_field_is_said_to_do_nothing(tmp_path: Path) -> None:
    config = "input { }\n# trtkit: ignore-file=TOY001\n"
    assert lint(tmp_path, config) == [
        "TOY001 1/model.bin", "TOY001 1/model.py:3:1", "TOY001 config.pbtxt:1:1", "IGN001 config.pbtxt:2:1",
    ]  # fmt: skip


def test_lines_of_a_config_hide_nothing_in_other_files(tmp_path: Path) -> None:
    assert lint(tmp_path, "\n\ninput { }  # trtkit: ignore=TOY001\n") == ["TOY001 1/model.bin", "TOY001 1/model.py:3:1"]


@pytest.mark.parametrize(
    ("python", "left"),
    [
        ("a\nb\nc  # trtkit: ignore=TOY001\n", False),
        ("a\n# trtkit: ignore=TOY001\nc\n", False),
        ("class A:  # trtkit: ignore=TOY001\n    def b(self):\n        pass\n", False),
        ("# trtkit: ignore-file=TOY001\na\nb\n", False),
        ("a\nb  # trtkit: ignore=TOY001\nc\n", True),
        ('x = """\n# trtkit: ignore=TOY001\n"""\n', True),
        ("def broken(:\n    pass\nc  # trtkit: ignore=TOY001\n", False),
    ],
)
def test_comments_of_python(python: str, left: bool, tmp_path: Path) -> None:
    assert ("TOY001 1/model.py:3:1" in lint(tmp_path, "input { }\n", python)) is left


def test_unknown_words_and_forms_are_findings(tmp_path: Path) -> None:
    config = (
        "# trtkit: ignore=TOY001\ninput { }  # trtkit: ignore=TOY001,TOZ001\nmax_batch_size: 1  # trtkit: ignored\n"
    )
    found = [each for each in lint(tmp_path, config) if "config" in each]
    assert found == ["IGN001 config.pbtxt:2:36", "IGN001 config.pbtxt:3:20"]


def test_what_hides_nothing_is_a_finding(tmp_path: Path) -> None:
    assert "IGN002 config.pbtxt:1:37" in lint(tmp_path, "max_batch_size: 1  # trtkit: ignore=TOY001\n")
    python = "a  # trtkit: ignore=TOY001\nb\nc\n"
    assert "IGN002 1/model.py:1:21" in lint(tmp_path, "input { }\n", python)


def test_ignores_of_rules_that_were_not_applied_are_not_judged(tmp_path: Path) -> None:
    config = "max_batch_size: 1  # trtkit: ignore=PBT002,TOY002\n"
    assert [each for each in lint(tmp_path, config, gpus=0) if "IGN" in each] == ["IGN002 config.pbtxt:1:44"]


def test_nor_of_rules_that_ask_for_what_was_not_said(tmp_path: Path) -> None:
    config = "max_batch_size: 1  # trtkit: ignore=TOY002\n"
    assert [each for each in lint(tmp_path, config, gpus=None) if "IGN" in each] == []


def test_each_config_of_a_model_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "m" / "configs").mkdir(parents=True)
    (tmp_path / "m" / "configs" / "other.pbtxt").write_text("# trtkit: ignore-file=TOY001\ninput { }\n")
    found = lint(tmp_path, "input { }\n")
    assert "TOY001 config.pbtxt:1:1" in found
    assert [each for each in found if "other" in each or "IGN" in each] == []


@given(st.text(st.sampled_from(list("#trtkit:ignore=-file,PBT05 \n\r\"{}[]()'a\\"))))
def test_no_text_breaks_the_readers(text: str) -> None:
    for sheet in (sheet_of(text), python_sheet(text, WORDS)):
        for each in [*sheet.ignores, *sheet.misuses]:
            assert text[: each.removal.start].count("\n") <= each.line


@given(st.lists(st.sampled_from(["PBT005", "TOZ001", "unknown-field"]), min_size=1, max_size=4))
def test_removing_every_word_removes_the_comment(words: list[str]) -> None:
    text = f"max_batch_size: 8  # trtkit: ignore={', '.join(words)}\nname: 'm'\n"
    while True:
        sheet = sheet_of(text)
        found = [*sheet.ignores, *sheet.misuses]
        if not found:
            break
        edit = found[0].removal
        text = text[: edit.start] + edit.text + text[edit.end :]
    assert text == "max_batch_size: 8\nname: 'm'\n"


def test_a_finding_of_a_folder_is_hidden_only_by_the_whole_model() -> None:
    sheet = sheet_of("# trtkit: ignore-file=PBT006\n# trtkit: ignore=PBT005\nmax_batch_size: 8\n")
    assert sheet.hides("PBT006", None)
    assert not sheet.hides("PBT005", None)
    assert Found("m", "x").line is None


def test_a_rule_that_finds_more_when_the_server_is_known_says_so(tmp_path: Path) -> None:
    more = set[str]()
    for case in golden.ALL:
        folder = golden.materialised(case, "wrong", tmp_path)
        known = [each for strict in (None, True) for each in golden.lint(folder, case, "wrong", strict=strict)]
        unknown = findings_of(open_repository(LocalTree(folder), ServerFacts()), RULES)
        more |= {code for code, _ in {(f.code, f.file) for f in known} - {(f.code, f.file) for f in unknown}}
    assert more <= {each.code for each in RULES if each.depends_on_server}
    assert len(more) > 10
