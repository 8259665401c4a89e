# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of streamed answers, as a specification."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_records import SECOND, streamed, unary
from trtkit.perf.statistics.streaming import gaps_ns, streaming_statistics


def test_first_response_gaps_and_rates():
    records = streamed((0, [100, 110, 130]), (50, [200]), (100, [150, 190]))
    found = streaming_statistics(records, 2.0)
    assert (found.requests, found.responses, found.responses_per_s) == (3, 6, 3.0)
    assert (found.first_response.min_ns, found.first_response.max_ns) == (50, 150)
    assert (found.inter_response.count, found.inter_response.min_ns, found.inter_response.max_ns) == (3, 10, 40)
    assert (found.inter_response_per_request.count, found.inter_response_per_request.min_ns) == (2, 15)
    assert (found.responses_per_request_min, found.responses_per_request_max) == (1, 3)
    assert found.responses_per_request_mean == 2
    assert found.responses_per_s_per_user == pytest.approx((2 / 30e-9 + 1 / 40e-9) / 2)
    assert json.loads(json.dumps(found.to_json()))["inter_response"]["count"] == 3


def test_twenty_tokens_a_second():
    token = SECOND // 20
    records = streamed(*((at, [at + 3 * token + n * token for n in range(10)]) for at in range(0, SECOND, token)))
    found = streaming_statistics(records, 1.0)
    assert found.first_response.p50_ns == 3 * token
    assert (found.inter_response.min_ns, found.inter_response.max_ns) == (token, token)
    assert found.responses_per_s_per_user == pytest.approx(20)
    assert found.responses_per_s == 200


def test_failed_requests_are_left_out_with_their_responses():
    records = streamed((0, [10, 1000]), (0, [20, 21, 22]), (0, [5]), failed=(0, 2))
    found = streaming_statistics(records, 1.0)
    assert (found.requests, found.responses, found.inter_response.max_ns) == (1, 3, 1)


def test_requests_without_a_response_have_no_first_one():
    found = streaming_statistics(streamed((0, []), (0, [30]), (0, [])), 1.0)
    assert (found.requests, found.first_response.count, found.responses_per_request_min) == (3, 1, 0)
    assert (found.inter_response, found.inter_response_per_request, found.responses_per_s_per_user) == (None,) * 3


def test_responses_at_one_time_have_no_rate():
    found = streaming_statistics(streamed((0, [30, 30])), 1.0)
    assert (found.inter_response.max_ns, found.responses_per_s_per_user) == (0, None)


def test_nothing_streamed_has_no_statistics():
    assert streaming_statistics(unary([1, 2]), 1.0) is None
    assert streaming_statistics(streamed((0, [1]), failed=(0,)), 1.0) is None


@given(st.lists(st.lists(st.integers(0, 1000), max_size=4).map(sorted), max_size=8))
def test_gaps_are_within_requests(requests):
    expected = [after - before for times in requests for before, after in pairwise(times)]
    assert gaps_ns(streamed(*((0, times) for times in requests))).tolist() == expected
