# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The load loops in virtual time: what they send when, and what they say of it, is arithmetic."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest

from trtkit.perf.loop import closed as closed_module
from trtkit.perf.loop import schedule, slots
from trtkit.perf.loop.closed import ClosedLoop
from trtkit.perf.loop.open import OpenLoop
from trtkit.perf.loop.records import Recorder
from trtkit.perf.loop.sources import Ids, InTurn, SequencePlan, Sequences
from trtkit.perf.statistics.latency import latency_statistics
from trtkit.perf.transports.base import CONNECTION, Failure
from virtual_time import MS, S, VirtualReactor, VirtualServer


@pytest.fixture
def reactor(monkeypatch):
    """The virtual clock, which the loops read too."""
    virtual = VirtualReactor()
    for module in (slots, closed_module):
        monkeypatch.setattr(module, "perf_counter_ns", virtual.clock)
    return virtual


def closed(reactor, service, slots=1, *, source=None, workers=1, timeout_ns=60 * S):
    server = VirtualServer(reactor, iter(service), workers)
    recorder = Recorder()
    loop = ClosedLoop(reactor, server, recorder, slots, timeout_ns)
    server.open(reactor, loop, slots)
    loop.sources = source or [InTurn(["a", "b", "c"])]
    return loop, server, recorder


def opened(reactor, service, offsets, slots=64, *, source=None, workers=1, in_order=False, timeout_ns=60 * S):
    server = VirtualServer(reactor, iter(service), workers)
    recorder = Recorder()
    loop = OpenLoop(reactor, server, recorder, slots, timeout_ns)
    server.open(reactor, loop, slots)
    loop.sources = source or [InTurn(["a"])]
    loop.schedule(iter(offsets), in_order)
    return loop, server, recorder


def test_a_closed_loop_keeps_one_request_in_flight_on_each_slot_and_takes_requests_in_turn(reactor):
    loop, server, recorder = closed(reactor, repeat(10 * MS), slots=2, workers=2)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 55 * MS)
    assert [what for _, _, what in server.sent] == list("abcabcabcabc")
    assert loop.in_flight == 2
    rows = recorder.cut()
    assert len(rows) == 10
    assert set(rows.latency_ns) == {10 * MS}
    assert np.array_equal(rows.intended_ns, rows.sent_ns)
    assert rows.index.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_a_stall_at_a_fixed_rate_is_in_the_latency_from_the_intended_time(reactor):
    """One second without answers at 100/s: the requests of that second wait, on average, half of it.

    The server takes no time but for one stall of 1 s. From the intended time the latencies of the 100 requests due
    in the stall are 1.00, 0.99, ..., 0.01 s; of 1000 requests the p99, number 990 in ascending order, is the 11th
    largest: 0.90 s. With one slot a tool that measures from the send sees one bad request of a thousand.
    """
    stall = chain(repeat(0, 300), [1 * S], repeat(0))
    loop, _, recorder = opened(reactor, stall, [10 * MS * number for number in range(1000)], slots=1)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 11 * S)
    rows = recorder.cut()
    assert len(rows) == 1000
    intended = latency_statistics(rows.intended_latency_ns)
    sent = latency_statistics(rows.latency_ns)
    assert intended.p99_ns == 900 * MS
    assert sent.p99_ns == 0
    assert sent.max_ns == intended.max_ns == 1 * S
    assert loop.delayed == 100 - 1 + 1  # those due while the slot was taken, the one at its very end too
    assert loop.waiting == 0


def test_an_open_loop_with_free_slots_sends_on_time_during_a_stall(reactor):
    stall = chain(repeat(0, 5), [1 * S], repeat(0))
    loop, server, recorder = opened(reactor, stall, [10 * MS * number for number in range(50)], workers=1)
    start = reactor.now_ns
    loop.start(start)
    reactor.run(start + 3 * S)
    assert [at - start for at, _, _ in server.sent] == [10 * MS * number for number in range(50)]
    assert loop.delayed == 0
    assert recorder.cut().latency_ns.max() == 1 * S


def test_requests_that_could_never_be_sent_are_told(reactor):
    loop, _, recorder = opened(reactor, repeat(1 * S), [number * 10 * MS for number in range(100)], slots=2, workers=2)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 2 * S)
    loop.stop(reactor.stop)
    reactor.run()
    assert len(recorder.cut()) + loop.waiting == 100
    assert loop.waiting > 90


def test_a_schedule_that_ends_exhausts_the_loop_when_the_last_answer_is_there(reactor):
    loop, _, recorder = opened(reactor, repeat(50 * MS), [0, 10 * MS, 20 * MS])
    ended = []
    loop.exhausted = lambda: ended.append(len(recorder.cut()))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 1 * S)
    assert ended == [3]


def test_a_number_of_requests_exhausts_a_closed_loop(reactor):
    loop, server, recorder = closed(reactor, repeat(MS), slots=4, source=[InTurn(["a"], limit=10)])
    ended = []
    loop.exhausted = lambda: ended.append(len(recorder.cut()))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 1 * S)
    assert ended == [10]
    assert len(server.sent) == 10


