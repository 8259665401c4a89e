# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Configs that people might write: each of their parts most often right, sometimes wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TYPES = ["TYPE_FP32", "TYPE_FP16", "TYPE_INT64", "TYPE_INT32", "TYPE_STRING", "TYPE_BOOL", "TYPE_BF16"]
SIZES = st.sampled_from([1, 2, 3, 4, 8, -1, -1])
RARELY = st.integers(0, 11).map(lambda number: number == 0)


@st.composite
def tensors(draw: st.DrawFn, name: str, kind: str) -> dict[str, Any]:
    """An input or output."""
    tensor: dict[str, Any] = {"name": name, "data_type": draw(st.sampled_from(TYPES))}
    tensor["dims"] = draw(st.lists(SIZES, min_size=1, max_size=3))
    if draw(RARELY):
        tensor.pop(draw(st.sampled_from(["name", "data_type", "dims"])))
    if draw(RARELY):
        tensor["dims"] = [draw(st.sampled_from([0, -2, 4]))]
    if draw(st.integers(0, 3)) == 0:
        shapes = st.sampled_from([[], [1], [2, 4], [4, 2], [8], [-1], [4, -1], [-1, 2], [1, -1, 1], [0], [-1, -1]])
        tensor["reshape"] = {"shape": draw(shapes)}
        if draw(st.booleans()):
            tensor["dims"] = draw(st.sampled_from([[1], [8], [2, 4], [-1], [4, -1], [-1, 2], [-1, 4, -1]]))
    if kind == "input":
        if draw(RARELY):
            tensor["format"] = draw(st.sampled_from(["FORMAT_NHWC", "FORMAT_NCHW", "FORMAT_NONE"]))
        if draw(RARELY):
            tensor[draw(st.sampled_from(["optional", "allow_ragged_batch"]))] = True
    if draw(RARELY):
        tensor[draw(st.sampled_from(["is_shape_tensor", "is_non_linear_format_io"]))] = draw(st.booleans())
    return tensor


@st.composite
def queue_policies(draw: st.DrawFn) -> dict[str, Any]:
    """A ModelQueuePolicy."""
    return {
        "timeout_action": draw(st.sampled_from(["REJECT", "DELAY"])),
        "default_timeout_microseconds": draw(st.sampled_from([0, 100])),
        "max_queue_size": draw(st.integers(0, 3)),
    }


@st.composite
def batchings(draw: st.DrawFn) -> dict[str, Any]:
    """A ModelDynamicBatching."""
    batching: dict[str, Any] = {}
    if draw(st.integers(0, 2)) == 0:
        batching["preferred_batch_size"] = draw(st.lists(st.sampled_from([1, 2, 4, 8, 16, 0, -1]), max_size=2))
    if draw(st.integers(0, 2)) == 0:
        batching["priority_levels"] = draw(st.integers(0, 3))
        batching["default_priority_level"] = draw(st.integers(0, 3))
        policies = st.dictionaries(st.integers(0, 3), queue_policies(), max_size=2)
        batching["priority_queue_policy"] = draw(policies)
    if draw(st.integers(0, 2)) == 0:
        batching["preserve_ordering"] = draw(st.booleans())
    if draw(st.integers(0, 2)) == 0:
        batching["default_queue_policy"] = draw(queue_policies())
    return batching


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    """A ModelInstanceGroup for a server without a GPU."""
    group: dict[str, Any] = {
        "kind": draw(st.sampled_from(["KIND_CPU", "KIND_CPU", "KIND_MODEL", "KIND_AUTO", "KIND_GPU"]))
    }
    if draw(RARELY):
        group["gpus"] = [0]
    if draw(RARELY):
        group["profile"] = [draw(st.sampled_from(["0", "-1", "x", ""]))]
    if draw(RARELY):
        group["count"] = draw(st.sampled_from([0, 1, -1]))
    if draw(RARELY):
        resources = st.sampled_from([[], [{"name": "R", "count": 1}], [{"name": "R", "global": True}, {"name": "R"}]])
        group["rate_limiter"] = {"resources": draw(resources), "priority": 1}
    if draw(RARELY):
        group["name"] = draw(st.sampled_from(["g", "h"]))
    return group


