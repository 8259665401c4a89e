# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Triton's ``onnxruntime`` backend, for servers that come without NVIDIA's C++ one.

As ``<backend directory>/onnxruntime/model.py`` it serves every model whose configuration says
``backend: "onnxruntime"`` (or ``platform: "onnxruntime_onnx"``); see README.md beside this file.
Triton runs one process of this for each model instance.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_ort_check import check
from trtkit_ort_config import Graph, Tensor, complete, is_complete
from trtkit_ort_session import graph_of, model_path, open_session, ort_message, read_graph, run_options

# `is_cancelled` asks the server and waits for its answer: 70 to 80 µs measured, against 110 µs for a whole
# request of a small model. It is asked where a request's own compute is at least this long, so that it
# costs at most a few percent.
_CANCELLATION_CHECK_SECONDS = 0.002


class _Call(NamedTuple):
    """One request, read.

    Attributes:
        position: of its response in the list that `execute` returns.
        feed: its tensors, by name; the batch is the first dimension when the model batches.
        outputs: the names it asks for, in the configuration's order.
    """

    position: int
    feed: dict[str, np.ndarray]
    outputs: list[str]

    @property
    def rows(self) -> int:
        """The batch size of the request."""
        return len(next(iter(self.feed.values())))


class TritonPythonModel:
    """One instance of one model. Triton calls the methods, in the order they stand here."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in what config.pbtxt leaves out; Triton calls it before there are instances."""
        config = auto_complete_model_config.as_dict()
        if not is_complete(config):
            complete(config, read_graph(model_path(pb_utils.get_model_dir(), config)))
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the session and check the configuration against it."""
        config = json.loads(args["model_config"])
        path = model_path(pb_utils.get_model_dir(), config)
        self._session = open_session(path, config, args["model_instance_kind"], args["model_instance_device_id"])
        graph = graph_of(self._session)
        check(config, graph)
        self._name = config["name"]
        self._batching = config["max_batch_size"] > 0
        self._converters = _converters(graph)
        self._output_dims = {entry["name"]: tuple(entry["dims"]) for entry in config["output"]}
        self._run_options = run_options(config)
        self._seconds_per_request = 0.0
        threads = self._session.get_session_options().intra_op_num_threads
        pb_utils.Logger.log_info(
            f"Created session for instance: {args['model_instance_name']} "
            f"({', '.join(self._session.get_providers())}; intra-op threads: {threads})"
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request: those of equal shapes in one run, and a wrong one alone with its error."""
        responses: list[Any] = [None] * len(requests)
        for calls in self._batches(requests, responses):
            for call, response in zip(calls, self._answer(calls), strict=True):
                responses[call.position] = response
        return responses

    def finalize(self) -> None:
        """Release the session before the process ends."""
        self._session = None

    def _batches(self, requests: Sequence[Any], responses: list[Any]) -> Iterator[list[_Call]]:
        """The requests that can run together; empty, cancelled and unreadable ones are answered here."""
        ask_cancelled = self._seconds_per_request >= _CANCELLATION_CHECK_SECONDS
        batches: dict[Any, list[_Call]] = {}
        for position, request in enumerate(requests):
            requested = request.requested_output_names()
            if not requested:  # the sequence batcher fills empty slots with requests of uninitialised data
                responses[position] = pb_utils.InferenceResponse([])
                continue
            if ask_cancelled and request.is_cancelled():
                pb_utils.Logger.log_verbose(f"dropped a cancelled request of model '{self._name}'")
                responses[position] = _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
                continue
            try:
                call = _Call(position, self._feed(request), [n for n in self._output_dims if n in requested])
            except Exception as error:  # whatever is wrong with it, the others must be served
                responses[position] = _error(f"model '{self._name}': {error}", pb_utils.TritonError.INTERNAL)
                continue
            if self._batching and len(requests) > 1:
                batches.setdefault(_signature(call), []).append(call)
            else:
                yield [call]
        yield from batches.values()

    def _feed(self, request: Any) -> dict[str, np.ndarray]:
        feed = {}
        for tensor in request.inputs():
            name, value = tensor.name(), tensor.as_numpy()
            convert = self._converters.get(name)
            feed[name] = convert(value) if convert else value
        return feed

    def _answer(self, calls: list[_Call]) -> list[Any]:
        try:
            return self._run(calls)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if len(calls) > 1:
                return [response for call in calls for response in self._answer([call])]
            return [_error(self._reason(error), pb_utils.TritonError.INTERNAL)]

    def _run(self, calls: list[_Call]) -> list[Any]:
        """One run of the session for all calls, which have equal shapes but for the batch."""
        feed, names = calls[0].feed, calls[0].outputs
        if len(calls) > 1:
            feed = {name: np.concatenate([call.feed[name] for call in calls]) for name in feed}
            names = [name for name in self._output_dims if any(name in call.outputs for call in calls)]
        started = time.perf_counter()
        values = self._session.run(names, feed, self._run_options)
        self._seconds_per_request = (time.perf_counter() - started) / len(calls)
        outputs = dict(zip(names, values, strict=True))
        if not self._batching:
            return [self._response(outputs)]  # these models' calls come one by one
        self._check_rows(feed, outputs)
        return self._split(calls, outputs)

    def _check_rows(self, feed: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        rows = len(next(iter(feed.values())))
        for name, value in outputs.items():
            if value.shape[:1] != (rows,):
                raise ValueError(
                    f"output '{name}' of model '{self._name}' has shape {list(value.shape)} for a batch of "
                    f"{rows}; its first dimension is not the batch, so the model needs max_batch_size: 0"
                )

    def _split(self, calls: list[_Call], outputs: Mapping[str, np.ndarray]) -> list[Any]:
        responses, start = [], 0
        for call in calls:
            stop = start + call.rows
            responses.append(self._response({name: outputs[name][start:stop] for name in call.outputs}))
            start = stop
        return responses

    def _response(self, outputs: Mapping[str, np.ndarray]) -> Any:
        tensors = []
        for name, value in outputs.items():
            if value.ndim == 0:  # Triton has no scalars: as many dimensions of 1 as the configuration says
                value = value.reshape(self._output_dims[name])
            tensors.append(pb_utils.Tensor(name, value))
        return pb_utils.InferenceResponse(tensors)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, UnicodeDecodeError):
            return (
                f"model '{self._name}': a string of its output is not UTF-8 ({error}), and ONNX Runtime's "
                "Python API has no other way to give it; the C++ backend has"
            )
        if isinstance(error, ValueError):  # of _check_rows, or of the Python part of ONNX Runtime
            return str(error)
        return ort_message(error)


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _signature(call: _Call) -> frozenset[tuple[str, tuple[int, ...], str]]:
    """Equal for calls that can be concatenated along their first dimension."""
    return frozenset((name, value.shape[1:], value.dtype.char) for name, value in call.feed.items())


