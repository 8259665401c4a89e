# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Questions to the server beside the load: what a model takes, its configuration, its statistics.

All calls block; during a measurement they run in a thread of their own, on a connection of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from trtkit.errors import ModelUnavailableError, ServerError, ServerUnavailableError, nearest
from trtkit.perf.server.address import Address, Tls, parse_address
from trtkit.perf.server.bounded_http import BoundedHttp
from trtkit.perf.server.grpc_control import GRPC_OPTIONS, grpc_control

__all__ = [
    "GRPC_OPTIONS",
    "Fetch",
    "ModelDescription",
    "describe",
    "describe_with",
    "error_sentence",
    "model_path",
    "open_control",
]

Fetch = Callable[..., Any]
"""``fetch(what, model="", version="", body=None)``: a JSON value.

`what` is one of server, metadata, config, statistics, index, trace, or, with a region's name as `model`,
register_system, unregister_system, register_cuda, unregister_cuda; `body` holds the fields of a registration or the
settings of tracing. Over gRPC 64-bit integers
are strings and zeros are absent, as protobuf's JSON form has it.
"""

_NO_TLS = Tls()


class ModelDescription(NamedTuple):
    """What the server says about a model.

    Attributes:
        metadata: the KServe v2 metadata: name, versions, inputs and outputs with datatype and full shape.
        config: the ModelConfig in its JSON form.
    """

    metadata: dict[str, Any]
    config: dict[str, Any]


def describe(
    url: str,
    model: str,
    *,
    protocol: str = "http",
    version: str = "",
    timeout_s: float = 10.0,
    tls: Tls = _NO_TLS,
    headers: Sequence[tuple[str, str]] = (),
) -> ModelDescription:
    """Ask a server what a model takes and how it is configured.

    Args:
        url: ``HOST:PORT`` of the protocol.
        model: the model's name.
        protocol: ``http`` or ``grpc``.
        version: the model's version; the latest when empty.
        timeout_s: for each of the two answers, in seconds.
        tls: for an ``https://`` or ``grpcs://`` address.
        headers: sent with every question; over gRPC as metadata.

    Raises:
        ProjectError: the address, a file of `tls` or a header is wrong.
        ServerUnavailableError: nobody answers as Triton does at the address.
        ModelUnavailableError: the model, or its version, is not loaded.
    """
    address = parse_address(url, protocol)
    with open_control(address, protocol, timeout_s, tls=tls, headers=headers) as fetch:
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


def open_control(
    address: Address,
    protocol: str,
    timeout_s: float,
    *,
    tls: Tls = _NO_TLS,
    headers: Sequence[tuple[str, str]] = (),
) -> AbstractContextManager[Fetch]:
    """A connection for questions, closed when the context ends; nothing is asked before the first question.

    Args:
        address: of the protocol.
        protocol: ``http`` or ``grpc``.
        timeout_s: how long each question may take in all, in seconds.
        tls: for an address with TLS.
        headers: sent with every question; over gRPC as metadata.

    Raises:
        ProjectError: a file of `tls` is wrong.
    """
    if protocol == "grpc":
        return grpc_control(address, timeout_s, tls, headers)
    return _http_control(BoundedHttp(address, tls, timeout_s, headers))


@contextmanager
def _http_control(http: BoundedHttp) -> Iterator[Fetch]:
    def fetch(what: str, model: str = "", version: str = "", body: Mapping[str, Any] | None = None) -> Any:
        method, path = _http_question(what, model, version)
        status, answer = http.exchange(method, path, None if body is None else json.dumps(body).encode())
        if status != 200:
            raise _http_refusal(status, error_sentence(answer))
        try:
            return json.loads(answer) if answer or method == "GET" else {}
        except ValueError as exc:
            raise ServerUnavailableError(
                f"{http.address} is not Triton's HTTP port: its answer is not JSON; "
                "give the HTTP port (default 8000), or use --protocol grpc"
            ) from exc

    try:
        yield fetch
    finally:
        http.close()


_HTTP_QUESTIONS = {
    "server": ("GET", "/v2"),
    "index": ("POST", "/v2/repository/index"),
    "metadata": ("GET", "{model}"),
    "config": ("GET", "{model}/config"),
    "statistics": ("GET", "{model}/stats"),
    "trace": ("POST", "{model}/trace/setting"),
    "register_system": ("POST", "/v2/systemsharedmemory/region/{name}/register"),
    "unregister_system": ("POST", "/v2/systemsharedmemory/region/{name}/unregister"),
    "register_cuda": ("POST", "/v2/cudasharedmemory/region/{name}/register"),
    "unregister_cuda": ("POST", "/v2/cudasharedmemory/region/{name}/unregister"),
}


def _http_question(what: str, model: str, version: str) -> tuple[str, str]:
    method, path = _HTTP_QUESTIONS[what]
    return method, path.format(model=model_path(model, version), name=quote(model, safe=""))


def model_path(model: str, version: str) -> str:
    """The path of a model, or of one version of it, in the KServe v2 protocol over HTTP."""
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")


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
