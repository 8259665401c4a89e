# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface of an ONNX file without its weights: as onnx reads it, and no crash whatever the bytes are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_models
from trtkit.lint.onnx_header import ELEMENT_TYPES, OnnxHeader, OnnxHeaderError, Tensor, read_header

INFO = helper.make_tensor_value_info


def header_of(data: bytes) -> OnnxHeader:
    return read_header(io.BytesIO(data), len(data))


def as_onnx_says(model: ModelProto, size: int) -> OnnxHeader:
    """The header by way of the onnx package."""
    graph = model.graph
    stored = (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))
    with_value = {text(tensor.name) for tensor in stored}
    inputs = [tensor_of(info) for info in graph.input]
    external: dict[str, int] = {}
    for tensor in stored:
        entries = {text(entry.key): text(entry.value) for entry in tensor.external_data}
        if tensor.data_location == TensorProto.EXTERNAL and "location" in entries:
            needed = sum(int(entries[key]) for key in ("offset", "length") if entries.get(key, "").isdecimal())
            external[entries["location"]] = max(needed, external.get(entries["location"], 0))
    return OnnxHeader(
        size=size,
        ir_version=model.ir_version,
        opsets={"" if o.domain == "ai.onnx" else text(o.domain): o.version for o in model.opset_import},
        inputs=tuple(tensor for tensor in inputs if tensor.name not in with_value),
        initializers=tuple(tensor for tensor in inputs if tensor.name in with_value),
        outputs=tuple(tensor_of(info) for info in graph.output),
        external_data=external,
    )


