# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Questions to the server beside the load: what a model takes, its configuration, its statistics.

All calls block; during a measurement they run in a thread of their own, on a connection of their own.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from trtkit.errors import ModelUnavailableError, ServerError, ServerUnavailableError, nearest
from trtkit.perf.address import Address, parse_address

Fetch = Callable[..., Any]
"""``fetch(what, model="", version="")`` with `what` one of metadata, config, statistics, index: a JSON value.

Over gRPC 64-bit integers are strings and zeros are absent, as protobuf's JSON form has it.
"""


class ModelDescription(NamedTuple):
    """What the server says about a model.

    Attributes:
        metadata: the KServe v2 metadata: name, versions, inputs and outputs with datatype and full shape.
        config: the ModelConfig in its JSON form.
    """

    metadata: dict[str, Any]
    config: dict[str, Any]


def describe(
    url: str, model: str, *, protocol: str = "http", version: str = "", timeout_s: float = 10.0
) -> ModelDescription:
    """Ask a server what a model takes and how it is configured.

    Args:
        url: ``HOST:PORT`` of the protocol.
        model: the model's name.
        protocol: ``http`` or ``grpc``.
        version: the model's version; the latest when empty.
        timeout_s: for each of the two answers, in seconds.

    Raises:
        ServerUnavailableError: nobody answers as Triton does at the address.
        ModelUnavailableError: the model, or its version, is not loaded.
    """
    with open_control(parse_address(url, protocol), protocol, timeout_s) as fetch:
        return describe_with(fetch, model, version)


def describe_with(fetch: Fetch, model: str, version: str) -> ModelDescription:
    """The same over an open control connection."""
    try:
        return ModelDescription(fetch("metadata", model, version), fetch("config", model, version))
    except ModelUnavailableError as exc:
        raise ModelUnavailableError(f"{exc}; {_why_unavailable(fetch, model, version)}") from exc


def _why_unavailable(fetch: Fetch, model: str, version: str) -> str:
    """What the server's index says about the model that it does not serve."""
    try:
        entries = fetch("index")
    except ServerError as exc:
        return f"the server gives no list of its models: {exc}"
    ready = {entry["name"] for entry in entries if entry.get("state", "READY") == "READY"}
    reasons = [entry["reason"] for entry in entries if entry["name"] == model and entry.get("reason")]
    if reasons and model not in ready:
        return f"it failed to load: {reasons[0].splitlines()[0]}"
    if model in ready:
        versions = [entry.get("version", "") for entry in entries if entry["name"] == model]
        return nearest(version, versions)
    return nearest(model, ready)


def open_control(address: Address, protocol: str, timeout_s: float) -> AbstractContextManager[Fetch]:
    """A connection for questions, closed when the context ends; nothing is sent before the first question."""
    return _grpc_control(address, timeout_s) if protocol == "grpc" else _http_control(address, timeout_s)


@contextmanager
def _http_control(address: Address, timeout_s: float) -> Iterator[Fetch]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)

    def fetch(what: str, model: str = "", version: str = "") -> Any:
        status, body = _exchange(connection, address, *_http_question(what, model, version))
        if status != 200:
            raise _http_refusal(status, error_sentence(body))
        try:
            return json.loads(body)
        except ValueError as exc:
            raise _not_triton(address, "its answer is not JSON") from exc

    try:
        yield fetch
    finally:
        connection.close()


def _http_question(what: str, model: str, version: str) -> tuple[str, str]:
    if what == "index":
        return "POST", "/v2/repository/index"
    suffix = {"metadata": "", "config": "/config", "statistics": "/stats"}[what]
    return "GET", model_path(model, version) + suffix


def model_path(model: str, version: str) -> str:
    """The path of a model, or of one version of it, in the KServe v2 protocol over HTTP."""
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")


def _exchange(connection: http.client.HTTPConnection, address: Address, method: str, path: str) -> tuple[int, bytes]:
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.RemoteDisconnected as exc:
        connection.close()
        raise ServerUnavailableError(f"the server at {address} closed the connection without an answer") from exc
    except http.client.HTTPException as exc:
        connection.close()
        raise _not_triton(address, "it does not speak HTTP/1.1") from exc
    except (OSError, UnicodeError) as exc:
        connection.close()
        raise ServerUnavailableError(f"no server answers at {address} ({exc}); start one, or correct --url") from exc


def error_sentence(body: bytes) -> str:
    """The server's sentence in the body of an error; the body's beginning when it is not Triton's JSON."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _http_refusal(status: int, sentence: str) -> ServerError:
    if status in {400, 404}:
        return ModelUnavailableError(sentence or f"the server answers HTTP {status}")
    if status == 503:
        return ServerUnavailableError(f"the server is not ready: {sentence}")
    return ServerError(f"the server answers HTTP {status}: {sentence}")


def _not_triton(address: Address, why: str) -> ServerUnavailableError:
    return ServerUnavailableError(
        f"{address} is not Triton's HTTP port: {why}; give the HTTP port (default 8000), or use --protocol grpc"
    )


@contextmanager
def _grpc_control(address: Address, timeout_s: float) -> Iterator[Fetch]:
    import grpc
    from google.protobuf.json_format import MessageToDict
    from tritonclient.grpc import service_pb2 as messages
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    channel = grpc.insecure_channel(str(address), options=GRPC_OPTIONS)
    stub = GRPCInferenceServiceStub(channel)
    calls = {
        "metadata": (stub.ModelMetadata, messages.ModelMetadataRequest, None),
        "config": (stub.ModelConfig, messages.ModelConfigRequest, "config"),
        "statistics": (stub.ModelStatistics, messages.ModelStatisticsRequest, None),
        "index": (stub.RepositoryIndex, messages.RepositoryIndexRequest, "models"),
    }

    def fetch(what: str, model: str = "", version: str = "") -> Any:
        call, request, field = calls[what]
        question = request(name=model, version=version) if model else request()
        try:
            answer = MessageToDict(call(question, timeout=timeout_s), preserving_proto_field_name=True)
        except grpc.RpcError as exc:
            raise _grpc_refusal(address, exc.code().name, exc.details()) from exc
        return answer.get(field, {}) if field else answer

    try:
        yield fetch
    finally:
        channel.close()


GRPC_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not what is to be measured
    ("grpc.use_local_subchannel_pool", 1),  # else all channels of the process share one connection
)


def _grpc_refusal(address: Address, code: str, details: str) -> ServerError:
    if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"}:
        return ServerUnavailableError(
            f"no Triton server answers over gRPC at {address} ({details}); "
            "start one, or give its gRPC port (default 8001) in --url"
        )
    if code in {"NOT_FOUND", "INVALID_ARGUMENT"}:
        return ModelUnavailableError(details)
    return ServerError(f"the server answers gRPC {code}: {details}")
