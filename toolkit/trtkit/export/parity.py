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

# the exported FP32 graph against its FP64 or FP32 source: relative, and absolute in units of the largest value,
# because what is near zero may be the difference of two that are not; values below 1 have 1e-4 at least
_RTOL, _ATOL, _ATOL_LEAST = 1e-3, 1e-5, 1e-4
_RTOL_HALF, _ATOL_HALF, _ATOL_LEAST_HALF = 1e-2, 2e-3, 2e-3
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
    result = difference(expected, actual, *_tolerance(expected, actual))
    if result.problem or result.outside > share * result.elements:
        found = f"{result.outside} of {result.elements} elements differ, at most by {result.max_abs:.3g}"
        found += "; if it needs double precision, give it `inputs:` of FP64" if share else ""
        raise ExportError(
            f"{where}: the exported graph is not its source: output '{name}' on {origin}: {result.problem or found}"
        )
    return result.to_json()


def _tolerance(expected: Array, actual: Array) -> tuple[float, float]:
    half = np.float16 in (expected.dtype, actual.dtype)
    rtol, share, least = (_RTOL_HALF, _ATOL_HALF, _ATOL_LEAST_HALF) if half else (_RTOL, _ATOL, _ATOL_LEAST)
    finite = expected[np.isfinite(expected)] if expected.dtype.kind == "f" else np.zeros(0)
    return rtol, max(least, share * float(np.abs(finite).max(initial=0.0)))
