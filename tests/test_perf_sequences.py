# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Sequences on the real sequence batcher: a model that refuses what is out of order, and says what begins and ends."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from conftest import write_model
from perf_loads import loaded, succeeded
from trtkit.perf.measurement import Measurement
from trtkit.server import serve

pytestmark = pytest.mark.triton

STRICT_MODEL = """
import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.log = json.loads(args["model_config"])["parameters"]["log"]["string_value"]
        self.expected = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        values = (pb_utils.get_input_tensor_by_name(request, name) for name in ("START", "END", "ID", "x"))
        start, end, number, x = (tensor.as_numpy().ravel()[0].item() for tensor in values)
        problem = self.problem(start, number, x)
        if problem:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"sequence {number}: {problem}"))
        self.expected[number] = x + 1
        if end:
            del self.expected[number]
        self.note(start, end, number)
        y = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", y)])

    def problem(self, start, number, x):
        if start and number in self.expected:
            return "began twice"
        if not start and number not in self.expected:
            return "never began"
        if x != (0 if start else self.expected[number]):
            return f"request {x} is out of order"
        return ""

    def note(self, start, end, number):
        with open(self.log, "a") as file:
            file.write(f"start {number}\\n" * bool(start) + f"end {number}\\n" * bool(end))
"""
STRICT_CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input {{ name: "x" data_type: TYPE_INT32 dims: 1 }}
output {{ name: "y" data_type: TYPE_INT32 dims: 1 }}
instance_group {{ count: 1 kind: KIND_CPU }}
parameters {{ key: "log" value: {{ string_value: "{log}" }} }}
sequence_batching {{
  {strategy}
  max_sequence_idle_microseconds: 60000000
  control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} }}
  control_input {{ name: "END" control {{ kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] }} }}
  control_input {{ name: "ID" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} }}
}}
"""
STRATEGIES = {"direct": "direct { }", "oldest": "oldest { max_candidate_sequences: 16 }"}
LENGTHS = (4, 7, 1)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("sequence_logs")


@pytest.fixture(scope="module")
def server(tmp_path_factory, logs):
    repository = tmp_path_factory.mktemp("sequences")
    for name, strategy in STRATEGIES.items():
        write_model(repository, name, STRICT_CONFIG.format(name=name, strategy=strategy, log=logs / name), STRICT_MODEL)
    with serve(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc", "grpc-stream"])
def protocol(request):
    return request.param


@pytest.fixture(params=list(STRATEGIES))
def model(request, logs):
    (logs / request.param).write_text("")
    return request.param


@pytest.fixture
def streams(tmp_path):
    """Data of three sequences; each request holds its place in its own."""
    path = tmp_path / "streams.json"
    path.write_text(json.dumps({"data": [[{"x": [place]} for place in range(length)] for length in LENGTHS]}))
    return (str(path),)


@pytest.fixture
def long_stream(tmp_path):
    """Data of one sequence, longer than any that is made of it."""
    path = tmp_path / "stream.json"
    path.write_text(json.dumps({"data": [[{"x": [place]} for place in range(30)]]}))
    return (str(path),)


def begun_and_ended(log):
    words = [line.split() for line in log.read_text().splitlines()]
    return [[int(number) for what, number in words if what == wanted] for wanted in ("start", "end")]


def check_ended(log):
    """Every sequence that began has ended, also those in the middle of which the run ended."""
    begun, ended = begun_and_ended(log)
    assert sorted(begun) == sorted(ended)
    assert begun


def lengths_of(measured: Measurement):
    """How many requests each sequence had, for those whose ids were used once."""
    found = defaultdict(int)
    for number in measured.all_records.sequence.tolist():
        found[number] += 1
    return found


LOADS = [{"concurrency": 1}, {"concurrency": 5}, {"request_rate": 200, "concurrent_sequences": 4}]


@pytest.mark.parametrize("load", LOADS, ids=["one", "five", "rate"])
@pytest.mark.parametrize("end", [{"requests": 151}, {"duration_s": 0.4}], ids=["requests", "duration"])
def test_sequences_are_in_order_and_ended(server, logs, streams, protocol, model, load, end):
    before = succeeded(server, model)
    measured = loaded(server, model, protocol=protocol, input_data=streams, **load, **end)
    assert measured.errors == ()
    records = measured.all_records
    check_ended(logs / model)
    assert len(records) == succeeded(server, model) - before
    if "requests" in end:
        assert len(records) >= 151  # begun sequences are ended
    assert (records.sequence > 0).all()
    assert measured.load.sequences
    for number, length in lengths_of(measured).items():
        assert length <= max(LENGTHS), number


def test_windows_and_warm_up(server, logs, streams, protocol, model):
    measured = loaded(
        server, model, protocol=protocol, input_data=streams, concurrency=3, warmup_s=0.2, windows=3, max_windows=3
    )
    assert measured.errors == ()
    assert not any("failed during the warm-up" in warning for warning in measured.warnings)
    check_ended(logs / model)


@pytest.mark.parametrize("client_processes", [1, 2])
def test_ids_are_those_of_the_range_and_no_two_sequences_share_one(
    server, logs, streams, protocol, model, client_processes
):
    measured = loaded(
        server, model, protocol=protocol, input_data=streams, concurrency=4, requests=200, sequence_ids=(100, 109),
        processes=client_processes,
    )  # fmt: skip
    assert measured.errors == ()
    assert set(measured.all_records.sequence) <= set(range(100, 109))
    check_ended(logs / model)
    begun, _ = begun_and_ended(logs / model)
    assert set(begun) <= set(range(100, 109))
    assert len(begun) > 9  # they were used again


def test_lengths_vary_as_asked(server, logs, long_stream, protocol):
    (logs / "direct").write_text("")
    measured = loaded(
        server, "direct", protocol=protocol, input_data=long_stream, concurrency=2, requests=300, sequence_length=20,
        sequence_length_variation=0.25,
    )  # fmt: skip
    assert measured.errors == ()
    check_ended(logs / "direct")
    lengths = lengths_of(measured)
    last = sorted(lengths)[-2:]
    whole = {length for number, length in lengths.items() if number not in last}
    assert whole <= set(range(15, 26))
    assert len(whole) > 1


def test_the_same_seed_makes_the_same_sequences(server, logs, long_stream):
    (logs / "oldest").write_text("")
    asked = {"input_data": long_stream, "concurrency": 1, "requests": 100, "sequence_length": 8, "seed": 3}
    first, second = (loaded(server, "oldest", **asked).all_records for _ in range(2))
    assert np.array_equal(first.sequence, second.sequence)
    assert np.array_equal(first.index, second.index)
