# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up requests: one per optimization profile, and none that the server would refuse."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import onnx_models
from trtkit import build_models
from trtkit.config import ModelConfig, explained_config, to_text
from trtkit.dtypes import by_name
from trtkit.engine import Profile, ShapeRange
from trtkit.export.warmup import profile_requests, write_profile_requests, write_warmup
from trtkit.project import Project, load_project
from trtkit.server import connect, serve
from trtkit.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (
        TensorSpec("ids", by_name("INT64"), ("batch", "sequence")),
        TensorSpec("scale", by_name("FP32"), ("batch",)),
    ),
    (TensorSpec("y", by_name("FP32"), ("batch", "sequence")),),
)
ROW = {"ids": np.array([[7, 8, 9]]), "scale": np.array([0.5], np.float32)}


def profile(batch: int, sequence: int) -> Profile:
    def around(*opt: int) -> ShapeRange:
        return ShapeRange(tuple(1 for _ in opt), opt, tuple(2 * size for size in opt))

    return {"ids": around(batch, sequence), "scale": around(batch)}


def project_of(folder: Path, block: str = "{}", *, empty: bool = True) -> Project:
    if empty:
        (folder / "m.onnx").write_bytes(b"")
    (folder / "trtkit.yaml").write_text(f"models:\n  m:\n    source: {{onnx: m.onnx}}\n    config: {block}\n")
    return load_project(folder / "trtkit.yaml")


def configured(folder: Path, profiles: list[Profile], block: str = "{}", **more: Any) -> ModelConfig:
    """The config of a model with those profiles, its data in `folder`."""
    row = write_warmup(folder, SIGNATURE, ROW, batching=True)
    requests = profile_requests(SIGNATURE, row, profiles, batching=True)
    serving = {"warmups": requests, "profiles": len(profiles), **more}
    return explained_config(project_of(folder, block), "m", SIGNATURE, 8, row, serving=serving).config


def sizes(config: ModelConfig) -> list[tuple[str, int, list[int]]]:
    return [(one.name, one.batch_size, list(one.inputs["ids"].dims)) for one in config.model_warmup]


def test_a_request_per_profile_in_the_shapes_it_is_tuned_for(tmp_path: Path) -> None:
    config = configured(tmp_path, [profile(2, 3), profile(8, 5), profile(1, 2)])
    assert sizes(config) == [("profile_0", 2, [3]), ("profile_1", 8, [5]), ("profile_2", 1, [2])]
    files = [one.inputs["ids"].input_data_file for one in config.model_warmup]
    assert files == ["input_0.bin", "profile_1_input_0.bin", "profile_2_input_0.bin"]
    assert {one.inputs["scale"].input_data_file for one in config.model_warmup} == {"input_1.bin"}
    assert {tuple(one.inputs["scale"].dims) for one in config.model_warmup} == {(1,)}


def test_their_data_are_the_row_repeated_or_cut(tmp_path: Path) -> None:
    row = write_warmup(tmp_path, SIGNATURE, ROW, batching=True)
    requests = profile_requests(SIGNATURE, row, [profile(2, 3), profile(8, 5), profile(1, 2)], batching=True)
    write_profile_requests(tmp_path, tmp_path / "out", SIGNATURE, row, requests)
    folder = tmp_path / "out" / "warmup"
    read = {file.name: np.frombuffer(file.read_bytes(), np.int64).tolist() for file in folder.glob("*_0.bin")}
    assert read == {
        "input_0.bin": [7, 8, 9],
        "profile_1_input_0.bin": [7, 8, 9, 7, 8],
        "profile_2_input_0.bin": [7, 8],
    }


