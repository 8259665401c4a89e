# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The ONNX file of a model of the onnxruntime backend: whether ONNX Runtime can open it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.onnx_model import inside
from trtkit.lint.rule import rule
from trtkit.preflight import graph_problem, ir_problem
from trtkit.project import Target

_PROTOBUF_LIMIT = 2**31


@rule("ONX001", "not-an-onnx-file", server=True)
def not_an_onnx_file(model: Model) -> Iterator[Found]:
    """The model file is cut, damaged, or something else than an ONNX model.

    ONNX Runtime refuses it with "Protobuf parsing failed" or "No graph was found in the protobuf". An upload that
    was cut short, a pointer of Git LFS and a file of another framework are what it most often is. Only the
    interface is looked at: damage inside of weights or nodes is not seen.

    Wrong:
        1/model.onnx: version https://git-lfs.github.com/spec/v1

    Right:
        1/model.onnx: the model itself (git lfs pull)
    """
    for file in model.onnx.files.values():
        if file.header is None:
            hint = "; it is a pointer of Git LFS, run: git lfs pull" if model.is_pointer(file.path) else ""
            yield model.found_in(file.path, f"onnx runtime error: Protobuf parsing failed: {file.error}{hint}")


@rule("ONX002", "larger-than-two-gigabytes", server=True)
def larger_than_protobuf(model: Model) -> Iterator[Found]:
    """The ONNX file has 2 GiB or more, which no protobuf reader takes.

    Weights of such models stand in files beside the model ("external data").

    Wrong:
        1/model.onnx (3 GB)

    Right:
        1/model.onnx (2 MB)
        1/model.onnx.data (3 GB)
    """
    for path, header in model.onnx.interfaces:
        if header.size >= _PROTOBUF_LIMIT:
            yield model.found_in(
                path,
                f"onnx runtime error: Protobuf parsing failed: the file has {header.size} bytes, and protobuf takes "
                "less than 2 GiB; save the weights as external data",
            )


@rule("ONX003", "no-version-of-the-format", server=True)
def no_version(model: Model) -> Iterator[Found]:
    """The file does not say which operators, or which version of the format, it is written in.

    ONNX Runtime (model.cc) refuses a model without opset_import and one without ir_version.

    Wrong:
        a ModelProto put together by hand, without opset_import

    Right:
        onnx.helper.make_model(graph, opset_imports=[...], ir_version=10)
    """
    for path, header in model.onnx.interfaces:
        if not header.opsets:
            yield model.found_in(
                path,
                "onnx runtime error: Missing opset in the model. All ModelProtos MUST have at least one entry that "
                "specifies which version of the ONNX OperatorSet is being imported",
            )
        if header.ir_version == 0:
            yield model.found_in(path, "onnx runtime error: Missing model IR version")


@rule("ONX004", "external-data-missing", server=True)
def external_data_missing(model: Model) -> Iterator[Found]:
    """A file with weights that the model names is not there.

    Large models keep weights in files of their own, which have to lie beside the model file in the version's folder,
    under the name that the model knows.

    Wrong:
        1/model.onnx (whose weights are in weights.bin)

    Right:
        1/model.onnx
        1/weights.bin
    """
    for file, header in model.onnx.interfaces:
        for location in header.external_data:
            path = inside(file, location)
            if path is not None and model.entry(path) is None:
                yield model.found_in(
                    file,
                    f"onnx runtime error: External data path does not exist: '{location}'; copy the file into the "
                    "folder of the model file, under this name",
                )


@rule("ONX005", "external-data-outside", server=True)
def external_data_outside(model: Model) -> Iterator[Found]:
    """The model looks for weights outside of its own folder.

    ONNX Runtime refuses absolute paths and such that lead out of the model's folder ("External data path escapes model
    directory"); older ones read them, from wherever the server happens to have that path.

    Wrong:
        location: "../weights.bin"

    Right:
        location: "weights.bin"
    """
    for file, header in model.onnx.interfaces:
        for location in header.external_data:
            if inside(file, location) is None:
                yield model.found_in(
                    file,
                    f"onnx runtime error: External data path escapes model directory: '{location}'; save the model "
                    "again with its weights beside it",
                )


@rule("ONX006", "external-data-cut", server=True)
def external_data_cut(model: Model) -> Iterator[Found]:
    """A file with weights is shorter than the model expects.

    It was cut on its way, or belongs to another export of the model.

    Wrong:
        1/weights.bin (4 MB of 10)

    Right:
        1/weights.bin (10 MB)
    """
    for file, header in model.onnx.interfaces:
        for location, needed in header.external_data.items():
            path = inside(file, location)
            entry = model.entry(path) if path is not None else None
            if entry is not None and entry.kind == "file" and entry.size < needed:
                yield model.found_in(
                    file,
                    f"onnx runtime error: External initializer: size to read up to byte {needed} of '{location}', "
                    f"given file_length: {entry.size} are out of bounds; copy the file again",
                )


@rule("ONX007", "not-a-tensor", server=True)
def not_a_tensor(model: Model) -> Iterator[Found]:
    """An input or output of the graph is a sequence, a map, or something else that is no tensor.

    The backend serves tensors only (onnxruntime_utils.cc, InputOutputInitializerInfos). Classifiers of skl2onnx give a
    sequence of maps unless they are converted with zipmap off.

    Wrong:
        convert_sklearn(model, ...)

    Right:
        convert_sklearn(model, ..., options={"zipmap": False})
    """
    for file, header in model.onnx.interfaces:
        for tensor in (*header.inputs, *header.initializers, *header.outputs):
            if tensor.kind not in ("tensor", "untyped"):
                kind = tensor.kind.replace("_", "").upper()
                yield model.found_in(
                    file,
                    f"Unsupported ONNX Type 'ONNX_TYPE_{kind}' for I/O '{tensor.name}', expected 'ONNX_TYPE_TENSOR'.",
                )


@rule("ONX008", "name-twice-in-the-graph", server=True)
def name_twice(model: Model) -> Iterator[Found]:
    """Two inputs of the graph have one name.

    ONNX Runtime refuses the graph.

    Wrong:
        graph (float[N] x, float[N] x) => (float[N] y)

    Right:
        graph (float[N] x) => (float[N] y)
    """
    for file, header in model.onnx.interfaces:
        names = Counter(tensor.name for tensor in (*header.inputs, *header.initializers))
        for name in (name for name, count in names.items() if count > 1):
            yield model.found_in(file, f"onnx runtime error: Duplicate definition-site for ({name}).")


@rule("ONX009", "newer-than-the-image", Severity.ERROR, depends_on_server=True)
def newer_than_the_image(model: Model) -> Iterator[Found]:
    """The server image's ONNX Runtime is older than the model's operators or file format.

    Each ONNX Runtime reads opsets and IR versions up to a limit; which one an image has is in NVIDIA's release notes.
    Without a known image nothing is said.

    Wrong:
        opset 23 for nvcr.io/nvidia/tritonserver:24.10-py3

    Right:
        opset 17 for nvcr.io/nvidia/tritonserver:24.10-py3
    """
    if model.server.image is None:
        return
    target = Target(backend="onnxruntime", image=model.server.image)
    for file, header in model.onnx.interfaces:
        for problem in (
            graph_problem(header.opsets.get(""), "fp32", target),
            ir_problem(header.ir_version, target),
        ):
            if problem:
                yield model.found_in(file, problem)


RULES = (
    not_an_onnx_file, larger_than_protobuf, no_version, external_data_missing, external_data_outside,
    external_data_cut, not_a_tensor, name_twice, newer_than_the_image,
)  # fmt: skip
