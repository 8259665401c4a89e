# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Questions to the server over gRPC: the calls behind `control.open_control`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtkit.errors import ModelUnavailableError, ServerError, ServerUnavailableError
from trtkit.perf.server.address import Address, Tls, tls_context
from trtkit.perf.server.bounded_http import checked_headers, untrusted

GRPC_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy in the environment is not what is to be measured
    ("grpc.use_local_subchannel_pool", 1),  # else all channels of the process share one connection
)
# a server that is started anew is seen within a second, not after gRPC's minutes
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@contextmanager
def grpc_control(
    address: Address, timeout_s: float, tls: Tls, headers: Sequence[tuple[str, str]]
) -> Iterator[Callable[..., Any]]:
    """A channel for questions, as `control.open_control` describes it."""
    import grpc
    from google.protobuf.json_format import MessageToDict
    from tritonclient.grpc import service_pb2 as messages
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    channel = _channel(address, timeout_s, tls)
    stub = GRPCInferenceServiceStub(channel)
    calls = _calls(stub, messages)
    metadata = [(name.lower(), value) for name, value in checked_headers(headers)]

    def fetch(what: str, model: str = "", version: str = "", body: Mapping[str, Any] | None = None) -> Any:
        call, request, field = calls[what]
        names = {"name": model, "version": version} if version else {"name": model} if model else {}
        try:
            answer = call(request(**names, **(body or {})), timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as exc:
            raise _refusal(address, exc.code().name, exc.details() or "") from exc
        value = MessageToDict(answer, preserving_proto_field_name=True)
        return value.get(field, {}) if field else value

    try:
        yield fetch
    finally:
        channel.close()


def _calls(stub: Any, messages: Any) -> dict[str, tuple[Any, Any, str | None]]:
    """For each question the call, its request, and the answer's only field when it has one."""
    return {
        "server": (stub.ServerMetadata, messages.ServerMetadataRequest, None),
        "metadata": (stub.ModelMetadata, messages.ModelMetadataRequest, None),
        "config": (stub.ModelConfig, messages.ModelConfigRequest, "config"),
        "statistics": (stub.ModelStatistics, messages.ModelStatisticsRequest, None),
        "trace": (stub.TraceSetting, messages.TraceSettingRequest, None),
        "index": (stub.RepositoryIndex, messages.RepositoryIndexRequest, "models"),
        "register_system": (stub.SystemSharedMemoryRegister, messages.SystemSharedMemoryRegisterRequest, None),
        "unregister_system": (stub.SystemSharedMemoryUnregister, messages.SystemSharedMemoryUnregisterRequest, None),
        "register_cuda": (stub.CudaSharedMemoryRegister, messages.CudaSharedMemoryRegisterRequest, None),
        "unregister_cuda": (stub.CudaSharedMemoryUnregister, messages.CudaSharedMemoryUnregisterRequest, None),
    }


def _channel(address: Address, timeout_s: float, tls: Tls) -> Any:
    import grpc

    options: tuple[tuple[str, int | str], ...] = (*GRPC_OPTIONS, *_RECONNECT)
    if not address.tls:
        return grpc.insecure_channel(str(address), options=options)
    tls_context(tls, ["h2"])  # says in one sentence what is wrong with the files; gRPC would not
    roots = _roots(tls)
    if not tls.verify:
        roots, name = _presented(address, timeout_s)
        options = (*options, ("grpc.ssl_target_name_override", name))
    key = tls.key or tls.certificate
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=key.read_bytes() if key else None,
        certificate_chain=tls.certificate.read_bytes() if tls.certificate else None,
    )
    return grpc.secure_channel(str(address), credentials, options=options)


def _roots(tls: Tls) -> bytes | None:
    """The certificates to trust: the user's, or the system's; None leaves gRPC to its own."""
    file = str(tls.ca) if tls.ca else ssl.get_default_verify_paths().cafile
    return Path(file).read_bytes() if file else None


def _presented(address: Address, timeout_s: float) -> tuple[bytes, str]:
    """The certificate that the server shows, and a name in it: gRPC knows no connection without verification."""
    try:
        shown = ssl.get_server_certificate(address[:2], timeout=timeout_s)
        context = ssl.create_default_context(cadata=shown)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with (
            socket.create_connection(address[:2], timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secure,
        ):
            certificate: Mapping[str, Any] = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as exc:
        raise ServerUnavailableError(untrusted(address, exc.verify_message)) from exc
    except OSError as exc:
        raise ServerUnavailableError(
            f"no TLS connection to {address} ({exc}); start a server, or correct --url"
        ) from exc
    names = [name for _, name in certificate.get("subjectAltName", ())]
    names += [value for pair in certificate.get("subject", ()) for key, value in pair if key == "commonName"]
    return shown.encode(), (names[0] if names else address.host).replace("*", "any")


def _refusal(address: Address, code: str, details: str) -> ServerError:
    if code == "UNAVAILABLE" and "CERTIFICATE_VERIFY_FAILED" in details:
        return ServerUnavailableError(untrusted(address, "gRPC's verification failed"))
    if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"}:
        return ServerUnavailableError(
            f"no Triton server answers over gRPC at {address} ({details}); "
            "start one, or give its gRPC port (default 8001) in --url"
        )
    if code in {"NOT_FOUND", "INVALID_ARGUMENT"}:
        return ModelUnavailableError(details)
    return ServerError(f"the server answers gRPC {code}: {details}")
