# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Cron schedules as KEDA reads them (robfig/cron v3, five fields), in a time zone with its clock changes.

A time that the clock skips is skipped; one that it shows twice is there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trtkit.errors import ProjectError

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, tuple(_MONTHS)),
    ("day of week", 0, 6, tuple(_DAYS)),
)
_YEARS = 5  # a schedule without a time in these never comes, e.g. 30 February


@dataclass(frozen=True)
class Schedule:
    """The times of a cron expression.

    Attributes:
        text: as it was written.
        minutes, hours, days, months, weekdays: that match; weekdays count from Sunday, 0.
        any_day, any_weekday: whether that field is a star; with two that are none, either may match.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def is_on(self, day: date) -> bool:
        """Whether the day is one of its days."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day and by_weekday if self.any_day or self.any_weekday else by_day or by_weekday

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first of its times after a moment; the moment and the answer are in UTC.

        Raises:
            ProjectError: there is none within five years.
        """
        day = moment.astimezone(zone).date()
        for offset in range(366 * _YEARS):
            there = [time for time in self._on(day + timedelta(days=offset), zone) if time > moment]
            if there:
                return min(there)
        raise ProjectError(f"cron '{self.text}' has no time within {_YEARS} years")

    def _on(self, day: date, zone: ZoneInfo) -> list[datetime]:
        if not self.is_on(day):
            return []
        times = []
        for hour in self.hours:
            for minute in self.minutes:
                for fold in (0, 1):
                    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone, fold=fold)
                    moment = wall.astimezone(timezone.utc)
                    if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
                        times.append(moment)
        return times


@dataclass(frozen=True)
class CronWindow:
    """KEDA's cron trigger: from `start` to `end` it asks for `replicas`, at other times for one."""

    start: Schedule
    end: Schedule
    zone: ZoneInfo
    replicas: int

    def state(self, moment: datetime) -> tuple[bool, datetime]:
        """Whether it is active, and until when that holds (in UTC): active where the end comes before the start."""
        start, end = self.start.after(moment, self.zone), self.end.after(moment, self.zone)
        return end <= start, min(start, end)


def cron_window(start: str, end: str, zone: str, replicas: int) -> CronWindow:
    """A trigger from its texts.

    Raises:
        ProjectError: an expression or the time zone is not known, or start and end are the same.
    """
    if start.split() == end.split():
        raise ProjectError(f"cron start and end are both '{start}'; KEDA refuses that")
    try:
        found = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ProjectError(
            f"cron time zone '{zone}' is not known here; names are like Asia/Shanghai (pip install tzdata on a "
            "machine without the time zone database)"
        ) from exc
    return CronWindow(schedule(start), schedule(end), found, replicas)


def schedule(text: str) -> Schedule:
    """Read a cron expression: minute, hour, day of month, month, day of week.

    Raises:
        ProjectError: it is none that KEDA takes.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ProjectError(
            f"cron '{text}' has {len(fields)} fields; KEDA takes five: minute, hour, day of month, month, day of week"
        )
    sets = [_field(text, field, *about) for field, about in zip(fields, _FIELDS, strict=True)]
    # a star with a step is no star (robfig/cron v3, parser.go): 0 0 */2 * 1 has two fields of which either may match
    stars = [any(part in ("*", "?", "*/1") for part in field.split(",")) for field in fields]
    minutes, hours, days, months, weekdays = sets
    return Schedule(text, minutes, hours, days, months, weekdays, stars[2], stars[4])


def _field(text: str, field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        values |= _part(text, part, name, low, high, names)
    return frozenset(values)


def _part(text: str, part: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    span, slash, step_text = part.partition("/")
    first, dash, last = span.partition("-")
    try:
        if first in ("*", "?") and not dash:
            begin, end = low, high
        else:
            begin = _number(first, low, names)
            end = _number(last, low, names) if dash else high if slash else begin
        step = int(step_text) if slash else 1
    except ValueError:
        raise ProjectError(f"cron '{text}': '{part}' is no {name}") from None
    if not (low <= begin <= end <= high and step >= 1):
        raise ProjectError(f"cron '{text}': {name} '{part}' is not within {low}-{high}")
    return set(range(begin, end + 1, step))


def _number(text: str, low: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)
