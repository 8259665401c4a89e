# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Queries: metrics that there are, and what can be asked of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import found, rule
from trtkit.lint.model import Found

_SINCE = "24.08"
"""The release whose failures have a reason."""
_FAILURE, _OTHER = "nv_inference_request_failure", r"nv_inference_(?:request_success|count|exec_count)"


def _term(name: str) -> str:
    """A metric as it is, or its rate; the brackets behind it belong to it, so that no aggregation ends there."""
    return rf"(?:(?:rate|irate|increase)\s*\(\s*{name}\s*(?:\[[^\]]*\])?\s*\)|{name})"


_PAIRS = tuple(
    re.compile(rf"(?<![\w:]){_term(one)}\s*[-+*/]\s*\(*\s*(?:clamp_min\s*\(\s*)?{_term(other)}(?!\w)")
    for one, other in ((_FAILURE, _OTHER), (_OTHER, _FAILURE))
)


@rule("PQL012", "failures-by-reason")
def failures_by_reason(files: FileSet) -> Iterator[Found]:
    """Failures are divided by, or added to, series that have no reason.

    Since 24.08 nv_inference_request_failure has the label `reason`, and the other counters have not. Prometheus pairs
    series with equal labels: there are none, the result is empty, and the alert never fires. Add them up first.

    Wrong:
        expr: rate(nv_inference_request_failure[5m]) / rate(nv_inference_request_success[5m]) > 0.01

    Right:
        expr: sum by (model) (rate(nv_inference_request_failure[5m]))
              / sum by (model) (rate(nv_inference_request_success[5m])) > 0.01
    """
    for query in files.queries:
        release = files.release(file=query.node.file)
        if release and release < _SINCE:
            continue
        for match in (match for pattern in _PAIRS for match in pattern.finditer(query.bare)):
            whole = query.text[match.start() : match.end()]
            if not re.search(r"\b(?:on|ignoring)\b", whole):
                says = f"{_FAILURE} has the label reason and the other side has not, so this is always empty"
                yield found(query.word(whole, match.start()), f"{says}; use sum by (model) (…) on both sides")


RULES = (failures_by_reason,)
