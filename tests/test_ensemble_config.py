# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What an ensemble derives from its steps: maps by name, optional inputs, decoupled, and the cast that is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper

from conftest import ECHO_MODEL, write_model
from trtkit.build import build_models
from trtkit.config import ModelConfig, ensemble_config, read_config, to_text
from trtkit.dtypes import by_name
from trtkit.errors import ConfigError, TrtkitError
from trtkit.project import load_project
from trtkit.server import connect, serve
from trtkit.validate import validate_model


def tensor(text: str) -> str:
    """``x``, ``x:INT64`` or ``x:FP32?`` (optional) as the fields of a config's row, 4 wide."""
    name, _, dtype = text.rstrip("?").partition(":")
    optional = "optional: true" if text.endswith("?") else ""
    return f'name: "{name}" data_type: {by_name(dtype or "FP32").triton} dims: 4 {optional}'


def model(inputs: str, outputs: str, *, batch: int = 8, decoupled: bool = False) -> str:
    """The config of a model with these tensors."""
    rows = [f"input {{ {tensor(x)} }}" for x in inputs.split()] + [f"output {{ {tensor(y)} }}" for y in outputs.split()]
    policy = "model_transaction_policy { decoupled: true }" if decoupled else ""
    return f"max_batch_size: {batch} {' '.join(rows)} {policy}"


def derived(folder: Path, *steps: tuple[dict[str, Any] | str, str]) -> ModelConfig:
    """The config of an ensemble of (step, config of its model); a step that is a name has no maps."""
    rows = [{"model": step} if isinstance(step, str) else step for step, _ in steps]
    (folder / "trtkit.yaml").write_text(yaml.safe_dump({"models": {"e": {"ensemble": rows}}}))
    project = load_project(folder / "trtkit.yaml")
    return ensemble_config(project, "e", [read_config(config, "step") for _, config in steps])


