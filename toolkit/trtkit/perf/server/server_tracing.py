# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's own tracing of requests, switched on for the time of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from trtkit.errors import ProjectError, ServerError, ServerUnavailableError
from trtkit.perf.server.control import Fetch

Settings = Sequence[tuple[str, tuple[str, ...]]]
"""Names and values: ``trace_level``, ``trace_rate``, ``trace_count``, ``log_frequency``."""


@contextmanager
def server_tracing(fetch: Fetch, wire: str, models: Iterable[str], settings: Settings) -> Iterator[None]:
    """Trace the requests to these models until the context ends; nothing is asked when there are no settings.

    Afterwards the models follow the server's general settings again.

    Args:
        fetch: from `open_control`.
        wire: ``http`` or ``grpc``, that of `fetch`.
        models: their names.
        settings: what to set.

    Raises:
        ProjectError: the server refuses: it was started without a trace file, or a setting is wrong.
        ServerUnavailableError: the server does not answer.
    """
    names = list(models) if settings else []
    try:
        for name in names:
            _set(fetch, wire, name, settings)
        yield
    finally:
        for name in names:
            with suppress(ServerError, ProjectError):  # a server that is gone traces no more
                _set(fetch, wire, name, [(setting, ()) for setting, _ in settings])


def _set(fetch: Fetch, wire: str, model: str, settings: Settings) -> None:
    """Set them; a setting without values is the general one again."""
    try:
        if wire == "grpc":
            fetch("trace", body={"model_name": model, "settings": _grpc_values(settings)})
        else:
            fetch("trace", model, body={name: _http_value(name, values) for name, values in settings})
    except ServerUnavailableError:
        raise
    except ServerError as exc:
        raise ProjectError(
            f"the server does not trace model '{model}': {exc}; start it with --trace-config triton,file=FILE, "
            "or leave --trace-level out"
        ) from exc


def _http_value(name: str, values: tuple[str, ...]) -> str | list[str] | None:
    if not values:
        return None
    return list(values) if name == "trace_level" else values[0]


def _grpc_values(settings: Settings) -> dict[str, Any]:
    from tritonclient.grpc.service_pb2 import TraceSettingRequest

    return {name: TraceSettingRequest.SettingValue(value=list(values)) for name, values in settings}
