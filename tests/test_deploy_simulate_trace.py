# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Loads: from CSV files, with the line of each mistake, and built in; and cron schedules with their clock changes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtkit.deploy.cron import cron_window, schedule
from trtkit.deploy.simulation.shapes import SHAPES, shaped
from trtkit.deploy.simulation.trace import START, Trace, read_trace
from trtkit.errors import DataError, ProjectError

UTC = timezone.utc


def written(folder: Path, text: str) -> Path:
    path = folder / "load.csv"
    path.write_text(text)
    return path


def test_rates_over_seconds(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, "# recorded\ntime,requests_per_s\n100,10\n160,20\n\n220,5\n"))
    assert found.times == (0, 60, 120, 180)  # the last row lasts as long as the one before
    assert found.rates == (10, 20, 5)
    assert found.start == START
    assert found.requests == 60 * 35
    assert found.peak == 20


def test_counts_over_timestamps(tmp_path: Path) -> None:
    text = (
        "Time, model, Requests\n2026-03-01T08:00:00+08:00,a,600\n2026-03-01T00:01:00Z,a,1200\n2026-03-01 00:03:00,a,0\n"
    )
    found = read_trace(written(tmp_path, text))
    assert found.start == datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
    assert found.times == (0, 60, 180, 300)
    assert found.rates == (10, 10, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,requests_per_s\n0,1\n", "needs a header and at least two rows"),
        ("", "needs a header"),
        (
            "when,requests_per_s\n0,1\n1,1\n",
            r"load.csv:1 has none of the columns time, timestamp.* when, requests_per_s",
        ),
        ("time,rps,requests\n0,1,1\n1,1,1\n", "load.csv:1 has more than one of the columns"),
        ("time,rps\n0,1\n1,many\n", "load.csv:3 'many' is no number"),
        ("time,rps\n0,1\n1,-1\n", "load.csv:3 '-1' requests are not possible"),
        ("time,rps\n0,1\n1,nan\n", "load.csv:3"),
        ("time,rps\n0,1\n0,1\n", "load.csv:3 is not after the row before"),
        ("time,rps\n0,1\n\n60\n", "load.csv:4 has 1 columns"),
        ("time,rps\n0,1\n2026-01-01T00:00:00Z,1\n", "load.csv:3 mixes seconds with timestamps"),
        ("time,rps\ntoday,1\n1,1\n", "load.csv:2 'today' is no time"),
        ("time,rps\n0,0\n1,0\n", "has no request in it"),
        ("time,rps\n0,1\n9999999,1\n", "at most 32"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_trace(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"time,rps\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="no UTF-8"):
        read_trace(tmp_path / "bytes.csv")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1000)), min_size=1, max_size=20),
    st.sampled_from([0.5, 1.0, 7.0]),
)
def test_ticks_keep_every_request(parts: list[tuple[float, float]], tick_s: float) -> None:
    times = [0.0]
    for seconds, _ in parts:
        times.append(times[-1] + seconds)
    trace = Trace("any", START, tuple(times), tuple(rate for _, rate in parts))
    assert sum(trace.ticks(tick_s)) * tick_s == pytest.approx(trace.requests, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_shapes(name: str) -> None:
    found = shaped(name, 500, 50)
    assert found.peak == pytest.approx(500, rel=0.02)
    assert min(found.rates) >= 25
    assert found.rates == shaped(name, 500, 50).rates
    assert found.duration_s == SHAPES[name][1]


def test_noise_follows_its_seed() -> None:
    assert shaped("noisy", 500, 50, seed=1).rates != shaped("noisy", 500, 50, seed=2).rates


def test_the_daily_course_has_two_peaks_and_a_quiet_night() -> None:
    found = shaped("daily", 1000, 100)
    hours = [found.rates[int(hour * 720)] for hour in range(24)]
    assert hours.index(min(hours)) == 4
    assert hours[10] > hours[13] < hours[20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dayly", 10), "dayly"),
        (("step", 0), "--peak 0"),
        (("step", 10, 11), "--low 11 is not between"),
        (("step", 10, 1, 5), "--duration 5"),
    ],
)
def test_shapes_that_are_not_possible(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        shaped(*arguments)  # type: ignore[arg-type]


# -- cron -------------------------------------------------------------------------------------------------------------


def after(text: str, moment: datetime, zone: str = "UTC") -> datetime:
    return schedule(text).after(moment, ZoneInfo(zone))


def test_the_next_time() -> None:
    monday = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    assert after("0 8 * * *", monday) == datetime(2026, 1, 6, 8, 0, tzinfo=UTC)
    assert after("30 9 * * *", monday) == datetime(2026, 1, 6, 9, 30, tzinfo=UTC)  # after, not at
    assert after("*/20 * * * *", monday) == datetime(2026, 1, 5, 9, 40, tzinfo=UTC)
    assert after("5/20 * * * *", monday) == datetime(2026, 1, 5, 9, 45, tzinfo=UTC)
    assert after("0 0 1 FEB *", monday) == datetime(2026, 2, 1, tzinfo=UTC)
    assert after("0 6-8,18 * * sat-SAT,sun", monday) == datetime(2026, 1, 10, 6, 0, tzinfo=UTC)
    assert after("0 0 29 2 *", monday) == datetime(2028, 2, 29, tzinfo=UTC)


def test_days_of_both_fields() -> None:
    monday = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    assert after("0 0 15 * 3", monday) == datetime(2026, 1, 7, tzinfo=UTC)  # either: the 15th, or Wednesday
    assert after("0 0 15 * *", monday) == datetime(2026, 1, 15, tzinfo=UTC)
    assert after("0 0 ? * 3", monday) == datetime(2026, 1, 7, tzinfo=UTC)
    assert after("0 0 */2 * 3", datetime(2026, 1, 5, tzinfo=UTC)) == datetime(2026, 1, 7, tzinfo=UTC)
    assert after("0 0 */2 * 4", datetime(2026, 1, 5, tzinfo=UTC)) == datetime(
        2026, 1, 7, tzinfo=UTC
    )  # a step is no star


def test_clock_changes() -> None:
    """Berlin skips 2:00 to 3:00 on 29 March 2026, and has it twice on 25 October."""
    zone = "Europe/Berlin"
    assert after("30 8 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), zone) == datetime(2026, 3, 29, 6, 30, tzinfo=UTC)
    assert after("30 8 * * *", datetime(2026, 3, 27, 12, tzinfo=UTC), zone) == datetime(2026, 3, 28, 7, 30, tzinfo=UTC)
    assert after("30 2 * * *", datetime(2026, 3, 29, 0, tzinfo=UTC), zone) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    first = after("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), zone)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert after("30 2 * * *", first, zone) == first + timedelta(hours=1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 59), st.integers(0, 23), st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]),
)  # fmt: skip
def test_a_daily_time_shows_on_the_clock(minute: int, hour: int, moment: datetime, zone: str) -> None:
    found = after(f"{minute} {hour} * * *", moment.replace(tzinfo=UTC), zone).astimezone(ZoneInfo(zone))
    assert (found.hour, found.minute, found.second) == (hour, minute, 0)
    assert timedelta(0) < found - moment.replace(tzinfo=UTC) <= timedelta(hours=50)  # 2:30 may be skipped once


def test_a_window_is_active_where_its_end_comes_first() -> None:
    window = cron_window("0 8 * * 1-5", "0 20 * * 1-5", "Asia/Shanghai", 10)
    assert window.state(datetime(2026, 1, 5, 0, 30, tzinfo=UTC)) == (True, datetime(2026, 1, 5, 12, tzinfo=UTC))
    assert window.state(datetime(2026, 1, 5, 12, 0, tzinfo=UTC)) == (False, datetime(2026, 1, 6, 0, tzinfo=UTC))
    overnight = cron_window("0 22 * * *", "0 6 * * *", "UTC", 3)
    assert overnight.state(datetime(2026, 1, 5, 23, tzinfo=UTC))[0]
    assert not overnight.state(datetime(2026, 1, 5, 12, tzinfo=UTC))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 8 * *", "has 4 fields"),
        ("0 0 8 * * *", "has 6 fields"),
        ("60 8 * * *", "minute '60' is not within 0-59"),
        ("0 8 * * 7", "day of week '7' is not within 0-6"),
        ("0 8 0 * *", "day of month '0'"),
        ("0 8 * foo *", "'foo' is no month"),
        ("0 9-8 * * *", "hour '9-8'"),
        ("*/0 * * * *", "minute '\\*/0'"),
        ("@daily", "has 1 fields"),
        ("L 8 * * *", "'L' is no minute"),
    ],
)
def test_schedules_that_keda_refuses(text: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        schedule(text)


def test_other_refusals() -> None:
    with pytest.raises(ProjectError, match="no time within"):
        after("0 0 30 2 *", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ProjectError, match="Mars/Olympus"):
        cron_window("0 8 * * *", "0 9 * * *", "Mars/Olympus", 2)
    with pytest.raises(ProjectError, match="are both"):
        cron_window("0 8 * * *", "0  8 * * *", "UTC", 2)