def refused(folder: Path, *steps: tuple[dict[str, Any] | str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        derived(folder, *steps)
    return str(caught.value)


def maps(config: ModelConfig) -> list[tuple[dict[str, str], dict[str, str]]]:
    return [(dict(step.input_map), dict(step.output_map)) for step in config.ensemble_scheduling.step]


def names(config: ModelConfig) -> tuple[list[str], list[str]]:
    return [row.name for row in config.input], [row.name for row in config.output]


# -- maps by name


def test_without_maps_tensors_go_by_their_names(tmp_path: Path) -> None:
    config = derived(tmp_path, ("a", model("image", "pixels")), ("b", model("pixels", "scores label")))
    assert maps(config) == [
        ({"image": "image"}, {"pixels": "pixels"}),
        ({"pixels": "pixels"}, {"scores": "scores", "label": "label"}),
    ]
    assert names(config) == (["image"], ["scores", "label"])


def test_a_partial_map_of_inputs_is_completed_by_name(tmp_path: Path) -> None:
    b = {"model": "b", "inputs": {"x": "pixels"}}
    config = derived(tmp_path, ("a", model("image", "pixels")), (b, model("x scale", "scores")))
    assert maps(config)[1][0] == {"x": "pixels", "scale": "scale"}
    assert names(config) == (["image", "scale"], ["scores"])


def test_given_outputs_are_a_choice_except_for_what_another_step_reads(tmp_path: Path) -> None:
    a = {"model": "a", "outputs": {"main": "MAIN"}}
    config = derived(tmp_path, (a, model("x", "main side unused")), ("b", model("side", "y")))
    assert maps(config)[0][1] == {"main": "MAIN", "side": "side"}
    assert names(config) == (["x"], ["MAIN", "y"])


def test_a_given_writer_comes_before_one_by_name(tmp_path: Path) -> None:
    a, b = {"model": "a", "outputs": {"y": "T"}}, {"model": "b", "inputs": {"x": "T"}, "outputs": {"z": "side"}}
    config = derived(tmp_path, (a, model("x", "y side")), (b, model("x", "z")), ("c", model("side", "w")))
    assert maps(config)[0][1] == {"y": "T"}
    assert maps(config)[1][1] == {"z": "side"}


def test_two_steps_that_write_one_name_are_told_how_to_part(tmp_path: Path) -> None:
    message = refused(tmp_path, ("a", model("x", "y")), ("b", model("y2", "y")))
    assert message == (
        "trtkit.yaml:5:7: tensor 'y' is already written by step 1; give one of a.y and b.y another tensor in `outputs`"
    )


def test_a_model_that_gives_back_its_own_name_waits_for_itself(tmp_path: Path) -> None:
    assert "step 'a' waits for its own output" in refused(tmp_path, ("a", model("x", "x")))


# -- optional inputs


def test_an_optional_input_is_left_out_where_nothing_has_its_name(tmp_path: Path) -> None:
    config = derived(tmp_path, ("a", model("x threshold?", "y")))
    assert maps(config)[0][0] == {"x": "x"}
    assert names(config)[0] == ["x"]


def test_an_optional_input_takes_a_tensor_that_is_there(tmp_path: Path) -> None:
    config = derived(tmp_path, ("a", model("x", "y threshold")), ("b", model("y threshold?", "z")))
    assert maps(config)[1][0] == {"y": "y", "threshold": "threshold"}
    config = derived(tmp_path, ("a", model("x threshold", "y")), ("b", model("y threshold?", "z")))
    assert maps(config)[1][0] == {"y": "y", "threshold": "threshold"}
    assert [row.optional for row in config.input] == [False, False], "the first step needs it"


def test_an_optional_input_that_is_mapped_is_optional_for_the_ensemble(tmp_path: Path) -> None:
    step = {"model": "a", "inputs": {"threshold": "THRESHOLD"}}
    config = derived(tmp_path, (step, model("x threshold?", "y")))
    assert {row.name: row.optional for row in config.input} == {"x": False, "THRESHOLD": True}


def test_an_optional_input_never_waits_for_its_own_step(tmp_path: Path) -> None:
    assert maps(derived(tmp_path, ("a", model("x state?", "y state"))))[0] == ({"x": "x"}, {"y": "y", "state": "state"})


# -- decoupled


def test_an_ensemble_is_decoupled_when_a_step_is(tmp_path: Path) -> None:
    plain, many = model("x", "y"), model("y", "z", decoupled=True)
    assert derived(tmp_path, ("a", plain), ("b", many)).model_transaction_policy.decoupled
    assert not derived(tmp_path, ("a", plain)).HasField("model_transaction_policy")


def test_tensors_of_different_paces_are_refused_as_the_server_does(tmp_path: Path) -> None:
    many, late = model("x", "y", decoupled=True), model("y x", "z")
    message = refused(tmp_path, ("a", many), ("b", late))
    assert "step 'b' reads tensors that come at different paces, which the server refuses: " in message
    assert "'x' from the request and 'y' from step 1, 'a'" in message


# -- data types


def onnx_of(inputs: Mapping[str, str], outputs: Mapping[str, str], operator: str) -> onnx.ModelProto:
    """A graph of one operator, with the data type of each tensor."""
    info = [
        [helper.make_tensor_value_info(name, by_name(dtype).onnx, ["batch", 4]) for name, dtype in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph([helper.make_node(operator, list(inputs), list(outputs))], "graph", *info)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def offered(message: str) -> dict[str, Any]:
    """The lines that a message offers."""
    text = message.split("casts it:\n", 1)[1]
    assert yaml.safe_load(text), text
    return dict(yaml.safe_load(text)["models"])


def paste(project: dict[str, Any], ensemble: str, message: str) -> dict[str, Any]:
    """The project file with the offered lines in it."""
    lines = offered(message)
    index = int(message.split("instead of step ")[1].split("\n")[0]) - 1
    steps = list(project["models"][ensemble]["ensemble"])
    steps[index : index + 1] = lines.pop(ensemble)["ensemble"]
    return {"models": {**project["models"], **lines, ensemble: {"ensemble": steps}}}


def built(folder: Path, content: dict[str, Any]) -> TrtkitError | None:
    (folder / "trtkit.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return build_models(load_project(folder / "trtkit.yaml"))[1]


@pytest.mark.triton
def test_the_offered_lines_build_serve_and_give_the_right_numbers(tmp_path: Path) -> None:
    onnx.save(onnx_of({"x": "FP64"}, {"scores": "FP64"}, "Sqrt"), str(tmp_path / "a.onnx"))
    onnx.save(onnx_of({"scores": "FP32"}, {"y": "FP32"}, "Neg"), str(tmp_path / "b.onnx"))
    onnx.save(onnx_of({"scores": "INT64"}, {"n": "INT64"}, "Abs"), str(tmp_path / "c.onnx"))
    content: dict[str, Any] = {"models": {name: {"source": {"onnx": f"{name}.onnx"}} for name in "abc"}}
    content["models"]["e"] = {"ensemble": [{"model": name} for name in "abc"]}
    for _ in range(2):  # one cast after the other
        error = built(tmp_path, content)
        assert isinstance(error, ConfigError)
        content = paste(content, "e", str(error))
    assert built(tmp_path, content) is None
    x = np.array([[1, 4, 6.5, 100], [9, 2, 3, 0]])
    with serve(tmp_path / "model_repository") as server, connect(server.http_url, "http") as client:
        served = client.infer("e", {"x": x})
        report = validate_model(load_project(tmp_path / "trtkit.yaml"), "e", [client])
    assert np.array_equal(served["y"], -np.sqrt(x).astype(np.float32))
    assert np.array_equal(served["n"], np.sqrt(x).astype(np.int64))
    assert report.problems() == []


def test_an_input_of_the_ensemble_is_cast_for_its_second_reader(tmp_path: Path) -> None:
    steps = ({"model": "b", "model_version": 2, "inputs": {"in": "x"}}, model("in:INT64", "z", batch=0))
    message = refused(tmp_path, ("a", model("x", "y")), steps)
    assert "tensor 'x' is TYPE_FP32 at a.x and TYPE_INT64 at b.in; put a step between them that casts it:" in message
    lines = offered(message)
    assert lines == {
        "x_to_int64": {
            "source": {"cast": "INT64"},
            "inputs": {"x": {"data_type": "FP32", "shape": ["batch", 4]}},
            "outputs": ["x_int64"],
            "config": {"max_batch_size": 8},
        },
        "e": {
            "ensemble": [
                {"model": "x_to_int64"},
                {"model": "b", "model_version": 2, "inputs": {"in": "x_int64"}, "outputs": {"z": "z"}},
            ]
        },
    }


def test_the_offered_names_are_yaml_and_free(tmp_path: Path) -> None:
    a, b = {"model": "a", "outputs": {"y": "no: 1"}}, {"model": "b", "inputs": {"x": "no: 1"}}
    lines = offered(refused(tmp_path, (a, model("x0", "y:FP16", batch=0)), (b, model("x:BF16", "on"))))
    assert lines["no__1_to_bf16"]["inputs"] == {"no: 1": {"data_type": "FP16", "shape": [4]}}
    assert lines["no__1_to_bf16"]["config"] == {"max_batch_size": 0}
    assert lines["e"]["ensemble"][1] == {"model": "b", "inputs": {"x": "no: 1_bf16"}, "outputs": {"on": "on"}}


def test_a_dynamic_size_is_an_axis_of_the_offered_shape(tmp_path: Path) -> None:
    a, b = (
        model("x", "y").replace("dims: 4", "dims: [-1, 3]"),
        model("y:FP16", "z").replace("dims: 4", "dims: [2, 3]"),
    )
    lines = offered(refused(tmp_path, ("a", a), ("b", b)))
    assert lines["y_to_fp16"]["inputs"]["y"]["shape"] == ["batch", "axis0", 3]


def test_a_cast_of_several_tensors_and_its_names(tmp_path: Path) -> None:
    cast: dict[str, Any] = {"source": {"cast": "BOOL"}, "config": {"max_batch_size": 4}}
    cast["inputs"] = {name: {"data_type": "UINT8", "shape": ["batch", 2]} for name in ("a", "b")}
    assert built(tmp_path, {"models": {"c": cast}}) is None
    config = read_config((tmp_path / "model_repository/c/config.pbtxt").read_text(), "c")
    assert names(config) == (["a", "b"], ["a_bool", "b_bool"])
    assert config.max_batch_size == 4
    error = built(tmp_path, {"models": {"c": {**cast, "outputs": ["a", "z"]}}})
    assert "`outputs:` gives the names a, z; a cast of a, b takes as many, each another one" in str(error)


# -- the server agrees

COUNT = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            bias = pb_utils.get_input_tensor_by_name(request, "bias")
            sender = request.get_response_sender()
            for step in range(2):
                y = x + step + (0 if bias is None else bias.as_numpy())
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", y.astype(np.float32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
"""


@pytest.mark.triton
def test_the_server_takes_a_decoupled_ensemble_with_an_optional_input(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    many, late = model("x bias?", "y", decoupled=True), model("x", "y")
    write_model(repository, "many", f'name: "many" backend: "python" {many}', COUNT)
    write_model(repository, "late", f'name: "late" backend: "python" {late}', ECHO_MODEL)
    steps = (
        ({"model": "many", "inputs": {"bias": "bias"}, "outputs": {"y": "T"}}, many),
        ({"model": "late", "inputs": {"x": "T"}, "outputs": {"y": "Y"}}, late),
    )
    config = derived(tmp_path, *steps)
    (repository / "e" / "1").mkdir(parents=True)
    (repository / "e" / "config.pbtxt").write_text(to_text(config))
    with serve(repository) as server, connect(server.grpc_url, "grpc") as client:
        assert client.config("e").model_transaction_policy.decoupled
        assert [row.optional for row in client.config("e").input] == [False, True]
        answers = stream(server.grpc_url, {"x": np.ones((1, 4), np.float32)})
        assert [float(answer[0, 0]) for answer in answers] == [1, 2]
        answers = stream(server.grpc_url, {"x": np.ones((1, 4), np.float32), "bias": np.full((1, 4), 7, np.float32)})
        assert [float(answer[0, 0]) for answer in answers] == [8, 9]


def stream(url: str, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The answers of a decoupled ensemble to one request."""
    import queue

    from tritonclient import grpc

    answers: queue.Queue[Any] = queue.Queue()
    inputs = []
    for name, array in arrays.items():
        inputs.append(grpc.InferInput(name, list(array.shape), "FP32"))
        inputs[-1].set_data_from_numpy(array)
    with grpc.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        client.async_stream_infer("e", inputs, enable_empty_final_response=True)
        found = []
        while True:
            answer = answers.get(timeout=30)
            assert not isinstance(answer, Exception), answer
            if answer.as_numpy("Y") is not None:
                found.append(answer.as_numpy("Y"))
            if answer.get_response().parameters["triton_final_response"].bool_param:
                client.stop_stream()
                return found
