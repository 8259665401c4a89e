# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Addresses with TLS, and questions to the server: over TLS, with headers, and never without an end."""

import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit.errors import ModelUnavailableError, ProjectError, ServerError, ServerUnavailableError
from trtkit.perf.server.address import Address, Tls, parse_address, tls_context
from trtkit.perf.server.control import describe, open_control
from trtkit.server import serve

_OPENSSL_REQUEST = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for localhost, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [*_OPENSSL_REQUEST, "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", *options],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """Certificates `server` and `client`, each with its key, and `other`, which signed neither."""
    folder = tmp_path_factory.mktemp("pki")
    return {name: make_certificate(folder, name) for name in ("server", "client", "other")}


@pytest.fixture(scope="module")
def secure_server(pki, tmp_path_factory):
    """A real server that speaks gRPC only over TLS, and plain HTTP."""
    repository = tmp_path_factory.mktemp("secure")
    write_model(repository, "echo", ECHO_CONFIG, ECHO_MODEL)
    certificate, key = pki["server"]
    options = ["--grpc-use-ssl=1", f"--grpc-server-cert={certificate}", f"--grpc-server-key={key}"]
    with serve(repository, options=[*options, "--http-header-forward-pattern=.*"]) as running:
        yield running


@contextmanager
def peer(handle):
    """A TCP server on the loopback whose connections `handle` serves, each in a thread; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    def guarded(connection):
        with connection:
            try:
                handle(connection)
            except (OSError, ValueError):
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Address(*listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def relay(target: Address, context: ssl.SSLContext):
    """A handler that ends TLS and passes the plain bytes on, as a proxy in front of Triton does."""

    def handle(connection):
        connection.settimeout(10)
        with (
            context.wrap_socket(connection, server_side=True) as secure,
            socket.create_connection(target[:2], 10) as plain,
        ):
            back = threading.Thread(target=pump, args=(plain, secure), daemon=True)
            back.start()
            pump(secure, plain)
            back.join(5)

    return handle


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def server_context(pki, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki["server"])
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


@pytest.mark.parametrize(
    ("url", "protocol", "address"),
    [
        ("https://triton:9", "http", Address("triton", 9, True)),
        ("https://triton", "http", Address("triton", 443, True)),
        ("HTTPS://triton/", "http", Address("triton", 443, True)),
        ("grpcs://triton", "grpc", Address("triton", 8001, True)),
        ("grpcs://[::1]:7", "grpc", Address("::1", 7, True)),
        ("triton:9", "http", Address("triton", 9, False)),
    ],
)
def test_urls_with_tls(url, protocol, address):
    assert parse_address(url, protocol) == address


def test_an_addresss_text_is_its_host_and_port():
    assert str(Address("triton", 9, True)) == "triton:9"
    assert str(Address("::1", 7)) == "[::1]:7"


@pytest.mark.parametrize(("url", "protocol"), [("https://t", "grpc"), ("grpcs://t", "http"), ("ftp://t", "http")])
def test_a_scheme_of_another_protocol_is_refused(url, protocol):
    with pytest.raises(ProjectError, match=f"does not fit the protocol {protocol}"):
        parse_address(url, protocol)


def test_files_that_are_no_use_for_tls_are_named(pki, tmp_path):
    certificate, key = pki["client"]
    nonsense, absent = tmp_path / "nonsense.pem", tmp_path / "absent.pem"
    nonsense.write_text("nonsense")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(locked), "-passout", "pass:x"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    for tls, words in (
        (Tls(ca=absent), "absent.pem: the CA certificates cannot be read (No such file"),
        (Tls(ca=tmp_path), "cannot be read (Is a directory)"),
        (Tls(ca=nonsense), "nonsense.pem: no PEM file with CA certificates"),
        (Tls(certificate=absent), "absent.pem: the client's certificate cannot be read"),
        (Tls(certificate=certificate, key=absent), "absent.pem: the client's private key cannot be read"),
        (Tls(certificate=nonsense, key=key), "no PEM certificate with its own private key"),
        (Tls(certificate=certificate, key=pki["other"][1]), "no PEM certificate with its own private key"),
        (Tls(certificate=certificate), "no PEM certificate with its own private key"),
        (Tls(key=key), "of no use without its certificate"),
        (Tls(certificate=certificate, key=locked), "locked.key: the private key has a password"),
    ):
        with pytest.raises(ProjectError) as raised:
            tls_context(tls, ["http/1.1"])
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


def test_what_a_context_checks(pki):
    strict, open_to_all = (
        tls_context(tls, ["h2"])
        for tls in (Tls(ca=pki["server"][0], certificate=pki["client"][0], key=pki["client"][1]), Tls(verify=False))
    )
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (open_to_all.verify_mode, open_to_all.check_hostname) == (ssl.CERT_NONE, False)
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.triton
def test_grpc_over_tls(secure_server, pki):
    url = f"grpcs://localhost:{secure_server.grpc_url.rpartition(':')[2]}"
    described = describe(url, "echo", protocol="grpc", tls=Tls(ca=pki["server"][0]))
    assert described.metadata["name"] == described.config["name"] == "echo"
    assert describe(url, "echo", protocol="grpc", tls=Tls(verify=False)) == described
    with pytest.raises(ModelUnavailableError, match="did you mean 'echo'"):
        describe(url, "ecko", protocol="grpc", tls=Tls(ca=pki["server"][0]))
    for tls in (Tls(), Tls(ca=pki["other"][0])):
        with pytest.raises(ServerUnavailableError, match="certificate of the server at localhost.* is not trusted"):
            describe(url, "echo", protocol="grpc", tls=tls)
    with pytest.raises(ServerUnavailableError, match="no Triton server answers over gRPC"):
        describe(url.replace("grpcs", "grpc"), "echo", protocol="grpc", timeout_s=3)
    with pytest.raises(ServerUnavailableError, match="no TLS connection to"):
        describe(f"grpcs://{secure_server.http_url}", "echo", protocol="grpc", tls=Tls(verify=False), timeout_s=3)


@pytest.mark.triton
def test_http_over_tls_through_a_proxy(secure_server, pki):
    target = parse_address(secure_server.http_url, "http")
    with peer(relay(target, server_context(pki))) as address:
        url = f"https://localhost:{address.port}"
        for tls in (Tls(ca=pki["server"][0]), Tls(verify=False)):
            assert describe(url, "echo", tls=tls).config["name"] == "echo"
        with pytest.raises(ServerUnavailableError, match="is not trusted .self-signed certificate"):
            describe(url, "echo")
        with pytest.raises(ServerUnavailableError):
            describe(f"http://localhost:{address.port}", "echo", timeout_s=3)
    with pytest.raises(ServerUnavailableError, match="give http:// instead of https://"):
        describe(f"https://{target}", "echo", timeout_s=3)


@pytest.mark.triton
def test_a_server_that_asks_for_the_clients_certificate(secure_server, pki):
    target = parse_address(secure_server.http_url, "http")
    with peer(relay(target, server_context(pki, client_ca=pki["client"][0]))) as address:
        url, (certificate, key) = f"https://localhost:{address.port}", pki["client"]
        tls = Tls(ca=pki["server"][0], certificate=certificate, key=key)
        assert describe(url, "echo", tls=tls).config["name"] == "echo"
        with pytest.raises(ServerUnavailableError):
            describe(url, "echo", tls=Tls(ca=pki["server"][0]))


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_servers_own_metadata_and_regions(server, protocol):
    address = parse_address(server.http_url if protocol == "http" else server.grpc_url, protocol)
    with open_control(address, protocol, 10.0, headers=[("X-Who", "me")]) as fetch:
        assert fetch("server")["name"] == "triton"
        body = {"key": "/absent", "offset": 0, "byte_size": 4}
        with pytest.raises(ServerError, match="'/absent'"):
            fetch("register_system", "no region", body=body)
        fetch("unregister_system", "no region")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("header", [("two words", "x"), ("", "x"), ("x", "two\r\nlines"), ("x", "é")])
def test_a_header_that_cannot_be_sent_is_one_sentence(protocol, header):
    with (
        pytest.raises(ProjectError, match="cannot be sent; give a name"),
        open_control(Address("127.0.0.1", 1), protocol, 2.0, headers=[header]),
    ):
        pass


def test_headers_go_with_every_question():
    seen = []

    def handle(connection):
        while data := connection.recv(65536):
            seen.append(data)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

    with peer(handle) as address, open_control(address, "http", 5.0, headers=[("X-Token", "t")]) as fetch:
        assert fetch("index") == fetch("index") == []
    assert len(seen) == 2
    assert all(b"X-Token: t\r\n" in data for data in seen)


def drip(connection):
    """An answer that never ends, a byte at a time."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def drip_head(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def silent(connection):
    while connection.recv(65536):
        pass


