# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""config.pbtxt: what follows from a model, what the project file adds, and what an ensemble's steps say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelParameter

from conftest import ECHO_MODEL
from trtkit.config import check_block, ensemble_config, is_generated, model_config, read_config, to_text
from trtkit.dtypes import DTYPES, by_name
from trtkit.errors import ConfigError
from trtkit.project import Project, load_project
from trtkit.server import connect, serve
from trtkit.signature import Signature, TensorSpec


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, by_name(dtype), shape)


X_TO_Y = Signature((spec("x", "FP32", "batch", 4),), (spec("y", "FP32", "batch", 2),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(b"")
    return tmp_path


def project_of(folder: Path, config: str = "") -> Project:
    """A project with the model `m` and the lines of its config block, the first in line 5."""
    lines = "".join(f"      {line}\n" for line in config.splitlines())
    block = f"    config:\n{lines}" if lines else ""
    (folder / "trtkit.yaml").write_text(f"models:\n  m:\n    source: {{onnx: m.onnx}}\n{block}")
    return load_project(folder / "trtkit.yaml")


def made(folder: Path, config: str = "", signature: Signature = X_TO_Y, batch: int = 8, **warmup: Any) -> ModelConfig:
    return model_config(project_of(folder, config), "m", signature, batch, warmup)


def refused(folder: Path, config: str, signature: Signature = X_TO_Y, batch: int = 8) -> str:
    """The one sentence of the ConfigError that a config block gives."""
    with pytest.raises(ConfigError) as caught:
        made(folder, config, signature, batch)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- what follows from the model


def test_a_batching_model(folder: Path) -> None:
    expected = """
        name: "m" backend: "onnxruntime" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: 4 }
        output { name: "y" data_type: TYPE_FP32 dims: 2 }
        version_policy { latest { num_versions: 1 } }
        instance_group { count: 1 kind: KIND_AUTO }
        dynamic_batching { }
    """
    assert made(folder) == read_config(expected, "expected")


def test_a_model_that_does_not_batch(folder: Path) -> None:
    signature = Signature((spec("x", "INT64", 3, "n"), spec("s", "FP32")), (spec("y", "BYTES", "found", ""),))
    expected = """
        name: "m" backend: "onnxruntime"
        input { name: "x" data_type: TYPE_INT64 dims: 3 dims: -1 }
        input { name: "s" data_type: TYPE_FP32 dims: 1 }
        output { name: "y" data_type: TYPE_STRING dims: -1 dims: -1 }
        version_policy { latest { num_versions: 1 } }
        instance_group { count: 1 kind: KIND_AUTO }
    """
    assert made(folder, signature=signature, batch=0) == read_config(expected, "expected")


def test_a_scalar_per_row_has_one_dimension_that_is_reshaped_away(folder: Path) -> None:
    signature = Signature((spec("x", "FP32", "batch"),), (spec("y", "FP32", "batch"),))
    config = made(folder, signature=signature)
    for tensor in (*config.input, *config.output):
        assert list(tensor.dims) == [1]
        assert tensor.HasField("reshape")
        assert list(tensor.reshape.shape) == []
    assert not made(folder).input[0].HasField("reshape")


@pytest.mark.parametrize(("batch", "batching"), [(0, False), (1, False), (2, True)])
def test_one_row_at_a_time_needs_no_batcher(folder: Path, batch: int, batching: bool) -> None:
    config = made(folder, batch=batch)
    assert config.HasField("dynamic_batching") is batching
    assert list(config.input[0].dims) == ([4] if batch else [-1, 4])


@pytest.mark.parametrize("dtype", [dtype.name for dtype in DTYPES])
def test_every_data_type_has_tritons_name(folder: Path, dtype: str) -> None:
    config = made(folder, signature=Signature((spec("x", dtype, "batch", 1),), X_TO_Y.outputs))
    wanted = "TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}"
    assert config.input[0].data_type == DataType.Value(wanted)


def test_warm_up_of_one_row_and_of_a_full_batch(folder: Path) -> None:
    config = made(folder, x={"dims": [4], "file": "input_0.bin"})
    assert [(warmup.name, warmup.batch_size) for warmup in config.model_warmup] == [("batch_1", 1), ("batch_8", 8)]
    for warmup in config.model_warmup:
        tensor = warmup.inputs["x"]
        assert (tensor.data_type, list(tensor.dims), tensor.input_data_file) == (DataType.TYPE_FP32, [4], "input_0.bin")
    sizes = [warmup.batch_size for warmup in made(folder, batch=0, x={"dims": [1, 4], "file": "f"}).model_warmup]
    assert sizes == [1]


# -- the config block on top


def test_a_field_of_the_block_replaces_ours(folder: Path) -> None:
    block = """
        dynamic_batching: {max_queue_delay_microseconds: 500, preferred_batch_size: [4, 8]}
        instance_group: [{count: 2, kind: KIND_CPU}, {count: 1, kind: KIND_GPU, gpus: [0]}]
        version_policy: {specific: {versions: [1, 3]}}
        max_batch_size: 8
        default_model_filename: other.onnx
        response_cache: {enable: true}
    """
    config = made(folder, "\n".join(line.strip() for line in block.strip().splitlines()))
    expected = """
        name: "m" backend: "onnxruntime" max_batch_size: 8 default_model_filename: "other.onnx"
        input { name: "x" data_type: TYPE_FP32 dims: 4 }
        output { name: "y" data_type: TYPE_FP32 dims: 2 }
        version_policy { specific { versions: [1, 3] } }
        instance_group { count: 2 kind: KIND_CPU }
        instance_group { count: 1 kind: KIND_GPU gpus: 0 }
        dynamic_batching { max_queue_delay_microseconds: 500 preferred_batch_size: [4, 8] }
        response_cache { enable: true }
    """
    assert config == read_config(expected, "expected")


def test_inputs_and_outputs_are_merged_by_name(folder: Path) -> None:
    signature = Signature((spec("a", "FP32", "b", 1), spec("b", "FP32", "b", 2)), X_TO_Y.outputs)
    block = "input: [{name: b, optional: true, dims: [-1]}]\noutput: [{name: y, label_filename: labels.txt}]"
    config = made(folder, block, signature)
    assert [(i.name, list(i.dims), i.optional) for i in config.input] == [("a", [1], False), ("b", [-1], True)]
    assert [(o.name, list(o.dims), o.label_filename) for o in config.output] == [("y", [2], "labels.txt")]


def test_maps_and_nested_fields(folder: Path) -> None:
    block = """parameters: {key: {string_value: "5"}, other: {string_value: x}}
cc_model_filenames: {"8.6": a.plan}
optimization:
  graph: {level: -1}
  execution_accelerators: {cpu_execution_accelerator: [{name: openvino, parameters: {a: b}}]}
dynamic_batching: {priority_queue_policy: {1: {timeout_action: DELAY, default_timeout_microseconds: 7}}}
model_metrics: {metric_control: [{metric_identifier: {family: f}, histogram_options: {buckets: [1, 2.5]}}]}"""
    config = made(folder, block)
    assert {key: value.string_value for key, value in config.parameters.items()} == {"key": "5", "other": "x"}
    assert dict(config.cc_model_filenames) == {"8.6": "a.plan"}
    assert config.optimization.graph.level == -1
    accelerator = config.optimization.execution_accelerators.cpu_execution_accelerator[0]
    assert (accelerator.name, dict(accelerator.parameters)) == ("openvino", {"a": "b"})
    assert config.dynamic_batching.priority_queue_policy[1].default_timeout_microseconds == 7
    assert list(config.model_metrics.metric_control[0].histogram_options.buckets) == [1.0, 2.5]


def test_a_sequence_batcher_takes_the_dynamic_ones_place(folder: Path) -> None:
    config = made(folder, "sequence_batching: {max_sequence_idle_microseconds: 5}")
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"


def test_messages_are_merged_field_by_field_and_maps_by_key(folder: Path) -> None:
    accelerators = {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}
    serving = {"optimization": accelerators, "plans": {"8.6": "a.plan", "8.9": "b.plan"}}
    block = 'optimization: {graph: {level: 1}}\ncc_model_filenames: {"8.9": mine.plan, "9.0": c.plan}'
    config = model_config(project_of(folder, block), "m", X_TO_Y, 8, {}, serving=serving)
    assert config.optimization.graph.level == 1
    assert config.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "tensorrt"
    assert dict(config.cc_model_filenames) == {"8.6": "a.plan", "8.9": "mine.plan", "9.0": "c.plan"}


def test_null_takes_away_what_trtkit_fills_in(folder: Path) -> None:
    block = "dynamic_batching: null\nmodel_warmup: null\nversion_policy:\ninstance_group: []\nbackend: null"
    config = made(folder, block, x={"dims": [4], "file": "f"})
    expected = """
        name: "m" max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: 4 } output { name: "y" data_type: TYPE_FP32 dims: 2 }
    """
    assert config == read_config(expected, "expected")
    inside = "input: [{name: x, dims: null, data_type: TYPE_FP16}]\nparameters: {a: null, b: {string_value: null}}"
    config = made(folder, inside)
    assert (list(config.input[0].dims), DataType.Name(config.input[0].data_type)) == ([], "TYPE_FP16")
    assert dict(config.parameters) == {"b": ModelParameter()}
    assert not made(folder, "input: null\noutput:").input


def test_a_member_of_a_oneof_takes_the_others_place(folder: Path) -> None:
    assert made(folder, "version_policy: {all: {}}").version_policy.WhichOneof("policy_choice") == "all"
    assert made(folder, "version_policy: {latest: null, all: {}}").version_policy.HasField("all")


SEQUENCES = """sequence_batching:
  control_input:
    - {name: start, control: [{kind: CONTROL_SEQUENCE_START, int32_false_true: [0, 1]}]}
  state: [{input_name: before, output_name: after, data_type: TYPE_FP32, dims: [4]}]"""
RECURRENT = Signature(
    (*X_TO_Y.inputs, spec("start", "INT32", "batch", 1), spec("before", "FP32", "batch", 4)),
    (*X_TO_Y.outputs, spec("after", "FP32", "batch", 4)),
)


def test_control_and_state_tensors_are_no_inputs_and_outputs_of_requests(folder: Path) -> None:
    row = {name: {"dims": [4], "file": name} for name in ("x", "start", "before")}
    config = made(folder, SEQUENCES, RECURRENT, **row)
    assert [tensor.name for tensor in (*config.input, *config.output)] == ["x", "y"]
    assert not config.model_warmup, "the server wants control tensors with a batch in front, and no data of them"
    shown = made(folder, f"{SEQUENCES}\noutput: [{{name: after}}]", RECURRENT)
    assert [tensor.name for tensor in shown.output] == ["y", "after"], "a state may also be an output"


def test_the_users_warm_up_replaces_ours(folder: Path) -> None:
    block = (
        "model_warmup: [{name: mine, batch_size: 3, inputs: {x: {data_type: TYPE_FP32, dims: [4], zero_data: true}}}]"
    )
    config = made(folder, block, x={"dims": [4], "file": "input_0.bin"})
    assert [warmup.name for warmup in config.model_warmup] == ["mine"]
    assert config.model_warmup[0].inputs["x"].zero_data


# (lines of the block, where the complaint points, what it says)
REFUSED = {
    "an unknown field": ("max_batchsize: 8", "5:7", "no field of ModelConfig; did you mean 'max_batch_size'?"),
    "a JSON name": (
        "maxBatchSize: 8",
        "5:7",
        "'maxBatchSize' is no field of ModelConfig; did you mean 'max_batch_size'?",
    ),
    "an unknown field inside": ("dynamic_batching: {max_queue_delay: 5}", "5:26", "'max_queue_delay_microseconds'?"),
    "an unknown field in a list": ("instance_group:\n  - count: 1\n    kinds: x", "7:11", "did you mean 'kind'?"),
    "an unknown field in a map": ("parameters: {a: {string: x}}", "5:24", "did you mean 'string_value'?"),
    "an unknown input": ("input: [{name: X}]", "5:15", "the model has no input 'X'; available: x"),
    "an input without a name": ("input: [{dims: [4]}]", "5:15", "the model has no input 'None'; available: x"),
    "an unknown output": ("output: [{name: x}]", "5:16", "the model has no output 'x'; available: y"),
    "text for a number": ('max_batch_size: "8"', "5:7", "'max_batch_size' takes a whole number, got '8'"),
    "a switch for a number": ("max_batch_size: yes", "5:7", "'max_batch_size' takes a whole number, got True"),
    "a fraction": ("max_batch_size: 8.0", "5:7", "'max_batch_size' takes a whole number, got 8.0"),
    "nothing for what dims depend on": ("max_batch_size:", "5:7", "max_batch_size is null; it has to be 0"),
    "nothing in a list of numbers": (
        "input: [{name: x, dims: [4, null]}]",
        "5:35",
        "takes a whole number, got nothing",
    ),
    "nothing for the name": ("name:", "5:7", "name: 'None' has to be the model's, 'm'"),
    "a batch that was not proven": ("max_batch_size: 9", "5:7", "max_batch_size is 9, and the model was proven for 8"),
    "a number below 0": ("max_batch_size: -1", "5:7", "max_batch_size is -1; it has to be 0 (no batching) or more"),
    "a number for text": (
        "parameters: {a: {string_value: 5}}",
        "5:24",
        "'string_value' takes text, got 5; write \"5\"",
    ),
    "a number for a switch": ("response_cache: {enable: 1}", "5:24", "'enable' takes true or false, got 1"),
    "text for a float": (
        "sequence_batching: {direct: {minimum_slot_utilization: x}}",
        "5:36",
        "'minimum_slot_utilization' takes a number, got 'x'",
    ),
    "text for fields": (
        "dynamic_batching: yes",
        "5:7",
        "'dynamic_batching' takes fields of ModelDynamicBatching, got True",
    ),
    "nothing for fields in a list": (
        "instance_group: [null]",
        "5:24",
        "'instance_group' takes fields of ModelInstanceGroup, got nothing",
    ),
    "a mapping for a list": ("instance_group: {count: 1}", "5:7", "'instance_group' takes a list, got {'count': 1}"),
    "a number for a list": (
        "dynamic_batching: {preferred_batch_size: 4}",
        "5:26",
        "'preferred_batch_size' takes a list, got 4",
    ),
    "text in a list of numbers": ("input: [{name: x, dims: [4, a]}]", "5:35", "'dims' takes a whole number, got 'a'"),
    "text in a list of messages": ("instance_group: [two]", "5:24", "takes fields of ModelInstanceGroup, got 'two'"),
    "a list for a map": ("parameters: [a]", "5:7", "'parameters' takes names and their values, got ['a']"),
    "text for a map's message": ("parameters: {a: b}", "5:20", "'a' takes fields of ModelParameter, got 'b'"),
    "a number for a map's text": ("cc_model_filenames: {a: 5}", "5:28", "'a' takes text, got 5; write \"5\""),
    "an unknown word": (
        "instance_group: [{kind: KIND_GPUS}]",
        "5:25",
        "'KIND_GPUS' is no Kind; did you mean 'KIND_GPU'?",
    ),
    "a number for a word": ("instance_group: [{kind: 1}]", "5:25", "'kind': 1 is no Kind; available: KIND_AUTO"),
    "an unknown data type": (
        "input: [{name: x, data_type: FP32}]",
        "5:25",
        "'FP32' is no DataType; did you mean 'TYPE_FP32'?",
    ),
    "a number out of range": (
        "max_batch_size: 4294967296",
        "5:7",
        "'max_batch_size' takes whole numbers from -2147483648 to 2147483647, got 4294967296",
    ),
    "a number out of range inside": (
        "instance_group: [{gpus: [4294967296]}]",
        "5:32",
        "'gpus' takes whole numbers from -2147483648 to 2147483647, got 4294967296",
    ),
    "a number below 0 where there is none": (
        "dynamic_batching: {max_queue_delay_microseconds: -1}",
        "5:26",
        "'max_queue_delay_microseconds' takes whole numbers from 0 to 18446744073709551615, got -1",
    ),
    "a number above 63 bits": ("version_policy: {specific: {versions: [9223372036854775808]}}", "5:46", "got 922"),
    "a number above 32 bits of float": (
        "sequence_batching: {direct: {minimum_slot_utilization: 1.0e+40}}",
        "5:36",
        "'minimum_slot_utilization' takes 32-bit floating-point numbers, got 1e+40",
    ),
    "a number just above 32 bits of float": (
        "sequence_batching: {direct: {minimum_slot_utilization: 3.4028236e+38}}",
        "5:36",
        "'minimum_slot_utilization' takes 32-bit floating-point numbers, got 3.4028236e+38",
    ),
    "a key that is no number": (
        "dynamic_batching: {priority_queue_policy: {a: {}}}",
        "5:50",
        "the keys of 'priority_queue_policy' are whole numbers from 0 to 18446744073709551615, got 'a'",
    ),
    "a key that is the same number twice": (
        "dynamic_batching: {priority_queue_policy: {1: {}, 01: {}}}",
        "5:57",
        "whole numbers from 0 to 18446744073709551615, got '01'",
    ),
    "a key below 0": ("dynamic_batching: {priority_queue_policy: {-1: {}}}", "5:50", "got '-1'"),
    "a word in a map of messages": (
        "dynamic_batching: {priority_queue_policy: {1: {timeout_action: WAIT}}}",
        "5:54",
        "'timeout_action': 'WAIT' is no TimeoutAction; available: DELAY, REJECT",
    ),
    "two of which one is possible": (
        "version_policy: {latest: {}, all: {}}",
        "5:36",
        "'latest' and 'all' exclude each other; leave one of them out",
    ),
    "two batchers": (
        "dynamic_batching: {}\nsequence_batching: {}",
        "6:7",
        "'dynamic_batching' and 'sequence_batching' exclude each other; leave one of them out",
    ),
    "another name": ("name: n", "5:7", "name: 'n' has to be the model's, 'm'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_block_is_one_sentence_with_its_place(folder: Path, case: str) -> None:
    block, place, words = REFUSED[case]
    message = refused(folder, block)
    assert message.startswith(f"trtkit.yaml:{place}: ")
    assert words in message


def test_the_block_is_checked_before_the_model_is_known(folder: Path) -> None:
    check_block(project_of(folder, "input: [{name: whatever}]"), "m")
    with pytest.raises(ConfigError, match=r"^trtkit\.yaml:5:7: 'max_batch_size' takes a whole number, got '8'$"):
        check_block(project_of(folder, 'max_batch_size: "8"'), "m")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text("ab0", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_block_gives_a_config_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Blocks of real field names, so that values get as far as protobuf."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "m.onnx").write_bytes(b"")
    block = {}
    for field in data.draw(st.lists(st.sampled_from(list(ModelConfig.DESCRIPTOR.fields)), max_size=3)):
        value = data.draw(json_values)
        if field.message_type is not None and data.draw(st.booleans()):
            inner = (
                data.draw(st.sampled_from(list(field.message_type.fields))).name if field.message_type.fields else "x"
            )
            value = data.draw(st.sampled_from([{inner: value}, [{inner: value}]]))
        block[field.name] = value
    text = yaml.safe_dump({"models": {"m": {"source": {"onnx": "m.onnx"}, "config": block}}})
    (folder / "trtkit.yaml").write_text(text)
    project = load_project(folder / "trtkit.yaml")
    try:
        message = "ok"
        model_config(project, "m", X_TO_Y, 8, {})
    except ConfigError as exc:
        message = str(exc)
    assert message.isprintable()
    assert message == "ok" or message.startswith("trtkit.yaml:")


# -- ensembles

SCALE = """
    name: "scale" max_batch_size: 8
    input { name: "image" data_type: TYPE_UINT8 dims: [3, -1, -1] }
    output { name: "pixels" data_type: TYPE_FP32 dims: [3, 224, 224] }
"""
CLASSIFY = """
    name: "classify" max_batch_size: 4
    input { name: "x" data_type: TYPE_FP32 dims: [3, -1, 224] }
    input { name: "threshold" data_type: TYPE_FP32 dims: 1 optional: true }
    output { name: "scores" data_type: TYPE_FP32 dims: 1000 }
    output { name: "features" data_type: TYPE_FP16 dims: 64 }
"""
TOP = """
    name: "top" max_batch_size: 16
    input { name: "scores" data_type: TYPE_FP32 dims: -1 }
    output { name: "label" data_type: TYPE_STRING dims: 1 }
"""
STEPS = """
- {model: scale, inputs: {image: IMAGE}, outputs: {pixels: pixels}}
- {model: classify, inputs: {x: pixels}, outputs: {scores: scores, features: FEATURES}}
- {model: top, inputs: {scores: scores}, outputs: {label: LABEL}}
"""


def derived(folder: Path, steps: str, *configs: str, block: str = "", name: str = "e") -> ModelConfig:
    """The config of an ensemble; its first step stands in line 4 of the project file."""
    lines = "".join(f"      {line}\n" for line in steps.strip().splitlines())
    more = f"    config: {block}\n" if block else ""
    (folder / "trtkit.yaml").write_text(f"models:\n  {name}:\n    ensemble:\n{lines}{more}")
    project = load_project(folder / "trtkit.yaml")
    return ensemble_config(project, name, [read_config(text, "step") for text in configs])


def refused_ensemble(folder: Path, steps: str, *configs: str, block: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        derived(folder, steps, *configs, block=block)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_an_ensembles_tensors_follow_from_its_steps(folder: Path) -> None:
    expected = """
        name: "e" platform: "ensemble" max_batch_size: 4
        input { name: "IMAGE" data_type: TYPE_UINT8 dims: [3, -1, -1] }
        output { name: "FEATURES" data_type: TYPE_FP16 dims: 64 }
        output { name: "LABEL" data_type: TYPE_STRING dims: 1 }
        ensemble_scheduling {
          step {
            model_name: "scale" model_version: -1
            input_map { key: "image" value: "IMAGE" } output_map { key: "pixels" value: "pixels" }
          }
          step {
            model_name: "classify" model_version: -1
            input_map { key: "x" value: "pixels" }
            output_map { key: "scores" value: "scores" } output_map { key: "features" value: "FEATURES" }
          }
          step {
            model_name: "top" model_version: -1
            input_map { key: "scores" value: "scores" } output_map { key: "label" value: "LABEL" }
          }
        }
    """
    assert derived(folder, STEPS, SCALE, CLASSIFY, TOP) == read_config(expected, "expected")


def test_the_order_in_the_file_does_not_have_to_be_the_order_of_the_data(folder: Path) -> None:
    lines = STEPS.strip().splitlines()
    config = derived(folder, "\n".join(reversed(lines)), TOP, CLASSIFY, SCALE)
    assert [tensor.name for tensor in config.input] == ["IMAGE"]
    assert {tensor.name for tensor in config.output} == {"LABEL", "FEATURES"}


def test_a_tensor_may_be_read_twice_and_its_dims_are_the_narrower(folder: Path) -> None:
    wide, narrow = tensors("TYPE_FP32 dims: [-1, 8]"), tensors("TYPE_FP32 dims: [4, -1]")
    steps = (
        "- {model: a, inputs: {x: X}, outputs: {y: Y}}\n- {model: b, model_version: 3, inputs: {x: X}, outputs: {y: Z}}"
    )
    config = derived(folder, steps, wide, narrow)
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("X", [4, 8])]
    assert [step.model_version for step in config.ensemble_scheduling.step] == [-1, 3]


def test_the_block_of_an_ensemble(folder: Path) -> None:
    block = "{max_batch_size: 2, input: [{name: IMAGE, dims: [3, 64, 64]}], version_policy: {all: {}}}"
    config = derived(folder, STEPS, SCALE, CLASSIFY, TOP, block=block)
    assert config.max_batch_size == 2
    assert list(config.input[0].dims) == [3, 64, 64]
    assert config.version_policy.HasField("all")


A = "- {model: a, inputs: {x: X}, outputs: {y: T}}\n"
B = "- {model: b, inputs: {x: T}, outputs: {y: Y}}\n"


def tensors(x: str = "TYPE_FP32 dims: 4", y: str = "TYPE_FP32 dims: 4", batch: int = 8) -> str:
    return f'max_batch_size: {batch} input {{ name: "x" data_type: {x} }} output {{ name: "y" data_type: {y} }}'


PLAIN = tensors()

# (steps, the configs of their models, where the complaint points, what it says)
BROKEN = {
    "an unknown input": (
        A.replace("x:", "xx:") + B,
        [PLAIN, PLAIN],
        "4:29",
        "model 'a' has no input 'xx'; did you mean 'x'?",
    ),
    "an unknown output": (
        A.replace("y:", "z:") + B,
        [PLAIN, PLAIN],
        "4:46",
        "model 'a' has no output 'z'; available: y",
    ),
    "an input for an output": (
        A + B.replace("y:", "x:"),
        [PLAIN, PLAIN],
        "5:46",
        "model 'b' has no output 'x'; available: y",
    ),
    "a model without tensors": (A, ["max_batch_size: 1"], "4:29", "model 'a' has no input 'x'; none is available"),
    "a number for text": (
        A + B,
        [PLAIN, tensors(x="TYPE_STRING dims: 4")],
        "5:29",
        "tensor 'T' is TYPE_FP32 at a.y and TYPE_STRING at b.x; a Python model between them can convert it",
    ),
    "other dims": (
        A + B,
        [PLAIN, tensors(x="TYPE_FP32 dims: 5")],
        "5:29",
        "tensor 'T' has the dims [4] at a.y and the dims [5] at b.x",
    ),
    "another rank": (
        A + B,
        [PLAIN, tensors(x="TYPE_FP32 dims: [4, 1]")],
        "5:29",
        "tensor 'T' has the dims [4] at a.y and the dims [4, 1] at b.x",
    ),
    "dims that contradict a third": (
        A.replace("y: T", "y: Y")
        + A.replace("a,", "b,").replace("y: T", "y: Z")
        + A.replace("a,", "c,").replace("y: T", "y: W"),
        [tensors(x="TYPE_FP32 dims: -1"), PLAIN, tensors(x="TYPE_FP32 dims: 5")],
        "6:29",
        "tensor 'X' has the dims [4] at a.x and the dims [5] at c.x",
    ),
    "two writers": (
        A + B.replace("y: Y", "y: T"),
        [PLAIN, PLAIN],
        "5:46",
        "tensor 'T' is already written by step 1",
    ),
    "a step that waits for itself": (
        A.replace("x: X", "x: T"),
        [PLAIN],
        "4:9",
        "step 'a' waits for its own output: the steps form a cycle",
    ),
    "steps that wait for each other": (
        A.replace("x: X", "x: Y") + B,
        [PLAIN, PLAIN],
        "4:9",
        "step 'a' waits for its own output: the steps form a cycle",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_ensemble_is_one_sentence_with_its_place(folder: Path, case: str) -> None:
    steps, configs, place, words = BROKEN[case]
    message = refused_ensemble(folder, steps, *configs)
    assert message.startswith(f"trtkit.yaml:{place}: ")
    assert words in message


def test_an_ensemble_cannot_batch_more_than_its_steps(folder: Path) -> None:
    message = refused_ensemble(folder, A + B, PLAIN, tensors(batch=4), block="{max_batch_size: 5}")
    assert message == "trtkit.yaml:6:14: max_batch_size is 5; the steps of 'e' take at most 4"


def batch_and_dims(config: ModelConfig) -> tuple[int, list[int], list[int]]:
    return config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)


def test_steps_that_do_not_batch_make_an_ensemble_that_does_not(folder: Path) -> None:
    config = derived(folder, A + B, tensors(batch=0), tensors(batch=0))
    assert batch_and_dims(config) == (0, [4], [4])


def test_a_step_of_whole_batches_keeps_an_ensemble_batching(folder: Path) -> None:
    whole = tensors("TYPE_FP32 dims: [-1, 4]", "TYPE_FP32 dims: [-1, 4]", batch=0)
    assert batch_and_dims(derived(folder, A + B, whole, PLAIN)) == (8, [4], [4])
    assert batch_and_dims(derived(folder, A + B, PLAIN, whole)) == (8, [4], [4])


def test_a_step_of_single_rows_makes_an_ensemble_of_single_rows(folder: Path) -> None:
    single = tensors(batch=0)
    assert batch_and_dims(derived(folder, A + B, single, PLAIN)) == (0, [4], [4])
    assert batch_and_dims(derived(folder, A + B, PLAIN, single)) == (0, [4], [4])


def test_a_step_of_another_batch_makes_an_ensemble_of_that_batch(folder: Path) -> None:
    three = tensors("TYPE_FP32 dims: [3, 4]", "TYPE_FP32 dims: [3, 4]", batch=0)
    config = derived(folder, A + B, three, PLAIN)
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [3, 4]


@pytest.mark.triton
def test_the_server_takes_ensembles_of_steps_that_batch_differently(folder: Path) -> None:
    repository = folder / "repository"
    first = {
        "rows": (PLAIN, (3, 4)),
        "whole_batches": (tensors("TYPE_FP32 dims: [-1, 4]", "TYPE_FP32 dims: [-1, 4]", batch=0), (3, 4)),
        "single_rows": (tensors(batch=0), (4,)),
    }
    for model, config in {"b": PLAIN, **{name: config for name, (config, _) in first.items()}}.items():
        (repository / model / "1").mkdir(parents=True)
        (repository / model / "1" / "model.py").write_text(ECHO_MODEL)
        (repository / model / "config.pbtxt").write_text(f'name: "{model}" backend: "python" {config}')
    for model, (config, _) in first.items():
        (repository / f"{model}_then_b" / "1").mkdir(parents=True)
        made = derived(folder, A.replace("model: a", f"model: {model}") + B, config, PLAIN, name=f"{model}_then_b")
        (repository / made.name / "config.pbtxt").write_text(to_text(made))
    with serve(repository) as server, connect(server.http_url, "http") as client:
        for model, (_, shape) in first.items():
            array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            served = client.infer(f"{model}_then_b", {"X": array})["Y"]
            assert served.shape == shape, model
            assert np.array_equal(served, array), model


# -- text


def test_what_is_switched_off_is_written_as_off(folder: Path) -> None:
    block = "response_cache: {enable: false}\nmodel_transaction_policy: {decoupled: false}\ndynamic_batching: {}"
    text = to_text(made(folder, block))
    for line in ("response_cache { enable: false }", "model_transaction_policy { decoupled: false }"):
        assert f"{line}\n" in text
    assert "dynamic_batching { }\n" in text


def test_a_generated_text_says_so_and_an_edited_one_is_noticed(folder: Path) -> None:
    text = to_text(made(folder))
    first, rest = text.split("\n", 1)
    assert first.startswith("# Generated by trtkit from trtkit.yaml;")
    assert is_generated(text)
    for edited in (
        text + "\n",
        text.replace("max_batch_size: 8", "max_batch_size: 9"),
        rest,
        "\n" + text,
        text.replace("# Generated", "# generated"),
        f"{first}0\n{rest}",
        f"{first}\n",
        "",
    ):
        assert edited != text
        assert not is_generated(edited)


def test_a_text_is_read_with_comments_and_other_spellings() -> None:
    config = read_config('# mine\nname: "m"; input [{ name: "x" data_type: TYPE_FP32 dims: [1, 2] }]', "f")
    assert (config.name, list(config.input[0].dims)) == ("m", [1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: m", r"^m/config\.pbtxt:1:7"),
        (
            'name: "m"\nmax_batchsize: 8',
            r'^m/config\.pbtxt:2:1 : Message type "inference.ModelConfig" has no field named',
        ),
        ("max_batch_size: 99999999999", r"^m/config\.pbtxt:1:17"),
        ("input { name: 'x'", r"^m/config\.pbtxt:1:"),
        (
            "input { data_type: FP32 }",
            r'^m/config\.pbtxt:1:20 : .*Enum type "inference.DataType" has no value named FP32',
        ),
    ],
)
def test_a_text_that_is_no_config_is_one_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(text, "m/config.pbtxt")
    assert str(caught.value).isprintable()


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40) | st.text("nameiput {}[]:<>\"'\\#0-9\n", max_size=40))
def test_any_text_is_a_config_or_one_sentence(text: str) -> None:
    try:
        message = "ok"
        read_config(text, "f")
    except ConfigError as exc:
        message = str(exc)
    assert message == "ok" or message.startswith("f:")


names = st.text(min_size=1, max_size=8)
dims = st.lists(st.integers(-1, 2**40), min_size=1, max_size=3)
types = st.sampled_from(DataType.values())


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """ModelConfigs with fields of every shape: numbers, text, words, lists, maps, messages, one-ofs."""
    config = ModelConfig(name=draw(st.text(max_size=8)), max_batch_size=draw(st.integers(-(2**31), 2**31 - 1)))
    for _ in range(draw(st.integers(0, 2))):
        config.input.add(name=draw(names), data_type=draw(types), dims=draw(dims), optional=draw(st.booleans()))
        output = config.output.add(name=draw(names), data_type=draw(types), dims=draw(dims))
        if draw(st.booleans()):
            output.reshape.shape.extend(draw(st.lists(st.integers(-1, 5), max_size=2)))
            output.reshape.SetInParent()
    for key, value in draw(st.dictionaries(names, st.text(max_size=8), max_size=2)).items():
        config.parameters[key].string_value = value
    config.metric_tags.update(draw(st.dictionaries(names, st.text(max_size=8), max_size=2)))
    if draw(st.booleans()):
        config.dynamic_batching.max_queue_delay_microseconds = draw(st.integers(0, 2**64 - 1))
        config.dynamic_batching.SetInParent()
    elif draw(st.booleans()):
        config.sequence_batching.direct.minimum_slot_utilization = draw(st.floats(0, 1, width=32))
    config.instance_group.add(count=draw(st.integers(0, 9)), gpus=draw(st.lists(st.integers(0, 7), max_size=2)))
    return config


@settings(deadline=None, max_examples=200)
@given(configs())
def test_a_config_is_read_back_as_it_was(config: ModelConfig) -> None:
    text = to_text(config)
    assert read_config(text, "f") == config
    assert is_generated(text)
    assert to_text(read_config(text, "f")) == text
