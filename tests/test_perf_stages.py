# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a request goes, and the longest way through an ensemble."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG, write_model
from trtkit.errors import ServerError
from trtkit.perf.server.address import parse_address
from trtkit.perf.server.control import open_control
from trtkit.perf.server.ensemble_graph import Step, ensemble_graph, longest_path, steps_of
from trtkit.perf.server.server_side import ServerFigures, composing_models, figures_over, snapshot
from trtkit.perf.server.stages import breakdown, model_stages
from trtkit.server import serve


def figures(model="m", request_ns=1000, requests=100, queue=100, compute=(50, 600, 30), hits=(0, 0), misses=(0, 0)):
    return ServerFigures(
        model, "1", requests, 0, requests, requests, 1.0, request_ns, queue, *compute,
        cache_hit_count=hits[0], cache_miss_count=misses[0], cache_hit_ns=hits[1], cache_miss_ns=misses[1],
    )  # fmt: skip


def measurement(server, *composing, latency_ns=1500.0):
    latency = None if latency_ns is None else SimpleNamespace(mean_ns=latency_ns)
    return SimpleNamespace(latency=latency, server=server, composing=composing)


def test_the_stages_of_a_model_add_up():
    found = breakdown(measurement(figures()), {})
    assert (found.latency_ns, found.client_and_network_ns) == (1500, 500)
    model = found.model
    assert (model.queue_ns, model.compute_input_ns, model.compute_infer_ns, model.compute_output_ns) == (
        100,
        50,
        600,
        30,
    )
    assert (model.cache_ns, model.other_ns, model.request_ns) == (0, 220, 1000)
    assert (found.parts, found.ensembles, found.sentences) == ((), (), ())
    assert json.loads(json.dumps(found.to_json()))["model"]["other_ns"] == 220


def test_a_stage_that_requests_skip_counts_as_nothing_for_them():
    found = model_stages(figures(request_ns=400, hits=(75, 20), misses=(25, 40)))
    assert (found.compute_input_ns, found.compute_infer_ns, found.compute_output_ns) == (12, 150, 8)
    assert found.cache_ns == (75 * 20 + 25 * 40) / 100
    assert found.other_ns == 400 - 100 - 12 - 150 - 8 - 25


def test_no_breakdown_without_figures():
    assert breakdown(measurement(None), {}) is None
    assert breakdown(measurement(figures(), latency_ns=None), {}) is None
    assert breakdown(measurement(figures(request_ns=None, requests=0)), {}) is None


def test_a_server_that_is_slower_than_its_client_saw_is_told():
    found = breakdown(measurement(figures(request_ns=2_000_000)), {})
    assert found.client_and_network_ns == 0
    assert "above the client's" in found.sentences[0]
    assert breakdown(measurement(figures(request_ns=400_000)), {}).sentences == ()  # the empty end of a stream


def entry(model, inputs, outputs, version=-1):
    return {"model_name": model, "model_version": version, "input_map": inputs, "output_map": outputs}


DIAMOND = {
    "ensemble_scheduling": {
        "step": [
            entry("last", {"a": "L", "b": "R"}, {"y": "OUT"}),
            entry("left", {"x": "M"}, {"y": "L"}),
            entry("right", {"x": "M"}, {"y": "R"}, 3),
            entry("first", {"x": "IN"}, {"y": "M"}),
        ]
    }
}


def test_the_steps_that_a_step_waits_for():
    assert steps_of(DIAMOND) == (
        Step("last", "", (1, 2)), Step("left", "", (3,)), Step("right", "3", (3,)), Step("first", "", ()),
    )  # fmt: skip
    assert steps_of({}) == ()


def test_the_longest_way_takes_the_slower_branch():
    path = longest_path(steps_of(DIAMOND), [10, 200, 300, 1])
    assert path == ((3, 2, 0), (301, 1, 1, 0), 311)
    assert longest_path(steps_of(DIAMOND), [10, 400, 300, 1]).steps == (3, 1, 0)
    assert longest_path((), []) == ((), (), 0)


def test_steps_in_a_circle_are_an_error():
    with pytest.raises(ServerError, match="circle"):
        longest_path([Step("a", "", (1,)), Step("b", "", (0,))], [1, 1])


def every_way(steps, times, index):
    """The longest way that ends with a step, by trying all."""
    return times[index] + max((every_way(steps, times, before) for before in steps[index].after), default=0)


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 7))
    after = [draw(st.sets(st.integers(0, index - 1))) if index else set() for index in range(size)]
    times = draw(st.lists(st.integers(0, 50), min_size=size, max_size=size))
    return [Step(str(index), "", tuple(sorted(one))) for index, one in enumerate(after)], times


