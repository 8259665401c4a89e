# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From cuts to a measurement: what is merged, what is judged, what a reader is told."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from histograms import percentile_ns
from trtkit.perf.job import Cut, Final
from trtkit.perf.load import Load
from trtkit.perf.loop.records import Recorder
from trtkit.perf.measurement import Run, ServerSide, measurement_of
from trtkit.perf.run import Plan, run_load
from trtkit.perf.statistics.goodput import parse_slos
from trtkit.perf.transports.base import Failure

SECOND = 1_000_000_000
LOAD = Load("m", "", "127.0.0.1:8000", concurrency=2, batch_size=4, warmup_s=0.0, judged_windows=3)
OPEN = replace(LOAD, concurrency=0, request_rate=10.0, arrival="constant", max_in_flight=64)


def records(latencies, start_ns=0, failures=(), late_ns=0, index=0):
    """Requests that ended right after `start_ns`, failed ones after them."""
    recorder = Recorder()
    end = start_ns + 1
    for latency in latencies:
        recorder.row(end - latency - late_ns, end - latency, end, index, 0)
    for failure in failures:
        recorder.row_of(end - 1, end - 1, end, index, 0, [], failure)
    return recorder.cut()


def cut(latencies, number=0, seconds=1.0, cpu_s=0.1, **more):
    start = int(number * seconds * SECOND)
    return Cut(records(latencies, start, **more), start, start + int(seconds * SECOND), int(cpu_s * SECOND))


def windows(*contents, **more):
    """A cut for each list of latencies, one after the other."""
    return [cut(latencies, number, **more) for number, latencies in enumerate(contents)]


def measured(cuts, load=LOAD, side=None, *, warmup=None, final=None, run=None, **more):
    rest = Final(cut([], len(cuts)), True, 0, 0, None)
    whole = Run("2026-01-01T00:00:00+00:00", warmup or cut([]), tuple(cuts), final or rest, **(run or {}))
    return measurement_of(load, whole, side, **more)


