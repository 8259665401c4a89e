# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is written to a folder of rendered files, and what never is."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trtkit.deploy.files import RECORD, Change, changes, write
from trtkit.errors import ProjectError

NAMES = ("a.yaml", "b/c.yaml", "b/d/e.sh", "f")
TEXTS = ("one\n", "two\n", "#!/bin/sh\n", "")
rendered = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS), max_size=4)


def contents(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and file.name != RECORD
    }


class Folder(RuleBasedStateMachine):
    """Renderers and a person work in the same folder; `theirs` is what the person last wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name) / "out"
        self.theirs: dict[str, str] = {}

    def teardown(self) -> None:
        self.scratch.cleanup()

    @rule(files=rendered, part=st.sampled_from(["k8s", "helm"]), force=st.booleans())
    def render(self, files: dict[str, str], part: str, force: bool) -> None:
        before = contents(self.folder)
        promised = changes(files, self.folder, part)
        assert contents(self.folder) == before, "looking changed something"
        touched = {change.file for change in promised if change.kind != "keep"}
        try:
            done = write(files, self.folder, part, force=force)
        except ProjectError:
            assert not force
            assert contents(self.folder) == before, "a refusal left something behind"
            assert any(change.edited for change in promised)
            return
        assert done == promised
        after = contents(self.folder)
        assert files.items() <= after.items()
        assert {f for f in {*before, *after} if before.get(f) != after.get(f)} == touched
        if not force:
            lost = {f for f in self.theirs if self.theirs[f] != after.get(f)}
            assert not lost, f"a person's {lost} was overwritten"
        for file in touched | set(files):
            self.theirs.pop(file, None)
        assert all(change.kind == "keep" for change in changes(files, self.folder, part)), "not at rest"

    @rule(file=st.sampled_from(NAMES), text=st.sampled_from(["mine\n", "also mine\n"]))
    def edit(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.theirs[file] = text

    @rule(file=st.sampled_from(NAMES))
    def delete(self, file: str) -> None:
        (self.folder / file).unlink(missing_ok=True)
        self.theirs.pop(file, None)

    @rule(text=st.sampled_from(["", "{", "[]", '{"k8s": 1}', '{"k8s": {"a.yaml": 5}}', "[" * 100_000]))
    def break_the_record(self, text: str) -> None:
        if self.folder.is_dir():
            (self.folder / RECORD).write_text(text)
            self.theirs.update(contents(self.folder))  # nobody can tell any more whose they are

    @invariant()
    def nothing_half_written_is_left(self) -> None:
        names = {file.name for file in self.folder.rglob("*") if file.is_file()}
        assert names <= {*(name.rpartition("/")[2] for name in NAMES), RECORD}


Folder.TestCase.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
test_renderers_and_a_person_in_one_folder = Folder.TestCase


@settings(max_examples=40, deadline=None)
@given(rendered, rendered)
def test_one_part_leaves_the_other_s_files(first: dict[str, str], second: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(first, folder, "one")
        write({**first, **second}, folder, "two", force=True)
        write({}, folder, "one")
        assert contents(folder) == {**first, **second}


def test_an_edited_file_is_named_and_left(tmp_path: Path) -> None:
    write({"a": "1\n", "b": "1\n"}, tmp_path, "k8s")
    (tmp_path / "a").write_text("mine\n")
    with pytest.raises(ProjectError, match=r": a was not written by trtkit, or changed since; nothing was written"):
        write({"a": "2\n", "b": "2\n"}, tmp_path, "k8s")
    assert contents(tmp_path) == {"a": "mine\n", "b": "1\n"}
    write({"a": "2\n", "b": "2\n"}, tmp_path, "k8s", force=True)
    assert contents(tmp_path) == {"a": "2\n", "b": "2\n"}


def test_an_edited_file_that_is_no_longer_rendered_is_left_too(tmp_path: Path) -> None:
    write({"a": "1\n", "b": "1\n"}, tmp_path, "k8s")
    (tmp_path / "a").write_text("mine\n")
    with pytest.raises(ProjectError, match="a was not written by trtkit"):
        write({"b": "1\n"}, tmp_path, "k8s")
    assert (tmp_path / "a").read_text() == "mine\n"


def test_stale_files_go_with_the_folders_they_leave_empty(tmp_path: Path) -> None:
    write({"overlays/old/a": "1\n", "overlays/new/a": "1\n"}, tmp_path, "k8s")
    done = write({"overlays/new/a": "1\n"}, tmp_path, "k8s")
    assert done == [Change("overlays/new/a", "keep", edited=False), Change("overlays/old/a", "remove", edited=False)]
    assert not (tmp_path / "overlays/old").exists()


def test_a_folder_in_the_way_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for force in (False, True):
        with pytest.raises(ProjectError, match=r"b is a folder|b was not written by trtkit"):
            write({"a": "1\n", "b": "1\n"}, tmp_path, "k8s", force=force)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_a_file_where_a_folder_has_to_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine\n")
    with pytest.raises(ProjectError, match=r"b is no folder, so .*b/c cannot be written"):
        write({"a": "1\n", "b/c": "1\n"}, tmp_path, "k8s", force=True)
    assert contents(tmp_path) == {"b": "mine\n"}


def test_a_link_that_leads_nowhere_is_somebody_s(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "absent")
    with pytest.raises(ProjectError, match="a was not written by trtkit"):
        write({"a": "1\n"}, tmp_path, "k8s")
    assert (tmp_path / "a").is_symlink()


def test_a_record_cannot_have_files_outside_removed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs\n")
    folder = tmp_path / "out"
    folder.mkdir()
    names = {"../outside": "0" * 64, str(tmp_path / "outside"): "0" * 64}
    (folder / RECORD).write_text(json.dumps({"k8s": names}))
    assert write({"a": "1\n"}, folder, "k8s", force=True) == [Change("a", "create", edited=False)]
    assert (tmp_path / "outside").read_text() == "theirs\n"


def test_scripts_can_be_run(tmp_path: Path) -> None:
    write({"run.sh": "#!/bin/sh\n", "a.yaml": "a: 1\n"}, tmp_path, "compose")
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a.yaml").stat().st_mode & 0o777 == 0o644


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    write({"a": "1\n"}, tmp_path, "k8s")
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    write({"a": "1\n"}, tmp_path, "k8s")
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
