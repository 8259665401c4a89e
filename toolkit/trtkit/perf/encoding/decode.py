# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's answers as arrays; used after the load or for checking, never where time is measured."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trtkit.dtypes import by_name
from trtkit.errors import DataError, ServerError
from trtkit.numerics import Array
from trtkit.perf.encoding.tensors import byte_size, tensor_from_bytes, tensor_from_values
from trtkit.perf.server.control import error_sentence

Read = Callable[[str, "int | None"], bytes]
"""``read(output, byte_size)``: what an answer wrote to shared memory; all of the output's area for None.

`SharedMemory.output` with its slot is one.
"""

_CHUNK = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


def http_answer(answer: bytes, read: Read | None = None) -> dict[str, Array]:
    """The outputs of an inference over HTTP.

    Args:
        answer: the response's head, an empty line and its body; chunked or not, compressed or not.
        read: for outputs that are in shared memory.

    Returns:
        Read-only arrays by output name; BYTES as `object` arrays of ``bytes``, BF16 as uint16 bit patterns.

    Raises:
        ServerError: the server answered with an error.
        DataError: the answer is no inference response, or an output is in shared memory and `read` is None.
    """
    status, headers, body = _http_parts(answer)
    if status != 200:
        raise ServerError(f"the server answers HTTP {status}: {error_sentence(body)}")
    size = headers.get("inference-header-content-length", str(len(body)))
    if not size.isdigit() or int(size) > len(body):
        raise DataError(f"an answer of {len(body)} bytes says that its JSON has {size} bytes")
    described, binary = _json_object(body[: int(size)]), body[int(size) :]
    outputs, at = {}, 0
    for tensor in described.get("outputs", []):
        count = tensor.get("parameters", {}).get("binary_data_size")
        outputs[tensor["name"]] = _http_tensor(tensor, None if count is None else binary[at : at + count], read)
        at += count or 0
    if at != len(binary):
        raise DataError(f"an answer has {len(binary)} bytes of binary outputs and describes {at}")
    return outputs


def _http_tensor(tensor: Mapping[str, Any], data: bytes | None, read: Read | None) -> Array:
    name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
    if data is not None:
        return tensor_from_bytes(data, datatype, shape)
    if "data" in tensor:
        return tensor_from_values(tensor["data"], datatype, shape)
    return _from_shared_memory(name, datatype, shape, read)


def _from_shared_memory(name: str, datatype: str, shape: list[int], read: Read | None) -> Array:
    """An output whose data are not in the answer: Triton says only its type and shape."""
    if math.prod(shape) == 0:
        return np.empty(tuple(shape), dtype=by_name(datatype).numpy)
    if read is None:
        raise DataError(f"the answer does not carry output '{name}', which is in shared memory")
    return tensor_from_bytes(read(name, byte_size(datatype, shape)), datatype, shape)


def _http_parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and the body without chunks and compression."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    if not separator or not status.startswith("HTTP/1.") or not status[9:12].isdigit():
        raise DataError(f"the answer is not HTTP/1.x; it begins with {answer[:24]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    # chunks may be joined already; neither JSON nor a compressed body begins as a chunk does
    if "chunked" in headers.get("transfer-encoding", "").lower() and _CHUNK.match(body):
        body = _joined(body)
    return int(status[9:12]), headers, _decompressed(body, headers.get("content-encoding", ""))


def _joined(body: bytes) -> bytes:
    """The data of a body's chunks."""
    pieces: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(body[found.end() : found.end() + size])
        at = found.end() + size + 2
    raise DataError("the answer's chunks are cut short")


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "deflate"):
        raise DataError(f"the answer has the Content-Encoding '{encoding}', which nobody asked for")
    try:
        return zlib.decompress(body, wbits=zlib.MAX_WBITS | 32)  # 32: the header says whether it is gzip or zlib
    except zlib.error as exc:
        raise DataError(f"the answer is no {encoding} data: {exc}") from exc


def _json_object(data: bytes) -> dict[str, Any]:
    try:  # the server puts BYTES that are not UTF-8 into its JSON as they are
        value = json.loads(data.decode("utf-8", "surrogateescape"))
    except ValueError as exc:
        raise DataError(f"the answer is not JSON; it begins with {data[:24]!r}") from exc
    if not isinstance(value, dict):
        raise DataError(f"the answer is no JSON object; it begins with {data[:24]!r}")
    return value


def grpc_answer(answer: bytes, read: Read | None = None) -> dict[str, Array]:
    """The outputs of a serialised ``ModelInferResponse``; the rest is as for `http_answer`.

    Raises:
        DataError: the bytes are no such message, or an output is in shared memory and `read` is None.
    """
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2 as messages

    try:
        response = messages.ModelInferResponse.FromString(answer)
    except DecodeError as exc:
        raise DataError(f"the answer is no ModelInferResponse; it begins with {answer[:24]!r}") from exc
    raw = list(response.raw_output_contents)
    if raw and len(raw) != len(response.outputs):
        raise DataError(f"the answer describes {len(response.outputs)} outputs and carries {len(raw)}")
    return {
        tensor.name: _grpc_tensor(tensor, raw[number] if raw else None, read)
        for number, tensor in enumerate(response.outputs)
    }


def _grpc_tensor(tensor: Any, data: bytes | None, read: Read | None) -> Array:
    shape = list(tensor.shape)
    if data:
        return tensor_from_bytes(data, tensor.datatype, shape)
    if values := _typed_contents(tensor):
        return tensor_from_values(values, tensor.datatype, shape)
    return _from_shared_memory(tensor.name, tensor.datatype, shape, read)


def _typed_contents(tensor: Any) -> list[Any]:
    """The elements where another server sends them as typed fields; Triton sends raw bytes."""
    filled = tensor.contents.ListFields()
    values = list(filled[0][1]) if filled else []
    return [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values]
