# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The plan's figures, against figures computed by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from deploy_matrix import MATRIX, deploy_project, matrix_project
from trtkit.deploy.memory import amount, buffer_of, mib
from trtkit.deploy.plan import make_plan, make_plans
from trtkit.deploy.planned import Plan
from trtkit.export.activations import activations_of

ALL = ("encoder", "echo", "pipeline", "tracker", "cached")
L40S = {"product": "NVIDIA-L40S"}
HISTOGRAMS = "--metrics-config=histogram_latencies=true"


def plan_of(folder: Path, served: tuple[str, ...] = ("encoder",), **deploy: Any) -> Plan:
    return make_plan(deploy_project(folder, {"target": "cpu", **deploy}, served))


def measured(folder: Path, **over: Any) -> dict[str, Any]:
    """A load measurement of 41 s and 1000 MiB beside the project, and the key that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {"load_s": 41.0, "host_mib": 1000.0, "shm_mib": 3.0, "models": {"encoder": 40.0}, "digest": "x", **over}
    (folder / "measured.json").write_text(json.dumps(value))
    return {"load": "measured.json"}


def grow(folder: Path, model: str, size: int) -> None:
    """Give a model's version so many bytes more."""
    with (folder / "model_repository" / model / "1" / "weights.bin").open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("name", MATRIX)
def test_every_kind_of_target_has_a_plan_whose_figures_say_why(tmp_path: Path, name: str) -> None:
    base, others = make_plans(matrix_project(tmp_path, name))
    for plan in (base, *others.values()):
        figures = list(plan.figures())
        assert all(figure.why for _, _, figure in figures)
        assert (plan.memory.gpu is None) == (plan.gpu is None) == (not plan.target.on_gpu)
        for kind, whole in (("gpu ", plan.memory.gpu), ("host ", plan.memory.host)):
            parts = [part.whole for part_name, part in plan.memory.parts.items() if part_name.startswith(kind)]
            assert sum(parts) == (whole.whole if whole else 0)


def test_gpu_memory_by_hand(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "gpu", "gpu": L40S})
    grow(tmp_path, "encoder", 100 << 20)
    parts = make_plan(project).memory.parts
    # two instances have a session, and so the weights, of their own: 2 x 100 MiB and the graph's few bytes
    assert parts["gpu weights"].whole == 201
    assert parts["gpu context"].whole == 500
    assert parts["gpu pool"].whole == 64
    assert "2 instances" in parts["gpu weights"].why
    assert parts["gpu activations"].origin == "estimated"


def test_instances_are_counted_over_the_gpus_of_a_pod(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "gpu", "gpu": {**L40S, "count": 2}})
    grow(tmp_path, "encoder", 100 << 20)
    plan = make_plan(project)
    assert plan.models[0].instances == 4
    assert plan.memory.parts["gpu weights"].whole == 401
    assert plan.memory.parts["gpu context"].whole == 1000
    assert plan.memory.parts["gpu pool"].whole == 128


def test_instances_where_the_config_says_nothing(tmp_path: Path) -> None:
    """Python models have one, on the CPU; ONNX Runtime one for each GPU, or two on the CPU."""
    for target, expected in (("gpu", {"echo": 1, "encoder": 2}), ("cpu", {"echo": 1, "encoder": 2})):
        folder = tmp_path / target
        project = deploy_project(folder, {"target": target, "gpu": {**L40S, "count": 2}}, ("echo", "encoder"))
        for config in folder.glob("model_repository/*/config.pbtxt"):
            lines = config.read_text().splitlines()
            config.write_text("\n".join(line for line in lines if not line.startswith("instance_group")))
        plan = make_plan(project)
        assert {model.name: model.instances for model in plan.models} == expected
        assert plan.memory.parts.get("gpu context") is None or plan.memory.parts["gpu context"].whole == 1000


def test_activations_are_what_is_alive_at_once(tmp_path: Path) -> None:
    """x -> a -> b -> y of 1 KiB a row: at most two of them are alive, and x with them no longer."""
    names = ["x", "a", "b", "y"]
    nodes = [helper.make_node("Relu", [first], [second]) for first, second in pairwise(names)]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "chain", [info("x", TensorProto.FLOAT, ["n", 256])], [info("y", TensorProto.FLOAT, ["n", 256])]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "chain.onnx")
    found = activations_of(tmp_path / "chain.onnx", batch=8)
    assert found is not None
    assert (found.peak_bytes, found.unknown, found.assumed) == (2 * 8 * 1024, 0, ())