def text(value: str | bytes) -> str:
    """A name as the header writes it; the messages have bytes where they are not UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def tensor_of(info: onnx.ValueInfoProto) -> Tensor:
    which = info.type.WhichOneof("value")
    if which is None:
        return Tensor(text(info.name), "untyped", None, None, None)
    if which != "tensor_type":
        return Tensor(text(info.name), which.removesuffix("_type"), None, None, None)
    kind = info.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        shape = tuple(
            (dim.dim_value if dim.dim_value >= 0 else None)
            if dim.HasField("dim_value")
            else text(dim.dim_param) or None
            for dim in kind.shape.dim
        )
    if not kind.elem_type:
        return Tensor(text(info.name), "untyped", None, None, shape)
    names = {number: name for name, number in TensorProto.DataType.items()}
    number = kind.elem_type % 2**32
    triton = {code: name for name, (code, _) in onnx_models.TYPES.items()} | {TensorProto.BFLOAT16: "BF16"}
    name = {"BYTES": "STRING"}.get(triton.get(number, ""), triton.get(number))
    return Tensor(
        text(info.name), "tensor", names.get(number, f"TYPE {number}"), None if name is None else f"TYPE_{name}", shape
    )


def rich_model() -> ModelProto:
    """Everything at once: each kind of type, unknown rank, external and sparse weights, a function, opsets."""
    tensor_type = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n"])
    inputs = [
        INFO("image", TensorProto.FLOAT16, ["batch", 3, None, 0]),
        INFO("scalar", TensorProto.BFLOAT16, []),
        INFO("any_rank", TensorProto.STRING, None),
        INFO("weight", TensorProto.FLOAT, [2, 2]),
        INFO("sparse", TensorProto.FLOAT, [4]),
        INFO("four_bits", TensorProto.INT4, [-1]),
        helper.make_value_info("several", helper.make_sequence_type_proto(tensor_type)),
        helper.make_value_info("perhaps", helper.make_optional_type_proto(tensor_type)),
        helper.make_value_info("table", helper.make_map_type_proto(TensorProto.INT64, tensor_type)),
    ]
    outputs = [INFO("y", TensorProto.INT64, ["batch"]), onnx.ValueInfoProto(name="untyped")]
    weight = numpy_helper.from_array(np.zeros((2, 2), np.float32), "weight")
    values, indices = (
        numpy_helper.from_array(np.ones(1, kind), name) for kind, name in ((np.float32, "sparse"), (np.int64, ""))
    )
    graph = helper.make_graph(
        [helper.make_node("Shape", ["image"], ["y"])], "g", inputs, outputs, [weight],
        sparse_initializer=[helper.make_sparse_tensor(values, indices, [4])],
    )  # fmt: skip
    outside = graph.initializer.add(name="outside", data_type=TensorProto.FLOAT, dims=[3])
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "4096"), ("length", "12")):
        outside.external_data.add(key=key, value=value)
    opsets = [helper.make_opsetid("ai.onnx", 21), helper.make_opsetid("com.microsoft", 1)]
    function = helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[function])


MODELS: list[Callable[[], ModelProto]] = [
    onnx_models.matmul_dynamic_batch,
    onnx_models.two_outputs,
    onnx_models.two_inputs_of_different_types,
    onnx_models.rows_in_run,
    lambda: onnx_models.identity(TensorProto.STRING, None),
    rich_model,
]
BYTES = [make().SerializeToString() for make in MODELS]


@pytest.mark.parametrize("data", BYTES)
def test_it_is_what_onnx_says(data: bytes) -> None:
    assert header_of(data) == as_onnx_says(onnx.load_from_string(data), len(data))


def test_what_a_rich_model_says() -> None:
    header = header_of(rich_model().SerializeToString())
    assert [tensor.name for tensor in header.initializers] == ["weight", "sparse"]
    by_name = {tensor.name: tensor for tensor in header.inputs}
    assert by_name["image"] == Tensor("image", "tensor", "FLOAT16", "TYPE_FP16", ("batch", 3, None, 0))
    assert by_name["scalar"].shape == ()
    assert by_name["any_rank"] == Tensor("any_rank", "tensor", "STRING", "TYPE_STRING", None)
    assert by_name["four_bits"] == Tensor("four_bits", "tensor", "INT4", None, (None,))
    assert [by_name[name].kind for name in ("several", "perhaps", "table")] == ["sequence", "optional", "map"]
    assert header.outputs[1].kind == "untyped"
    assert header.opsets == {"": 21, "com.microsoft": 1}
    assert header.external_data == {"weights.bin": 4108}


def test_the_element_types_are_those_of_onnx() -> None:
    known = {number: name for name, number in TensorProto.DataType.items()}
    assert dict(enumerate(ELEMENT_TYPES)).items() >= known.items()


def test_a_name_that_is_not_utf8() -> None:
    data = onnx_models.identity(TensorProto.FLOAT, [1]).SerializeToString()
    changed = data.replace(b"\x0a\x01x\x12", b"\x0a\x01\xff\x12")
    assert changed != data
    assert header_of(changed).inputs[0].name == "\\xff"


class Counting(io.RawIOBase):
    """A file of zeros with something in between, which counts what is read from it."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts, self.at, self.was_read = parts, 0, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET
        self.at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        found = bytearray(size)
        for start, part in self.parts.items():
            for offset, byte in enumerate(part, start - self.at):
                if 0 <= offset < size:
                    found[offset] = byte
        self.at += size
        self.was_read += size
        return bytes(found)


def number(value: int) -> bytes:
    """A varint."""
    parts = []
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def field(tag: int, value: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(value)) + value