@pytest.mark.parametrize("handle", [drip, drip_head, silent])
def test_a_question_ends_at_its_deadline_however_the_server_drips(handle):
    with (
        peer(handle) as address,
        open_control(address, "http", 0.3) as fetch,
        pytest.raises(ServerUnavailableError, match="timed out"),
    ):
        fetch("index")


def test_a_handshake_that_never_comes_ends_at_the_deadline(pki):
    with peer(silent) as plain:
        address = plain._replace(tls=True)
        for protocol, words in (("http", "timed out"), ("grpc", "no TLS connection")):
            with (
                pytest.raises(ServerUnavailableError, match=words),
                open_control(address, protocol, 0.3, tls=Tls(verify=False)) as fetch,
            ):
                fetch("index")


def test_grpc_ends_at_its_deadline():
    with (
        peer(silent) as address,
        open_control(address, "grpc", 0.3) as fetch,
        pytest.raises(ServerUnavailableError, match="no Triton server answers over gRPC"),
    ):
        fetch("index")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "in the middle of an answer"),
        (b"", "without an answer"),
        (b"220 mail.example ESMTP\r\n", "does not speak HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "its answer is not JSON"),
        (b'HTTP/1.1 503 No\r\nContent-Length: 15\r\n\r\n{"error":"why"}', "the server is not ready: why"),
    ],
)
def test_answers_that_are_none_are_one_sentence(answer, words):
    def handle(connection):
        connection.recv(65536)
        connection.sendall(answer)

    with (
        peer(handle) as address,
        open_control(address, "http", 5.0) as fetch,
        pytest.raises(ServerUnavailableError, match=words),
    ):
        fetch("index")


def test_a_connection_that_the_server_closed_in_between_is_opened_again():
    served = []

    def handle(connection):
        connection.recv(65536)
        served.append(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with peer(handle) as address, open_control(address, "http", 5.0) as fetch:
        for _ in range(3):
            fetch("statistics", "m")
    assert len(served) == 3
