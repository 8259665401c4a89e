# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every rule there is, in the order of the codes' categories in the docs."""

from __future__ import annotations

from trtkit.deploy.manifests.rules import (
    api,
    compose,
    dockerfiles,
    drain,
    engines,
    gpus,
    ignore_comments,
    images,
    keda,
    metric_labels,
    metric_names,
    probes,
    reading,
    rollout,
    scaling,
    security,
    server_flags,
    volumes,
)
from trtkit.lint.rule import Rule

RULES: tuple[Rule, ...] = (
    *reading.RULES,
    *api.RULES,
    *server_flags.RULES,
    *probes.RULES,
    *drain.RULES,
    *rollout.RULES,
    *gpus.RULES,
    *volumes.RULES,
    *scaling.RULES,
    *keda.RULES,
    *metric_names.RULES,
    *metric_labels.RULES,
    *images.RULES,
    *dockerfiles.RULES,
    *compose.RULES,
    *security.RULES,
    *engines.RULES,
    *ignore_comments.RULES,
)