def test_activations_of_types_that_no_array_has_are_unknown(tmp_path: Path) -> None:
    """Inference leaves the type of a custom operator's tensors open."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Own", ["x"], ["y"], domain="own")], "g",
        [info("x", TensorProto.UNDEFINED, ["n", 4])], [info("y", TensorProto.FLOAT, ["n", 4])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("own", 1)]), tmp_path / "own.onnx")
    found = activations_of(tmp_path / "own.onnx", batch=8)
    assert found is not None
    assert (found.peak_bytes, found.unknown) == (0, 2)


def test_activations_do_not_depend_on_large_weights_but_on_small_ones(tmp_path: Path) -> None:
    """A Reshape's target is a weight too; the values of 64 KiB of real weights are not needed."""
    info = helper.make_tensor_value_info
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 4096], bytes(4 * 4096 * 4), raw=True),
        helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 2048]),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Reshape", ["a", "shape"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, ["n", 4])], [info("y", TensorProto.FLOAT, None)], weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "g.onnx")
    found = activations_of(tmp_path / "g.onnx", batch=8)
    assert found is not None
    assert (found.peak_bytes, found.unknown) == (2 * 8 * 4096 * 4, 0)  # a and y; x is done


def test_activations_say_what_they_assumed_and_refuse_nonsense(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [info("x", TensorProto.FLOAT, ["n", "length"])], [info("y", TensorProto.FLOAT, ["n", "length"])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "g.onnx")
    found = activations_of(tmp_path / "g.onnx", batch=2, dynamic=100)
    assert found is not None
    assert (found.peak_bytes, found.assumed) == (2 * 2 * 100 * 4, ("length",))
    (tmp_path / "no.onnx").write_bytes(b"\xff" * 50)
    assert activations_of(tmp_path / "no.onnx", batch=2) is None


def test_host_memory_estimated_by_hand(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "cpu"}, ALL)
    grow(tmp_path, "encoder", 200 << 20)
    memory = make_plan(project).memory
    parts = {name: part.whole for name, part in memory.parts.items()}
    # encoder on the CPU has two instances: 400 MiB; the load reads 200 MiB and parses them: 400; both and a few bytes
    assert parts == {
        "host server": 300, "host weights": 401, "host loading": 401, "host Python": 450, "host response cache": 100,
        "host /dev/shm": 64, "host buffer": 1716,
    }  # fmt: skip
    assert memory.host.whole == 3432
    assert memory.cpu.value == "6"  # 1 + 2 instances of encoder + 3 Python instances


def test_host_memory_from_the_measurement(tmp_path: Path) -> None:
    memory = plan_of(tmp_path, ALL, measurements=measured(tmp_path)).memory
    parts = {name: (part.whole, part.origin) for name, part in memory.parts.items()}
    assert parts["host measured"] == (1000, "measured")
    assert "host server" not in parts
    assert memory.host.whole == 1000 + 100 + 64 + 1164


@pytest.mark.parametrize(
    ("used", "buffer"), [(100, 100), (2048, 2048), (5000, 2048), (13653, 2048), (13654, 2049), (40000, 6000)]
)
def test_the_buffer_is_2_gib_or_15_percent_but_no_more_than_is_used(used: int, buffer: int) -> None:
    assert buffer_of(used).whole == buffer


def test_shm_grows_with_python_instances_and_their_tensors(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "cpu"}, ("echo",))
    config = tmp_path / "model_repository" / "echo" / "config.pbtxt"
    # one row is 2 MiB in and 2 MiB out, a batch of 8 is 32 MiB, two batches in flight are 64, and 3 instances
    text = config.read_text().replace("dims: 4", "dims: 524288").replace("count: 1", "count: 3")
    config.write_text(text)
    memory = make_plan(project).memory
    assert memory.shm.whole == 3 * 1 + 3 * 64
    assert "3 Python instances x 1 MiB" in memory.shm.why


def test_old_python_backends_take_64_mib_an_instance(tmp_path: Path) -> None:
    old = plan_of(tmp_path, ("echo", "tracker"), image="nvcr.io/nvidia/tritonserver:23.08-py3")
    assert old.memory.shm.whole == 129  # 2 x 64, and some bytes of tensors


def test_a_bucket_is_copied_twice_to_tmp_and_read_over_the_network(tmp_path: Path) -> None:
    storage = {"kind": "s3", "uri": "s3://models/digits", "region": "eu-central-1"}
    project = deploy_project(tmp_path, {"target": "cpu", "storage": storage, "measurements": measured(tmp_path)})
    grow(tmp_path, "encoder", 500 << 20)
    plan = make_plan(project)
    assert plan.memory.temporary.whole == 1001
    assert plan.startup.load.value == 51.0  # 41 s measured + 500 MiB at 50 MiB/s
    assert plan.startup.budget.whole == 102


