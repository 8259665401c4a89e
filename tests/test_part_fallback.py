# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `fallback` through the real server: errors, deadlines, a killed model and an unloaded one."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from conftest import processes
from part_models import write_part
from routing_models import RAISE, infer, metric, variants, write_variant
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

# a primary of its own words, so that errors of both are told apart
_COMPLAINS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        error = pb_utils.TritonError("it always complains")
        return [pb_utils.InferenceResponse(error=error) for _ in requests]
"""


# never in time
_SLOW = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(1)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", each.inputs()[0].as_numpy())]) for each in requests]
"""


def y_only(config: ModelConfig) -> None:
    del config.output[1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fallback")
    write_variant(folder, "primary", 2)
    write_variant(folder, "backup", 3)
    write_variant(folder, "mortal", 4)
    write_variant(folder, "complains", 5, model=_COMPLAINS, edit=y_only)
    write_variant(folder, "slow", 6, model=_SLOW, edit=y_only)
    write_variant(folder, "slower", 7, model=_SLOW, edit=y_only)
    stalled = {"models": "slow, slower, backup", "deadline_microseconds": "20000", "rest_after_failures": "0"}
    write_part(folder, "stalled", "fallback", stalled)
    write_part(folder, "errors", "fallback", {"models": "complains, primary", "rest_after_failures": "2"})
    write_part(folder, "deadline", "fallback", {"deadline_microseconds": "100000", "rest_after_failures": "0"})
    write_part(folder, "killed", "fallback", {"models": "mortal, backup", "deadline_microseconds": "1500000"})
    write_part(folder, "chain", "fallback", {"models": "nowhere, primary/7, backup", "rest_microseconds": "1"})
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serve(repository, options=["--model-control-mode=explicit", "--load-model=*"]) as running:
        yield running
        running.kill()  # the server waits 30 s for a model whose process is dead


def test_an_error_lets_the_next_one_answer_and_after_two_in_a_row_it_rests(server: RunningServer) -> None:
    for _ in range(4):
        result = infer(server, "errors", 1.0, 2.0)
        assert variants(result) == ["primary", "primary"]
        assert result.as_numpy("y").tolist() == [[2.0], [4.0]]
    reasons = {
        reason: metric(server, "trtkit_fallbacks_total", model="errors", variant="complains", reason=reason)
        for reason in ("error", "rest")
    }
    assert reasons == {"error": 2, "rest": 2}
    time.sleep(1)  # one request tries it again
    infer(server, "errors", 1.0)
    assert metric(server, "trtkit_fallbacks_total", model="errors", variant="complains", reason="error") == 3


def test_an_error_of_all_says_what_each_said_and_is_nobodys_failure(server: RunningServer) -> None:
    """A request that every model refuses says nothing about the first one."""
    for _ in range(5):
        with pytest.raises(InferenceServerException) as caught:
            infer(server, "deadline", RAISE)
        assert caught.value.message() == "it is 99"
    _wait_for_primary(server)
    time.sleep(1.1)
    with pytest.raises(InferenceServerException) as caught:
        infer(server, "errors", RAISE)
    assert caught.value.message() == "complains: it always complains; primary: it is 99"


def test_a_late_answer_is_dropped_not_waited_for(server: RunningServer) -> None:
    """Both models sleep as told; only the last has no deadline."""
    started = time.monotonic()
    result = infer(server, "deadline", -0.4)
    assert variants(result) == ["backup"]
    assert 0.45 < time.monotonic() - started < 2.0
    assert metric(server, "trtkit_fallbacks_total", model="deadline", variant="primary", reason="deadline") >= 1
    _wait_for_primary(server)


def test_late_answers_do_not_take_all_threads_of_the_server(server: RunningServer) -> None:
    """Each of them holds one for a second per request in the queue of its slow model."""
    with ThreadPoolExecutor(24) as pool:
        answers = Counter(pool.map(lambda _: variants(infer(server, "stalled", 1.0))[0], range(300)))
    assert answers == {"backup": 300}


def test_models_and_versions_that_are_not_there(server: RunningServer) -> None:
    assert variants(infer(server, "chain", 1.0)) == ["backup"]


def test_all_are_answered_while_the_first_is_killed(server: RunningServer) -> None:
    assert variants(infer(server, "killed", 1.0)) == ["mortal"]
    pid = _stub(server, "mortal")

    def answer(step: int) -> str:
        if step == 60:
            os.kill(pid, signal.SIGKILL)
        result = infer(server, "killed", 1.0)
        name = variants(result)[0]
        assert result.as_numpy("y").tolist() == [[{"mortal": 4.0, "backup": 3.0}[name]]]
        return name

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(answer, range(400)))
    assert answers["mortal"] >= 30
    assert answers["backup"] >= 300


def test_all_are_answered_while_the_first_is_unloaded_and_loaded(server: RunningServer) -> None:
    _wait_for_primary(server)
    with ThreadPoolExecutor(4) as pool, httpclient.InferenceServerClient(server.http_url) as client:
        answers = pool.map(lambda _: variants(infer(server, "deadline", 1.0))[0], range(400))
        client.unload_model("primary")
        assert set(answers) <= {"primary", "backup"}
        assert variants(infer(server, "deadline", 1.0)) == ["backup"]
        client.load_model("primary")
    _wait_for_primary(server)


def _wait_for_primary(server: RunningServer) -> None:
    """Until it answers in time again, which on a busy machine it may not do at once."""
    deadline = time.monotonic() + 10
    while variants(infer(server, "deadline", 1.0)) != ["primary"]:
        assert time.monotonic() < deadline


def _stub(server: RunningServer, model: str) -> int:
    """The process of a model's instance."""
    stubs = [process.pid for process in processes() if process.parent == server.process.pid]
    (pid,) = [pid for pid in stubs if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text()]
    return pid


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    write_part(tmp_path, "one", "fallback", {"models": "primary"})
    write_part(tmp_path, "twice", "fallback", {"models": "primary, primary"})
    write_part(tmp_path, "late", "fallback", {"deadline_microseconds": "-1"})
    write_part(tmp_path, "never", "fallback", {"deadline_microseconds": "9" * 20})
    with pytest.raises(ModelUnavailableError) as caught, serve(tmp_path):
        pass
    text = str(caught.value)
    assert text.count("expected at least 2 different models") == 2
    assert "'deadline_microseconds' is '-1', expected a whole number, at least 0, at most 3600000000" in text
    assert f"'deadline_microseconds' is '{'9' * 20}', expected a whole number" in text
