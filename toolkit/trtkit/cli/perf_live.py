# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a run on standard error: one live line on a terminal, a plain line for each window in a log."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from trtkit.perf.load import Load
from trtkit.perf.reports.report import milliseconds, plain, rate
from trtkit.perf.statistics.windows import Window

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 24


class Progress:
    """Says what is going on; a context manager.

    The line is drawn only when there is something new, never by a thread of its own, which would take the
    interpreter away from the requests.
    """

    def __init__(self, console: Console) -> None:
        """Begin with nothing to say.

        Args:
            console: of standard error; results go to standard output.
        """
        self._console = console
        self._live: Live | None = None
        self._label = ""
        self._rates: list[float] = []

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def phase(self, sentence: str) -> None:
        """What happens now, e.g. ``warming up``: on a terminal only; a log shows what was measured."""
        if self._live:
            self._draw(plain(sentence))

    def note(self, sentence: str) -> None:
        """A sentence that stays."""
        self._console.print(plain(sentence), markup=False, highlight=False, soft_wrap=True)

    def window(self, load: Load, window: Window) -> None:
        """A window that has ended."""
        if load.label != self._label:
            self._label, self._rates = load.label, []
        self._rates.append(window.requests_per_s)
        if self._live:
            self._draw(f"{window_line(load, window)}  {bars(self._rates[-_MOST_BARS:])}")
        else:
            self.note(window_line(load, window))

    def _draw(self, line: str) -> None:
        from rich.text import Text

        assert self._live
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)


def window_line(load: Load, window: Window) -> str:
    """A window in one line."""
    p90 = milliseconds(window.p90_ns) + ("" if window.p90_ns is None else " ms")
    p99 = milliseconds(window.p99_ns) + ("" if window.p99_ns is None else " ms")
    failed = f", {window.errors:,} failed" if window.errors else ""
    rates = f"{rate(window.requests_per_s)} requests/s"
    return f"{load.label}, window {window.number}: {rates}, p90 {p90}, p99 {p99}{failed}"


def bars(values: list[float]) -> str:
    """One block character for each value, its height the value's share of the largest one."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(int(value / highest * len(_BARS)), len(_BARS) - 1)] for value in values)
