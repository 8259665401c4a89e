# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the embeddings of a text's tokens to one of the text.

Everywhere, ``tokens`` is FP32 [rows, sequence, hidden] and ``mask`` bool [rows, sequence], true where a token counts.
A row without any gives zeros.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def mean(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean of the tokens that count."""
    return _weighted(tokens, mask, mask.astype(np.float32))


def weighted_mean(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean with weights 1, 2, 3, ...: in a causal model later tokens have seen more."""
    return _weighted(tokens, mask, (np.cumsum(mask, axis=1) * mask).astype(np.float32))


def maximum(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The largest value of each component."""
    largest = np.where(mask[..., np.newaxis], tokens, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(mask.any(axis=1, keepdims=True), largest, 0)


def first(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The first token that counts, which is [CLS] in models that have it."""
    return _token(tokens, mask, mask.argmax(axis=1) if mask.size else None)


def last(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The last token that counts, whichever side the padding is on."""
    return _token(tokens, mask, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1) if mask.size else None)


POOLINGS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": mean,
    "cls": first,
    "max": maximum,
    "last": last,
    "weighted_mean": weighted_mean,
}


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay zeros."""
    # squares of large FP32 values are beyond FP32
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=-1, keepdims=True)
    return embeddings / np.maximum(lengths, 1e-12)


def _weighted(tokens: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
    # not matmul: BLAS would use all cores for it, and instances would fight over them
    pooled = np.einsum("rs,rsh->rh", weights, tokens)
    if not np.isfinite(pooled).all():  # a NaN may stand in padding, and 0 times NaN is NaN
        pooled = np.einsum("rs,rsh->rh", weights, np.where(mask[..., np.newaxis], tokens, 0))
    return pooled


def _token(tokens: np.ndarray, mask: np.ndarray, places: np.ndarray | None) -> np.ndarray:
    if places is None:
        return np.zeros((len(tokens), tokens.shape[2]), tokens.dtype)
    chosen = tokens[np.arange(len(tokens)), places]
    return np.where(mask.any(axis=1, keepdims=True), chosen, 0)
