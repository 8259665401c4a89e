# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Values as the Kubernetes API writes them; what is of another type counts as not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_TOO_MANY = float(2**63)
_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?)")


def number(value: Any) -> float:
    """A quantity such as ``263856260Ki``, ``3920m`` or ``1e3`` as a number: bytes, cores, pieces; 0 for no quantity.

    Nothing beyond 2**63 is one to Kubernetes, and an infinity would spoil every difference.
    """
    found = _FORM.fullmatch(str(value).strip()) if value is not None else None
    amount = float(found[1]) * float(_BINARY.get(found[2], _DECIMAL.get(found[2], 1))) if found else 0.0
    return amount if amount < _TOO_MANY else 0.0


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list, or none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