def test_weights_of_gigabytes_are_not_read() -> None:
    weight_bytes, count = 700_000_000, 4
    tensor_start = field(8, b"w") + number(9 << 3 | 2) + number(weight_bytes)
    initializer_start = number(5 << 3 | 2) + number(len(tensor_start) + weight_bytes) + tensor_start
    y = field(12, INFO("y", TensorProto.FLOAT, ["b"]).SerializeToString())
    graph_bytes = count * (len(initializer_start) + weight_bytes) + len(y)
    model_start = number(8) + number(10) + number(7 << 3 | 2) + number(graph_bytes)
    parts, at = {0: model_start}, len(model_start)
    for _ in range(count):
        parts[at] = initializer_start
        at += len(initializer_start) + weight_bytes
    parts[at] = y
    file = Counting(parts)
    header = read_header(file, at + len(y))  # type: ignore[arg-type]
    assert at > 2**31
    assert [tensor.name for tensor in header.outputs] == ["y"]
    assert file.was_read < 300_000


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "there is no graph up to its end at byte 0", id="empty"),
        pytest.param(b"\x08\x0a", "there is no graph up to its end at byte 2", id="version_only"),
        pytest.param(b"import onnx\n", "wire type", id="text"),
        pytest.param(BYTES[0][:200], "and the file at byte 200", id="cut"),
        pytest.param(BYTES[0][:1], "ends in the middle of a field, at byte 1", id="cut_in_a_field"),
        pytest.param(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "and the file at byte 10", id="huge_length"),
        pytest.param(b"\x3a" + b"\xff" * 20, "too long for protobuf", id="endless_number"),
        pytest.param(b"\x00\x01", "has the number 0", id="field_zero"),
        pytest.param(field(7, b"\x5a\x05ab") + b"\x08\x01" * 4, "the message it is in", id="longer_than_its_message"),
        pytest.param(b"\x0b" * 500, "wire type 3", id="groups_within_groups"),
        pytest.param(b"\x0b\x08\x01", "has no end", id="group_without_end"),
        pytest.param(b"\x0c", "wire type 4", id="end_without_group"),
        pytest.param(field(7, field(11, field(1, b"x" * 70_000))), "has 70000 bytes", id="long_name"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "not an ONNX model", id="picture"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, says: str) -> None:
    with pytest.raises(OnnxHeaderError) as caught:
        header_of(data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_millions_of_fields_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtkit.lint.protobuf_wire._MOST_FIELDS", 10_000)
    with pytest.raises(OnnxHeaderError, match="too many for a model"):
        header_of(b"\x08\x01" * 10_001)


def test_deep_nesting_of_types() -> None:
    deep = b""
    for _ in range(5000):
        deep = field(4, field(1, deep))
    header = header_of(field(7, field(11, field(1, b"x") + field(2, deep))))
    assert header.inputs[0].kind == "sequence"


def agrees(data: bytes) -> None:
    """Where onnx reads the bytes so does the header, and finds the same; elsewhere only one error is allowed."""
    try:
        model = onnx.load_from_string(data)
    except Exception:  # whatever protobuf raises
        model = None
    try:
        header = header_of(data)
    except OnnxHeaderError:
        assert model is None or not model.HasField("graph")
        return
    if model is not None:
        assert header == as_onnx_says(model, len(data))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400))
@example(b"\x3a\x00")
def test_any_bytes(data: bytes) -> None:
    agrees(data)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(BYTES), st.data())
def test_changed_models(data: bytes, more: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(more.draw(st.integers(1, 4), "changes")):
        at = more.draw(st.integers(0, len(changed)), "at")
        how = more.draw(st.sampled_from(["replace", "insert", "remove", "double", "cut"]), "how")
        length = more.draw(st.integers(1, 8), "length")
        if how == "replace":
            changed[at : at + length] = more.draw(st.binary(min_size=length, max_size=length), "bytes")
        elif how == "insert":
            changed[at:at] = more.draw(st.binary(max_size=length), "bytes")
        elif how == "remove":
            del changed[at : at + length]
        elif how == "cut":
            del changed[at:]
        else:
            changed[at:at] = changed[at : at + 8 * length]
    agrees(bytes(changed))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(BYTES), min_size=1, max_size=3))
def test_models_behind_each_other_are_merged(parts: list[bytes]) -> None:
    agrees(b"".join(parts))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(
        st.sampled_from(sorted(TensorProto.DataType.values())[1:]),
        st.none() | st.lists(st.none() | st.integers(0, 2**40) | st.text("nβ", max_size=3), max_size=5),
    ))
)  # fmt: skip
def test_any_interface(tensors: dict[str, tuple[int, list[int | str | None] | None]]) -> None:
    infos = [INFO(name, kind, shape) for name, (kind, shape) in tensors.items()]
    model = helper.make_model(helper.make_graph([], "g", infos, infos))
    data = model.SerializeToString()
    assert header_of(data) == as_onnx_says(model, len(data))


class Slow(io.BytesIO):
    """A file that gives fewer bytes than were asked for: it was cut after its size was taken."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size)[:50]


def test_a_file_that_shrinks_while_it_is_read() -> None:
    stream: BinaryIO = Slow(BYTES[0])
    with pytest.raises(OnnxHeaderError):
        read_header(stream, len(BYTES[0]) + 100)
