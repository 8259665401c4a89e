# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Publishing: a version appears whole or not at all, and everything else in the repository stays as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL
from trtkit import repository as repository_module
from trtkit.errors import RepositoryError
from trtkit.repository import (
    Publication,
    PublishedVersion,
    clean_staging,
    config_text,
    latest,
    models,
    publish,
    publish_all,
    versions,
)
from trtkit.server import serve

Tree = dict[str, tuple[str, str]]


def tree(folder: Path) -> Tree:
    """Every path under a folder: what it is, and the hash of its content or where it points."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))  # noqa: PTH115 - as it is written
        elif path.is_dir():
            found[name] = ("folder", "")
        else:
            found[name] = ("file", hashlib.sha256(path.read_bytes()).hexdigest())
    return found


class Place:
    """A repository and a project's state, and how to publish to it."""

    def __init__(self, repository: Path, state: Path, sources: Path) -> None:
        self.repository, self.state, self.sources = repository, state, sources
        sources.mkdir(parents=True, exist_ok=True)

    def file(self, content: str) -> Path:
        path = self.sources / hashlib.sha256(content.encode()).hexdigest()[:8]
        path.write_text(content)
        return path

    def publish(
        self,
        config: str,
        version: Mapping[str, str] | None,
        beside: Mapping[str, str] | None = None,
        *,
        model: str = "m",
        record: Mapping[str, Any] | None = None,
    ) -> PublishedVersion:
        """Publish files given by their content."""
        return publish(
            self.repository,
            model,
            config,
            state=self.state,
            version_files=None if version is None else {name: self.file(text) for name, text in version.items()},
            model_files={name: self.file(text) for name, text in (beside or {}).items()},
            record=record or {},
        )

    def names(self, folder: str = "") -> list[str]:
        return sorted(str(path.relative_to(self.repository)) for path in (self.repository / folder).rglob("*"))

    def leftovers(self) -> list[Path]:
        """What staging left anywhere."""
        return sorted({path for top in (self.state, self.repository.parent) for path in top.rglob("*staging-*")})


