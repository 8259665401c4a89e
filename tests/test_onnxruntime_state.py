# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Implicit state of the onnxruntime backend on a real tritonserver: what a sequence keeps, and what it never sees."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from tritonclient.utils import InferenceServerException

import onnx_sequence_models as models
from conftest import processes
from onnx_clients import EXPLICIT, TIMEOUT_S, Connection, Executions, Stream, tensors, write_model
from trtkit.server import RunningServer, serve

DIRECT, OLDEST = "direct { }", "oldest { max_candidate_sequences: 8 }"
# waits until two sequences have a request, however long it takes
TWO_TOGETHER = "direct { max_queue_delay_microseconds: 60000000 minimum_slot_utilization: 1.0 }"
LONG = 60_000_000  # microseconds: no sequence of a test times out unless it is meant to
SHORT = 300_000
WIDE = 1 << 15  # elements of a state of 128 KiB
ABANDONED = 100  # sequences that are never ended


def io(direction: str, name: str, kind: str = "FP32", dims: str = "1") -> str:
    return f'{direction} {{ name: "{name}" data_type: TYPE_{kind} dims: [{dims}] }}\n'


X_TO_Y = io("input", "x") + io("output", "y")
ZERO = "zero_data: true"
FILE = 'data_file: "hundred"'


def state(name: str, initial: str = ZERO, kind: str = "FP32", dims: str = "1", initial_dims: str = "") -> str:
    first = f'initial_state {{ name: "first" data_type: TYPE_{kind} dims: [{initial_dims or dims}] {initial} }}'
    return (
        f'state {{ input_name: "{name}_in" output_name: "{name}_out" data_type: TYPE_{kind} dims: [{dims}] '
        f"{first if initial else ''} }}\n"
    )


def config(
    strategy: str, states: str, tensors: str = X_TO_Y, *, rows: int = 4, count: int = 1, idle: int = LONG
) -> str:
    return (
        f"max_batch_size: {rows}\ninstance_group {{ count: {count} kind: KIND_CPU }}\n{tensors}"
        f"sequence_batching {{ {strategy}\n max_sequence_idle_microseconds: {idle}\n{states} }}"
    )