def test_a_failed_request_is_counted_and_the_slot_goes_on_at_once(reactor):
    refused = Failure("HTTP 400", "no")
    loop, _server, recorder = closed(reactor, chain([refused, MS, refused], repeat(MS)))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 5 * MS)
    rows = recorder.cut()
    assert [error.to_json() for error in rows.errors()] == [{"kind": "HTTP 400", "count": 2, "message": "no"}]
    assert rows.ok.tolist()[:3] == [False, True, False]
    assert rows.responses.tolist()[:3] == [0, 1, 0]


def test_a_lost_connection_makes_the_slot_wait_longer_each_time_up_to_half_a_second(reactor):
    lost = Failure(CONNECTION, "gone", True)
    loop, server, _ = closed(reactor, repeat(lost))
    start = reactor.now_ns
    loop.start(start)
    reactor.run(start + 3 * S)
    waits = np.diff([at - start for at, _, _ in server.sent]) // MS
    assert waits.tolist()[:7] == [20, 40, 80, 160, 320, 500, 500]


def test_the_wait_starts_small_again_after_a_success(reactor):
    lost = Failure(CONNECTION, "gone", True)
    loop, server, _ = closed(reactor, chain([lost, lost, 0, lost], repeat(S)))
    start = reactor.now_ns
    loop.start(start)
    reactor.run(start + 1 * S)
    assert [(at - start) // MS for at, _, _ in server.sent] == [0, 20, 60, 60, 80]


def test_a_deadline_ends_the_request_cancels_it_and_the_slot_goes_on(reactor):
    loop, server, recorder = closed(reactor, chain([10 * S], repeat(10 * MS)), workers=2, timeout_ns=1 * S)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 2 * S)
    rows = recorder.cut()
    assert server.cancelled == [0]
    assert rows.failures[0].kind == "timeout"
    assert "1 s" in rows.failures[0].message
    assert 1 * S <= rows.latency_ns[0] <= 1.06 * S
    assert rows.ok[1:].all()
    assert len(rows) > 50


def test_an_area_that_a_request_which_was_given_up_may_write_to_is_not_checked(reactor):
    server, recorder, seen = VirtualServer(reactor, chain([10 * S], repeat(10 * MS)), 9), Recorder(), []
    loop = ClosedLoop(reactor, server, recorder, 2, S, check=lambda *what: seen.append(what), areas=True)
    server.open(reactor, loop, 2)
    server.answer = b"answer"
    loop.sources = [InTurn(["a"])]
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 2 * S)
    assert {answer for slot, _, answer in seen if slot == 0} == {None}
    assert {answer for slot, _, answer in seen if slot == 1} == {b"answer"}


def test_stopping_sends_nothing_more_and_waits_for_what_is_in_flight(reactor):
    loop, server, recorder = closed(reactor, repeat(10 * MS), slots=3, workers=3)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 15 * MS)
    sent = len(server.sent)
    idle = []
    loop.stop(lambda: idle.append(reactor.now_ns))
    assert idle == []
    reactor.run(reactor.now_ns + 100 * MS)
    assert len(server.sent) == sent
    assert len(idle) >= 1
    assert len(recorder.cut()) == sent


def test_a_ramp_of_a_closed_loop_takes_more_slots_and_gives_them_back(reactor):
    loop, _server, _ = closed(reactor, repeat(10 * MS), slots=4, workers=4)
    loop.activate(1)
    loop.start(reactor.now_ns)
    seen = []
    for count in (1, 3, 4, 2):
        loop.activate(count)
        reactor.run(reactor.now_ns + 35 * MS)
        seen.append(loop.in_flight)
    assert seen == [1, 3, 4, 2]


def test_a_periodic_concurrency_grows_when_each_request_of_the_last_step_had_its_responses(reactor):
    server, recorder = VirtualServer(reactor, repeat(10 * S), workers=9), Recorder()
    loop = ClosedLoop(reactor, server, recorder, 5, 60 * S, streams=True)
    server.open(reactor, loop, 5)
    loop.sources = [InTurn(["a"], limit=1) for _ in range(5)]
    loop.activate(2)
    loop.grow(2, 3)
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 1 * MS)
    seen = [loop.in_flight]
    for moved in ((0, 1), (2,), (3,), (0, 1), (4,)):
        for _ in range(3):
            for slot in moved:
                loop.response(slot, None)
        seen.append(loop.in_flight)
    assert seen == [2, 4, 4, 5, 5, 5]


def sequences(plan, slots, left=None):
    ids = Ids(plan)
    return [Sequences(ids, lambda *parts: parts, left) for _ in range(slots)]


