# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A request as the bytes that go over the wire: built once, sent many times, patched for sequences."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtkit.errors import DataError, ProjectError, nearest
from trtkit.numerics import Array
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.encode_grpc import grpc_request, grpc_sequenced
from trtkit.perf.encoding.parameters import checked_headers, checked_parameters, checked_sequence_id
from trtkit.perf.encoding.placement import Placement, output_names
from trtkit.perf.encoding.tensors import NOT_IN_JSON, datatype_of, tensor_bytes, tensor_values
from trtkit.perf.server.address import Address
from trtkit.perf.server.control import model_path

__all__ = [
    "HttpOptions",
    "generate_stream_request",
    "grpc_request",
    "grpc_sequenced",
    "http_request",
    "http_sequenced",
    "tensor_bytes",
]

FORMATS = ("binary", "json")
COMPRESSIONS = ("gzip", "deflate")

# the beginning of every body that gets a sequence later: one layout, so that patching is one copy
_ROOM = b'{"parameters":{"sequence_id":%b,"sequence_start":%b,"sequence_end":%b'
_ROOM_START = b"\r\n\r\n" + _ROOM.partition(b"%b")[0]
_ID_ROOM = 130  # 128 characters are the longest id that Triton takes, and two quotation marks
_ROOM_SIZE = len(_ROOM % (b" " * _ID_ROOM, b"false", b"false"))


@dataclass(frozen=True)
class HttpOptions:
    """How requests travel over HTTP.

    JSON carries neither FP16 nor BF16, nor BYTES that are not UTF-8, and the server's parser rounds the last bit of
    FP64 inputs (seen with 2.51); binary carries everything.

    Attributes:
        headers: further headers, by name and value; Host, Content-Type and Accept-Encoding replace ours.
        input_format: ``binary`` or ``json``.
        output_format: ``binary`` or ``json``.
        compression: of the request's body: ``gzip``, ``deflate``, or empty for none.
        response_compression: asked for with Accept-Encoding, likewise.
    """

    headers: tuple[tuple[str, str], ...] = ()
    input_format: str = "binary"
    output_format: str = "binary"
    compression: str = ""
    response_compression: str = ""

    def __post_init__(self) -> None:
        for what in ("input_format", "output_format"):
            if (value := getattr(self, what)) not in FORMATS:
                raise ProjectError(f"{what.replace('_', ' ')} '{value}' is unknown; {nearest(value, FORMATS)}")
        for value in (self.compression, self.response_compression):
            if value and value not in COMPRESSIONS:
                raise ProjectError(f"compression '{value}' is unknown; {nearest(value, COMPRESSIONS)}")
        checked_headers(self.headers)


_PLAIN = HttpOptions()


def http_request(
    address: Address,
    request: Request,
    datatypes: Mapping[str, str],
    options: HttpOptions = _PLAIN,
    placement: Placement | None = None,
    sequence: bool = False,
) -> bytes:
    """A whole HTTP/1.1 inference request.

    Args:
        address: the server, for the Host header.
        request: what to ask.
        datatypes: the KServe v2 data type of each input, by name; those of outputs are used when they are there.
        options: how.
        placement: where tensors are in shared memory; those that it does not name travel in the request.
        sequence: leave room for the words of a sequence, which `http_sequenced` fills.

    Raises:
        DataError: JSON cannot carry a tensor, or an input has no data type.
        ProjectError: parameters that cannot be sent, or a sequence in a compressed body.
    """
    if sequence and options.compression:
        raise ProjectError(
            f"sequences cannot be sent with {options.compression}: their ids change from request to request; "
            "leave the compression out"
        )
    inputs, blobs = _http_inputs(request, datatypes, options.input_format, placement)
    parameters: dict[str, Any] = dict(checked_parameters(request.parameters, sequence=sequence))
    question: dict[str, Any] = {"inputs": inputs}
    outputs = _http_outputs(request, datatypes, options.output_format, placement)
    if outputs is not None:
        question["outputs"] = outputs
    elif options.output_format == "binary":
        parameters["binary_data_output"] = True
    header = _body(parameters, question, sequence)
    binary = bool(blobs) or options.input_format == "binary"
    extra = {"Inference-Header-Content-Length": str(len(header))} if binary else {}
    kind = "application/octet-stream" if binary else "application/json"
    body = b"".join([header, *blobs])
    return _message(f"{model_path(request.model, request.version)}/infer", address, kind, extra, body, options)


