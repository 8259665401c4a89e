# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Sequence batching of the onnxruntime backend on a real tritonserver: controls, strategies, slots, correlation ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

import onnx_sequence_models as models
from onnx_clients import EXPLICIT, Connection, Executions, Stream, write_model
from trtkit.server import RunningServer, serve

X = np.array([[1.5]], np.float32)
ONE = "instance_group { count: 1 kind: KIND_CPU }\n"
DIRECT, OLDEST = "direct { }", "oldest { max_candidate_sequences: 4 }"

# a boolean control's type -> the field of its values, the graph's word, values for false and true
BOOLEANS = {
    "FP32": ("fp32_false_true", "float", (-2.5, 3.5)),
    "INT32": ("int32_false_true", "int32", (7, -7)),
    "BOOL": ("bool_false_true", "bool", (True, False)),
}
# a type of CORRID -> an id that only it holds
IDS = {"UINT64": 2**62 + 5, "INT64": 2**62 + 3, "UINT32": 2**31 + 7, "INT32": 2**30 + 1}

# model -> strategy, max_batch_size, types of START, END and READY, type of CORRID
CONTROLS = {
    "direct_uint64": (DIRECT, 4, ("FP32", "INT32", "BOOL"), "UINT64"),
    "direct_int32": (DIRECT, 4, ("INT32", "BOOL", "FP32"), "INT32"),
    "direct_unbatched": (DIRECT, 0, ("BOOL", "FP32", "INT32"), "UINT32"),
    "oldest_int64": (OLDEST, 4, ("FP32", "FP32", "FP32"), "INT64"),
    "oldest_uint32": (OLDEST, 4, ("BOOL", "INT32", "FP32"), "UINT32"),
    "oldest_unbatched": (OLDEST, 0, ("INT32", "INT32", "BOOL"), "INT64"),
}

# these wait until four sequences have a request, however long it takes
FOUR_SLOTS = "direct { max_queue_delay_microseconds: 60000000 minimum_slot_utilization: 1.0 }"
FOUR_OLDEST = "oldest { max_candidate_sequences: 4 preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }"
TOGETHER = {"together_direct": FOUR_SLOTS, "together_oldest": FOUR_OLDEST}


def control(name: str, values: str) -> str:
    return f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{name} {values} }} }}\n'


def io(direction: str, name: str, kind: str) -> str:
    return f'{direction} {{ name: "{name}" data_type: TYPE_{kind} dims: 1 }}\n'


def boolean(name: str, kind: str) -> str:
    field, _, (false, true) = BOOLEANS[kind]
    return control(name, f"{field}: [{str(false).lower()}, {str(true).lower()}]")


def write_echo(repository: Path, name: str, strategy: str, rows: int, flags: tuple[str, ...], corrid: str) -> None:
    kinds = dict(zip(("START", "END", "READY"), flags, strict=True))
    outputs = "".join(io("output", each.lower(), kind) for each, kind in (*kinds.items(), ("CORRID", corrid)))
    controls = "".join(boolean(*each) for each in kinds.items()) + control("CORRID", f"data_type: TYPE_{corrid}")
    config = (
        f"max_batch_size: {rows}\n{ONE}{io('input', 'x', 'FP32')}{io('output', 'y', 'FP32')}{outputs}"
        f"sequence_batching {{ {strategy}\n{controls} max_sequence_idle_microseconds: 60000000 }}"
    )
    types = {each: BOOLEANS[kind][1] for each, kind in kinds.items()} | {"CORRID": corrid.lower()}
    write_model(repository, name, models.echoes_its_controls(types, "b,1" if rows else "1"), config)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("sequences")
    for name, (strategy, rows, flags, corrid) in CONTROLS.items():
        write_echo(repository, name, strategy, rows, flags, corrid)
    for name, strategy in TOGETHER.items():
        write_echo(repository, name, strategy, 4, ("FP32", "INT32", "BOOL"), "UINT64")
    with serve(repository, options=EXPLICIT) as running:
        yield running


