# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The stages of a Python model: its environment, where it has one of its own, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtkit.build_plan import Served
from trtkit.python_models.key import ENVIRONMENT, PYTHON, environment_inputs, python_inputs, server_python

if TYPE_CHECKING:
    from trtkit.build_stages import StageReport, Stages


def python_model(stages: Stages, name: str, reports: list[StageReport]) -> Served:
    """Everything from the part or the function to what is published, adding a report per stage.

    Raises:
        TrtkitError: the first stage that failed.
    """
    project, target = stages.project, stages.options.target
    notes: list[str] = []
    found: dict[str, Any] = {}
    environment = python = ""
    if project.models[name].environment is not None:
        python, note = server_python(target)
        packed = stages.worker(
            name, ENVIRONMENT, environment_inputs(project, name, python), {"python": python}, reports
        )
        environment, found = packed.artifact, {"environment": packed.facts}
        packages = ", ".join(packed.facts["packages"][:8]) + (", …" if len(packed.facts["packages"]) > 8 else "")
        notes += [f"its environment is for Python {python}, with {packages}", *filter(None, [note])]
        notes += packed.facts["notes"]
    inputs = python_inputs(project, name, environment)
    run = stages.worker(
        name, PYTHON, inputs, {"environment": environment, "python": python}, reports, stages.check_block
    )
    facts = {**run.facts, **found, "notes": [*notes, *run.facts.get("notes", [])]}
    return Served(run, run, PYTHON, facts, stages.options.target_name, environment=environment)
