# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What tests of a part share: its modules in this process, and one server with good and bad models of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from tritonclient.utils import InferenceServerException

from onnx_clients import Connection
from trtkit.compat import python_backends_folder
from trtkit.config import ModelConfig
from trtkit.parts import part_folder
from trtkit.server import RunningServer, serve


def part_module(part: str, name: str) -> ModuleType:
    """A module of a part that works without the Python backend."""
    folders = [str(part_folder(part)), str(python_backends_folder())]
    sys.path[:0] = folders
    try:
        return importlib.import_module(name)
    finally:
        for folder in folders:
            sys.path.remove(folder)


class Triton:
    """A server, a connection of each protocol, and those of its models that are not loaded yet.

    Args:
        server: started with a list of models.
        http: to it.
        grpc: to it.
    """

    def __init__(self, server: RunningServer, http: Connection, grpc: Connection) -> None:
        self.server, self.http, self.grpc = server, http, grpc
        self.connections = [http, grpc]

    def refusal(self, model: str) -> str:
        """Why a model cannot be loaded; empty when it can."""
        try:
            self.grpc.client.load_model(model)
        except InferenceServerException as error:
            return str(error)
        return ""

    def error(self, model: str, feed: dict[str, np.ndarray]) -> str:
        """What a request of each protocol is refused with: the same."""
        messages = set()
        for connection in self.connections:
            try:
                connection.infer(model, feed)
            except InferenceServerException as error:
                messages.add(error.message().strip())
            else:
                messages.add("answered")
        return messages.pop() if len(messages) == 1 else str(messages)


@contextmanager
def triton_with(repository: Path, models: list[str]) -> Iterator[Triton]:
    """A server for a test file that loads these models at its start."""
    with ExitStack() as stack:
        server = stack.enter_context(serve(repository, models=models))
        http, grpc = Connection("http", server.http_url), Connection("grpc", server.grpc_url)
        stack.callback(http.close)
        stack.callback(grpc.close)
        yield Triton(server, http, grpc)


def strings(*rows: list[str | bytes]) -> np.ndarray:
    """A BYTES tensor of rows."""
    array = np.empty((len(rows), len(rows[0])), np.object_)
    for row, values in enumerate(rows):
        array[row] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def unbatched(config: ModelConfig) -> None:
    """No batching; each tensor gets one more dimension, of any size."""
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    for tensor in [*config.input, *config.output]:
        tensor.dims[:] = [-1, *tensor.dims]


def four_together(config: ModelConfig) -> None:
    """A batch waits until four are there: long enough never to end by itself in a test."""
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000