@pytest.fixture(scope="module", params=["http", "grpc"])
def connection(triton: RunningServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    made = Connection(request.param, triton.http_url if request.param == "http" else triton.grpc_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def grpc(triton: RunningServer) -> Iterator[Connection]:
    made = Connection("grpc", triton.grpc_url)
    yield made
    made.close()


@pytest.mark.triton
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_of_every_type_reach_the_model(connection: Connection, name: str) -> None:
    _, rows, kinds, corrid = CONTROLS[name]
    feed = {"x": X if rows else X[0]}
    steps = [(True, False), (False, False), (False, True), (True, True)]
    for start, end in steps:
        more = {"sequence_id": IDS[corrid], "sequence_start": start, "sequence_end": end}
        result = connection.infer(name, feed, **more)
        assert result.as_numpy("y").tolist() == feed["x"].tolist()
        for output, kind, truth in zip(("start", "end", "ready"), kinds, (start, end, True), strict=True):
            assert result.as_numpy(output).item() == BOOLEANS[kind][2][truth], output
        assert result.as_numpy("corrid").item() == IDS[corrid]
        assert result.as_numpy("corrid").shape == feed["x"].shape


@pytest.mark.triton
def test_a_string_id_reaches_a_numeric_control_as_one_number_of_its_own(connection: Connection) -> None:
    seen: dict[str, set[int]] = {}
    for start in (True, False):
        for name in ("first", "second"):
            more = {"sequence_id": name, "sequence_start": start, "sequence_end": not start}
            found = connection.infer("direct_uint64", {"x": X}, **more).as_numpy("corrid").item()
            seen.setdefault(name, set()).add(found)
    assert [len(numbers) for numbers in seen.values()] == [1, 1]
    assert seen["first"] != seen["second"]


@pytest.mark.triton
@pytest.mark.parametrize("name", TOGETHER)
def test_sequences_that_run_as_one_batch_keep_their_own_tensors(
    triton: RunningServer, grpc: Connection, name: str
) -> None:
    executions = Executions(grpc, name)
    ids = (11, 22, "thirty", 2**40)
    with Stream(triton.grpc_url) as stream:
        for step in range(3):
            for place, sequence in enumerate(ids):
                value = np.array([[10 * step + place]], np.float32)
                more = {"sequence_id": sequence, "sequence_start": step == 0, "sequence_end": step == 2}
                stream.send(name, {"x": value}, name=f"{step} {place}", **more)
        answers = stream.answers(12)
    assert executions.for_rows(12) == 3
    for step in range(3):
        for place, sequence in enumerate(ids):
            answer = answers[f"{step} {place}"]
            assert answer.as_numpy("y").item() == 10 * step + place
            assert answer.as_numpy("start").item() == (3.5 if step == 0 else -2.5)
            assert answer.as_numpy("end").item() == (-7 if step == 2 else 7)
            if isinstance(sequence, int):
                assert answer.as_numpy("corrid").item() == sequence


@pytest.mark.triton
def test_empty_slots_between_sequences_disturb_nobody(connection: Connection) -> None:
    def step(sequence: int, **flags: bool) -> tuple[float, int]:
        more = {f"sequence_{flag}": value for flag, value in flags.items()}
        result = connection.infer("direct_uint64", {"x": X * sequence}, sequence_id=sequence, **more)
        return result.as_numpy("y").item(), result.as_numpy("corrid").item()

    for sequence in (1, 2, 3):
        step(sequence, start=True)
    step(1, end=True)  # the slots of 1 and 2 stay empty while 3 goes on
    assert [step(3) for _ in range(3)] == [(4.5, 3)] * 3
    step(4, start=True)
    assert step(4, end=True) == (6, 4)
    assert [step(2, end=True), step(3, end=True)] == [(3, 2), (4.5, 3)]


@pytest.mark.triton
@pytest.mark.parametrize("name", ["direct_uint64", "oldest_int64"])
def test_what_the_server_refuses_leaves_the_sequence_as_it_was(connection: Connection, name: str) -> None:
    connection.infer(name, {"x": X}, sequence_id=5, sequence_start=True)
    with pytest.raises(InferenceServerException, match="must specify batch-size 1"):
        connection.infer(name, {"x": np.concatenate([X, X])}, sequence_id=5)
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        connection.infer(name, {"x": X}, sequence_id=6)
    result = connection.infer(name, {"x": X}, sequence_id=5, sequence_end=True)
    assert result.as_numpy("corrid").item() == 5


@pytest.mark.triton
def test_a_string_control_is_refused_at_load_with_the_way_out(connection: Connection) -> None:
    """The server's Python backend fails every request of such a model before this backend sees it."""
    config = {
        "backend": "onnxruntime",
        "max_batch_size": 4,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
        "sequence_batching": {
            "control_input": [
                {"name": "CORRID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_STRING"}]}
            ]
        },
    }
    model = models.echoes_its_controls({"CORRID": "string"}).SerializeToString()
    with pytest.raises(InferenceServerException, match=r"'CORRID'.*TYPE_STRING.*TYPE_UINT64"):
        connection.client.load_model("strings", config=json.dumps(config), files={"file:1/model.onnx": model})
