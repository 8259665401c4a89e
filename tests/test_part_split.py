# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `split`, and what all routing parts pass on, through the real server."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as aioclient
from tritonclient.utils import InferenceServerException

from part_models import write_part
from routing_models import RAISE, got, infer, metric, variants, write_variant
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

SESSIONS, REQUESTS = 4_000, 20_000


def with_got(config: ModelConfig) -> None:
    """The variants' second output."""
    output = config.output.add()
    output.name, output.data_type = "got", 13
    output.dims.append(1)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    for name, factor in (("stable", 2), ("canary", 3)):
        write_variant(folder, name, factor, edit=lambda config: config.dynamic_batching.SetInParent())
    write_part(folder, "split", "split", {"weights": "stable:90, canary:10"}, edit=with_got)
    write_part(folder, "same", "split", {"weights": "stable: 90, canary: 10", "salt": "split"})
    write_part(folder, "users", "split", {"weights": "stable/1:0, canary:2.5", "sticky": "parameter(user)"})
    write_part(folder, "plain", "split", {"weights": "stable:1, nowhere:1", "sticky": "none"}, edit=plain)
    return folder


def plain(config: ModelConfig) -> None:
    """Without batches and without the output variant."""
    config.max_batch_size = 0
    config.input[0].dims[:] = [-1, -1]
    config.ClearField("dynamic_batching")
    del config.output[1]
    config.output[0].dims[:] = [-1, -1]


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serve(repository) as running:
        yield running


async def _answers(url: str, requests: list[dict[str, Any]]) -> list[str]:
    """The variants that answered, with 32 requests in flight."""
    tensor = aioclient.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    wanted = [aioclient.InferRequestedOutput("variant")]
    answers = [""] * len(requests)
    todo = iter(enumerate(requests))
    async with aioclient.InferenceServerClient(url) as client:

        async def work() -> None:
            for index, options in todo:
                result = await client.infer("split", [tensor], outputs=wanted, **options)
                answers[index] = result.as_numpy("variant")[0, 0].decode()

        await asyncio.gather(*(work() for _ in range(32)))
    return answers


def test_weights_hold_and_every_session_is_sticky(server: RunningServer) -> None:
    sessions = [1 + step % SESSIONS for step in range(REQUESTS)]
    answers = asyncio.run(_answers(server.grpc_url, [{"sequence_id": session} for session in sessions]))
    of_session: dict[int, set[str]] = {}
    for session, answer in zip(sessions, answers, strict=True):
        of_session.setdefault(session, set()).add(answer)
    assert all(len(each) == 1 for each in of_session.values())
    assert Counter(answers)["canary"] / REQUESTS == pytest.approx(0.1, abs=0.001)  # 1 % of it
    counted = metric(server, "trtkit_variant_requests_total", model="split", variant="canary")
    assert counted == Counter(answers)["canary"]


def test_without_a_session_the_weights_hold_in_every_stretch(server: RunningServer) -> None:
    answers = asyncio.run(_answers(server.grpc_url, [{}] * 1000))
    assert all(7 <= answers[start : start + 100].count("canary") <= 13 for start in range(0, 1000, 100))


def test_another_model_of_the_same_salt_decides_alike(server: RunningServer) -> None:
    for session in ("a", "tenant-7", "ü", *map(str, range(40))):
        assert variants(infer(server, "same", 1.0, sequence_id=session)) == variants(
            infer(server, "split", 1.0, sequence_id=session)
        )


def test_sticky_by_a_parameter_and_weight_0(server: RunningServer) -> None:
    for user in range(30):
        assert variants(infer(server, "users", 1.0, parameters={"user": f"u{user}"})) == ["canary"]
    assert metric(server, "trtkit_variant_requests_total", model="users", variant="canary") == 30


def test_a_variant_that_is_not_there_fails_only_its_own_requests(server: RunningServer) -> None:
    answers = [_answer(server) for _ in range(20)]
    bad = sum("nowhere" in answer for answer in answers)
    assert answers.count("8.0") + bad == 20
    assert 9 <= bad <= 11
    assert metric(server, "trtkit_variant_failures_total", model="plain", variant="nowhere") == bad
    assert metric(server, "trtkit_variant_failures_total", model="plain", variant="stable") == 0


def _answer(server: RunningServer) -> str:
    """The number, or the error."""
    try:
        return str(infer(server, "plain", 4.0).as_numpy("y")[0, 0])
    except InferenceServerException as error:
        return str(error)


def test_everything_else_of_the_request_is_passed_on(server: RunningServer) -> None:
    result = infer(
        server, "split", 1.0, 2.0, 3.0,
        request_id="abc", sequence_id="session", sequence_start=True, sequence_end=True, timeout=5_000_000,
        parameters={"tenant": "t1", "n": 3, "yes": True},
    )  # fmt: skip
    assert got(result) == {
        "request_id": "abc", "correlation_id": "session", "flags": 3, "timeout": 5_000_000,
        "parameters": {"tenant": "t1", "n": 3, "yes": True},
    }  # fmt: skip
    assert len(set(variants(result))) == 1
    assert result.as_numpy("variant").shape == (3, 1)


def test_only_the_requested_outputs_come_back(server: RunningServer) -> None:
    for names in (["y"], ["variant"], ["got", "variant"]):
        wanted = [grpcclient.InferRequestedOutput(name) for name in names]
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            tensor = grpcclient.InferInput("x", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
            response = client.infer("split", [tensor], outputs=wanted).get_response()
        assert sorted(output.name for output in response.outputs) == sorted(names)


def test_errors_are_the_variants_words(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(server, "split", RAISE)
    assert caught.value.message() == "it is 99"


def test_one_sequence_stays_in_order(server: RunningServer) -> None:
    """A stream sends on without waiting; the first request of the sequence is the slowest."""
    order: list[str] = []
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: order.append(_request_id(result, error)))
        for step in range(20):
            tensor = grpcclient.InferInput("x", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.full((1, 1), -0.2 if step == 0 else step, np.float32))
            client.async_stream_infer("split", [tensor], sequence_id=5, request_id=str(step))
        client.stop_stream()
    assert order == [str(step) for step in range(20)]


def _request_id(result: grpcclient.InferResult, error: Exception | None) -> str:
    assert error is None, str(error)
    return json.loads(result.as_numpy("got").flat[0])[0]


BAD = {
    "zero": ({"weights": "stable:0, canary:0"}, "the weights add up to 0"),
    "no_weight": ({"weights": "stable, canary:1"}, "expected models with their weights"),
    "twice": ({"weights": "stable:1, stable:2"}, "expected models with their weights"),
    "negative": ({"weights": "stable:-1"}, "expected models with their weights"),
    "version": ({"weights": "stable/x:1"}, "expected models as NAME or NAME/VERSION"),
    "itself": ({"weights": "itself:1"}, "names the model itself"),
    "sticky": ({"sticky": "user"}, "one of correlation_id, parameter(NAME), none"),
    "misspelt": ({"weihgts": "stable:1"}, "did you mean 'weights'"),
}


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    for name, (parameters, _) in BAD.items():
        write_part(tmp_path, name, "split", parameters)
    with pytest.raises(ModelUnavailableError) as caught, serve(tmp_path):
        pass
    reasons = dict(re.findall(r"model '(\w+)' failed to load: (.*?)(?= At:|$)", str(caught.value)))
    for name, (_, words) in BAD.items():
        assert words in reasons[name]
