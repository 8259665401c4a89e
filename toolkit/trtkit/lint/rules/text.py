# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The text of config.pbtxt: whether it can be read at all."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.finding import Edit, Fix
from trtkit.lint.model import MAX_CONFIG_BYTES, Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Problem


def _problems(model: Model, kind: str) -> Iterator[tuple[Problem, Found]]:
    document = model.document
    for problem in document.problems if document else ():
        if problem.kind == kind:
            line, column = document.position(problem.offset)  # type: ignore[union-attr]
            edits = (Edit(problem.offset, problem.end, problem.suggestion),) if problem.suggestion else ()
            fix = Fix(f"write {problem.suggestion}", edits) if edits else None
            yield problem, Found(model.path(model.config_file), problem.message, line, column, fix)


@rule("PBT001", "syntax-error", server=True, needs_config=False)
def syntax_error(model: Model) -> Iterator[Found]:
    """The config is no protobuf text format.

    The server reads config.pbtxt with protobuf's text format and refuses the model with "failed to read text
    proto from .../config.pbtxt"; which line it was stands only in its log.

    Wrong:
        max_batch_size = 8

    Right:
        max_batch_size: 8
    """
    for _, found in _problems(model, "syntax"):
        yield found


@rule("PBT002", "unknown-field", server=True, needs_config=False, fixable=True)
def unknown_field(model: Model) -> Iterator[Found]:
    """A field has a name that ModelConfig does not know.

    The server refuses the whole file. Field names are those of model_config.proto.

    Wrong:
        max_batchsize: 8

    Right:
        max_batch_size: 8
    """
    for _, found in _problems(model, "unknown_field"):
        yield found


@rule("PBT003", "duplicate-field", server=True, needs_config=False)
def duplicate_field(model: Model) -> Iterator[Found]:
    """A field that can stand once stands twice.

    Protobuf's C++ reader refuses the second one, in a message of messages too.

    Wrong:
        max_batch_size: 8
        max_batch_size: 16

    Right:
        max_batch_size: 16
    """
    for _, found in _problems(model, "duplicate"):
        yield found


@rule("PBT004", "fields-exclude-each-other", server=True, needs_config=False)
def oneof_twice(model: Model) -> Iterator[Found]:
    """Two fields of one oneof are given, of which only one may be.

    Such are the version policies (latest, all, specific), the schedulers (dynamic_batching, sequence_batching,
    ensemble_scheduling) and the strategies of sequence batching (direct, oldest) (core: filesystem, ReadTextProto).

    Wrong:
        version_policy { latest { num_versions: 2 } all { } }

    Right:
        version_policy { all { } }
    """
    for _, found in _problems(model, "oneof"):
        yield found


@rule("PBT005", "wrong-value", server=True, needs_config=False, fixable=True)
def wrong_value(model: Model) -> Iterator[Found]:
    """A value is of another type than its field, out of its range, or no name of its enum.

    The server's parser of the text format ends there, and the model has no config (core: filesystem, ReadTextProto).

    Wrong:
        max_batch_size: "8"
        input { name: "x" data_type: FP32 dims: [ 4 ] }

    Right:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for _, found in _problems(model, "value"):
        yield found


@rule("PBT006", "config-unreadable", server=True, needs_config=False)
def config_unreadable(model: Model) -> Iterator[Found]:
    """The config is there, but cannot be read.

    A link that leads to itself or nowhere, a folder, a file without permission. The server says "failed to poll
    from model repository" and why only in its log.

    Wrong:
        m/config.pbtxt -> config.pbtxt

    Right:
        m/config.pbtxt
    """
    entry = model.entry(model.config_file)
    if entry is None or model.document is not None or entry.size > MAX_CONFIG_BYTES:
        return
    if entry.kind == "file":
        yield model.found_in(model.config_file, "the config cannot be read; look at its permissions")
    else:
        what = {"folder": "a folder", "broken": "a link that leads nowhere"}.get(entry.kind, "no ordinary file")
        yield model.found_in(model.config_file, f"failed to poll from model repository: the config is {what}")


@rule("PBT007", "config-too-large", needs_config=False)
def config_too_large(model: Model) -> Iterator[Found]:
    """The config has more than 4 MiB, so it was not read.

    The largest configs that people write have some hundred kB. A larger one is most likely another file under
    this name; the model is not judged, so it cannot be called right.

    Wrong:
        m/config.pbtxt    104857600 bytes

    Right:
        m/config.pbtxt    2048 bytes
    """
    entry = model.entry(model.config_file)
    if entry is not None and entry.kind == "file" and entry.size > MAX_CONFIG_BYTES:
        size = f"{entry.size / 2**20:.1f} MiB"
        yield model.found_in(
            model.config_file, f"the config has {size}; more than 4 MiB are not read, so nothing is said"
        )


RULES = (
    syntax_error,
    unknown_field,
    duplicate_field,
    oneof_twice,
    wrong_value,
    config_unreadable,
    config_too_large,
)
