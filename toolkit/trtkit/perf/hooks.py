# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What goes into a run besides options, and whom it tells what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.data.pool import Pool
from trtkit.perf.load import Load
from trtkit.perf.measurement import Measurement
from trtkit.perf.server.diagnose import Diagnosis
from trtkit.perf.server.stages import Stages
from trtkit.perf.statistics.windows import Window

OnResult = Callable[[Measurement, "Stages | None", "Sequence[Diagnosis]"], None]


@dataclass(frozen=True)
class Hooks:
    """Whom a run tells what.

    Attributes:
        on_window: after each window; has to be short.
        on_phase: what happens now.
        on_note: a sentence that should stay on the screen.
        on_data: where the requests are from; with `server` and `config`, what the server says of itself and the model.
        on_result: after each load.
    """

    on_window: Callable[[Load, Window], None] | None = None
    on_phase: Callable[[str], None] = lambda _sentence: None
    on_note: Callable[[str], None] = lambda _sentence: None
    on_data: Callable[..., None] = lambda _origin, **_known: None
    on_result: OnResult = lambda _measurement, _stages, _diagnoses: None


@dataclass(frozen=True)
class Given:
    """Requests with their reference answers, instead of those that options name.

    Attributes:
        pool: the requests, each with its `expected`.
        closeness: how near answers have to be.
    """

    pool: Pool
    closeness: Closeness
