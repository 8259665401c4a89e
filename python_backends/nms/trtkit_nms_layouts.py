# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The outputs of common detectors as boxes and scores. Knows nothing of Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from trtkit_nms import Candidates, Limits, candidates, classified, suppress

# layout -> the inputs it reads
LAYOUTS = {
    "boxes_scores": ("boxes", "scores"),
    "boxes_scores_classes": ("boxes", "scores", "classes"),
    "yolov5": ("predictions",),
    "yolov8": ("predictions",),
}
BOX_FORMATS = ("xyxy", "yxyx", "xywh", "cxcywh")
ACTIVATIONS = ("none", "sigmoid", "softmax")
BACKGROUNDS = ("none", "first", "last")


class BadShape(Exception):  # noqa: N818 - what is bad is the shape
    """The tensors of an image do not belong together."""


@dataclass(frozen=True)
class Detector:
    """Everything that is fixed about a model that finishes the work of a detector.

    Attributes:
        layout: of `LAYOUTS`.
        box_format: of `BOX_FORMATS`.
        activation: what the scores still need: ``none``, ``sigmoid`` (of each) or ``softmax`` (over the classes).
        background: which class means that there is nothing: ``none``, ``first`` or ``last``. The classes of results
            are counted without it.
        limits: what is kept.
    """

    layout: str
    box_format: str
    activation: str
    background: str
    limits: Limits

    def detect(self, tensors: Mapping[str, np.ndarray]) -> Candidates:
        """What is found in one image, best first.

        Args:
            tensors: the inputs of the layout, without the batch dimension: boxes [n, 4], scores [n, classes] or [n],
                classes [n]; predictions [n, 5 + classes] (yolov5) or [4 + classes, n] (yolov8).

        Raises:
            BadShape: they have other shapes.
        """
        if self.layout == "boxes_scores_classes":
            return suppress(self._classified(**tensors), self.limits)
        if self.layout == "boxes_scores":
            boxes, scores = _boxes_and_scores(**tensors)
            scores = self._probabilities(scores)
        else:
            read = self._yolov5 if self.layout == "yolov5" else self._yolov8
            boxes, scores = read(tensors["predictions"])
        return suppress(candidates(boxes, scores, self.limits, self.box_format), self.limits)

    def _classified(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Candidates:
        boxes, scores = _boxes_and_scores(boxes, scores)
        if scores.shape[1] != 1 or classes.size != len(boxes):
            raise BadShape(
                f"input 'scores' has shape {list(scores.shape)} and input 'classes' {list(classes.shape)}, "
                f"expected one of each for each of the {len(boxes)} boxes"
            )
        scores = self._probabilities(scores)[:, 0]
        return classified(boxes, scores, classes.reshape(-1), self.limits, self.box_format)

    def _yolov8(self, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if predictions.ndim != 2 or predictions.shape[0] < 5:
            raise BadShape(f"input 'predictions' has shape {list(predictions.shape)}, expected [4 + classes, n]")
        values = predictions.astype(np.float32, copy=False)
        return values[:4].T, self._probabilities(values[4:].T)

    def _yolov5(self, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if predictions.ndim != 2 or predictions.shape[1] < 6:
            raise BadShape(f"input 'predictions' has shape {list(predictions.shape)}, expected [n, 5 + classes]")
        objectness = predictions[:, 4:5].astype(np.float32, copy=False)
        if self.activation == "sigmoid":
            objectness = _sigmoid(objectness)
        # a class's probability is at most 1: where there is no object, no class passes
        values = predictions[objectness[:, 0] > self.limits.score_threshold].astype(np.float32, copy=False)
        objectness = objectness[objectness[:, 0] > self.limits.score_threshold]
        return values[:, :4], self._probabilities(values[:, 5:]) * objectness

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores [n, classes] after the activation, without the background."""
        scores = self._activated(scores)
        if self.background == "none":
            return scores
        return scores[:, 1:] if self.background == "first" else scores[:, :-1]

    def _activated(self, scores: np.ndarray) -> np.ndarray:
        if self.activation == "sigmoid":
            return _sigmoid(scores)
        if self.activation == "softmax" and scores.shape[1]:
            with np.errstate(invalid="ignore"):  # of infinite scores, which are NaN afterwards
                powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return scores


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # of a score far below 0, whose sigmoid is 0
        return 1 / (1 + np.exp(-scores))


def _boxes_and_scores(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In FP32, the scores as [n, classes]."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise BadShape(f"input 'boxes' has shape {list(boxes.shape)}, expected [n, 4]")
    if scores.ndim not in (1, 2) or len(scores) != len(boxes):
        raise BadShape(f"input 'scores' has shape {list(scores.shape)} for {len(boxes)} boxes, expected [n, classes]")
    by_class = scores if scores.ndim == 2 else scores[:, np.newaxis]
    return boxes.astype(np.float32, copy=False), by_class.astype(np.float32, copy=False)
