# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the models share that pass requests on to other models of the server (Triton's BLS).

One instance answers many requests at the same time: `execute` hands each to a thread and returns, and the thread
sends the response. A blocked `execute` would let an instance serve one request at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple

import triton_python_backend_utils as pb_utils
from trtkit_parts import BadConfig, Parameters, bytes_array, refusal
from trtkit_routing_metrics import Metrics

# the optional output that says which model answered
VARIANT = "variant"

REQUESTS = "trtkit_variant_requests_total"
FAILURES = "trtkit_variant_failures_total"
DURATION = "trtkit_variant_duration_us_total"
_COUNTERS = {
    REQUESTS: "Requests passed on to the variant",
    FAILURES: "Requests that the variant answered with an error",
    DURATION: "Time that the variant took for its requests, cumulative, in microseconds",
}
_GOLDEN_RATIO = 0.6180339887498949
_GOLDEN_RATIO_64 = 0x9E3779B97F4A7C15  # of 2**64
_LONGEST_NUMBER = 20  # digits: 64 bits


class Variant(NamedTuple):
    """A model that requests are passed on to.

    Attributes:
        name: as configured, which metrics and the output ``variant`` show.
        model: its name in the repository.
        version: -1 for the one that the server chooses.
    """

    name: str
    model: str
    version: int


def read_variant(parameters: Parameters, parameter: str, text: str, own_name: str) -> Variant:
    """A variant from ``MODEL`` or ``MODEL/VERSION``.

    Args:
        parameters: of the model, for the error.
        parameter: the name of the one that has the text.
        text: what to read.
        own_name: of the model that passes on.

    Raises:
        BadConfig: it is neither, or the model itself, which would wait for itself forever.
    """
    model, slash, version = text.partition("/")
    if not model or (slash and not version.isdecimal()):
        raise parameters.wrong(parameter, "models as NAME or NAME/VERSION")
    if model == own_name:
        raise BadConfig(f"model '{own_name}': parameter '{parameter}' names the model itself; name another one")
    return Variant(text, model, int(version) if slash else -1)


def read_variants(parameters: Parameters, parameter: str, own_name: str, *, least: int) -> list[Variant]:
    """At least so many different variants, with commas between them."""
    names = parameters.items(parameter)
    if len(names) < least or len(set(names)) < len(names):
        raise parameters.wrong(parameter, f"at least {least} different models with commas between them")
    return [read_variant(parameters, parameter, name, own_name) for name in names]


def share(key: str, salt: str) -> float:
    """A number in [0, 1) for a key: the same in every instance, server and year, and even over many keys.

    Keys are often numbers that count up. Steps of the golden ratio spread those more evenly than a hash, which leaves
    it to chance (D. Knuth, The Art of Computer Programming, volume 3, section 6.4).
    """
    number = int(key) if key.isdecimal() and len(key) <= _LONGEST_NUMBER else None
    text = b"" if number is not None else key.encode()
    digest = hashlib.blake2b(text, key=_digest(salt), digest_size=8).digest()
    position = int.from_bytes(digest, "big") + (number or 0) * _GOLDEN_RATIO_64
    return (position % (1 << 64) >> 11) / (1 << 53)  # the bits that a float has


def _digest(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode()).digest()


class Spread:
    """Numbers in [0, 1): any stretch of them is closer to even than chance would be, and in step with no client."""

    def __init__(self) -> None:
        self._start, self._steps = random.random(), itertools.count()

    def next(self) -> float:
        """The next one; for any thread."""
        return (self._start + next(self._steps) * _GOLDEN_RATIO) % 1


def wanted(request: Any) -> list[str]:
    """The names of the outputs that the request wants of a variant."""
    return [name for name in request.requested_output_names() if name != VARIANT]


