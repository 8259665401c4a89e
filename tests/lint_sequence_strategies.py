# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Python models with sequence batching, states and warm-ups, right and wrong, as hypothesis draws them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lint_repositories import as_pbtxt, write_files

MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
TYPES = ("TYPE_FP32", "TYPE_FP16", "TYPE_BF16", "TYPE_INT64", "TYPE_BOOL", "TYPE_STRING", "TYPE_INVALID")
KINDS = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END")
VALUES: dict[str, list[Any]] = {"int32_false_true": [0, 1], "fp32_false_true": [0, 1], "bool_false_true": [False, True]}
STRINGS = b"".join(struct.pack("<I", len(each)) + each for each in (b"a", b"bc"))


@dataclass(frozen=True)
class Drawn:
    """A model: its config and the files beside it, by path."""

    config: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


def write(folder: Path, drawn: Drawn) -> None:
    """A repository of the model as `m`."""
    write_files(folder / "m", {"1/model.py": MODEL, "config.pbtxt": as_pbtxt(drawn.config), **drawn.files})


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """A value that is nearly always the usual one: a config of many fields has one mistake or none then."""
    return st.integers(0, 11).flatmap(lambda drawn: st.sampled_from(others) if drawn == 0 else st.just(usual))


@st.composite
def _control(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from((*KINDS, "CONTROL_SEQUENCE_CORRID")))
    made: dict[str, Any] = {"kind": kind}
    is_id = kind == "CONTROL_SEQUENCE_CORRID"
    if draw(mostly(is_id, not is_id)):
        allowed = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
        made["data_type"] = draw(mostly(draw(st.sampled_from(allowed)), "TYPE_FP32", "TYPE_INVALID"))
    if draw(mostly(not is_id, is_id)):
        name = draw(st.sampled_from(sorted(VALUES)))
        made[name] = draw(mostly(VALUES[name], VALUES[name][:1], [*VALUES[name], VALUES[name][1]], VALUES[name][::-1]))
        if draw(mostly(False, True)):
            made["fp32_false_true"] = [0, 1]
    return made


@st.composite
def _control_inputs(draw: st.DrawFn) -> list[dict[str, Any]]:
    controls = draw(st.lists(_control(), max_size=4, unique_by=lambda each: each["kind"]))
    if controls and draw(mostly(False, True)):
        controls.append(controls[0])
    made = []
    for index, control in enumerate(controls):
        name = draw(mostly(f"CONTROL{index}", "", "CONTROL0", "x"))
        made.append({"name": name, "control": [control, *([draw(_control())] if draw(mostly(False, True)) else [])]})
    return made


