# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Ragged batches of the onnxruntime backend on a real tritonserver: batch_input and batch_output of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from onnx import ModelProto
from tritonclient.utils import InferenceServerException

import onnx_sequence_models as models
from onnx_clients import EXPLICIT, Connection, Executions, at_once, write_model
from trtkit.server import RunningServer, serve

# waits until four rows are there: long enough never to end by itself in a test
FOUR_TOGETHER = """
max_batch_size: 4
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }
instance_group { count: 1 kind: KIND_CPU }
"""
AT_ONCE = "max_batch_size: 4 instance_group { count: 1 kind: KIND_CPU }\n"
TYPES = {"FP32": np.float32, "INT32": np.int32}


def ragged(kind: str, dims: str) -> str:
    return f'input {{ name: "x" data_type: TYPE_{kind} dims: [{dims}] allow_ragged_batch: true }}\n'


def output(name: str, kind: str, dims: str) -> str:
    return f'output {{ name: "{name}" data_type: TYPE_{kind} dims: [{dims}] }}\n'


def computed(kind: str, data_type: str, *targets: str) -> str:
    names = "".join(f'target_name: "{name}" ' for name in targets)
    return f'batch_input {{ kind: BATCH_{kind} {names}data_type: TYPE_{data_type} source_input: "x" }}\n'


SCATTERED = 'batch_output { target_name: "y" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "x" }\n'


def sums(kind: str) -> str:
    return (
        ragged("FP32", "-1")
        + 'input { name: "weight" data_type: TYPE_FP32 dims: 1 }\n'
        + output("y", "FP32", "1")
        + output("length", kind, "1")
        + output("end", kind, "1")
        + computed("ELEMENT_COUNT", kind, "lengths")
        + computed("ACCUMULATED_ELEMENT_COUNT", kind, "ends")
        + computed("ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", kind, "bounds")
    )


def items(kind: str) -> str:
    return (
        ragged("FP32", "-1, -1")
        + output("y", "FP32", "-1, -1")
        + output("shape", kind, "2")
        + output("pairs", kind, "2")
        + SCATTERED
        + computed("ITEM_SHAPE", kind, "shapes")
        + computed("ITEM_SHAPE_FLATTEN", kind, "flat")
    )


LONGEST = (
    ragged("FP32", "-1, -1")
    + output("y", "INT64", "1")
    + computed("MAX_ELEMENT_COUNT_AS_SHAPE", "FP32", "shaped")
    + computed("ELEMENT_COUNT", "INT32", "lengths")
)
LOOKUP = ragged("INT64", "-1") + output("y", "FP32", "-1") + SCATTERED
TOO_FEW = ragged("FP32", "-1") + output("y", "FP32", "-1") + SCATTERED

