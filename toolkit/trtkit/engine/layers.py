# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""In which precision layers run, as found: in the engine where it can be loaded, else in the parsed network."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trtkit.engine.library import dtype_name

# what moves, renames or converts values and computes nothing
_NETWORK_MOVES = {"CONSTANT", "QUANTIZE", "DEQUANTIZE", "CAST", "IDENTITY", "SHUFFLE", "SHAPE"}
_ENGINE_MOVES = {"Reformat", "NoOp", "Constant", "Signal", "Wait"}
# the inspector's words for a type, within texts such as "Row major linear FP16 format" (up to 10) or "Half" (11)
_WORDS = (
    ("BF16", r"bf16|bfloat16"),
    ("FP8", r"fp8\w*|float8\w*"),
    ("FP4", r"fp4\w*|float4\w*"),
    ("INT4", r"int4"),
    ("INT8", r"int8"),
    ("FP16", r"fp16|half|float16"),
    ("FP32", r"fp32|float|float32"),
    ("INT64", r"int64"),
    ("INT32", r"int32"),
    ("BOOL", r"bool"),
)


def network_layers(network: Any) -> dict[str, int]:
    """How many computing layers of a parsed network are of each type, the most frequent first.

    A layer counts by its output. One that takes dequantized values counts in the quantized type, in which
    TensorRT runs it where it has a kernel for that.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantized = {
        layer.get_output(0).name: dtype_name(layer.get_input(0).dtype)
        for layer in layers
        if layer.type.name == "DEQUANTIZE"
    }
    computing = [layer for layer in layers if layer.type.name not in _NETWORK_MOVES and layer.num_outputs]
    found = Counter(_computed(layer, quantized) for layer in computing)
    return dict(found.most_common())


def _computed(layer: Any, quantized: Mapping[str, str]) -> str:
    given = [layer.get_input(index) for index in range(layer.num_inputs)]
    types = [quantized[tensor.name] for tensor in given if tensor is not None and tensor.name in quantized]
    return types[0] if types else dtype_name(layer.get_output(0).dtype)


def engine_layers(information: str) -> dict[str, int]:
    """The same of a built engine, from its inspector's JSON; empty when it has no details.

    A layer counts by its first input: a kernel that takes INT8 and gives FP16 computes in INT8.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError):
        return {}
    detailed = [layer for layer in layers if isinstance(layer, dict) and layer.get("LayerType") not in _ENGINE_MOVES]
    return dict(Counter(_first_type(layer) for layer in detailed).most_common())


def _first_type(layer: Mapping[str, Any]) -> str:
    return next(_types(layer), "unknown")


def _types(layer: Mapping[str, Any]) -> Iterator[str]:
    for tensor in [*(layer.get("Inputs") or ()), *(layer.get("Outputs") or ())]:
        # one field up to 10, split into two from 11 on
        for key in ("Format/Datatype", "DataType", "Datatype", "Format"):
            text = str(tensor.get(key, "")) if isinstance(tensor, dict) else ""
            words = (name for name, word in _WORDS if re.search(rf"\b(?:{word})\b", text, re.IGNORECASE))
            if name := next(words, None):
                yield name
                break
