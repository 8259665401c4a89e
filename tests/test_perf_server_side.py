# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The difference of two of the server's statistics, as a specification."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit.errors import ServerError
from trtkit.perf.server.address import parse_address
from trtkit.perf.server.control import open_control
from trtkit.perf.server.server_side import composing_models, difference, figures_over, snapshot
from trtkit.server import serve


def stats(name, version="1", count=10, ns=1000, executions=5, inferences=10):
    duration, nothing = {"count": count, "ns": ns}, {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "inference_count": inferences,
        "execution_count": executions,
        "inference_stats": {
            **dict.fromkeys(("success", "queue", "compute_input", "compute_infer", "compute_output"), duration),
            **dict.fromkeys(("fail", "cache_hit", "cache_miss"), nothing),
        },
    }


def answering(*entries):
    return lambda what, model="", version="": {
        "model_stats": [e for e in entries if e["name"] == model and version in ("", e["version"])]
    }


def test_the_servers_figures_are_differences():
    before = snapshot(answering(stats("m", ns=1000)), [("m", "")])
    after = snapshot(answering(stats("m", count=14, ns=9000, executions=7, inferences=26)), [("m", "")])
    (figures,) = difference(before, after)
    assert (figures.model, figures.version, figures.success_count) == ("m", "1", 4)
    assert (figures.queue_ns, figures.compute_ns, figures.request_ns) == (2000, 6000, 2000)
    assert (figures.inference_count, figures.execution_count, figures.batch_size_mean) == (16, 2, 8.0)


def test_grpc_gives_strings_and_leaves_zeros_out():
    answer = {
        "name": "m",
        "version": "1",
        "inference_count": "12",
        "inference_stats": {"queue": {"count": "3", "ns": "300"}},
    }
    before = snapshot(answering({"name": "m", "version": "1"}), [("m", "")])
    (figures,) = difference(before, snapshot(answering(answer), [("m", "")]))
    assert (figures.inference_count, figures.queue_ns, figures.execution_count) == (12, 100, 0)
    assert (figures.batch_size_mean, figures.compute_ns) == (None, None)


def test_the_highest_version_is_read_when_none_is_named():
    fetch = answering(stats("m", "2"), stats("m", "10", count=11), stats("m", "9"))
    assert list(snapshot(fetch, [("m", "")])) == [("m", "10")]
    assert list(snapshot(fetch, [("m", "9")])) == [("m", "9")]


def test_a_model_that_was_loaded_anew_has_no_figures():
    old, new = (snapshot(answering(stats("m", count=n)), [("m", "")]) for n in (10, 3))
    with pytest.raises(ServerError, match="loaded anew"):
        difference(old, new)
    with pytest.raises(ServerError, match="loaded anew"):
        difference({}, new)


def test_a_model_without_statistics_is_named():
    with pytest.raises(ServerError, match="'other'"):
        snapshot(answering(stats("m")), [("other", "")])


def test_the_models_of_an_ensemble_are_found_through_its_ensembles():
    def step(name, version=-1):
        return {"model_name": name, "model_version": version}

    configs = {
        "outer": {"ensemble_scheduling": {"step": [step("a"), step("inner", "2"), step("a")]}},
        "inner": {"ensemble_scheduling": {"step": [step("b"), step("a")]}},
        "a": {},
        "b": {},
    }
    found = composing_models(lambda what, model, version: configs[model], configs["outer"])
    assert found == [("a", ""), ("inner", "2"), ("b", "")]
    assert composing_models(lambda *_: {}, configs["a"]) == []


def batches(*sizes_and_executions):
    return [
        {
            "batch_size": size,
            **{f"compute_{name}": {"count": n, "ns": n * size * 100} for name in ("input", "infer", "output")},
        }
        for size, n in sizes_and_executions
    ]


def test_the_distribution_of_the_batch_sizes_is_a_difference_too():
    before = stats("m") | {"batch_stats": batches((4, 2), (1, 5))}
    after = stats("m", count=20, executions=9) | {"batch_stats": batches((4, 5), (1, 5), (8, 1))}
    (figures,) = difference(*(snapshot(answering(entry), [("m", "")]) for entry in (before, after)))
    assert [(batch.batch_size, batch.execution_count) for batch in figures.batches] == [(4, 3), (8, 1)]
    assert [batch.compute_infer_ns for batch in figures.batches] == [400, 800]
    assert json.loads(json.dumps(figures.to_json()))["batches"][1]["batch_size"] == 8