@pytest.fixture(params=["exchange", "piece by piece"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A repository on a file system that can exchange two names, and on one that cannot."""
    if request.param == "piece by piece":
        monkeypatch.setattr(repository_module, "_exchange", lambda one, other: False)
    return Place(tmp_path / "repository", tmp_path / "state", tmp_path / "sources")


# -- what is published


def test_the_first_version_of_a_new_model(place: Place) -> None:
    published = place.publish(
        "config 1", {"model.onnx": "weights", "data/more": "x"}, {"warmup/x": "w"}, record={"precision": "fp32"}
    )
    assert place.names() == [
        "m", "m/1", "m/1/data", "m/1/data/more", "m/1/model.onnx", "m/1/trtkit.json", "m/config.pbtxt",
        "m/warmup", "m/warmup/x",
    ]  # fmt: skip
    assert published == latest(place.repository, "m")
    assert (published.model, published.version, published.path) == ("m", 1, place.repository / "m" / "1")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert published.record["files"]["model.onnx"] == {"sha256": sha256, "byte_size": 7}
    assert {key: published.record[key] for key in ("model", "version", "precision")} == {
        "model": "m", "version": 1, "precision": "fp32",
    }  # fmt: skip
    assert published.byte_size == 8
    assert config_text(place.repository, "m") == "config 1"
    assert place.leftovers() == []


def test_a_new_version_beside_the_old_one(place: Place) -> None:
    place.publish("config 1", {"model.onnx": "one"}, {"warmup/x": "w1"})
    old = tree(place.repository / "m" / "1")
    published = place.publish("config 2", {"model.onnx": "two"}, {"warmup/x": "w2"})
    assert published.version == 2
    assert tree(place.repository / "m" / "1") == old
    assert (place.repository / "m" / "2" / "model.onnx").read_text() == "two"
    assert (place.repository / "m" / "warmup" / "x").read_text() == "w2"
    assert config_text(place.repository, "m") == "config 2"
    assert place.leftovers() == []


def test_the_config_alone(place: Place) -> None:
    first = place.publish("config 1", {"model.onnx": "one"}, {"warmup/x": "w"})
    old = tree(place.repository)
    published = place.publish("config 2", None, {"warmup/x": "w"})
    assert published == first
    changed = {name for name, fact in tree(place.repository).items() if old.get(name) != fact}
    assert changed == {"m/config.pbtxt"}
    assert config_text(place.repository, "m") == "config 2"


def test_an_ensemble_has_a_version_without_files(place: Place) -> None:
    published = place.publish("config", {})
    assert place.names() == ["m", "m/1", "m/1/trtkit.json", "m/config.pbtxt"]
    assert published.record["files"] == {}
    assert published.byte_size == 0
    assert published.changed_file() is None


def test_what_is_not_ours_survives(place: Place) -> None:
    place.publish("config 1", {"model.onnx": "one"}, {"warmup/input_0.bin": "w1"})
    folder = place.repository / "m"
    (folder / "labels.txt").write_text("cat\ndog\n")
    (folder / "labels.txt").chmod(0o640)
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / "docs" / "deep" / "notes.md").write_text("notes")
    (folder / "docs").chmod(0o750)
    (folder / "warmup" / "mine.bin").write_text("mine")
    (folder / "link").symlink_to("./labels.txt")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    (folder / "shared").symlink_to("docs", target_is_directory=True)
    (folder / "empty").mkdir()
    (place.repository / "notes.txt").write_text("beside the models")
    kept = {
        name: fact
        for name, fact in tree(place.repository).items()
        if name not in ("m/config.pbtxt", "m/warmup/input_0.bin")
    }
    place.publish("config 2", {"model.onnx": "two"}, {"warmup/input_0.bin": "w2"})
    after = tree(place.repository)
    assert {name: after[name] for name in kept} == kept
    new = {"m/config.pbtxt", "m/warmup/input_0.bin", "m/2", "m/2/model.onnx", "m/2/trtkit.json"}
    assert set(after) - set(kept) == new
    assert (folder / "labels.txt").stat().st_mode & 0o777 == 0o640
    assert (folder / "docs").stat().st_mode & 0o777 == 0o750
    assert (folder / "warmup" / "input_0.bin").read_text() == "w2"


def test_no_file_is_shared_with_the_cache_or_changed_in_an_old_version(place: Place) -> None:
    place.publish("config 1", {"model.onnx": "one"}, {"warmup/x": "w"})
    source = place.file("one")
    source.write_text("changed in the cache")
    assert (place.repository / "m" / "1" / "model.onnx").read_text() == "one"
    old_config = (place.repository / "m" / "config.pbtxt").open()
    place.publish("config 2", {"model.onnx": "two"}, {"warmup/x": "w2"})
    with old_config:
        assert old_config.read() == "config 1"  # a reader of the old file is not disturbed
    (place.repository / "m" / "2" / "model.onnx").write_text("tampered with")
    assert (place.repository / "m" / "1" / "model.onnx").read_text() == "one"


def test_the_modes_of_the_published_files_let_a_server_read_them(place: Place) -> None:
    for text in ("one", "two"):
        place.publish("config", {"model.onnx": text}, {"warmup/x": "w"})
    for path in [place.repository / "m", *(place.repository / "m").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


# -- numbers


def test_the_next_number_is_one_above_the_highest(place: Place) -> None:
    place.publish("config", {"model.onnx": "one"})
    shutil.move(place.repository / "m" / "1", place.repository / "m" / "7")
    assert place.publish("config", {"model.onnx": "two"}).version == 8
    shutil.rmtree(place.repository / "m" / "8")
    assert place.publish("config", {"model.onnx": "three"}).version == 8


def test_only_whole_numbers_without_a_leading_zero_are_versions(place: Place) -> None:
    for name in ("1", "2", "10", "03", "007", "-4", "5x", "x", "1.5", "٣", "warmup"):
        (place.repository / "m" / name).mkdir(parents=True)
    (place.repository / "m" / "12").write_text("a file")
    assert [version.version for version in versions(place.repository, "m")] == [1, 2, 10]
    assert place.publish("config", {"model.onnx": "one"}).version == 11
    assert {"m/03", "m/007", "m/12", "m/5x"} <= set(place.names())


def test_models_are_the_folders_without_a_dot(place: Place) -> None:
    assert models(place.repository) == []
    place.publish("config", {}, model="b")
    place.publish("config", {}, model="a")
    (place.repository / ".hidden").mkdir()
    (place.repository / "file").write_text("")
    assert models(place.repository) == ["a", "b"]
    assert latest(place.repository, "none") is None
    assert versions(place.repository, "file") == []


# -- what was published is known again


def test_a_changed_or_missing_file_is_named(place: Place) -> None:
    published = place.publish("config", {"a/model.onnx": "one", "b": "two"})
    assert published.changed_file() is None
    (published.path / "extra").write_text("is none of ours")
    assert published.changed_file() is None
    (published.path / "b").write_text("too")
    assert published.changed_file() == "b"
    (published.path / "a" / "model.onnx").unlink()
    assert published.changed_file() == "a/model.onnx"


@pytest.mark.parametrize(
    "record",
    ["", "{", "null", "[]", "{}", '{"files": null}', '{"files": {"a": 1}}', '{"files": {"a": {}}}', "[" * 100_000],
)
def test_a_damaged_record_is_no_record(place: Place, record: str) -> None:
    published = place.publish("config", {"model.onnx": "one"})
    (published.path / "trtkit.json").write_text(record)
    found = latest(place.repository, "m")
    assert found is not None
    assert found.record == {}
    assert found.changed_file() is None


def test_a_version_that_somebody_else_made_has_no_record(place: Place) -> None:
    (place.repository / "m" / "3").mkdir(parents=True)
    (place.repository / "m" / "3" / "model.py").write_text("x = 1")
    found = latest(place.repository, "m")
    assert found is not None
    assert (found.version, found.record, found.byte_size) == (3, {}, 5)


def test_a_config_that_cannot_be_read_is_one_sentence(place: Place) -> None:
    assert config_text(place.repository, "m") is None
    (place.repository / "m").mkdir(parents=True)
    assert config_text(place.repository, "m") is None
    (place.repository / "m" / "config.pbtxt").write_bytes(b"\xff")
    with pytest.raises(RepositoryError, match=r"config\.pbtxt cannot be read: .*invalid start byte"):
        config_text(place.repository, "m")
    (place.repository / "n" / "config.pbtxt").mkdir(parents=True)
    with pytest.raises(RepositoryError, match=r"config\.pbtxt cannot be read: .*Is a directory"):
        config_text(place.repository, "n")


# -- what fails leaves the repository as it was


def failing(place: Place, failure: str) -> RepositoryError:
    """The error of a publication that fails at one of its steps."""
    missing = place.sources / "no such file"
    files = {"version": {"a": place.file("a"), "b": missing}, "beside": {}}
    if failure == "a file beside the version":
        files = {"version": {"a": place.file("a")}, "beside": {"warmup/a": place.file("a"), "warmup/b": missing}}
    if failure == "a name in the way":
        (place.repository / "m" / "2").write_text("not a folder")
        files = {"version": {"a": place.file("a")}, "beside": {}}
    if failure == "a folder for a file":
        files = {"version": {"a": place.sources}, "beside": {}}
    before = tree(place.repository)
    with pytest.raises(RepositoryError) as caught:
        publish(
            place.repository, "m", "config 2",
            state=place.state, version_files=files["version"], model_files=files["beside"], record={},
        )  # fmt: skip
    assert tree(place.repository) == before
    return caught.value


@pytest.mark.parametrize(
    "failure", ["a file of the version", "a file beside the version", "a name in the way", "a folder for a file"]
)
def test_a_failing_copy_leaves_the_repository_as_it_was(place: Place, failure: str) -> None:
    place.publish("config 1", {"model.onnx": "one"}, {"warmup/a": "before"})
    error = failing(place, failure)
    assert str(error).startswith(f"publishing 'm' to {place.repository}: ")
    assert str(error).endswith("; nothing was changed")
    assert place.leftovers() == []


def test_a_failing_first_publication_leaves_no_model(place: Place) -> None:
    place.repository.mkdir()
    failing(place, "a file of the version")
    assert place.names() == []


def test_a_repository_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    place = Place(tmp_path / "file" / "repository", tmp_path / "state", tmp_path / "sources")
    with pytest.raises(RepositoryError, match="Not a directory .*; nothing was changed"):
        place.publish("config", {"model.onnx": "one"})
    place = Place(tmp_path / "repository", tmp_path / "file" / "state", tmp_path / "sources")
    with pytest.raises(RepositoryError, match="Not a directory .*; nothing was changed"):
        place.publish("config", {"model.onnx": "one"})
    assert (tmp_path / "file").read_text() == "mine"
    assert place.names() == []


@pytest.mark.parametrize("target", ["file", "link"])
def test_something_else_with_the_models_name_is_not_replaced(place: Place, target: str) -> None:
    place.repository.mkdir()
    if target == "file":
        (place.repository / "m").write_text("the user's only copy")
    else:
        (place.repository / "m").symlink_to("nowhere")
    before = tree(place.repository)
    with pytest.raises(RepositoryError, match="Not a directory .*; nothing was changed"):
        place.publish("config", {"model.onnx": "one"})
    assert tree(place.repository) == before


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from trtkit.errors import RepositoryError
    from trtkit.repository import publish

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    repository, state, source = map(Path, sys.argv[1:])
    try:
        publish(
            repository, "m", "config 2", state=state, version_files={"model.onnx": source}, model_files={}, record={}
        )
    except RepositoryError as exc:
        print(exc)
"""


def test_a_full_disk_leaves_the_repository_as_it_was(place: Place) -> None:
    place.publish("config 1", {"model.onnx": "one"})
    before = tree(place.repository)
    arguments = [str(place.repository), str(place.state), str(place.file("x" * 5000))]
    code = textwrap.dedent(FULL_DISK)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"publishing 'm' to {place.repository}: File too large")
    assert done.stdout.endswith("nothing was changed\n")
    assert tree(place.repository) == before
    assert place.leftovers() == []


# -- several models as one


def two(place: Place, text: str) -> list[Publication]:
    files = {"model.onnx": place.file(text)}
    return [Publication(model, f"config {text}", files, {"warmup/x": place.file(text)}, {}) for model in ("a", "b")]


def test_several_models_are_published_together(place: Place) -> None:
    assert publish_all(place.repository, [], state=place.state) == []
    assert not place.repository.exists()
    for number, text in enumerate(("one", "two"), start=1):
        published = publish_all(place.repository, two(place, text), state=place.state)
        assert [(version.model, version.version) for version in published] == [("a", number), ("b", number)]
        assert config_text(place.repository, "b") == f"config {text}"
    assert place.leftovers() == []


def test_one_that_cannot_be_staged_stops_all(place: Place) -> None:
    publish_all(place.repository, two(place, "one"), state=place.state)
    before = tree(place.repository)
    good, bad = two(place, "two")
    bad = replace(bad, version_files={"model.onnx": place.sources / "no such file"})
    with pytest.raises(RepositoryError, match=r"^publishing 'a', 'b' to .*No such file .*; nothing was changed$"):
        publish_all(place.repository, [good, bad], state=place.state)
    assert tree(place.repository) == before
    assert place.leftovers() == []


@pytest.mark.parametrize("known", [True, False])
def test_one_that_cannot_be_put_in_place_takes_all_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    place = Place(tmp_path / "repository", tmp_path / "state", tmp_path / "sources")
    publish_all(place.repository, two(place, "one")[0 if known else 1 :], state=place.state)
    before = tree(place.repository)
    exchange = repository_module._exchange

    def refusing(one: Path, other: Path) -> bool:
        if other.name == "b":
            raise PermissionError(13, "Permission denied", str(other))  # as for a folder that is another user's
        return exchange(one, other)

    monkeypatch.setattr(repository_module, "_exchange", refusing)
    with pytest.raises(RepositoryError, match=r"Permission denied \(.*/repository/b\); nothing was changed$"):
        publish_all(place.repository, two(place, "two"), state=place.state)
    assert tree(place.repository) == before
    assert place.leftovers() == []


# -- several at the same time


def test_publications_at_the_same_time_lose_no_version(place: Place) -> None:
    errors: list[Exception] = []

    def work(index: int) -> None:
        other = Place(place.repository, place.state.parent / f"state_{index}", place.sources)  # another project
        try:
            for turn in range(5):
                other.publish("config", {"model.onnx": f"{index} {turn}"})
        except RepositoryError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = versions(place.repository, "m")
    assert [version.version for version in found] == list(range(1, 16))
    assert len({(version.path / "model.onnx").read_text() for version in found}) == 15
    assert not any(version.changed_file() for version in found)


# -- another file system, and what a kill leaves


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="trtkit-test-", dir="/dev/shm"))
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"{tmp_path} and /dev/shm are one file system here")
    yield folder
    shutil.rmtree(folder)