@pytest.mark.parametrize(("seconds", "budget", "failures"), [(41, 82, 17), (3, 30, 6), (14.9, 30, 6), (200, 400, 40)])
def test_the_startup_budget_is_twice_the_load(tmp_path: Path, seconds: float, budget: int, failures: int) -> None:
    startup = plan_of(tmp_path, measurements=measured(tmp_path, load_s=seconds)).startup
    assert (startup.budget.whole, startup.failures) == (budget, failures)
    assert startup.failures * startup.period >= budget
    assert startup.period == (10 if budget > 300 else 5)


def test_a_declared_startup_goes_first(tmp_path: Path) -> None:
    startup = plan_of(tmp_path, server={"startup_seconds": 60}, measurements=measured(tmp_path)).startup
    assert (startup.budget.whole, startup.budget.origin) == (60, "declared")


def test_drain_by_hand(tmp_path: Path) -> None:
    drain = plan_of(tmp_path, server={"exit_timeout_seconds": 40, "pre_stop_seconds": 12}).drain
    assert (drain.pre_stop.whole, drain.exit_timeout.whole, drain.grace.whole, drain.idle_timeout.whole) == (
        12,
        40,
        67,
        20,
    )


@pytest.mark.parametrize(
    ("cluster", "surge"),
    [({}, 0), ({"free_gpus": 1}, 0), ({"free_gpus": 2}, 1), ({"quota_gpus": 5}, 0), ({"quota_gpus": 6}, 1),
     ({"free_gpus": 8, "quota_gpus": 5}, 0)],
)  # fmt: skip
def test_surge_only_onto_free_gpus(tmp_path: Path, cluster: dict[str, int], surge: int) -> None:
    """Two replicas of two GPUs: a further pod needs two more."""
    rollout = plan_of(tmp_path, target="gpu", gpu={**L40S, "count": 2}, cluster=cluster).rollout
    assert (rollout.max_surge.whole, rollout.max_unavailable.whole) == (surge, 1 - surge)


def test_the_rollouts_deadline_covers_a_start(tmp_path: Path) -> None:
    rollout = plan_of(tmp_path, measurements=measured(tmp_path)).rollout
    assert rollout.progress_deadline.whole == 82 + 600 + 10


@pytest.mark.parametrize(
    ("gpu", "product", "resource"),
    [
        ({"product": "NVIDIA-A100-SXM4-80GB", "mig": "1g.10gb"}, "NVIDIA-A100-SXM4-80GB", "nvidia.com/mig-1g.10gb"),
        ({"product": "NVIDIA-A100-SXM4-80GB", "mig": "1g.10gb", "mig_strategy": "single"},
         "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia.com/gpu"),
        ({"product": "NVIDIA-L40S", "time_slicing": 4}, "NVIDIA-L40S-SHARED", "nvidia.com/gpu"),
        ({}, None, "nvidia.com/gpu"),
    ],
)  # fmt: skip
def test_the_gpus_label_and_resource(tmp_path: Path, gpu: dict[str, Any], product: str | None, resource: str) -> None:
    plan = plan_of(tmp_path, target="gpu", gpu=gpu)
    assert plan.gpu is not None
    assert (plan.gpu.product, plan.gpu.resource) == (product, resource)
    assert plan.gpu.driver == "570.86"
    assert (plan.gpu.min_node_memory is None) == (product is not None)


def test_flags_follow_the_release_and_the_models(tmp_path: Path) -> None:
    flags = [flag for flag, _ in plan_of(tmp_path, ALL).flags]
    assert "--cache-config=local,size=104857600" in flags
    assert HISTOGRAMS not in flags  # no model is decoupled, and the server keeps none of others
    assert not any(flag.startswith("--http-max-input-size") for flag in flags)


@pytest.mark.parametrize(
    "lines",
    [
        "model_transaction_policy { decoupled: true }",
        'model_metrics { metric_control { metric_identifier { family: "nv_inference_first_response_histogram_ms" } '
        "histogram_options { buckets: [1, 10] } } }",
    ],
)
def test_histograms_where_there_are_any(tmp_path: Path, lines: str) -> None:
    """Of decoupled models, and where a config sets the buckets, for which the linter asks; from 24.11 on."""
    for target, expected in (("cpu", True), ("old", False)):
        project = deploy_project(tmp_path / target, {"target": target}, ("echo", "encoder"))
        with (project.repository / "echo" / "config.pbtxt").open("a") as config:
            config.write(lines)
        flags = dict(make_plan(project).flags)
        assert (HISTOGRAMS in flags) == expected
        assert "first response of echo as" in flags.get(HISTOGRAMS, "first response of echo as")


