# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Percentiles, windows, stability, and the difference of two of the server's statistics, as a specification."""

from __future__ import annotations

import json
from time import perf_counter_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import ServerError
from trtkit.perf.latency import latency_statistics, nearest_rank
from trtkit.perf.measurement import Load, measurement_of
from trtkit.perf.recorder import Cut, ErrorCount, Recorder, merge_errors
from trtkit.perf.report import COLUMNS, MODEL_COLUMNS, model_rows, row, sentences, what_did_not_hold
from trtkit.perf.server_side import composing_models, difference, snapshot
from trtkit.perf.transport import Failure
from trtkit.perf.windows import Window, all_failed, instability, window_of

SECOND = 1_000_000_000


def array(values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("values", "per_mille", "expected"),
    [
        ([7], 500, 7),
        ([7], 999, 7),
        ([10, 20, 30, 40], 500, 20),  # ceil(0.5 × 4) = the 2nd
        ([10, 20, 30, 40], 501, 30),
        ([10, 20, 30, 40], 900, 40),
        (list(range(1, 11)), 900, 9),  # ceil(0.9 × 10) = the 9th; 0.9 × 10 in floats must not become the 10th
        (list(range(1, 101)), 950, 95),
        (list(range(1, 101)), 990, 99),
        (list(range(1, 101)), 999, 100),
        (list(range(1, 1001)), 999, 999),
        (list(range(1, 1002)), 999, 1000),  # ceil(999.999)
    ],
)
def test_nearest_rank(values, per_mille, expected):
    assert nearest_rank(array(values), per_mille) == expected


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.integers(1, 1000))
def test_nearest_rank_is_the_smallest_measured_value_that_the_share_does_not_exceed(values, per_mille):
    found = nearest_rank(array(sorted(values)), per_mille)
    assert found in values
    assert 1000 * sum(value <= found for value in values) >= per_mille * len(values)
    assert 1000 * sum(value < found for value in values) < per_mille * len(values)


def test_latency_statistics_do_not_depend_on_the_order():
    values = list(range(1, 1001))
    statistics = latency_statistics(array(values[500:] + values[:500]))
    assert statistics.to_json() == {
        "count": 1000, "mean_ns": 500, "min_ns": 1, "p50_ns": 500, "p90_ns": 900, "p95_ns": 950, "p99_ns": 990,
        "p99_9_ns": 999, "max_ns": 1000,
    }  # fmt: skip


def test_no_latency_has_no_statistics():
    assert latency_statistics(array([])) is None


def cut(latencies, start_s=0.0, seconds=1.0, errors=(), cpu_s=0.1):
    start = int(start_s * SECOND)
    return Cut(start, start + int(seconds * SECOND), array(latencies), tuple(errors), int(cpu_s * SECOND))


def test_a_request_belongs_to_the_cut_in_which_it_ended():
    recorder = Recorder()
    recorder.succeeded(5)
    recorder.succeeded(6)
    first = recorder.cut()
    recorder.succeeded(7)
    recorder.failed(Failure("timeout", "late"))
    second = recorder.cut()
    assert (first.latencies_ns.tolist(), first.errors) == ([5, 6], ())
    assert (second.latencies_ns.tolist(), second.errors) == ([7], (ErrorCount("timeout", 1, "late"),))


def test_cuts_follow_each_other_without_gap_or_overlap():
    before = perf_counter_ns()
    recorder = Recorder()
    cuts = [recorder.cut() for _ in range(4)]
    assert before <= cuts[0].start_ns
    assert [left.end_ns for left in cuts[:-1]] == [right.start_ns for right in cuts[1:]]
    assert all(one.end_ns > one.start_ns for one in cuts)


def test_errors_are_counted_by_kind_with_the_first_message():
    recorder = Recorder()
    for kind, message in (("HTTP 400", "first"), ("timeout", "t"), ("HTTP 400", "second")):
        recorder.failed(Failure(kind, message))
    one = recorder.cut()
    assert one.error_count == 3
    assert set(one.errors) == {ErrorCount("HTTP 400", 2, "first"), ErrorCount("timeout", 1, "t")}
    later = cut([], errors=[ErrorCount("timeout", 5, "other")])
    assert merge_errors([one, later]) == (ErrorCount("timeout", 6, "t"), ErrorCount("HTTP 400", 2, "first"))


def test_a_window_divides_by_its_real_length():
    window = window_of(3, cut([10, 20, 30, 40], seconds=2.0, cpu_s=0.5, errors=[ErrorCount("timeout", 2, "")]))
    assert (window.number, window.requests, window.errors) == (3, 4, 2)
    assert (window.requests_per_s, window.client_cpu_share) == (2.0, 0.25)
    assert (window.p50_ns, window.p90_ns, window.p99_ns) == (20, 40, 40)


