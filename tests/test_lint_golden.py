# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Each rule on a wrong and a right repository, and what the real server says to the same.

A case is tests/lint/<CODE>_<mistake>/{wrong,right}, each a model repository. ``X.onnx.txt`` (ONNX's text
format) becomes ``X.onnx``. A ``case.yaml`` beside them may hold ``flags``, ``image``, ``gpus``, ``backends``,
``messages`` (pieces that the findings have to contain), ``pad`` (bytes to add to a file of the wrong side) and
``server`` (see `expected_verdict`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
import yaml

from lint_judge import TRITON, Judge, open_judge
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.run import lint_repository, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree

CASES = Path(__file__).parent / "lint"
SIDES = ("wrong", "right")
BY_CODE = {each.code: each for each in RULES}
STRICT = "--disable-auto-complete-config"
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
    return lint_repository(open_repository(LocalTree(folder), facts), RULES)


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


@pytest.fixture(scope="module")
def judges() -> Iterator[Any]:
    """By the server's options, a running server."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        @lru_cache(maxsize=4)
        def judge(*flags: str) -> Judge:
            return stack.enter_context(open_judge(flags))

        yield judge


AGREEMENT: dict[tuple[str, str], list[str]] = {}


@pytest.mark.parametrize("strict", [False, True], ids=["completing", "strict"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", ALL)
def test_lint_and_the_server_agree(case: str, side: str, strict: bool, judges: Any, tmp_path: Path) -> None:
    wanted = expected_verdict(case, side)
    row = AGREEMENT.setdefault((case, side), ["", ""])
    if wanted not in ("refuses", "accepts"):
        row[strict] = wanted
        return
    flags = flags_of(case, side) or []
    given = tuple(flag for flag in flags if flag != STRICT)
    if STRICT in flags and not strict:
        row[strict] = "asked in strict mode only"
        return
    folder = materialised(case, side, tmp_path)
    found = [f for f in lint(folder, case, side, strict=strict) if f.severity == Severity.ERROR]
    judgement = judges(*given, *([STRICT] if strict else [])).judge(folder)
    lints = "refuses" if any(BY_CODE[f.code].server for f in found) else "accepts"
    row[strict] = f"lint {lints}, server {judgement.verdict}"
    assert lints == judgement.verdict, f"server: {judgement.refused}\nlint:\n{shown(found)}"
    if not strict or STRICT in flags:
        assert judgement.verdict == wanted, f"server: {judgement.refused}"


def test_the_table_of_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    """Print what each side of each case gave; run with the tests above (-s is not needed)."""
    rows = [f"{case:60} {side:6} {row[0]:42} {row[1]}" for (case, side), row in sorted(AGREEMENT.items())]
    with capsys.disabled():
        print(f"\n{'case':60} {'side':6} {'completing':42} strict")
        print("\n".join(rows))
    assert all(row.strip() for rows_ in AGREEMENT.values() for row in rows_)
