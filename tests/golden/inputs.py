# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of the golden cases that are no text, by what is wrong with them: ONNX files, .npz archives, plans.

Each function gives the bytes of one file. A case's ``inputs`` names them: ``m.onnx = conv_net``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

import precision_models
from precision_models import Graph

Array = np.ndarray[Any, Any]
BATCH, SIZE = "batch", 8


def write_inputs(listing: Path, folder: Path) -> None:
    """Make the files that a case's ``inputs`` lists, in a folder."""
    for line in listing.read_text().splitlines():
        name, _, maker = (part.strip() for part in line.partition("="))
        (folder / name).write_bytes(INPUTS[maker]())


def _bytes(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def _small_conv_net() -> ModelProto:
    """image FP32 [batch, 1, 8, 8] -> logits FP32 [batch, 10]."""
    return precision_models.conv_net(channels=(4, 8), size=SIZE)


def conv_net() -> bytes:
    return _bytes(_small_conv_net())


def encoder() -> bytes:
    """input_ids, attention_mask INT64 [batch, sequence] -> embedding FP32 [batch, 8]; 20 words."""
    return _bytes(precision_models.encoder(layers=1, hidden=8, heads=2, vocabulary=20))


def overflows_in_fp16() -> bytes:
    """x FP32 [batch, 16] -> y FP32 [batch, 16]; the node node_squares overflows where x is above 256."""
    return _bytes(precision_models.overflows_in_fp16())


# graphs


def cut_off_conv_net() -> bytes:
    whole = conv_net()
    return whole[: len(whole) // 2]


def empty() -> bytes:
    return b""


def text() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4096\n"


def conv_net_of_opset_18() -> bytes:
    model = _small_conv_net()
    model.opset_import[0].version = 18
    return _bytes(model)


def rms_norm_of_opset_23() -> bytes:
    """An operator that came with opset 23, and that no older opset can express to onnx's converter."""
    graph = Graph(seed=6)
    graph.op("RMSNormalization", ["x", graph.constant("scale", np.ones(4))], "y")
    model = graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]})
    model.opset_import[0].version = 23
    return _bytes(model)


def operator_of_nobody() -> bytes:
    graph = Graph(seed=7)
    graph.op("FancyNorm", ["x"], "y", domain="com.example")
    model = graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return _bytes(model)


def determinant() -> bytes:
    """Det, which ONNX Runtime has and TensorRT has not."""
    graph = Graph(seed=8)
    graph.op("Det", ["x"], "y")
    return _bytes(graph.model({"x": (TensorProto.FLOAT, [BATCH, 3, 3])}, {"y": [BATCH]}))


def only_additions() -> bytes:
    """Nothing that INT8 makes faster."""
    graph = Graph(seed=9)
    graph.op("Add", ["x", graph.constant("one", 1.0)], "more")
    graph.op("Relu", ["more"], "y")
    return _bytes(graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]}))


def squares() -> bytes:
    """An output of 1e6 where x is 1000."""
    graph = Graph(seed=10)
    graph.op("Mul", ["x", "x"], "y")
    return _bytes(graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]}))


def quantized() -> bytes:
    graph = Graph(seed=11)
    graph.constant("scale", 0.1)
    graph.constant("zero", 0, np.int8)
    graph.op("QuantizeLinear", ["x", "scale", "zero"], "small")
    graph.op("DequantizeLinear", ["small", "scale", "zero"], "back")
    graph.op("MatMul", ["back", graph.weight("weight", 4, 4)], "y")
    return _bytes(graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]}))


def in_fp64() -> bytes:
    graph = Graph(seed=12)
    graph.op("MatMul", ["x", graph.constant("weight", np.eye(4), np.float64)], "y")
    model = graph.model({"x": (TensorProto.DOUBLE, [BATCH, 4])}, {"y": [BATCH, 4]})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return _bytes(model)


def nan_in_a_weight() -> bytes:
    graph = Graph(seed=13)
    weight = np.eye(4)
    weight[1, 2] = np.nan
    graph.op("MatMul", ["x", graph.constant("weight", weight)], "y")
    return _bytes(graph.model({"x": (TensorProto.FLOAT, [BATCH, 4])}, {"y": [BATCH, 4]}))