def _http_inputs(
    request: Request, datatypes: Mapping[str, str], form: str, placement: Placement | None
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The JSON of the inputs, and the binary parts that follow it."""
    described, blobs = [], []
    for name, array in request.inputs.items():
        datatype = datatype_of(name, datatypes)
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if placement and name in placement.inputs:
            tensor["parameters"] = placement.inputs[name].parameters()
        elif form == "json":
            tensor["data"] = tensor_values(name, array, datatype)
        else:
            blobs.append(tensor_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        described.append(tensor)
    return described, blobs


def _http_outputs(
    request: Request, datatypes: Mapping[str, str], form: str, placement: Placement | None
) -> list[dict[str, Any]] | None:
    """The JSON of the outputs to return; None to leave the choice to the server, which returns all."""
    names = output_names(request.outputs, placement)
    if names is None:
        return None
    placed = placement.outputs if placement else {}
    for name in names:
        if form == "json" and name not in placed and datatypes.get(name) in NOT_IN_JSON:
            raise DataError(
                f"output '{name}' is {datatypes[name]}, which JSON cannot carry; ask for outputs as binary, "
                "or only for others"
            )
    return [
        {"name": name, "parameters": placed[name].parameters() if name in placed else {"binary_data": form == "binary"}}
        for name in names
    ]


def _body(parameters: Mapping[str, Any], question: Mapping[str, Any], sequence: bool) -> bytes:
    """The JSON object, with the room for a sequence at its very beginning."""
    rest = {"parameters": parameters, **question} if parameters else question
    if not sequence:
        return _json(rest)
    more = b"," + _json(parameters)[1:] if parameters else b"}"
    return _room(b"0", False, False) + more + b"," + _json(question)[1:]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _room(sequence_id: bytes, start: bool, end: bool) -> bytes:
    words = [b"true " if word else b"false" for word in (start, end)]
    return _ROOM % (sequence_id.ljust(_ID_ROOM), *words)


def http_sequenced(message: bytes, sequence_id: int | str, start: bool, end: bool) -> bytes:
    """A request of `http_request` with ``sequence=True`` as one of a sequence; its length stays the same.

    Args:
        message: with the room, filled before or not.
        sequence_id: an integer from 1 to 2^64 - 1, or up to 128 bytes of text.
        start: whether it is the sequence's first request.
        end: whether it is its last.

    Raises:
        ProjectError: an id that Triton does not take.
        ValueError: the message has no room.
    """
    checked = checked_sequence_id(sequence_id)
    number = b"%d" % checked if isinstance(checked, int) else _json(checked)
    if len(number) > _ID_ROOM:
        raise ProjectError(f"sequence id {sequence_id!r} takes {len(number)} bytes in JSON, more than {_ID_ROOM}")
    at = message.index(_ROOM_START) + 4
    return b"".join([message[:at], _room(number, start, end), message[at + _ROOM_SIZE :]])


def _message(
    path: str, address: Address, kind: str, extra: Mapping[str, str], body: bytes, options: HttpOptions
) -> bytes:
    users = checked_headers(options.headers)
    headers = {"Host": str(address), "Content-Type": kind}
    if options.response_compression:
        headers["Accept-Encoding"] = options.response_compression
    taken = {name.lower() for name, _ in users}
    headers = {name: value for name, value in headers.items() if name.lower() not in taken} | dict(extra)
    if options.compression:
        headers["Content-Encoding"] = options.compression
        # deflate is the zlib format in HTTP: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.2
        body = gzip.compress(body, mtime=0) if options.compression == "gzip" else zlib.compress(body)
    headers["Content-Length"] = str(len(body))
    lines = [f"{name}: {value}\r\n" for name, value in (*headers.items(), *users)]
    head = f"POST {path} HTTP/1.1\r\n{''.join(lines)}"
    return f"{head}\r\n".encode("ascii") + body


def generate_stream_request(address: Address, request: Request, options: HttpOptions = _PLAIN) -> bytes:
    """A request of Triton's generate extension, whose answer is a stream of server-sent events.

    The body is one JSON object: each input as a number, a string or a flat list, and the parameters in
    ``parameters``. The server knows ``priority``, ``timeout`` and sequences nowhere here: it hands them to the model.

    Args:
        address: the server, for the Host header.
        request: of one sample; the server answers with all outputs, whatever `outputs` says.
        options: its headers only; the input has to be JSON.

    Raises:
        DataError: more than one sample, more than one axis, or elements that JSON cannot carry.
        ProjectError: a compressed body, which the extension does not take, or parameters that cannot be sent.
    """
    if options.compression:
        raise ProjectError(f"generate_stream takes no compressed request; leave {options.compression} out")
    body: dict[str, Any] = {name: _flat_input(name, array) for name, array in request.inputs.items()}
    if request.parameters:
        body["parameters"] = checked_parameters(request.parameters)
    path = f"{model_path(request.model, request.version)}/generate_stream"
    return _message(path, address, "application/json", {}, _json(body), options)


def _flat_input(name: str, array: Array) -> Any:
    axes = [size for size in array.shape if size != 1]
    if len(axes) > 1 or (axes and array.ndim > 1 and array.shape[-1] != axes[0]):
        raise DataError(
            f"generate_stream carries one sample with one axis a request; input '{name}' has the shape "
            f"{list(array.shape)}"
        )
    datatype = "BYTES" if array.dtype.kind == "O" else "FP16" if array.dtype.name == "float16" else "FP32"
    values = tensor_values(name, array, datatype)
    return values[0] if array.size == 1 else values
