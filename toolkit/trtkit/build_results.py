# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a build says of each model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from trtkit.build_stages import StageReport


@dataclass(frozen=True)
class BuildResult:
    """What became of one model.

    Attributes:
        model: its name.
        stages: in order; shorter when one failed.
        version: the published version, 0 when there is none.
        byte_size: of that version's files.
        precision: of the served graph; ``ensemble`` for ensembles.
        target: the name of the target.
        max_abs_error: of the published graph against the exported one in another precision, or else of the
            export against its source; None when there was nothing to compare.
        metric: the task metric of the exported (``reference``) and the published graph (``value``); None without
            one, or for fp32.
        conversion: what became of the graph's nodes: ``quantized``, ``converted``, and with their reasons
            ``skipped``, ``kept`` and ``culprits``; None for fp32.
        race: the candidates side by side, and why one was chosen; None when there was no race.
        profiles: the optimization profiles, where the target or the command line asks for them.
        derived: what deriving them from recorded shapes gave: ``yaml`` and ``table``; None otherwise.
        check_engine: what TensorRT-RTX made of the graph; None when it was not asked.
        no_plan: that there is no plan, why, and what serves meanwhile; ``""`` when there is one, or none is needed.
        notes: what else a reader of the summary has to know.
        config_check: with `check`, per config file ``status``, ``note`` and ``differences``; None otherwise.
        skipped: why it was left out, or ``""``.
        error: the sentence of its failure, or ``""``.
    """

    model: str
    stages: list[StageReport] = field(default_factory=list)
    version: int = 0
    byte_size: int = 0
    precision: str = ""
    target: str = ""
    max_abs_error: float | None = None
    metric: dict[str, float] | None = None
    conversion: dict[str, Any] | None = None
    race: dict[str, Any] | None = None
    profiles: list[Any] = field(default_factory=list)
    derived: dict[str, Any] | None = None
    check_engine: dict[str, Any] | None = None
    no_plan: str = ""
    notes: list[str] = field(default_factory=list)
    config_check: list[dict[str, Any]] | None = None
    skipped: str = ""
    error: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing had to be done."""
        return not self.skipped and not self.error and not any(stage.ran for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The form of ``trtkit build --json``."""
        return {**asdict(self), "up_to_date": self.up_to_date}


def result_fields(facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a result that follow from what the stages found out about a model."""
    shown = ("metric", "conversion", "race", "derived", "check_engine")
    return {
        **{name: facts.get(name) for name in shown},
        "max_abs_error": worst_parity(facts),
        "no_plan": facts.get("no_plan", ""),
        "profiles": facts.get("profiles", []),
        "notes": _notes(facts),
    }


def _notes(facts: dict[str, Any]) -> list[str]:
    """What the summary says below its table."""
    notes = [*facts.get("conversion", {}).get("notes", []), *facts.get("notes", [])]
    if "calibration" in facts:
        notes.insert(0, f"calibrated with {facts['calibration']['summary']}; coverage: {facts['calibration']['file']}")
    return notes


def worst_parity(facts: dict[str, Any]) -> float | None:
    """The largest absolute error of an export against its source; None when nothing was compared."""
    outputs = facts.get("parity", {}).get("outputs", {})
    numbers = {name: output for name, output in outputs.items() if not output.get("decision")}
    outputs = numbers or outputs  # a class index that differs by 5 is no error of 5
    return max((float(output["max_abs"]) for output in outputs.values()), default=None)
