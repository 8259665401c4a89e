# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Trees: local ones with odd things in them, and remote ones over a real S3 API."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit.errors import MissingDependencyError, ProjectError
from trtkit.lint.model import MAX_CONFIG_BYTES
from trtkit.lint.onnx_header import read_header
from trtkit.lint.remote_tree import RemoteTree, without_secrets
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Entry, LocalTree, Tree

SECRET = "wJalrXUtnFEMIsecret"


def codes(tree: Tree) -> set[tuple[str, str]]:
    return {(f.file, f.code) for f in findings_of(open_repository(tree, ServerFacts(gpus=0)), RULES)}


# --- local -------------------------------------------------------------------------------------------


def test_links_pipes_and_devices_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to(".")
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert LocalTree(tmp_path).entries("") == [
        Entry("device", "other"),
        Entry("file", "file", 3),
        Entry("folder", "folder"),
        Entry("loop", "broken"),
        Entry("pipe", "other"),
        Entry("up", "folder"),
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "config.pbtxt")
    else:
        (tmp_path / "config.pbtxt").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="no ordinary file"):
        LocalTree(tmp_path).open("config.pbtxt")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", ["config.pbtxt", "1/model.py", "labels.txt", "1/model.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "nowhere", "folder", "process"])
def test_odd_things_in_the_place_of_files_give_findings(kind: str, place: str, tmp_path: Path) -> None:
    config = ECHO_CONFIG.replace("output { ", 'output { label_filename: "labels.txt" ')
    write_model(tmp_path, "echo", config, ECHO_MODEL)
    if place.endswith(".onnx"):
        (tmp_path / "echo/config.pbtxt").write_text(config.replace('"python"', '"onnxruntime"'))
    target = tmp_path / "echo" / place
    target.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        # /proc/self/mem is an ordinary file of no bytes that cannot be read
        to = {"device": "/dev/zero", "loop": target.name, "nowhere": "x", "process": "/proc/self/mem"}
        target.symlink_to(to[kind])
    found = codes(LocalTree(tmp_path))
    assert any(file.startswith("echo") for file, _ in found)


def test_names_that_are_no_text_are_linted(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"a\tb", "ü".encode()):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name, b"1"))  # noqa: PTH103, PTH118  # bytes are the point
        with open(os.path.join(os.fsencode(tmp_path), name, b"config.pbtxt"), "w") as config:  # noqa: PTH118, PTH123
            config.write(ECHO_CONFIG)
    found = codes(LocalTree(tmp_path))
    assert {code for _, code in found} >= {"LAY011", "LAY001", "LAY017"}
    assert ("new\nline", "LAY011") in found
    assert ("\udcff\udcfe", "LAY011") in found
    for config in tmp_path.glob("*/config.pbtxt"):
        config.write_text("max_batch_size: -1")  # without a name, the server takes the folder's
    assert [code for _, code in codes(LocalTree(tmp_path))].count("BAT001") == 4


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", "", ECHO_MODEL)
    os.truncate(tmp_path / "echo/config.pbtxt", 100 * 2**20)
    assert ("echo/config.pbtxt", "PBT007") in codes(LocalTree(tmp_path))


def test_a_link_up_the_tree_is_not_followed_for_ever(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    (tmp_path / "echo/loop").symlink_to("..")
    (tmp_path / "again").symlink_to(".")
    assert ("again", "PLT001") in codes(LocalTree(tmp_path))


# --- remote ------------------------------------------------------------------------------------------


def large_onnx() -> bytes:
    """4 MB, nearly all of it weights."""
    weights = numpy_helper.from_array(np.ones((1000, 1000), np.float32), "w")
    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1000]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", io[:1], io[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass
