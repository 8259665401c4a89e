# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Each rule on a wrong and a right repository, and what the real server says to the same.

A case is tests/lint/<CODE>_<mistake>/{wrong,right}, each a model repository. ``X.onnx.txt`` (ONNX's text
format) becomes ``X.onnx``. A ``case.yaml`` beside them may hold ``flags``, ``image``, ``gpus``, ``backends``,
``messages`` (pieces that the findings have to contain), ``pad`` (bytes to add to a file of the wrong side) and
``server`` (see `expected_verdict`).
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
import yaml

from lint_judge import TRITON, Judgement, open_judge
from lint_repositories import STRICT, findings
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.server_facts import ServerFacts

CASES = Path(__file__).parent / "lint"
SIDES = ("wrong", "right")
BY_CODE = {each.code: each for each in RULES}
ALL = sorted(case.name for case in CASES.iterdir() if case.is_dir())


def options(case: str) -> dict[str, Any]:
    file = CASES / case / "case.yaml"
    return dict(yaml.safe_load(file.read_text())) if file.exists() else {}


def flags_of(case: str, side: str) -> list[str] | None:
    """The server's flags: one list, or one by side; None where nobody says."""
    given = options(case).get("flags")
    return given[side] if isinstance(given, dict) else given


def rule_of(case: str) -> Rule:
    return BY_CODE[case.partition("_")[0]]


def expected_verdict(case: str, side: str) -> str:
    """``refuses``, ``accepts``, or why the server cannot be asked.

    In case.yaml ``server`` is one word for both sides, or by side; by default a server rule's wrong side is
    refused and all else accepted.
    """
    given = options(case).get("server", {})
    default = "refuses" if side == "wrong" and rule_of(case).server else "accepts"
    return str(given.get(side, default) if isinstance(given, dict) else given)


def materialised(case: str, side: str, folder: Path) -> Path:
    """A copy of one side with its ONNX files made."""
    target = Path(shutil.copytree(CASES / case / side, folder / f"{case}-{side}", symlinks=True))
    for text in target.rglob("*.onnx.txt"):
        onnx.save(onnx.parser.parse_model(text.read_text()), text.with_suffix(""))
        text.unlink()
    for file, size in options(case).get("pad", {}).items():  # a comment that makes the wrong side's file that long
        if side == "wrong":
            with (target / file).open("a") as stream:
                stream.write("#" + " " * size)
    return target


def lint(folder: Path, case: str, side: str, *, strict: bool | None = None) -> list[Finding]:
    given, flags = options(case), flags_of(case, side)
    if strict is not None:
        flags = [*(flag for flag in flags or () if flag != STRICT), *([STRICT] if strict else [])]
    triton = None if "image" in given else str(given.get("triton", TRITON))
    backends = frozenset(given["backends"]) if "backends" in given else None
    facts = ServerFacts(
        None if flags is None else tuple(flags), given.get("image"), triton, given.get("gpus", 0), backends
    )
    return findings(folder, facts=facts)


def shown(findings: list[Finding]) -> str:
    return "\n".join(f"{f.place}: {f.code} {f.severity}: {f.message}" for f in findings)


@pytest.mark.parametrize("case", ALL)
def test_a_rule_finds_its_mistake_and_nothing_else(case: str, tmp_path: Path) -> None:
    rule = rule_of(case)
    found = lint(materialised(case, "wrong", tmp_path), case, "wrong")
    assert rule.code in {f.code for f in found}, shown(found)
    assert [f for f in found if f.severity != Severity.ADVICE and f.code != rule.code] == [], shown(found)
    for piece in options(case).get("messages", ()):
        assert any(piece in f.message for f in found if f.code == rule.code), shown(found)


@pytest.mark.parametrize("case", ALL)
def test_a_rule_is_content_with_the_right_form(case: str, tmp_path: Path) -> None:
    found = lint(materialised(case, "right", tmp_path), case, "right")
    assert [f for f in found if f.severity == Severity.ERROR or f.code == rule_of(case).code] == [], shown(found)


