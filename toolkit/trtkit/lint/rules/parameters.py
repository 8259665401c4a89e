# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters that the core or the Python backend look at."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.edits import removed, set_value
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Path

MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
_ENVIRONMENT, _STRATEGY, _CPU_ONLY = "EXECUTION_ENV_PATH", "TRITON_BATCH_STRATEGY_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS"
_YES_NO = {"true": "yes", "1": "yes", "on": "yes", "yes": "yes", "false": "no", "0": "no", "off": "no", "no": "no"}
# how a packed tar archive begins: gzip, bzip2, xz, zstd; one that is not packed has its mark further on
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_TAR_MARK = slice(257, 262)
_NOT_UNPACKED = "archive_read_open_filename() failed."


def _value_path(key: str) -> Path:
    return ("parameters", key, "string_value")


def _environment(model: Model) -> tuple[str, str | None]:
    """The environment's path as written, and from the model directory where it is inside; ('', None) for none."""
    config = model.config
    if config.backend != "python" or _ENVIRONMENT not in config.parameters:
        return "", None
    given = config.parameters[_ENVIRONMENT].string_value
    if given.startswith(f"{MODEL_DIRECTORY}/"):
        inside = posixpath.normpath(given.removeprefix(f"{MODEL_DIRECTORY}/"))
        return given, None if inside.split("/")[0] in ("..", ".") else inside
    return given, None


@rule("PAR001", "environment-path-relative", server=True, fixable=True)
def environment_relative(model: Model) -> Iterator[Found]:
    """EXECUTION_ENV_PATH names a file of the model by a relative path.

    A relative path is one from the directory in which the server was started, so that the file is not found
    (python_backend: pb_env.cc; measured with 2.51).

    Wrong:
        parameters {
          key: "EXECUTION_ENV_PATH"
          value { string_value: "env.tar.gz" }    # the file is in the model directory
        }

    Right:
        parameters {
          key: "EXECUTION_ENV_PATH"
          value { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" }
        }
    """
    given, _ = _environment(model)
    path = _value_path(_ENVIRONMENT)
    if given and not given.startswith(("/", "$", ".")) and model.entry(posixpath.normpath(given)) is not None:
        right = f'"{MODEL_DIRECTORY}/{given}"'
        document = model.document
        yield model.found(
            path,
            f"Failed to get the canonical path for {given}.; a relative path is the server's, not the model's: "
            f"write {right}",
            fix=set_value(document, path, right) if document and path in document.spans else None,
        )


@rule("PAR002", "environment-no-archive", server=True)
def environment_no_archive(model: Model) -> Iterator[Found]:
    """EXECUTION_ENV_PATH leads to a file that is no archive.

    The backend unpacks what conda-pack makes: a tar archive, packed or not. A pointer of Git LFS in its place is a
    frequent mistake, a zip archive another (python_backend: pb_env.cc; measured with 2.51, which takes a file that
    it has unpacked before, of the same path and time, for the same).

    Wrong:
        env.tar.gz    # version https://git-lfs.github.com/spec/v1 ...

    Right:
        env.tar.gz    # fetched with git lfs pull
    """
    given, inside = _environment(model)
    entry = model.entry(inside) if inside is not None else None
    if entry is None or entry.kind != "file" or inside is None:
        return
    try:
        head = model.read(inside, 512)
    except OSError:
        return
    if model.is_pointer(inside):
        words = f"{_NOT_UNPACKED}; {given} is a pointer of Git LFS: fetch it with git lfs pull"
        yield model.found(_value_path(_ENVIRONMENT), words)
    elif not head.startswith(_ARCHIVES) and head[_TAR_MARK] != b"ustar":
        words = f"{_NOT_UNPACKED}; {given} is no tar.gz, nor another tar archive: make it with conda-pack"
        yield model.found(_value_path(_ENVIRONMENT), words)


@rule("PAR003", "cpu-only-tensors-yes-or-no", server=True, fixable=True)
def cpu_only(model: Model) -> Iterator[Found]:
    """FORCE_CPU_ONLY_INPUT_TENSORS is neither yes nor no.

    The Python backend takes these two words in small letters (python_backend: python_be.cc; measured with 2.51).

    Wrong:
        parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "true" } }

    Right:
        parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }
    """
    config = model.config
    if config.backend != "python" or _CPU_ONLY not in config.parameters:
        return
    given = config.parameters[_CPU_ONLY].string_value
    if given in ("yes", "no"):
        return
    meant, path, document = _YES_NO.get(given.lower()), _value_path(_CPU_ONLY), model.document
    fixable = meant and document and path in document.spans
    yield model.found(
        path,
        f'Incorrect value for {_CPU_ONLY}: {given}\'; write "yes" or "no"',
        fix=set_value(document, path, f'"{meant}"') if fixable else None,
    )


@rule("PAR004", "batch-strategy-empty", server=True, fixable=True)
def strategy_empty(model: Model) -> Iterator[Found]:
    """TRITON_BATCH_STRATEGY_PATH is empty.

    The library is looked for under this very path; without the parameter under the name batchstrategy.so in the
    folders of the version, the model and the backend (core: backend_model.cc, TritonModel::Create).

    Wrong:
        parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "" } }

    Right:
        max_batch_size: 8    # with batchstrategy.so in the model directory
    """
    config = model.config
    if config.HasField("sequence_batching") or _STRATEGY not in config.parameters:
        return
    if not config.parameters[_STRATEGY].string_value:
        path = ("parameters", _STRATEGY)
        yield model.found(
            path, "Batching library path not found: ; give the library's path", fix=removed(model.document, path)
        )


@rule("PAR005", "batch-strategy-no-library", server=True)
def strategy_no_library(model: Model) -> Iterator[Found]:
    """batchstrategy.so, which the server loads by its name alone, is no shared library.

    It is loaded for every model without sequence batching, whether dynamic_batching is set or not (core:
    backend_model.cc, TritonModel::Create; measured with 2.51).

    Wrong:
        1/batchstrategy.so    # a text

    Right:
        1/batchstrategy.so    # as the compiler made it
    """
    config = model.config
    if config.HasField("sequence_batching") or _STRATEGY in config.parameters or config.platform == "ensemble":
        return
    folders = (*(f"{version}/" for version in model.served_versions), "")
    file = next((f"{folder}batchstrategy.so" for folder in folders if model.entry(f"{folder}batchstrategy.so")), None)
    if file is None:
        return
    try:
        head = model.read(file, 4)
    except OSError:
        return
    if head != b"\x7fELF":
        yield model.found_in(file, f"unable to load shared library: {file} is no shared library")


@rule("PAR006", "environment-not-there", server=True)
def environment_not_there(model: Model) -> Iterator[Found]:
    """EXECUTION_ENV_PATH leads to a file of the model that is not there.

    Archives of environments are large, so that they are often left out of what is committed or copied. Told of
    paths in the model's directory: others are the server's (python_backend: pb_env.cc; measured with 2.51).

    Wrong:
        m/config.pbtxt    # string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz"

    Right:
        m/config.pbtxt    # string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz"
        m/env.tar.gz
    """
    given, inside = _environment(model)
    if inside is not None and model.entry(inside) is None:
        folder = posixpath.dirname(inside)
        there = [entry.name for entry in model.entries(folder)]
        words = f"Failed to get the canonical path for {given}; {nearest(posixpath.basename(inside), there)}"
        yield model.found(_value_path(_ENVIRONMENT), words)


RULES = (
    environment_relative,
    environment_no_archive,
    cpu_only,
    strategy_empty,
    strategy_no_library,
    environment_not_there,
)
