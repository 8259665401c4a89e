# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A request's parameters and its headers, checked before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trtkit.errors import ProjectError
from trtkit.perf.data.pool import Parameter

SEQUENCE_WORDS = ("sequence_id", "sequence_start", "sequence_end")
# Triton's parameters extension keeps these, and every name that begins with triton_, for itself
_RESERVED = ("headers", "binary_data_output")
_COUNTS = ("priority", "timeout")
_INT64 = range(-(2**63), 2**63)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
_OURS = (
    "connection",
    "content-encoding",
    "content-length",
    "inference-header-content-length",
    "transfer-encoding",
)


def checked_parameters(parameters: Mapping[str, Parameter], *, sequence: bool = False) -> dict[str, Parameter]:
    """The parameters as they can be sent, over HTTP and gRPC alike.

    Triton has words of its own among them: ``priority`` (a level of the model's queues) and ``timeout``
    (microseconds that the request may wait in the queue) are integers from 0; ``sequence_id`` (an integer or up to
    128 characters), ``sequence_start`` and ``sequence_end`` make the request one of a sequence.

    Args:
        parameters: as the user gave them.
        sequence: whether the request gets its sequence's words later, by `encode.http_sequenced` or
            `encode.grpc_sequenced`.

    Raises:
        ProjectError: a reserved name, an integer beyond 64 bits, a number that is not finite, or a wrong value of
            one of Triton's own words.
    """
    for name, value in parameters.items():
        _check(name, value, sequence)
    return dict(parameters)


def _check(name: str, value: Any, sequence: bool) -> None:
    if name in _RESERVED or name.startswith("triton_"):
        raise ProjectError(f"request parameter '{name}' is Triton's own; give it another name")
    if sequence and name in SEQUENCE_WORDS:
        raise ProjectError(f"request parameter '{name}' is set by the sequences themselves; leave it out")
    if not isinstance(value, (bool, int, float, str)):
        raise ProjectError(f"request parameter '{name}' is {value!r}; it must be a bool, an int, a float or a string")
    if name in _COUNTS and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ProjectError(f"request parameter '{name}' is {value!r}; it must be an integer from 0")
    if name == "sequence_id":
        checked_sequence_id(value)
    elif isinstance(value, int) and value not in _INT64:
        raise ProjectError(f"request parameter '{name}' is {value}, which is no 64-bit integer")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProjectError(f"request parameter '{name}' is {value}, which JSON cannot carry; give a finite number")


def checked_sequence_id(value: Any) -> int | str:
    """A sequence's id: an unsigned 64-bit integer other than 0, or 1 to 128 characters.

    Raises:
        ProjectError: anything else; 0 and the empty string would mean "no sequence".
    """
    if isinstance(value, str) and 1 <= len(value.encode()) <= 128:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**64:
        return value
    raise ProjectError(f"sequence id {value!r} is impossible; give an integer from 1 to 2^64 - 1, or 1 to 128 bytes")


def checked_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The user's headers as they can be sent, in their order.

    Raises:
        ProjectError: no valid name or value, or a header that follows from the request itself.
    """
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ProjectError(f"'{name}' is no name of an HTTP header; give NAME:VALUE")
        if name.lower() in _OURS:
            raise ProjectError(f"the header {name} follows from the request; leave it out")
        if not value.isprintable() or not value.isascii():
            raise ProjectError(f"the value {value!r} of the header {name} is not printable ASCII")
    return [(name, value.strip()) for name, value in headers]
