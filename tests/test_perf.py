# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit perf` and its Python API against a real tritonserver. Nothing here asserts how long anything takes."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit import perf
from trtkit.cli import run
from trtkit.errors import DataError, ModelUnavailableError, ProjectError, ServerUnavailableError
from trtkit.perf import session
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.reports.report import what_did_not_hold
from trtkit.server import serve

pytestmark = pytest.mark.triton

PICKY_MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x")
            if x.as_numpy()[0] > 0:
                answers.append(pb_utils.InferenceResponse([], pb_utils.TritonError("x is positive")))
            else:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())]))
        return answers
"""

PICKY_CONFIG = """
name: "picky"
backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: 1 }
output { name: "y" data_type: TYPE_INT32 dims: 1 }
instance_group { count: 1 kind: KIND_CPU }
"""

SLEEPY_MODEL = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x")
            time.sleep(0.6 * int(x.as_numpy()[0]))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())]))
        return answers
"""

TWICE_CONFIG = """
name: "twice"
platform: "ensemble"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step { model_name: "echo" model_version: -1
         input_map { key: "x" value: "IN" } output_map { key: "y" value: "mid" } }
  step { model_name: "echo" model_version: -1
         input_map { key: "x" value: "mid" } output_map { key: "y" value: "OUT" } }
}
"""

