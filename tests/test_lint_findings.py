# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What each rule says to its mistake, word for word: the place, the sentence, the fix.

``expected.txt`` of a case of tests/lint holds it, for a reader to judge. ``python tests/test_lint_findings.py``
writes them anew: look at the difference before you keep it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from test_lint_golden import ALL, CASES, lint, materialised, rule_of


def said(case: str, folder: Path) -> str:
    """The findings of the case's own rule on its wrong side, one a line, each with its fix below it."""
    lines = []
    for found in lint(materialised(case, "wrong", folder), case, "wrong"):
        if found.code == rule_of(case).code:
            lines.append(f"{found.place or '(the repository)'}: {found.message}")
            lines += [f"    fix: {found.fix.description}"] if found.fix else []
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", ALL)
def test_a_rule_says_this(case: str, tmp_path: Path) -> None:
    file = CASES / case / "expected.txt"
    assert file.exists(), f"write {file.relative_to(CASES)}: python tests/test_lint_findings.py"
    assert said(case, tmp_path) == file.read_text()


if __name__ == "__main__":
    for each in ALL:
        with tempfile.TemporaryDirectory() as temporary:
            (CASES / each / "expected.txt").write_text(said(each, Path(temporary)))
