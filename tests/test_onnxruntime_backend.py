# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/onnxruntime on a real tritonserver, against onnxruntime in this process."""

from __future__ import annotations

import importlib
import os
import queue
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

import onnx_models
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

BACKEND = Path(__file__).parents[1] / "python_backends" / "onnxruntime"
APIS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}

# waits until four requests are there: long enough never to end by itself in a test
FOUR_TOGETHER = """
max_batch_size: 4
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }
instance_group { count: 1 kind: KIND_CPU }
"""

# model name -> the graph and what config.pbtxt says; None: there is no config.pbtxt
MODELS: dict[str, tuple[ModelProto, str | None]] = {
    **{
        f"identity_{name.lower()}": (onnx_models.identity(onnx_type, ["batch", "n"]), None)
        for name, (onnx_type, _) in onnx_models.TYPES.items()
    },
    "strings_unbatched": (
        onnx_models.identity(TensorProto.STRING, ["n"]),
        """
        input { name: "x" data_type: TYPE_STRING dims: -1 }
        output { name: "y" data_type: TYPE_STRING dims: -1 }
        """,
    ),
    "matmul": (onnx_models.matmul_dynamic_batch(), "instance_group { count: 2 kind: KIND_CPU }"),
    "by_platform": (onnx_models.matmul_dynamic_batch(), 'platform: "onnxruntime_onnx"'),
    "auto_kind": (onnx_models.matmul_dynamic_batch(), "instance_group { count: 1 kind: KIND_AUTO }"),
    "two_outputs": (onnx_models.two_outputs(), FOUR_TOGETHER),
    "two_inputs": (onnx_models.two_inputs_of_different_types(), FOUR_TOGETHER),
    "sum_second_axis": (onnx_models.sum_of_dynamic_second_axis(), None),
    "rows_in_run": (onnx_models.rows_in_run(), FOUR_TOGETHER),
    "lookup": (onnx_models.fails_on_index_above_three(), FOUR_TOGETHER),
    "labels": (onnx_models.label_of_bytes(), FOUR_TOGETHER),
    "scalar_per_row": (onnx_models.scalar_per_row(), FOUR_TOGETHER),
    "scalar": (onnx_models.scalar(), None),
    "row": (onnx_models.row_at_scalar_index(), None),
    "scalar_string": (onnx_models.identity(TensorProto.STRING, []), None),
    "unknown_rank": (onnx_models.identity(TensorProto.FLOAT, None), None),
    "fixed_batch": (onnx_models.fixed_batch_of_three(), None),
    "optional_input": (
        onnx_models.initializer_as_input(),
        """
        input { name: "x" data_type: TYPE_FP32 dims: 2 }
        input { name: "offset" data_type: TYPE_FP32 dims: 2 optional: true }
        output { name: "y" data_type: TYPE_FP32 dims: 2 }
        """,
    ),
    "not_a_batch": (onnx_models.positive_rows_only(), None),
    "controls": (
        onnx_models.sequence_controls(),
        """
        max_batch_size: 2
        sequence_batching {
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } }
          control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
        }
        input { name: "x" data_type: TYPE_FP32 dims: 1 }
        output { name: "y" data_type: TYPE_FP32 dims: 1 }
        """,
    ),
    "rows_in_slots": (
        onnx_models.rows_in_run(),
        "max_batch_size: 4 instance_group { count: 1 kind: KIND_CPU } sequence_batching { direct { } }",
    ),
    "plain_sequence": (onnx_models.matmul_dynamic_batch(), "max_batch_size: 4 sequence_batching { }"),
    "slow": (onnx_models.counts_to(), "instance_group { count: 1 kind: KIND_CPU }"),
    "bigger_batch": (onnx_models.matmul_dynamic_batch(), "max_batch_size: 16 dynamic_batching { }"),
    "one_row": (onnx_models.matmul_dynamic_batch(), "max_batch_size: 1"),
    "only_inputs_given": (
        onnx_models.matmul_dynamic_batch(),
        'input { name: "x" data_type: TYPE_FP32 dims: 64 } max_batch_size: 8',
    ),
    "all_given": (
        onnx_models.matmul_dynamic_batch(),
        """
        input { name: "x" data_type: TYPE_FP32 dims: [-1, 64] }
        output { name: "y" data_type: TYPE_FP32 dims: [-1, 10] }
        """,
    ),
    "tuned": (
        onnx_models.matmul_dynamic_batch(),
        """
        instance_group { count: 1 kind: KIND_CPU }
        optimization { graph { level: 1 } }
        parameters { key: "intra_op_thread_count" value { string_value: "3" } }
        parameters { key: "memory.enable_memory_arena_shrinkage" value { string_value: "cpu:0" } }
        parameters { key: "enable_mem_arena" value { string_value: "1" } }
        """,
    ),
}


