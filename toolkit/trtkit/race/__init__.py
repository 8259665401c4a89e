# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The race: candidates of one model measured side by side, and the fastest that is accurate enough taken.

The way of the data: ``candidate`` (a graph or plan, or why there is none) → ``measure`` (error, metric, size, and
latency by ``timing``; a ``runner`` loads the files) → ``choose`` (a pure function of the rows) → ``table`` (text and
JSON) and ``plot`` (``points``, ``axes`` and ``labels``). ``stage`` runs it for a model of a project.
"""
