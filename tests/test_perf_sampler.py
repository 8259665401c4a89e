# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Samples of the server beside the load: the metrics' text, /proc, and servers that are slow, dead or started anew."""

import math
import os
import socket
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput

from conftest import ECHO_CONFIG, ECHO_MODEL, processes, write_model
from test_perf_control import peer, silent
from trtkit.errors import ProjectError, ServerError, ServerUnavailableError
from trtkit.perf.server.address import Address, parse_address
from trtkit.perf.server.metrics_endpoint import MetricsEndpoint, gauges, parse_metrics_url
from trtkit.perf.server.processes import family, server_processes
from trtkit.perf.server.prometheus import Metric, parse_metrics
from trtkit.perf.server.resources import GpuSample, Sample, resources_over
from trtkit.perf.server.sampler import Sampler, sample_of
from trtkit.server import serve
from trtkit.server.process import free_ports, start_server

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
METRICS = st.builds(
    Metric,
    NAMES,
    st.dictionaries(NAMES, st.text(st.characters(blacklist_categories=("Cs",)), max_size=8), max_size=3),
    st.floats() | st.integers(-(2**53), 2**53).map(float),
)


def written(metric, blank, timestamp):
    labels = ",".join(
        f'{name}="{value.translate({92: chr(92) * 2, 34: chr(92) + chr(34), 10: chr(92) + "n"})}"'
        for name, value in metric.labels.items()
    )
    value = {math.inf: "+Inf", -math.inf: "-Inf"}.get(metric.value, repr(metric.value))
    return f"{metric.name}{{{labels}}}{blank}{value}{timestamp}" if labels else f"{metric.name} {value}{timestamp}"


@given(st.lists(METRICS, max_size=8), st.sampled_from([" ", "\t", "  "]), st.sampled_from(["", " 1395066363000"]))
def test_what_is_written_in_prometheus_format_is_read(metrics, blank, timestamp):
    page = "".join(f"# HELP {m.name} words\n# TYPE {m.name} gauge\n\n{written(m, blank, timestamp)}\n" for m in metrics)
    found = parse_metrics(page, {metric.name for metric in metrics})
    assert [repr(metric) for metric in found] == [repr(metric) for metric in metrics]  # NaN is not equal to itself
    assert parse_metrics(page, ()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [('m{a="x 1', "labels do not end"), ('m{a="x"}', "no value"), ("m x", "'x' is no number"), ("m 1 2 3", "no value")],
)
def test_a_wanted_line_that_is_no_metric_is_named(line, words):
    with pytest.raises(ValueError, match=words):
        parse_metrics(line, {"m"})
    assert parse_metrics(line, {"n"}) == []


PAGE = """
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
nv_inference_request_success{model="m",version="1"} 5
nv_inference_pending_request_count{model="m",version="1"} 2
nv_inference_pending_request_count{model="m",version="2"} 1
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.5
nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 25757220864
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 1048576
nv_gpu_power_usage{gpu_uuid="GPU-a"} 72.5
nv_gpu_power_limit{gpu_uuid="GPU-a"} 300
nv_energy_consumption{gpu_uuid="GPU-a"} 1000.25
nv_gpu_utilization{gpu_uuid="GPU-b"} NaN
nv_gpu_power_usage{gpu_uuid="GPU-b"} 10
nv_cpu_utilization 0.25
nv_cpu_memory_total_bytes 16777216
nv_cpu_memory_used_bytes 8388608
nv_pinned_memory_pool_used_bytes 64
"""


def page_of(text):
    body = text.encode()

    def handle(connection):
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return peer(handle)


def test_tritons_metrics_in_our_words():
    with page_of(PAGE) as address:
        endpoint = MetricsEndpoint(f"http://{address}/metrics", 5.0)
        said = endpoint.ask()
        endpoint.close()
    assert said.models == {"m"}
    assert said.pending_requests == {"m": 3}
    assert said.gpus == (
        GpuSample("GPU-a", 0.5, 1048576, 25757220864, 72.5, 300.0, 1000.25),
        GpuSample("GPU-b", power_w=10.0),
    )
    assert (said.host_cpu_utilization, said.host_memory_used_bytes, said.pinned_memory_used_bytes) == (
        0.25,
        8388608,
        64,
    )


def test_a_cpu_that_triton_has_not_looked_at_yet_is_not_known():
    said = gauges([Metric("nv_cpu_utilization", {}, 0.0), Metric("nv_cpu_memory_total_bytes", {}, 0.0)])
    assert (said.host_cpu_utilization, said.host_memory_used_bytes) == (None, None)


@pytest.mark.parametrize(
    ("url", "address", "path"),
    [
        ("localhost:8002", Address("localhost", 8002), "/metrics"),
        ("localhost", Address("localhost", 8002), "/metrics"),
        ("http://h:9/m?x=1", Address("h", 9), "/m?x=1"),
        ("https://h/triton/metrics", Address("h", 443, True), "/triton/metrics"),
        ("http://h:80/", Address("h", 80), "/metrics"),
    ],
)
def test_metrics_urls(url, address, path):
    assert parse_metrics_url(url) == (address, path)


