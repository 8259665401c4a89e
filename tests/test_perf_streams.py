# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models that answer a request with none, one or many responses, over gRPC streams and generate_stream."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from perf_loads import kill, loaded, regions, restartable
from trtkit.perf.reports.report import what_did_not_hold
from trtkit.perf.statistics.streaming import gaps_ns
from trtkit.server import serve

pytestmark = pytest.mark.triton

# x is how many responses to send; from 100 on, x - 100 responses and then an error; below 0, one response and a nap
MANY_MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "x").as_numpy().ravel()[0])
            for number in range(count % 100 if count >= 0 else 1):
                y = pb_utils.Tensor("y", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse([y]))
                time.sleep(0.001)
            if count < 0:
                time.sleep(1.5)
            if count >= 100:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("out of words")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
MANY_CONFIG = """
name: "many"
backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }
model_transaction_policy { decoupled: true }
instance_group { count: 2 kind: KIND_CPU }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    write_model(folder, "many", MANY_CONFIG, MANY_MODEL)
    write_model(folder, "echo", ECHO_CONFIG, ECHO_MODEL)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with serve(repository) as running:
        yield running


@pytest.fixture(params=["grpc-stream", "generate-stream"])
def protocol(request):
    return request.param


def counts(tmp_path, *values):
    """An input file with one request for each value."""
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"data": [{"x": [value]} for value in values]}))
    return (str(path),)


def rows_of(records):
    """Each request's index in the pool and the times of its responses."""
    times = np.split(records.response_ns, np.cumsum(records.responses)[:-1])
    return list(zip(records.index.tolist(), times, strict=True))


@pytest.mark.parametrize("load", [{"concurrency": 3}, {"request_rate": 100}, {"concurrency": 4, "processes": 2}])
def test_every_response_is_counted_and_has_its_time(server, tmp_path, protocol, load):
    pool = [0, 1, 2, 7]
    measured = loaded(server, "many", protocol=protocol, input_data=counts(tmp_path, *pool), requests=80, **load)
    assert measured.errors == ()
    records = measured.all_records
    assert len(records) == 80
    assert records.responses.tolist() == [pool[index] for index in records.index]
    assert len(records.response_ns) == records.responses.sum() == 20 * sum(pool)
    for row, (index, times) in enumerate(rows_of(records)):
        assert (np.diff(times) > 0).all()
        assert records.sent_ns[row] < records.first_ns[row] <= records.last_ns[row]
        if pool[index]:
            assert (times[0], times[-1]) == (records.first_ns[row], records.last_ns[row])
    assert len(gaps_ns(records)) == 20 * (1 + 6)
    streaming = measured.streaming
    assert (streaming.responses_per_request_min, streaming.responses_per_request_max) == (0, 7)
    judged = measured.records
    assert (streaming.requests, streaming.responses) == (len(judged), judged.responses.sum())
    assert measured.responses_per_s == pytest.approx(streaming.responses_per_s)
    assert sum(window.responses for window in measured.windows) == judged.responses.sum()


def test_nothing_but_empty_answers(server, tmp_path, protocol):
    measured = loaded(server, "many", protocol=protocol, input_data=counts(tmp_path, 0), concurrency=2, requests=40)
    assert measured.errors == ()
    assert measured.all_records.responses.sum() == 0
    assert measured.latency.count > 0
    assert json.dumps(measured.to_json())


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_ends_its_request_and_no_other(server, tmp_path, protocol, after):
    pool = [100 + after, 2, 5]
    measured = loaded(server, "many", protocol=protocol, input_data=counts(tmp_path, *pool), concurrency=3, requests=60)
    (error,) = measured.errors
    early = protocol == "generate-stream" and after == 0  # nothing was sent yet, not even the status
    assert (error.kind, error.count) == ("HTTP 400" if early else "stream error", 20)
    assert "out of words" in error.message
    records = measured.all_records
    assert len(records) == 60
    assert [pool[index] for index in records.index[~records.ok]] == [100 + after] * 20
    assert records.responses[~records.ok].tolist() == [after] * 20
    assert records.responses[records.ok].tolist() == [pool[index] for index in records.index[records.ok]]
    assert measured.streaming.responses_per_request_max == 5
    assert what_did_not_hold([measured]) == ""


def test_a_stream_past_its_deadline_keeps_its_responses_and_the_slot_goes_on(server, tmp_path, protocol):
    pool = [2, 2, 2, 2, -1, 2, 2, 2]
    measured = loaded(
        server,
        "many",
        protocol=protocol,
        input_data=counts(tmp_path, *pool),
        concurrency=1,
        requests=16,
        timeout_s=0.7,
        window_s=1.0,
    )
    records = measured.all_records
    assert {error.kind for error in measured.errors} == {"timeout"}
    assert len(records) == 16
    napped = records.where(records.index == 4)
    assert napped.responses.tolist() == [1, 1]
    assert not napped.ok.any()
    assert (napped.last_ns - napped.first_ns > 0).all()
    good = records.where(records.ok)
    assert good.responses.tolist() == [2] * len(good)


def test_a_model_with_one_response_is_measured_over_a_stream(server):
    measured = loaded(server, "echo", protocol="grpc-stream", concurrency=3, requests=60)
    assert measured.errors == ()
    assert measured.all_records.responses.tolist() == [1] * 60
    assert measured.streaming.responses_per_s_per_user is None


def test_a_server_that_is_killed_between_responses(repository, tmp_path, protocol):
    with restartable(repository) as (server, restart):

        def on_window(window):
            if window.number == 2:
                kill(server)
            if window.number == 4:
                restart()

        measured = loaded(
            server, "many", protocol=protocol, input_data=counts(tmp_path, 50), concurrency=3, window_s=0.4,
            max_windows=10, stability=1e-9, on_window=on_window,
        )  # fmt: skip
    assert {error.kind for error in measured.errors} == {"connection"}
    assert measured.windows[3].requests == 0
    assert sum(window.requests for window in measured.windows[4:]) > 0
    records = measured.all_records
    assert set(records.responses[records.ok]) == {50}
    assert regions() == []
