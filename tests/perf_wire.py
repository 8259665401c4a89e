# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models that answer with what they got, and the bytes of requests sent to them by hand."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import numpy as np
from hypothesis import strategies as st

from trtkit.dtypes import DTYPES, by_name
from trtkit.perf.server.address import Address

TYPES = [dtype.name for dtype in DTYPES]
DATATYPES = {f"{side}_{dtype}": dtype for side in "xy" for dtype in TYPES} | {"seen": "BYTES"}

# outputs y_TYPE are the inputs x_TYPE that were given; `seen` is the request's parameters and sequence as JSON
_EVERY_TYPE = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        outputs = [self.copy(tensor) for tensor in request.inputs()]
        seen = {
            "parameters": json.loads(request.parameters()),
            "sequence": [request.correlation_id(), request.flags() & 3],
            "timeout": request.timeout(),
        }
        rows = request.inputs()[0].shape()[0]
        outputs.append(pb_utils.Tensor("seen", np.array([[json.dumps(seen).encode()]] * rows, dtype=object)))
        return pb_utils.InferenceResponse(outputs)

    def copy(self, tensor):
        name = tensor.name().replace("x_", "y_")
        if name == "y_BYTES":
            return pb_utils.Tensor(name, tensor.as_numpy())
        return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
"""

_TOKENS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for token in pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().ravel()[0].split():
                tensor = pb_utils.Tensor("text_output", np.array([[token]], dtype=object))
                seen = pb_utils.Tensor("seen", np.array([[request.parameters().encode()]], dtype=object))
                sender.send(pb_utils.InferenceResponse([tensor, seen]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

_CPU = "instance_group { count: 1 kind: KIND_CPU }\n"


def write_models(repository: Path) -> None:
    """Put `every_type` and the decoupled `tokens` into a repository."""
    tensors = "".join(
        f'input {{ name: "x_{dtype.name}" data_type: {dtype.triton} dims: -1 optional: true }}\n'
        f'output {{ name: "y_{dtype.name}" data_type: {dtype.triton} dims: -1 }}\n'
        for dtype in DTYPES
    )
    seen = 'output { name: "seen" data_type: TYPE_STRING dims: 1 }\n'
    _write(repository, "every_type", f"max_batch_size: 8\n{tensors}{seen}", _EVERY_TYPE)
    text = "".join(f'{side}put {{ name: "text_{side}put" data_type: TYPE_STRING dims: 1 }}\n' for side in ("in", "out"))
    decoupled = "max_batch_size: 4\nmodel_transaction_policy { decoupled: true }\n"
    _write(repository, "tokens", f"{decoupled}{text}{seen}", _TOKENS)


def _write(repository: Path, name: str, config: str, python: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(python)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{config}{_CPU}')


def ask_http(address: Address, message: bytes) -> bytes:
    """The raw response to a raw request."""
    with socket.create_connection(address[:2], timeout=30) as connection:
        connection.sendall(message)
        answer = b""
        while not _complete(answer):
            data = connection.recv(1 << 20)
            assert data, f"the server closed the connection after {answer!r}"
            answer += data
    return answer


def _complete(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    sizes = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(separator) and len(body) >= sum(sizes)


def ask_grpc(address: Address, message: bytes) -> bytes:
    """The serialised response to a serialised request."""
    with grpc.insecure_channel(str(address)) as channel:
        answer: bytes = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message, timeout=30)
    return answer


def values(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """An array of a data type with its extremes in it."""
    rng = np.random.default_rng(seed)
    dtype = by_name(name)
    if name == "BYTES":
        words = [b"", 'grüß\n\\"'.encode(), b"nul\0", b"x" * 300]
        array = np.empty(shape, dtype=object)
        array.ravel()[:] = [words[number] for number in rng.integers(0, len(words), array.size)]
        return array
    raw = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.byte_size), dtype=np.uint8)
    if name == "BOOL":
        return (raw % 2).astype(bool).reshape(shape)
    array = raw.view(dtype.numpy).reshape(shape).copy()
    extremes: list[float] = []
    if array.dtype.kind in "iu" and name != "BF16":
        extremes = [np.iinfo(array.dtype).min, np.iinfo(array.dtype).max]
    elif array.dtype.kind == "f":
        extremes = [np.nan, np.inf, -np.inf]
    array.ravel()[: len(extremes)] = extremes[: array.size]
    return array


sequence_ids = st.one_of(
    st.integers(1, 2**64 - 1),
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20),
)
