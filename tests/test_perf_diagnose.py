# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Each finding of a diagnosis: a measurement that has it, and the nearest one that has not."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from conftest import ECHO_CONFIG, write_model
from trtkit.perf.server.address import parse_address
from trtkit.perf.server.control import ModelDescription, describe
from trtkit.perf.server.diagnose import Diagnosis, diagnose
from trtkit.perf.server.diagnose_facts import request_bytes
from trtkit.perf.server.ensemble_graph import Step
from trtkit.perf.server.resources import GpuResources, Resources
from trtkit.perf.server.sampler import Sampler
from trtkit.perf.server.server_side import BatchFigures, ServerFigures
from trtkit.server import serve

MS = 1_000_000
METADATA = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]}
DYNAMIC = {"max_batch_size": 8, "dynamic_batching": {}, "instance_group": [{"kind": "KIND_CPU", "count": 1}]}


def figures(model="m", requests=100, request_ms=1.5, queue_ms=0.01, infer_ms=1.0, copy_ms=0.02, batch=1, **more):
    """A model whose executions merge `batch` requests of one sample."""
    executions = requests // batch
    infer, copy = int(infer_ms * MS), int(copy_ms * MS)
    values = {
        "success_count": requests, "fail_count": 0, "inference_count": requests,
        "execution_count": executions, "batch_size_mean": float(batch), "request_ns": int(request_ms * MS),
        "queue_ns": int(queue_ms * MS), "compute_input_ns": copy, "compute_infer_ns": infer,
        "compute_output_ns": copy, "cache_hit_count": 0, "cache_miss_count": 0, "cache_hit_ns": None,
        "cache_miss_ns": None, "batches": (BatchFigures(batch, executions, copy, infer, copy),),
    }  # fmt: skip
    return ServerFigures(model, "1", **(values | more))


def window(p90_ms):
    return SimpleNamespace(p90_ns=None if p90_ms is None else int(p90_ms * MS))


def resources(cores=4, cpu=1.0, gpus=()):
    return Resources(5, cores, None, None, None, cpu, None, None, None, None, tuple(gpus))


def gpu(utilization, used=None, total=None):
    return GpuResources("GPU-a", utilization, utilization, used, total, None, None, None, None)


def measurement(server=None, latency_ms=2.0, **changes):
    """A second of an unremarkable model: in the server most of the time, neither busy nor queueing."""
    load = {
        "model": "m", "protocol": "http", "batch_size": 1, "distinct_requests": 1, "request_rate": 0.0, "ramp_s": 0.0,
        "shared_memory": "none", **changes.pop("load", {}),
    }  # fmt: skip
    values = {
        "latency": SimpleNamespace(mean_ns=latency_ms * MS), "server": server or figures(), "composing": (),
        "duration_s": 1.0, "requests_per_s": 100.0, "errors": (), "resources": None,
        "windows": tuple(window(2) for _ in range(5)),
        "client": SimpleNamespace(cpu_share=0.2, cpu_us_per_request=20.0, processes=1),
    }  # fmt: skip
    return SimpleNamespace(load=SimpleNamespace(**load), **(values | changes))


def found(measured, config=None, metadata=None, **more):
    description = ModelDescription(
        METADATA if metadata is None else metadata, {"max_batch_size": 0} if config is None else config
    )
    return diagnose(measured, description, **more)


def titles(*arguments, **more):
    return [diagnosis.title for diagnosis in found(*arguments, **more)]


def test_an_unremarkable_measurement_has_no_finding():
    assert found(measurement()) == []
    assert found(measurement(server=None, latency=None)) == []


def test_without_any_figure_nothing_is_said():
    nothing = figures(requests=0, request_ns=None, queue_ns=None, compute_infer_ns=None, batches=())
    assert found(measurement(nothing, latency=None, windows=())) == []


CROWD = figures(requests=800, request_ms=9, queue_ms=7.8, infer_ms=1.0)  # 7.2 requests in the server
SHORT = figures(requests=800, request_ms=1.5, queue_ms=0.01, infer_ms=1.0)
DELAYED = {**DYNAMIC, "dynamic_batching": {"max_queue_delay_microseconds": "8000"}}
PREFERRED = {**DYNAMIC, "dynamic_batching": {"max_queue_delay_microseconds": 8000, "preferred_batch_size": [16]}}
ANY_SHAPE = {**DYNAMIC, "input": [{"name": "x", "dims": ["-1"]}]}
RAGGED = {**DYNAMIC, "input": [{"name": "x", "dims": [-1], "allow_ragged_batch": True}]}
SEQUENCE = {"max_batch_size": 8, "sequence_batching": {"oldest": {}}}

