# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a YOLOv8 of 80 classes says of a 640×640 image, with few and with many candidates, and a DETR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, part_module, write_part

from trtkit.config import ModelConfig

BOXES, CLASSES = 8400, 80


def benchmark(repository: Path) -> list[Case]:
    """One image a request."""
    write_part(repository, "yolov8", "nms", {"layout": "yolov8", "box_format": "cxcywh"}, edit=predictions)
    write_part(repository, "detr", "nms", {"box_format": "cxcywh", "activation": "sigmoid"})
    few, many = (yolov8(sharpness) for sharpness in (2000, 60))
    random = np.random.default_rng(1)
    queries = {
        "boxes": few["predictions"][:, :4, :300].transpose(0, 2, 1),
        "scores": random.normal(-4, 2, (1, 300, 80)),
    }
    queries = {name: np.ascontiguousarray(array, np.float32) for name, array in queries.items()}
    return [
        case("yolov8", "yolov8", f"84×8400, {above(few)} boxes above 0.25", few),
        case("yolov8", "yolov8", f"84×8400, {above(many)} boxes above 0.25", many),
        case("detr", "boxes_scores", "300×80 logits", queries),
    ]


def case(model: str, layout: str, request: str, inputs: dict[str, np.ndarray]) -> Case:
    """A request of these tensors."""
    layouts, nms = part_module("nms", "trtkit_nms_layouts"), part_module("nms", "trtkit_nms")
    activation = "none" if model == "yolov8" else "sigmoid"
    detector = layouts.Detector(layout, "cxcywh", activation, "none", nms.Limits(0.45, 0.25, 100))
    rows = {name: array[0] for name, array in inputs.items()}
    return Case(model, request, inputs, lambda: detector.detect(rows))


def predictions(config: ModelConfig) -> None:
    """One input instead of boxes and scores."""
    del config.input[:]
    config.input.add(name="predictions", data_type="TYPE_FP32", dims=[4 + CLASSES, BOXES])


def yolov8(sharpness: float) -> dict[str, Any]:
    """Random boxes, whose class scores are the rarer above the threshold the sharper."""
    random = np.random.default_rng(0)
    sizes = [random.uniform(0, 640, (2, BOXES)), random.uniform(10, 200, (2, BOXES))]
    scores = random.random((CLASSES, BOXES)) ** sharpness
    return {"predictions": np.concatenate([*sizes, scores])[np.newaxis].astype(np.float32)}


def above(inputs: dict[str, Any]) -> int:
    """How many boxes have a class above the default threshold."""
    return int((inputs["predictions"][0, 4:].max(axis=0) > 0.25).sum())
