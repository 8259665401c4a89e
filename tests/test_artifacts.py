# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The cache: what is stored is found, what was damaged is not trusted, and a refusing disk loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtkit.artifacts import (
    Cache,
    StageRun,
    file_errors,
    fingerprint,
    hash_file,
    hash_folder,
    sync_tree,
    write_atomically,
)
from trtkit.errors import RepositoryError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "state")


def store(cache: Cache, **files: str) -> str:
    """Store files as an artifact; its hash."""
    with cache.scratch() as folder:
        for name, content in files.items():
            (folder / name.replace("__", "/")).parent.mkdir(exist_ok=True)
            (folder / name.replace("__", "/")).write_text(content)
        return cache.store("onnx", folder).sha256


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- hashes


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    def hash_of(name: str, **files: bytes) -> str:
        for file, content in files.items():
            path = tmp_path / name / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return hash_folder(tmp_path / name)

    base = hash_of("base", a=b"1", b__c=b"2")
    assert hash_of("other_order", b__c=b"2", a=b"1") == base
    assert hash_of("content", a=b"1", b__c=b"3") != base
    assert hash_of("name", a=b"1", b__d=b"2") != base
    assert hash_of("fewer", a=b"1") != base
    assert hash_of("swapped", a=b"2", b__c=b"1") != base
    names = [f"file_{number:02}" for number in range(30)]
    lines = [f"{name} {hashlib.sha256(name.encode()).hexdigest()}" for name in names]  # whatever order the disk gives
    assert hash_of("many", **{n: n.encode() for n in names}) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_file_that_cannot_be_read_has_a_hash_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    known = hash_file(tmp_path / "file")
    assert known == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [hash_file(tmp_path / name) for name in ("no", ".", "file/under")] == ["absent"] * 3
    assert [hash_file(tmp_path / name) for name in ("loop", "x" * 300, "a\0b")] == ["unreadable"] * 3