def _converters(graph: Graph) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What the tensors of some inputs have to go through, by input name."""
    return {
        tensor.name: converter
        for tensor in (*graph.inputs.values(), *graph.initializers.values())
        if (converter := _converter(tensor))
    }


def _converter(tensor: Tensor) -> Callable[[np.ndarray], np.ndarray] | None:
    if tensor.element != "string":
        return None if tensor.shape else _scalar
    return _strings if tensor.shape else lambda value: _scalar(_strings(value))


def _scalar(value: np.ndarray) -> np.ndarray:
    """A scalar arrives as [1]; a tensor of unknown rank, which a graph shows alike, keeps its shape."""
    return value.reshape(()) if value.size == 1 else value


def _strings(value: np.ndarray) -> np.ndarray:
    """Triton's array of bytes objects as ONNX Runtime takes it.

    It would turn bytes objects into their ``repr``, so they become str. Where one of them is not UTF-8 all
    become bytes of one width, of which it takes each up to the first zero byte (as the C++ backend does),
    reading on into the next where there is none.
    """
    flat = value.ravel()
    try:
        decoded = np.array([item.decode() for item in flat], dtype=np.object_)
    except UnicodeDecodeError:
        width = max(map(len, flat)) + 1
        decoded = np.array(list(flat), dtype=f"S{width}")
    return decoded.reshape(value.shape)