def window(rate, p90_ms=1.0, errors=0):
    p90 = None if p90_ms is None else int(p90_ms * 1e6)
    return Window(1, SECOND, int(rate), errors, rate, p90, p90, p90, 0.1)


def test_fewer_than_three_windows_are_not_stable():
    assert "2 of at least 3" in instability([window(100), window(100)], 0.1)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([window(100), window(100), window(100)], ""),
        ([window(90), window(100), window(110)], ""),  # exactly 10 %
        ([window(89), window(100), window(111)], "throughput"),
        ([window(100, 0.9), window(100, 1.0), window(100, 1.1)], ""),
        ([window(100, 0.8), window(100, 1.0), window(100, 1.2)], "p90 latency"),
        ([window(5), window(100), window(100), window(100)], ""),  # only the last three count
        ([window(100), window(100), window(100), window(5)], "throughput"),
        ([window(100), window(0, None), window(100)], "no request succeeded in window 1"),
        ([window(0, None, 9), window(0, None, 9), window(0, None)], "no request succeeded in the last 3 windows"),
    ],
)
def test_stability(windows, words):
    reason = instability(windows, 0.1)
    assert words in reason
    assert bool(reason) == bool(words)


def test_the_tolerance_is_what_was_asked_for():
    windows = [window(89), window(100), window(111)]
    assert not instability(windows, 0.12)
    assert "11.0%" in instability(windows, 0.1)


def test_all_failed_needs_errors_in_three_windows_without_a_success():
    nothing, failed, good = window(0, None), window(0, None, 4), window(5)
    assert all_failed([good, failed, nothing, failed])
    assert not all_failed([nothing, nothing, nothing])  # a request may just take longer than three windows
    assert not all_failed([failed, failed, good])
    assert not all_failed([failed, failed])


LOAD = Load("m", "", "http", "127.0.0.1:8000", 2, 4, 1, 0.0, 1.0, 30.0, 0.1)


def measured(cuts, load=LOAD, warmup=None, figures=(), warnings=()):
    return measurement_of(load, "2026-01-01T00:00:00+00:00", warmup or cut([]), cuts, figures, warnings)


