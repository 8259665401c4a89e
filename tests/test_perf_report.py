# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The report for people: every figure in its cell, every problem in a sentence, nothing that steers a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from perf_results import SECOND, START_NS, STRANGE, measurement, stages_of
from trtkit.cli.perf_live import Progress, bars, window_line
from trtkit.perf.checks.verify import Mismatch, Verification
from trtkit.perf.measurement import ModelShare
from trtkit.perf.reports.report import (
    milliseconds,
    plain,
    rate,
    sentences,
    stage_sentences,
    tables,
    what_did_not_hold,
    what_is_wrong,
)
from trtkit.perf.statistics.goodput import Goodput
from trtkit.perf.statistics.latency import latency_statistics


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def test_a_closed_loop_has_a_row_a_level_that_begins_with_its_number():
    levels = [measurement(concurrency=1), measurement(concurrency=8, stable=False)]
    table = tables(levels, data="random values")[0]
    assert table.title == "digits over HTTP, batch size 1, random values"
    assert column(table, "concurrency") == ["1", "8"]
    assert column(table, "") == ["", "unstable"]
    latency = levels[0].latency
    assert column(table, "p99.9 ms")[0] == f"{latency.p99_9_ns / 1e6:.3f}"
    assert column(table, "server queue ms")[0] == "0.600"
    assert column(table, "avg batch")[0] == "4.00"


def test_the_half_width_is_that_of_the_interval_in_inferences():
    one = measurement()
    one = replace(one, load=replace(one.load, batch_size=8))
    low, high = one.throughput_interval
    assert column(tables([one])[0], "±") == [rate((high - low) / 2 * 8)]


def test_an_open_loop_shows_the_latency_from_the_intended_time_too():
    one = measurement(rate=500, per_second=500, stall=(3.2, 1.0))
    table = tables([one])[0]
    assert column(table, "load") == ["500/s"]
    from_send, intended = (float(column(table, name)[0]) for name in ("p99 ms", "p99 ms from intended time"))
    assert intended > 500 > from_send


def test_streams_have_a_table_of_their_own():
    one = measurement(responses=10)
    _, streaming, *_ = tables([one])
    assert column(streaming, "tokens/request") == ["10.0"]
    assert column(streaming, "TTFT p50 ms") == [milliseconds(one.streaming.first_response.p50_ns)]
    assert column(streaming, "tokens/s") == [rate(one.streaming.responses_per_s)]


def test_ensembles_and_mixes_show_their_models():
    one = measurement(ensemble=True)
    share = ModelShare("digits", 150.0, one.latency, 3)
    one = replace(one, by_model=(share, replace(share, model=STRANGE, latency=None)))
    by_title = {table.title: table for table in tables([one])}
    mix, inside = by_title["By model"], by_title["The models of digits, the server's own figures"]
    assert column(mix, "errors") == ["3", "3"]
    assert column(mix, "p99 ms")[1] == "–"
    assert column(inside, "model")[:2] == ["digits (version 1)", "decode (version 1)"]
    assert by_title[next(iter(by_title))].rows[0].count("–") == 3  # whose figures would they be?


def test_what_was_not_measured_is_a_dash():
    one = replace(measurement(), latency=None, server=None, throughput_interval=None)
    (cells,) = tables([one])[0].rows
    assert cells.count("–") == 9


def test_a_strangers_text_does_not_steer_the_terminal():
    assert plain("a\x1b[2Jb\nc\td\x9b") == "a\N{REPLACEMENT CHARACTER}[2Jb c d\N{REPLACEMENT CHARACTER}"
    one = measurement(model=STRANGE, error_share=0.1, ensemble=True)
    shown = [cell for table in tables([one], stages=[stages_of(one)]) for row in table.rows for cell in row]
    shown += [*sentences(one), *stage_sentences([one], [stages_of(one)]), what_did_not_hold([one], fail_on_errors=True)]
    assert all(text.isprintable() for text in shown)
    assert any("[31m" in text for text in shown)


def test_the_stages_have_a_row_for_each_model_and_the_longest_way_one():
    plain_model, ensemble = measurement(), measurement(concurrency=16, ensemble=True)
    by_title = {
        table.title: table
        for table in tables([plain_model, ensemble], stages=[*map(stages_of, (plain_model, ensemble))])
    }
    stages = by_title["Where the time goes, mean ms"]
    assert column(stages, "model")[:3] == ["digits", "digits", "decode"]
    assert column(stages, "queue")[:2] == ["0.600", "–"]
    assert column(stages, "in all")[0] == milliseconds(plain_model.latency.mean_ns)
    (steps,) = by_title["The steps of the ensemble"].rows
    assert steps[2].startswith("decode → <b>me")
    assert "metadata" not in steps[2]