def test_the_result_is_that_of_the_last_windows_merged():
    steady = [SECOND, SECOND // 2, SECOND // 2]
    result = measured(windows([10 * SECOND] * 9, steady, steady, steady))
    assert result.stable
    assert (result.latency.count, result.latency.max_ns) == (9, SECOND)
    assert result.duration_s == 3.0
    assert (result.requests_per_s, result.throughput_infer_per_s, result.responses_per_s) == (3.0, 12.0, 3.0)
    assert result.throughput_interval == (3.0, 3.0)
    assert result.in_flight_mean == pytest.approx(2.0)  # Little: 3/s × 2/3 s
    assert result.warnings == ()
    assert len(result.windows) == 4
    assert len(result.all_records) == 18


def test_noisy_windows_are_stable_when_all_together_are_and_then_all_are_the_result():
    rng = np.random.default_rng(2)
    counts = [100, 100, 125, *rng.integers(95, 106, 15).tolist(), 80, 125, 100]
    result = measured(windows(*([SECOND] * count for count in counts)))
    assert result.stable
    assert result.duration_s == len(counts)


def test_a_drift_is_not_stable():
    result = measured(windows(*([SECOND] * count for count in (100, 140, 180, 220, 260))))
    assert not result.stable
    assert result.duration_s == 3.0
    assert "throughput" in result.reason


def test_the_given_duration_is_the_result_whole():
    result = measured(windows([SECOND] * 5, [SECOND] * 2, [SECOND] * 2, [SECOND] * 2), run={"whole": True})
    assert result.duration_s == 4.0
    assert not result.stable


def test_a_number_of_requests_is_not_judged():
    result = measured(windows([SECOND] * 5, [SECOND]), run={"whole": True, "judged": False})
    assert result.stable
    assert result.reason == ""
    assert any("not judged" in warning for warning in result.warnings)


def test_errors_of_every_window_and_of_the_end_are_in_the_result_and_those_of_the_warm_up_are_told():
    refused = Failure("HTTP 400", "no")
    cuts = [cut([SECOND] * 2, number, failures=[refused] * (number == 0)) for number in range(4)]
    late = Final(cut([], 4, failures=[Failure("timeout", "late"), refused]), True, 0, 0, None)
    result = measured(cuts, final=late, warmup=cut([], failures=[Failure("HTTP 503", "not yet")] * 3))
    assert [(error.kind, error.count) for error in result.errors] == [("HTTP 400", 2), ("timeout", 1)]
    assert result.error_count == 3
    assert result.stable
    assert result.warnings == ("3 requests failed during the warm-up (HTTP 503: not yet)",)


def test_when_every_request_failed_there_are_no_latencies():
    cuts = [cut([], number, failures=[Failure("connection", "gone", True)]) for number in range(3)]
    result = measured(cuts)
    assert result.every_request_failed
    assert result.latency is None
    assert not result.stable
    assert json.dumps(result.to_json())


def test_a_busy_client_is_named_by_its_busiest_share_of_a_core():
    assert "bottleneck" in measured(windows(*[[SECOND] * 2] * 3, cpu_s=0.95)).warnings[0]
    two = replace(LOAD, processes=2)
    assert measured(windows(*[[SECOND] * 2] * 3, cpu_s=0.95), two).warnings == ()
    assert "bottleneck" in measured(windows(*[[SECOND] * 2] * 3, cpu_s=1.9), two).warnings[0]


def test_a_closed_loop_that_does_not_keep_its_concurrency_is_named():
    result = measured(windows(*[[SECOND // 2] * 2] * 3))
    assert "1.0 requests in flight instead of 2" in result.warnings[0]
    assert measured(windows(*[[SECOND // 2] * 2] * 3), replace(LOAD, ramp_s=3.0)).warnings == ()


def test_an_open_loop_tells_both_latencies_and_its_lag():
    cuts = [cut([SECOND // 100] * 10, number, late_ns=100_000) for number in range(3)]
    result = measured(cuts, OPEN)
    assert result.latency.p50_ns == SECOND // 100
    assert result.intended_latency.p50_ns == SECOND // 100 + 100_000
    assert result.schedule_lag.max_ns == 100_000
    assert result.warnings == ()
    assert measured(windows(*[[SECOND] * 2] * 3)).schedule_lag is None


def test_an_open_loop_that_is_not_what_was_asked_for_says_so():
    cuts = [cut([SECOND // 100] * 8, number, late_ns=5_000_000) for number in range(3)]
    result = measured(cuts, OPEN, final=Final(cut([], 3), False, 7, 3, None))
    words = " | ".join(result.warnings)
    assert "sent late, p99 5.0 ms" in words
    assert "7 requests had to wait because 64 were in flight" in words
    assert "3 requests were due and never sent" in words
    assert "8.0 requests/s ended instead of the 10" in words
    assert "still in flight" in words


def test_goodput_counts_the_requests_that_met_every_goal():
    cuts = windows(*[[SECOND // 100, SECOND]] * 3)
    result = measured(cuts, slos=parse_slos("latency < 100 ms"))
    assert (result.goodput.good, result.goodput.total, result.goodput.per_s) == (3, 6, 1.0)


def test_a_mix_shows_each_model():
    recorder = Recorder()
    for index, latency in ((0, 10), (1, 30), (1, 30)):
        recorder.row(100 - latency, 100 - latency, 100, index, 0)
    recorder.row_of(0, 0, 100, 0, 0, [], Failure("timeout", "late"))
    whole = Cut(recorder.cut(), 0, SECOND, 0)
    result = measured([whole], models=["b", "a"], run={"whole": True})
    assert [(one.model, one.requests_per_s, one.errors) for one in result.by_model] == [("a", 2.0, 0), ("b", 1.0, 1)]
    assert [one.latency.p50_ns for one in result.by_model] == [30, 10]
    assert measured([whole], models=["a", "a"]).by_model == ()


def test_the_servers_words_are_among_the_warnings():
    result = measured(windows(*[[SECOND] * 2] * 3), side=ServerSide(warnings=("it said nothing",)), warnings=["mine"])
    assert result.warnings == ("mine", "it said nothing")


def test_json_has_everything_but_the_rows_and_a_histogram_of_them():
    latencies = [SECOND // 10, SECOND // 5]
    value = json.loads(json.dumps(measured(windows(*[latencies] * 3)).to_json()))
    assert value["label"] == "concurrency 2"
    assert value["load"]["concurrency"] == 2
    assert value["latency"]["count"] == 6
    assert "records" not in value
    assert percentile_ns(value["latency_histogram"], 1000) == pytest.approx(SECOND // 5, rel=1e-3)


@pytest.mark.parametrize(
    ("load", "label"),
    [
        (LOAD, "concurrency 2"),
        (replace(LOAD, ramp_from=1, ramp_s=2.0), "concurrency 1 to 2"),
        (OPEN, "10 requests/s (constant)"),
        (replace(OPEN, ramp_from=1.0, ramp_s=2.0), "1 to 10 requests/s (constant)"),
        (replace(OPEN, request_rate=0.0, arrival="trace"), "trace"),
        (replace(LOAD, arrival="periodic", ramp_from=1), "concurrency 1 to 2"),
    ],
)
def test_a_load_has_a_name(load, label):
    assert load.label == label


class Script:
    """In place of `run_jobs`: gives cuts until it is told that they are enough."""

    def __init__(self, monkeypatch, cuts, final=None, interrupted=False):
        from trtkit.perf import run
        from trtkit.perf.fleet import Outcome

        self.given, self.jobs = 0, []
        end = final or cut([SECOND], len(cuts))

        def run_jobs(jobs, decide):
            self.jobs.append(jobs)
            for one in cuts:
                self.given += 1
                if decide(one):
                    break
            return Outcome(Final(end, True, 0, 0, None), 0, interrupted)

        monkeypatch.setattr(run, "run_jobs", run_jobs)


def test_windows_go_on_until_they_are_stable(monkeypatch):
    unsteady = windows([SECOND], [SECOND] * 100, [SECOND] * 200, [SECOND] * 300, *[[SECOND] * 300] * 9)
    script = Script(monkeypatch, unsteady)
    seen = []
    found = run_load(LOAD, [], Plan(windows=3), on_window=seen.append)
    assert script.given == 1 + 5
    assert [window.number for window in seen] == [1, 2, 3, 4, 5]
    assert len(found.cuts) == 5
    assert len(found.warmup.records) == 1
    assert all(left.end_ns == right.start_ns for left, right in pairwise(found.cuts))


def test_windows_end_at_their_greatest_number_when_nothing_answers_and_at_the_duration(monkeypatch):
    drifting = windows(*[[SECOND] * count for count in range(10, 1000, 40)])
    script = Script(monkeypatch, drifting)
    assert len(run_load(LOAD, [], Plan(windows=3, max_windows=7)).cuts) == 7
    dead = [cut([], number, failures=[Failure("connection", "gone", True)]) for number in range(30)]
    script = Script(monkeypatch, dead)
    assert len(run_load(LOAD, [], Plan(windows=3, max_windows=20)).cuts) == 3
    script = Script(monkeypatch, drifting)
    found = run_load(LOAD, [], Plan(windows=3, duration_s=4.0))
    assert (len(found.cuts), found.whole, found.judged, script.given) == (4, True, True, 5)


def test_slow_requests_are_waited_for_when_a_few_others_failed(monkeypatch):
    refused = [cut([], number, failures=[Failure("HTTP 503", "busy")] * (number == 0)) for number in range(9)]
    Script(monkeypatch, refused)
    assert len(run_load(LOAD, [], Plan(windows=3, max_windows=7)).cuts) == 7


def test_what_a_server_answered_before_it_went_away_is_the_result():
    gone = [cut([], number, failures=[Failure("connection", "gone", True)]) for number in range(2, 5)]
    result = measured([*windows([SECOND] * 2, [SECOND] * 2), *gone])
    assert result.latency.count == 4
    assert not result.stable
    assert result.duration_s == 5.0


def test_an_open_loop_that_falls_behind_is_not_stable():
    cuts = [cut([SECOND // 100] * 10, number, late_ns=number * SECOND) for number in range(1, 4)]
    result = measured(cuts, OPEN)
    assert not result.stable
    assert "p90 latency" in result.reason


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
def test_processes_share_every_step_of_a_ramp(shares):
    from trtkit.perf.job import Way
    from trtkit.perf.jobs import Traffic, jobs_of
    from trtkit.perf.server.address import Address

    load = replace(LOAD, concurrency=8, ramp_from=1, ramp_s=2.0, processes=shares)
    traffic = Traffic(Way("http", Address("h", 1)), lambda _slots: ((b"",),), 8)
    steps = [[slots for _, slots in job.concurrency_at] for job in jobs_of(load, traffic)]
    together = [sum(step) for step in zip(*steps, strict=True)]
    assert (together[0], together[-1]) == (1, 8)
    assert together == sorted(together)


def test_a_window_waits_for_its_number_of_requests(monkeypatch):
    Script(monkeypatch, windows(*[[SECOND] * 2] * 30))
    found = run_load(LOAD, [], Plan(windows=3, window_requests=5))
    assert [len(one.records) for one in found.cuts] == [6, 6, 6]
    assert found.cuts[0].end_ns - found.cuts[0].start_ns == 3 * SECOND


def test_a_number_of_requests_is_a_load_after_a_warm_up_of_its_own(monkeypatch):
    from trtkit.perf.job import Job, Way
    from trtkit.perf.server.address import Address

    script = Script(monkeypatch, [cut([])], final=cut([SECOND] * 10, 0))
    job = Job(Way("http", Address("h", 1)), ((b"",),), 1, 5, 5)
    found = run_load(replace(LOAD, warmup_s=1.0), [job, job], Plan(requests=11))
    assert [[one.limit for one in jobs] for jobs in script.jobs] == [[None, None], [6, 5]]
    assert [one.warmup_ns for one in script.jobs[1]] == [0, 0]
    assert len(found.cuts) == 1
    assert len(found.cuts[0].records) == 10
    assert not found.judged


def test_what_was_begun_when_the_user_ended_it_is_kept(monkeypatch):
    Script(monkeypatch, [cut([SECOND])], final=cut([SECOND] * 4, 1), interrupted=True)
    found = run_load(LOAD, [], Plan(windows=3))
    assert found.interrupted
    assert len(found.cuts[0].records) == 4
