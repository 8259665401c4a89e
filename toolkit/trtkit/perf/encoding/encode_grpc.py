# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A request as a serialised gRPC message: built once, sent many times, patched for sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trtkit.dtypes import by_name
from trtkit.errors import DataError
from trtkit.perf.data.pool import Parameter, Request
from trtkit.perf.encoding.parameters import checked_parameters, checked_sequence_id
from trtkit.perf.encoding.placement import Placement, Region, output_names
from trtkit.perf.encoding.tensors import datatype_of, tensor_bytes


def grpc_request(request: Request, datatypes: Mapping[str, str], placement: Placement | None = None) -> bytes:
    """A serialised ``ModelInferRequest``; the arguments are those of `encode.http_request`.

    Raises:
        DataError: an input has no data type, or the request is above protobuf's 2 GiB.
        ProjectError: parameters that cannot be sent.
    """
    from tritonclient.grpc import service_pb2 as messages

    message = messages.ModelInferRequest(model_name=request.model, model_version=request.version)
    for name, value in checked_parameters(request.parameters).items():
        _set_parameter(message.parameters[name], value)
    for name, array in request.inputs.items():
        datatype = by_name(datatype_of(name, datatypes)).name
        tensor = message.inputs.add(name=name, datatype=datatype, shape=list(array.shape))
        if placement and name in placement.inputs:
            _place(tensor, placement.inputs[name])
        else:
            message.raw_input_contents.append(tensor_bytes(array))
    placed = placement.outputs if placement else {}
    for name in output_names(request.outputs, placement) or ():
        output = message.outputs.add(name=name)
        if name in placed:
            _place(output, placed[name])
    return _serialized(message)


def _serialized(message: Any) -> bytes:
    size = message.ByteSize()
    if size >= 2**31:
        raise DataError(f"a request of {size} bytes is above the 2 GiB of gRPC's messages; use shared memory, or HTTP")
    return bytes(message.SerializeToString())


def _set_parameter(parameter: Any, value: Parameter) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = _signed(value)  # the server refuses uint64_param for its own words
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def _signed(value: int) -> int:
    """A 64-bit integer with the same bits; the server takes ids from int64 fields as unsigned ones."""
    return value - 2**64 if value >= 2**63 else value


def _place(tensor: Any, region: Region) -> None:
    for name, value in region.parameters().items():
        _set_parameter(tensor.parameters[name], value)


def grpc_sequenced(message: bytes, sequence_id: int | str, start: bool, end: bool) -> bytes:
    """A serialised request as one of a sequence, by entries of its map of parameters at its end.

    Of entries with one key the last one counts (https://protobuf.dev/programming-guides/encoding/#maps), so a
    message may be patched again.

    Raises:
        ProjectError: an id that Triton does not take.
    """
    number = checked_sequence_id(sequence_id)
    kind = b"\x1a" + _sized(number.encode()) if isinstance(number, str) else b"\x10" + _varint(number)
    return b"".join([message, _entry(b"sequence_id", kind), _FLAGS[bool(start), bool(end)]])


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _entry(name: bytes, value: bytes) -> bytes:
    """Field 4 of ModelInferRequest, ``map<string, InferParameter> parameters``, with one entry."""
    return b"\x22" + _sized(b"\x0a" + _sized(name) + b"\x12" + _sized(value))


# field 1 of InferParameter is bool_param, 2 int64_param, 3 string_param
_FLAGS = {
    (start, end): _entry(b"sequence_start", b"\x08" + bytes([start])) + _entry(b"sequence_end", b"\x08" + bytes([end]))
    for start in (False, True)
    for end in (False, True)
}