BATCHING = {
    "The model cannot take several requests at once": (
        (CROWD, {"max_batch_size": 0}, {}),
        (SHORT, {"max_batch_size": 0}, {}),
    ),
    "A sequence model's requests are merged over sequences only": (
        (CROWD, SEQUENCE, {}),
        (figures(requests=800, request_ms=9, queue_ms=7.8, batch=4), SEQUENCE, {}),
    ),
    "Requests wait, and dynamic batching is off": ((CROWD, {"max_batch_size": 8}, {}), (CROWD, DYNAMIC, {})),
    "Requests are full batches already": (
        (replace(CROWD, inference_count=6400, batch_size_mean=8.0), DYNAMIC, {}),
        (replace(CROWD, inference_count=1600, batch_size_mean=2.0), DYNAMIC, {}),
    ),
    "Too few requests at once to merge any": ((figures(), DYNAMIC, {}), (CROWD, DYNAMIC, {})),
    "The preferred batch size is never reached": (
        (CROWD, PREFERRED, {}),
        (figures(requests=3200, request_ms=9, queue_ms=7.8), PREFERRED, {}),
    ),
    "Requests wait for the queue delay": ((CROWD, DELAYED, {}), (SHORT, DELAYED, {})),
    "Each request finds an instance free at once": (
        (replace(SHORT, success_count=2000, request_ns=MS, inference_count=2000), DYNAMIC, {}),
        (CROWD, DYNAMIC, {}),
    ),
    "Requests wait and are not merged: their shapes may differ": (
        (CROWD, ANY_SHAPE, {"distinct_requests": 9}),
        (CROWD, RAGGED, {"distinct_requests": 9}),
    ),
    "Requests wait and are not merged": (
        (CROWD, DYNAMIC, {}),
        (figures(requests=800, request_ms=9, queue_ms=7.8, batch=4), DYNAMIC, {}),
    ),
}


@pytest.mark.parametrize("title", BATCHING)
def test_why_requests_are_not_batched(title):
    for (server, config, load), expected in zip(BATCHING[title], (True, False), strict=True):
        assert (title in titles(measurement(server, latency_ms=10, load=load), config)) is expected


def test_at_most_one_reason_is_given_for_missing_batches():
    for (server, config, load), _ in BATCHING.values():
        measured = measurement(server, latency_ms=10, load=load)
        assert len([title for title in titles(measured, config) if title in BATCHING]) == 1


def test_shapes_that_are_all_equal_are_no_reason():
    title = "Requests wait and are not merged: their shapes may differ"
    assert title not in titles(measurement(CROWD, latency_ms=10), ANY_SHAPE)


def test_the_queue():
    (queue,) = [one for one in found(measurement(CROWD, latency_ms=10), DYNAMIC) if "Queueing" in one.title]
    assert "wait 7.8 ms, 78% of the client's mean latency" in queue.because
    assert "Queueing bounds the latency" not in titles(measurement(figures(queue_ms=0.9)), DYNAMIC)


def test_a_busy_model():
    busy = figures(requests=900, infer_ms=0.9)
    (diagnosis,) = [one for one in found(measurement(busy)) if one.title == "The model itself bounds the throughput"]
    assert "compute 85% of the time" in diagnosis.because
    two = {"max_batch_size": 0, "instance_group": [{"count": 1, "gpus": [0, 1]}]}
    assert "The model itself bounds the throughput" not in titles(measurement(busy), two)


ONE_ON_CPU = {"max_batch_size": 0, "instance_group": [{"kind": "KIND_CPU", "count": 1}]}
MANY_ON_CPU = {"max_batch_size": 0, "instance_group": [{"kind": "KIND_CPU", "count": 8}]}
ON_GPU = {"max_batch_size": 0, "instance_group": [{"kind": "KIND_GPU", "count": 2, "gpus": [0]}]}
FULL = "The GPU's memory is nearly full"
BUSY = figures(requests=900, infer_ms=0.9)


