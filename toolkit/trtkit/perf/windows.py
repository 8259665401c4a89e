# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows, and when a measurement is stable.

A measurement is stable when, over its last three windows, the throughput of each and the p90 latency of each
are within ±10 % (or what was asked for) of the mean of the three. Both are needed: in a closed loop the
*mean* latency follows from the throughput (Little's law) and would add nothing, the p90 sees a changing tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trtkit.perf.latency import latency_statistics
from trtkit.perf.recorder import Cut

JUDGED = 3
"""How many windows, the last ones, are judged together and merged into the result."""


@dataclass(frozen=True, slots=True)
class Window:
    """One window in numbers.

    Attributes:
        number: counted from 1.
        duration_ns: its real length.
        requests: how many ended in it and succeeded.
        errors: how many ended in it and failed.
        requests_per_s: `requests` by its length.
        p50_ns: median latency; None without a successful request.
        p90_ns: 90th percentile, nearest rank.
        p99_ns: 99th percentile, nearest rank.
        client_cpu_share: CPU time of this process by the window's length; 1.0 is one core.
    """

    number: int
    duration_ns: int
    requests: int
    errors: int
    requests_per_s: float
    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    client_cpu_share: float

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def window_of(number: int, cut: Cut) -> Window:
    """A cut in numbers."""
    latency = latency_statistics(cut.latencies_ns)
    return Window(
        number=number,
        duration_ns=cut.end_ns - cut.start_ns,
        requests=len(cut.latencies_ns),
        errors=cut.error_count,
        requests_per_s=len(cut.latencies_ns) / cut.duration_s,
        p50_ns=latency.p50_ns if latency else None,
        p90_ns=latency.p90_ns if latency else None,
        p99_ns=latency.p99_ns if latency else None,
        client_cpu_share=cut.client_cpu_ns / (cut.end_ns - cut.start_ns),
    )


def all_failed(windows: Sequence[Window]) -> bool:
    """Whether the last three windows saw failed requests and no other."""
    last = windows[-JUDGED:]
    return len(last) == JUDGED and not any(w.requests for w in last) and any(w.errors for w in last)


def instability(windows: Sequence[Window], tolerance: float) -> str:
    """Why the last three windows are not stable, in one sentence; empty when they are.

    Args:
        windows: all windows so far.
        tolerance: how far each may be from the mean of the three; 0.1 is ±10 %.
    """
    last = windows[-JUDGED:]
    if len(last) < JUDGED:
        return f"{len(last)} of at least {JUDGED} windows were measured"
    if all_failed(windows):
        return f"no request succeeded in the last {JUDGED} windows"
    empty = [str(w.number) for w in last if w.p90_ns is None]
    if empty:
        return f"no request succeeded in window {', '.join(empty)}; a window has to be longer than a request"
    return _variation("throughput", "requests/s", [w.requests_per_s for w in last], 1, tolerance) or _variation(
        "p90 latency", "ms", [w.p90_ns or 0 for w in last], 1e6, tolerance
    )


def _variation(what: str, unit: str, values: Sequence[float], units: float, tolerance: float) -> str:
    """Why the values vary too much, shown divided by `units`; empty when they do not."""
    mean = sum(values) / len(values)
    farthest = max(abs(value - mean) for value in values)
    if farthest <= tolerance * mean:
        return ""
    shown = ", ".join(f"{value / units:,.0f}" if value >= 1000 * units else f"{value / units:.4g}" for value in values)
    return (
        f"the {what} of the last {JUDGED} windows ({shown} {unit}) is up to {farthest / mean:.1%} from their mean, "
        f"more than {tolerance:.0%}; longer windows or a longer warm-up may help"
    )
