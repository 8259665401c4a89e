# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from, together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtkit.deploy.measured import Measured
from trtkit.deploy.planned import ServedModel
from trtkit.project import Deploy, Project, Target


@dataclass(frozen=True)
class Place:
    """What memory depends on.

    Attributes:
        project: where the repository and the targets are.
        spec: the ``deploy:`` block.
        target: where the models run.
        release: of the server.
        served: the models.
        measured: what was measured.
    """

    project: Project
    spec: Deploy
    target: Target
    release: str
    served: Sequence[ServedModel]
    measured: Measured

    @property
    def repository(self) -> Path:
        """The model repository."""
        return self.project.repository
