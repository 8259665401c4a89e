# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""gRPC unary calls with request bytes that were serialised once; responses are not parsed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from trtkit.errors import ServerUnavailableError
from trtkit.perf.address import Address
from trtkit.perf.control import GRPC_OPTIONS
from trtkit.perf.transport import CONNECTION, TIMEOUT, Done, Failure

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# Measured on two cores: at a concurrency of 8, one channel costs 107 µs of client time per request and eight
# cost 140 µs; at 32 they are equal. More than one keeps HTTP/2's flow control from limiting many large requests.
_SLOTS_PER_CHANNEL = 16
_MOST_CHANNELS = 8
# gRPC's own waits between connection attempts, shortened so that a restarted server is found again quickly
_OPTIONS = (
    *GRPC_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# gRPC's own words for a connection that ended under a request
_BROKEN = re.compile("socket closed|connection reset|broken pipe|failed to connect|recvmsg|goaway", re.IGNORECASE)


class GrpcTransport:
    """Sends prepared gRPC requests.

    Args:
        address: the server.
        requests: the bytes of each prepared ``ModelInferRequest``.
        slots: how many requests can be in flight.
        timeout_s: the deadline of each call, in seconds; the server sees it too.
    """

    def __init__(self, address: Address, requests: Sequence[bytes], slots: int, timeout_s: float) -> None:
        self._address = address
        self._requests = requests
        self._timeout_s = timeout_s
        self._channel_count = min(-(-slots // _SLOTS_PER_CHANNEL), _MOST_CHANNELS)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def open(self, done: Done) -> None:
        """Connect all channels; ServerUnavailableError when that takes longer than a request may."""
        self._done = done
        self._loop = asyncio.get_running_loop()
        target = str(self._address)
        self._channels = [grpc.aio.insecure_channel(target, options=_OPTIONS) for _ in range(self._channel_count)]
        self._calls = [channel.unary_unary(_METHOD) for channel in self._channels]
        ready = asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        try:
            await asyncio.wait_for(ready, self._timeout_s)
        except asyncio.TimeoutError as exc:
            raise ServerUnavailableError(
                f"no gRPC server answers at {self._address} within {self._timeout_s:g} s"
            ) from exc

    def send(self, slot: int, request: int) -> None:
        """Start a call with a prepared request."""
        self._tasks[slot] = self._loop.create_task(self._call(slot, self._requests[request]))

    async def _call(self, slot: int, request: bytes) -> None:
        number = slot % self._channel_count
        failure = None
        try:
            await self._calls[number](request, timeout=self._timeout_s)
        except grpc.aio.AioRpcError as exc:
            failure = _failure_of(exc, self._channels[number])
        self._done(slot, failure)

    async def close(self) -> None:
        """Cancel the calls in flight and close the channels."""
        for task in self._tasks.values():
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in self._channels))
        for outcome in outcomes:
            if isinstance(outcome, Exception):  # a defect in the load loop: its slot has been silent since
                raise outcome


def _failure_of(error: grpc.aio.AioRpcError, channel: Any) -> Failure:
    code = error.code()
    details = error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failure(TIMEOUT, details)
    # a full queue is UNAVAILABLE too, but then the channel is still connected; where a connection broke, the
    # request may fail a moment before the channel's state says so
    if code is grpc.StatusCode.UNAVAILABLE and (
        channel.get_state() is not grpc.ChannelConnectivity.READY or _BROKEN.search(details)
    ):
        return Failure(CONNECTION, details, disconnected=True)
    return Failure(f"gRPC {code.name}", details)
