# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Triton's ``onnxruntime`` backend, for servers that come without NVIDIA's C++ one.

As ``<backend directory>/onnxruntime/model.py`` it serves every model whose configuration says
``backend: "onnxruntime"`` (or ``platform: "onnxruntime_onnx"``); see README.md beside this file.
Triton runs one process of this for each model instance.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_ort_check import check
from trtkit_ort_config import complete, is_complete
from trtkit_ort_exact import needs_exact_runs, run_exactly
from trtkit_ort_ragged import batch_inputs, scattered, scattered_outputs
from trtkit_ort_session import graph_of, model_path, open_session, ort_message, read_graph, run_options
from trtkit_ort_state import States
from trtkit_ort_tensors import decoded, inputs_of, output_tensor

# `is_cancelled` asks the server and waits for its answer: 70 to 80 µs measured, against 110 µs for a whole
# request of a small model. It is asked where a request's own compute is at least this long, so that it
# costs at most a few percent.
_CANCELLATION_CHECK_SECONDS = 0.002

# Triton's functions compare a type with one after the other, for each tensor: 3 µs
pb_utils.numpy_to_triton_type = functools.cache(pb_utils.numpy_to_triton_type)
pb_utils.triton_to_numpy_type = functools.cache(pb_utils.triton_to_numpy_type)


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
        self._config = config = json.loads(args["model_config"])
        path = model_path(pb_utils.get_model_dir(), config)
        self._session = open_session(path, config, args["model_instance_kind"], args["model_instance_device_id"])
        self._graph = graph = graph_of(self._session)
        check(config, graph)
        self._name = config["name"]
        self._batching = config["max_batch_size"] > 0
        self._inputs = inputs_of(config, graph)
        self._texts = [each.name for each in self._inputs if each.text]
        self._outputs = {entry["name"]: entry["dims"] for entry in config["output"]}
        self._output_names = list(self._outputs)
        self._scattered = scattered_outputs(config)
        self._states = States(config)
        self._exact = needs_exact_runs([*graph.inputs.values(), *graph.initializers.values(), *graph.outputs.values()])
        self._has_empty_slots = "sequence_batching" in config and "oldest" not in config["sequence_batching"]
        self._decoupled = config.get("model_transaction_policy", {}).get("decoupled", False)
        self._run_options = run_options(config)
        self._plain = self._is_plain()
        self._seconds_per_request = 0.0
        threads = self._session.get_session_options().intra_op_num_threads
        pb_utils.Logger.log_info(
            f"Created session for instance: {args['model_instance_name']} "
            f"({', '.join(self._session.get_providers())}; intra-op threads: {threads})"
        )
        _settle()

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Answer each request: all in one run where that goes, and a wrong one alone with its error."""
        if self._plain and self._seconds_per_request < _CANCELLATION_CHECK_SECONDS:
            with suppress(Exception):  # which request is wrong is found out below
                return self._run_plain(requests)
        if self._states.outputs:
            self._states.enter(requests)
        if not self._has_empty_slots and self._seconds_per_request < _CANCELLATION_CHECK_SECONDS:
            responses = self._answers(requests)
        else:
            dropped = [self._dropped(request) for request in requests]
            live = iter(self._answers([r for r, drop in zip(requests, dropped, strict=True) if drop is None]))
            responses = [next(live) if drop is None else drop for drop in dropped]
        return self._sent(requests, responses) if self._decoupled else responses

    def _is_plain(self) -> bool:
        """Whether `_run_plain` does."""
        if not self._batching or self._exact or self._decoupled or len(self._inputs) != 1 or len(self._outputs) != 1:
            return False
        source, output = self._inputs[0], self._graph.outputs[self._output_names[0]]
        special = "sequence_batching" in self._config or self._config.get("batch_input") or self._scattered
        return not (special or source.ragged or source.scalar or source.text or output.element == "string")

    def finalize(self) -> None:
        """Release the session before the process ends."""
        self._session = None

    def _dropped(self, request: Any) -> Any:
        """The response to a request that is not computed; None for all others."""
        if self._has_empty_slots and not request.requested_output_names():  # its tensors were never filled in
            return pb_utils.InferenceResponse([])
        if self._seconds_per_request >= _CANCELLATION_CHECK_SECONDS and request.is_cancelled():
            pb_utils.Logger.log_verbose(f"dropped a cancelled request of model '{self._name}'")
            self._states.leave(request)
            return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
        return None

    def _sent(self, requests: Sequence[Any], responses: Sequence[Any]) -> None:
        for request, response in zip(requests, responses, strict=True):
            request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answers(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request. When they fail together, each half is tried: that finds the wrong ones soon."""
        if self._batching or len(requests) == 1:
            try:
                return self._run(requests)
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                if len(requests) == 1:
                    self._states.leave(requests[0])
                    return [_error(self._reason(error), pb_utils.TritonError.INTERNAL)]
        if not requests:
            return []
        middle = (len(requests) + 1) // 2
        return self._answers(requests[:middle]) + self._answers(requests[middle:])

    def _run_plain(self, requests: Sequence[Any]) -> list[Any]:
        """What `_run` does, for one input and one output of numbers: its steps are much of a small model's time."""
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        feed = {self._inputs[0].name: np.concatenate(arrays) if len(arrays) > 1 else arrays[0]}
        started = time.perf_counter()
        value = self._session._sess.run(self._output_names, feed, self._run_options)[0]
        self._seconds_per_request = (time.perf_counter() - started) / len(arrays)
        name, tensor, response = self._output_names[0], pb_utils.Tensor, pb_utils.InferenceResponse
        responses, start = [], 0
        for array in arrays:
            stop = start + len(array)
            responses.append(response([tensor(name, value[start:stop])]))
            start = stop
        _check_rows(name, value, start)
        return responses

    def _run(self, requests: Sequence[Any]) -> list[Any]:
        """One run of the session for all requests."""
        arrays = self._gathered(requests)
        if self._states.outputs:
            self._states.recall(requests, arrays)
        feed = {each.name: each.joined(arrays[each.name]) for each in self._inputs if each.name in arrays}
        if "batch_input" in self._config:
            feed.update(batch_inputs(self._config, _shapes(arrays)))
        names = self._wanted(requests)
        started = time.perf_counter()
        values = self._computed(names, feed)
        self._seconds_per_request = (time.perf_counter() - started) / len(requests)
        pieces = {name: self._split(name, value, arrays) for name, value in zip(names, values, strict=True)}
        if self._states.outputs:
            self._states.keep(requests, pieces)
        return self._responses(len(requests), pieces)

    def _gathered(self, requests: Sequence[Any]) -> dict[str, list[np.ndarray]]:
        """The tensors of each input, one per request; without the optional inputs that a request does not have."""
        if len(self._inputs) == 1 and self._graph.inputs:  # there is no need to ask for names
            name, read, *_ = self._inputs[0]
            return {name: [read(request.inputs()[0]) for request in requests]}
        tensors = [{tensor.name(): tensor for tensor in request.inputs()} for request in requests]
        return {name: [read(each[name]) for each in tensors] for name, read, *_ in self._inputs if name in tensors[0]}

    def _wanted(self, requests: Sequence[Any]) -> list[str]:
        """The outputs that some request asks for, and the states; Triton takes the others out of a response."""
        if len(self._outputs) == 1 and not self._states.outputs:
            return self._output_names
        asked = {name for request in requests for name in request.requested_output_names()}
        return [name for name in self._graph.outputs if name in asked or name in self._states.outputs]

    def _computed(self, names: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if not self._exact:
            try:
                texts = {name: decoded(feed[name]) for name in self._texts if name in feed}
                return self._session.run(names, {**feed, **texts}, self._run_options)
            except UnicodeDecodeError:
                pass  # an input or an output has other bytes
        return run_exactly(self._session, self._graph, names, feed, self._run_options)

    def _split(self, name: str, value: np.ndarray, arrays: Mapping[str, list[np.ndarray]]) -> list[np.ndarray]:
        """What each request gets of an output; views."""
        if name in self._scattered:
            source, dims = self._scattered[name]
            return scattered(name, value, dims, _shapes(arrays)[source])
        if not self._batching:
            # Triton has no scalars: as many dimensions of 1 as the configuration says
            return [value if value.ndim else value.reshape(self._outputs[name])]
        if not value.ndim:  # of a tensor of unknown rank, for one row
            value = value.reshape([1] * (1 + len(self._outputs.get(name, ()))))
        pieces, start = [], 0
        for array in next(iter(arrays.values())):
            stop = start + len(array)
            pieces.append(value[start:stop])
            start = stop
        _check_rows(name, value, start)
        return pieces

    def _responses(self, count: int, pieces: Mapping[str, Sequence[np.ndarray]]) -> list[Any]:
        elements = {name: self._graph.outputs[name].element for name in pieces if name in self._outputs}
        return [
            pb_utils.InferenceResponse(
                [output_tensor(name, element, pieces[name][index]) for name, element in elements.items()]
            )
            for index in range(count)
        ]

    def _reason(self, error: Exception) -> str:
        if str(error).startswith("[ONNXRuntimeError]"):
            return ort_message(error)
        return f"model '{self._name}': {error}"


def _settle() -> None:
    """What helps a process that has loaded all it will, and shares the cores with the server that feeds it."""
    gc.collect()
    gc.freeze()  # the collector need not go through what is loaded again and again
    with suppress(OSError):  # a busy server is not interrupted for each batch, and the next one is larger: some 5 %
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _check_rows(name: str, value: np.ndarray, rows: int) -> None:
    if rows > len(value):
        raise ValueError(
            f"failed to split the output tensor '{name}' in responses: expected batch size of atleast {rows} in model "
            f"output, got {len(value)}"
        )


def _shapes(arrays: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[tuple[int, ...]]]:
    return {name: [array.shape for array in values] for name, values in arrays.items()}
