# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The text of a generated config: what trtkit chose carries its reason, what the project file gives carries none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtkit import pbtxt
from trtkit.config import (
    Explained,
    ModelConfig,
    explained_config,
    explained_ensemble,
    is_generated,
    read_config,
    to_text,
)
from trtkit.dtypes import by_name
from trtkit.project import load_project
from trtkit.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", by_name("FP32"), ("batch", 3, "width")), TensorSpec("s", by_name("INT64"), ("batch",))),
    (TensorSpec("y", by_name("FP32"), ("batch", 2)),),
)
WARMUP = {"x": {"dims": [3, 8], "file": "input_0.bin"}, "s": {"dims": [1], "file": "input_1.bin"}}
BATCH = {"batching": True, "proven": [1, 2, 8], "data": "random data"}


def explained(folder: Path, block: str = "{}", size: int = 8, **more: Any) -> Explained:
    (folder / "m.onnx").write_bytes(b"")
    (folder / "trtkit.yaml").write_text(f"models:\n  m:\n    source: {{onnx: m.onnx}}\n    config: {block}\n")
    project = load_project(folder / "trtkit.yaml")
    return explained_config(project, "m", SIGNATURE, size, WARMUP, **{"batch": BATCH, **more})


def body(one: Explained) -> str:
    """The text below the first line, which has to be read back as the same message."""
    text = to_text(one.config, one.reasons)
    assert is_generated(text)
    assert read_config(text, "text") == one.config
    assert pbtxt.read(text, ModelConfig).problems == []
    return text.partition("\n")[2]


def test_every_value_that_trtkit_chose_has_its_reason(tmp_path: Path) -> None:
    assert (
        body(explained(tmp_path))
        == """\
name: "m"
backend: "onnxruntime"  # it runs the ONNX graph as it is
max_batch_size: 8  # the default; batches of 1, 2, 8 rows gave what each row gives alone
input { name: "x" data_type: TYPE_FP32 dims: [3, -1] }  # as in the graph, without the batch in front
input { name: "s" data_type: TYPE_INT64 dims: [1] reshape { } }  # one value per row: dims have one size at least
output { name: "y" data_type: TYPE_FP32 dims: [2] }  # as in the graph, without the batch in front
version_policy { latest { num_versions: 1 } }  # only the newest version is served
instance_group { count: 1 kind: KIND_AUTO }  # one per GPU, or one on the CPU where there is none
dynamic_batching { }  # requests that wait at the same time become one batch
# loads what a first request would wait for
model_warmup {
  name: "batch_1"
  batch_size: 1
  inputs { key: "s" value { data_type: TYPE_INT64 dims: [1] input_data_file: "input_1.bin" } }
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [3, 8] input_data_file: "input_0.bin" } }
}
# the same row as a full batch
model_warmup {
  name: "batch_8"
  batch_size: 8
  inputs { key: "s" value { data_type: TYPE_INT64 dims: [1] input_data_file: "input_1.bin" } }
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [3, 8] input_data_file: "input_0.bin" } }
}
"""
    )


def test_what_the_project_file_gives_has_none(tmp_path: Path) -> None:
    block = """
      backend: onnxruntime
      max_batch_size: 4
      input: [{name: s, reshape: {shape: []}}, {name: x, dims: [3, 8]}]
      output: [{name: y, label_filename: labels.txt}]
      version_policy: {latest: {num_versions: 2}}
      instance_group: [{count: 1, kind: KIND_AUTO}]
      dynamic_batching: {}
      model_warmup: []"""
    assert (
        body(explained(tmp_path, block))
        == """\
name: "m"
backend: "onnxruntime"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [3, 8] }
input { name: "s" data_type: TYPE_INT64 dims: [1] reshape { } }
output { name: "y" data_type: TYPE_FP32 dims: [2] label_filename: "labels.txt" }
version_policy { latest { num_versions: 2 } }
instance_group { count: 1 }
dynamic_batching { }
"""
    )


def test_what_the_project_file_takes_away_leaves_no_comment(tmp_path: Path) -> None:
    block = "{version_policy: {all: {}}, dynamic_batching: null, instance_group: [], model_warmup: null, backend: null}"
    lines = body(explained(tmp_path, block)).splitlines()
    assert [line.partition("  #")[0] for line in lines[-2:]] == [
        'output { name: "y" data_type: TYPE_FP32 dims: [2] }',
        "version_policy { all { } }",
    ]
    assert not any("instance" in line or "backend" in line or "newest" in line for line in lines)


