# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/onnxruntime under good and bad requests at once; benchmarks/onnxruntime_soak.py takes longer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tritonclient import http as httpclient

from soak_load import Report, ask_all, processes
from soak_questions import bad_questions, giant_string, good_questions, not_utf8, pool, write_repository
from trtkit.server import RunningServer, serve

SECONDS = 8
BAD = 1000
SLACK_BYTES = 24 << 20  # in seconds the memory pools have not seen every size yet: this finds only gross leaks


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("soak")
    write_repository(folder)
    with serve(folder) as running:
        yield running


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, of the 100 MB
def test_good_requests_among_bad_ones_are_right_and_each_bad_one_gets_its_own_error(server: RunningServer) -> None:
    questions = pool(5, (good_questions, bad_questions, not_utf8))
    before = processes(server)
    giant = giant_string(100)
    report = ask_all(server, questions, seconds=SECONDS, rare=giant)
    assert report.wrong == []
    assert processes(server).keys() == before.keys()  # no stub was restarted
    assert {question.kind for question in (*questions, giant) if not question.cancel} <= report.answered.keys()
    assert report.cancelled > 0
    with httpclient.InferenceServerClient(server.http_url) as client:
        (statistics,) = client.get_inference_statistics("lookup")["model_stats"]
    assert statistics["inference_count"] > statistics["execution_count"]  # good ones did have mates


def test_bad_requests_alone_leave_nothing_behind(server: RunningServer) -> None:
    report = ask_all(server, pool(20, (bad_questions,)), count=BAD)
    assert report.wrong == []
    assert report.answered.total() == BAD
    assert report.grown(SLACK_BYTES) == {}


def test_growth_compares_the_last_third_with_the_first_after_the_warm_up() -> None:
    warm_up, low, high = {"stub 1": 900 << 20}, {"stub 1": 100 << 20}, {"stub 1": 120 << 20}
    assert Report(memory=[warm_up] * 20 + [low] * 80).grown() == {}
    assert Report(memory=[warm_up] * 20 + [low] * 40 + [high] * 40).grown() == {"stub 1": (100 << 20, 120 << 20)}