def test_sizes_of_own_options_count(tmp_path: Path) -> None:
    options = [
        "--pinned-memory-pool-byte-size=1073741824", "--cuda-memory-pool-byte-size=0:134217728",
        "--backend-config=python,shm-default-byte-size=104857600",
    ]  # fmt: skip
    plan = plan_of(tmp_path, ("echo",), target="gpu", gpu={**L40S, "count": 2}, server={"options": options})
    assert plan.memory.parts["host pinned pool"].whole == 1024
    assert plan.memory.parts["gpu pool"].whole == 128 + 64
    assert plan.memory.shm.whole == 101  # 100 MiB and a few bytes of tensors


def test_a_rate_limiter_turns_its_flag_on(tmp_path: Path) -> None:
    project = deploy_project(tmp_path, {"target": "cpu"})
    config = tmp_path / "model_repository" / "encoder" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 2", "count: 2 rate_limiter { priority: 2 }"))
    assert ("--rate-limit=execution_count", "rate_limiter of encoder") in make_plan(project).flags


def test_own_options_take_the_place_of_the_plans(tmp_path: Path) -> None:
    own = ["--metrics-config=summary_latencies=false", "--http-restricted-api=trace:a=b"]
    flags = [flag for flag, _ in plan_of(tmp_path, server={"options": own}).flags]
    assert flags[-2:] == own
    assert "--metrics-config=summary_latencies=true" not in flags
    assert sum(flag.startswith("--http-restricted-api") for flag in flags) == 1


def test_explicit_mode_loads_what_an_ensemble_needs_and_closes_the_repository_api(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ALL, models=["pipeline"], server={"control_mode": "explicit"})
    flags = [flag for flag, _ in plan.flags]
    assert {flag for flag in flags if "load-model" in flag} == {
        f"--load-model={m}" for m in ("pipeline", "echo", "encoder")
    }
    assert any(flag.startswith("--http-restricted-api=model-repository,") for flag in flags)


def test_models_alone_are_explicit_mode(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ALL, models=["pipeline"])
    said = plan_of(tmp_path / "b", ALL, models=["pipeline"], server={"control_mode": "explicit"})
    assert plan.spec.server.control_mode == "explicit"
    assert [model.name for model in plan.models] == ["echo", "encoder", "pipeline"]
    assert (plan.flags, plan.spec) == (said.flags, said.spec)


def test_unloading_python_models_counts_in_the_exit_timeout(tmp_path: Path) -> None:
    """Their instances end one after another, 1.2 to 1.3 s each (2.51): eight took 10 s."""
    project = deploy_project(tmp_path, {"target": "cpu"}, ("echo", "tracker", "encoder"))
    config = project.repository / "echo" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 8"))
    plan = make_plan(project)
    assert plan.drain.unload.whole == 12  # 1 + 8 x 1.3, rounded up
    assert "8 instances of echo" in plan.drain.unload.why
    assert "unloading the models (12 s)" in plan.drain.exit_timeout.why
    assert not any("unloading takes" in each for each in plan.warnings)
    config.write_text(config.read_text().replace("count: 8", "count: 50"))
    assert any("unloading takes 66 s" in each and "exit_timeout_seconds: 96" in each
               for each in make_plan(project).warnings)  # fmt: skip
    assert plan_of(tmp_path / "b", ("encoder",)).drain.unload.whole == 1


def test_a_measurement_of_another_repository_is_used_and_said(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, measurements=measured(tmp_path, digest="0" * 64))
    assert any("measured another state of the repository (digest 000000000000" in each for each in plan.warnings)
    part = measured(tmp_path / "c")
    said = make_plan(deploy_project(tmp_path / "c", {"target": "cpu", "measurements": part}, ("encoder", "echo")))
    assert "another state of the repository without echo (digest x, now" in said.warnings[0]
    again = make_plan(deploy_project(tmp_path / "b", {
        "target": "cpu", "measurements": measured(tmp_path / "b", digest=plan.digest)}))  # fmt: skip
    assert again.warnings == ()


@pytest.mark.parametrize(
    ("text", "number"), [("12Gi", 12 * 2**30), ("500m", 0.5), ("1.5G", 1.5e9), ("7", 7), ("64Ki", 65536)]
)
def test_quantities(text: str, number: float) -> None:
    assert amount(text) == number
    assert mib("1.5Gi") == 1536
