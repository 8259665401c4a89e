# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Concurrencies and request rates as a user writes them, as a specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import ProjectError
from trtkit.perf.levels import parse_levels, parse_rates


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("500", [500]),
        ("100.5, 200", [100.5, 200]),
        ("100:500:100", [100, 200, 300, 400, 500]),
        ("0.1:0.5:0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("0.5:4:*2", [0.5, 1, 2, 4]),
        ("1:2:*1.5", [1, 1.5]),
        ("3:5", [3, 4, 5]),
    ],
)
def test_rates(text, rates):
    assert parse_rates(text) == rates


def test_perf_analyzers_range_of_one():
    assert parse_levels("8:8:1") == [8]
    assert parse_rates("500:500:100") == [500.0]


@pytest.mark.parametrize("text", ["8:", "8:0", "8:0:2", "8::2"])
def test_a_search_without_an_end_is_refused(text):
    with pytest.raises(ProjectError, match=f"the range '{text}' has no end; --find-capacity searches without one"):
        parse_levels(text)
    with pytest.raises(ProjectError, match="request rate '.*has no end"):
        parse_rates(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "above 0"),
        ("-1", "neither a number nor a range"),
        ("5:1", "not end before it starts"),
        ("1:5:0", "never ends"),
        ("1:5:*1", "never ends"),
        ("1:9999:0.5", "more than 1000 levels"),
        ("1e3", "neither"),
        ("", "neither"),
    ],
)
def test_rates_that_make_no_sense(text, words):
    with pytest.raises(ProjectError, match=words):
        parse_rates(text)


def test_concurrencies_are_whole():
    with pytest.raises(ProjectError, match=r"'1\.5' is not a whole number"):
        parse_levels("1:4:1.5")


@given(st.integers(1, 900), st.integers(1, 50), st.integers(0, 90))
def test_decimal_steps_end_where_they_should(start, step, count):
    levels = parse_rates(f"{start / 100:g}:{(start + count * step) / 100:g}:{step / 100:g}")
    assert levels == pytest.approx([(start + n * step) / 100 for n in range(count + 1)])