class RoutingModel:
    """The base of a ``TritonPythonModel`` that passes requests on.

    A part defines `configure` and `answer`. It has ``name``, ``config``, ``batches`` (whether the first dimension of
    each tensor counts the rows) and ``metrics``.
    """

    counters: ClassVar[Mapping[str, str]] = {}
    gauges: ClassVar[Mapping[str, str]] = {}
    # as many as the server has threads for the calls of one instance (--backend-config=python,thread-pool-size)
    concurrency = 32

    def configure(self, parameters: Parameters) -> None:
        """Read the part's own parameters; may raise BadConfig."""
        raise NotImplementedError

    def answer(self, request: Any) -> Any:
        """The response to one request; what it raises becomes that request's error. Runs in many threads at once."""
        raise NotImplementedError

    def answered(self, request: Any, response: Any) -> None:
        """Called after the response was sent."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once per instance."""
        self.config = json.loads(args["model_config"])
        self.name = self.config["name"]
        self.batches = self.config["max_batch_size"] > 0
        self._marks = any(output["name"] == VARIANT for output in self.config["output"])
        parameters = Parameters(self.config)
        self.concurrency = parameters.integer("concurrency", self.concurrency, least=1, most=1024)
        self.metrics = Metrics(self.name, {**_COUNTERS, **self.counters}, self.gauges)
        self.configure(parameters)
        parameters.done()
        # outputs that are merged or compared must be readable
        self._memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
        self._free = threading.Semaphore(self.concurrency)
        self._lanes: dict[Any, deque[Any]] = {}
        self._lanes_lock = threading.Lock()
        self._run = Workers(self.concurrency).run

    def execute(self, requests: Sequence[Any]) -> None:
        """Called by Triton; waits only while all threads are busy, so that the server's queue and its policies hold."""
        for request in requests:
            self._free.acquire()
            sequence = request.correlation_id()
            if not sequence:
                self._run(lambda request=request: self._respond(request))
            elif self._is_first(sequence, request):
                self._run(lambda sequence=sequence: self._respond_in_order(sequence))

    def finalize(self) -> None:
        """Called by Triton before the instance ends."""
        self.metrics.close()

    def call(
        self,
        request: Any,
        variant: Variant,
        *,
        inputs: Sequence[Any] | None = None,
        outputs: Sequence[str] | None = None,
        timeout_us: int | None = None,
        traced: bool = True,
    ) -> Any:
        """The same request for a variant, to be run by `run`; it keeps id, sequence, parameters and trace.

        Args:
            request: the one to pass on.
            variant: where to.
            inputs: others than its own.
            outputs: names of others than its own.
            timeout_us: another than its own.
            traced: False when it is run after the request was answered, when its trace is gone.
        """
        return pb_utils.InferenceRequest(
            model_name=variant.model,
            model_version=variant.version,
            inputs=request.inputs() if inputs is None else inputs,
            requested_output_names=wanted(request) if outputs is None else outputs,
            request_id=request.request_id(),
            correlation_id=request.correlation_id(),
            flags=request.flags(),
            timeout=request.timeout() if timeout_us is None else timeout_us,
            parameters=json.loads(request.parameters() or "{}"),
            preferred_memory=self._memory,
            **({"trace": request.trace()} if traced else {}),
        )

    def run(self, call: Any, variant: Variant) -> Any:
        """Run a `call` and count it; never raises, an error is in the response in the variant's own words."""
        started = time.perf_counter_ns()
        try:
            response = call.exec()
        except Exception as error:  # the server refused the request itself
            response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        self.metrics.add(REQUESTS, variant=variant.name)
        self.metrics.add(FAILURES, int(response.has_error()), variant=variant.name)
        self.metrics.add(DURATION, (time.perf_counter_ns() - started) // 1000, variant=variant.name)
        return response

    def forward(self, request: Any, variant: Variant, inputs: Sequence[Any] | None = None) -> Any:
        """The variant's response to the request, marked; with other inputs than its own if given."""
        response = self.run(self.call(request, variant, inputs=inputs), variant)
        if response.has_error() or not self.marks(request):
            return response
        return self.marked(request, response.output_tensors(), [variant.name] * self.rows(request))

    def marks(self, request: Any) -> bool:
        """Whether the request wants to know which variant answered."""
        return self._marks and VARIANT in request.requested_output_names()

    def marked(self, request: Any, outputs: list[Any], names: Sequence[str]) -> Any:
        """A response with the output ``variant``.

        Args:
            request: answered by it.
            outputs: tensors.
            names: the variant of each row.
        """
        shape = (len(names), 1) if self.batches else (1,)
        return pb_utils.InferenceResponse([*outputs, pb_utils.Tensor(VARIANT, bytes_array(names, shape))])

    def rows(self, request: Any) -> int:
        """How many rows the request has; 1 for a model without batches."""
        return request.inputs()[0].shape()[0] if self.batches else 1

    def _is_first(self, sequence: Any, request: Any) -> bool:
        with self._lanes_lock:
            lane = self._lanes.setdefault(sequence, deque())
            lane.append(request)
            return len(lane) == 1

    def _respond_in_order(self, sequence: Any) -> None:
        """Requests of one sequence one after the other: a client need not wait for a response before the next."""
        lane = self._lanes[sequence]
        while True:
            self._respond(lane[0])
            with self._lanes_lock:
                lane.popleft()
                if not lane:
                    del self._lanes[sequence]
                    return

    def _respond(self, request: Any) -> None:
        try:
            response = self.answer(request)
        except Exception as error:  # whatever is wrong with it, it must be answered
            response = refusal(self.name, error)
        try:
            sent = _only_wanted(request, response)
            request.get_response_sender().send(sent, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            self.answered(request, response)
        except Exception as error:  # the thread must live on
            pb_utils.Logger.log_error(f"model '{self.name}': {type(error).__name__}: {error}")
        finally:
            self._free.release()


def _only_wanted(request: Any, response: Any) -> Any:
    """The response without outputs that the request does not want.

    `send` would drop them too, but frees them without Python's lock, which in 2.51 crashes the process under load.
    """
    outputs, names = response.output_tensors(), request.requested_output_names()
    if response.has_error() or all(tensor.name() in names for tensor in outputs):
        return response
    return pb_utils.InferenceResponse([tensor for tensor in outputs if tensor.name() in names])


def cancelled() -> Any:
    """The response to a request whose client no longer waits."""
    error = pb_utils.TritonError("request was cancelled", pb_utils.TritonError.CANCELLED)
    return pb_utils.InferenceResponse(error=error)


class Workers:
    """Threads that run jobs. The process does not wait for them at its end, unlike a ThreadPoolExecutor's."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise, as soon as a thread is free."""
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