def test_a_part_of_a_message_leaves_the_reasons_of_the_rest(tmp_path: Path) -> None:
    accelerator = {"name": "tensorrt", "parameters": {"precision_mode": "FP16"}}
    serving = {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}}
    text = body(explained(tmp_path, "{optimization: {graph: {level: 1}}}", serving=serving))
    assert (
        """\
optimization {
  graph { level: 1 }
  execution_accelerators {
    # what runs the graph on the target
    gpu_execution_accelerator {
      name: "tensorrt"
      parameters { key: "precision_mode" value: "FP16" }
"""
        in text
    )


def test_plans_and_profiles(tmp_path: Path) -> None:
    serving = {"backend": "tensorrt", "why": "target 'gpu' runs TensorRT plans", "kind": "KIND_GPU", "profiles": 2}
    one = body(explained(tmp_path, serving={**serving, "plans": {"8.9": "model.plan"}}))
    assert "backend: \"tensorrt\"  # target 'gpu' runs TensorRT plans\n" in one
    assert 'default_model_filename: "model.plan"  # the plan\n' in one
    groups = "{instance_group: [{count: 2, kind: KIND_GPU}, {kind: KIND_GPU, profile: ['1']}, {kind: KIND_CPU}]}"
    several = body(explained(tmp_path, groups, serving={**serving, "plans": {"8.9": "a.plan", "10.0": "b.plan"}}))
    assert (
        """\
cc_model_filenames { key: "10.0" value: "b.plan" }  # a plan per compute capability
cc_model_filenames { key: "8.9" value: "a.plan" }
"""
        in several
    )
    assert (
        """\
instance_group { count: 2 kind: KIND_GPU profile: ["0", "1"] }  # without this list profile 0 alone would be used
instance_group { kind: KIND_GPU profile: ["1"] }
instance_group { kind: KIND_CPU }
"""
        in several
    )


def test_without_batching_the_file_says_why(tmp_path: Path) -> None:
    why = {"batching": False, "why": "the first axis is fixed: x FP32 [3]"}
    text = body(explained(tmp_path, size=0, batch=why))
    assert "max_batch_size: 0  # no batching: the first axis is fixed: x FP32 [3]\n" in text
    assert "dynamic_batching" not in text
    assert [one.name for one in explained(tmp_path, size=0).config.model_warmup] == []


def test_an_ensemble(tmp_path: Path) -> None:
    (tmp_path / "trtkit.yaml").write_text("models:\n  e:\n    ensemble:\n      - {model: a}\n")
    project = load_project(tmp_path / "trtkit.yaml")
    step = read_config(
        'name: "a" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 1 }'
        ' output { name: "y" data_type: TYPE_FP32 dims: 1 }',
        "a",
    )
    assert (
        body(explained_ensemble(project, "e", [step]))
        == """\
name: "e"
platform: "ensemble"
max_batch_size: 4  # the smallest of the steps that batch
input { name: "x" data_type: TYPE_FP32 dims: [1] }  # what no step writes
output { name: "y" data_type: TYPE_FP32 dims: [1] }  # what no step reads
ensemble_scheduling {
  step {
    model_name: "a"
    model_version: -1
    input_map { key: "x" value: "x" }
    output_map { key: "y" value: "y" }
  }
}
"""
    )
    step.max_batch_size = 0
    assert "max_batch_size: 0  # no batching: no step batches\n" in body(explained_ensemble(project, "e", [step]))


def test_what_identifies_a_model_comes_first_and_long_values_take_lines() -> None:
    config = ModelConfig(name="m", backend="b", max_batch_size=1, runtime="r", platform="p")
    config.parameters["k"].string_value = "v" * 120
    config.metric_tags["a" * 60] = "b" * 60
    first, *rest = to_text(config).splitlines()[1:]
    assert [line.partition(":")[0] for line in [first, *rest[:4]]] == [
        "name", "platform", "backend", "runtime", "max_batch_size",
    ]  # fmt: skip
    assert rest[4:] == [
        "metric_tags {", f'  key: "{"a" * 60}"', f'  value: "{"b" * 60}"', "}",
        "parameters {", '  key: "k"', "  value {", f'    string_value: "{"v" * 120}"', "  }", "}",
    ]  # fmt: skip
