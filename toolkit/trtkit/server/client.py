# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A client of any Triton server over HTTP or gRPC; the one place where tritonclient's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from geventhttpclient.response import HTTPParseError
from google.protobuf import json_format
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from trtkit.dtypes import by_name
from trtkit.errors import DataError, ModelUnavailableError, ServerError, ServerUnavailableError, nearest
from trtkit.numerics import Array
from trtkit.signature import Signature, TensorSpec


@contextmanager
def triton_errors(doing: str) -> Iterator[None]:
    """Turn tritonclient's and the transports' errors into ours.

    Args:
        doing: what was tried, the start of the sentence: "model 'm' at HOST:PORT".
    """
    try:
        yield
    except InferenceServerException as exc:
        status, message = exc.status() or "", " ".join(str(exc.message()).split())
        if "UNAVAILABLE" in status and ("connect" in message or "recvmsg" in message or "Socket closed" in message):
            raise ServerUnavailableError(f"{doing}: no server answers there; {message}") from exc
        if "unknown model" in message or "is not found" in message or "not ready" in message:
            raise ModelUnavailableError(f"{doing}: {message}") from exc
        raise ServerError(f"{doing}: {message or status or 'an empty answer'}") from exc
    except OSError as exc:
        raise ServerUnavailableError(f"{doing}: no Triton server answers there ({exc}); check --url") from exc
    except HTTPParseError as exc:
        text = "what answers there does not speak HTTP"  # the gRPC port, for instance
        raise ServerUnavailableError(f"{doing}: {text} ({exc}); check --url and the protocol") from exc


class Client:
    """One connection to a server, over one protocol.

    Args:
        url: ``HOST:PORT`` of that protocol.
        protocol: ``http`` or ``grpc``.
        timeout_s: the deadline of one request.
    """

    def __init__(self, url: str, protocol: str = "http", timeout_s: float = 60.0) -> None:
        self.url, self.protocol, self.timeout_s = url, protocol, timeout_s
        with triton_errors(f"server at {url}"):
            if protocol == "http":
                self._api: Any = httpclient
                self._client: Any = httpclient.InferenceServerClient(
                    url, network_timeout=timeout_s, connection_timeout=timeout_s
                )
            else:
                self._api = grpcclient
                self._client = grpcclient.InferenceServerClient(url)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ready_models(self) -> dict[str, list[str]]:
        """The ready models of the server and their versions."""
        with triton_errors(f"server at {self.url}"):
            answer = self._client.get_model_repository_index()
        rows = answer if isinstance(answer, list) else json_format.MessageToDict(answer).get("models", [])
        ready: dict[str, list[str]] = {}
        for row in rows:
            if row.get("state") == "READY":
                ready.setdefault(row["name"], []).append(str(row.get("version", "1")))
        return ready

    def require_model(self, model: str) -> None:
        """Raise ModelUnavailableError unless the model is ready, naming those that are."""
        ready = self.ready_models()
        if model not in ready:
            raise ModelUnavailableError(f"model '{model}' is not ready on {self.url}; {nearest(model, ready)}")

    def config(self, model: str) -> ModelConfig:
        """The model's configuration as the server completed it."""
        with triton_errors(f"model '{model}' at {self.url}"):
            answer = self._client.get_model_config(model)
        if isinstance(answer, dict):
            return json_format.ParseDict(answer, ModelConfig(), ignore_unknown_fields=True)
        return answer.config

    def signature(self, model: str) -> Signature:
        """The model's inputs and outputs with full shapes, batch first when it batches."""
        config = self.config(model)
        with triton_errors(f"model '{model}' at {self.url}"):
            answer = self._client.get_model_metadata(model)
        meta = (
            answer if isinstance(answer, dict) else json_format.MessageToDict(answer, preserving_proto_field_name=True)
        )
        batched = config.max_batch_size > 0
        return Signature(*(tuple(_spec(row, batched) for row in meta.get(side, [])) for side in ("inputs", "outputs")))

    def infer(self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str] = ()) -> dict[str, Array]:
        """One request.

        Args:
            model: the model's name; its latest version is asked.
            inputs: full arrays by name (batch included); BYTES as arrays of bytes.
            outputs: only these; default: all.

        Returns:
            Arrays by output name; BYTES as object arrays of bytes, BF16 as uint16 bit patterns.

        Raises:
            ServerError: the server refused the request, with its own words.
        """
        tensors = [self._input(name, array) for name, array in inputs.items()]
        asked = [self._api.InferRequestedOutput(name) for name in outputs] or None
        more = {"client_timeout": self.timeout_s} if self.protocol == "grpc" else {}
        with triton_errors(f"model '{model}' at {self.url}"):
            result = self._client.infer(model, tensors, outputs=asked, **more)
            answer = result.get_response()
            rows = answer["outputs"] if isinstance(answer, dict) else answer.outputs
            names = [row["name"] if isinstance(row, dict) else row.name for row in rows]
            return {name: result.as_numpy(name) for name in names}

    def classify(self, model: str, inputs: Mapping[str, Array], output: str) -> list[str]:
        """The best label of each row of an output with a labels file, as the server looks it up.

        Raises:
            ServerError: the server refused the request, with its own words.
        """
        tensors = [self._input(name, array) for name, array in inputs.items()]
        asked = [self._api.InferRequestedOutput(output, class_count=1)]
        with triton_errors(f"model '{model}' at {self.url}"):
            answer = self._client.infer(model, tensors, outputs=asked).as_numpy(output)
        texts = [item.decode("utf-8", "replace") for item in answer.ravel().tolist()]  # "score:index:label"
        return [text.split(":", 2)[-1] for text in texts]

    def _input(self, name: str, array: Array) -> Any:
        datatype = "BYTES" if array.dtype.kind in "OSU" else _triton_type(array)
        tensor = self._api.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor


def _triton_type(array: Array) -> str:
    from tritonclient.utils import np_to_triton_dtype

    name = np_to_triton_dtype(array.dtype.type)
    if name is None:
        raise DataError(f"Triton has no data type for numpy's {array.dtype}")
    return str(name)


def _spec(row: Mapping[str, Any], batched: bool) -> TensorSpec:
    dims = [int(dim) for dim in row.get("shape", [])]
    names: list[int | str] = [dim if dim >= 0 else "" for dim in dims]
    if batched and names:
        names[0] = "batch"
    return TensorSpec(row["name"], by_name(row["datatype"]), tuple(names))


@contextmanager
def connect(url: str, protocol: str = "http", timeout_s: float = 60.0) -> Iterator[Client]:
    """A client that is closed at the end; see `Client`."""
    client = Client(url, protocol, timeout_s)
    try:
        yield client
    finally:
        client.close()