@pytest.mark.parametrize("url", ["grpc://h:1", "http://", "", "http://h:x/metrics"])
def test_what_is_no_metrics_url(url):
    with pytest.raises(ProjectError, match="no metrics URL"):
        parse_metrics_url(url)


@pytest.mark.parametrize(
    ("page", "words"), [('nv_gpu_utilization{gpu_uuid="a', "gives no metrics: 'nv_gpu_ut"), (None, "timed out")]
)
def test_an_endpoint_that_says_nonsense_or_nothing_is_one_sentence(page, words):
    with page_of(page) if page else peer(silent) as address:
        endpoint = MetricsEndpoint(str(address), 0.3 if page is None else 5.0)
        with pytest.raises(ServerUnavailableError, match=words):
            endpoint.ask()
        endpoint.close()


def test_a_listener_that_is_no_triton_is_not_the_server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert server_processes(Address(*listener.getsockname())) is None
    assert server_processes(Address("192.0.2.1", 8000)) is None  # an address for documentation: not ours
    assert server_processes(Address("no such host", 8000)) is None


def test_a_process_and_its_descendants():
    found = family(os.getppid())
    assert found[0] == os.getppid()
    assert os.getpid() in found


def at(at_ns, energy, **values):
    gpu = GpuSample("g", utilization=values.pop("gpu", 0.5), power_w=100.0, energy_j=energy)
    return Sample(at_ns, gpus=(gpu,), **values)


def test_resources_are_means_and_maxima_of_the_samples_in_between():
    samples = [
        at(0, 1.0, server_memory_bytes=900, server_cpu_share=9.0, pending_requests=99),
        at(10, 5.0, server_memory_bytes=100, server_cpu_share=9.0, pending_requests=0, gpu=0.2),
        at(20, 8.0, server_memory_bytes=300, server_cpu_share=1.0, pending_requests=4, gpu=0.8),
        at(30, 9.0, server_memory_bytes=500, server_cpu_share=2.0, gpu=None),
        at(40, 99.0, server_memory_bytes=999),
    ]
    found = resources_over(samples, 10, 30, cores=4, pss_bytes=7)
    assert (found.samples, found.server_cores, found.server_pss_bytes) == (3, 4, 7)
    assert (found.server_memory_mean_bytes, found.server_memory_max_bytes) == (300, 500)
    assert found.server_cpu_share_mean == 1.5  # that of the first sample is of the time before
    assert (found.pending_requests_mean, found.pending_requests_max) == (2.0, 4)
    (gpu,) = found.gpus
    assert (gpu.utilization_mean, gpu.utilization_max, gpu.power_mean_w, gpu.energy_j) == (0.5, 0.8, 100.0, 4.0)
    assert found.to_json()["gpus"][0]["uuid"] == "g"
    assert resources_over(samples, 11, 19) is None
    assert resources_over([Sample(1)], 0, 2) is None


def test_energy_that_began_anew_is_not_known():
    (gpu,) = resources_over([at(1, 5.0), at(2, 1.0)], 0, 9).gpus
    assert gpu.energy_j is None


def infer(server, times):
    """Ask `echo` so often, and wait until the server has counted it: it counts after it has answered."""
    with InferenceServerClient(server.http_url) as client:

        def counted():
            (stats,) = client.get_inference_statistics("echo")["model_stats"]
            return stats["inference_stats"]["success"]["count"]

        before = counted()
        tensor = InferInput("x", [2, 4], "FP32")
        tensor.set_data_from_numpy(np.zeros((2, 4), np.float32))
        for _ in range(times):
            client.infer("echo", [tensor])
        until(lambda: counted() == before + times)