def test_a_repository_on_another_file_system_is_staged_beside_it(elsewhere: Path, tmp_path: Path) -> None:
    place = Place(elsewhere / "repository", tmp_path / "state", tmp_path / "sources")
    assert place.publish("config 1", {"model.onnx": "one"}).version == 1
    assert place.publish("config 2", {"model.onnx": "two"}).version == 2
    assert place.names() == [
        "m", "m/1", "m/1/model.onnx", "m/1/trtkit.json", "m/2", "m/2/model.onnx", "m/2/trtkit.json", "m/config.pbtxt",
    ]  # fmt: skip
    assert [path.name for path in elsewhere.iterdir()] == ["repository"]


def staging_parent(repository: Path, model: str, state: Path, monkeypatch: pytest.MonkeyPatch, *, above: bool) -> Path:
    """Where a model is staged; `above`: whether the folder above the repository may be written to."""
    parents: list[Path] = []
    real = tempfile.mkdtemp

    def noting(prefix: str, dir: Path) -> str:  # noqa: A002 - tempfile's own name
        parents.append(dir)
        return real(prefix=prefix, dir=dir)

    with monkeypatch.context() as patched:
        patched.setattr(repository_module.tempfile, "mkdtemp", noting)
        patched.setattr(repository_module.os, "access", lambda *_: above)
        Place(repository, state, state.parent / "sources").publish("config", {"model.onnx": "x"}, model=model)
    return parents[0]