def write_model(repository: Path, name: str, model: ModelProto, config: str | None) -> Path:
    version = repository / name / "1"
    version.mkdir(parents=True)
    if config is not None:
        backend = "" if "platform:" in config else 'backend: "onnxruntime"\n'
        (repository / name / "config.pbtxt").write_text(backend + config)
    onnx.save(model, version / "model.onnx")
    return version


def write_models_with_other_files(repository: Path) -> None:
    matmul = onnx_models.matmul_dynamic_batch()
    version = write_model(repository, "other_filename", matmul, 'default_model_filename: "net.onnx"')
    (version / "model.onnx").rename(version / "net.onnx")
    version = write_model(repository, "directory", matmul, None)
    (version / "model.onnx").rename(version / "file")
    (version / "model.onnx").mkdir()
    (version / "file").rename(version / "model.onnx" / "model.onnx")
    version = write_model(repository, "external_data", matmul, None)
    onnx.save(
        onnx.load(version / "model.onnx"),
        version / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (version / "weights.bin").stat().st_size == 64 * 10 * 4


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("onnx")
    for name, (model, config) in MODELS.items():
        write_model(repository, name, model, config)
    write_models_with_other_files(repository)
    with serve(repository) as running:
        yield running


class Connection:
    """A tritonclient of either protocol."""

    def __init__(self, protocol: str, url: str) -> None:
        self.api = APIS[protocol]
        self.client = self.api.InferenceServerClient(url)

    def inputs(self, feed: dict[str, np.ndarray]) -> list[Any]:
        tensors = []
        for name, value in feed.items():
            tensor = self.api.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            tensor.set_data_from_numpy(value)
            tensors.append(tensor)
        return tensors

    def infer(self, model: str, feed: dict[str, np.ndarray], outputs: list[str] | None = None, **more: Any) -> Any:
        wanted = [self.api.InferRequestedOutput(name) for name in outputs] if outputs else None
        return self.client.infer(model, self.inputs(feed), outputs=wanted, **more)


@pytest.fixture(scope="module", params=["http", "grpc"])
def connection(triton: RunningServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    made = Connection(request.param, triton.http_url if request.param == "http" else triton.grpc_url)
    yield made
    made.client.close()


@pytest.fixture(scope="module")
def grpc(triton: RunningServer) -> Iterator[Connection]:
    made = Connection("grpc", triton.grpc_url)
    yield made
    made.client.close()


def reference(model: ModelProto, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def at_once(grpc: Connection, model: str, feeds: list[dict], outputs: list[list[str]] | None = None) -> list[Any]:
    """The answers, results or errors, to requests that are all sent before the first is answered."""
    answers: queue.Queue[tuple[int, Any]] = queue.Queue()
    for index, feed in enumerate(feeds):
        wanted = [grpcclient.InferRequestedOutput(name) for name in outputs[index]] if outputs else None
        grpc.client.async_infer(
            model,
            grpc.inputs(feed),
            lambda result, error, index=index: answers.put((index, result or error)),
            outputs=wanted,
        )
    received = dict(answers.get(timeout=100) for _ in feeds)
    return [received[index] for index in range(len(feeds))]


class Executions:
    """How often a model ran, from now on."""

    def __init__(self, grpc: Connection, model: str) -> None:
        self._read = lambda: grpc.client.get_inference_statistics(model).model_stats[0]
        self._before = self._read()

    def for_rows(self, rows: int) -> int:
        """The executions that took so many rows; they are counted after the answers are sent."""
        while (now := self._read()).inference_count < self._before.inference_count + rows:
            time.sleep(0.01)
        return now.execution_count - self._before.execution_count


# --------------------------------------------------------------------------------------------- tensors


def values_of(name: str) -> np.ndarray:
    kind = onnx_models.TYPES[name][1]
    if name == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if name == "BYTES":
        return np.array([["", "plain", "zero\0inside"], ["né", "漢字 🚀", "end\0"]], dtype=np.object_)
    if name.startswith("FP"):
        info = np.finfo(kind)
        return np.array([[np.nan, np.inf, -np.inf], [info.max, info.tiny, -0.0]], dtype=kind)
    info = np.iinfo(kind)
    return np.array([[info.min, info.max, 0], [1, 2, 3]], dtype=kind)


@pytest.mark.triton
@pytest.mark.parametrize("name", onnx_models.TYPES)
def test_a_tensor_of_every_type_comes_back_bit_for_bit(connection: Connection, name: str) -> None:
    value = values_of(name)
    result = connection.infer(f"identity_{name.lower()}", {"x": value}).as_numpy("y")
    assert result.shape == value.shape
    if name == "BYTES":
        assert [item.decode() for item in result.ravel()] == list(value.ravel())
    else:
        assert result.dtype == value.dtype
        assert result.tobytes() == value.tobytes()


@pytest.mark.triton
def test_an_empty_string_tensor(connection: Connection) -> None:
    result = connection.infer("strings_unbatched", {"x": np.array([], dtype=np.object_)})
    assert result.as_numpy("y").shape == (0,)


@pytest.mark.triton
def test_bytes_that_are_not_utf8_reach_the_model(connection: Connection) -> None:
    words = np.array([[b"cat"], ["né".encode()], [b"\xff"], [b"do"]], dtype=np.object_)
    result = connection.infer("labels", {"word": words})
    assert result.as_numpy("label").ravel().tolist() == [1, 2, 3, -1]


@pytest.mark.triton
def test_text_and_other_bytes_in_one_batch_do_not_change_each_other(grpc: Connection) -> None:
    words = [b"cat", b"\xff", "né".encode(), b"\xfe\xff"]
    feeds = [{"word": np.array([[word]], dtype=np.object_)} for word in words]
    answers = at_once(grpc, "labels", feeds)
    assert [answer.as_numpy("label").item() for answer in answers] == [1, 3, 2, -1]


@pytest.mark.triton
def test_strings_that_are_not_utf8_come_back_byte_for_byte(connection: Connection) -> None:
    words = [b"\xff", b"", b"zero\0inside", b"\xfe" * 40, "né".encode()]
    result = connection.infer("strings_unbatched", {"x": np.array(words, dtype=np.object_)})
    assert result.as_numpy("y").tolist() == words


@pytest.mark.triton
@pytest.mark.parametrize(
    "name",
    [
        "matmul",
        "by_platform",
        "auto_kind",
        "other_filename",
        "directory",
        "external_data",
        "tuned",
        "all_given",
    ],
)
def test_answers_are_those_of_onnxruntime_wherever_the_model_lies(connection: Connection, name: str) -> None:
    feed = {"x": np.random.default_rng(3).standard_normal((1, 64), dtype=np.float32)}
    result = connection.infer(name, feed).as_numpy("y")
    np.testing.assert_allclose(result, reference(onnx_models.matmul_dynamic_batch(), feed)["y"], rtol=1e-6)


@pytest.mark.triton
def test_a_dynamic_second_axis(connection: Connection) -> None:
    for columns in (1, 7, 300):
        value = np.arange(3 * columns, dtype=np.float32).reshape(3, columns)
        result = connection.infer("sum_second_axis", {"x": value}).as_numpy("y")
        np.testing.assert_array_equal(result, value.sum(axis=1, keepdims=True))


@pytest.mark.triton
def test_scalars_arrive_and_leave_as_one_element(connection: Connection) -> None:
    result = connection.infer("scalar", {"x": np.array([21], np.float32)}).as_numpy("y")
    assert result.tolist() == [42]
    result = connection.infer("scalar_string", {"x": np.array(["a né"], np.object_)}).as_numpy("y")
    assert result.tolist() == ["a né".encode()]
    assert connection.infer("row", {"index": np.array([2])}).as_numpy("y").tolist() == [4, 5]


@pytest.mark.triton
def test_a_model_of_unknown_rank_is_served_as_a_scalar(connection: Connection) -> None:
    assert connection.infer("unknown_rank", {"x": np.array([3], np.float32)}).as_numpy("y").tolist() == [3]


@pytest.mark.triton
def test_an_optional_input_may_be_left_out(connection: Connection) -> None:
    x = np.array([1, 2], np.float32)
    assert connection.infer("optional_input", {"x": x}).as_numpy("y").tolist() == [11, 22]
    offset = np.array([100, 100], np.float32)
    assert connection.infer("optional_input", {"x": x, "offset": offset}).as_numpy("y").tolist() == [101, 102]


# -------------------------------------------------------------------------------------------- batching


@pytest.mark.triton
def test_requests_run_together_as_one_batch(grpc: Connection) -> None:
    executions = Executions(grpc, "rows_in_run")
    answers = at_once(grpc, "rows_in_run", [{"x": np.zeros((1, 1), np.float32)}] * 4)
    assert [answer.as_numpy("y").tolist() for answer in answers] == [[[4]]] * 4
    assert executions.for_rows(4) == 1


@pytest.mark.triton
def test_each_request_gets_its_own_rows_of_the_batch(grpc: Connection) -> None:
    rows = [1, 2, 1]
    feeds = [
        {
            "scale": np.full((count, 1), 10.0**index, np.float32),
            "integers": np.arange(3 * count, dtype=np.int32).reshape(count, 3) + 1,
        }
        for index, count in enumerate(rows)
    ]
    executions = Executions(grpc, "two_inputs")
    answers = at_once(grpc, "two_inputs", feeds)
    assert executions.for_rows(4) == 1
    model = onnx_models.two_inputs_of_different_types()
    for feed, answer in zip(feeds, answers, strict=True):
        np.testing.assert_array_equal(answer.as_numpy("y"), reference(model, feed)["y"])


@pytest.mark.triton
def test_one_batch_with_different_outputs_asked_for(grpc: Connection) -> None:
    feeds = [{"x": np.full((1, 2), value, np.float32)} for value in (1, -2, 3, -4)]
    outputs = [["negative"], ["absolute"], ["negative", "absolute"], ["absolute"]]
    answers = at_once(grpc, "two_outputs", feeds, outputs)
    for feed, wanted, answer in zip(feeds, outputs, answers, strict=True):
        assert sorted(output.name for output in answer.get_response().outputs) == sorted(wanted)
        expected = reference(onnx_models.two_outputs(), feed)
        for name in wanted:
            np.testing.assert_array_equal(answer.as_numpy(name), expected[name])


@pytest.mark.triton
def test_a_wrong_request_fails_alone_in_its_batch(grpc: Connection) -> None:
    executions = Executions(grpc, "lookup")
    answers = at_once(grpc, "lookup", [{"index": np.array([[index]])} for index in (1, 9, 3, 2)])
    assert executions.for_rows(4) == 1
    assert [answers[position].as_numpy("y").item() for position in (0, 2, 3)] == [10, 30, 20]
    assert isinstance(answers[1], InferenceServerException)
    assert re.match(r"onnx runtime error \d+: .*Gather.* idx=9 must be within", answers[1].message())


@pytest.mark.triton
def test_a_reshaped_scalar_per_row(grpc: Connection) -> None:
    answers = at_once(grpc, "scalar_per_row", [{"x": np.array([[value]], np.float32)} for value in (1, 2, 3, 4)])
    assert [answer.as_numpy("y").tolist() for answer in answers] == [[[2]], [[4]], [[6]], [[8]]]


@pytest.mark.triton
def test_an_output_whose_first_dimension_is_no_batch_is_refused(connection: Connection) -> None:
    feed = {"x": np.array([[1], [-1], [2]], np.float32)}
    with pytest.raises(InferenceServerException, match="expected batch size of atleast 3 in model output, got 2"):
        connection.infer("not_a_batch", feed)
    all_positive = {"x": np.array([[1], [2]], np.float32)}
    assert connection.infer("not_a_batch", all_positive).as_numpy("y").ravel().tolist() == [1, 2]


@pytest.mark.triton
def test_sequence_controls_reach_the_model(connection: Connection) -> None:
    feed = {"x": np.array([[1]], np.float32)}
    first = connection.infer("controls", feed, sequence_id=7, sequence_start=True)
    last = connection.infer("controls", feed, sequence_id=7, sequence_end=True)
    assert [answer.as_numpy("y").item() for answer in (first, last)] == [7101, 7001]


@pytest.mark.triton
def test_empty_sequence_slots_are_not_computed(connection: Connection) -> None:
    feed = {"x": np.zeros((1, 1), np.float32)}
    for sequence in (1, 2):
        connection.infer("rows_in_slots", feed, sequence_id=sequence, sequence_start=True)
    second_slot = connection.infer("rows_in_slots", feed, sequence_id=2)
    assert second_slot.as_numpy("y").item() == 1
    for sequence in (1, 2):
        connection.infer("rows_in_slots", feed, sequence_id=sequence, sequence_end=True)


@pytest.mark.triton
def test_cancelled_requests_are_not_computed(grpc: Connection, triton: RunningServer) -> None:
    def waiting() -> int:
        with urllib.request.urlopen(f"http://{triton.metrics_url}/metrics") as answer:
            metrics = answer.read().decode()
        return int(re.search(r'nv_inference_pending_request_count\{model="slow".*?} (\d+)', metrics)[1])

    def served() -> int:
        return grpc.client.get_inference_statistics("slow").model_stats[0].inference_stats.success.count

    turns = 2_000_000  # about a second, in which the others are sent and cancelled
    assert grpc.infer("slow", {"times": np.array([turns])}).as_numpy("y").item() == turns
    grpc.client.update_log_settings({"log_verbose_level": 1})
    answers: queue.Queue[Any] = queue.Queue()
    calls = [
        grpc.client.async_infer(
            "slow",
            grpc.inputs({"times": np.array([turns])}),
            lambda result, error: answers.put(result or error),
        )
        for _ in range(5)
    ]
    while waiting() != 4:
        time.sleep(0.02)
    for call_behind_the_first in calls[1:]:
        call_behind_the_first.cancel()
    received = [answers.get(timeout=100) for _ in calls]
    assert sum(isinstance(answer, InferenceServerException) for answer in received) == 4
    while served() < 6:  # this server counts the Python backend's error responses as well
        time.sleep(0.02)
    dropped = "dropped a cancelled request of model 'slow'"
    while triton.log.read_text().count(dropped) < 4:
        time.sleep(0.02)
    grpc.client.update_log_settings({"log_verbose_level": 0})


# -------------------------------------------------------------------------------------- configuration


def configuration(grpc: Connection, model: str) -> Any:
    return grpc.client.get_model_config(model).config


@pytest.mark.triton
def test_a_dynamic_first_dimension_completes_to_batches_of_four(grpc: Connection) -> None:
    config = configuration(grpc, "identity_fp32")
    assert config.max_batch_size == 4
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("x", 11, [-1])]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("y", 11, [-1])]
    assert [(group.kind, group.count) for group in config.instance_group] == [(2, 2)]  # KIND_CPU


@pytest.mark.triton
def test_a_fixed_first_dimension_completes_to_no_batching(grpc: Connection) -> None:
    config = configuration(grpc, "fixed_batch")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [3, 2]


@pytest.mark.triton
def test_completion_keeps_what_is_configured(grpc: Connection) -> None:
    config = configuration(grpc, "bigger_batch")
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (16, [16])
    config = configuration(grpc, "only_inputs_given")
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (8, [8])
    assert [(t.name, list(t.dims)) for t in (*config.input, *config.output)] == [("x", [64]), ("y", [10])]
    config = configuration(grpc, "one_row")
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")
    config = configuration(grpc, "plain_sequence")
    assert config.HasField("sequence_batching")
    assert list(config.input[0].dims) == [64]
    config = configuration(grpc, "all_given")
    assert config.max_batch_size == 0


@pytest.mark.triton
def test_a_scalar_per_row_completes_to_a_reshape(grpc: Connection) -> None:
    config = configuration(grpc, "scalar_per_row")
    for tensor in (config.input[0], config.output[0]):
        assert list(tensor.dims) == [1]
        assert tensor.HasField("reshape")
        assert list(tensor.reshape.shape) == []
    config = configuration(grpc, "scalar")
    assert list(config.input[0].dims) == [1]
    assert not config.input[0].HasField("reshape")


@pytest.mark.triton
def test_each_instance_has_a_session_and_its_share_of_the_cores(triton: RunningServer) -> None:
    log = triton.log.read_text()
    session = importlib.import_module("trtkit_ort_session")
    share = max(1, session.available_cores() // 2)
    for instance in ("matmul_0_0", "matmul_0_1"):
        assert f"session for instance: {instance} (CPUExecutionProvider; intra-op threads: {share})" in log
    assert "session for instance: tuned_0_0 (CPUExecutionProvider; intra-op threads: 3)" in log


def io(direction: str, name: str, data_type: str, dims: str, more: str = "") -> str:
    return f'{direction} {{ name: "{name}" data_type: TYPE_{data_type} dims: {dims} {more} }}\n'


X = io("input", "x", "FP32", "64")
Y = io("output", "y", "FP32", "10")
BATCH_OF_EIGHT = "max_batch_size: 8"
MATMUL = onnx_models.matmul_dynamic_batch()


def parameter(key: str, value: str) -> str:
    return f'{X} {Y} {BATCH_OF_EIGHT} parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


# model name -> graph, config.pbtxt, the words of the C++ backend (or ours, where it has no such case)
REFUSED: dict[str, tuple[ModelProto, str, str]] = {
    "too_many_inputs": (
        MATMUL,
        X + io("input", "z", "FP32", "1") + Y + BATCH_OF_EIGHT,
        "unable to load model 'too_many_inputs', configuration expects 2 inputs, model provides 1",
    ),
    "unknown_input": (
        onnx_models.two_inputs_of_different_types(),
        io("input", "scale", "FP32", "1")
        + io("input", "ints", "INT32", "-1")
        + io("output", "y", "FP32", "-1")
        + BATCH_OF_EIGHT,
        "unexpected inference input 'ints', allowed inputs are: integers, scale",
    ),
    "unknown_output": (
        MATMUL,
        X + io("output", "scores", "FP32", "10") + BATCH_OF_EIGHT,
        "unexpected inference output 'scores', allowed outputs are: y",
    ),
    "wrong_type": (
        MATMUL,
        io("input", "x", "FP16", "64") + Y + BATCH_OF_EIGHT,
        "unable to load model 'wrong_type', configuration expects datatype TYPE_FP16 for input 'x', model "
        "provides TYPE_FP32",
    ),
    "wrong_dims": (
        MATMUL,
        io("input", "x", "FP32", "32") + Y + BATCH_OF_EIGHT,
        "model 'wrong_dims', tensor 'x': the model expects 2 dimensions (shape [-1,64]) but the model "
        "configuration specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 "
        "followed by the explicit tensor shape, making complete shape [-1,32])",
    ),
    "batch_in_dims": (
        MATMUL,
        io("input", "x", "FP32", "[-1, 64]") + Y + BATCH_OF_EIGHT,
        "model 'batch_in_dims', tensor 'x': the model expects 2 dimensions (shape [-1,64]) but the model "
        "configuration specifies 3 dimensions",
    ),
    "wrong_rank_unbatched": (
        MATMUL,
        f"{X} {Y}",
        "model 'wrong_rank_unbatched', tensor 'x': the model expects 2 dimensions (shape [-1,64]) but the "
        "model configuration specifies 1 dimensions (shape [64])",
    ),
    "output_less_dynamic": (
        onnx_models.identity(TensorProto.FLOAT, ["batch", "n"]),
        io("input", "x", "FP32", "5") + io("output", "y", "FP32", "5") + BATCH_OF_EIGHT,
        "tensor 'y': the model expects 2 dimensions (shape [-1,-1]) but the model configuration specifies 2 dimensions",
    ),
    "no_batch_dimension": (
        onnx_models.fixed_batch_of_three(),
        io("input", "x", "FP32", "2") + io("output", "y", "FP32", "2") + BATCH_OF_EIGHT,
        "model 'no_batch_dimension', tensor 'x': for the model to support batching the shape should have at "
        "least 1 dimension and the first dimension must be -1; but shape expected by the model is [3,2]",
    ),
    "completion_without_batch": (
        onnx_models.fixed_batch_of_three(),
        BATCH_OF_EIGHT,
        "autofill failed for model 'completion_without_batch': model does not support batching while "
        "non-zero max_batch_size is specified",
    ),
    "scalar_with_dims": (
        onnx_models.scalar(),
        io("input", "x", "FP32", "2") + io("output", "y", "FP32", "1"),
        "unable to load model 'scalar_with_dims', scalar tensor 'x', should only provide 1 in the model "
        "configuration when the model doesn't support batching. Model configuration provided: [2].",
    ),
    "optional_and_batching": (
        onnx_models.identity(TensorProto.FLOAT, ["batch", 2]),
        io("input", "x", "FP32", "2")
        + io("input", "offset", "FP32", "2", "optional: true")
        + io("output", "y", "FP32", "2")
        + BATCH_OF_EIGHT,
        "unable to load model 'optional_and_batching', optional input 'offset' is not supported for models "
        "that support batching",
    ),
    "optional_but_required": (
        onnx_models.two_inputs_of_different_types(),
        io("input", "scale", "FP32", "[-1, 1]")
        + io("input", "integers", "INT32", "[-1, -1]", "optional: true")
        + io("output", "y", "FP32", "[-1, -1]"),
        "unable to load model 'optional_but_required', configuration expects 1 inputs, model provides 2",
    ),
    "float8": (
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["" : 19]> g (float8e4m3fn[n] x) => (float[n] y) { y = Cast <to = 1> (x) }'
        ),
        "",
        "unsupported datatype FLOAT8E4M3FN for input 'x' for model 'float8'",
    ),
    "no_tensor": (
        onnx_models.sequence_of_tensors(),
        "",
        "Unsupported ONNX Type 'seq(tensor(float))' for I/O 'y', expected 'ONNX_TYPE_TENSOR'.",
    ),
    "control_not_in_model": (
        MATMUL,
        f"{X} {Y} {BATCH_OF_EIGHT} sequence_batching {{ control_input {{ name: 'START' control {{ kind: "
        "CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } } }",
        "configuration specified sequence control 'START', but model does not provide that input",
    ),
    "control_of_wrong_dims": (
        onnx_models.two_inputs_of_different_types(),
        io("input", "scale", "FP32", "1")
        + io("output", "y", "FP32", "-1")
        + f"{BATCH_OF_EIGHT} sequence_batching {{ control_input {{ name: 'integers' control {{ kind: "
        "CONTROL_SEQUENCE_START int32_false_true: [0, 1] } } }",
        "unable to load model 'control_of_wrong_dims', sequence control 'integers' in model has dims [-1] but dims [1] "
        "is expected",
    ),
    "control_of_wrong_type": (
        onnx_models.sequence_controls(),
        io("input", "x", "FP32", "1")
        + io("output", "y", "FP32", "1")
        + f"{BATCH_OF_EIGHT} sequence_batching {{ control_input {{ name: 'START' control {{ kind: "
        "CONTROL_SEQUENCE_START int32_false_true: [0, 1] } } }",
        "unable to load model 'control_of_wrong_type', sequence control 'START', the model expects data-type "
        "FLOAT but the model configuration specifies data-type TYPE_INT32",
    ),
    "ragged_of_two_dims": (
        onnx_models.identity(TensorProto.FLOAT, ["batch", "n"]),
        io("input", "x", "FP32", "-1", "allow_ragged_batch: true") + io("output", "y", "FP32", "-1") + BATCH_OF_EIGHT,
        "configuration expects model provides input with shape [-1] for ragged input 'x', model provides [-1,-1]",
    ),
    "state_not_in_model": (
        MATMUL,
        f"{X} {Y} {BATCH_OF_EIGHT} sequence_batching {{ state {{ input_name: 'x' output_name: 'kept' "
        "data_type: TYPE_FP32 dims: 10 } }",
        "unable to load model 'state_not_in_model', configuration expects output state 'kept', model provides y",
    ),
    "state_of_wrong_type": (
        MATMUL,
        f"{X} {Y} {BATCH_OF_EIGHT} sequence_batching {{ state {{ input_name: 'x' output_name: 'y' "
        "data_type: TYPE_INT32 dims: 10 } }",
        "configuration expects datatype TYPE_INT32 for input state 'x', model provides TYPE_FP32",
    ),
    "control_of_strings": (
        onnx_models.sequence_controls(),
        io("input", "x", "FP32", "1")
        + io("output", "y", "FP32", "1")
        + f"{BATCH_OF_EIGHT} sequence_batching {{ control_input {{ name: 'CORRID' control {{ kind: "
        "CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } } }",
        "tritonserver's Python backend refuses every request with a control of TYPE_STRING; use TYPE_UINT64",
    ),
    "parallel_twice": (
        MATMUL,
        parameter("execution_mode", "2"),
        "Expected values for execution_mode are 0 or 1 but got 2 .",
    ),
    "threads_in_words": (
        MATMUL,
        parameter("intra_op_thread_count", "two"),
        "parameter 'intra_op_thread_count': failed to convert 'two' to integral number",
    ),
    "arena_perhaps": (
        MATMUL,
        parameter("enable_mem_arena", "perhaps"),
        "failed to convert 'perhaps' to boolean",
    ),
    "unknown_accelerator": (
        MATMUL,
        f"{X} {Y} {BATCH_OF_EIGHT} optimization {{ execution_accelerators {{ cpu_execution_accelerator "
        "{ name: 'abacus' } } }",
        "unknown Execution Accelerator 'abacus' is requested",
    ),
    "missing_operators": (
        MATMUL,
        f"{X} {Y} {BATCH_OF_EIGHT} model_operations {{ op_library_filename: 'nowhere.so' }}",
        "nowhere.so: cannot open shared object file",
    ),
    "missing_file": (
        MATMUL,
        f'{X} {Y} {BATCH_OF_EIGHT} default_model_filename: "net.onnx"',
        "/missing_file/1/net.onnx' for model instance 'missing_file'; the version directory has: model.onnx",
    ),
    "no_onnx": (MATMUL, f"{X} {Y} {BATCH_OF_EIGHT}", "onnx runtime error 7: Load model from"),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The server's reason by model, from one server that is given all of them."""
    repository = tmp_path_factory.mktemp("refused")
    for name, (model, config, _) in REFUSED.items():
        version = write_model(repository, name, model, config)
        if name == "no_onnx":
            (version / "model.onnx").write_bytes(b"this is no protobuf")
    with pytest.raises(ModelUnavailableError) as error, serve(repository):
        pass
    parts = re.split(r"model '(\w+)' failed to load: ", str(error.value))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.triton
@pytest.mark.parametrize("name", REFUSED)
def test_a_configuration_the_model_cannot_meet_is_refused_with_the_reason(refusals: dict, name: str) -> None:
    assert REFUSED[name][2] in " ".join(refusals[name].split())


@pytest.mark.triton
def test_a_gpu_instance_without_a_gpu_is_refused(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    write_model(tmp_path, "gpu", MATMUL, "instance_group { kind: KIND_GPU }")
    with (
        pytest.raises(ModelUnavailableError, match="kind KIND_GPU but no GPUs are available"),
        serve(tmp_path),
    ):
        pass


# ------------------------------------------------------------------------------------- session options


@pytest.fixture(autouse=True)
def backend_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BACKEND)


@pytest.fixture
def session_module() -> Any:
    return importlib.import_module("trtkit_ort_session")


def with_parameters(**parameters: str) -> dict[str, Any]:
    return {"name": "m", "parameters": {key: {"string_value": value} for key, value in parameters.items()}}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (-1, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
        (0, ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        (1, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED),
        (2, ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ],
)
def test_the_graph_level_is_that_of_the_cpp_backend(session_module: Any, level: int, expected: Any) -> None:
    config = {"name": "m", "optimization": {"graph": {"level": level}}}
    assert session_module.session_options(config).graph_optimization_level == expected


def test_parameters_become_session_options(session_module: Any) -> None:
    options = session_module.session_options(
        with_parameters(
            intra_op_thread_count="3",
            inter_op_thread_count="2",
            execution_mode="1",
            enable_mem_arena="0",
            enable_mem_pattern="off",
            **{"session.use_device_allocator_for_initializers": "1"},
        )
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"
    plain = session_module.session_options({"name": "m"})
    assert plain.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert (plain.enable_cpu_mem_arena, plain.enable_mem_pattern) == (True, True)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], 8),
        ([{"count": 2, "gpus": []}], 4),
        ([{"count": 1, "gpus": []}, {"count": 2, "gpus": []}], 2),
        ([{"count": 2, "gpus": [0, 1]}], 2),
        ([{"count": 9, "gpus": []}], 1),
    ],
)
def test_instances_share_the_cores(
    session_module: Any, monkeypatch: pytest.MonkeyPatch, groups: list, expected: int
) -> None:
    monkeypatch.setattr(session_module, "available_cores", lambda: 8)
    assert session_module.session_options({"name": "m", "instance_group": groups}).intra_op_num_threads == expected


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 16), ("250000 100000", 3), ("9900000 100000", 16)])
def test_cores_are_limited_by_the_quota_of_the_container(
    session_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, expected: int
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota + "\n")
    monkeypatch.setattr(session_module, "CPU_QUOTA_FILE", str(file))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert session_module.available_cores() == expected


