# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the time goes, as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtkit.perf.reports.report_text import NONE, TextTable, milliseconds, plain

if TYPE_CHECKING:
    from trtkit.perf.measurement import Measurement
    from trtkit.perf.server.stages import ModelStages, Stages


def stage_table(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> TextTable:
    """The stages of each model; of an ensemble only what is its own.

    An ensemble's compute times are sums over models that may run side by side, and say nothing of its own time.

    Args:
        measurements: at least one.
        stages: one for each; None where nobody knows.
    """
    rows = [
        (one.load.label, *_stage_cells(part, found))
        for one, found in zip(measurements, stages, strict=False)
        if found
        for part in (found.model, *found.parts)
    ]
    columns = ("load", "model", "client and network", "queue", "input", "infer", "output", "cache", "other", "in all")
    return TextTable("Where the time goes, mean ms", columns, tuple(rows))


def _stage_cells(part: ModelStages, whole: Stages) -> tuple[str, ...]:
    first, in_all = NONE, part.request_ns
    if part is whole.model:
        first, in_all = milliseconds(whole.client_and_network_ns), whole.latency_ns
    computing = (part.compute_input_ns, part.compute_infer_ns, part.compute_output_ns)
    times = (part.queue_ns, *computing, part.cache_ns, part.other_ns)
    cells = [NONE] * len(times) if part is whole.model and whole.ensembles else map(milliseconds, times)
    return (plain(part.model), first, *cells, milliseconds(in_all))


def ensemble_table(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> TextTable:
    """The longest way through each ensemble, and what its steps would take one after the other."""
    rows = [
        (
            one.load.label,
            plain(ensemble.ensemble),
            plain(" → ".join(ensemble.critical)),
            *map(milliseconds, (ensemble.critical_ns, ensemble.sum_ns, ensemble.between_ns, ensemble.request_ns)),
        )
        for one, found in zip(measurements, stages, strict=False)
        if found
        for ensemble in found.ensembles
    ]
    columns = (
        "load",
        "model",
        "longest way",
        "longest way ms",
        "all steps added up ms",
        "between steps ms",
        "in all ms",
    )
    return TextTable("The steps of the ensemble", columns, tuple(rows))


def stage_sentences(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> list[str]:
    """What a reader has to know beside the stages, each sentence once for all loads with it."""
    loads: dict[str, list[str]] = {}
    for one, found in zip(measurements, stages, strict=False):
        for sentence in found.sentences if found else ():
            loads.setdefault(sentence, []).append(one.load.label)
    return [plain(f"{', '.join(labels)}: {sentence}") for sentence, labels in loads.items()]
