# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import found_at, rule
from trtkit.lint.model import Found


@rule("REA001", "not-readable", refused_by="no program can read it")
def not_readable(files: FileSet) -> Iterator[Found]:
    """A file is no YAML, no JSON or no UTF-8.

    Nothing else can be said about it, and kubectl, docker compose and Prometheus refuse it too. A tab in the
    indentation is the usual cause.

    Wrong:
        metadata: {name: triton

    Right:
        metadata: {name: triton}
    """
    for source in files.sources:
        if source.problem is not None and not source.skipped:
            says = source.problem.reason
            told = says if says.startswith("it ") else f"this is no YAML: {says}"
            yield found_at(source.file, source.problem.line, told, source.problem.column)


RULES = (not_readable,)