AGREEMENT: dict[tuple[str, str], list[str]] = {}
Question = tuple[tuple[str, ...], str]
"""The server's flags, and the fingerprint of a repository."""


def question_flags(case: str, side: str, strict: bool) -> tuple[str, ...] | None:
    """The flags of the server to ask; None where it cannot be asked."""
    flags = flags_of(case, side) or []
    if expected_verdict(case, side) not in ("refuses", "accepts") or (STRICT in flags and not strict):
        return None
    return (*(flag for flag in flags if flag != STRICT), *([STRICT] if strict else []))


def fingerprint(folder: Path) -> str:
    """The same for repositories that hold the same; the right sides of many cases do."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inner = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        content.update(f"{path.relative_to(folder)} {path.is_symlink()} {len(inner)} ".encode() + inner)
    return content.hexdigest()


def ask_all(questions: dict[Question, Path]) -> dict[Question, Judgement]:
    """The server's answers: several servers at once, because a load is mostly waiting."""
    chunks: list[list[Question]] = []
    for _, group in itertools.groupby(sorted(questions), key=lambda question: question[0]):
        rows = list(group)
        chunks += [rows[start : start + 30] for start in range(0, len(rows), 30)]

    def ask(chunk: list[Question]) -> dict[Question, Judgement]:
        with open_judge(chunk[0][0]) as judge:
            return {question: judge.judge(questions[question]) for question in chunk}

    with ThreadPoolExecutor(8) as pool:
        return {question: answer for answers in pool.map(ask, chunks) for question, answer in answers.items()}


@pytest.fixture(scope="module")
def judgements(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, bool], Judgement]:
    """What the server says to every case that was selected, by case, side and mode."""
    folder, questions, wanted = tmp_path_factory.mktemp("cases"), {}, {}
    asked = {
        tuple(item.callspec.params[name] for name in ("case", "side", "strict"))
        for item in request.session.items
        if getattr(item, "originalname", "") == test_lint_and_the_server_agree.__name__
    }
    for case, side, strict in sorted(asked):
        flags = question_flags(case, side, strict)
        if flags is not None:
            place = folder / f"{case}-{side}"
            repository = place if place.exists() else materialised(case, side, folder)
            question = (flags, fingerprint(repository))
            questions[question] = repository
            wanted[case, side, strict] = question
    answers = ask_all(questions)
    return {key: answers[question] for key, question in wanted.items()}


@pytest.mark.timeout(1200)  # the first one asks for all
@pytest.mark.parametrize("strict", [False, True], ids=["completing", "strict"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ALL)
def test_lint_and_the_server_agree(
    case: str, side: str, strict: bool, judgements: dict[tuple[str, str, bool], Judgement], tmp_path: Path
) -> None:
    wanted = expected_verdict(case, side)
    row = AGREEMENT.setdefault((case, side), ["", ""])
    if (case, side, strict) not in judgements:
        row[strict] = wanted if wanted not in ("refuses", "accepts") else "asked in strict mode only"
        return
    judgement = judgements[case, side, strict]
    found = [
        f for f in lint(materialised(case, side, tmp_path), case, side, strict=strict) if f.severity == Severity.ERROR
    ]
    lints = "refuses" if any(BY_CODE[f.code].server for f in found) else "accepts"
    row[strict] = f"lint {lints}, server {judgement.verdict}"
    assert lints == judgement.verdict, f"server: {judgement.refused}\nlint:\n{shown(found)}"
    if not strict or STRICT in (flags_of(case, side) or []):
        assert judgement.verdict == wanted, f"server: {judgement.refused}"


def test_the_table_of_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    """Print what each side of each case gave; run with the tests above (-s is not needed)."""
    rows = [f"{case:60} {side:6} {row[0]:42} {row[1]}" for (case, side), row in sorted(AGREEMENT.items())]
    with capsys.disabled():
        print(f"\n{'case':60} {'side':6} {'completing':42} strict")
        print("\n".join(rows))
    assert all(row.strip() for rows_ in AGREEMENT.values() for row in rows_)
