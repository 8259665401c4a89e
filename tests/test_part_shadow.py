# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `shadow` through the real server: what it finds, and that the primary never suffers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from part_models import write_part
from routing_models import DIE, RAISE, infer, metric, variants, write_variant
from trtkit.compat import python_backends_folder
from trtkit.config import ModelConfig
from trtkit.server import RunningServer, serve

sys.path.insert(0, str(python_backends_folder() / "shadow"))
from trtkit_shadow_compare import difference

STRINGS = "1 of 2 elements, first at [0, 1]: b'b' from the primary, b'c' from the candidate"

# like the primary, but for x = 7 it is half off, and for x = 5 it is off by less than the tolerance; at 3 it is slow,
# at 4 it fails
CANDIDATE = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, x):
        if (x == 4).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("it is 4"))
        if (x == 3).any():
            time.sleep(0.3)
        y = x * 2 + 0.5 * (x == 7) + 0.004 * (x == 5)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", y.astype(np.float32))])
"""


def y_only(config: ModelConfig) -> None:
    del config.output[1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shadow")
    write_variant(folder, "stable", 2)
    write_variant(folder, "mortal", 2)
    write_variant(folder, "candidate", 0, model=CANDIDATE, edit=y_only)
    write_part(folder, "shadow", "shadow", {"rtol": "0.001", "log_mismatches": "2"})
    write_part(folder, "slow", "shadow", {"queue_size": "2", "log_mismatches": "0"})
    write_part(folder, "half", "shadow", {"sample": "0.5"})
    write_part(folder, "absent", "shadow", {"candidate": "nowhere"})
    write_part(folder, "dying", "shadow", {"candidate": "mortal", "sample": "1"})
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serve(repository, options=["--model-control-mode=explicit", "--load-model=*"]) as running:
        yield running
        running.kill()  # the server waits 30 s for a model whose process is dead


def counted(server: RunningServer, model: str, what: str, candidate: str = "candidate") -> float:
    return metric(server, f"trtkit_shadow_{what}_total", model=model, variant=candidate)


def test_a_planted_difference_is_found(server: RunningServer) -> None:
    rows = [[float(n % 6), float(n)] for n in range(5) if n not in (3, 4)] + [[5.0, 5.0]]
    for row in rows:
        infer(server, "shadow", *row)
    assert counted(server, "shadow", "compared") == len(rows)
    assert counted(server, "shadow", "mismatches") == 0
    result = infer(server, "shadow", 1.0, 7.0, request_id="planted")
    assert result.as_numpy("y").tolist() == [[2.0], [14.0]]
    assert variants(result) == ["stable", "stable"]
    assert counted(server, "shadow", "mismatches") == 1
    assert metric(server, "trtkit_shadow_max_difference", model="shadow", output="y") == 0.5
    line = (
        "model 'shadow': candidate 'candidate': request 'planted': output 'y' differs: 1 of 2 elements, "
        "first at [1, 0]: 14.0 from the primary, 14.5 from the candidate"
    )
    assert line in server.log.read_text()


def test_only_the_first_mismatches_are_logged(server: RunningServer) -> None:
    for _ in range(4):
        infer(server, "shadow", 7.0)
    assert counted(server, "shadow", "mismatches") >= 4
    assert server.log.read_text().count("model 'shadow': candidate") == 2


def test_a_slow_candidate_delays_nobody_and_what_it_misses_is_counted(server: RunningServer) -> None:
    infer(server, "slow", 1.0)
    started = time.monotonic()
    for _ in range(10):
        assert infer(server, "slow", 3.0).as_numpy("y").tolist() == [[6.0]]
    assert time.monotonic() - started < 2.0  # 3 s, if the candidate's were waited for
    time.sleep(1.0)
    assert counted(server, "slow", "dropped") >= 6
    assert counted(server, "slow", "compared") + counted(server, "slow", "dropped") == 11


def test_errors_of_the_candidate_are_nobody_elses(server: RunningServer) -> None:
    assert infer(server, "half", 4.0).as_numpy("y").tolist() == [[8.0]]
    assert infer(server, "absent", 1.0).as_numpy("y").tolist() == [[2.0]]
    assert counted(server, "absent", "failed", "nowhere") == 1
    assert "candidate 'nowhere': answered with an error" in server.log.read_text()


def test_errors_of_the_primary_are_not_copied(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(server, "shadow", RAISE)
    assert caught.value.message() == "it is 99"
    assert metric(server, "trtkit_variant_failures_total", model="shadow", variant="stable") == 1
    assert metric(server, "trtkit_variant_failures_total", model="shadow", variant="candidate") == 0


def test_a_sample_of_the_requests_and_whole_sequences(server: RunningServer) -> None:
    before = counted(server, "half", "compared")
    for _ in range(20):
        infer(server, "half", 1.0)
    after = counted(server, "half", "compared")
    assert after - before == pytest.approx(10, abs=1)
    for session in range(1, 9):
        for step in range(3):
            infer(server, "half", 1.0, sequence_id=session, sequence_start=step == 0, sequence_end=step == 2)
    copied = counted(server, "half", "compared") - after
    assert copied % 3 == 0
    assert 0 < copied < 24


def test_a_candidate_that_dies_harms_nobody(server: RunningServer) -> None:
    def answer(step: int) -> list[list[float]]:
        return infer(server, "dying", 1.0).as_numpy("y").tolist()

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(answer, range(100))
        with pytest.raises(InferenceServerException, match="not healthy"):
            infer(server, "mortal", DIE)
        assert all(y == [[2.0]] for y in answers)
    time.sleep(1.5)  # the server takes a second for each request to a dead process
    assert counted(server, "dying", "failed", "mortal") >= 1


def test_unloading_with_a_copy_in_flight(server: RunningServer) -> None:
    before = counted(server, "slow", "compared")
    for _ in range(3):
        infer(server, "slow", 3.0)
    with httpclient.InferenceServerClient(server.http_url) as client:
        client.unload_model("slow")
        deadline = time.monotonic() + 15
        while client.is_model_ready("slow"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.load_model("slow")
    assert infer(server, "slow", 1.0).as_numpy("y").tolist() == [[2.0]]
    # counters live on, also those of another model of the part
    assert before < counted(server, "slow", "compared") <= before + 4
    assert counted(server, "shadow", "compared") > 0


@pytest.mark.parametrize(
    ("primary", "candidate", "what"),
    [
        ([1.0, np.nan, np.inf, -np.inf], [1.0005, np.nan, np.inf, -np.inf], ""),
        ([1.0, 1.0], [1.0, 1.1], "1 of 2 elements, first at [1]: 1.0 from the primary, 1.1 from the candidate"),
        ([np.nan], [1.0], "1 of 1 elements, first at [0]: nan from the primary, 1.0 from the candidate"),
        ([np.inf], [-np.inf], "1 of 1 elements, first at [0]: inf from the primary, -inf from the candidate"),
        ([1e30], [np.inf], "1 of 1 elements, first at [0]: 1e+30 from the primary, inf from the candidate"),
        ([1, 2], [1, 3], "1 of 2 elements, first at [1]: 2 from the primary, 3 from the candidate"),
        ([True], [True], ""),
        ([[b"a", b"b"]], [[b"a", b"c"]], STRINGS),
        ([1.0], [[1.0]], "float64 [1, 1] instead of float64 [1]"),
        ([1.0], [1], "int64 [1] instead of float64 [1]"),
        ([], [], ""),
    ],
)  # fmt: skip
def test_difference(primary: list[object], candidate: list[object], what: str) -> None:
    arrays = [np.array(each, dtype=np.object_ if "b'" in what else None) for each in (primary, candidate)]
    assert difference(*arrays, rtol=1e-3, atol=1e-5).what == what


def test_difference_in_fp16_near_its_largest() -> None:
    found = difference(np.array([65504], np.float16), np.array([-65504], np.float16), rtol=0.1, atol=0)
    assert found.what
    assert found.largest == 131008