def until(condition):
    """Wait for the sampler's thread, with a bound."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_samples_of_a_real_server(server, protocol):
    address = parse_address(server.http_url if protocol == "http" else server.grpc_url, protocol)
    with Sampler(address, protocol, [("echo", "")], interval_s=60, metrics_url=server.metrics_url) as sampler:
        infer(server, 2)
        start_ns = time.perf_counter_ns()
        sampler.mark()
        until(lambda: len(sampler.snapshots) == 2)
        infer(server, 5)
        end_ns = time.perf_counter_ns()
        sampler.mark()
        until(lambda: len(sampler.snapshots) == 3)
        infer(server, 3)
    first, _, second, last = sampler.samples()
    assert (first.requests_per_s, first.queue_ns) == (None, None)
    assert second.requests_per_s > 0
    assert second.compute_ns > 0
    assert second.batch_size_mean == 2.0
    assert second.pending_requests == 0
    assert start_ns < end_ns < second.at_ns < last.at_ns
    assert second.server_memory_bytes > 2**20
    assert second.server_cpu_share >= 0
    (figures,), sentences = sampler.figures(start_ns, end_ns)
    assert (figures.success_count, sentences) == (5, [])
    resources, sentences = sampler.resources(start_ns, end_ns)
    assert (resources.samples, sentences) == (2, [])
    assert resources.server_cores >= 1
    assert 0 < resources.server_pss_bytes <= resources.server_memory_max_bytes
    sampler.stop()  # a second time


@pytest.mark.triton
def test_the_stubs_of_python_models_belong_to_the_server(server):
    found = server_processes(parse_address(server.http_url, "http"))
    names = {row.pid: row.name for row in processes()}
    assert names[found.pid] == "tritonserver"
    assert any(names.get(pid) == "triton_python_b" for pid in family(found.pid))
    assert found.pid == server_processes(parse_address(server.grpc_url, "grpc")).pid
    port = parse_address(server.http_url, "http").port
    assert server_processes(Address("localhost", port)).pid == found.pid


@pytest.mark.triton
def test_the_metrics_of_another_server_are_not_taken(server):
    address = parse_address(server.http_url, "http")
    with page_of(PAGE) as other, Sampler(address, "http", [("echo", "")], metrics_url=str(other)) as sampler:
        pass
    _, (sentence,) = sampler.resources(0, time.perf_counter_ns())
    assert "says nothing of model 'echo': it belongs to another server" in sentence
    assert all(sample.gpus == () for sample in sampler.samples())


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_dies_and_comes_back_costs_what_nobody_saw(tmp_path, protocol):
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    ports = free_ports()
    address = Address("127.0.0.1", ports.http if protocol == "http" else ports.grpc)
    sampler = Sampler(address, protocol, [("echo", "")], interval_s=60, timeout_s=5.0)

    def look():
        count = len(sampler.snapshots)
        sampler.mark()
        until(lambda: len(sampler.snapshots) > count)

    with ExitStack() as stack:
        first = start_server(stack, tmp_path, ports=ports)
        sampler.start()
        infer(first, 4)
        look()
        infer(first, 1)
        first.kill()
        look()
    with ExitStack() as stack:
        second = start_server(stack, tmp_path, ports=ports)
        infer(second, 3)
        until(lambda: look() or not isinstance(sampler.snapshots[-1][1], ServerError))
        sampler.stop()
        (figures,), sentences = sampler.figures(0, time.perf_counter_ns())
    assert figures.success_count == 7
    assert "questions for the server's statistics failed" in sentences[0]
    assert "was loaded anew during the measurement" in sentences[1]
    samples = sampler.samples()
    assert samples[2] == Sample(samples[2].at_ns)
    assert samples[-1].server_memory_bytes > 0


@pytest.mark.triton
def test_a_server_that_is_gone_ends_the_sampler_at_once(tmp_path):
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    with serve(tmp_path) as running:
        with Sampler(parse_address(running.http_url, "http"), "http", [("echo", "")], interval_s=60) as sampler:
            running.kill()
        (begun, _), (gone, error) = sampler.snapshots
    assert isinstance(error, ServerUnavailableError)
    assert sampler.figures(begun, gone)[0] == []
    assert sampler.samples()[-1] == Sample(gone)


def test_a_server_that_never_answers_ends_in_bounded_time():
    with peer(silent) as address:
        sampler = Sampler(address, "http", [("m", "")], interval_s=0.01, metrics_url=str(address), timeout_s=0.2)
        sampler.start()
        until(lambda: len(sampler.snapshots) > 2)
        sampler.stop()
    assert sampler.figures(0, time.perf_counter_ns())[0] == []
    assert "gave no figures of its own: no server answers" in sampler.figures(0, 1)[1][0]
    assert sampler.resources(0, time.perf_counter_ns()) == (None, [])


def look_at(at_s, **counts):
    """Statistics of models with so many requests of 10 ns of queue and 20 ns of compute each, in batches of two."""
    snapshot = {
        (name, "1"): {
            "inference_count": count, "execution_count": count // 2,
            **{f"{stage}.count": count for stage in ("success", "queue", "compute_infer")},
            **{f"{stage}.count": 0 for stage in ("fail", "cache_hit", "cache_miss", "compute_input", "compute_output")},
            **{f"{stage}.ns": 0 for stage in ("fail", "cache_hit", "cache_miss", "compute_input", "compute_output")},
            "success.ns": count * 40, "queue.ns": count * 10, "compute_infer.ns": count * 20,
        }
        for name, count in counts.items()
    }  # fmt: skip
    return SimpleNamespace(at_ns=at_s * 10**9, counters=snapshot, gauges=None, usage=None)


def test_the_means_of_an_ensemble_and_of_a_mix():
    models = [("a", ""), ("b", "")]
    before, now = look_at(0, a=0, b=0), look_at(2, a=8, b=24)
    ensemble = sample_of(models, {"a"}, before, now)
    assert (ensemble.requests_per_s, ensemble.queue_ns, ensemble.compute_ns) == (4.0, 10 + 3 * 10, 20)
    assert ensemble.batch_size_mean is None
    mix = sample_of(models, {"a", "b"}, before, now)
    assert (mix.requests_per_s, mix.queue_ns, mix.compute_ns, mix.batch_size_mean) == (16.0, 10, 20, 2.0)
    idle = sample_of(models, {"a"}, now, look_at(3, a=8, b=24))
    assert (idle.requests_per_s, idle.queue_ns, idle.compute_ns, idle.batch_size_mean) == (0.0, None, None, None)
