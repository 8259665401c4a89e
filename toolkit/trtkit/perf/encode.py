# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A request as the bytes that go over the wire: built once, sent many times."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtkit.numerics import Array
from trtkit.perf.address import Address
from trtkit.perf.control import model_path


def tensor_bytes(array: Array) -> bytes:
    """A tensor in the binary form of the KServe v2 protocol: little endian, row-major.

    Each element of a BYTES tensor (`object` elements) is preceded by its length in four bytes.
    """
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel().tolist())
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def http_request(
    address: Address,
    model: str,
    version: str,
    datatypes: Mapping[str, str],
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None,
) -> bytes:
    """A whole HTTP/1.1 inference request with the binary tensor extension.

    Args:
        address: the server, for the Host header.
        model: the model's name.
        version: the model's version; the server's choice when empty.
        datatypes: the KServe v2 data type of each input, by name.
        inputs: the arrays, in the model's data types.
        outputs: the names of the outputs to return; all of them when None.
    """
    blobs = {name: tensor_bytes(array) for name, array in inputs.items()}
    question: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatypes[name],
                "parameters": {"binary_data_size": len(blobs[name])},
            }
            for name, array in inputs.items()
        ]
    }
    if outputs is None:
        question["parameters"] = {"binary_data_output": True}
    else:
        question["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    header = json.dumps(question, separators=(",", ":")).encode()
    body = b"".join([header, *blobs.values()])
    head = (
        f"POST {model_path(model, version)}/infer HTTP/1.1\r\n"
        f"Host: {address}\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def grpc_request(
    model: str,
    version: str,
    datatypes: Mapping[str, str],
    inputs: Mapping[str, Array],
    outputs: Sequence[str] | None,
) -> bytes:
    """A serialised ``ModelInferRequest``; the arguments are those of `http_request`."""
    from tritonclient.grpc import service_pb2 as messages

    request = messages.ModelInferRequest(model_name=model, model_version=version)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatypes[name], shape=list(array.shape))
        request.raw_input_contents.append(tensor_bytes(array))
    for name in outputs or ():
        request.outputs.add(name=name)
    serialised: bytes = request.SerializeToString()
    return serialised
