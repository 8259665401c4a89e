# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Rows of requests: nothing is lost when they are cut, chosen and put together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trtkit.perf.loop.records import Recorder, concatenate
from trtkit.perf.transports.base import Failure

ROW = st.tuples(
    st.integers(0, 1000),  # intended
    st.integers(0, 50),  # sent after it
    st.integers(0, 500),  # ended after that
    st.integers(0, 9),  # request
    st.sampled_from([None, Failure("timeout", "late"), Failure("HTTP 400", "no")]),
    st.lists(st.integers(0, 100), max_size=4),  # gaps of responses
)


def recorded(rows, streams):
    """The rows of one process, in the order of their ends."""
    recorder = Recorder()
    for intended, wait, service, index, failure, gaps in sorted(rows, key=lambda row: row[0] + row[1] + row[2]):
        sent = intended + wait
        if streams or failure:
            times = (sent + np.cumsum(gaps)).tolist() if streams else []
            recorder.row_of(intended, sent, sent + service, index, 0, times, failure)
        else:
            recorder.row(intended, sent, sent + service, index, 0)
    return recorder.cut()


def as_rows(records):
    """Every row with its responses' times and its failure's kind, for comparison."""
    kinds = ["", *(failure.kind for failure in records.failures)]
    times = iter(records.response_ns.tolist())
    rows = []
    for place in range(len(records)):
        own = tuple(next(times) for _ in range(records.responses[place])) if records.streamed else ()
        columns = (records.intended_ns, records.sent_ns, records.first_ns, records.last_ns, records.index)
        rows.append((*(int(column[place]) for column in columns), kinds[records.outcome[place]], own))
    return rows


@given(st.lists(st.lists(ROW, max_size=12), max_size=4), st.booleans())
def test_what_is_put_together_is_every_row_in_the_order_of_the_ends(parts, streams):
    records = [recorded(rows, streams) for rows in parts]
    whole = concatenate(records)
    assert sorted(as_rows(whole)) == sorted(row for part in records for row in as_rows(part))
    assert np.all(np.diff(whole.last_ns) >= 0)
    assert sum(error.count for error in whole.errors()) == int((~whole.ok).sum())
    assert len({failure.kind for failure in whole.failures}) == len(whole.failures)


@given(st.lists(ROW, max_size=20), st.booleans(), st.integers(0, 1600))
def test_rows_are_chosen_with_their_responses(rows, streams, edge):
    records = concatenate([recorded(rows, streams)])
    before, after = records.between(0, edge), records.between(edge, 10_000)
    assert as_rows(before) + as_rows(after) == as_rows(records)


def test_a_cut_begins_with_nothing():
    recorder = Recorder()
    recorder.row(1, 2, 5, 0, 0)
    recorder.row_of(1, 2, 9, 1, 7, [], Failure("timeout", "late"))
    first, second = recorder.cut(), recorder.cut()
    assert first.latency_ns.tolist() == [3, 7]
    assert first.intended_latency_ns.tolist() == [4, 8]
    assert first.sequence.tolist() == [0, 7]
    assert len(second) == 0
    assert second.errors() == ()


def test_errors_are_by_kind_with_the_first_message_most_frequent_first():
    recorder = Recorder()
    for kind, message in [("a", "first"), ("b", "second"), ("b", "third")]:
        recorder.row_of(0, 0, 1, 0, 0, [], Failure(kind, message))
    assert [(error.kind, error.count, error.message) for error in recorder.cut().errors()] == [
        ("b", 2, "second"),
        ("a", 1, "first"),
    ]


def test_a_stream_ends_with_its_last_response_and_a_failed_one_with_its_failure():
    recorder = Recorder()
    recorder.row_of(0, 0, 100, 0, 0, [10, 40], None)
    recorder.row_of(0, 0, 100, 0, 0, [10, 40], Failure("timeout", "late"))
    recorder.row_of(0, 0, 100, 0, 0, [], None)
    rows = recorder.cut()
    assert rows.first_ns.tolist() == [10, 10, 100]
    assert rows.last_ns.tolist() == [40, 100, 100]
    assert rows.responses.tolist() == [2, 2, 0]