@st.composite
def _state(draw: st.DrawFn, index: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    type_ = draw(st.sampled_from(TYPES[:-1]))
    dims = draw(st.lists(st.sampled_from([1, 2, 3, -1]), min_size=1, max_size=2))
    made: dict[str, Any] = {
        "input_name": draw(mostly(f"in{index}", "in0", "")),
        "output_name": draw(mostly(f"out{index}", "out0", "")),
        "data_type": draw(mostly(type_, "TYPE_INVALID")),
        "dims": dims,
        "use_same_buffer_for_input_output": draw(st.booleans()),
        "use_growable_memory": draw(mostly(False, True)),
    }
    initial, files = [], {}
    for place in range(draw(mostly(1, 0, 2))):
        data, more = draw(_initial_data(f"state{index}_{place}", type_, dims))
        initial.append(data)
        files.update(more)
    return {**made, "initial_state": initial}, files


@st.composite
def _initial_data(draw: st.DrawFn, file: str, type_: str, dims: list[int]) -> tuple[dict[str, Any], dict[str, bytes]]:
    known = [draw(st.sampled_from([1, 2, 5])) if dim == -1 else dim for dim in dims]
    made: dict[str, Any] = {
        "name": draw(mostly("initial", "")),
        "data_type": draw(mostly(type_, *TYPES)),
        "dims": draw(mostly(known, [*known, 1], [-1, *known[1:]], [7, *known[1:]], [0, *known[1:]])),
    }
    source = draw(mostly("zero_data", "data_file", "data_file", ""))
    if source == "zero_data":
        made[source] = draw(mostly(True, False))
    elif source == "data_file":
        made[source] = draw(mostly(file, "absent", ""))
    return made, {f"initial_state/{file}": bytes(draw(st.integers(0, 60)))}


@st.composite
def _batching(draw: st.DrawFn, most: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    made: dict[str, Any] = {"control_input": draw(_control_inputs()), "state": []}
    made["max_sequence_idle_microseconds"] = draw(st.sampled_from([0, 10, 10**6]))
    made["iterative_sequence"] = draw(st.booleans())
    files: dict[str, bytes] = {}
    for index in range(draw(st.integers(0, 2))):
        state, more = draw(_state(index))
        made["state"].append(state)
        files.update(more)
    strategy = draw(st.sampled_from(["", "direct", "oldest"]))
    if strategy == "direct":
        share = draw(mostly(0.5, 0, 1, 1.5, -0.1, "NaN"))
        made[strategy] = {"minimum_slot_utilization": share, "max_queue_delay_microseconds": draw(st.integers(0, 9))}
    elif strategy == "oldest":
        sizes = [draw(mostly(max(1, most), 1, 0, -1, most + 1))] if draw(st.booleans()) and most else []
        made[strategy] = {
            "preferred_batch_size": sizes if most else draw(mostly([], [1])),
            "max_candidate_sequences": draw(st.sampled_from([0, 1, 8, -1])),
            "preserve_ordering": draw(st.booleans()),
        }
    return made, files


@st.composite
def _warmup_input(draw: st.DrawFn, file: str, entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    known = [draw(st.sampled_from([1, 2, 5])) if dim == -1 else dim for dim in entry["dims"]]
    made: dict[str, Any] = {
        "data_type": draw(mostly(entry["data_type"], *TYPES)),
        "dims": draw(mostly(known, [1, *known], [-1, *known[1:]], [7, *known[1:]], [0, *known[1:]], [-2, *known[1:]])),
    }
    source = draw(mostly("zero_data", "random_data", "input_data_file", "input_data_file", ""))
    if source == "input_data_file":
        made[source] = draw(mostly(file, "absent", ""))
    elif source:
        made[source] = draw(mostly(True, False))
    content = draw(st.sampled_from([STRINGS, STRINGS[:5], b"", *map(bytes, (4, 8, 16, 20, 40))]))
    return made, {f"warmup/{file}": content}


@st.composite
def _warmups(draw: st.DrawFn, inputs: list[dict[str, Any]], most: int) -> tuple[list[Any], dict[str, bytes]]:
    made, files = [], {}
    for place in range(draw(st.integers(0, 2))):
        tensors = {}
        for entry in inputs:
            if draw(mostly(True, False)):
                file = f"{place}_{entry['name']}"
                tensors[entry["name"]], more = draw(_warmup_input(file, entry))
                files.update(more)
        if draw(mostly(False, True)):
            tensors["further"], _ = draw(_warmup_input("none", {"data_type": "TYPE_FP32", "dims": [1]}))
        size = draw(mostly(max(1, most), 0, 1, 2, most + 1))
        made.append({"name": f"w{place}", "batch_size": size, "inputs": tensors, "count": draw(mostly(0, 2))})
    return made, files


@st.composite
def sequence_models(draw: st.DrawFn) -> Drawn:
    """A model that has sequences, warm-ups, or both."""
    most = draw(st.sampled_from([0, 1, 4]))
    shape = st.lists(st.sampled_from([1, 2, 4, -1]), min_size=1, max_size=2)
    types, optional = st.sampled_from(TYPES[:-1]), mostly(False, True)
    inputs = [
        {"name": name, "data_type": draw(types), "dims": draw(shape), "optional": draw(optional)}
        for name in draw(st.sampled_from([["x"], ["x", "z"]]))
    ]
    config: dict[str, Any] = {
        "backend": "python", "max_batch_size": most, "input": inputs,
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1, "passive": draw(mostly(False, True))}],
    }  # fmt: skip
    files: dict[str, bytes] = {}
    if draw(st.booleans()):
        config["sequence_batching"], files = draw(_batching(most))
        config["response_cache"] = {"enable": draw(mostly(False, True))}
        if draw(mostly(False, True)):
            config["parameters"] = {"TRITON_BATCH_STRATEGY_PATH": {"string_value": "/absent.so"}}
    if draw(mostly(True, False)):
        config["model_warmup"], more = draw(_warmups(inputs, most))
        files.update(more)
    return Drawn(config, files)