def test_a_hash_reads_files_larger_than_its_buffer(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"a" * (1 << 20) + b"b")
    (tmp_path / "two").write_bytes(b"a" * (1 << 20) + b"c")
    assert hash_file(tmp_path / "one") != hash_file(tmp_path / "two")


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [Path("x")]}) == fingerprint({"b": [Path("x")], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


# -- artifacts


def test_a_stored_artifact_is_found_by_its_hash(cache: Cache) -> None:
    sha256 = store(cache, model="weights", warmup__x="data")
    artifact = cache.artifact("onnx", sha256)
    assert artifact is not None
    assert artifact == cache.verified("onnx", sha256)
    assert files_under(artifact.path) == ["model", "warmup", "warmup/x"]
    assert (artifact.path / "model").read_text() == "weights"
    assert hash_folder(artifact.path) == sha256
    assert cache.artifact("onnx", "0" * 64) is None
    assert cache.verified("onnx", "0" * 64) is None


def test_an_equal_artifact_is_kept_as_it_is(cache: Cache) -> None:
    sha256 = store(cache, model="weights")
    inode = (cache.state / "objects" / sha256 / "model").stat().st_ino
    assert store(cache, model="weights") == sha256
    assert (cache.state / "objects" / sha256 / "model").stat().st_ino == inode
    assert files_under(cache.state / "objects") == [sha256, f"{sha256}/model"]


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_a_damaged_artifact_is_not_trusted_and_is_replaced(cache: Cache, damage: str) -> None:
    sha256 = store(cache, model="weights", other="x")
    folder = cache.state / "objects" / sha256
    if damage == "changed":
        (folder / "model").write_text("Weights")
    elif damage == "missing":
        (folder / "other").unlink()
    else:
        (folder / "more").write_text("")
    assert cache.artifact("onnx", sha256) is not None
    assert cache.verified("onnx", sha256) is None
    assert store(cache, model="weights", other="x") == sha256
    assert cache.verified("onnx", sha256) is not None


def test_many_workers_may_store_one_artifact_at_the_same_time(cache: Cache) -> None:
    start = threading.Barrier(8)
    stored: list[str] = []

    def work() -> None:
        with cache.scratch() as folder:
            for index in range(20):
                (folder / str(index)).write_text(str(index))
            start.wait()
            stored.append(cache.store("onnx", folder).sha256)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 8
    assert len(set(stored)) == 1
    assert cache.verified("onnx", stored[0]) is not None
    assert files_under(cache.state)[:2] == ["objects", f"objects/{stored[0]}"]


def test_a_scratch_folder_is_gone_afterwards_whatever_happened(cache: Cache) -> None:
    with cache.scratch() as folder:
        (folder / "file").write_text("")
    assert files_under(cache.state) == []
    with pytest.raises(FileNotFoundError), cache.scratch() as folder:
        (folder / "no" / "file").write_text("")
    assert files_under(cache.state) == []


# -- records

RUN = StageRun({"source": "a", "tool": "1"}, {"train.py": "absent"}, "f" * 64, {"signature": {"inputs": []}})


def test_runs_are_remembered_newest_first(cache: Cache) -> None:
    assert cache.runs("m", "export") == []
    other = StageRun({"source": "b"}, {}, "e" * 64)
    cache.remember("m", "export", RUN)
    cache.remember("m", "export", other)
    assert cache.runs("m", "export") == [other, RUN]
    assert cache.runs("m", "config") == cache.runs("n", "export") == []
    cache.remember("m", "export", RUN)
    assert cache.runs("m", "export") == [RUN, other]


def test_a_run_with_the_same_inputs_replaces_the_older_one(cache: Cache) -> None:
    cache.remember("m", "export", RUN)
    cache.remember("m", "export", StageRun(RUN.inputs, RUN.files, "0" * 64))
    assert [run.artifact for run in cache.runs("m", "export")] == ["0" * 64]


def test_only_the_last_runs_are_kept(cache: Cache) -> None:
    for number in range(20):
        cache.remember("m", "export", StageRun({"source": str(number)}, {}, ""))
    assert [run.inputs["source"] for run in cache.runs("m", "export")] == [str(n) for n in range(19, 11, -1)]


def run_of(root: Path, inputs: dict[str, str], *files: str) -> StageRun:
    return StageRun(inputs, {file: hash_file(root / file) for file in files}, "")


def test_a_run_matches_while_its_inputs_and_files_are_the_same(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    run = run_of(tmp_path, {"source": "a"}, "train.py", "not_there")
    cache.remember("m", "export", run)
    assert cache.matching("m", "export", {"source": "a"}, tmp_path) == run
    assert cache.matching("m", "export", {"source": "b"}, tmp_path) is None
    assert cache.matching("m", "export", {"source": "a", "more": "1"}, tmp_path) is None
    (tmp_path / "not_there").write_text("")
    assert cache.matching("m", "export", {"source": "a"}, tmp_path) is None
    (tmp_path / "not_there").unlink()
    (tmp_path / "train.py").write_text("2")
    assert cache.matching("m", "export", {"source": "a"}, tmp_path) is None


def test_an_older_run_matches_after_a_change_was_taken_back(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    first = run_of(tmp_path, {"source": "a"}, "train.py")
    cache.remember("m", "export", first)
    (tmp_path / "train.py").write_text("2")
    cache.remember("m", "export", run_of(tmp_path, {"source": "a"}, "train.py"))
    (tmp_path / "train.py").write_text("1")
    assert cache.matching("m", "export", {"source": "a"}, tmp_path) == first


def test_why_not_names_what_changed(cache: Cache, tmp_path: Path) -> None:
    inputs = {"source": "a", "onnx": "1.17"}
    assert cache.why_not("m", "export", inputs, tmp_path) == "never built here"
    (tmp_path / "train.py").write_text("1")
    cache.remember("m", "export", run_of(tmp_path, inputs, "train.py"))
    assert cache.why_not("m", "export", inputs, tmp_path) == "its artifact is gone from the cache"
    assert cache.why_not("m", "export", {**inputs, "source": "b"}, tmp_path) == "changed: source"
    assert cache.why_not("m", "export", {"source": "a"}, tmp_path) == "changed: onnx"
    assert cache.why_not("m", "export", {**inputs, "torch": "2"}, tmp_path) == "changed: torch"
    (tmp_path / "train.py").write_text("2")
    assert cache.why_not("m", "export", {**inputs, "source": "b"}, tmp_path) == "changed: source, train.py"


DAMAGED = ["", "{", "[", "null", "5", '"text"', "{}", '{"a": 1}', "[1]", "[[]]", '[{"inputs": {}}]', "[" * 100_000,
           '[{"inputs": {}, "files": {}, "artifact": "", "facts": {}, "more": 1}]',
           '[{"inputs": 1, "files": {}, "artifact": "", "facts": {}}]',
           '[{"inputs": {}, "files": [], "artifact": "", "facts": {}}]',
           '[{"inputs": {}, "files": {}, "artifact": 7, "facts": {}}]',
           '[{"inputs": {}, "files": {}, "artifact": "", "facts": null}]']  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_is_none(cache: Cache, content: str) -> None:
    cache.remember("m", "export", RUN)
    (cache.state / "stages" / "m" / "export.json").write_text(content)
    assert cache.runs("m", "export") == []
    assert cache.matching("m", "export", RUN.inputs, cache.state) is None
    assert cache.why_not("m", "export", RUN.inputs, cache.state) == "never built here"
    cache.remember("m", "export", RUN)
    assert cache.runs("m", "export")[0] == RUN


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("fuzzed"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["inputs", "files", "artifact", "facts"]), inner)
    ),
)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=30) | json_values.map(lambda value: json.dumps([value]).encode()))
def test_any_record_gives_runs_that_can_be_compared(fuzzed: Cache, content: bytes) -> None:
    path = fuzzed.state / "stages" / "m" / "export.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert fuzzed.matching("m", "export", {"source": "a"}, fuzzed.state) is None
    assert fuzzed.why_not("m", "export", {"source": "a"}, fuzzed.state)


