# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A model as a rule sees it: its files, its config with the place of everything, its neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from trtkit import pbtxt
from trtkit.config import ModelConfig
from trtkit.lint.core_autofill import core_autofilled
from trtkit.lint.finding import Fix
from trtkit.lint.ignores import Ignores
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Entry, Tree
from trtkit.repository import CONFIG_FILE

if TYPE_CHECKING:
    from trtkit.lint.onnx_header import OnnxHeader
    from trtkit.lint.onnx_model import OnnxModel
    from trtkit.lint.python_source import PythonSource
    from trtkit.lint.selection import Words

MAX_CONFIG_BYTES = 4 * 2**20
"""Larger config files are not read: the largest that anybody writes are some hundred kB."""

_LFS = b"version https://git-lfs.github.com/spec/"
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?\d+)", re.ASCII)
NO_VERSIONS = ("warmup", "initial_state", "configs")
"""Folders of a model that the server does not look at for versions."""


def version_of(folder: str) -> int | None:
    """The version that the server reads out of a folder's name; None where it takes it for none.

    It reads a number from the start and leaves the rest: ``7.tmp`` is version 7, and its files are looked for in
    ``7`` (Triton core, ``model_lifecycle.cc``, ``VersionsToLoad``).
    """
    number = _INTEGER.match(folder)
    if number is None or folder in NO_VERSIONS or (folder[0] == "0" and len(folder) > 1):
        return None
    version = int(number[1]) if len(number[1]) < 40 else 2**63
    return version if -(2**63) <= version < 2**63 else None


@dataclass(frozen=True)
class Found:
    """What a rule yields; `Model.found` and `Model.found_in` make it."""

    file: str
    message: str
    line: int | None = None
    column: int | None = None
    fix: Fix | None = None


@dataclass(eq=False)
class Repository:
    """The models that one server would see.

    Attributes:
        tree: where they are.
        server: what is known of the server.
        models: by directory name.
        words: what a comment can name for lint to ignore.
    """

    tree: Tree
    server: ServerFacts
    models: dict[str, Model] = field(default_factory=dict)
    words: Words = field(default_factory=dict)


