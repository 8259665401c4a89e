# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A closed loop of questions over HTTP and gRPC with every answer checked, and the memory of the server meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import numpy as np
import tritonclient.grpc.aio as grpc_api
import tritonclient.http.aio as http_api
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from soak_questions import Question
from trtkit.server import RunningServer

CANCEL_AFTER_SECONDS = 0.002
WARM_UP_SHARE = 0.2
SLACK_SHARE, SLACK_BYTES = 0.02, 4 << 20
_SAMPLE_SECONDS = 0.25
_RARE_SECONDS = 5.0
_WRONG_KEPT = 10


@dataclass
class Report:
    """What came back.

    Attributes:
        answered: how many answers each kind of question got.
        cancelled: questions that the client took back in time.
        wrong: the first wrong answers, each with its question's kind.
        memory: resident bytes of each process of the server, over time.
    """

    answered: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)

    def growth(self) -> dict[str, tuple[int, int]]:
        """By process, the least resident bytes in the first and in the last third after the warm-up.

        The least, because a long string in flight is no leak: a leak raises what a process comes back to.
        """
        samples = self.memory[int(len(self.memory) * WARM_UP_SHARE) :]
        third = max(1, len(samples) // 3)
        first, last = samples[:third], samples[-third:]
        return {name: (_least(first, name), _least(last, name)) for name in samples[0]}

    def grown(self, slack_bytes: int = SLACK_BYTES) -> dict[str, tuple[int, int]]:
        """The processes of `growth` that grew by more than 2 % and so many bytes."""
        return {
            name: (first, last)
            for name, (first, last) in self.growth().items()
            if last > first * (1 + SLACK_SHARE) + slack_bytes
        }


def _least(samples: list[dict[str, int]], name: str) -> int:
    return min(sample.get(name, 0) for sample in samples)


def processes(server: RunningServer) -> dict[str, int]:
    """The resident bytes of the server and its stubs, by name and process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, KeyError):  # it has just ended
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == server.process.pid:  # its process group
                status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                found[f"{status['Name'].strip()} {folder.name}"] = int(status["VmRSS"].split()[0]) << 10
    return found


def ask_all(
    server: RunningServer,
    questions: Sequence[Question],
    *,
    seconds: float = float("inf"),
    count: int | None = None,
    concurrency: int = 32,
    rare: Question | None = None,
) -> Report:
    """Ask the questions again and again, half of the loops over HTTP and half over gRPC.

    Args:
        server: that serves their models.
        questions: asked in turn.
        seconds: when to stop.
        count: stop after so many questions.
        concurrency: loops; each asks its next question when the last is answered.
        rare: one more question that a loop of its own asks every few seconds.

    Raises:
        ServerStartError: the server ended by itself.
    """
    deadline = time.monotonic() + seconds
    endless = itertools.islice(itertools.cycle(questions), count)
    stream = itertools.takewhile(lambda _: time.monotonic() < deadline, endless)
    return asyncio.run(_Load(server).ask_all(stream, concurrency, rare))


class _Load:
    """Loops that ask one server, and what they found."""

    def __init__(self, server: RunningServer) -> None:
        self._server, self._report, self._ended = server, Report(), asyncio.Event()

    async def ask_all(self, stream: Iterator[Question], concurrency: int, rare: Question | None) -> Report:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                http_api.InferenceServerClient(self._server.http_url, conn_limit=concurrency + 1)
            )
            grpc = await stack.enter_async_context(grpc_api.InferenceServerClient(self._server.grpc_url))
            clients = itertools.cycle([(http_api, http), (grpc_api, grpc)])
            beside = [asyncio.create_task(self._watch())]
            if rare:
                beside.append(asyncio.create_task(self._now_and_then(http, rare)))
            try:
                await asyncio.gather(*(self._loop(*next(clients), stream) for _ in range(concurrency)))
            finally:
                self._ended.set()
                await asyncio.gather(*beside)
        return self._report

    async def _loop(self, api: ModuleType, client: Any, stream: Iterator[Question]) -> None:
        for question in stream:
            await self._ask(api, client, question)

    async def _now_and_then(self, client: Any, question: Question) -> None:
        """Over HTTP: of gRPC's pool of calls each keeps the memory of the longest request it ever had."""
        while not self._ended.is_set():
            await self._ask(http_api, client, question)
            await self._pause(_RARE_SECONDS)

    async def _watch(self) -> None:
        while not self._ended.is_set():
            self._report.memory.append(processes(self._server))
            await self._pause(_SAMPLE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def _ask(self, api: ModuleType, client: Any, question: Question) -> None:
        """Ask once and note what came back."""
        call = asyncio.ensure_future(_infer(api, client, question))
        if question.cancel:
            await asyncio.wait([call], timeout=CANCEL_AFTER_SECONDS)
            call.cancel()
        try:
            answer = await call
        except asyncio.CancelledError:
            if not question.cancel:
                raise
            self._report.cancelled += 1
            return
        except aiohttp.ClientError as error:
            await asyncio.sleep(1)  # its process may be ending
            self._server.check_alive()
            answer = f"none, but {error!r}"
        self._report.answered[question.kind] += 1
        if (problem := question.wrong(answer)) and len(self._report.wrong) < _WRONG_KEPT:
            self._report.wrong.append(f"{question.kind} over {api.__name__.split('.')[1]}: {problem}")


async def _infer(api: ModuleType, client: Any, question: Question) -> dict[str, np.ndarray] | str:
    """The outputs, or the error's words."""
    inputs = []
    for name, value in question.inputs.items():
        tensor = api.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        inputs.append(tensor)
    outputs = [api.InferRequestedOutput(name) for name in question.outputs] or None
    try:
        result = await client.infer(question.model, inputs, outputs=outputs)
    except InferenceServerException as error:
        return error.message()
    response = result.get_response()
    if api is http_api:
        return {output["name"]: result.as_numpy(output["name"]) for output in response["outputs"]}
    return {output.name: result.as_numpy(output.name) for output in response.outputs}