def test_the_share_of_cache_hits():
    entry = stats("m")
    entry["inference_stats"] |= {"cache_hit": {"count": 3, "ns": 30}, "cache_miss": {"count": 1, "ns": 40}}
    (figures,) = difference(snapshot(answering(stats("m")), [("m", "")]), snapshot(answering(entry), [("m", "")]))
    assert (figures.cache_hit_share, figures.cache_hit_ns, figures.cache_miss_ns) == (0.75, 10, 40)
    (figures,) = difference(*[snapshot(answering(stats("m")), [("m", "")])] * 2)
    assert figures.cache_hit_share is None


def counted(count, version="1"):
    return snapshot(answering(stats("m", version, count=count, ns=count * 7)), [("m", "")])


def test_a_reload_in_mid_run_costs_only_what_happened_just_before_it():
    (figures,), (sentence,) = figures_over([counted(100), counted(150), counted(3), counted(10)], [("m", "")])
    assert (figures.success_count, figures.queue_ns) == (60, 7)
    assert "was loaded anew during the measurement" in sentence


def test_a_server_that_was_away_costs_its_snapshots():
    away = ServerError("nobody answers")
    (figures,), sentences = figures_over([counted(100), away, away, counted(150)], [("m", "")])
    assert figures.success_count == 50
    assert sentences == [
        "2 of 4 questions for the server's statistics failed (nobody answers); its figures are those of the others"
    ]
    assert figures_over([counted(1), away], [("m", "")]) == (
        [], ["the server gave no figures of its own: nobody answers"],
    )  # fmt: skip
    assert figures_over([counted(1)], [("m", "")])[1] == [
        "the server gave no figures of its own: it was asked only once"
    ]


def test_a_version_that_was_loaded_in_mid_run_counts_from_zero():
    (figures,), (sentence,) = figures_over([counted(100), counted(5, "2"), counted(7, "2")], [("m", "")])
    assert (figures.version, figures.success_count) == ("2", 7)
    assert "version 2 was loaded anew" in sentence


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=20))
def test_figures_are_never_negative_and_miss_only_what_came_before_a_reload(steps):
    shots, count, known = [counted(50)], 50, 0
    for more, reload in steps:
        before, count = count, more if reload else count + more
        known += count - before if count >= before else count
        shots.append(counted(count))
    (figures,), _ = figures_over(shots, [("m", "")])
    assert figures.success_count == known >= 0
    assert figures.queue_ns in (7, None)


TWICE_CONFIG = """
name: "twice"
platform: "ensemble"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step { model_name: "echo" model_version: -1 input_map { key: "x" value: "IN" } output_map { key: "y" value: "M" } }
  step { model_name: "echo" model_version: -1 input_map { key: "x" value: "M" } output_map { key: "y" value: "OUT" } }
}
"""


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_real_servers_figures(tmp_path, protocol):
    import numpy as np
    from tritonclient.http import InferenceServerClient, InferInput

    write_model(tmp_path, "echo", ECHO_CONFIG + "response_cache { enable: true }", ECHO_MODEL)
    write_model(tmp_path, "twice", TWICE_CONFIG, "")
    with serve(tmp_path, options=["--cache-config=local,size=1048576"]) as server:
        address = parse_address(server.http_url if protocol == "http" else server.grpc_url, protocol)
        with open_control(address, protocol, 10.0) as fetch, InferenceServerClient(server.http_url) as client:
            models = [("twice", ""), *composing_models(fetch, fetch("config", "twice"))]
            before = snapshot(fetch, models)
            for value in (1, 2, 2):
                tensor = InferInput("IN", [2, 4], "FP32")
                tensor.set_data_from_numpy(np.full((2, 4), value, np.float32))
                client.infer("twice", [tensor])
            while snapshot(fetch, models)["twice", "1"]["success.count"] < 3:
                continue  # the server counts after it has answered
            (twice, echo), sentences = figures_over([before, snapshot(fetch, models)], models)
    assert sentences == []
    assert (twice.success_count, echo.success_count) == (3, 6)
    assert (echo.cache_miss_count, echo.cache_hit_count) == (2, 4)
    assert [(batch.batch_size, batch.execution_count) for batch in echo.batches] == [(2, 2)]
    assert twice.request_ns > 0
    assert echo.compute_ns > 0