@pytest.mark.parametrize(
    ("title", "config", "with_it", "without"),
    [
        ("One instance is busy while cores are idle", ONE_ON_CPU, resources(4, 1.0), resources(4, 3.9)),
        ("One instance is busy while cores are idle", ONE_ON_CPU, resources(2, 1.0), resources(1, 1.0)),
        ("More instances than cores", MANY_ON_CPU, resources(4, 3.9), resources(4, 1.0)),
        ("More instances than cores", MANY_ON_CPU, resources(4, 3.9), resources(8, 7.9)),
        ("The GPU is busy", ON_GPU, resources(gpus=[gpu(0.97)]), resources(gpus=[gpu(0.7)])),
        (
            "The GPU's memory is nearly full",
            ON_GPU,
            resources(gpus=[gpu(0.5, 98, 100)]),
            resources(gpus=[gpu(0.5, 50, 100)]),
        ),
        ("The GPU's memory is nearly full", ON_GPU, resources(gpus=[gpu(None, 98, 100)]), resources(gpus=[gpu(None)])),
    ],
)
def test_cores_and_gpus(title, config, with_it, without):
    assert title in titles(measurement(BUSY, resources=with_it), config)
    assert title not in titles(measurement(BUSY, resources=without), config)
    assert title not in titles(measurement(BUSY), config)


def test_a_gpu_that_idles_while_requests_wait():
    idle = resources(gpus=[gpu(0.2)])
    title = "The GPU idles while requests wait"
    assert title in titles(measurement(CROWD, latency_ms=10, resources=idle), ON_GPU)
    assert title not in titles(measurement(SHORT, resources=idle), ON_GPU)
    assert title not in titles(measurement(CROWD, latency_ms=10, resources=idle), ONE_ON_CPU)


def test_copies():
    title = "Copies are a large part of the computing"
    assert title in titles(measurement(figures(infer_ms=0.5, copy_ms=0.4)))
    assert title not in titles(measurement(figures(infer_ms=0.9, copy_ms=0.1)))
    assert title not in titles(measurement(figures(infer_ms=0.01, copy_ms=0.01)))  # of no weight in 2 ms


def test_the_cache():
    hits = figures(cache_hit_count=90, cache_miss_count=10, cache_hit_ns=1000, cache_miss_ns=5000)
    (diagnosis,) = found(measurement(hits))
    assert diagnosis.title == "The response cache answers most requests"
    assert "90 of 100 requests of 'm' (90%)" in diagnosis.because
    vain = figures(cache_hit_count=0, cache_miss_count=100, cache_miss_ns=MS)
    assert titles(measurement(vain)) == ["The response cache costs time and does not help"]
    assert titles(measurement(replace(vain, cache_miss_ns=1000))) == []
    assert titles(measurement(replace(hits, cache_hit_count=20, cache_miss_count=80))) == []


def test_the_client():
    title = "The load generator bounds the throughput"
    busy, shared = (SimpleNamespace(cpu_share=0.95, cpu_us_per_request=None, processes=count) for count in (1, 2))
    assert title in titles(measurement(client=busy))
    assert title not in titles(measurement(client=shared))


def error(kind, message):
    return SimpleNamespace(kind=kind, message=message, count=7)


def test_refusals():
    title = "The server refuses requests: its queue is full"
    full = error("HTTP 503", "[request id: <id_unknown>] Exceeds maximum queue size")
    (diagnosis,) = found(measurement(errors=(error("timeout", "late"), full)))
    assert (diagnosis.title, diagnosis.because) == (title, f"7 requests failed (HTTP 503: {full.message})")
    assert titles(measurement(errors=(error("HTTP 503", "not ready"), error("timeout", "queue")))) == []


def test_a_rate_that_is_not_reached():
    title = "The asked rate is above what is answered"
    assert title in titles(measurement(load={"request_rate": 200.0}))
    assert title not in titles(measurement(load={"request_rate": 102.0}))
    assert title not in titles(measurement(load={"request_rate": 200.0, "ramp_s": 1.0}))


def test_a_cold_start():
    title = "The server was still warming up"
    assert title in titles(measurement(windows=[window(9), window(2), window(2.1), window(None)]))
    assert title not in titles(measurement(windows=[window(3), window(2), window(2)]))
    assert title not in titles(measurement(windows=[window(9), window(2)]))
    assert title not in titles(measurement(windows=[window(None), window(2), window(2)]))


IMAGE = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": ["1", "3", "224", "224"]}]}


def test_time_outside_of_the_server():
    title = "Most of the time passes outside of the server's core"
    small, large = (found(measurement(latency_ms=4), metadata=metadata)[0] for metadata in (METADATA, IMAGE))
    assert small.title == large.title == title
    assert "2.5 ms of the mean 4 ms (62%)" in small.because
    assert "588 KiB" in large.because
    assert ("--shared-memory" in large.try_, "--shared-memory" in small.try_) == (True, False)
    with_memory = measurement(latency_ms=4, load={"shared_memory": "system", "protocol": "grpc"})
    assert not re.search("--shared-memory|--protocol", found(with_memory, metadata=IMAGE)[0].try_)
    assert title not in titles(measurement(latency_ms=2))


