# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows, and when a measurement is stable.

Windows follow each other without overlap, so their means are batch means, whose scatter gives a confidence
interval of the result. A measurement is stable when, over its last windows, this interval is narrow enough for
the throughput and for the p90 latency (or another percentile), and no single window is far off. Both quantities
are needed: in a closed loop the *mean* latency follows from the throughput (Little's law) and would add nothing,
the percentile sees a changing tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trtkit.perf.loop.records import Records
from trtkit.perf.statistics.latency import nearest_rank
from trtkit.perf.statistics.student import mean_interval

JUDGED = 5
"""How many windows, the last ones, are judged together and merged into the result, unless another number is asked."""

_FARTHEST = 3
_STABLE_PERCENTILE = 90


@dataclass(frozen=True, slots=True)
class Window:
    """One window in numbers.

    Attributes:
        number: counted from 1.
        duration_ns: its real length.
        requests: how many ended in it and succeeded.
        errors: how many ended in it and failed.
        responses: responses with content of the successful requests.
        requests_per_s: `requests` by its length.
        p50_ns: median latency from the send; None without a successful request.
        p90_ns: 90th percentile, nearest rank.
        p99_ns: 99th percentile, nearest rank.
        judged_ns: the percentile by which stability is judged, from the intended time; p90 unless asked otherwise.
        client_cpu_share: CPU time of the client by the window's length; 1.0 is one core.
    """

    number: int
    duration_ns: int
    requests: int
    errors: int
    responses: int
    requests_per_s: float
    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    judged_ns: int | None
    client_cpu_share: float

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def window_of(number: int, records: Records, duration_ns: int, cpu_ns: int, percentile: int | None = None) -> Window:
    """The requests that ended in a window, in numbers.

    Args:
        number: of the window, from 1.
        records: of the requests that ended in it, failed ones too.
        duration_ns: the window's real length, above 0.
        cpu_ns: CPU time of the client in it.
        percentile: 1 to 99, the one by which stability is judged; None is p90.
    """
    good = records.ok
    latencies = records.latency_ns[good]
    ordered = np.sort(latencies)

    def at(per_mille: int) -> int | None:
        return nearest_rank(ordered, per_mille) if len(ordered) else None

    # from the intended time: that of an open loop whose server falls behind grows, while the other stays
    intended = np.sort(records.intended_latency_ns[good])
    judged = nearest_rank(intended, 10 * (percentile or _STABLE_PERCENTILE)) if len(ordered) else None
    return Window(
        number=number,
        duration_ns=duration_ns,
        requests=len(latencies),
        errors=len(records) - len(latencies),
        responses=int(records.responses[good].sum()),
        requests_per_s=len(latencies) / (duration_ns / 1e9),
        p50_ns=at(500),
        p90_ns=at(900),
        p99_ns=at(990),
        judged_ns=judged if len(ordered) else None,
        client_cpu_share=cpu_ns / duration_ns,
    )


def all_failed(windows: Sequence[Window], judged: int = JUDGED) -> bool:
    """Whether the last windows, as many as are judged, saw failed requests and no other."""
    last = windows[-judged:]
    return len(last) == judged and not any(w.requests for w in last) and any(w.errors for w in last)


def instability(
    windows: Sequence[Window], tolerance: float, judged: int = JUDGED, percentile: int | None = None
) -> str:
    """Why the last windows are not stable, in one sentence; empty when they are.

    Stable means, for the throughput and for the latency percentile alike: the 95 % confidence interval of the
    windows' mean (Student's t) reaches no farther than `tolerance` from it, and no window is farther from it than
    three times that.

    Args:
        windows: all windows so far.
        tolerance: a share of the mean; 0.1 is ±10 %.
        judged: how many windows, the last ones, are judged; at least 2.
        percentile: that of `window_of`.
    """
    last = windows[-judged:]
    if len(last) < judged:
        return f"{len(last)} of at least {judged} windows were measured"
    if all_failed(windows, judged):
        return f"no request succeeded in the last {judged} windows"
    empty = [str(w.number) for w in last if w.judged_ns is None]
    failed = sum(w.errors for w in last if w.judged_ns is None)
    if empty and failed:
        return f"no request succeeded in window {', '.join(empty)}, and {failed:,} failed"
    if empty:
        return f"no request succeeded in window {', '.join(empty)}; a window has to be longer than a request"
    latency = f"p{percentile or _STABLE_PERCENTILE} latency"
    return _variation("throughput", "requests/s", [w.requests_per_s for w in last], 1, tolerance) or _variation(
        latency, "ms", [w.judged_ns or 0 for w in last], 1e6, tolerance
    )


def stable_windows(
    windows: Sequence[Window], tolerance: float, judged: int = JUDGED, percentile: int | None = None
) -> int:
    """How many of the last windows make a stable result: those that are judged, or all; 0 when neither does.

    On a noisy machine a few windows do not tell throughput and latency precisely, and all together do.

    Args:
        windows: all windows so far.
        tolerance: that of `instability`.
        judged: the fewest.
        percentile: that of `window_of`.
    """
    for count in (judged, len(windows)):
        if count >= judged and not instability(windows, tolerance, count, percentile):
            return count
    return 0


def _variation(what: str, unit: str, values: Sequence[float], units: float, tolerance: float) -> str:
    """Why the values vary too much, shown divided by `units`; empty when they do not."""
    mean = sum(values) / len(values)
    interval = mean_interval(values)
    uncertain = interval.half_width / mean if interval and mean else 0.0
    farthest = max(abs(value - mean) for value in values) / mean if mean else 0.0
    if uncertain > tolerance:
        why = f"known only to ±{uncertain:.1%} of their mean, more than {tolerance:.0%}"
    elif farthest > _FARTHEST * tolerance:
        why = f"up to {farthest:.1%} from their mean, more than {_FARTHEST * tolerance:.0%}"
    else:
        return ""
    shown = ", ".join(f"{value / units:,.0f}" if value >= 1000 * units else f"{value / units:.4g}" for value in values)
    return (
        f"the {what} of the last {len(values)} windows ({shown} {unit}) is {why}; "
        "longer windows, more of them or a longer warm-up may help"
    )
