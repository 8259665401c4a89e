# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers compared with their references: what is right, what is wrong, and whose it was."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit.errors import DataError, ServerError
from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.checks.references import asked_alone
from trtkit.perf.checks.verify import Verification, Verifier, merged
from trtkit.perf.data.pool import Request, one_stream
from trtkit.project import Tolerance
from trtkit.server import connect, serve


def encoded(answer):
    """An answer as bytes, as simple as can be."""
    file = io.BytesIO()
    np.savez(file, **answer)
    return file.getvalue()


def decoded(slot, answer):
    with np.load(io.BytesIO(answer)) as archive:
        return dict(archive)


RNG = np.random.default_rng(5)
BATCHES = [{"y": RNG.standard_normal((2, 4)).astype(np.float32)} for _ in range(6)]


def verifier(expected=BATCHES, **more):
    return Verifier(expected, decoded, **more)


def test_right_answers_are_counted_and_read_once():
    read = []
    checked = Verifier(BATCHES, lambda slot, answer: read.append(slot) or decoded(slot, answer), reference="the graph")
    for turn in range(3):
        for index, answer in enumerate(BATCHES):
            assert checked.check(turn, index, encoded(answer)) is None
    assert read == [0] * 6
    result = checked.result()
    assert (result.checked, result.mismatches, result.unchecked, result.ok) == (18, 0, 0, True)
    assert result.sentence() == "all 18 compared answers equal their references within tolerance"
    assert json.loads(json.dumps(result.to_json()))["ok"] is True


def test_answers_in_shared_memory_are_read_every_time():
    area = {0: BATCHES[0], 1: BATCHES[1]}
    checked = Verifier(BATCHES, lambda slot, answer: area[slot], in_answer=False)
    assert checked.check(0, 0, b"in shared memory") is None
    assert checked.check(1, 0, b"in shared memory").belongs_to == 1


def test_nothing_compared_is_never_ok():
    checked = verifier([None, {"y": np.zeros((1, 1))}, {}])
    assert checked.check(0, 0, b"something") is None
    assert checked.check(0, 1, None) is None
    assert checked.check(0, 2, b"something") is None
    checked.unchecked(4)
    result = checked.result()
    assert (result.checked, result.unchecked, result.ok) == (0, 7, False)
    assert result.sentence() == (
        "no answer was compared with its reference, so nothing is verified; 7 could not be compared"
    )
    assert not verifier([]).result().ok


def test_an_answer_of_another_request_is_named():
    checked = verifier()
    mismatch = checked.check(0, 2, encoded(BATCHES[5]))
    assert mismatch.belongs_to == 5
    assert mismatch.sentence == (
        "request 2, output 'y': the answer is the reference of request 5, as if the two were swapped"
    )
    assert checked.result().sentence() == f"1 of 1 compared answers are wrong: {mismatch.sentence}"


def test_a_row_of_another_request_is_named():
    wrong = BATCHES[2]["y"].copy()
    wrong[1] = BATCHES[4]["y"][0]
    mismatch = verifier().check(0, 2, encoded({"y": wrong}))
    assert mismatch.belongs_to == 4
    assert mismatch.sentence.endswith(
        "output 'y': row 1 is row 0 of the reference of request 4, as if rows were swapped"
    )
    within = verifier().check(0, 2, encoded({"y": BATCHES[2]["y"][::-1]}))
    assert "row 0 is row 1 of the reference of request 2" in within.sentence
    unbatched = verifier(batched=False).check(0, 2, encoded({"y": wrong}))
    assert unbatched.belongs_to is None
    assert "4 of 8 elements are wrong" in unbatched.sentence


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1), st.integers(0, 1))
def test_every_pair_of_swapped_rows_is_found(one, other, row, place):
    wrong = BATCHES[one]["y"].copy()
    wrong[row] = BATCHES[other]["y"][place]
    mismatch = verifier().check(0, one, encoded({"y": wrong}))
    if (one, row) == (other, place):
        assert mismatch is None
    else:
        assert mismatch.belongs_to == other
        assert f"row {row} is row {place} of the reference of request {other}," in mismatch.sentence


def test_a_wrong_value_is_shown_with_its_place():
    wrong = BATCHES[0]["y"].copy()
    wrong[1, 2] = 100
    mismatch = verifier().check(0, 0, encoded({"y": wrong}))
    assert (mismatch.output, mismatch.element, mismatch.actual, mismatch.belongs_to) == ("y", (1, 2), "100", None)
    assert "1 of 8 elements are wrong; the worst is element [1, 2]: answered 100, reference" in mismatch.sentence


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"rubbish", "request 0: its answer cannot be read"),
        (encoded({"z": BATCHES[0]["y"]}), "has no output 'y'; available: z"),
        (encoded({"y": np.zeros((2, 9), np.float32)}), r"shape \[2, 9\] instead of \[2, 4\]"),
        (encoded({"y": np.full((2, 4), np.nan, np.float32)}), "8 of 8 elements are wrong"),
        (encoded({"y": np.full((2, 4), b"a")}), "text instead of numbers"),
    ],
)
def test_answers_that_are_no_answers(answer, words):
    checked = verifier()
    mismatch = checked.check(0, 0, answer)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(mismatch.sentence)
    assert (checked.result().checked, checked.result().mismatches) == (1, 1)


def test_an_error_of_the_server_is_a_wrong_answer():
    def refuse(slot, answer):
        raise ServerError("HTTP 500")

    assert "cannot be read: HTTP 500" in Verifier(BATCHES, refuse).check(0, 1, b"").sentence