def test_what_the_stages_say_beside_is_said_once_for_all_loads():
    levels = [measurement(concurrency=n) for n in (1, 8)]
    stages = [replace(stages_of(one), sentences=("model 'x' is shared",)) for one in levels]
    assert stage_sentences(levels, stages) == ["concurrency 1, concurrency 8: model 'x' is shared"]
    assert stage_sentences(levels, [None]) == []


def test_every_problem_is_a_sentence():
    one = measurement(error_share=0.1, stable=False)
    mismatch = Mismatch(3, "row 2 belongs to request 4")
    one = replace(
        one,
        verification=Verification(100, 1, 0, (mismatch,)),
        goodput=Goodput(("latency < 100 ms",), 950, 1000, 190.0),
        server=replace(one.server, cache_hit_count=10, cache_miss_count=5),
        interrupted=True,
    )
    text = "\n".join(sentences(one))
    total = sum(window.requests + window.errors for window in one.windows)
    assert all(line.startswith("concurrency 8: ") for line in text.splitlines())
    for words in (
        "interrupted: the figures are of what was measured until then",
        "not stable: the throughput varied by 20 %",
        f"of {total:,} requests failed (HTTP 503), the first one: model <b>",
        "row 2 belongs to request 4",
        "95.00% of 1,000 requests met latency < 100 ms",
        "answered 10 of 15 requests",
        "the client used 95 % of a core",
    ):
        assert words in text


def test_what_did_not_hold_names_each_load_and_its_reason():
    good, unstable = measurement(), measurement(concurrency=16, stable=False)
    assert what_did_not_hold([good]) == ""
    assert what_did_not_hold([good, unstable]) == "1 of 2 measurements did not hold: concurrency 16 is unstable"
    failing = measurement(error_share=0.1)
    assert what_did_not_hold([failing]) == ""
    assert f"had {failing.error_count:,} failed requests" in what_did_not_hold([failing], fail_on_errors=True)


def test_failures_only_come_before_instability():
    failing = measurement(error_share=1.0, stable=False)
    assert what_is_wrong(failing).startswith("had no successful request (")
    died = replace(failing, all_records=measurement().all_records)  # it had answered before
    assert "had no successful request in its last 5 windows" in what_is_wrong(died)


@pytest.mark.parametrize(("checked", "mismatches"), [(0, 0), (10, 1)])
def test_answers_that_were_not_verified_do_not_hold(checked, mismatches):
    one = replace(measurement(), verification=Verification(checked, mismatches, 0))
    assert "did not verify" in what_did_not_hold([one])


def test_times_and_rates_are_readable():
    assert [milliseconds(value) for value in (None, 421_000, 99_999_000, 1_234_567_890)] == [
        "–",
        "0.421",
        "99.999",
        "1,234.6",
    ]
    assert [rate(value) for value in (None, 0.12345, 99.96, 12345.6)] == ["–", "0.123", "100", "12,346"]


def test_progress_in_a_log_is_a_line_a_window():
    one, text = measurement(error_share=0.2), io.StringIO()
    with Progress(Console(file=text, width=40)) as progress:
        progress.phase("warming up")
        for window in one.windows:
            progress.window(one.load, window)
    lines = text.getvalue().splitlines()
    assert lines == [window_line(one.load, window) for window in one.windows]
    assert lines[0].startswith("concurrency 8, window 1: ")
    assert f"{one.windows[0].errors} failed" in lines[0]


def test_progress_on_a_terminal_is_one_line_that_leaves_nothing_but_notes():
    one, text = measurement(), io.StringIO()
    with Progress(Console(file=text, width=100, force_terminal=True)) as progress:
        progress.phase("warming up")
        progress.note("the client needs 2 processes")
        for window in one.windows:
            progress.window(one.load, window)
    written = text.getvalue()
    assert "window 7" in written
    assert "█" in written
    assert written.count("\n") <= 3  # the note, and what ends the live line


def test_bars_show_shares_of_the_largest():
    assert bars([0.0, 5.0, 10.0]) == "▁▅█"
    assert bars([0.0]) == "▁"
    assert bars([]) == ""


def test_a_window_without_success_has_no_latency():
    one = measurement(error_share=1.0)
    assert "p90 –, p99 –" in window_line(one.load, one.windows[0])


def test_the_fixture_is_what_it_says():
    one = measurement(start_ns=START_NS + SECOND)
    assert latency_statistics(one.records.latency_ns).count == len(one.records)
    assert one.records.last_ns.min() >= START_NS + 3 * SECOND
