# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comments that tell lint to be silent; these rules come last, when it is known what each comment did."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.finding import Fix, Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule


@rule("IGN001", "ignore-not-understood", Severity.WARNING, needs_config=False, fixable=True)
def ignore_not_understood(model: Model) -> Iterator[Found]:
    """A comment that tells lint to be silent names no rule, or stands where it does nothing.

    Such a comment hides nothing, and whoever reads it believes it does. It takes codes, rules' names and the
    letters of a category; `ignore-file` stands alone on a line before the first field.

    Wrong:
        max_batch_size: 8  # trtkit: ignore=NAM999

    Right:
        max_batch_size: 8
    """
    for file, sheet in model.ignores.sheets.items():
        for misuse in sheet.misuses:
            fix = Fix("remove the comment, or the word", (misuse.removal,))
            yield Found(file, misuse.message, misuse.line, misuse.column, fix)


@rule("IGN002", "ignore-unused", Severity.ADVICE, needs_config=False, fixable=True)
def ignore_unused(model: Model) -> Iterator[Found]:
    """A comment ignores a rule that finds nothing there.

    What it was for is mended, or it stands at the wrong line; it would hide the next such mistake. Only ignores
    of rules that were applied are judged, so `--select` makes none of them unused, nor does a run in which
    tritonserver's flags, version or GPUs were not said and the rule depends on them.

    Wrong:
        max_batch_size: 8  # trtkit: ignore=PBT002

    Right:
        max_batch_size: 8
    """
    for file, sheet in model.ignores.sheets.items():
        for each in sheet.ignores:
            if model.ignores.unused(each):
                message = f"'{each.word}' is ignored here, and there is nothing of it to ignore"
                yield Found(file, message, each.line, each.column, Fix(f"remove {each.word}", (each.removal,)))


RULES = (ignore_not_understood, ignore_unused)