def test_the_result_is_that_of_the_last_three_windows_merged():
    slow = cut([10 * SECOND])
    cuts = [slow, *(cut([SECOND, SECOND // 2, SECOND // 2]) for _ in range(3))]
    result = measured(cuts)
    assert result.stable
    assert (result.latency.count, result.latency.max_ns) == (9, SECOND)
    assert result.duration_s == 3.0
    assert (result.requests_per_s, result.throughput_infer_per_s) == (3.0, 12.0)
    assert result.in_flight_mean == pytest.approx(2.0)  # Little: 3/s × 2/3 s
    assert result.warnings == ()
    assert len(result.windows) == 4


def test_errors_of_every_window_are_in_the_result():
    broken = cut([SECOND], errors=[ErrorCount("timeout", 3, "late")])
    result = measured([broken, *(cut([SECOND] * 2) for _ in range(3))])
    assert result.stable
    assert result.error_count == 3
    assert not result.every_request_failed
    assert "3 of 10 requests failed (timeout), the first one: late" in sentences(result)[0]
    assert what_did_not_hold([result]) == ""
    assert "3 failed requests" in what_did_not_hold([result], fail_on_errors=True)


def test_a_measurement_of_failures_only_says_so():
    result = measured([cut([], errors=[ErrorCount("HTTP 500", 5, "boom")])] * 3)
    assert result.every_request_failed
    assert result.latency is None
    assert not result.stable
    assert "no successful request (HTTP 500: boom)" in what_did_not_hold([result])
    assert row(result)[-1] == "all failed"


def test_a_server_that_died_is_told_from_one_that_never_answered():
    dead = cut([], errors=[ErrorCount("connection", 5, "refused")])
    result = measured([cut([SECOND] * 2), dead, dead, dead])
    assert not result.every_request_failed
    assert "in its last 3 windows (connection: refused)" in what_did_not_hold([result])


def test_an_unstable_measurement_is_kept_and_marked():
    result = measured([cut([SECOND] * 2), cut([SECOND] * 2), cut([SECOND] * 4)])
    assert not result.stable
    assert result.latency.count == 8
    assert row(result)[-1] == "unstable"
    assert "not stable: the throughput" in sentences(result)[0]
    assert what_did_not_hold([result, measured([cut([SECOND] * 2)] * 3)]).startswith("1 of 2 measurements")


def test_a_busy_client_is_named():
    quiet, busy = measured([cut([SECOND] * 2, cpu_s=0.89)] * 3), measured([cut([SECOND] * 2, cpu_s=0.9)] * 3)
    assert quiet.warnings == ()
    assert "90% of one core" in busy.warnings[0]
    assert busy.client_cpu_share == pytest.approx(0.9)


def test_a_client_that_does_not_keep_the_concurrency_is_named():
    assert "1.0 requests in flight instead of 2" in measured([cut([SECOND])] * 3).warnings[0]


def test_failures_of_the_warm_up_are_told_and_not_counted():
    result = measured([cut([SECOND] * 2)] * 3, warmup=cut([], errors=[ErrorCount("HTTP 503", 7, "busy")]))
    assert result.error_count == 0
    assert result.warnings == ("7 requests failed during the warm-up (HTTP 503: busy)",)


def stats(name, version="1", count=10, ns=1000, executions=5, inferences=10):
    duration, nothing = {"count": count, "ns": ns}, {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "inference_count": inferences,
        "execution_count": executions,
        "inference_stats": {
            **dict.fromkeys(("success", "queue", "compute_input", "compute_infer", "compute_output"), duration),
            **dict.fromkeys(("fail", "cache_hit", "cache_miss"), nothing),
        },
    }


def answering(*entries):
    return lambda what, model="", version="": {
        "model_stats": [e for e in entries if e["name"] == model and version in ("", e["version"])]
    }


def test_the_servers_figures_are_differences():
    before = snapshot(answering(stats("m", ns=1000)), [("m", "")])
    after = snapshot(answering(stats("m", count=14, ns=9000, executions=7, inferences=26)), [("m", "")])
    (figures,) = difference(before, after)
    assert (figures.model, figures.version, figures.success_count) == ("m", "1", 4)
    assert (figures.queue_ns, figures.compute_ns, figures.request_ns) == (2000, 6000, 2000)
    assert (figures.inference_count, figures.execution_count, figures.batch_size_mean) == (16, 2, 8.0)


def test_grpc_gives_strings_and_leaves_zeros_out():
    answer = {
        "name": "m",
        "version": "1",
        "inference_count": "12",
        "inference_stats": {"queue": {"count": "3", "ns": "300"}},
    }
    before = snapshot(answering({"name": "m", "version": "1"}), [("m", "")])
    (figures,) = difference(before, snapshot(answering(answer), [("m", "")]))
    assert (figures.inference_count, figures.queue_ns, figures.execution_count) == (12, 100, 0)
    assert (figures.batch_size_mean, figures.compute_ns) == (None, None)


def test_the_highest_version_is_read_when_none_is_named():
    fetch = answering(stats("m", "2"), stats("m", "10", count=11), stats("m", "9"))
    assert list(snapshot(fetch, [("m", "")])) == [("m", "10")]
    assert list(snapshot(fetch, [("m", "9")])) == [("m", "9")]


def test_a_model_that_was_loaded_anew_has_no_figures():
    old, new = (snapshot(answering(stats("m", count=n)), [("m", "")]) for n in (10, 3))
    with pytest.raises(ServerError, match="loaded anew"):
        difference(old, new)
    with pytest.raises(ServerError, match="loaded anew"):
        difference({}, new)


def test_a_model_without_statistics_is_named():
    with pytest.raises(ServerError, match="'other'"):
        snapshot(answering(stats("m")), [("other", "")])


def test_the_models_of_an_ensemble_are_found_through_its_ensembles():
    def step(name, version=-1):
        return {"model_name": name, "model_version": version}

    configs = {
        "outer": {"ensemble_scheduling": {"step": [step("a"), step("inner", "2"), step("a")]}},
        "inner": {"ensemble_scheduling": {"step": [step("b"), step("a")]}},
        "a": {},
        "b": {},
    }
    found = composing_models(lambda what, model, version: configs[model], configs["outer"])
    assert found == [("a", ""), ("inner", "2"), ("b", "")]
    assert composing_models(lambda *_: {}, configs["a"]) == []


def test_the_report_has_a_cell_for_each_column_and_json_holds_everything_but_the_raw_latencies():
    figures = difference(
        snapshot(answering(stats("m"), stats("part")), [("m", ""), ("part", "")]),
        snapshot(
            answering(stats("m", count=20, ns=41000, executions=10, inferences=30), stats("part")),
            [("m", ""), ("part", "")],
        ),
    )
    result = measured([cut([2_500_000] * 800)] * 3, figures=figures)
    assert row(result) == ["2", "3,200", *["2.500"] * 5, "0.004", "0.012", "4.00", "0", ""]
    assert len(row(result)) == len(COLUMNS)
    assert model_rows(result) == [["2", "part (version 1)", "0", "–", "–", "–"]]
    assert len(MODEL_COLUMNS) == 6
    value = json.loads(json.dumps(result.to_json()))
    assert "latencies_ns" not in value
    assert (value["load"]["concurrency"], value["latency"]["p99_ns"], value["server"]["queue_ns"]) == (
        2,
        2_500_000,
        4000,
    )
    assert (len(value["windows"]), value["error_count"], value["composing"][0]["model"]) == (3, 0, "part")
