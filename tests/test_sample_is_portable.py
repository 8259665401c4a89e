# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample repository uses nothing that NVIDIA's C++ onnxruntime backend lacks: what runs here runs in a container.

trtkit's Python-based backend takes more, so that being served by it shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto

from lint_repositories import findings
from trtkit.config import ModelConfig
from trtkit.lint.finding import Finding, Severity

# the README of onnxruntime_backend, and ModelState and LoadModel in its onnxruntime.cc
PARAMETERS = {
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    "memory.enable_memory_arena_shrinkage",
    "session.use_device_allocator_for_initializers",
    "share_session_between_instances",
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
}
# ConvertFromOnnxDataType in its onnxruntime_utils.cc
TYPES = {
    TensorProto.BOOL,
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.STRING,
}


def config_of(folder: Path) -> ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), ModelConfig())


def onnxruntime_models(repository: Path) -> dict[Path, ModelConfig]:
    configs = {file.parent: config_of(file.parent) for file in sorted(repository.glob("*/config.pbtxt"))}
    return {folder: config for folder, config in configs.items() if config.backend == "onnxruntime"}


def lacking(repository: Path) -> list[Finding]:
    """What `trtkit lint` has against models of the backend, but for advice."""
    found = findings(repository)
    return [each for each in found if each.code.startswith("ONX") and each.severity != Severity.ADVICE]


def test_lint_finds_nothing_that_the_cpp_backend_lacks(built_sample: Path) -> None:
    assert lacking(built_sample / "model_repository") == []


def test_the_sample_keeps_to_the_parameters_and_types_of_the_cpp_backend(built_sample: Path) -> None:
    """The same without lint: lists read out of the backend's source."""
    models = onnxruntime_models(built_sample / "model_repository")
    assert {"digits", "digits_cnn"} <= {folder.name for folder in models}
    for folder, config in models.items():
        assert config.parameters.keys() <= PARAMETERS, folder.name
        files = list(folder.glob("*/model.onnx"))
        assert files, folder.name
        for file in files:
            graph = onnx.load(file, load_external_data=False).graph
            assert {tensor.type.tensor_type.elem_type for tensor in (*graph.input, *graph.output)} <= TYPES, file


def with_parameter(key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = config_of(folder)
        config.parameters[key].string_value = "1"
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))

    return change


def with_bf16(folder: Path) -> None:
    (file,) = folder.glob("*/model.onnx")
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17]> g (bfloat16[N, 64] x) => (bfloat16[N, 64] y) { y = Identity(x) }'
    )
    file.unlink()  # a link into the cache, perhaps
    onnx.save(model, file)
    (folder / "config.pbtxt").write_text('name: "digits" backend: "onnxruntime" max_batch_size: 4\n')


CHANGES = {
    "an_entry_that_only_the_python_backend_passes_on": (with_parameter("session.intra_op.allow_spinning"), "ONX204"),
    "a_misspelt_parameter": (with_parameter("intra_op_thread_cnt"), "ONX204"),
    "a_type_that_only_the_python_backend_serves": (with_bf16, "ONX114"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_the_check_finds_what_the_cpp_backend_lacks(sample: Path, case: str) -> None:
    change, code = CHANGES[case]
    change(sample / "model_repository" / "digits")
    assert code in {found.code for found in lacking(sample / "model_repository")}