@settings(max_examples=60)
@given(data=st.data())
def test_every_file_has_the_size_that_the_config_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any rank, any type, batching or not, axes that grow, shrink or are empty in the row."""
    folder = tmp_path_factory.mktemp("w")
    batching, size = data.draw(st.booleans()), st.integers(1, 5)
    specs, row, profiles = [], {}, [{}, {}]
    for index in range(data.draw(st.integers(1, 3))):
        rank = data.draw(st.integers(1 if batching else 0, 4))
        dtype = by_name(data.draw(st.sampled_from(["FP32", "FP16", "INT64", "INT32", "BOOL", "FP64", "UINT8"])))
        specs.append(TensorSpec(f"x{index}", dtype, ("batch", *("" for _ in range(1, rank))) if rank else ()))
        shape = [data.draw(st.integers(0, 5)) for _ in range(rank)]
        row[f"x{index}"] = np.ones([1, *shape[1:]] if batching else shape, dtype.numpy)
        for one in profiles:
            opt = tuple(data.draw(size) for _ in range(rank))
            if rank and data.draw(st.booleans()):
                one[f"x{index}"] = ShapeRange(opt, opt, opt)
    signature = Signature(tuple(specs), ())
    facts = write_warmup(folder, signature, row, batching)
    requests = profile_requests(signature, facts, profiles, batching=batching)
    write_profile_requests(folder, folder / "out", signature, facts, requests)
    assert len(requests) == 2
    for request in requests:
        for spec in specs:
            tensor = request["inputs"][spec.name]
            wanted = prod(tensor["dims"]) * spec.dtype.byte_size
            assert (folder / "out" / "warmup" / tensor["file"]).stat().st_size == wanted


def test_text_has_no_profiles(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("t", by_name("BYTES"), ("batch", 1)),), ())
    assert profile_requests(signature, {"t": {"dims": [1], "file": "f"}}, [{}], batching=True) == []
    assert profile_requests(SIGNATURE, {}, [profile(1, 1)], batching=True) == []


@pytest.mark.parametrize(
    ("block", "names"),
    [
        ("{instance_group: [{kind: KIND_GPU, profile: ['1']}]}", ["profile_1"]),
        ("{instance_group: [{kind: KIND_GPU, profile: ['1']}, {kind: KIND_GPU}]}", ["profile_1"]),
        ("{instance_group: [{kind: KIND_GPU, profile: ['0']}, {kind: KIND_GPU, profile: ['1']}]}", []),
        ("{max_batch_size: 4}", ["profile_0"]),
        ("{input: [{name: ids, dims: [5]}]}", ["profile_1"]),
        ("{input: [{name: ids, dims: [5, -1]}]}", []),
        ("{input: [{name: ids, data_type: TYPE_INT32}]}", []),
        ("{model_warmup: []}", []),
    ],
)
def test_a_request_that_would_be_refused_is_left_out(tmp_path: Path, block: str, names: list[str]) -> None:
    config = configured(tmp_path, [profile(2, 3), profile(8, 5)], block)
    assert [one.name for one in config.model_warmup] == names


def doubled(folder: Path) -> None:
    """y = ids * scale, any sequence."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["scale", "axis"], ["s"]),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["batch"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    (folder / "1").mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "1/model.onnx"
    )


@pytest.mark.triton
def test_the_server_takes_them(tmp_path: Path) -> None:
    """A model is ready only after every one of its warm-up requests was answered."""
    profiles = [profile(2, 3), profile(8, 5), profile(1, 2)]
    folder = tmp_path / "repository" / "m"
    doubled(folder)
    row = write_warmup(tmp_path, SIGNATURE, ROW, batching=True)
    requests = profile_requests(SIGNATURE, row, profiles, batching=True)
    write_profile_requests(tmp_path, folder, SIGNATURE, row, requests)
    explained = explained_config(
        project_of(tmp_path), "m", SIGNATURE, 8, row, serving={"warmups": requests, "kind": "KIND_CPU"}
    )
    (folder / "config.pbtxt").write_text(to_text(explained.config, explained.reasons))
    with (
        serve(tmp_path / "repository", options=["--strict-readiness=true"]) as server,
        connect(server.http_url) as client,
    ):
        answer = client.infer("m", {"ids": ROW["ids"], "scale": ROW["scale"].reshape(1, 1)})
    assert answer["y"].tolist() == [[3.5, 4.0, 4.5]]
    assert len(explained.config.model_warmup) == 3


@pytest.mark.triton
def test_the_server_takes_a_model_with_sequence_controls_as_it_is_built(tmp_path: Path) -> None:
    onnx.save(onnx_models.sequence_controls(), tmp_path / "m.onnx")
    start = "{name: START, control: [{kind: CONTROL_SEQUENCE_START, fp32_false_true: [0, 1]}]}"
    identity = "{name: CORRID, control: [{kind: CONTROL_SEQUENCE_CORRID, data_type: TYPE_UINT64}]}"
    block = f"{{max_batch_size: 2, sequence_batching: {{control_input: [{start}, {identity}]}}}}"
    _, error = build_models(project_of(tmp_path, block, empty=False))
    assert error is None
    with serve(tmp_path / "model_repository") as server, connect(server.http_url) as client:
        assert [tensor.name for tensor in client.signature("m").inputs] == ["x"]