def test_every_sequence_starts_goes_on_and_ends_on_one_slot(reactor):
    plan = SequencePlan(((0, 1, 2),), first_id=7)
    loop, server, recorder = closed(reactor, repeat(MS), slots=2, workers=2, source=sequences(plan, 2))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 20 * MS)
    by_id = {}
    for _, slot, (index, sequence, start, end) in server.sent:
        by_id.setdefault(sequence, []).append((slot, index, start, end))
    assert list(by_id)[:4] == [7, 8, 9, 10]
    for parts in list(by_id.values())[:-2]:
        assert [part[1:] for part in parts] == [(0, True, False), (1, False, False), (2, False, True)]
        assert len({part[0] for part in parts}) == 1
    assert recorder.cut().sequence.tolist()[:2] == [7, 8]


def test_begun_sequences_are_ended_when_the_load_stops(reactor):
    plan = SequencePlan(((0, 1, 2, 3, 4),))
    loop, server, _ = closed(reactor, repeat(10 * MS), slots=2, workers=2, source=sequences(plan, 2))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 15 * MS)
    done = []
    loop.stop(lambda: done.append(True))
    reactor.run(reactor.now_ns + 100 * MS)
    assert done
    assert [(start, end) for _, _, (_, _, start, end) in server.sent[-2:]] == [(False, True)] * 2
    assert len(server.sent) == 6


def test_a_failed_request_of_a_sequence_begins_a_new_one(reactor):
    plan = SequencePlan(((0, 1, 2),))
    service = chain([MS, Failure("HTTP 400", "lost")], repeat(MS))
    loop, server, _ = closed(reactor, service, source=sequences(plan, 1))
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 5 * MS)
    assert [what[1:] for _, _, what in server.sent][:3] == [(1, True, False), (1, False, False), (2, True, False)]


def test_sequences_of_an_open_loop_keep_their_order_and_take_turns(reactor):
    plan = SequencePlan(((0, 1),))
    loop, server, _ = opened(
        reactor,
        repeat(MS),
        [number * 5 * MS for number in range(12)],
        slots=3,
        source=sequences(plan, 3),
        in_order=True,
    )
    loop.start(reactor.now_ns)
    reactor.run(reactor.now_ns + 1 * S)
    assert [slot for _, slot, _ in server.sent] == [0, 1, 2] * 4


def test_sequence_lengths_are_within_their_variation_and_seeded():
    plan = SequencePlan(((0,),), length=20, variation=0.2, seed=3)
    lengths = [len(rows) for _, rows in (Ids(plan).next_sequence() for _ in range(1))]
    ids, again = Ids(plan), Ids(plan)
    many = [len(ids.next_sequence()[1]) for _ in range(500)]
    assert many == [len(again.next_sequence()[1]) for _ in range(500)]
    assert min(many) == 16
    assert max(many) == 24
    assert lengths[0] == many[0]


def test_processes_share_ids_without_overlap_and_a_range_of_ids_is_used_again():
    plan = SequencePlan(((0,),), first_id=5, ids=4)
    parts = [Ids(plan, share, 2) for share in range(2)]
    assert [[part.next_sequence()[0] for _ in range(3)] for part in parts] == [[5, 7, 5], [6, 8, 6]]


def test_a_constant_rate_has_no_error_that_adds_up():
    offsets = [at for at, _ in zip(schedule.constant(3.0), range(3_000_001), strict=False)]
    assert offsets[-1] == 1_000_000 * S
    assert offsets[:3] == [0, 333333333, 666666667]


def test_poisson_gaps_are_exponential_and_seeded():
    from scipy import stats

    def drawn(seed):
        return np.array([at for at, _ in zip(schedule.poisson(500.0, seed), range(20_000), strict=False)])

    gaps = np.diff(drawn(1), prepend=0) / 1e9
    assert stats.kstest(gaps, stats.expon(scale=1 / 500).cdf).pvalue > 0.01
    assert stats.kstest(np.diff(drawn(2)) / 1e9, stats.expon(scale=1 / 500).cdf).pvalue > 0.01
    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


@pytest.mark.parametrize(("first", "last"), [(0.0, 100.0), (10.0, 100.0), (100.0, 20.0), (50.0, 50.0)])
def test_a_ramp_has_as_many_requests_as_the_area_under_it(first, last):
    offsets = []
    for at in schedule.ramp(first, last, 10.0):
        if at >= 15 * S:
            break
        offsets.append(at)
    assert offsets == sorted(offsets)
    inside = sum(at < 10 * S for at in offsets)
    assert abs(inside - (first + last) / 2 * 10) <= 1
    assert abs(len(offsets) - inside - last * 5) <= 1


def test_intervals_are_used_again_and_again():
    gaps = schedule.intervals([1, 2, 3])
    assert [next(gaps) for _ in range(8)] == [1, 3, 6, 7, 9, 12, 13, 15]


def test_shares_of_processes_are_the_whole_schedule():
    from itertools import islice

    whole = list(islice(schedule.poisson(100.0, 4), 300))
    parts = [list(islice(schedule.poisson(100.0, 4), share, 300, 3)) for share in range(3)]
    assert sorted(chain(*parts)) == whole
