# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The repository's digest: no change goes unnoticed, and large files are read once."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from deploy_matrix import deploy_project
from trtkit.deploy import digests
from trtkit.deploy.digests import HASHES, digest_of, files_of
from trtkit.deploy.facts import read_models
from trtkit.errors import RepositoryError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return deploy_project(tmp_path, {"target": "cpu"}).repository


def digest(repository: Path, state: Path | None = None) -> str:
    digests._read_file.cache_clear()  # as another command
    return digest_of(repository, read_models(repository, (), 0), state)


def test_each_change_is_another_digest(repository: Path) -> None:
    seen = {digest(repository)}
    version = repository / "encoder" / "1"
    (version / "weights.bin").write_bytes(b"one")
    seen.add(digest(repository))
    (version / "weights.bin").write_bytes(b"two")
    seen.add(digest(repository))
    (version / "weights.bin").rename(version / "other.bin")
    seen.add(digest(repository))
    assert len(seen) == 4
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "model.pyc").write_bytes(b"compiled")
    assert digest(repository) in seen


def test_files_behind_links_count(repository: Path, tmp_path: Path) -> None:
    """The server follows links, and so a change behind one has to be a rollout."""
    version = repository / "encoder" / "1"
    shutil.move(version, tmp_path / "weights")
    version.symlink_to(tmp_path / "weights")
    first = digest(repository)
    (tmp_path / "weights" / "more.bin").write_bytes(b"more")
    assert digest(repository) != first
    (tmp_path / "weights" / "above").symlink_to(tmp_path / "weights")  # a loop ends
    assert [file.name for file in files_of(repository / "encoder")] == ["model.onnx", "more.bin", "config.pbtxt"]


def large(repository: Path, content: bytes = b"x") -> Path:
    file = repository / "encoder" / "1" / "weights.bin"
    file.write_bytes(content * (1 << 20))
    return file


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files had been written a while ago."""
    now = time.time_ns()
    monkeypatch.setattr(digests.time, "time_ns", lambda: now + 60_000_000_000)


def test_large_files_are_read_once(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, state = large(repository), tmp_path / ".trtkit"
    settle(monkeypatch)
    first = digest(repository, state)
    assert list(json.loads((state / HASHES).read_text())) == [str(file)]
    read: list[Path] = []
    real = digests.hash_file
    monkeypatch.setattr(digests, "hash_file", lambda path: read.append(path) or real(path))
    assert digest(repository, state) == first == digest(repository)
    assert read.count(file) == 1  # by the last, which has no state
    file.write_bytes(b"y" * (1 << 20))
    os.utime(file, (1, 1))  # a time that somebody set is no proof
    changed = digest(repository, state)
    os.utime(file, (1, 1))
    assert changed != first
    assert digest(repository, state) == changed == digest(repository)


def test_a_file_that_was_just_written_is_not_remembered(repository: Path, tmp_path: Path) -> None:
    """It may change again within one step of the file system's clock."""
    large(repository)
    digest(repository, tmp_path / ".trtkit")
    assert not (tmp_path / ".trtkit" / HASHES).exists()


@pytest.mark.parametrize("kept", ["{", "[]", '{"a": 1}', '{"a": [1, 2]}'])
def test_a_broken_memory_costs_time_only(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    large(repository)
    settle(monkeypatch)
    (tmp_path / HASHES).write_text(kept)
    assert digest(repository, tmp_path) == digest(repository)
    (tmp_path / "file").write_text("")
    assert digest(repository, tmp_path / "file") == digest(repository)  # no folder: nothing is kept


def test_a_file_that_cannot_be_read_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "hash_file", lambda _: "unreadable")
    with pytest.raises(RepositoryError, match=r"encoder/1/model\.onnx cannot be read"):
        digest(repository)
