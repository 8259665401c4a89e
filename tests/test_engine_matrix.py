# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every precision of a convolutional net and of a 6-layer transformer becomes a real TensorRT-RTX plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import precision_models
from trtkit.engine import EngineOptions, Profile, ShapeRange, build_engine, profile_problems
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.precision.calibration import Ranges, calibrate, tensors_to_calibrate
from trtkit.precision.half import to_half
from trtkit.precision.qdq import quantize_tensorrt
from trtkit.precision.qdq_rules import qdq_problems

trt: Any = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

RANDOM = np.random.default_rng(5)
MODELS = {
    "conv": (precision_models.conv_net, {"image": RANDOM.normal(0, 1, (16, 1, 32, 32)).astype(np.float32)}),
    "transformer": (
        precision_models.encoder,
        {"input_ids": RANDOM.integers(0, 1000, (8, 24)), "attention_mask": np.ones((8, 24), np.int64)},
    ),
}
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "int8+fp16")
# what the parsed network has to hold: the type that the precision is called after
TYPES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8", "fp8": "FP8", "int8+fp16": "INT8"}


def image(batch: tuple[int, int, int]) -> Profile:
    return {"image": ShapeRange(*((size, 1, 32, 32) for size in batch))}


def text(low: tuple[int, int], opt: tuple[int, int], high: tuple[int, int]) -> Profile:
    shapes = ShapeRange(low, opt, high)
    return {"input_ids": shapes, "attention_mask": shapes}


PROFILES: dict[tuple[str, int], list[Profile]] = {
    ("conv", 1): [image((1, 8, 32))],
    ("conv", 3): [image((1, 1, 1)), image((2, 4, 8)), image((9, 32, 32))],
    ("transformer", 1): [text((1, 1), (8, 64), (32, 256))],
    ("transformer", 3): [
        text((1, 1), (8, 16), (32, 32)), text((1, 33), (8, 64), (32, 128)), text((1, 129), (8, 256), (32, 256)),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The files, made when they are first asked for."""
    return Graphs(tmp_path_factory.mktemp("graphs"))


class Graphs(dict[tuple[str, str], Path]):
    """model.onnx by model and precision."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.ranges: dict[str, Ranges] = {}

    def __missing__(self, key: tuple[str, str]) -> Path:
        name, precision = key
        file = self.folder / f"{name}-{precision}" / MODEL_FILE
        file.parent.mkdir()
        onnx.save(self.made(name, precision), file)
        self[key] = file
        return file

    def made(self, name: str, precision: str) -> onnx.ModelProto:
        model = MODELS[name][0]()
        if precision in ("fp16", "bf16"):
            return to_half(model, precision.upper()).model
        first, _, second = precision.partition("+")
        if first in ("int8", "fp8"):
            result = quantize_tensorrt(model, self.calibrated(name), first.upper(), where="here")
            model = result.model
            assert qdq_problems(model, "tensorrt") == []
        return to_half(model, second.upper()).model if second else model

    def calibrated(self, name: str) -> Ranges:
        if name not in self.ranges:
            model = onnx.load(self[(name, "fp32")])
            self.ranges[name] = calibrate(
                self[(name, "fp32")], MODELS[name][1], tensors_to_calibrate(model), method="minmax", percentile=99.99,
                batch_rows=8, where="here",
            )  # fmt: skip
        return self.ranges[name]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_plan_is_built(graphs: Graphs, name: str, precision: str, count: int) -> None:
    profiles = PROFILES[name, count]
    file = graphs[(name, precision)]
    onnx.checker.check_model(str(file))
    options = EngineOptions(compute_capabilities=("8.9",), precision=precision)
    built = build_engine(trt, file, profiles, options)
    assert built.plan.startswith(b"vtrt")
    assert len(built.facts["profiles"]) == count
    layers = Counter(built.facts["layers"])
    assert layers[TYPES[precision]] > 0, layers
    if precision.endswith("fp16"):
        assert layers["FP16"] > 0
        assert layers["FP32"] <= layers["FP16"], layers


@pytest.mark.parametrize("name", list(MODELS))
def test_the_three_profiles_are_disjoint_and_complete(name: str) -> None:
    """What is built above is what `trtkit build` accepts."""
    model = MODELS[name][0]()
    inputs = {
        value.name: tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
        for value in model.graph.input
    }
    for count in (1, 3):
        assert list(profile_problems(inputs, PROFILES[name, count], max_batch_size=32)) == []
