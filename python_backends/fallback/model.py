# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The next model answers when one errors or exceeds its deadline. See README.md."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, ClassVar

import triton_python_backend_utils as pb_utils
from trtkit_parts import Parameters
from trtkit_routing import RoutingModel, Variant, Workers, cancelled, read_variants

_FALLBACKS = "trtkit_fallbacks_total"
# calls whose answers nobody waits for any more; the server has 32 threads for all calls of an instance, and where late
# ones took them all, the next model would not be asked either
_LATE = 8
_HOUR_US = 3_600_000_000


class TritonPythonModel(RoutingModel):
    """The part ``fallback``."""

    counters: ClassVar = {
        _FALLBACKS: "Requests that the variant left to the next one, by reason: error, deadline, rest"
    }

    concurrency = 16

    def configure(self, parameters: Parameters) -> None:
        """Read the chain of models, the deadline, and when one is left alone."""
        self._variants = read_variants(parameters, "models", self.name, least=2)
        self._deadline_us = parameters.integer("deadline_microseconds", 0, least=0, most=_HOUR_US)
        failures = parameters.integer("rest_after_failures", 3, least=0)
        rest_s = parameters.integer("rest_microseconds", 1_000_000, least=1) / 1e6
        calls = self.concurrency + _LATE
        self._rests = {variant: _Rest(failures, rest_s) for variant in self._variants[:-1]}
        self._calls = threading.BoundedSemaphore(calls)  # of all variants but the last
        self._callers = Workers(calls) if self._deadline_us else None

    def answer(self, request: Any) -> Any:
        """Ask one model after the other until one answers without an error."""
        errors: dict[Variant, str] = {}
        for variant in self._variants[:-1]:
            if not self._may_ask(variant):
                self.metrics.add(_FALLBACKS, variant=variant.name, reason="rest")
                continue
            response = self._within_deadline(request, variant)
            if response is not None and not response.has_error():
                return self._taken(request, response, variant, errors)
            reason = "deadline" if response is None else "error"
            errors[variant] = f"no answer in {self._deadline_us} µs" if response is None else response.error().message()
            self.metrics.add(_FALLBACKS, variant=variant.name, reason=reason)
            if request.is_cancelled():
                return cancelled()
        last = self._variants[-1]
        response = self.run(self.call(request, last), last)
        if not response.has_error():
            return self._taken(request, response, last, errors)
        return _failed({**errors, last: response.error().message()})

    def _may_ask(self, variant: Variant) -> bool:
        """Whether the variant is asked now, not left alone; if so, one of the calls is taken."""
        if not self._calls.acquire(blocking=False):
            return False
        if self._rests[variant].holds():
            self._calls.release()
            return False
        return True

    def _within_deadline(self, request: Any, variant: Variant) -> Any:
        """The variant's response; None when there is none in time, and then it is dropped when it comes."""
        try:
            call = self._call(request, variant)
        except BaseException:
            self._calls.release()
            raise
        box: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if self._callers is None:
            self._run_into(box, call, variant)
            return box.get()
        self._callers.run(lambda: self._run_into(box, call, variant))
        try:
            return box.get(timeout=self._deadline_us / 1e6)
        except queue.Empty:
            return None

    def _call(self, request: Any, variant: Variant) -> Any:
        if not self._deadline_us:
            return self.call(request, variant)
        given = request.timeout()
        # the variant's queue drops it then, if it is configured to
        timeout_us = min(self._deadline_us, given) if given else self._deadline_us
        return self.call(request, variant, timeout_us=timeout_us)

    def _run_into(self, box: queue.SimpleQueue[Any], call: Any, variant: Variant) -> None:
        try:
            box.put(self.run(call, variant))
        finally:
            self._calls.release()

    def _taken(self, request: Any, response: Any, variant: Variant, errors: dict[Variant, str]) -> Any:
        """The response, marked. Only now it is known that those before failed by themselves, not by the request."""
        for failed in errors:
            self._rests[failed].failed()
        if variant in self._rests:
            self._rests[variant].succeeded()
        if not self.marks(request):
            return response
        return self.marked(request, response.output_tensors(), [variant.name] * self.rows(request))


class _Rest:
    """Leaves a model alone for a while after some failures in a row, then lets one request try it.

    Args:
        failures: in a row; 0 for never.
        rest_s: for how long.
    """

    def __init__(self, failures: int, rest_s: float) -> None:
        self._limit, self._rest_s = failures, rest_s
        self._failures, self._until = 0, 0.0
        self._lock = threading.Lock()

    def holds(self) -> bool:
        """Whether the model is to be left alone now."""
        if not self._limit or self._failures < self._limit:
            return False
        with self._lock:
            now = time.monotonic()
            if now < self._until:
                return True
            self._until = now + self._rest_s  # this request tries, the others go on
            return False

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._until = time.monotonic() + self._rest_s

    def succeeded(self) -> None:
        self._failures = 0


def _failed(errors: dict[Variant, str]) -> Any:
    """Nobody answered: what they all say, or what each says."""
    texts = set(errors.values())
    text = texts.pop() if len(texts) == 1 else "; ".join(f"{variant.name}: {why}" for variant, why in errors.items())
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
