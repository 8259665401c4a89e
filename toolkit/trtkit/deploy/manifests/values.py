# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Quantities, durations and "a number or a percentage", as Kubernetes, Compose and Envoy write them."""

from __future__ import annotations

import math
import re

_SUFFIXES = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?)([A-Za-z]*)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def quantity(text: str) -> float | None:
    """A quantity such as ``500m``, ``2Gi`` or ``80``; None where it is none."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found[2] not in _SUFFIXES:
        return None
    value = float(found[1]) * _SUFFIXES[found[2]]
    return value if math.isfinite(value) else None


def seconds(text: str) -> float | None:
    """A duration such as ``1m30s`` or ``90`` in seconds; None where it is none."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def share(text: str, whole: int, *, up: bool) -> int | None:
    """A number, or a percentage of `whole` rounded up or down; None where it is neither."""
    found = re.fullmatch(r"(\d{1,9})(%?)", text.strip())
    if found is None:
        return None
    if not found[2]:
        return int(found[1])
    value = int(found[1]) * whole
    return -(-value // 100) if up else value // 100
