# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests passed on by rules over their tensors and parameters. See README.md."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from trtkit_parts import BadConfig, Parameters
from trtkit_routing import RoutingModel, Variant, read_variant

_OPERATORS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_CONDITION = re.compile(
    r"(?P<what>bytes|characters|value|dimension|parameter)\((?P<name>[^(),]+)(?:,\s*(?P<axis>-?\d+))?\)"
    r"\s*(?P<operator><=|>=|!=|<|>|=)\s*(?P<limit>\S.*)"
)
_INTEGER = re.compile(r"\s*[+-]?\d{1,19}\s*")
_EXPECTED = "rules as 'bytes(text) <= 64 and value(mode) = 1 -> small', with line ends or ; between them"

_Condition = Callable[[Any], bool]
_Function = Callable[..., Any]


class _Rule(NamedTuple):
    conditions: list[_Condition]
    variant: Variant


class TritonPythonModel(RoutingModel):
    """The part ``route``."""

    def configure(self, parameters: Parameters) -> None:
        """Read the rules, the default, and the inputs that only rules look at."""
        self._types = {entry["name"]: entry["data_type"] for entry in self.config["input"]}
        lines = [line for line in re.split(r"[;\n]", parameters.text("rules")) if line.strip()]
        self._rules = [self._read_rule(parameters, line) for line in lines]
        self._default = read_variant(parameters, "default", parameters.text("default"), self.name)
        self._withheld = set(parameters.items("withheld_inputs", ""))
        for name in self._withheld:
            self._check_input(name)

    def answer(self, request: Any) -> Any:
        """Pass the request on to the model of the first rule that holds."""
        holding = (rule.variant for rule in self._rules if all(holds(request) for holds in rule.conditions))
        inputs = [each for each in request.inputs() if each.name() not in self._withheld] if self._withheld else None
        return self.forward(request, next(holding, self._default), inputs=inputs)

    def _read_rule(self, parameters: Parameters, line: str) -> _Rule:
        left, _, right = line.rpartition("->")
        conditions = [
            self._condition(_CONDITION.fullmatch(text.strip()), parameters) for text in re.split(r"\sand\s", left)
        ]
        return _Rule(conditions, read_variant(parameters, "rules", right.strip(), self.name))

    def _condition(self, found: re.Match[str] | None, parameters: Parameters) -> _Condition:
        if found is None or (found["what"] == "dimension") != (found["axis"] is not None):
            raise parameters.wrong("rules", _EXPECTED)
        what, name, compare, limit = found["what"], found["name"].strip(), found["operator"], found["limit"].strip()
        if what == "parameter":
            return _parameter_condition(name, _OPERATORS[compare], limit)
        self._check_input(name)
        is_bytes = self._types[name] == "TYPE_STRING"
        if what in ("bytes", "characters") and not is_bytes:
            raise BadConfig(
                f"model '{self.name}': rule '{found[0]}' counts {what}, but '{name}' is {self._types[name]}"
            )
        if what == "value" and is_bytes:
            return _tensor_condition(name, _values, _OPERATORS[compare], limit.encode())
        measure = {
            "bytes": _lengths,
            "characters": _characters,
            "value": _values,
            "dimension": self._dimension(int(found["axis"] or 0)),
        }[what]
        number = _number(limit)
        if number is None:
            raise parameters.wrong("rules", f"a number in '{found[0]}'")
        return _tensor_condition(name, measure, _OPERATORS[compare], number)

    def _check_input(self, name: str) -> None:
        if name not in self._types:
            raise BadConfig(f"model '{self.name}': there is no input '{name}'; it has {', '.join(self._types)}")

    def _dimension(self, axis: int) -> _Function:
        """The size of a dimension, counted as in config.pbtxt: without that of the batch; NaN when there is none."""

        def measure(tensor: Any) -> Any:
            dims = tensor.shape()[self.batches :]
            return np.float64(dims[axis] if -len(dims) <= axis < len(dims) else np.nan)

        return measure


def _tensor_condition(name: str, measure: _Function, compare: _Function, limit: Any) -> _Condition:
    def holds(request: Any) -> bool:
        given = [each for each in request.inputs() if each.name() == name]
        return bool(given) and bool(np.all(compare(measure(given[0]), limit)))

    return holds


def _parameter_condition(name: str, compare: _Function, limit: str) -> _Condition:
    number = _number(limit)

    def holds(request: Any) -> bool:
        given = json.loads(request.parameters() or "{}").get(name)
        if given is None:
            return False
        if number is None:
            return bool(compare(_text(given), limit))
        value = _number(given)
        return bool(compare(np.nan if value is None else value, number))

    return holds


def _number(value: Any) -> float | None:
    if isinstance(value, int) or (isinstance(value, str) and _INTEGER.fullmatch(value)):
        return int(value)  # a float would round one above 2**53
    try:
        return float(value)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(tensor: Any) -> np.ndarray:
    return tensor.as_numpy()


def _lengths(tensor: Any) -> np.ndarray:
    return np.array([len(value) for value in tensor.as_numpy().ravel()])


def _characters(tensor: Any) -> np.ndarray:
    # a byte that is not UTF-8 counts as one
    return np.array([len(value.decode(errors="replace")) for value in tensor.as_numpy().ravel()])
