# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models for the onnxruntime backend put on disk, and NVIDIA's clients talking to them over both protocols."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.utils import np_to_triton_dtype

APIS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}
# every model at start, others by the load API; after a load that failed the server would wait for that model at its end
EXPLICIT = ("--model-control-mode=explicit", "--load-model=*", "--exit-timeout-secs=3")
TIMEOUT_S = 60.0  # far beyond what any answer here takes, on a busy machine too

Feed = Mapping[str, np.ndarray]


def write_model(repository: Path, name: str, model: ModelProto, config: str) -> Path:
    """Put a model of the backend "onnxruntime" into a repository and return its folder."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(f'backend: "onnxruntime"\n{config}')
    onnx.save(model, folder / "1" / "model.onnx")
    return folder


def tensors(api: Any, feed: Feed) -> list[Any]:
    """A feed as the client's inputs."""
    made = []
    for name, value in feed.items():
        tensor = api.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        made.append(tensor)
    return made


class Connection:
    """A tritonclient of either protocol.

    Args:
        protocol: http or grpc.
        url: HOST:PORT.
    """

    def __init__(self, protocol: str, url: str) -> None:
        self.protocol = protocol
        self.api = APIS[protocol]
        options: dict[str, Any] = {"network_timeout": TIMEOUT_S} if protocol == "http" else {}
        self.client = self.api.InferenceServerClient(url, **options)

    def infer(self, model: str, feed: Feed, outputs: Sequence[str] = (), **more: Any) -> Any:
        """The result of one request.

        Args:
            model: its name.
            feed: the inputs, by name.
            outputs: those asked for; default: all.
            more: whatever the client's `infer` takes, such as ``sequence_id``.
        """
        wanted = [self.api.InferRequestedOutput(name) for name in outputs] or None
        return self.client.infer(model, tensors(self.api, feed), outputs=wanted, **more)

    def step(self, model: str, value: float, sequence: int | str, **flags: bool) -> np.ndarray:
        """Output ``y`` for one FP32 ``x`` of shape [1, 1] in a sequence.

        Args:
            model: its name.
            value: of ``x``.
            sequence: the correlation id.
            flags: ``start`` and ``end``.
        """
        more = {f"sequence_{name}": value for name, value in flags.items()}
        result = self.infer(model, {"x": np.array([[value]], np.float32)}, sequence_id=sequence, **more)
        return result.as_numpy("y")

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def at_once(grpc: Connection, model: str, feeds: Sequence[Feed], **more: Any) -> list[Any]:
    """The answers, results or errors, to requests that are all sent before the first is answered."""
    answers: queue.Queue[tuple[int, Any]] = queue.Queue()
    for index, feed in enumerate(feeds):
        grpc.client.async_infer(
            model,
            tensors(grpcclient, feed),
            lambda result, error, index=index: answers.put((index, result or error)),
            **more,
        )
    received = dict(answers.get(timeout=TIMEOUT_S) for _ in feeds)
    return [received[index] for index in range(len(feeds))]


class Stream:
    """A gRPC stream, for requests that do not wait for one another; a context manager."""

    def __init__(self, url: str) -> None:
        self._client = grpcclient.InferenceServerClient(url)
        self._answers: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __enter__(self) -> Stream:
        self._client.start_stream(lambda result, error: self._answers.put((result, error)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_stream()
        self._client.close()

    def send(self, model: str, feed: Feed, *, name: str = "", **more: Any) -> None:
        """Send a request; ``name`` is its id, ``more`` what ``async_stream_infer`` takes."""
        self._client.async_stream_infer(model, tensors(grpcclient, feed), request_id=name, **more)

    def answers(self, count: int) -> dict[str, Any]:
        """The next results, by the id of their requests."""
        found = {}
        for _ in range(count):
            result, error = self._answers.get(timeout=TIMEOUT_S)
            if error:
                raise error
            found[result.get_response().id] = result
        return found


class Executions:
    """How often a model ran, from now on."""

    def __init__(self, grpc: Connection, model: str) -> None:
        self._read = lambda: grpc.client.get_inference_statistics(model).model_stats[0]
        self._before = self._read()

    def for_rows(self, rows: int) -> int:
        """The executions that took so many rows; they are counted after the answers are sent."""
        deadline = time.monotonic() + TIMEOUT_S
        while (now := self._read()).inference_count < self._before.inference_count + rows:
            assert time.monotonic() < deadline, "the server counted fewer rows than were sent"
            time.sleep(0.01)
        return int(now.execution_count - self._before.execution_count)
