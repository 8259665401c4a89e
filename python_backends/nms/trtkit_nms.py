# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of one image's boxes, in numpy. Knows nothing of Triton.

A box of higher score suppresses those of its class (or of all classes) that overlap it more than a threshold. As
ONNX's NonMaxSuppression has it: a score must be *above* the score threshold, an overlap *above* the IoU threshold
suppresses, of equal scores the box that comes first wins, and the corners of a box may come in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# boxes whose overlaps are computed together: larger ones waste work on suppressed boxes, smaller ones cost calls
_BLOCK = 128


@dataclass(frozen=True)
class Limits:
    """What is kept.

    Attributes:
        iou_threshold: 0 to 1.
        score_threshold: any number.
        max_detections: 1 or more.
        class_agnostic: a box also suppresses boxes of other classes.
        multi_label: a box counts once for each class above the threshold, instead of for its best class only.
    """

    iou_threshold: float
    score_threshold: float
    max_detections: int
    class_agnostic: bool = False
    multi_label: bool = False


@dataclass(frozen=True)
class Candidates:
    """Boxes with one class each.

    Attributes:
        boxes: [n, 4], FP32 corners x1, y1, x2, y2 with x1 ≤ x2 and y1 ≤ y2.
        scores: [n], FP32.
        classes: [n], integers.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Candidates:
        return Candidates(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


def corners(boxes: np.ndarray, box_format: str) -> np.ndarray:
    """Boxes as FP32 corners x1, y1, x2, y2, the smaller of a pair first.

    Args:
        boxes: [n, 4].
        box_format: ``xyxy``, ``yxyx`` (corners), ``xywh`` (corner and size) or ``cxcywh`` (centre and size).
    """
    values = boxes
    if box_format == "yxyx":
        values = values[:, [1, 0, 3, 2]]
    first, second = values[:, :2], values[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # of a box that is not finite, which is dropped
        if box_format == "cxcywh":
            first, second = first - second / 2, first + second / 2
        elif box_format == "xywh":
            second = first + second
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def candidates(boxes: np.ndarray, scores: np.ndarray, limits: Limits, box_format: str) -> Candidates:
    """The boxes above the score threshold, best first.

    A score that is NaN is below every threshold; a box with a coordinate that is not finite is none.

    Args:
        boxes: [n, 4], FP32.
        scores: [n, classes], FP32.
        limits: of which the score threshold and ``multi_label`` are used.
        box_format: see `corners`.
    """
    if limits.multi_label:
        rows, classes = np.nonzero(scores > limits.score_threshold)
    else:
        rows, classes = _best_classes(scores, limits.score_threshold)
    return _best_first(Candidates(corners(boxes[rows], box_format), scores[rows, classes], classes))


def classified(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, limits: Limits, box_format: str
) -> Candidates:
    """As `candidates`, for boxes that have one class and one score each: ``scores`` and ``classes`` are [n]."""
    rows = np.flatnonzero(scores > limits.score_threshold)
    return _best_first(Candidates(corners(boxes[rows], box_format), scores[rows], classes[rows]))


def _best_first(found: Candidates) -> Candidates:
    """By falling score; equal scores keep their order. Boxes that are not finite are left out."""
    found = found[np.isfinite(found.boxes).all(axis=1)]
    return found[np.argsort(-found.scores, kind="stable")]


def _best_classes(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose best class is above the threshold, and that class; of equal ones the first."""
    if not scores.shape[1]:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    best = scores.max(axis=1)
    if np.isnan(best).any():
        scores = np.where(np.isnan(scores), -np.inf, scores)
        best = scores.max(axis=1)
    rows = np.flatnonzero(best > threshold)
    return rows, scores[rows].argmax(axis=1)


def suppress(found: Candidates, limits: Limits) -> Candidates:
    """The candidates that are kept, best first, at most `max_detections`.

    Args:
        found: best first, as `candidates` gives them.
        limits: of which the score threshold and ``multi_label`` were used before.
    """
    kept = np.empty(0, np.intp)
    for start in range(0, len(found.scores), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(found.scores)))
        block = block[~_suppressed_by(found, kept, block, limits).any(axis=0)]
        kept = np.concatenate([kept, block[_survivors(_suppressed_by(found, block, block, limits))]])
        if len(kept) >= limits.max_detections:
            break
    return found[kept[: limits.max_detections]]


def _survivors(suppresses: np.ndarray) -> np.ndarray:
    """Who is left when each of those left suppresses those after it, from the first to the last."""
    left = np.ones(len(suppresses), bool)
    later = np.triu(suppresses, 1)
    for index in np.flatnonzero(later.any(axis=1)):
        if left[index]:
            left &= ~later[index]
    return left


def _suppressed_by(found: Candidates, winners: np.ndarray, others: np.ndarray, limits: Limits) -> np.ndarray:
    """Whether each winner (row) overlaps each other box (column) too much."""
    ax1, ay1, ax2, ay2 = found.boxes[winners].T[..., np.newaxis]
    bx1, by1, bx2, by2 = found.boxes[others].T
    # coordinates as large as FP32 holds make an infinite area: such boxes overlap nothing
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)
        height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
        both = np.maximum(width, 0) * np.maximum(height, 0)
        either = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both
        too_much = (both > 0) & (both / either > np.float32(limits.iou_threshold))
    if not limits.class_agnostic:
        too_much &= found.classes[winners, np.newaxis] == found.classes[others]
    return too_much