def weights_elsewhere() -> bytes:
    """External data in a file that is not there."""
    model = _small_conv_net()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    return _bytes(model)


def two_images_of_one_size() -> bytes:
    """Inputs first and second FP32 [batch, 3, width, width], added."""
    graph = Graph(seed=14)
    graph.op("Add", ["first", "second"], "y")
    shape = [BATCH, 3, "width", "width"]
    return _bytes(graph.model(dict.fromkeys(("first", "second"), (TensorProto.FLOAT, shape)), {"y": shape}))


# calibration data


def _archive(**arrays: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    return make


def _images(rows: int, *shape: int) -> Array:
    sizes = shape or (1, SIZE, SIZE)
    return np.random.default_rng(1).normal(0, 1, (rows, *sizes)).astype(np.float32)


def _tokens(rows: int = 8, words: int = 20) -> Array:
    return np.random.default_rng(2).integers(0, words, (rows, 6))


def _with_nan() -> Array:
    images = _images(8)
    images[5, 0, 1, 2] = np.nan
    return images


def cut_off_archive() -> bytes:
    whole = _archive(image=_images(8))()
    return whole[: len(whole) // 2]


def one_array_without_a_name() -> bytes:
    file = io.BytesIO()
    np.save(file, _images(8))
    return file.getvalue()


_MASK = np.ones((8, 6), np.int64)

# plans


def _plan(version: tuple[int, int, int, int], magic: bytes = b"ftrt") -> bytes:
    """A plan's header: flavour, version, and no engine after it."""
    return magic + bytes(20) + bytes(version) + bytes(36)


def cut_off_plan() -> bytes:
    return _plan((10, 3, 0, 26))[:20]


def plan_of_10_3() -> bytes:
    return _plan((10, 3, 0, 26))


def plan_of_10_14() -> bytes:
    return _plan((10, 14, 1, 48))


def rtx_plan() -> bytes:
    return _plan((1, 7, 1, 116), b"vtrt")


def cut_off_rtx_plan() -> bytes:
    plan = bytearray(_plan((1, 7, 1, 116), b"vtrt"))
    plan[16:24] = (4096).to_bytes(8, "little")
    return bytes(plan)


INPUTS: dict[str, Callable[[], bytes]] = {
    **{
        maker.__name__: maker
        for maker in (
            conv_net, encoder, overflows_in_fp16, cut_off_conv_net, empty, text, conv_net_of_opset_18,
            rms_norm_of_opset_23, operator_of_nobody, determinant, only_additions, squares, quantized, in_fp64,
            nan_in_a_weight, weights_elsewhere, two_images_of_one_size, cut_off_archive, one_array_without_a_name,
            cut_off_plan, cut_off_rtx_plan, plan_of_10_3, plan_of_10_14, rtx_plan,
        )
    },
    "images": _archive(image=_images(8)),
    "one_image": _archive(image=_images(1)),
    "no_images": _archive(image=_images(0)),
    "images_under_another_name": _archive(images=_images(8)),
    "images_without_channel": _archive(image=_images(8, SIZE, SIZE)),
    "images_of_another_size": _archive(image=_images(8, 1, SIZE, SIZE + 1)),
    "images_as_text": _archive(image=_images(8).astype(str)),
    "images_of_zeros": _archive(image=np.zeros((8, 1, SIZE, SIZE), np.float32)),
    "one_image_repeated": _archive(image=np.repeat(_images(1), 8, axis=0)),
    "images_with_nan": _archive(image=_with_nan()),
    "objects": _archive(image=np.array([_images(1), "image"], dtype=object)),
    "tokens_without_mask": _archive(input_ids=_tokens()),
    "tokens_as_floats": _archive(input_ids=_tokens() / 2, attention_mask=_MASK),
    "tokens_beyond_the_vocabulary": _archive(input_ids=_tokens(words=90), attention_mask=_MASK),
    "more_tokens_than_masks": _archive(input_ids=_tokens(9), attention_mask=_MASK),
    "rows_of_four": _archive(x=_images(8, 4)),
    "rows_of_sixteen_thousands": _archive(x=1000 * _images(8, 16)),
    "rows_of_thousands": _archive(x=1000 * _images(8, 4)),
}  # fmt: skip
