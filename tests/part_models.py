# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models made of the parts in python_backends/, for tests through the real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from google.protobuf import text_format

from trtkit.config import ModelConfig
from trtkit.parts import part_files, part_folder


def write_part(
    repository: Path,
    name: str,
    part: str,
    parameters: Mapping[str, str] | None = None,
    *,
    files: Mapping[str, bytes] | None = None,
    edit: Callable[[ModelConfig], object] | None = None,
) -> Path:
    """Put a model into a repository.

    Args:
        repository: it need not exist.
        name: of the model.
        part: a folder of python_backends/.
        parameters: over those of the part's config.pbtxt.
        files: for the version directory, by path in it.
        edit: changes the config in place, after the parameters.

    Returns:
        The version directory.
    """
    version = repository / name / "1"
    version.mkdir(parents=True)
    for file_name, source in part_files(part).items():
        shutil.copy2(source, version / file_name)
    for file_name, content in (files or {}).items():
        (version / file_name).write_bytes(content)
    config = text_format.Parse((part_folder(part) / "config.pbtxt").read_text(), ModelConfig())
    config.name = name
    for key, value in (parameters or {}).items():
        config.parameters[key].string_value = value
    if edit:
        edit(config)
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))
    return version
