# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The primary answers, the candidate gets a copy, and their outputs are compared. See README.md."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any, ClassVar

import triton_python_backend_utils as pb_utils
from trtkit_parts import Parameters
from trtkit_routing import VARIANT, RoutingModel, Spread, read_variant, share
from trtkit_shadow_compare import Difference, difference

_COMPARED, _MISMATCHES = "trtkit_shadow_compared_total", "trtkit_shadow_mismatches_total"
_DROPPED, _FAILED = "trtkit_shadow_dropped_total", "trtkit_shadow_failed_total"
_LARGEST = "trtkit_shadow_max_difference"
# how long the end of the instance waits for the candidate's answer in flight
_PATIENCE_S = 10.0
# the response is still on its way through the server: where cores are scarce, the candidate would take one from it
_HEAD_START_S = 0.005
# how long a sequence with a dropped copy is lost, and how many at a time
_LOST_S, _MOST_LOST = 60.0, 10_000


class TritonPythonModel(RoutingModel):
    """The part ``shadow``."""

    counters: ClassVar = {
        _COMPARED: "Requests whose outputs of both models were compared",
        _MISMATCHES: "Requests of which an output differed beyond the tolerance",
        _DROPPED: "Copies that the candidate did not get, because it was too slow",
        _FAILED: "Copies that the candidate answered with an error, or that could not be compared",
    }
    gauges: ClassVar = {_LARGEST: "Largest absolute difference of an output so far"}

    def configure(self, parameters: Parameters) -> None:
        """Read both models, the tolerance, and how much of the traffic is copied."""
        self._primary = read_variant(parameters, "primary", parameters.text("primary"), self.name)
        self._candidate = read_variant(parameters, "candidate", parameters.text("candidate"), self.name)
        self._tolerance = parameters.number("rtol", 1e-3, least=0), parameters.number("atol", 1e-5, least=0)
        self._sample = parameters.number("sample", 1.0, least=0, most=1)
        self._log_lines = parameters.integer("log_mismatches", 10, least=0)
        self._spread = Spread()
        self._lost = _Lost()
        self._largest: dict[str, float] = {}
        self._copies: queue.Queue[Any] = queue.Queue(parameters.integer("queue_size", 64, least=1))
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._compare_copies, daemon=True)
        self._worker.start()
        for counter in self.counters:
            self.metrics.add(counter, 0, variant=self._candidate.name)

    def answer(self, request: Any) -> Any:
        """The primary's response."""
        return self.forward(request, self._primary)

    def answered(self, request: Any, response: Any) -> None:
        """Leave a copy to the worker, unless the queue is full."""
        if response.has_error() or not self._sampled(request):
            return
        call = self.call(request, self._candidate, traced=False)
        sequence = request.correlation_id()
        starts = request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
        try:
            if sequence in self._lost and not starts:
                raise queue.Full  # without the part that was dropped, the rest would only differ
            self._copies.put_nowait(
                (time.monotonic() + _HEAD_START_S, call, response.output_tensors(), request.request_id())
            )
            self._lost.discard(sequence)
        except queue.Full:
            self.metrics.add(_DROPPED, variant=self._candidate.name)
            if sequence:
                self._lost.add(sequence)
        if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
            self._lost.discard(sequence)

    def finalize(self) -> None:
        """Forget the copies in the queue and wait for the one in flight."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._copies.put_nowait(None)  # wakes a worker that has nothing to do
        self._worker.join(_PATIENCE_S)
        super().finalize()

    def _sampled(self, request: Any) -> bool:
        """All requests of a sequence or none."""
        sequence = request.correlation_id()
        position = share(str(sequence), self.name) if sequence else self._spread.next()
        return position < self._sample

    def _compare_copies(self) -> None:
        while not self._stopping.is_set():
            copy = self._copies.get()
            if copy is None:
                return
            try:
                due, *request = copy
                time.sleep(max(0, due - time.monotonic()))
                self._compare(*request)
            except Exception as error:  # the worker must live on
                self._fail(f"cannot be compared: {type(error).__name__}: {error}")

    def _compare(self, call: Any, outputs: list[Any], request_id: str) -> None:
        response = self.run(call, self._candidate)
        if self._stopping.is_set():
            return
        if response.has_error():
            self._fail(f"answered with an error: {response.error().message()}")
            return
        given = {tensor.name(): tensor for tensor in response.output_tensors()}
        found = {tensor.name(): self._difference(tensor, given) for tensor in outputs if tensor.name() != VARIANT}
        differing = {name: each for name, each in found.items() if each.what}
        self.metrics.add(_COMPARED, variant=self._candidate.name)
        self.metrics.add(_MISMATCHES, bool(differing), variant=self._candidate.name)
        for name, each in found.items():
            self._largest[name] = max(self._largest.get(name, 0.0), each.largest)
            self.metrics.set(_LARGEST, self._largest[name], variant=self._candidate.name, output=name)
        for name, each in differing.items():
            self._log(f"request '{request_id}': output '{name}' differs: {each.what}")

    def _difference(self, tensor: Any, given: dict[str, Any]) -> Difference:
        if tensor.name() not in given:
            return Difference("the candidate gave none", 0.0)
        return difference(tensor.as_numpy(), given[tensor.name()].as_numpy(), *self._tolerance)

    def _fail(self, why: str) -> None:
        self.metrics.add(_FAILED, variant=self._candidate.name)
        self._log(why)

    def _log(self, text: str) -> None:
        if self._log_lines > 0:
            self._log_lines -= 1
            pb_utils.Logger.log_warn(f"model '{self.name}': candidate '{self._candidate.name}': {text}")


class _Lost:
    """Sequences of which a copy was dropped, each for a while: where none has flags, nothing says that one ends."""

    def __init__(self) -> None:
        self._until: dict[Any, float] = {}  # in the order of the times
        self._lock = threading.Lock()

    def __contains__(self, sequence: Any) -> bool:
        return time.monotonic() < self._until.get(sequence, 0.0)

    def add(self, sequence: Any) -> None:
        with self._lock:
            if sequence in self:
                return
            self._until.pop(sequence, None)
            while self._until and (len(self._until) >= _MOST_LOST or next(iter(self._until)) not in self):
                del self._until[next(iter(self._until))]
            self._until[sequence] = time.monotonic() + _LOST_S

    def discard(self, sequence: Any) -> None:
        with self._lock:
            self._until.pop(sequence, None)