@given(graphs())
def test_the_longest_way_is_the_longest_of_all(graph):
    steps, times = graph
    path = longest_path(steps, times)
    assert path.length_ns == max(every_way(steps, times, index) for index in range(len(steps)))
    assert sum(times[index] for index in path.steps) == path.length_ns <= sum(times)
    assert all(a in steps[b].after for a, b in zip(path.steps, path.steps[1:], strict=False))


def test_an_ensembles_time_is_that_of_its_longest_way():
    parts = [figures(name, ns) for name, ns in (("last", 10), ("left", 200), ("right", 300), ("first", 1))]
    steps = tuple(step._replace(version="") for step in steps_of(DIAMOND))
    found = breakdown(measurement(figures("e", 350), *parts), {"e": steps})
    (ensemble,) = found.ensembles
    assert (ensemble.critical_ns, ensemble.sum_ns, ensemble.request_ns, ensemble.between_ns) == (311, 511, 350, 39)
    assert ensemble.critical == ("first", "right", "last")
    assert [(step.model, step.start_ns, step.critical) for step in ensemble.steps] == [
        ("last", 301, True), ("left", 1, False), ("right", 1, True), ("first", 0, True),
    ]  # fmt: skip
    assert found.sentences == ()


def test_models_of_several_steps_and_of_other_callers_are_said_to_be_shared():
    graph = {
        "e": (Step("a", "", ()), Step("inner", "", (0,))),
        "inner": (Step("a", "", ()), Step("b", "", (0,))),
    }
    parts = [figures("a", 10, 200), figures("inner", 30, 100), figures("b", 20, 500)]
    found = breakdown(measurement(figures("e", 60), *parts), graph)
    assert [one.ensemble for one in found.ensembles] == ["e", "inner"]
    twice, others = found.sentences
    assert "model 'a' is shared by 2 steps of 'e', 'inner'" in twice
    assert "model 'b' is shared with other callers: it answered 500 requests of which 'e' asked 100" in others


def test_the_graph_of_nested_ensembles():
    inner = {"ensemble_scheduling": {"step": [entry("a", {"x": "I"}, {"y": "O"})]}}
    outer = {"ensemble_scheduling": {"step": [entry("inner", {"I": "IN"}, {"O": "OUT"})]}}
    graph = ensemble_graph(lambda what, model, version: {"inner": inner, "a": {}}[model], "outer", outer)
    assert graph == {"outer": (Step("inner", "", ()),), "inner": (Step("a", "", ()),)}
    assert ensemble_graph(lambda *_: {}, "a", {}) == {}


SLEEPER = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.seconds = {"fast": 0.01, "slow": 0.05}.get(args["model_name"], 0)

    def execute(self, requests):
        time.sleep(self.seconds)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
            )
            for request in requests
        ]
"""
BRANCHES = """
name: "branches"
platform: "ensemble"
max_batch_size: 8
input { name: "IN" data_type: TYPE_FP32 dims: 4 }
output { name: "A" data_type: TYPE_FP32 dims: 4 }
output { name: "B" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step { model_name: "fast" model_version: -1 input_map { key: "x" value: "IN" } output_map { key: "y" value: "A" } }
  step { model_name: "slow" model_version: -1 input_map { key: "x" value: "IN" } output_map { key: "y" value: "B" } }
}
"""


@pytest.mark.triton
def test_parallel_branches_of_a_real_ensemble_are_not_added_up(tmp_path):
    import numpy as np
    from tritonclient.http import InferenceServerClient, InferInput

    for name in ("fast", "slow"):
        write_model(tmp_path, name, ECHO_CONFIG.replace('"echo"', f'"{name}"'), SLEEPER)
    write_model(tmp_path, "branches", BRANCHES, "")
    with serve(tmp_path) as server:
        address = parse_address(server.http_url, "http")
        with open_control(address, "http", 10.0) as fetch, InferenceServerClient(server.http_url) as client:
            config = fetch("config", "branches")
            models = [("branches", ""), *composing_models(fetch, config)]
            before = snapshot(fetch, models)
            tensor = InferInput("IN", [1, 4], "FP32")
            tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
            for _ in range(4):
                client.infer("branches", [tensor])
            (own, *parts), _ = figures_over([before, snapshot(fetch, models)], models)
            graph = ensemble_graph(fetch, "branches", config)
    found = breakdown(measurement(own, *parts, latency_ns=own.request_ns + 1e6), graph)
    (ensemble,) = found.ensembles
    assert ensemble.critical == ("slow",)
    assert ensemble.critical_ns >= 50_000_000
    assert ensemble.sum_ns >= ensemble.critical_ns + 10_000_000
    assert ensemble.request_ns >= ensemble.critical_ns
    assert found.sentences == ()