@pytest.mark.parametrize(
    ("inputs", "batch_axis", "size"),
    [
        ([{"datatype": "FP32", "shape": [-1, 4]}], 8, 32),
        ([{"datatype": "FP32", "shape": [-1, 4]}], 0, None),
        ([{"datatype": "BYTES", "shape": [1]}], 0, None),
        ([{"datatype": "INT8", "shape": ["3"]}, {"datatype": "FP64", "shape": ["1"]}], 0, 11),
    ],
)
def test_the_size_of_a_request(inputs, batch_axis, size):
    assert request_bytes(ModelDescription({"inputs": inputs}, {"max_batch_size": batch_axis}), 2) == size


ENSEMBLE = {"ensemble_scheduling": {"step": []}}
GRAPH = {"m": (Step("a", "", ()), Step("b", "", (0,)))}


def test_an_ensembles_models_are_looked_at_and_not_itself():
    whole = figures(request_ms=10, queue_ms=0)
    parts = (figures("a", request_ms=9, queue_ms=7.8), figures("b", request_ms=0.5, infer_ms=0.1))
    measured = measurement(whole, latency_ms=10.5, composing=parts)
    diagnoses = found(
        measured, ENSEMBLE, composing={"a": {"max_batch_size": 8}, "b": {"max_batch_size": 8}}, graph=GRAPH
    )
    assert [one.title for one in diagnoses] == [
        "One step is most of the ensemble: 'a'",
        "Requests wait, and dynamic batching is off",
        "Queueing bounds the latency",
    ]
    assert "'a' takes 9 ms of the 9.5 ms on the longest way (a → b, 95%)" in diagnoses[0].because
    assert all("'a'" in one.because for one in diagnoses)
    equal = (figures("a", request_ms=4), figures("b", request_ms=4))
    assert titles(measurement(whole, latency_ms=10.5, composing=equal), ENSEMBLE, graph=GRAPH) == []


def test_every_finding_has_its_figures():
    for (server, config, load), _ in BATCHING.values():
        for diagnosis in found(measurement(server, latency_ms=10, load=load), config):
            assert isinstance(diagnosis, Diagnosis)
            assert re.search(r"\d", diagnosis.because)
            assert diagnosis.try_
            assert "\n" not in "".join(vars(diagnosis).values())


SLEEPER = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.01)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
            )
            for request in requests
        ]
"""


def loaded(server, model, threads=4, times=8):
    """A measurement of a real server: what each request took, and the server's own figures."""
    address = parse_address(server.http_url, "http")

    def client(_):
        tensor = InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
        took = []
        with InferenceServerClient(server.http_url) as connection:
            for _ in range(times):
                begun = time.perf_counter_ns()
                connection.infer(model, [tensor])
                took.append(time.perf_counter_ns() - begun)
        return took

    with Sampler(address, "http", [(model, "")], interval_s=60) as sampler:
        start_ns = time.perf_counter_ns()
        sampler.mark()
        while len(sampler.snapshots) < 2:
            time.sleep(0.001)
        with ThreadPoolExecutor(threads) as pool:
            took = [one for each in pool.map(client, range(threads)) for one in each]
        end_ns = time.perf_counter_ns()
    (figures,), _ = sampler.figures(start_ns, end_ns)
    return measurement(
        figures, latency_ms=np.mean(took) / MS, duration_s=(end_ns - start_ns) / 1e9, load={"model": model}
    )


@pytest.mark.triton
def test_a_real_model_with_and_without_batching(tmp_path):
    single = ECHO_CONFIG.replace('"echo"', '"single"')
    write_model(tmp_path, "single", single, SLEEPER)
    write_model(tmp_path, "merging", single.replace("single", "merging") + "dynamic_batching { }", SLEEPER)
    with serve(tmp_path) as server:
        single, merging = (
            [one.title for one in diagnose(loaded(server, name), describe(server.http_url, name))]
            for name in ("single", "merging")
        )
    assert "Requests wait, and dynamic batching is off" in single
    assert "Queueing bounds the latency" in single
    assert "The model itself bounds the throughput" in single
    assert not set(merging) & set(BATCHING)
