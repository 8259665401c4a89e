# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines in scripts, images and ConfigMaps: names, backends, and calls that are gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import WARNING, found_at, rule
from trtkit.deploy.manifests.sources import Source
from trtkit.lint.model import Found

_ENGINE = re.compile(r"/\d+/([\w.-]+\.(?:engine|trt))\b")
_NAMED = re.compile(r"default_model_filename\s*:\s*[\"']([^\"']+)[\"']")
_PLATFORM = re.compile(r"\b(platform|backend)\s*:\s*[\"'](\w+)[\"']")
_FILES = {
    "tensorrt_plan": (".plan", ".engine", ".trt"), "tensorrt": (".plan", ".engine", ".trt"),
    "onnxruntime_onnx": (".onnx",), "onnxruntime": (".onnx",), "pytorch_libtorch": (".pt", ".pt2"),
}  # fmt: skip
_VERSIONED = re.compile(r"/\d+/([\w.-]+\.(onnx|plan|engine|trt|pt))\b")
_TEXTS = ("yaml", "script", "dockerfile", "python", "markdown")


@rule("ENG001", "workspace-size-is-gone")
def workspace_size(files: FileSet) -> Iterator[Found]:
    """A script builds an engine with max_workspace_size.

    It was deprecated in TensorRT 8.4 and is not there in TensorRT 10: AttributeError, or, on a config object that takes
    any attribute, no effect. Set the limit of the workspace's memory pool.

    Wrong:
        config.max_workspace_size = 1 << 30

    Right:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    """
    for source in files.of_type("python"):
        for node in _nodes(source):
            old = isinstance(node, ast.Attribute) and node.attr == "max_workspace_size"
            if old and isinstance(node, ast.Attribute):
                says = "TensorRT 10 has no max_workspace_size; use set_memory_pool_limit(MemoryPoolType.WORKSPACE, …)"
                line, column = node.end_lineno or node.lineno, (node.end_col_offset or 0) - len(node.attr) + 1
                yield found_at(source.file, line, says, column)


def _nodes(source: Source) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(source.text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return


@rule("ENG002", "engine-has-the-wrong-name")
def engine_name(files: FileSet) -> Iterator[Found]:
    """An engine is put into a version folder under a name that Triton does not look for.

    The TensorRT backend opens model.plan, unless default_model_filename in config.pbtxt names another file.

    Wrong:
        trtexec --onnx=digits.onnx --saveEngine=models/digits/1/model.engine

    Right:
        trtexec --onnx=digits.onnx --saveEngine=models/digits/1/model.plan
    """
    named = {name for source in files.of_type(*_TEXTS) for name in _NAMED.findall(source.text)}
    for source in files.of_type("yaml", "script", "dockerfile", "python"):
        for number, line in _code(source):
            for match in _ENGINE.finditer(line):
                if match[1] not in named:
                    says = f"Triton looks for model.plan; {match[1]} needs default_model_filename in config.pbtxt"
                    yield found_at(source.file, number, says, match.start(1) + 1)


@rule("ENG003", "file-of-another-backend")
def file_of_another_backend(files: FileSet) -> Iterator[Found]:
    """A config names one backend, and the model's file is another one's.

    tensorrt_plan loads engines; an ONNX file needs onnxruntime_onnx. The config may stand in a ConfigMap, a script or a
    Dockerfile, with default_model_filename or with a path of a version folder in the same file.

    Wrong:
        platform: "tensorrt_plan"
        default_model_filename: "model.onnx"

    Right:
        platform: "onnxruntime_onnx"
        default_model_filename: "model.onnx"
    """
    for source in files.of_type("yaml", "script", "dockerfile"):
        platforms = {match[2] for _, line in _code(source) for match in _PLATFORM.finditer(line) if match[2] in _FILES}
        if len(platforms) != 1:
            continue
        (platform,) = platforms
        for number, line in _code(source):
            for match in (*_NAMED.finditer(line), *_VERSIONED.finditer(line)):
                if "." in match[1] and not match[1].endswith(_FILES[platform]):
                    says = (
                        f"the model is of {platform}, which takes {' or '.join(_FILES[platform])} files, not {match[1]}"
                    )
                    yield found_at(source.file, number, says, match.start(1) + 1)


def _code(source: Source) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, without what is only a comment."""
    return ((number, line) for number, line in enumerate(source.lines, 1) if not line.lstrip().startswith("#"))


@rule("ENG004", "no-kernel-image-is-not-the-driver", WARNING)
def no_kernel_image(files: FileSet) -> Iterator[Found]:
    """A note blames the driver for "no kernel image is available for execution on the device".

    The message means that the program was compiled for another compute capability. Build the engine, or choose the
    image, for the GPU's; a newer driver changes nothing.

    Wrong:
        summary: "no kernel image: update the NVIDIA driver"

    Right:
        summary: "no kernel image: built for another compute capability; rebuild the engine on this GPU"
    """
    for source in files.of_type(*_TEXTS):
        for number, line in enumerate(source.lines, 1):
            match = re.search(r"no kernel image", line, flags=re.IGNORECASE)
            if match is None:
                continue
            near = " ".join(source.lines[number - 1 : number + 2])
            blames = re.search(r"driver|驱动", near, flags=re.IGNORECASE)
            knows = re.search(r"compute.?capability|\bsm_?\d\d|\barch|算力|not the driver", near, flags=re.IGNORECASE)
            if blames and not knows:
                says = '"no kernel image" means another compute capability, not the driver; rebuild for this GPU\'s'
                yield found_at(source.file, number, says, match.start() + 1)


RULES = (workspace_size, engine_name, file_of_another_backend, no_kernel_image)