MODELS: dict[str, tuple[ModelProto, str]] = {
    "sums_fp32": (models.sums_of_ragged("float"), FOUR_TOGETHER + sums("FP32")),
    "sums_int32": (models.sums_of_ragged("int32"), FOUR_TOGETHER + sums("INT32")),
    "items_fp32": (models.shapes_of_items("float"), FOUR_TOGETHER + items("FP32")),
    "items_int32": (models.shapes_of_items("int32"), FOUR_TOGETHER + items("INT32")),
    "sums_now": (models.sums_of_ragged("int32"), AT_ONCE + sums("INT32")),
    "longest": (models.longest_of_ragged(), FOUR_TOGETHER + LONGEST),
    "lookup": (models.looks_up_ragged(), FOUR_TOGETHER + LOOKUP),
    "too_few": (models.first_element_of_ragged(), AT_ONCE + TOO_FEW),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("ragged")
    for name, (model, config) in MODELS.items():
        write_model(repository, name, model, config)
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


def rows_of(lengths: Sequence[int]) -> list[np.ndarray]:
    """One row of each length, no two values alike."""
    values = iter(range(1, 1 + sum(lengths)))
    return [np.array([[next(values) for _ in range(length)]], np.float32).reshape(1, length) for length in lengths]


@pytest.mark.triton
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("lengths", [(3, 1, 5, 2), (4, 0, 0, 1), (0, 0, 0, 0), (2, 2, 2, 2)])
def test_requests_of_any_length_run_as_one(grpc: Connection, kind: str, lengths: tuple[int, ...]) -> None:
    name = f"sums_{kind.lower()}"
    rows = rows_of(lengths)
    feeds = [{"x": row, "weight": np.array([[10.0**i]], np.float32)} for i, row in enumerate(rows)]
    executions = Executions(grpc, name)
    answers = at_once(grpc, name, feeds)
    assert executions.for_rows(4) == 1
    for index, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        assert answer.as_numpy("y").tolist() == [[row.sum() * 10.0**index]]
        assert answer.as_numpy("length").tolist() == [[row.size]]
        assert answer.as_numpy("length").dtype == TYPES[kind]
    # the requests may be batched in another order than they were sent in, which the ends tell
    ends = sorted(answer.as_numpy("end").item() for answer in answers)
    assert ends[-1] == sum(lengths)
    assert sorted(np.diff([0, *ends])) == sorted(lengths)


@pytest.mark.triton
def test_a_request_that_is_alone_gets_the_computed_inputs_too(connection: Connection) -> None:
    feed = {"x": np.array([[1, 2, 3]], np.float32), "weight": np.array([[2]], np.float32)}
    result = connection.infer("sums_now", feed)
    found = [result.as_numpy(name).item() for name in ("y", "length", "end")]
    assert found == [12, 3, 3]


@pytest.mark.triton
def test_a_request_of_several_rows_counts_once(connection: Connection) -> None:
    """So its two rows find one row in outputs that have one for each request: an error for it, not a wrong answer."""
    feed = {"x": np.ones((2, 3), np.float32), "weight": np.ones((2, 1), np.float32)}
    with pytest.raises(InferenceServerException, match="'length'"):
        connection.infer("sums_now", feed, ["length"])


@pytest.mark.triton
@pytest.mark.parametrize("kind", TYPES)
def test_shapes_of_items_and_an_output_scattered_by_them(grpc: Connection, kind: str) -> None:
    name = f"items_{kind.lower()}"
    shapes = [(1, 2, 3), (2, 4, 1), (1, 0, 5)]  # the second has two rows, the third no elements
    feeds = [{"x": np.random.default_rng(i).random(shape, np.float32)} for i, shape in enumerate(shapes)]
    executions = Executions(grpc, name)
    answers = at_once(grpc, name, feeds)
    assert executions.for_rows(4) == 1
    for answer, feed, shape in zip(answers, feeds, shapes, strict=True):
        np.testing.assert_array_equal(answer.as_numpy("y"), 2 * feed["x"])
        assert answer.as_numpy("y").shape == shape
        assert answer.as_numpy("shape").tolist() == [list(shape[1:])] * shape[0]
        assert answer.as_numpy("pairs").tolist() == [list(shape[1:])] * shape[0]


@pytest.mark.triton
def test_the_longest_request_is_told_by_a_shape(grpc: Connection) -> None:
    feeds = [{"x": np.ones((1, *shape), np.float32)} for shape in ((1, 3), (2, 5), (4, 1), (0, 9))]
    answers = at_once(grpc, "longest", feeds)
    assert [answer.as_numpy("y").item() for answer in answers] == [10] * 4


@pytest.mark.triton
def test_a_wrong_request_of_a_ragged_batch_fails_alone(grpc: Connection) -> None:
    executions = Executions(grpc, "lookup")
    rows = [[1, 2], [9], [3, 3, 0], [2]]
    answers = at_once(grpc, "lookup", [{"x": np.array([row])} for row in rows])
    assert executions.for_rows(4) == 1
    assert [answers[i].as_numpy("y").tolist() for i in (0, 2, 3)] == [[[10, 20]], [[30, 30, 0]], [[20]]]
    assert "idx=9 must be within" in answers[1].message()


@pytest.mark.triton
def test_an_output_with_too_few_elements_to_scatter_is_an_error(connection: Connection) -> None:
    assert connection.infer("too_few", {"x": np.array([[7]], np.float32)}).as_numpy("y").tolist() == [[7]]
    with pytest.raises(InferenceServerException, match=r"'y'.* 3 elements.* 1\b"):
        connection.infer("too_few", {"x": np.array([[7, 8, 9]], np.float32)})


# ---------------------------------------------------------------------------------------- at load

X = {"name": "x", "data_type": "TYPE_FP32", "dims": [-1], "allow_ragged_batch": True}
Y = {"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}
COUNTS = {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["n"], "data_type": "TYPE_INT32", "source_input": ["x"]}

REFUSED = {
    "a_graph_with_a_batch": (
        "g (float[b,n] x) => (float[b,n] y) { y = Neg(x) }",
        {"input": [X]},
        r"expects model provides input with shape \[-1\] +for ragged input 'x', model provides \[-1,-1\]",
    ),
    "a_fixed_length": (
        "g (float[4] x) => (float[4] y) { y = Neg(x) }",
        {"input": [X]},
        r"expects model provides input with shape \[-1\] +for ragged input 'x', model provides \[4\]",
    ),
    "a_computed_input_too_many": (
        "g (float[n] x) => (float[n] y) { y = Neg(x) }",
        {"input": [X], "batch_input": [COUNTS]},
        "configuration expects 2 inputs, model provides 1",
    ),
    "a_computed_input_too_few": (
        "g (float[n] x, int32[r] n) => (float[n] y) { y = Neg(x) }",
        {"input": [X]},
        "configuration expects 1 inputs, model provides 2",
    ),
    "a_computed_input_the_graph_lacks": (
        "g (float[n] x, int32[r] other) => (float[n] y) { y = Neg(x) }",
        {"input": [X], "batch_input": [COUNTS]},
        "'n'",
    ),
    "a_computed_input_of_another_type": (
        "g (float[n] x, float[r] n) => (float[n] y) { y = Neg(x) }",
        {"input": [X], "batch_input": [COUNTS]},
        "'n'.*TYPE_FP32|TYPE_INT32.*'n'",
    ),
}


@pytest.mark.triton
@pytest.mark.parametrize("case", REFUSED)
def test_what_the_graph_cannot_take_is_refused_at_load(grpc: Connection, case: str) -> None:
    text, fields, message = REFUSED[case]
    config = {"backend": "onnxruntime", "max_batch_size": 4, "output": [Y], **fields}
    scatter = {"kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "target_name": ["y"], "source_input": ["x"]}
    config["batch_output"] = [scatter]
    with pytest.raises(InferenceServerException, match=message):
        grpc.client.load_model(
            f"refused_{case}",
            config=json.dumps(config),
            files={"file:1/model.onnx": models.parsed(text).SerializeToString()},
        )
