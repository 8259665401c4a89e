# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests shared out between models by weight, a session always to the same one. See README.md."""

from __future__ import annotations

import bisect
import itertools
import json
import re
from typing import Any

from trtkit_parts import BadConfig, Parameters
from trtkit_routing import RoutingModel, Spread, Variant, read_variant, share


class TritonPythonModel(RoutingModel):
    """The part ``split``."""

    def configure(self, parameters: Parameters) -> None:
        """Read weights, what to be sticky by, and the salt."""
        weights = self._read_weights(parameters)
        self._variants = list(weights)
        sums = list(itertools.accumulate(weights.values()))
        self._limits = [each / sums[-1] for each in sums]
        self._sticky = parameters.text("sticky", "correlation_id")
        found = re.fullmatch(r"parameter\(([^()]+)\)", self._sticky)
        if not found and self._sticky not in ("correlation_id", "none"):
            raise parameters.wrong("sticky", "one of correlation_id, parameter(NAME), none")
        self._parameter = found[1] if found else ""
        self._salt = parameters.text("salt", "") or self.name
        self._spread = Spread()

    def answer(self, request: Any) -> Any:
        """Pass the request on to its variant."""
        key = self._key(request)
        position = share(key, self._salt) if key else self._spread.next()
        return self.forward(request, self._variants[bisect.bisect_right(self._limits, position)])

    def _key(self, request: Any) -> str:
        """What the request is sticky by; empty when it has nothing of that."""
        if self._parameter:
            value = json.loads(request.parameters() or "{}").get(self._parameter)
            return "" if value is None else str(value)
        return str(request.correlation_id() or "") if self._sticky == "correlation_id" else ""

    def _read_weights(self, parameters: Parameters) -> dict[Variant, float]:
        expected = "models with their weights, as in 'stable:90, canary:10'"
        weights: dict[Variant, float] = {}
        for item in parameters.items("weights"):
            found = re.fullmatch(r"([^:]+?)\s*:\s*(\d+(?:\.\d+)?)", item)
            if not found:
                raise parameters.wrong("weights", expected)
            variant = read_variant(parameters, "weights", found[1], self.name)
            if variant in weights:
                raise parameters.wrong("weights", f"{expected}, each model once")
            weights[variant] = float(found[2])
        if sum(weights.values()) <= 0:
            raise BadConfig(f"model '{self.name}': the weights add up to 0; give at least one model a weight above 0")
        return weights
