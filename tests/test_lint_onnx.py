# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Configs against ONNX files: lint's verdict is the backend's, for any config; files are read once and in part."""

from __future__ import annotations

import importlib
import json
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnx.parser
import pytest
from google.protobuf import text_format
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onnx_models
from trtkit.compat import python_backends_folder
from trtkit.config import ModelConfig
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.model import Model
from trtkit.lint.ort_backend import as_triton_json
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree
from trtkit.server import serve

MINE = [each for each in RULES if each.category == "ONX"]
HEAD = '<ir_version: 9, opset_import: ["" : 17]>\n'
# by name, graphs that differ in what configs can be wrong about
GRAPHS = {
    "batch": "g (float[N, 4] x, int64[N, k] ids) => (float[N, 4] y) { y = Neg(x) }",
    "fixed": "g (float[1, 4] x) => (float[1, 4] y) { y = Neg(x) }",
    "scalar": "g (float x) => (float y, float[a, b] z) { y = Neg(x) z = Flatten <axis = 0> (x) }",
    "initializer": "g (float[N, 4] x, float[4] scale) => (float[N, 4] y) <float[4] scale = {1, 2, 3, 4}> {"
    " y = Mul(x, scale) }",
    "any_shape": "g (float[N, 4] x) => (float y, float[a, b] z) { y = ReduceSum <keepdims = 0> (x) z = Neg(x) }",
    "inferred": "g (float[N, 4] x) => (float[N, d] y) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = MatMul(x, w) }",
    "bf16": "g (bfloat16[N, 4] x) => (float[N, 4] y) { y = Cast <to = 1> (x) }",
    "sequence": "g (float[N, 4] x) => (seq(float[N, 4]) y) { y = SequenceConstruct(x) }",
}  # fmt: skip