@st.composite
def batch_inputs(draw: st.DrawFn) -> dict[str, Any]:
    """A BatchInput."""
    kinds = ["BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT", "BATCH_ITEM_SHAPE"]
    return {
        "kind": draw(st.sampled_from(kinds)),
        "target_name": draw(st.lists(st.sampled_from(["n", "m"]), max_size=2)),
        "data_type": draw(st.sampled_from(["TYPE_FP32", "TYPE_INT32", "TYPE_INT64"])),
        "source_input": draw(st.lists(st.sampled_from(["x", "x", "nothing"]), max_size=2)),
    }


@st.composite
def batch_outputs(draw: st.DrawFn) -> dict[str, Any]:
    """A BatchOutput."""
    return {
        "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE",
        "target_name": draw(st.lists(st.sampled_from(["y", "y", "z"]), max_size=2)),
        "source_input": draw(st.lists(st.sampled_from(["x", "x", "nothing"]), max_size=2)),
    }


OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "version_policy": st.sampled_from([
        {"latest": {"num_versions": 1}}, {"latest": {}}, {"all": {}}, {"specific": {"versions": [1]}},
        {"specific": {"versions": [2]}}, {"specific": {}},
    ]),
    "dynamic_batching": batchings(),
    "instance_group": st.lists(groups(), max_size=2),
    "batch_input": st.lists(batch_inputs(), max_size=1),
    "batch_output": st.lists(batch_outputs(), max_size=1),
    "response_cache": st.sampled_from([{"enable": True}, {"enable": False}]),
    "model_transaction_policy": st.sampled_from([{"decoupled": True}, {"decoupled": False}]),
    "platform": st.sampled_from(["", "python", "onnxruntime_onnx", "tensorrt_plan", "ensemble", "nothing"]),
    "default_model_filename": st.just("model.py"),  # without its file the server's load hangs
    "optimization": st.sampled_from([
        {"graph": {"level": 1}}, {"input_pinned_memory": {"enable": False}}, {"cuda": {"graphs": True}},
        {"eager_batching": True}, {},
    ]),
    "parameters": st.sampled_from([{"a": {"string_value": "b"}}, {}]),
    "metric_tags": st.sampled_from([{"a": "b"}, {"": ""}]),
    "name": st.sampled_from(["m", "m", "n"]),
    "cc_model_filenames": st.sampled_from([{"8.6": "model.py"}, {"x": "y"}]),
    "ensemble_scheduling": st.sampled_from([{}, {"step": []}]),
    "runtime": st.just(""),
}  # fmt: skip


@st.composite
def python_configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config of a Python model `m`, as a dictionary of Triton's names."""
    config: dict[str, Any] = {"backend": "python", "max_batch_size": draw(st.sampled_from([0, 1, 8, 8, 8]))}
    if draw(RARELY):
        config["max_batch_size"] = -1
    if draw(RARELY):
        config["backend"] = draw(st.sampled_from(["", "nothing"]))
    inputs, outputs = (
        draw(st.sampled_from([["x"], ["x", "x2"], ["x", "x"], []])),
        draw(st.sampled_from([["y"], ["y", "z"], ["y"], []])),
    )
    config["input"] = [draw(tensors(name, "input")) for name in inputs]
    config["output"] = [draw(tensors(name, "output")) for name in outputs]
    for field in draw(st.lists(st.sampled_from(sorted(OTHERS)), max_size=3, unique=True)):
        config[field] = draw(OTHERS[field])
    if "dynamic_batching" in config and "ensemble_scheduling" in config:
        del config["ensemble_scheduling"]  # of one oneof: a message cannot hold both
    return config
