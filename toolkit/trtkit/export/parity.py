# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The exported graph against what it was made from, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.errors import ExportError, TrtkitError
from trtkit.export.runtime import Session
from trtkit.export.sources import Loaded
from trtkit.numerics import Array, difference
from trtkit.project.callables import user_error

# the exported FP32 graph against its FP64 or FP32 source
_RTOL, _ATOL = 1e-3, 1e-4
_RTOL_HALF, _ATOL_HALF = 1e-2, 2e-3
# trees may take another branch at a rounded threshold, and two equal scores another order
_SHARE = {"sklearn": 0.01}


def compare(
    loaded: Loaded, session: Session, rows: Mapping[str, Array], origin: str, root: Path, where: str
) -> dict[str, Any]:
    """The source's own outputs against the exported graph's.

    Args:
        loaded: the source.
        session: the exported graph.
        rows: inputs.
        origin: where the rows are from, for messages.
        root: the project's folder, to name the user's own line.
        where: FILE:LINE:COLUMN of the source, for messages.

    Returns:
        ``compared`` and, per output, the numbers; ``not_compared`` are outputs the source has no method for.

    Raises:
        ExportError: the two are not the same model, or the source cannot take the rows.
    """
    if loaded.predict is None:
        return {"compared": False, "why": loaded.why_no_predict}
    actual = session.run(rows)
    try:
        reference = loaded.predict(rows)
    except TrtkitError:
        raise
    except Exception as exc:  # the user's model may raise anything
        raise ExportError(f"{where}: the source itself failed on {origin}: {user_error(exc, root)}") from exc
    outputs: dict[str, Any] = {}
    for name in actual:
        if name in reference:
            outputs[name] = _compare_one(
                reference[name], actual[name], _SHARE.get(loaded.kind, 0.0), name, origin, where
            )
    missing = [name for name in actual if name not in reference]
    facts = {"compared": bool(outputs), "data": origin, "rows": len(next(iter(rows.values()))), "outputs": outputs}
    return {**facts, "not_compared": missing} if missing else facts


def _compare_one(expected: Array, actual: Array, share: float, name: str, origin: str, where: str) -> dict[str, Any]:
    if expected.size == actual.size:
        expected = expected.reshape(actual.shape)  # [N] and [N, 1] are the same answers
    half = np.float16 in (expected.dtype, actual.dtype)
    result = difference(expected, actual, *((_RTOL_HALF, _ATOL_HALF) if half else (_RTOL, _ATOL)))
    if result.problem or result.outside > share * result.elements:
        found = f"{result.outside} of {result.elements} elements differ, at most by {result.max_abs:.3g}"
        raise ExportError(
            f"{where}: the exported graph is not its source: output '{name}' on {origin}: {result.problem or found}"
        )
    return result.to_json()