def test_staging_is_never_where_the_server_looks_for_models(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "repository", elsewhere / "repository"
    assert staging_parent(near, "a", tmp_path / "state", monkeypatch, above=True) == tmp_path / "state"
    assert staging_parent(far, "a", tmp_path / "state", monkeypatch, above=True) == elsewhere
    # a repository that is a file system of its own
    models_around = [staging_parent(far, m, tmp_path / "state", monkeypatch, above=False) for m in ("b", "a", "c")]
    assert models_around == [far / "a", far / "b", far / "a"]
    assert models(far) == ["a", "b", "c"]
    assert [version.version for version in versions(far, "a")] == [1, 2]


def test_the_first_model_of_a_repository_that_is_a_file_system_is_staged_in_it(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = elsewhere / "repository"
    assert staging_parent(repository, "a", tmp_path / "state", monkeypatch, above=False) == repository
    assert [path.name for path in repository.iterdir()] == ["a"]


def killed_publication(repository: Path, state: Path) -> None:
    """Publish in a process that is killed when everything is staged."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from trtkit import repository
        repository._swap = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        place = {"repository": Path(sys.argv[1]), "state": Path(sys.argv[2])}
        repository.publish(**place, model="m", config="c", version_files={}, model_files={}, record={})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(repository), str(state)], check=False)
    assert done.returncode == -9


def test_what_a_kill_leaves_is_cleaned(place: Place) -> None:
    place.publish("config", {"model.onnx": "one"})
    before = tree(place.repository)
    killed_publication(place.repository, place.state)
    (place.state / "tmp-export").mkdir()
    (place.state / "objects").mkdir()
    assert tree(place.repository) == before
    assert len(place.leftovers()) == 1
    clean_staging(place.repository, place.state)
    assert [path.name for path in place.state.iterdir()] == ["objects"]
    assert tree(place.repository) == before


def test_what_a_kill_leaves_on_another_file_system_is_cleaned(elsewhere: Path, tmp_path: Path) -> None:
    place = Place(elsewhere / "repository", tmp_path / "state", tmp_path / "sources")
    place.publish("config", {"model.onnx": "one"})
    before = tree(place.repository)
    killed_publication(place.repository, place.state)
    (place.repository / "m" / f".trtkit-staging-{place.repository.name}-x").mkdir()
    (elsewhere / ".trtkit-staging-other-x").mkdir()  # of another repository, perhaps alive
    assert len(place.leftovers()) == 3
    clean_staging(place.repository, place.state)
    assert tree(place.repository) == before
    assert [path.name for path in place.leftovers()] == [".trtkit-staging-other-x"]


def test_cleaning_waits_for_a_publication(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(elsewhere / "repository", tmp_path / "state", tmp_path / "sources")
    place.publish("config 1", {"model.onnx": "one"})
    staged, go_on = threading.Event(), threading.Event()
    swap = repository_module._swap

    def slow_swap(one: Path, other: Path) -> None:
        staged.set()
        go_on.wait(30)
        swap(one, other)

    monkeypatch.setattr(repository_module, "_swap", slow_swap)
    publishing = threading.Thread(target=place.publish, args=("config 2", {"model.onnx": "two"}))
    publishing.start()
    staged.wait(30)
    cleaning = threading.Thread(target=clean_staging, args=(place.repository, tmp_path / "another project"))
    cleaning.start()
    cleaning.join(0.2)
    assert cleaning.is_alive()
    go_on.set()
    publishing.join()
    cleaning.join()
    assert [version.version for version in versions(place.repository, "m")] == [1, 2]
    assert (place.repository / "m" / "2" / "model.onnx").read_text() == "two"
    assert place.leftovers() == []


@pytest.mark.triton
def test_the_server_takes_a_repository_with_everything_staging_may_leave(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    place = Place(repository, tmp_path / "state", tmp_path / "sources")
    place.publish(ECHO_CONFIG, {"model.py": ECHO_MODEL}, model="echo")
    left = repository / "echo" / ".trtkit-staging-repository-x"
    shutil.copytree(repository / "echo" / "1", left / "other" / "1")
    (left / "other" / "config.pbtxt").write_text("half a con")
    (repository / "echo" / "03").mkdir()
    with serve(repository) as server:
        assert server.is_ready()
        assert "successfully loaded 'echo'" in server.log.read_text()
    assert json.loads((repository / "echo" / "1" / "trtkit.json").read_text())["version"] == 1