class Model:
    """One model directory, read when a rule asks.

    Attributes:
        name: of the directory.
        folder: its path in the tree: the same, or '' when the tree's root is the model itself.
        config_file: the config that is looked at, from the model directory: ``config.pbtxt`` or
            ``configs/NAME.pbtxt``.
    """

    def __init__(self, repository: Repository, name: str, folder: str, config_file: str = CONFIG_FILE) -> None:
        self.repository, self.name, self.folder, self.config_file = repository, name, folder, config_file
        self._listings: dict[str, list[Entry]] = {}

    @property
    def server(self) -> ServerFacts:
        """What is known of the server."""
        return self.repository.server

    def path(self, file: str = "") -> str:
        """A path in the tree, of a path from the model directory."""
        return "/".join(part for part in (self.folder, file) if part)

    def entries(self, folder: str = "") -> list[Entry]:
        """What a folder of the model holds, by name; nothing where it is absent or cannot be read."""
        if folder not in self._listings:
            try:
                self._listings[folder] = self.repository.tree.entries(self.path(folder))
            except OSError:
                self._listings[folder] = []
        return self._listings[folder]

    def entry(self, file: str) -> Entry | None:
        """A file or folder of the model; None when it is not there."""
        folder, _, name = file.rpartition("/")
        return next((entry for entry in self.entries(folder) if entry.name == name), None)

    def kind(self, file: str) -> str:
        """What stands under a path of the model, see `Entry`; '' for nothing."""
        entry = self.entry(file)
        return "" if entry is None else entry.kind

    def is_pointer(self, file: str) -> bool:
        """Whether a file is what Git LFS leaves in the place of a large one."""
        entry = self.entry(file)
        try:
            return entry is not None and 0 < entry.size < 1024 and self.read(file, len(_LFS)) == _LFS
        except OSError:
            return False

    @property
    def variants(self) -> list[str]:
        """The configs that ``--model-config-name`` can choose, ``configs/NAME.pbtxt``."""
        return [f"configs/{entry.name}" for entry in self.entries("configs") if entry.name.endswith(".pbtxt")]

    def with_config(self, file: str) -> Model:
        """The same model with another of its configs."""
        return Model(self.repository, self.name, self.folder, file)

    def read(self, file: str, limit: int = 2**24) -> bytes:
        """At most `limit` bytes of a file of the model.

        Raises:
            OSError: it cannot be read.
        """
        with self.repository.tree.open(self.path(file)) as stream:
            return stream.read(limit)

    @cached_property
    def document(self) -> pbtxt.Document | None:
        """The config as it is written; None where there is none, it cannot be read, or it is too large."""
        entry = self.entry(self.config_file)
        if entry is None or entry.kind != "file" or entry.size > MAX_CONFIG_BYTES:
            return None
        try:
            return pbtxt.read(self.read(self.config_file, MAX_CONFIG_BYTES), ModelConfig)
        except OSError:
            return None

    @property
    def readable(self) -> bool:
        """Whether the config can be judged: there is none (the server completes it), or it has no mistake."""
        return self.entry(self.config_file) is None or (self.document is not None and not self.document.problems)

    @cached_property
    def written(self) -> ModelConfig:
        """The config's message as it is written; empty where there is none."""
        return self.document.message if self.document is not None else ModelConfig()

    @cached_property
    def config(self) -> ModelConfig:
        """The message after the server core has put in name, backend, platform and file name (always done)."""
        return core_autofilled(self)

    @cached_property
    def ignores(self) -> Ignores:
        """The comments of the model's files that tell lint to be silent."""
        return Ignores(self.repository.words)

    @cached_property
    def version_folders(self) -> tuple[int, ...]:
        """The versions that the server sees, ascending; see `version_of`."""
        found = {version_of(entry.name) for entry in self.entries() if entry.kind == "folder"}
        return tuple(sorted(version for version in found if version is not None))

    @cached_property
    def served_versions(self) -> tuple[int, ...]:
        """Those of `version_folders` that the version policy serves (default: the latest one)."""
        policy, there = self.config.version_policy, self.version_folders
        if policy.HasField("specific"):
            return tuple(version for version in there if version in set(policy.specific.versions))
        if self.config.HasField("version_policy") and not policy.HasField("latest"):
            return there
        latest = policy.latest.num_versions if policy.HasField("latest") else 1
        return there[max(0, len(there) - latest) :]

    def model_files(self) -> Mapping[int, str]:
        """By served version, the model file's path from the model directory, whether it exists or not."""
        name = self.config.default_model_filename
        return {version: f"{version}/{name}" for version in self.served_versions} if name else {}

    @cached_property
    def onnx(self) -> OnnxModel:
        """What the ONNX files of a model of the onnxruntime backend say, and its config against them."""
        from trtkit.lint.onnx_model import OnnxModel

        return OnnxModel(self)

    @property
    def python(self) -> tuple[PythonSource, ...]:
        """The code of a Python model, by served version; versions whose file is not there are left out."""
        from trtkit.lint.python_source import read_sources

        return read_sources(self)

    @property
    def onnx_headers(self) -> Mapping[int, OnnxHeader]:
        """By served version, the interface of its ONNX file; versions whose file cannot be read are left out."""
        return self.onnx.headers

    @cached_property
    def completed(self) -> ModelConfig | None:
        """The config as the server serves it, after the backend's auto-completion; None when not knowable.

        Not knowable: a Python model that completes itself, a model file that cannot be read here.
        """
        from trtkit.lint.autocomplete import completed

        return completed(self)

    def found(self, path: pbtxt.Path, message: str, *, fix: Fix | None = None) -> Found:
        """A finding about a field of the config; where the field is not written, about what is around it."""
        file = self.path(self.config_file)
        if self.document is None:
            return Found(file if self.entry(self.config_file) else self.path(), message)
        line, column = self.document.where(path)
        return Found(file, message, line, column, fix)

    def found_in(self, file: str, message: str, line: int | None = None, column: int | None = None) -> Found:
        """A finding about another file or folder of the model; '' is the model directory."""
        return Found(self.path(file), message, line, column)