START = 'control_input { name: "START" control { kind: CONTROL_SEQUENCE_START bool_false_true: [false, true] } }\n'
TOTAL = state("total")
MODELS: dict[str, tuple[ModelProto, str]] = {
    "direct": (models.sums_up(), config(DIRECT, TOTAL)),
    "oldest": (models.sums_up(), config(OLDEST, TOTAL)),
    "two_instances": (models.sums_up(), config(OLDEST, TOTAL, count=2)),
    "unbatched": (models.sums_up(dims="1"), config(OLDEST, TOTAL, rows=0)),
    "from_file": (models.sums_up("int32"), config(DIRECT, state("total", FILE, "INT32"))),
    "nothing_initial": (models.sums_up_from_start(), config(DIRECT, START + state("total", ""))),
    "mean": (models.mean_of_all(), config(DIRECT, state("sum") + state("number", kind="INT64"))),
    "history": (
        models.remembers_all(),
        config(
            TWO_TOGETHER,
            state("history", dims="-1", initial_dims="1"),
            io("input", "x") + io("output", "history_out", dims="-1"),
            rows=2,
        ),
    ),
    "words": (
        models.joins_words(),
        config(DIRECT, state("text", "", "STRING"), io("input", "word", "STRING") + io("output", "y", "STRING")),
    ),
    "lookup": (models.sums_up_looked_up(), config(TWO_TOGETHER, TOTAL, rows=2)),
    "pair": (models.sums_up_looked_up(), config("oldest { max_candidate_sequences: 2 }", TOTAL)),
    "slow": (models.sums_up_slowly(), config(DIRECT, TOTAL)),
    "short_direct": (models.sums_up(), config(DIRECT, TOTAL, rows=2, idle=SHORT)),
    "short_oldest": (models.sums_up(), config("oldest { max_candidate_sequences: 2 }", TOTAL, idle=SHORT)),
    "wide": (
        models.sums_up_a_wide_state(WIDE),
        config(f"oldest {{ max_candidate_sequences: {ABANDONED} }}", state("total", dims=str(WIDE)), idle=SHORT),
    ),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("states")
    for name, (model, text) in MODELS.items():
        folder = write_model(repository, name, model, text)
        if FILE in text:
            (folder / "initial_state").mkdir()
            (folder / "initial_state" / "hundred").write_bytes(np.array([100], np.int32).tobytes())
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


# -------------------------------------------------------------------------------------- one sequence


@pytest.mark.triton
@pytest.mark.parametrize("name", ["direct", "oldest", "two_instances", "nothing_initial"])
def test_a_state_goes_from_request_to_request_until_the_end(connection: Connection, name: str) -> None:
    for _ in range(2):  # a sequence of the same id begins anew
        totals = [connection.step(name, 1, 7, start=True).item(), connection.step(name, 10, 7).item()]
        totals.append(connection.step(name, 100, 7, end=True).item())
        assert totals == [1, 11, 111]
    assert connection.step(name, 5, 7, start=True, end=True).item() == 5


@pytest.mark.triton
def test_a_model_without_batching_keeps_a_state_without_it(connection: Connection) -> None:
    def step(value: float, **flags: bool) -> float:
        more = {f"sequence_{name}": flag for name, flag in flags.items()}
        feed = {"x": np.array([value], np.float32)}
        return connection.infer("unbatched", feed, sequence_id=3, **more).as_numpy("y").tolist()

    assert [step(1, start=True), step(2), step(4, end=True)] == [[1], [3], [7]]


@pytest.mark.triton
def test_an_initial_state_is_read_from_its_file(connection: Connection) -> None:
    steps = [connection.step("from_file", 1, 7, start=True), connection.step("from_file", 1, 7, end=True)]
    assert [step.item() for step in steps] == [101, 102]
    assert connection.step("from_file", 1, 8, start=True, end=True).item() == 101


@pytest.mark.triton
def test_several_states_of_several_types(connection: Connection) -> None:
    means = [connection.step("mean", value, 9, start=value == 3).item() for value in (3, 5, 10)]
    assert means == [3, 4, 6]
    assert connection.step("mean", 2, 9, end=True).item() == 5


@pytest.mark.triton
def test_a_state_of_strings(connection: Connection) -> None:
    def step(word: bytes, **flags: bool) -> bytes:
        more = {f"sequence_{name}": flag for name, flag in flags.items()}
        feed = {"word": np.array([[word]], np.object_)}
        return connection.infer("words", feed, sequence_id=4, **more).as_numpy("y").item()

    assert [step(b"a", start=True), step("né".encode()), step(b"", end=True)] == [b"a", "ané".encode(), "ané".encode()]
    assert step(b"z", start=True, end=True) == b"z"


@pytest.mark.triton
def test_a_start_before_the_end_begins_anew(connection: Connection) -> None:
    assert connection.step("direct", 1, 7, start=True).item() == 1
    assert connection.step("direct", 2, 7, start=True).item() == 2
    assert connection.step("direct", 3, 7, end=True).item() == 5


# ------------------------------------------------------------------------------------ many sequences


@pytest.mark.triton
@pytest.mark.parametrize("name", ["direct", "oldest", "two_instances"])
def test_sequences_that_run_at_once_have_their_own_totals(triton: RunningServer, name: str) -> None:
    """More of them than there are slots, an integer id beside the string of the same digits."""
    ids: list[int | str] = [5, "5", *range(100, 110), *(f"s{i}" for i in range(10))]
    steps = 12
    with Stream(triton.grpc_url) as stream:
        for step in range(steps):
            for place, sequence in enumerate(ids):
                value = np.array([[place + 100 * step]], np.float32)
                more = {"sequence_id": sequence, "sequence_start": step == 0, "sequence_end": step == steps - 1}
                stream.send(name, {"x": value}, name=f"{step} {place}", **more)
        answers = stream.answers(steps * len(ids))
    for place in range(len(ids)):
        expected = np.cumsum([place + 100 * step for step in range(steps)]).tolist()
        assert [answers[f"{step} {place}"].as_numpy("y").item() for step in range(steps)] == expected


@pytest.mark.triton
def test_an_id_taken_again_while_its_last_requests_wait_is_another_sequence(triton: RunningServer) -> None:
    """Its END is queued when the START of the next one comes: both are in flight, in two slots of one batch."""

    def feed(value: float) -> dict[str, np.ndarray]:
        return {"x": np.array([[value]], np.float32)}

    with Stream(triton.grpc_url) as stream:
        stream.send("slow", feed(-200_000), sequence_id=1, sequence_start=True, name="busy")
        for index, value in enumerate((1, 10, 100, 1000)):
            more = {"sequence_start": index == 0, "sequence_end": index == 3}
            stream.send("slow", feed(value), sequence_id=2, name=f"old {index}", **more)
        for index, value in enumerate((2, 20, 200)):
            more = {"sequence_start": index == 0, "sequence_end": index == 2}
            stream.send("slow", feed(value), sequence_id=2, name=f"new {index}", **more)
        stream.send("slow", feed(0), sequence_id=1, sequence_end=True, name="idle")
        answers = stream.answers(9)
    totals = {name: result.as_numpy("y").item() for name, result in answers.items()}
    assert [totals[f"old {index}"] for index in range(4)] == [1, 11, 111, 1111]
    assert [totals[f"new {index}"] for index in range(3)] == [2, 22, 222]


@pytest.mark.triton
def test_states_of_different_shapes_in_one_batch(triton: RunningServer, grpc: Connection) -> None:
    """The state grows with each request and is an output too; the second sequence begins when the first has two."""
    name = "history"
    executions = Executions(grpc, name)
    plan = {1: [1, 2, 3, 4], 2: [7, 8, 9]}
    with Stream(triton.grpc_url) as stream:
        for sequence, values in plan.items():
            for index, value in enumerate(values):
                more = {"sequence_start": index == 0, "sequence_end": index == len(values) - 1}
                feed = {"x": np.array([[value]], np.float32)}
                stream.send(name, feed, sequence_id=sequence, name=f"{sequence} {index}", **more)
        feed = {"x": np.array([[99]], np.float32)}  # so that the last of the first sequence has company
        stream.send(name, feed, sequence_id=3, sequence_start=True, sequence_end=True, name="3 0")
        answers = stream.answers(8)
    assert executions.for_rows(8) == 4
    for sequence, values in {**plan, 3: [99]}.items():
        for index in range(len(values)):
            seen = answers[f"{sequence} {index}"].as_numpy("history_out")
            assert seen.tolist() == [[0, *values[: index + 1]]]


# --------------------------------------------------------------------------- errors and cancellation


@pytest.mark.triton
def test_a_failed_request_leaves_its_state_and_that_of_its_batch_mates_right(
    triton: RunningServer, grpc: Connection
) -> None:
    executions = Executions(grpc, "lookup")
    plan = {1: [1, 9, 2], 2: [3, 3, 3]}
    answers: dict[str, float | str] = {}
    for index in range(3):
        with Stream(triton.grpc_url) as stream:
            for sequence, values in plan.items():
                feed = {"x": np.array([[values[index]]], np.float32)}
                more = {"sequence_start": index == 0, "sequence_end": index == 2}
                stream.send("lookup", feed, sequence_id=sequence, name=str(sequence), **more)
            for _ in plan:
                try:
                    for name, result in stream.answers(1).items():
                        answers[f"{name} {index}"] = result.as_numpy("y").item()
                except InferenceServerException as error:
                    answers[f"error {index}"] = error.message()
    assert executions.for_rows(6) == 3
    assert "idx=9 must be within" in str(answers.pop("error 1"))
    assert answers == {"1 0": 10, "2 0": 30, "2 1": 60, "1 2": 30, "2 2": 90}


@pytest.mark.triton
def test_a_start_that_fails_forgets_the_sequence_before_it(triton: RunningServer, grpc: Connection) -> None:
    def both(first: float, second: float, **flags: bool) -> dict[str, float]:
        found = {}
        with Stream(triton.grpc_url) as stream:
            for sequence, value in ((1, first), (2, second)):
                more = {f"sequence_{name}": flag for name, flag in flags.items()}
                feed = {"x": np.array([[value]], np.float32)}
                stream.send("lookup", feed, sequence_id=sequence, name=str(sequence), **more)
            for _ in range(2):
                try:
                    found.update({name: each.as_numpy("y").item() for name, each in stream.answers(1).items()})
                except InferenceServerException:
                    found["error"] = True
        return found

    assert both(1, 1, start=True) == {"1": 10, "2": 10}
    assert both(9, 2, start=True) == {"error": True, "2": 20}
    assert both(3, 3, end=True) == {"1": 30, "2": 50}


@pytest.mark.triton
def test_a_sequence_whose_end_failed_takes_no_other_ones_place(connection: Connection) -> None:
    def total(sequence: int, index: float, **flags: bool) -> float:
        feed = {"x": np.array([[index]], np.float32)}
        return float(connection.infer("pair", feed, sequence_id=sequence, **flags).as_numpy("y").item())

    assert total(1, 1, sequence_start=True) == 10
    assert total(2, 2, sequence_start=True) == 20
    with pytest.raises(InferenceServerException, match="idx=9 must be within"):
        total(2, 9, sequence_end=True)
    assert total(3, 3, sequence_start=True) == 30
    assert total(1, 2, sequence_end=True) == 30
    assert total(3, 1, sequence_end=True) == 40


@pytest.mark.triton
@pytest.mark.parametrize("queued", [True, False], ids=["queued", "running"])
def test_a_cancelled_request_moves_the_state_as_a_whole_or_not_at_all(grpc: Connection, queued: bool) -> None:
    """The server ends a sequence when a queued request of it is cancelled; nobody may see its state again."""
    sequence, answers = 40 + queued, queue.Queue()

    def send(value: float) -> Any:
        inputs = tensors(grpc.api, {"x": np.array([[value]], np.float32)})
        call = grpc.client.async_infer("slow", inputs, lambda result, error: answers.put(error), sequence_id=sequence)
        time.sleep(0.2)  # until it runs, or waits for the one before it
        return call

    assert grpc.step("slow", 1, sequence, start=True).item() == 1
    running = send(300_000)
    if queued:
        send(50).cancel()
        answers.get(timeout=TIMEOUT_S)
        assert answers.get(timeout=TIMEOUT_S) is None
        time.sleep(0.2)  # until the server has looked at the cancelled one
    else:
        running.cancel()
    try:
        assert grpc.step("slow", 2, sequence).item() in ({300_003, 300_053} if queued else {3, 300_003})
    except InferenceServerException as error:
        assert "must specify the START flag" in error.message()  # noqa: PT017
    assert grpc.step("slow", 4, sequence, start=True, end=True).item() == 4


# ------------------------------------------------------------------------------- sequences that time out


@pytest.mark.triton
@pytest.mark.parametrize("name", ["short_direct", "short_oldest"])
def test_a_slot_taken_over_from_a_sequence_that_timed_out_begins_anew(connection: Connection, name: str) -> None:
    for sequence in (1, 2):  # both slots
        connection.step(name, 1000, sequence, start=True)
    time.sleep(4 * SHORT / 1e6)
    for sequence in (3, 1):  # a new id, and one of those that timed out
        assert connection.step(name, 5, sequence, start=True).item() == 5
        assert connection.step(name, 6, sequence).item() == 11
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        connection.step(name, 1, 2)
    for sequence in (3, 1):
        connection.step(name, 0, sequence, end=True)


def resident_bytes(server: RunningServer) -> int:
    """Of the server and its stubs, without what they share."""
    pids = {server.process.pid}
    for process in sorted(processes(), key=lambda each: each.pid):
        if process.parent in pids:
            pids.add(process.pid)
    fields = [Path(f"/proc/{pid}/statm").read_text().split() for pid in pids]
    return sum(int(resident) - int(shared) for _, resident, shared, *_ in fields) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.triton
def test_sequences_that_are_never_ended_do_not_add_up(triton: RunningServer) -> None:
    def abandon(wave: int) -> None:
        with Stream(triton.grpc_url) as stream:
            for index in range(ABANDONED):
                feed = {"x": np.array([[1]], np.float32)}
                stream.send(
                    "wide", feed, sequence_id=1 + wave * ABANDONED + index, sequence_start=True, name=str(index)
                )
            assert {answer.as_numpy("y").item() for answer in stream.answers(ABANDONED).values()} == {1}
        time.sleep(2 * SHORT / 1e6)

    for wave in range(2):
        abandon(wave)
    before = resident_bytes(triton)
    waves = 6
    for wave in range(2, 2 + waves):
        abandon(wave)
    kept = waves * ABANDONED * WIDE * 4
    assert resident_bytes(triton) - before < kept / 2


# ------------------------------------------------------------------------------------------- at load

STATE = {"input_name": "s", "output_name": "t", "data_type": "TYPE_FP32", "dims": [1]}
REFUSED = {
    "no_such_input": ("float[b,1] x, float[b,1] other", "float[b,1] t", STATE, "'s'"),
    "no_such_output": ("float[b,1] x, float[b,1] s", "float[b,1] other", STATE, "'t'"),
    "input_of_another_type": ("float[b,1] x, int32[b,1] s", "float[b,1] t", STATE, "'s'.*TYPE_INT32"),
    "output_of_another_type": ("float[b,1] x, float[b,1] s", "int32[b,1] t", STATE, "'t'.*TYPE_INT32"),
    "no_state_at_all": ("float[b,1] x", "float[b,1] t", STATE, "'s'|expects 2 inputs"),
}


@pytest.mark.triton
@pytest.mark.parametrize("case", REFUSED)
def test_a_state_the_graph_does_not_have_is_refused_at_load(grpc: Connection, case: str) -> None:
    inputs, output, wanted, message = REFUSED[case]
    kind = {"float": 1, "int32": 6}[output.partition("[")[0]]
    name = output.rpartition(" ")[2]
    graph = f"g ({inputs}) => (float[b,1] y, {output}) {{ y = Neg(x) {name} = Cast <to = {kind}> (x) }}"
    text = {
        "backend": "onnxruntime",
        "max_batch_size": 4,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
        "sequence_batching": {"state": [wanted]},
    }
    with pytest.raises(InferenceServerException, match=message):
        grpc.client.load_model(
            f"refused_{case}",
            config=json.dumps(text),
            files={"file:1/model.onnx": models.parsed(graph).SerializeToString()},
        )
