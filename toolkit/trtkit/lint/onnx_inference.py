# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The shapes of a graph's outputs as ONNX Runtime will have them, where the file leaves them open.

ONNX Runtime infers types and shapes when it loads a model and shows what it found, so that an output that the file
calls ``[batch, dim_1]`` may be ``[batch, 10]`` to the server. This reads the whole file and is asked only in doubt.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import BinaryIO

from trtkit.lint.onnx_header import OnnxHeader, read_header

_LARGEST = 2**28


def with_inferred_outputs(stream: BinaryIO, header: OnnxHeader) -> OnnxHeader | None:
    """The header with outputs as inferred; None where that cannot be told: a large or a damaged model."""
    if header.size > _LARGEST:
        return None
    import onnx

    data = stream.read(header.size)
    try:
        inferred = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data), data_prop=True)
        found = inferred.SerializeToString()
    except Exception:  # protobuf's and onnx's errors share no class, and the model is not ours
        return None
    return replace(header, outputs=read_header(io.BytesIO(found), len(found)).outputs)
