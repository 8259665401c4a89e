# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One request by itself, and its answer as arrays."""

from __future__ import annotations

from time import perf_counter_ns

from trtkit.errors import ServerError
from trtkit.numerics import Array
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.decode import grpc_answer, http_answer
from trtkit.perf.encoding.encode import HttpOptions
from trtkit.perf.encoding.messages import encoded
from trtkit.perf.job import Way
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.control import ModelDescription
from trtkit.perf.transports.base import Failure, Transport
from trtkit.perf.worker import transport_of


class Asker:
    """Asks a server one request after the other, over one connection; a context manager."""

    def __init__(self, way: Way, options: HttpOptions) -> None:
        self._way, self._options = way, options
        self._reactor = Reactor()
        self._transport: Transport = transport_of(way, keep_answers=True)

    def __enter__(self) -> Asker:
        try:
            self._transport.open(self._reactor, self, 1)
        except BaseException:
            self._reactor.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()
        self._reactor.close()

    def ask(self, request: Request, description: ModelDescription) -> dict[str, Array]:
        """The outputs by name.

        Raises:
            ServerError: the request failed.
        """
        (message,) = encoded([request], {request.model: description}, self._way, self._options)
        self._ended: tuple[Failure | None, bytes | None] = (Failure("timeout", "no answer in time"), None)
        late = self._reactor.call_at(perf_counter_ns() + round(self._way.timeout_s * 1e9), self._reactor.stop)
        self._transport.send(0, self._transport.prepare(message))
        self._reactor.run()
        late.cancel()
        failure, answer = self._ended
        if failure is not None or answer is None:
            why = failure.message if failure else "it answered nothing"
            raise ServerError(f"model '{request.model}' does not answer its reference request: {why}")
        return grpc_answer(answer) if self._way.protocol == "grpc" else http_answer(answer)

    def response(self, slot: int, answer: bytes | None) -> None:
        """A response of a stream: none is asked for."""

    def done(self, slot: int, failure: Failure | None, answer: bytes | None) -> None:
        """The request has ended."""
        self._ended = failure, answer
        self._reactor.stop()