def model_of(folder: Path, graph: onnx.ModelProto, config: str | ModelConfig, facts: ServerFacts) -> Model:
    (folder / "m" / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(graph, folder / "m" / "1" / "model.onnx")
    text = config if isinstance(config, str) else text_format.MessageToString(config)
    (folder / "m" / "config.pbtxt").write_text(text)
    return open_repository(LocalTree(folder), facts).models["m"]


def lint_model(model: Model, rules: Sequence[Rule]) -> list[Finding]:
    return findings_of(model.repository, rules, [model.name])


def parsed(name: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + GRAPHS[name])


@pytest.fixture(scope="module")
def backend() -> Callable[[str, ModelConfig, bool], str]:
    """The Python-based backend itself, with ONNX Runtime: why it refuses a config, '' when it does not."""
    import sys

    sys.path.insert(0, str(python_backends_folder() / "onnxruntime"))
    try:
        modules = {name: importlib.import_module(f"trtkit_ort_{name}") for name in ("config", "check", "session")}
    finally:
        sys.path.pop(0)
    load_error = modules["config"].LoadError

    def refusal(path: str, config: ModelConfig, strict: bool) -> str:
        as_json = as_triton_json(config)
        try:
            graph = modules["session"].read_graph(path)
            if not strict and not modules["config"].is_complete(as_json):
                modules["config"].complete(as_json, graph)
            modules["session"].session_options(as_json)
            modules["session"].providers(as_json, "CPU", "0")
            modules["check"].check(as_json, graph)
        except load_error as error:
            return str(error)
        return ""

    return refusal


names = st.sampled_from(["x", "ids", "y", "z", "scale", "w", "other"])
types = st.sampled_from(["TYPE_FP32", "TYPE_FP32", "TYPE_INT64", "TYPE_FP16", "TYPE_BF16"])
shapes = st.lists(st.sampled_from([-1, 1, 2, 4]), min_size=1, max_size=2)
tensors = st.fixed_dictionaries(
    {"name": names, "data_type": types, "dims": shapes},
    optional={"reshape": st.fixed_dictionaries({"shape": st.lists(st.sampled_from([-1, 1, 4]), max_size=2)})},
)
inputs = st.builds(
    lambda entry, optional: {**entry, "optional": optional}, tensors, st.sampled_from([False, False, True])
)
parameters = st.dictionaries(
    st.sampled_from(
        ["intra_op_thread_count", "execution_mode", "enable_mem_arena", "share_session_between_instances", "mine"]
    ),
    st.sampled_from(["0", "1", "2", "true", "x"]).map(lambda value: {"string_value": value}),
    max_size=2,
)  # fmt: skip
messages = st.fixed_dictionaries(
    {
        "name": st.just("m"),
        "backend": st.just("onnxruntime"),
        "max_batch_size": st.sampled_from([0, 8]),
        "input": st.lists(inputs, max_size=3),
        "output": st.lists(tensors, max_size=2),
        "instance_group": st.just([{"kind": "KIND_CPU"}]),
    },
    optional={"parameters": parameters, "model_transaction_policy": st.just({"decoupled": True})},
)


def near(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Configs that are right for a graph but for what chance changes."""
    right = {
        "batch": ("x:FP32:4 ids:INT64:-1", "y:FP32:4", 8),
        "fixed": ("x:FP32:1,4", "y:FP32:1,4", 0),
        "scalar": ("x:FP32:1", "y:FP32:1 z:FP32:1,1", 0),
        "initializer": ("x:FP32:-1,4", "y:FP32:-1,4", 0),
        "any_shape": ("x:FP32:-1,4", "y:FP32:1 z:FP32:-1,4", 0),
        "inferred": ("x:FP32:4", "y:FP32:2", 8),
        "bf16": ("x:FP32:4", "y:FP32:4", 8),
        "sequence": ("x:FP32:4", "y:FP32:4", 8),
    }[name]

    def entry(text: str) -> dict[str, Any]:
        tensor, kind, dims = text.split(":")
        return {"name": tensor, "data_type": f"TYPE_{kind}", "dims": [int(dim) for dim in dims.split(",")]}

    config = {
        "name": "m", "backend": "onnxruntime", "max_batch_size": right[2],
        "input": [entry(text) for text in right[0].split()], "output": [entry(text) for text in right[1].split()],
        "instance_group": [{"kind": "KIND_CPU"}],
    }  # fmt: skip
    changes = st.fixed_dictionaries({}, optional={
        "max_batch_size": st.sampled_from([0, 1, 8]), "input": st.lists(inputs, max_size=2),
        "output": st.lists(tensors, max_size=1), "parameters": parameters,
    })  # fmt: skip
    return changes.map(lambda changed: {**config, **changed})


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_lint_refuses_what_the_backend_refuses(backend: Any, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GRAPHS)), "graph")
    config = ParseDict(data.draw(messages | near(name), "config"), ModelConfig())
    strict = data.draw(st.booleans(), "strict")
    facts = ServerFacts(flags=("--disable-auto-complete-config",) if strict else (), gpus=0)
    model = model_of(tmp_path, parsed(name), config, facts)
    refusal = backend(str(tmp_path / "m" / "1" / "model.onnx"), config, strict)
    by_code = {rule.code: rule for rule in MINE}
    errors = [found for found in lint_model(model, MINE) if by_code[found.code].server]
    only_here = config.model_transaction_policy.decoupled  # the C++ backend takes it: advice
    if not only_here or "model_transaction_policy" not in refusal:
        assert bool(errors) == bool(refusal), f"{refusal}\n{errors}"
    # a graph of sequences is called one in other words
    first = refusal.split(", expected 'ONNX")[0].split("'seq(")[0]
    if errors and not only_here:
        assert any(first in found.message or "ONNX_TYPE_SEQUENCE" in found.message for found in errors), refusal


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ((), 4),
        (("--backend-config=onnxruntime,default-max-batch-size=16",), 16),
        (("--backend-config", "default-max-batch-size=2"), 2),
        (("--backend-config=default-max-batch-size=2", "--backend-config=onnxruntime,default-max-batch-size=8"), 8),
        (("--backend-config=tensorrt,default-max-batch-size=16",), 4),
    ],
)
def test_a_config_is_completed(tmp_path: Path, flags: tuple[str, ...], size: int) -> None:
    graph = onnx_models.two_inputs_of_different_types()
    config = model_of(tmp_path, graph, 'backend: "onnxruntime"', ServerFacts(flags=flags)).completed
    assert config is not None
    assert config.max_batch_size == size
    assert config.HasField("dynamic_batching") == (size > 1)
    assert [(entry.name, list(entry.dims)) for entry in config.input] == [("scale", [1]), ("integers", [-1])]
    assert [ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[e.data_type].name
            for e in config.input] == ["TYPE_FP32", "TYPE_INT32"]  # fmt: skip


def test_what_is_not_completed(tmp_path: Path) -> None:
    strict = ServerFacts(flags=("--disable-auto-complete-config",))
    fixed = parsed("fixed")
    assert model_of(tmp_path, fixed, 'backend: "onnxruntime"', strict).completed.input == []  # type: ignore[union-attr]
    assert model_of(tmp_path, fixed, 'backend: "onnxruntime" max_batch_size: 4', ServerFacts()).completed is None
    assert model_of(tmp_path, fixed, 'backend: "python"', ServerFacts()).completed is None
    (tmp_path / "m" / "1" / "model.onnx").unlink()
    (tmp_path / "m" / "config.pbtxt").write_text('backend: "onnxruntime"')
    assert open_repository(LocalTree(tmp_path), ServerFacts()).models["m"].completed is None


@pytest.mark.triton
def test_it_is_completed_as_the_server_does(tmp_path: Path) -> None:
    graphs = [parsed(name) for name in ("batch", "fixed", "scalar", "inferred", "any_shape")]
    for index, graph in enumerate(graphs):
        (tmp_path / f"m{index}" / "1").mkdir(parents=True)
        onnx.save(graph, tmp_path / f"m{index}" / "1" / "model.onnx")
        (tmp_path / f"m{index}" / "config.pbtxt").write_text('backend: "onnxruntime" instance_group { kind: KIND_CPU }')
    models = open_repository(LocalTree(tmp_path), ServerFacts()).models
    with serve(tmp_path) as server:
        for name, model in models.items():
            with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{name}/config", timeout=10) as answer:
                said = ParseDict(json.load(answer), ModelConfig(), ignore_unknown_fields=True)
            ours = model.completed
            assert ours is not None
            assert said.max_batch_size == ours.max_batch_size, name
            assert said.HasField("dynamic_batching") == ours.HasField("dynamic_batching")
            for side in ("input", "output"):
                assert [(e.name, e.data_type, len(e.dims), e.HasField("reshape")) for e in getattr(said, side)] == [
                    (e.name, e.data_type, len(e.dims), e.HasField("reshape")) for e in getattr(ours, side)
                ], name


class CountingTree(LocalTree):
    """Notes what is opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open(self, file: str) -> BinaryIO:
        self.opened.append(file)
        return super().open(file)


def test_a_header_is_read_once(tmp_path: Path) -> None:
    model_of(tmp_path, onnx_models.two_outputs(), 'backend: "onnxruntime"', ServerFacts())
    tree = CountingTree(tmp_path)
    model = open_repository(tree, ServerFacts()).models["m"]
    lint_model(model, RULES)
    assert model.completed is not None
    assert tree.opened.count("m/1/model.onnx") == 1


def test_versions_are_each_looked_at(tmp_path: Path) -> None:
    config = 'backend: "onnxruntime" version_policy { all { } } max_batch_size: 8\n'
    config += 'input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }\n'
    config += 'output { name: "negative" data_type: TYPE_FP32 dims: [ 2 ] }'
    model = model_of(tmp_path, onnx_models.two_outputs(), config, ServerFacts())
    (tmp_path / "m" / "2" / "model.onnx").mkdir(parents=True)  # a folder of that name holds the file
    onnx.save(onnx_models.matmul_dynamic_batch(), tmp_path / "m" / "2" / "model.onnx" / "model.onnx")
    model = open_repository(LocalTree(tmp_path), ServerFacts()).models["m"]
    found = lint_model(model, MINE)
    assert {f.code for f in found} == {"ONX102", "ONX106"}
    assert all(f.message.partition("; ")[0].endswith("(version 2)") for f in found)


def test_a_wrong_type_can_be_fixed(tmp_path: Path) -> None:
    config = (
        'backend: "onnxruntime"\ninput {\n  name: "x"\n  data_type: TYPE_FP16\n  dims: [ 64 ]\n}\nmax_batch_size: 8\n'
    )
    model = model_of(tmp_path, onnx_models.matmul_dynamic_batch(), config, ServerFacts())
    (found,) = [each for each in lint_model(model, MINE) if each.code == "ONX104"]
    assert (found.line, found.column) == (4, 3)
    assert found.fix is not None
    assert found.fix.edits[0].text == "TYPE_FP32"


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    class Refusing(LocalTree):
        def open(self, file: str) -> BinaryIO:
            if file.endswith(".onnx"):
                raise PermissionError(13, "Permission denied", file)
            return super().open(file)

    model_of(tmp_path, onnx_models.two_outputs(), 'backend: "onnxruntime"', ServerFacts())
    model = open_repository(Refusing(tmp_path), ServerFacts()).models["m"]
    (found,) = [each for each in lint_model(model, MINE) if each.severity == Severity.ERROR]
    assert found.code == "ONX001"
    assert "Permission denied" in found.message


def test_a_file_of_two_gigabytes(tmp_path: Path) -> None:
    model_of(tmp_path, onnx_models.two_outputs(), 'backend: "onnxruntime"', ServerFacts())
    path = tmp_path / "m" / "1" / "model.onnx"
    data, weight = path.read_bytes(), 2**31
    initializer = b"\x4a\x80\x80\x80\x80\x08"  # raw_data of 2 GiB, as a hole in the file
    graph = b"\x2a" + _number(len(initializer) + weight) + initializer
    with path.open("wb") as stream:
        stream.write(data + b"\x3a" + _number(len(graph) + weight) + graph)
        stream.truncate(stream.tell() + weight)
    model = open_repository(LocalTree(tmp_path), ServerFacts()).models["m"]
    assert [f.code for f in lint_model(model, MINE) if f.severity == Severity.ERROR] == ["ONX002"]


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