DYNAMIC_CONFIG = ECHO_CONFIG.replace('"echo"', '"dynamic"').replace("dims: 4", "dims: [ 2, -1 ]")
CACHED_CONFIG = ECHO_CONFIG.replace('"echo"', '"cached"') + "response_cache { enable: true }\n"
STREAM_CONFIG = ECHO_CONFIG.replace('"echo"', '"stream"') + "model_transaction_policy { decoupled: true }\n"
SEQUENCE_CONFIG = ECHO_CONFIG.replace('"echo"', '"sequence"') + "sequence_batching { }\n"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A server with models that refuse, sleep, compose, cache, and two that cannot be measured yet."""
    repository = tmp_path_factory.mktemp("zoo")
    write_model(repository, "echo", ECHO_CONFIG, ECHO_MODEL)
    write_model(repository, "picky", PICKY_CONFIG, PICKY_MODEL)
    write_model(repository, "sleepy", PICKY_CONFIG.replace("picky", "sleepy"), SLEEPY_MODEL)
    write_model(repository, "twice", TWICE_CONFIG, "")
    write_model(repository, "dynamic", DYNAMIC_CONFIG, ECHO_MODEL)
    write_model(repository, "cached", CACHED_CONFIG, ECHO_MODEL)
    write_model(repository, "stream", STREAM_CONFIG, ECHO_MODEL)
    write_model(repository, "sequence", SEQUENCE_CONFIG, ECHO_MODEL)
    with serve(repository, options=["--cache-config=local,size=1048576"]) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def protocol(request):
    return request.param


def url_of(server, protocol):
    return server.http_url if protocol == "http" else server.grpc_url


def measured(server, model, protocol="http", **changes):
    """A short measurement of three windows that calls anything stable."""
    load = {"warmup_s": 0.05, "window_s": 0.1, "windows": 3, "max_windows": 3, "stability": 100.0, **changes}
    return perf.measure(url_of(server, protocol), model, protocol=protocol, **load)


X = {"x": np.ones((1, 4), np.float32)}


def test_a_measurement_is_complete(zoo, protocol):
    seen = []
    result = measured(zoo, "echo", protocol, inputs=X, concurrency=4, on_window=seen.append)
    assert result.errors == ()
    assert result.stable
    assert seen == list(result.windows)
    assert [window.number for window in seen] == [1, 2, 3]
    assert result.latency.count == sum(window.requests for window in seen) == len(result.records) > 0
    assert (
        result.throughput_infer_per_s
        == result.requests_per_s
        == pytest.approx(result.latency.count / result.duration_s)
    )
    latency = result.latency
    ordered = [
        latency.min_ns,
        latency.p50_ns,
        latency.p90_ns,
        latency.p95_ns,
        latency.p99_ns,
        latency.p99_9_ns,
        latency.max_ns,
    ]
    assert ordered == sorted(ordered)
    assert result.in_flight_mean > 0
    assert result.client.cpu_share > 0
    server = result.server
    assert (server.model, server.version, server.fail_count) == ("echo", "1", 0)
    assert server.success_count > 0
    assert server.batch_size_mean >= 1.0
    assert None not in (server.queue_ns, server.compute_ns)
    assert server.request_ns > 0
    assert result.composing == ()
    assert json.loads(json.dumps(result.to_json()))["load"]["concurrency"] == 4


def test_a_batch_counts_as_its_samples(zoo, protocol):
    result = measured(zoo, "echo", protocol, inputs={"x": np.zeros((8, 4), np.float32)}, batch_size=8)
    assert result.throughput_infer_per_s == 8 * result.requests_per_s > 0
    assert result.server.batch_size_mean == pytest.approx(8.0, rel=0.01)


def test_every_request_of_the_pool_is_sent_in_turn(zoo, protocol):
    pool = [{"x": np.array([value], np.int32)} for value in (0, 0, 1)]
    result = measured(zoo, "picky", protocol, inputs=pool)
    (error,) = result.errors
    succeeded = sum(window.requests for window in result.windows)
    assert abs(succeeded - 2 * error.count) <= 2  # one of three, but for the ends of the windows
    assert (error.kind, error.message) == ("HTTP 500" if protocol == "http" else "gRPC INTERNAL", "x is positive")
    assert what_did_not_hold([result]) == ""
    assert what_did_not_hold([result], fail_on_errors=True)


def test_when_every_request_fails_the_result_says_so(zoo, protocol):
    result = measured(zoo, "picky", protocol, inputs={"x": np.array([1], np.int32)}, max_windows=9)
    assert result.every_request_failed
    assert len(result.windows) == 3
    assert result.latency is None
    assert "no successful request" in what_did_not_hold([result])
    assert "x is positive" in what_did_not_hold([result])


def test_a_refused_request_is_counted_with_the_servers_sentence(zoo, protocol):
    result = measured(zoo, "echo", protocol, inputs=X, outputs=["nope"])
    (error,) = result.errors
    assert "nope" in error.message
    assert error.kind == ("HTTP 400" if protocol == "http" else "gRPC INVALID_ARGUMENT")


def test_a_request_that_misses_its_deadline_is_counted_and_the_next_ones_are_measured(zoo, protocol):
    pool = [{"x": np.array([value], np.int32)} for value in [1] + [0] * 500]
    result = measured(zoo, "sleepy", protocol, inputs=pool, timeout_s=0.5, window_s=0.7, warmup_s=0)
    assert {error.kind for error in result.errors} == {"timeout"}
    assert result.latency.count > 0


def test_requests_longer_than_a_window_are_unstable_and_not_lost(zoo, protocol):
    result = measured(zoo, "sleepy", protocol, inputs={"x": np.array([1], np.int32)}, warmup_s=0)
    assert result.errors == ()
    assert not result.stable
    assert "longer than a request" in result.reason
    assert len(result.windows) == 3


def test_an_ensemble_shows_its_models(zoo, protocol):
    result = measured(zoo, "twice", protocol, inputs={"IN": X["x"]}, concurrency=2)
    assert (result.server.model, [figures.model for figures in result.composing]) == ("twice", ["echo"])
    assert result.composing[0].success_count > result.server.success_count > 0


def test_cache_hits_are_told(zoo, protocol):
    result = measured(zoo, "cached", protocol, inputs=X, warmup_s=0.2)
    assert result.server.cache_hit_count > result.server.cache_miss_count
    assert result.server.cache_hit_ns > 0


def test_a_server_that_dies_ends_the_run_with_its_errors(echo_repository, protocol):
    with serve(echo_repository) as server:

        def kill(window):
            if window.number == 2:
                os.killpg(server.process.pid, signal.SIGKILL)

        result = perf.measure(
            url_of(server, protocol), "echo", protocol=protocol, inputs=X, concurrency=4, warmup_s=0.05, window_s=0.6,
            windows=3, max_windows=8, stability=1e-9, on_window=kill,
        )  # fmt: skip
    assert [window.requests > 0 for window in result.windows][:2] == [True, True]
    assert len(result.windows) <= 6
    assert {error.kind for error in result.errors} == {"connection"}
    assert result.latency.count == sum(window.requests for window in result.windows)  # what it answered is kept
    assert not result.stable
    assert not result.every_request_failed
    assert result.warnings
    assert "no successful request in its last 3 windows (connection" in what_did_not_hold([result])


def test_more_requests_in_flight_than_the_server_has_instances(zoo, protocol):
    result = measured(zoo, "echo", protocol, inputs=X, concurrency=100)
    assert result.errors == ()
    assert result.latency.count > 0


def test_what_the_model_takes_is_the_same_over_both_protocols(zoo):
    shapes = Shapes.fixed({"x": [2, 5]})
    left, right = (
        perf.random_pool(perf.describe(url_of(zoo, p), "dynamic", protocol=p), batch_size=3, shapes=shapes)
        for p in ("http", "grpc")
    )
    assert left.requests[0].inputs["x"].shape == (3, 2, 5)
    pairs = zip(left.requests, right.requests, strict=True)
    assert all(np.array_equal(a.inputs["x"], b.inputs["x"]) for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "ecko"}, ModelUnavailableError, "did you mean 'echo'"),
        ({"version": "7"}, ModelUnavailableError, "available: 1"),
        ({"inputs": {"z": X["x"]}}, DataError, "'z', which is no input"),
        ({"inputs": {"x": np.zeros((1, 5))}}, DataError, "shape"),
        ({"inputs": []}, DataError, "at least one"),
        ({"batch_size": 9}, ProjectError, "max_batch_size 8"),
        ({"concurrency": 0}, ProjectError, "concurrency 0"),
        ({"windows": 2}, ProjectError, "2 windows"),
        ({"max_windows": 2}, ProjectError, "at most 2 windows"),
        ({"window_s": 0}, ProjectError, "window 0"),
        ({"timeout_s": -1}, ProjectError, "timeout -1"),
        ({"warmup_s": float("nan")}, ProjectError, "warm-up nan"),
        ({"model": "stream"}, ProjectError, "decoupled"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(zoo, protocol, changes, error, words):
    call = {"model": "echo", "inputs": X, **changes}
    with pytest.raises(error, match=words):
        measured(zoo, call.pop("model"), protocol, **call)


def test_the_port_of_another_protocol_is_named(zoo):
    with pytest.raises(ServerUnavailableError, match=r"not Triton's HTTP port.*--protocol grpc"):
        perf.measure(zoo.grpc_url, "echo", inputs=X)
    with pytest.raises(ServerUnavailableError, match="not Triton's HTTP port"):
        perf.measure(zoo.metrics_url, "echo", inputs=X)
    with pytest.raises(ServerUnavailableError, match="gRPC port"):
        perf.measure(zoo.http_url, "echo", protocol="grpc", inputs=X)


def perf_command(*arguments):
    return run(["perf", *arguments, "--warmup", "0.05", "--window", "0.1", "--stability", "10000"])


def test_the_command_prints_a_row_for_each_concurrency(zoo, capsys):
    assert perf_command("echo", "--url", zoo.http_url, "--concurrency", "1:4:*2") == 0
    out, err = capsys.readouterr()
    rows = [line.split()[0] for line in out.splitlines() if line.split() and line.split()[0].isdigit()]
    assert rows == ["1", "2", "4"]
    assert "echo over HTTP, batch size 1, random values" in out
    assert len([line for line in err.splitlines() if line.startswith("concurrency ")]) == 15


def test_the_command_prints_json_and_writes_a_report(zoo, capsys, tmp_path):
    report = tmp_path / "deep" / "report.json"
    arguments = ("echo", "--url", zoo.grpc_url, "-i", "grpc", "-b", "2", "-c", "2", "--json", "--report", str(report))
    assert perf_command(*arguments) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == json.loads(report.read_text())
    (measurement,) = value["measurements"]
    assert (measurement["load"]["batch_size"], measurement["load"]["concurrency"]) == (2, 2)
    assert measurement["stable"]


def test_the_command_shows_an_ensembles_models(zoo, capsys):
    assert perf_command("twice", "--url", zoo.http_url) == 0
    assert "echo (version 1)" in capsys.readouterr().out


@pytest.mark.parametrize("load", [("--requests", "60"), ("--duration", "0.3", "-c", "1,2")])
def test_requests_that_differ_stay_different_from_the_warm_up_to_the_last_load(zoo, capsys, load):
    code = perf_command("cached", "--url", zoo.http_url, "--seed", str(len(load)), *load, "--json")
    found = json.loads(capsys.readouterr().out)["measurements"]
    assert code in (0, 9)
    assert sum(one["server"]["success_count"] for one in found) > 50
    assert [one["server"]["cache_hit_count"] for one in found] == [0] * len(found)


def test_a_table_that_is_wider_than_the_terminal_is_turned(capsys, monkeypatch):
    from rich.console import Console

    from trtkit.cli import perf_results
    from trtkit.perf.reports.report_text import TextTable

    narrow = Console(width=40, force_terminal=True, no_color=True)
    monkeypatch.setattr(perf_results, "console", lambda: narrow)
    columns = ("load", *(f"column {number}" for number in range(9)))
    perf_results.print_table(TextTable("title", columns, (("concurrency 8", *"123456789"),)))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["column", "8", "9"] in lines


def test_an_unstable_result_is_printed_and_ends_with_9(zoo, capsys):
    code = run(
        [
            "perf",
            "echo",
            "--url",
            zoo.http_url,
            "--warmup",
            "0",
            "--window",
            "0.1",
            "--max-windows",
            "3",
            "--stability",
            "1e-9",
        ]
    )
    out, err = capsys.readouterr()
    assert code == 9
    assert "unstable" in out
    assert "not stable: " in out
    assert err.splitlines()[-1] == "trtkit perf: 1 of 1 measurements did not hold: concurrency 1 is unstable"


def test_failures_only_are_printed_and_end_with_9(zoo, capsys):
    assert perf_command("picky", "--url", zoo.http_url, "--range", "x:1,1") == 9
    out, err = capsys.readouterr()
    assert "all failed" in out
    assert "had no successful request (HTTP 500: x is positive)" in err


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on-errors",), 9)])
def test_some_failures_end_with_9_only_when_asked(zoo, capsys, tmp_path, options, code):
    np.savez(tmp_path / "x.npz", x=np.array([[0], [0], [1]], np.int32))
    assert perf_command("picky", "--url", zoo.http_url, "--input", str(tmp_path / "x.npz"), *options) == code
    out, _ = capsys.readouterr()
    assert "requests failed (HTTP 500), the first one: x is positive" in out
    assert "x.npz" in out.splitlines()[0]


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [(ServerUnavailableError("gone"), 5, "trtkit perf: gone"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_an_error_at_a_later_concurrency_does_not_lose_the_earlier_results(
    zoo, capsys, monkeypatch, error, code, last_line
):
    measure, calls = session.measure_load, []

    def failing_later(load, *rest):
        calls.append(load.concurrency)
        if len(calls) > 1:
            raise error
        return measure(load, *rest)

    monkeypatch.setattr(session, "measure_load", failing_later)
    assert perf_command("echo", "--url", zoo.http_url, "-c", "1,2,3", "--json") == code
    out, err = capsys.readouterr()
    assert calls == [1, 2]
    assert [m["load"]["concurrency"] for m in json.loads(out)["measurements"]] == [1]
    assert err.splitlines()[-1] == last_line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ecko",), 5, "did you mean 'echo'"),
        (("echo", "-c", "0"), 2, "concurrency '0'"),
        (("echo", "-b", "9"), 2, "max_batch_size 8"),
        (("echo", "--shape", "y:4"), 7, "'y', which is no input"),
        (("dynamic",), 7, "--shape x:2,8"),
        (("echo", "--shape", "4"), 7, "NAME:SIZE"),
        (("echo", "--input", "absent.npz"), 7, "absent.npz"),
        (("echo", "-i", "grpc"), 5, "gRPC port"),
        (("echo", "--windows", "2"), 2, "2 windows"),
        (("echo", "--output", "nope"), 7, "no output of the model; available: y"),
        (("stream",), 2, "decoupled"),
    ],
)
def test_a_users_mistake_is_one_line(zoo, capsys, arguments, code, words):
    assert perf_command(*arguments, "--url", zoo.http_url) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.startswith("trtkit perf: ")
    assert len(err.splitlines()) == 1


def test_without_a_url_a_server_is_started_for_the_command(echo_repository, capsys):
    assert perf_command("echo", "--repository", str(echo_repository), "--shape", "x:4") == 0
    assert "echo over HTTP" in capsys.readouterr().out
    assert perf_command("ecko", "--repository", str(echo_repository)) == 2
    assert "did you mean 'echo'" in capsys.readouterr().err


def test_the_evaluation_samples_of_the_project_are_sent(zoo, capsys, tmp_path, monkeypatch):
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 4), np.float32))
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "trtkit.yaml").write_text("models: {echo: {source: {onnx: m.onnx}, evaluate: {data: data.npz}}}\n")
    monkeypatch.chdir(tmp_path)
    assert perf_command("echo", "--url", zoo.http_url, "-b", "2", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["data"], value["measurements"][0]["load"]["distinct_requests"]) == ("data.npz", 3)
    assert perf_command("echo", "--url", zoo.http_url, "--shape", "x:4") == 0
    assert "random values" in capsys.readouterr().out
