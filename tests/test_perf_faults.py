# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while a load runs: what was measured stays, errors are counted, nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from perf_loads import children, kill, loaded, post, regions, restartable, succeeded
from trtkit.perf.reports.report import what_did_not_hold
from trtkit.server import serve

pytestmark = pytest.mark.triton

WAYS = [("http", "none"), ("grpc", "none"), ("grpc-stream", "none"), ("http", "system"), ("grpc", "system")]
# judged over five windows that never agree: ends after `max_windows`, or when five in a row have only failures
LONG = {"window_s": 0.4, "max_windows": 10, "stability": 1e-9, "concurrency": 4}

SLOW_MODEL = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            time.sleep(float(x.ravel()[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return answers
"""
SLOW_CONFIG = ECHO_CONFIG.replace('"echo"', '"slow"')
BOUNDED_CONFIG = (
    ECHO_CONFIG.replace('"echo"', '"bounded"').replace("max_batch_size: 8", "max_batch_size: 1")
    + "dynamic_batching { default_queue_policy { max_queue_size: 2 } }\n"
)

SWAPPING_MODEL = """
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.every = int(parameters["swap_every"]["string_value"])
        self.log = parameters["log"]["string_value"]
        self.batches = 0

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        y = np.concatenate(rows) * 2
        if len(requests) > 1:
            self.batches += 1
            if self.every and self.batches % self.every == 0:
                second = len(rows[0])
                y[[0, second]] = y[[second, 0]]
                with open(self.log, "a") as file:
                    file.write("swapped\\n")
        parts = np.split(y, np.cumsum([len(part) for part in rows])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", part)]) for part in parts]
"""
SWAPPING_CONFIG = """
dynamic_batching {{ max_queue_delay_microseconds: 20000 }}
parameters {{ key: "swap_every" value: {{ string_value: "{every}" }} }}
parameters {{ key: "log" value: {{ string_value: "{log}" }} }}
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Where the model that swaps rows says that it did."""
    return tmp_path_factory.mktemp("swaps") / "log"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory, log):
    repository = tmp_path_factory.mktemp("faults")
    write_model(repository, "echo", ECHO_CONFIG, ECHO_MODEL)
    write_model(repository, "slow", SLOW_CONFIG, SLOW_MODEL)
    write_model(repository, "bounded", BOUNDED_CONFIG, SLOW_MODEL)
    for name, every in (("swapping", 5), ("healthy", 0)):
        config = ECHO_CONFIG.replace('"echo"', f'"{name}"') + SWAPPING_CONFIG.format(every=every, log=log)
        write_model(repository, name, config, SWAPPING_MODEL)
    with serve(repository, options=["--model-control-mode=explicit", "--load-model=*"]) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left():
    """No process of a load, and no shared memory of one."""
    before = children()
    yield
    assert regions() == []
    assert children() <= before


def rows(tmp_path, *values):
    """An input file whose samples hold one value each."""
    np.savez(tmp_path / "x.npz", x=np.array([[value] * 4 for value in values], np.float32))
    return tmp_path / "x.npz"


def kinds(measured):
    return {error.kind for error in measured.errors}


@pytest.mark.parametrize(("protocol", "memory"), WAYS)
@pytest.mark.parametrize("client_processes", [1, 2])
def test_a_server_that_is_killed_leaves_what_was_measured(echo_repository, protocol, memory, client_processes):
    with restartable(echo_repository) as (server, _):
        measured = loaded(
            server, "echo", protocol=protocol, shared_memory=memory, processes=client_processes,
            on_window=lambda window: kill(server) if window.number == 2 else None, **LONG,
        )  # fmt: skip
    assert all(window.requests for window in measured.windows[:2])
    empty = [not window.requests for window in measured.windows]
    assert all(empty[empty.index(True) :])  # the kill itself takes its time on a busy machine
    assert any(window.errors for window in measured.windows[2:])
    assert len(measured.windows) < LONG["max_windows"]
    assert kinds(measured) == {"connection"}
    assert measured.all_records.ok.sum() >= sum(window.requests for window in measured.windows) > 0
    assert measured.error_count == (~measured.all_records.ok).sum()
    assert what_did_not_hold([measured])
    assert regions() == []


@pytest.mark.parametrize(("protocol", "memory"), WAYS)
def test_a_server_that_comes_back_is_measured_again_and_the_gap_shows(echo_repository, protocol, memory):
    with restartable(echo_repository) as (server, restart):

        def on_window(window):
            if window.number == 2:
                kill(server)
            if window.number == 4:
                restart()

        measured = loaded(server, "echo", protocol=protocol, shared_memory=memory, on_window=on_window, **LONG)
    assert all(window.requests for window in measured.windows[:2])
    assert measured.windows[3].requests == 0
    assert measured.windows[3].errors > 0
    assert "connection" in kinds(measured)
    again = sum(window.requests for window in measured.windows[4:])
    if memory == "none":
        assert again > 0
        assert kinds(measured) == {"connection"}
    else:  # the new server was never told of the memory: it says so
        assert again == 0
        assert len(kinds(measured)) == 2
        assert any("shared memory" in error.message for error in measured.errors)
    assert what_did_not_hold([measured])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_open_loop_goes_on_while_the_server_is_away(echo_repository, protocol):
    with restartable(echo_repository) as (server, restart):

        def on_window(window):
            if window.number == 2:
                kill(server)
            if window.number == 4:
                restart()

        given = {**LONG, "request_rate": 100}
        del given["concurrency"]
        measured = loaded(server, "echo", protocol=protocol, on_window=on_window, timeout_s=5, **given)
    assert measured.windows[3].requests == 0
    assert sum(window.requests for window in measured.windows[4:]) > 0
    assert "connection" in kinds(measured)
    intended = np.sort(measured.all_records.intended_ns)
    assert np.allclose(np.diff(intended), 10_000_000, atol=2)  # none was left out


@pytest.mark.parametrize("protocol", ["http", "grpc", "grpc-stream"])
def test_a_model_that_is_unloaded_and_loaded_again(zoo, protocol):
    def on_window(window):
        if window.number == 2:
            post(zoo, "models/echo/unload")
        if window.number == 4:
            post(zoo, "models/echo/load")

    measured = loaded(zoo, "echo", protocol=protocol, on_window=on_window, **LONG)
    assert measured.windows[0].requests > 0
    assert measured.windows[3].errors > 0
    assert measured.windows[3].requests == 0
    assert measured.windows[-1].requests > 0
    assert len(measured.errors) >= 1
    assert any("echo" in error.message for error in measured.errors)


@pytest.mark.parametrize(("protocol", "kind"), [("http", "HTTP 503"), ("grpc", "gRPC UNAVAILABLE")])
def test_an_overload_that_rejects_is_counted(zoo, tmp_path, protocol, kind):
    before = succeeded(zoo, "bounded")
    measured = loaded(
        zoo, "bounded", protocol=protocol, input=rows(tmp_path, 0.02), concurrency=8, requests=400, fail_on_errors=True
    )
    (error,) = measured.errors
    assert error.kind == kind
    assert "queue" in error.message
    good = int(measured.all_records.ok.sum())
    assert good + error.count == len(measured.all_records) == 400
    assert good == succeeded(zoo, "bounded") - before > 0


@pytest.mark.parametrize("protocol", ["http", "grpc", "grpc-stream"])
@pytest.mark.parametrize("load", [{"concurrency": 2}, {"request_rate": 20}])
def test_a_request_past_its_deadline_is_counted_and_the_run_goes_on(zoo, tmp_path, protocol, load):
    data = rows(tmp_path, *[0.0] * 5, 1.0, *[0.0] * 54)
    measured = loaded(zoo, "slow", protocol=protocol, input=data, timeout_s=0.6, window_s=1.0, requests=60, **load)
    assert "timeout" in kinds(measured)
    assert kinds(measured) <= {"timeout", "gRPC DEADLINE_EXCEEDED"}
    assert len(measured.all_records) == 60
    assert measured.all_records.ok.sum() > 0
    late = measured.all_records.where(~measured.all_records.ok)
    assert (late.latency_ns >= 590_000_000).all()  # over gRPC the server may be the first to say so


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("memory", ["none", "system"])
def test_swapped_rows_are_found_and_only_those(zoo, tmp_path, log, protocol, memory):
    data = rows(tmp_path, *range(1, 41))
    asked = {"protocol": protocol, "shared_memory": memory, "input": data, "verify": True, "concurrency": 8}
    log.write_text("")
    measured = loaded(zoo, "swapping", requests=400, **asked)
    swaps = len(log.read_text().splitlines())
    assert measured.verification.checked == 400
    assert measured.verification.mismatches == 2 * swaps > 0
    assert "as if rows were swapped" in measured.verification.sentence() or any(
        mismatch.belongs_to is not None for mismatch in measured.verification.first
    )
    assert "did not verify" in what_did_not_hold([measured])
    measured = loaded(zoo, "healthy", requests=400, **asked)
    assert (measured.verification.checked, measured.verification.mismatches) == (400, 0)
    assert what_did_not_hold([measured]) == ""


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("client_processes", [1, 2, 3])
def test_no_request_is_lost_between_processes(zoo, tmp_path, protocol, client_processes):
    """Some requests are longer than a window, so that a few end after the last one."""
    data = rows(tmp_path, 0.0, 0.0, 0.0, 0.25)
    for end in ({"requests": 41}, {"duration_s": 0.5}, {"windows": 3, "max_windows": 4}):
        before = succeeded(zoo, "slow")
        measured = loaded(zoo, "slow", protocol=protocol, input=data, concurrency=6, processes=client_processes, **end)
        assert measured.errors == ()
        assert len(measured.all_records) == succeeded(zoo, "slow") - before
        assert measured.client.processes == client_processes
        if "requests" in end:
            assert len(measured.all_records) == 41
        assert (np.diff(measured.all_records.last_ns) >= 0).all()


COMMAND = [sys.executable, "-m", "trtkit", "perf", "echo", "--window", "0.2", "--warmup", "0", "--stability", "1e-7"]


def command_until(arguments, count, event):
    """Run the command, and let `event` happen when it has told of so many windows: exit code, output, progress."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        progress = []
        for line in process.stderr:
            progress.append(line)
            if sum(text.startswith("concurrency") for text in progress) == count:
                event(process)
                break
        out, err = process.communicate(timeout=200)
    assert regions(process.pid) == []
    return process.returncode, out, "".join(progress) + err


@pytest.mark.parametrize("extra", [(), ("--protocol", "grpc"), ("--shared-memory", "system"), ("--processes", "2")])
def test_ctrl_c_prints_what_was_measured(zoo, extra):
    url = zoo.grpc_url if "grpc" in extra else zoo.http_url
    code, out, err = command_until(
        ["--url", url, "-c", "2", "--json", *extra], 3, lambda process: process.send_signal(signal.SIGINT)
    )
    assert code == 130
    (measurement,) = json.loads(out)["measurements"]
    assert measurement["interrupted"]
    assert len(measurement["windows"]) >= 3
    assert all(window["requests"] for window in measurement["windows"])
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err


@pytest.mark.parametrize("extra", [(), ("--shared-memory", "system"), ("--processes", "2")])
def test_the_command_ends_with_9_when_the_server_is_killed(echo_repository, extra):
    with restartable(echo_repository) as (server, _):
        code, out, err = command_until(["--url", server.http_url, "-c", "2", *extra], 2, lambda _process: kill(server))
    assert code == 9
    assert "connection" in out
    assert err.splitlines()[-1].startswith("trtkit perf: 1 of 1 measurements did not hold")
    assert "Traceback" not in err


def test_the_command_ends_with_5_when_there_is_no_server_for_the_next_load_and_prints_the_first(echo_repository):
    with restartable(echo_repository) as (server, _):
        code, out, err = command_until(
            ["--url", server.http_url, "-c", "2,3", "--json"], 2, lambda _process: kill(server)
        )
    assert code == 5
    assert [one["load"]["concurrency"] for one in json.loads(out)["measurements"]] == [2]
    assert "Traceback" not in err


def test_a_client_that_is_killed_leaves_memory_that_the_next_one_removes(zoo):
    arguments = ["--url", zoo.http_url, "-c", "2", "--shared-memory", "system"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        process.stderr.readline()
        next(line for line in process.stderr if line.startswith(b"concurrency"))
        process.kill()
        process.wait()
    assert regions(process.pid)
    measured = loaded(zoo, "echo", shared_memory="system", requests=20, concurrency=2)
    assert measured.errors == ()
    assert regions(process.pid) == []


@pytest.mark.parametrize("end", [{"requests": 10}, {"duration_s": 0.5}])
def test_a_schedule_far_faster_than_the_server_ends(zoo, tmp_path, end):
    """Many requests are due and wait for a slot when the last one is sent."""
    measured = loaded(zoo, "slow", input=rows(tmp_path, 0.05), request_rate=400, max_in_flight=1, **end)
    assert measured.errors == ()
    if "requests" in end:
        assert len(measured.all_records) == 10
    assert measured.intended_latency.max_ns > measured.latency.max_ns
