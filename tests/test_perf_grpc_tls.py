# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The gRPC transports over TLS: against the real server, and against one that cuts everything into small pieces."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import numpy as np
import pytest

from grpc_peers import Server, frame, run
from test_perf_grpc import request, values_of, write_models
from trtkit.errors import ServerUnavailableError
from trtkit.perf.server.address import Tls, parse_address
from trtkit.perf.transports import http2
from trtkit.perf.transports.grpc_stream import GrpcStreamTransport
from trtkit.perf.transports.grpc_transport import GrpcTransport
from trtkit.server import serve

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")


ASK = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
ASK += ["-addext", "subjectAltName=IP:127.0.0.1"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [*ASK, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key


@pytest.fixture(scope="module")
def address(tmp_path_factory, certificate):
    repository = write_models(tmp_path_factory.mktemp("repository"))
    options = ["--grpc-use-ssl=1", f"--grpc-server-cert={certificate[0]}", f"--grpc-server-key={certificate[1]}"]
    with serve(repository, options=options) as server:
        yield parse_address(f"grpcs://{server.grpc_url}", "grpc")


@pytest.mark.triton
def test_small_and_large_messages_over_tls(address, certificate):
    values = np.arange(5_000_000, dtype=np.float32)
    plan = {0: [request("echo", [1, 2]), request("echo", values)], 1: [request("echo", [3, 4])] * 5}
    notes = run(GrpcTransport(address, Tls(ca=certificate[0]), timeout_s=60, keep_answers=True), plan)
    assert notes.failures == [None] * 7
    big, *small = sorted((values_of(answer) for answer in notes.answers), key=len, reverse=True)
    np.testing.assert_array_equal(big, values)
    assert sorted(map(list, small)) == [[1, 2], *[[3, 4]] * 5]


@pytest.mark.triton
def test_a_stream_over_tls_without_a_look_at_the_certificate(address):
    notes = run(GrpcStreamTransport(address, Tls(verify=False), timeout_s=30), {0: [request("count", [4, 1, -1])] * 2})
    assert notes.failures == [None, None]
    assert len(notes.responses) == 8


@pytest.mark.triton
def test_a_certificate_that_nobody_vouches_for_is_refused_in_a_sentence(address):
    with pytest.raises(ServerUnavailableError, match=r"its certificate is not trusted \(self-signed certificate\)"):
        run(GrpcTransport(address, timeout_s=30), {0: [b""]})


@pytest.mark.triton
def test_a_plain_client_at_a_tls_port_is_told(address):
    with pytest.raises(ServerUnavailableError, match=f"{address} is not a gRPC port: .*"):
        run(GrpcTransport(address._replace(tls=False), timeout_s=30), {0: [b""]})


def context_of(certificate, alpn):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(alpn)
    return context


def test_a_tls_server_that_reads_late_and_writes_a_byte_at_a_time(certificate):
    question = bytes(range(256)) * 20_000

    def script(peer, number):
        peer.greet((http2.INITIAL_WINDOW_SIZE, 2**31 - 1))
        peer.send(frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0"))
        for _ in range(2):
            stream, _, message = peer.request()
            assert message == question
            for byte in b"".join(peer.answer(stream)):
                peer.connection.sendall(bytes([byte]))
        peer.read()

    with Server(script, context_of(certificate, ["h2"])) as address:
        transport = GrpcTransport(address, Tls(ca=certificate[0]), timeout_s=30, keep_answers=True)
        notes = run(transport, {0: [question], 1: [question]})
    assert notes.answers == [b"answer"] * 2


def test_a_tls_server_that_speaks_no_http_2_is_told(certificate):
    def script(peer, number):
        peer.read()

    with (
        Server(script, context_of(certificate, ["http/1.1"])) as address,
        pytest.raises(ServerUnavailableError, match="is not a gRPC port: it agrees on no HTTP/2 over TLS|TLS failed"),
    ):
        run(GrpcTransport(address, Tls(verify=False), timeout_s=30), {0: [b""]})