class Traffic:
    """What was asked of a file system."""

    listings: int = 0
    rounds: int = 0
    bytes_read: int = 0
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Counts what RemoteTree asks of fsspec."""
    counted = Traffic()
    real = fsspec.core.url_to_fs

    class Counting:
        def __init__(self, files: Any) -> None:
            self.files = files

        def find(self, *args: Any, **kwargs: Any) -> Any:
            counted.listings += 1
            return self.files.find(*args, **kwargs)

        def cat(self, paths: list[str], **kwargs: Any) -> Any:
            counted.rounds += 1
            counted.paths += paths
            return self.files.cat(paths, **kwargs)

        def cat_file(self, path: str, start: int, end: int) -> Any:
            counted.bytes_read += end - start
            return self.files.cat_file(path, start=start, end=end)

    def url_to_fs(url: str) -> Any:
        files, path = real(url)
        return Counting(files), path

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    return counted


def fill(files: Any, root: str, models: int) -> None:
    config = ECHO_CONFIG.replace('name: "echo"', "").replace("dims: 4", "dims: 1000")
    for index in range(models):
        files.pipe_file(f"{root}/m{index}/config.pbtxt", config.replace("python", "onnxruntime").encode())
        files.pipe_file(f"{root}/m{index}/1/model.onnx", large_onnx())
    files.pipe_file(f"{root}/echo/config.pbtxt", ECHO_CONFIG.replace('"echo"', '"ecko"').encode())
    files.pipe_file(f"{root}/echo/1/model.py", ECHO_MODEL.encode())


def test_a_store_is_listed_once_and_its_weights_stay_there(traffic: Traffic) -> None:
    root = f"/{uuid.uuid4().hex}"
    fill(fsspec.filesystem("memory"), root, 5)
    found = codes(RemoteTree(f"memory:/{root}"))
    assert {(file, code) for file, code in found if not code.startswith("ADV")} == {("echo/config.pbtxt", "LAY001")}
    assert (traffic.listings, traffic.rounds) == (1, 1)
    assert len(traffic.paths) == 7
    assert 0 < traffic.bytes_read < 5 * 200_000  # of 20 MB


def test_a_remote_file_reads_as_a_local_one(tmp_path: Path) -> None:
    content = large_onnx()
    (tmp_path / "model.onnx").write_bytes(content)
    root = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe_file(f"{root}/model.onnx", content)
    with LocalTree(tmp_path).open("model.onnx") as local, RemoteTree(f"memory:/{root}").open("model.onnx") as remote:
        assert read_header(remote, len(content)) == read_header(local, len(content))
        for offset, whence, size in ((10, 0, 5), (-7, 2, 100), (3, 1, 1), (0, 0, -1), (len(content) + 5, 0, 3)):
            assert remote.seek(offset, whence) == local.seek(offset, whence)
            assert remote.read(size) == local.read(size)
            assert remote.tell() == local.tell()
        buffer, other = bytearray(9), bytearray(9)
        remote.seek(4)
        local.seek(4)
        assert remote.readinto(buffer) == local.readinto(other)  # type: ignore[attr-defined]
        assert buffer == other


def test_a_server_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/models: Connect"):
        RemoteTree("http://127.0.0.1:9/models")


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ProjectError, match="nothing at memory://nowhere"):
        RemoteTree("memory://nowhere")
    with pytest.raises(ProjectError, match="no URL that fsspec knows"):
        RemoteTree("carrier-pigeon://bucket/repository")
    files = fsspec.filesystem("memory")
    files.pipe_file("/there/m/config.pbtxt", b"")
    tree = RemoteTree("memory://there/")
    for missing in ("m/other", "other/config.pbtxt", "m"):
        with pytest.raises(FileNotFoundError):
            tree.open(missing)
    with pytest.raises(FileNotFoundError):
        tree.entries("other")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trtkit\[s3\]'"):
        RemoteTree("s3://bucket/repository")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://user:secret@host/a?X-Amz-Signature=secret", "https://host/a"),
        ("GET https://host/a?sig=secret failed", "GET https://host/a failed"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("plain words? yes", "plain words? yes"),
    ],
)
def test_secrets_in_urls_are_left_out(given: str, shown: str) -> None:
    assert without_secrets(given) == shown


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with five models of 4 MB and one of Python in ``repository``."""
    settings = {
        "AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "AKIAsecretid", "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"b{uuid.uuid4().hex[:20]}"
    files.mkdir(name)
    fill(files, f"{name}/repository", 5)
    files.touch(f"{name}/repository/folder_made_in_the_console/")
    fsspec.filesystem("s3").clear_instance_cache()
    yield name
    fsspec.filesystem("s3").clear_instance_cache()


def test_s3_is_read_in_place(bucket: str, traffic: Traffic) -> None:
    tree = RemoteTree(f"s3://{bucket}/repository")
    assert [entry.name for entry in tree.entries("")][:2] == ["echo", "folder_made_in_the_console"]
    assert {entry.kind for entry in tree.entries("")} == {"folder"}
    assert [(e.name, e.kind) for e in tree.entries("m0/1")] == [("model.onnx", "file")]
    found = {(file, code) for file, code in codes(tree) if not code.startswith("ADV")}
    assert found == {("echo/config.pbtxt", "LAY001"), ("folder_made_in_the_console", "PLT001")}
    assert (traffic.listings, traffic.rounds) == (1, 1)
    assert 0 < traffic.bytes_read < 5 * 200_000


def test_s3_gives_what_the_same_folder_gives(bucket: str, tmp_path: Path) -> None:
    fsspec.filesystem("s3").get(f"{bucket}/repository/", str(tmp_path), recursive=True)
    assert codes(RemoteTree(f"s3://{bucket}/repository")) == codes(LocalTree(tmp_path))


@pytest.mark.parametrize("cause", ["no bucket", "no server"])
def test_what_s3_refuses_is_said_without_the_key(cause: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if cause == "no server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises((OSError, ProjectError)) as raised:
        RemoteTree(f"s3://AKIAsecretid:{SECRET}@no-such-bucket/repository")
    assert "no-such-bucket" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert "\n" not in str(raised.value)


def test_a_small_file_that_vanishes_is_an_os_error(bucket: str) -> None:
    tree = RemoteTree(f"s3://{bucket}/repository")
    fsspec.filesystem("s3").rm(f"{bucket}/repository/echo/config.pbtxt")
    with tree.open("echo/config.pbtxt") as stream, pytest.raises(OSError, match=r"echo/config\.pbtxt"):
        stream.read(MAX_CONFIG_BYTES)