def test_a_gpu_instance_asks_for_cuda_with_the_accelerators_options(session_module: Any) -> None:
    config = {
        **with_parameters(cudnn_conv_algo_search="1", gpu_mem_limit="1000"),
        "optimization": {
            "execution_accelerators": {
                "gpu_execution_accelerator": [
                    {
                        "name": "tensorrt",
                        "parameters": {"precision_mode": "FP16", "max_workspace_size_bytes": "9"},
                    },
                    {"name": "cuda", "parameters": {"use_tf32": "0"}},
                ]
            }
        },
    }
    cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "gpu_mem_limit": "1000", "device_id": "3"}
    assert session_module.providers(config, "GPU", "3") == [
        (
            "TensorrtExecutionProvider",
            {"trt_fp16_enable": "1", "trt_max_workspace_size": "9", "device_id": "3"},
        ),
        ("CUDAExecutionProvider", cuda),
        ("CPUExecutionProvider", {}),
    ]
    assert session_module.providers(config, "CPU", "0") == [("CPUExecutionProvider", {})]
    assert session_module.providers(config, "MODEL", "0") == [("CPUExecutionProvider", {})]


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        ({"name": "abacus"}, "unknown Execution Accelerator 'abacus' is requested"),
        ({"name": "tensorrt", "parameters": {"precision_mode": "FP8"}}, "unsupported precision mode 'FP8'"),
        (
            {"name": "tensorrt", "parameters": {"speed": "9"}},
            "unknown parameter 'speed' is provided for TensorRT",
        ),
    ],
)
def test_an_unknown_gpu_accelerator_is_refused(session_module: Any, accelerator: dict, message: str) -> None:
    accelerators = {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    with pytest.raises(session_module.LoadError, match=message):
        session_module.providers({"name": "m", "optimization": accelerators}, "GPU", "0")


def test_cuda_that_is_not_installed_is_an_error_that_says_what_to_install(
    session_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    onnx.save(MATMUL, tmp_path / "model.onnx")
    with pytest.raises(session_module.LoadError, match=r"model 'm' needs CUDAExecutionProvider.*onnxruntime-gpu"):
        session_module.open_session(str(tmp_path / "model.onnx"), {"name": "m"}, "GPU", "0")


def test_a_provider_that_falls_back_silently_is_an_error(
    session_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with broken CUDA libraries: the provider is listed, and the session comes without it."""
    created = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda path, options, providers: created(path, options, providers=["CPUExecutionProvider"]),
    )
    onnx.save(MATMUL, tmp_path / "model.onnx")
    with pytest.raises(session_module.LoadError, match="CUDAExecutionProvider did not load and ONNX Runtime fell back"):
        session_module.open_session(str(tmp_path / "model.onnx"), {"name": "m"}, "AUTO", "0")
