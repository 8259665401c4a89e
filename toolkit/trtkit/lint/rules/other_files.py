# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files beside the model: labels, data of warm-ups, configs, links, and what only lies in the way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.repository import CONFIG_FILE

_OF_EDITORS = re.compile(
    r"\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._|\.#|#.*#$|\.nfs[0-9a-f]|.*(?:\.sw[a-p]|~|\.bak|\.orig|\.rej|\.part|\.tmp)$",
    re.IGNORECASE | re.DOTALL,
)
_MOST_LABELS = 2**24


@rule("LAY021", "label-file-missing", server=True)
def label_file_missing(model: Model) -> Iterator[Found]:
    """The label file of an output is not there.

    label_filename is looked for in the model's folder, one with a slash in front as well (backend_model.cc). Where
    it is a folder the whole server ends.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "label.txt" }    # and m/labels.txt

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }
    """
    for index, output in enumerate(model.config.output):
        name = output.label_filename
        if not name or ".." in name.split("/"):
            continue
        kind = model.kind(name.strip("/"))
        if kind not in ("file", "other"):
            there = [entry.name for entry in model.entries() if entry.kind == "file" and entry.name != CONFIG_FILE]
            words = f"failed to open text file for read {model.name}/{name.lstrip('/')}: No such file or directory"
            words = "label_filename is a folder, and the server ends at it" if kind == "folder" else words
            yield model.found(("output", index, "label_filename"), f"{words}; {nearest(name, there)}")


@rule("LAY022", "number-of-labels", Severity.WARNING)
def number_of_labels(model: Model) -> Iterator[Found]:
    """A label file has another number of lines than its output has elements.

    Line N is the label of element N; an element without a line has an empty label in classification answers.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }    # of 2 lines

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }    # of 10 lines
    """
    for index, output in enumerate(model.config.output):
        entry = model.entry(output.label_filename.strip("/")) if output.label_filename else None
        if entry is None or entry.kind not in ("file", "other") or not output.dims or min(output.dims) < 1:
            continue
        try:
            text = model.read(output.label_filename.strip("/"), _MOST_LABELS)
        except OSError as exc:
            words = f"{output.label_filename} cannot be read, so its labels are not counted: {exc.strerror or exc}"
            yield model.found(("output", index, "label_filename"), words)
            continue
        lines, elements = len(text.splitlines()), math.prod(output.dims)
        if lines != elements and len(text) < _MOST_LABELS:
            words = f"{output.label_filename} has {lines} labels, and output '{output.name}' {elements} elements"
            yield model.found(("output", index, "label_filename"), f"{words}; write one line for each")


@rule("LAY023", "warm-up-file-unused", Severity.ADVICE)
def unused_warm_up(model: Model) -> Iterator[Found]:
    """A file in warmup/ is named by no input_data_file of the model's configs.

    A warm-up was meant to use it, or it is left over and copied with the model for nothing.

    Wrong:
        m/warmup/x    # and no model_warmup in config.pbtxt

    Right:
        model_warmup { name: "one" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4
          input_data_file: "x" } } }
    """
    files = [entry.name for entry in model.entries("warmup") if entry.kind == "file"]
    if not files or model.config_file != CONFIG_FILE:
        return
    used = {
        tensor.input_data_file
        for each in (model, *map(model.with_config, model.variants))
        for warm_up in each.written.model_warmup
        for tensor in warm_up.inputs.values()
    }
    for name in files:
        if name not in used:
            yield model.found_in(f"warmup/{name}", f"no input_data_file of a model_warmup is '{name}'; remove it")


@rule("LAY024", "not-a-config-in-configs", Severity.ADVICE, needs_config=False)
def not_a_config(model: Model) -> Iterator[Found]:
    """A file in configs/ has no .pbtxt at its end, so no ``--model-config-name`` can mean it.

    The server puts the NAME it is given between configs/ and .pbtxt (core: model_repository_manager.cc).

    Wrong:
        m/configs/l4.txt

    Right:
        m/configs/l4.pbtxt    # for --model-config-name=l4
    """
    for entry in model.entries("configs"):
        if not entry.name.endswith(".pbtxt"):
            words = f"--model-config-name finds only files that end with .pbtxt; rename '{entry.name}', or remove it"
            yield model.found_in(f"configs/{entry.name}", words)


@rule("LAY025", "broken-link", server=True, needs_config=False)
def broken_link(model: Model) -> Iterator[Found]:
    """A link in the model's folder leads nowhere, or to itself.

    Whatever it is for, the server refuses the model: it looks at each entry to find the versions (filesystem,
    GetDirectorySubdirs).

    Wrong:
        m/2 -> /mnt/gone

    Right:
        m/2 -> /mnt/models/m/2
    """
    for entry in model.entries():
        if entry.kind == "broken" and entry.name != model.config_file:
            words = f"failed to stat file {model.path(entry.name)}"
            yield model.found_in(entry.name, f"{words}: it is a link that leads nowhere; remove it, or mend it")


@rule("LAY026", "file-of-an-editor", Severity.ADVICE, needs_config=False)
def of_editors(model: Model) -> Iterator[Found]:
    """A file that an editor, a copy or an operating system left behind.

    The server reads none of them, but with ``--model-control-mode=poll`` each one that comes or goes loads the
    model anew.

    Wrong:
        m/.config.pbtxt.swp

    Right:
        m/config.pbtxt
    """
    for folder in ("", *(str(version) for version in model.version_folders)):
        for entry in model.entries(folder):
            if entry.kind == "file" and _OF_EDITORS.match(entry.name):
                path = f"{folder}/{entry.name}" if folder else entry.name
                yield model.found_in(path, f"'{entry.name}' is no file of the model; remove it")


@rule("LAY027", "name-is-the-start-of-the-config", Severity.WARNING, needs_config=False)
def start_of_config(model: Model) -> Iterator[Found]:
    """A file or folder has a name that config.pbtxt begins with, such as ``config``.

    The server then takes two entries for the config and notes no times of change (model_repository_manager.cc,
    ModelTimestamp), so it does not see when the model was changed.

    Wrong:
        m/config.pbtxt
        m/config

    Right:
        m/config.pbtxt
        m/settings.json
    """
    for entry in model.entries():
        if entry.name != CONFIG_FILE and CONFIG_FILE.startswith(entry.name) and model.entry(CONFIG_FILE):
            words = "Duplicate model config is detected, so a changed model is not noticed"
            yield model.found_in(entry.name, f"{words}: config.pbtxt begins with '{entry.name}'; rename it")


RULES = (
    label_file_missing, number_of_labels, unused_warm_up, not_a_config, broken_link, of_editors, start_of_config,
)  # fmt: skip
