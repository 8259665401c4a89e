# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Reference answers: the user's, or the server's own when nothing else runs."""

from __future__ import annotations

from collections.abc import Callable

from trtkit.errors import DataError
from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.checks.verify import Answer
from trtkit.perf.data.pool import Pool, Request

_ASKED_TWICE = 8


def asked_alone(pool: Pool, ask: Callable[[Request], Answer], closeness: Closeness | None = None) -> list[Answer]:
    """The reference answer of each request: its `expected`, or what the server answers when nothing else runs.

    The first few are asked twice, because a model whose answers depend on chance or on earlier requests has no
    reference.

    Args:
        pool: the requests.
        ask: sends one request, waits, and gives the arrays of the answer.
        closeness: how near the two answers have to be.

    Raises:
        DataError: two answers to one request differ.
        TrtkitError: from `ask`.
    """
    answers: list[Answer] = []
    twice = _ASKED_TWICE
    for index, request in enumerate(pool.requests):
        if request.expected is not None:
            answers.append(request.expected)
            continue
        answers.append(ask(request))
        if twice:
            twice -= 1
            _check_repeats(index, request.model, answers[-1], ask(request), closeness or Closeness())
    return answers


def _check_repeats(index: int, model: str, first: Answer, second: Answer, closeness: Closeness) -> None:
    for name, array in first.items():
        if name not in second or not closeness.compare(name, array, second[name]).passed:
            raise DataError(
                f"model '{model}' answered request {index} in two ways, in output '{name}', with nothing else running; "
                "answers that depend on chance or on earlier requests have no reference: give validation_data, or "
                "measure without --verify"
            )