@settings(deadline=None)
@given(
    inputs=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    files=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    facts=st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.lists(st.text()), max_size=3),
)
def test_a_run_is_read_back_as_it_was(fuzzed: Cache, inputs: Any, files: Any, facts: Any) -> None:
    run = StageRun(inputs, files, "a" * 64, facts)
    fuzzed.remember("n", "export", run)
    assert fuzzed.runs("n", "export")[0] == run


# -- files


def test_a_file_is_replaced_whole_and_readable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"one")
    inode = file.stat().st_ino
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_ino != inode
    assert file.stat().st_mode & 0o777 == 0o644
    assert files_under(tmp_path) == ["file"]


def test_a_folder_with_a_pipe_and_a_loop_is_synced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    sync_tree(tmp_path)  # opening the pipe would wait for ever
    with pytest.raises(FileNotFoundError):
        sync_tree(tmp_path / "no")


def test_errors_of_the_file_system_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError) as caught, file_errors("reading"):
        (tmp_path / "no").read_bytes()
    assert str(caught.value) == f"reading: No such file or directory ({tmp_path}/no); nothing was changed"
    with pytest.raises(RepositoryError, match=r"^doing: because; nothing was changed$"), file_errors("doing"):
        raise OSError("because")
    with pytest.raises(KeyError), file_errors("doing"):
        raise KeyError


def test_a_state_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model").write_text("x")
    cache = Cache(tmp_path / "file" / "state")
    with pytest.raises(RepositoryError, match="Not a directory"), cache.scratch():
        pass
    with pytest.raises(RepositoryError, match="^storing an artifact in .*Not a directory"):
        cache.store("onnx", tmp_path / "made")
    with pytest.raises(RepositoryError, match="^writing .*Not a directory"):
        cache.remember("m", "export", RUN)
    assert cache.runs("m", "export") == []
    assert cache.artifact("onnx", "0") is None
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "made" / "model").read_text() == "x"


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from trtkit.artifacts import Cache, StageRun, write_atomically
    from trtkit.errors import RepositoryError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    cache = Cache(Path(sys.argv[1]))
    try:
        cache.remember("m", "export", StageRun({"source": "b" * 200}, {}, ""))
    except RepositoryError as exc:
        print(exc)
    try:
        write_atomically(Path(sys.argv[1]) / "file", b"x" * 200)
    except OSError as exc:
        print(exc.strerror)
"""


def test_a_full_disk_keeps_what_was_there(cache: Cache) -> None:
    cache.remember("m", "export", RUN)
    write_atomically(cache.state / "file", b"before")
    before = files_under(cache.state)
    code = textwrap.dedent(FULL_DISK)
    done = subprocess.run([sys.executable, "-c", code, str(cache.state)], capture_output=True, text=True, check=True)
    record = cache.state / "stages" / "m" / "export.json"
    assert done.stdout.splitlines() == [f"writing {record}: File too large; nothing was changed", "File too large"]
    assert cache.runs("m", "export") == [RUN]
    assert (cache.state / "file").read_bytes() == b"before"
    assert files_under(cache.state) == before
