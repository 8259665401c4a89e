# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Changes to a config's text that keep everything else as it was written: order, comments, spaces."""

from __future__ import annotations

from trtkit.lint.finding import Edit, Fix
from trtkit.pbtxt import Document, Path


def set_value(document: Document | None, path: Path, value: str) -> Fix | None:
    """Give a field another value, or write it where it is not there; None where there is no config.

    Args:
        document: the config.
        path: of a field that is not repeated, or of one value of a repeated one.
        value: as it is to be written, e.g. ``"digits"`` with its quotes, or ``8``.
    """
    if document is None:
        return None
    described = f"set {path[-1] if isinstance(path[-1], str) else path[-2]}: {value}"
    if path in document.spans:
        span = document.spans[path]
        return Fix(described, (Edit(span.value, span.end, value),))
    return Fix(described, (insertion(document, path[:-1], f"{path[-1]}: {value}"),))


def insertion(document: Document, parent: Path, line: str) -> Edit:
    """One more line at the end of a message; () is the outermost. The parent has to be written."""
    end = document.bodies[parent]
    text = document.text
    if not parent:
        start = "" if not text or text.endswith("\n") else "\n"
        return Edit(end, end, f"{start}{line}\n")
    line_start = text.rfind("\n", 0, end) + 1
    if text[line_start:end].strip():  # the brace stands behind something: stay on its line
        return Edit(end, end, f"{'' if text[end - 1].isspace() else ' '}{line} ")
    indent = text[line_start:end]
    return Edit(line_start, line_start, f"{indent}  {line}\n")


def removal(document: Document, path: Path) -> Fix:
    """Take out a field, or one value of a list, with its separator and the line it leaves empty."""
    span, text = document.spans[path], document.text
    start, end = span.start, span.end
    after = end + len(text[end:]) - len(text[end:].lstrip(" \t"))
    if text[after : after + 1] in (",", ";"):
        end = after + 1
        end += len(text[end:]) - len(text[end:].lstrip(" \t"))
    elif text[:start].rstrip().endswith(","):
        start = text.rindex(",", 0, start)
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    if not text[line_start:start].strip() and not text[end:line_end].strip():
        start, end = line_start, min(line_end + 1, len(text))
    name = next(part for part in reversed(path) if isinstance(part, str))
    return Fix(f"remove {name}", (Edit(start, end, ""),))


def removed(document: Document | None, path: Path) -> Fix | None:
    """`removal` of every place where a field is written; None where it is written nowhere."""
    if document is None or path not in document.spans:
        return None
    whole = removal(document, path)
    end, index, edits = document.spans[path].end, 0, list(whole.edits)
    while (span := document.spans.get((*path, index))) is not None:
        if span.start >= end:  # the field stands again, without brackets
            edits += removal(document, (*path, index)).edits
        index += 1
    return Fix(whole.description, tuple(edits))
