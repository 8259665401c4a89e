# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Times in records, and what of them can be a feature."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)([T ](?P<minute>\d\d:\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_TIME_DEFAULTS = (("minute", "00:00"), ("second", "00"), ("fraction", "0"))

UNITS: dict[str, Callable[[datetime], float]] = {
    "seconds": datetime.timestamp,
    "days": lambda time: time.timestamp() / 86400,
    "year": lambda time: time.year,
    "month": lambda time: time.month,
    "day": lambda time: time.day,
    "weekday": datetime.weekday,
    "hour": lambda time: time.hour,
}
"""What of a time can be a feature."""


def time_of(value: Any) -> datetime:
    """Of text in RFC 3339, UTC where it has no zone, or of seconds since 1970; ValueError for anything else."""
    if type(value) in (int, float):
        return datetime.fromtimestamp(value, timezone.utc)
    found = _TIME.fullmatch(value) if type(value) is str else None
    if found is None:
        raise ValueError(value)
    minute, second, fraction = (found[name] or default for name, default in _TIME_DEFAULTS)
    zone = (found["zone"] or "Z").upper().replace("Z", "+00:00")
    # in the one form that every Python can read
    return datetime.fromisoformat(f"{found['date']}T{minute}:{second}.{fraction[:6]:0<6}{zone}")