def test_answers_may_differ_within_tolerance():
    near = encoded({"y": BATCHES[0]["y"] * np.float32(1 + 5e-5)})
    far = encoded({"y": BATCHES[0]["y"] * np.float32(1.005) + np.float32(0.001)})
    assert verifier().check(0, 0, near) is None
    assert verifier().check(0, 0, far) is not None
    assert verifier(closeness=Closeness("fp16")).check(0, 0, far) is None
    assert verifier(closeness=Closeness(override=Tolerance(rtol=0.1, atol=0.1))).check(0, 0, far) is None
    assert verifier(closeness=Closeness(override=Tolerance(rtol=0, atol=0))).check(0, 0, near) is not None


def test_bf16_is_compared_as_numbers_and_integers_exactly():
    bits = np.array([[0x3F80, 0x4000]], np.uint16)  # 1.0, 2.0
    off = encoded({"y": bits + np.uint16(1)})
    assert Verifier([{"y": bits}], decoded).check(0, 0, off) is not None
    bf16 = Closeness("bf16", datatypes={"y": "BF16"})
    assert Verifier([{"y": bits}], decoded, bf16).check(0, 0, off) is None
    whole = {"y": np.array([[5]], np.int64)}
    assert Verifier([whole], decoded, Closeness("fp32")).check(0, 0, encoded({"y": np.array([[6]])})) is not None


def test_texts_are_compared_and_named():
    texts = [{"y": np.array([[f"text {n}".encode()]], dtype=object)} for n in range(3)]
    checked = Verifier(texts, lambda slot, answer: {"y": np.array([[answer]], dtype=object)})
    assert checked.check(0, 1, b"text 1") is None
    assert checked.check(0, 1, b"text 2").belongs_to == 2
    assert "answered b'text', reference b'text 1'" in checked.check(0, 1, b"text").sentence
    flat = [{"y": np.array([b"a\0", b"b"], dtype=object)}, {"y": np.array([b"c", b"a\0"], dtype=object)}]
    mixed = Verifier(flat, lambda slot, answer: {"y": np.array([b"a\0", b"c"], dtype=object)}).check(0, 0, b"")
    assert (mixed.belongs_to, mixed.output) == (1, "y")


def test_only_the_first_ten_are_kept_and_all_are_counted():
    checked = verifier()
    for _ in range(25):
        checked.check(0, 0, encoded(BATCHES[1]))
    result = checked.result()
    assert (result.mismatches, len(result.first), result.checked) == (25, 10, 25)


def test_references_that_are_alike_hide_a_swap():
    same = {"y": np.ones((1, 2), np.float32)}
    other = {"y": np.zeros((1, 2), np.float32)}
    checked = Verifier([same, same, other], decoded)
    checked.check(0, 0, encoded(same))
    assert checked.result().alike == 1
    assert "for 1 of the requests the next one has the same reference" in checked.result().sentence()
    assert Verifier([same], decoded).result().alike == 1
    assert verifier().result().alike == 0


def test_processes_are_merged():
    one, other = verifier(), verifier()
    one.check(0, 0, encoded(BATCHES[0]))
    other.check(0, 0, encoded(BATCHES[1]))
    other.unchecked()
    both = merged([one.result(), other.result()])
    sent = pickle.loads(pickle.dumps(other))
    one.merge(sent)
    assert one.result() == both
    assert (both.checked, both.mismatches, both.unchecked, both.ok) == (2, 1, 1, False)
    assert Verification(1, 0, 0).ok


def test_known_answers_do_not_travel():
    checked = verifier()
    checked.check(0, 0, encoded({"y": BATCHES[0]["y"]}))
    sent = pickle.loads(pickle.dumps(checked))
    assert sent.check(0, 0, encoded(BATCHES[1])) is not None
    assert sent.result().checked == 2


def pool_of(count=3, expected=None):
    requests = [Request("m", "", {"x": np.full((1, 2), n, np.float32)}, expected=expected) for n in range(count)]
    return one_stream(requests, "here")


def test_references_from_a_server_that_is_asked_alone():
    asked = []
    answers = asked_alone(pool_of(), lambda request: asked.append(request) or {"y": request.inputs["x"] * 2})
    assert [answer["y"].tolist() for answer in answers] == [[[0, 0]], [[2, 2]], [[4, 4]]]
    assert len(asked) == 6


def test_a_model_that_answers_by_chance_has_no_reference():
    chance = np.random.default_rng(0)
    with pytest.raises(DataError, match="'m' answered request 0 in two ways, in output 'y', with nothing else running"):
        asked_alone(pool_of(), lambda _: {"y": chance.standard_normal(3).astype(np.float32)})


def test_expected_answers_are_not_asked_for():
    known = {"y": np.ones((1, 1))}
    assert asked_alone(pool_of(2, known), None) == [known, known]


@pytest.mark.triton
def test_a_real_server_and_one_that_mixes_its_rows_up(tmp_path):
    mixing = ECHO_MODEL.replace('"x").as_numpy())]', '"x").as_numpy()[::-1].copy())]')
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    write_model(tmp_path, "mixing", ECHO_CONFIG.replace('"echo"', '"mixing"'), mixing)
    requests = [Request("echo", "", {"x": RNG.standard_normal((2, 4)).astype(np.float32)}) for _ in range(3)]
    pool = one_stream(requests, "random values")
    with serve(tmp_path) as server, connect(server.http_url) as client:
        expected = asked_alone(pool, lambda request: client.infer(request.model, request.inputs))
        right, wrong = verifier(expected), verifier(expected)
        for index, request in enumerate(requests):
            right.check(0, index, encoded(client.infer("echo", request.inputs)))
            wrong.check(0, index, encoded(client.infer("mixing", request.inputs)))
    assert right.result().ok
    assert wrong.result().mismatches == 3
    assert "row 0 is row 1 of the reference of request 0" in wrong.result().first[0].sentence
