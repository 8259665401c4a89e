# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Times and payloads from files: traces, perf_analyzer's intervals and its fixed schedule."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import DataError
from trtkit.perf.data.trace import Payload, Trace, read_fixed_schedule, read_intervals, read_trace

SCALE = {"timestamp_ns": 1, "timestamp_us": 10**3, "timestamp_ms": 10**6, "timestamp": 10**6, "timestamp_s": 10**9}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def write(folder, text, name="trace.jsonl"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def decimal(time_ns, scale):
    """A time in a unit, exactly."""
    digits = len(str(scale)) - 1
    return f"{time_ns // scale}.{time_ns % scale:0{digits}d}" if digits else str(time_ns)


times = st.lists(st.integers(0, 2**61), min_size=1, max_size=20)


@given(times, st.sampled_from(sorted(SCALE)), st.booleans())
def test_times_are_exact_in_every_unit_and_form(folder, stamps, column, as_json):
    texts = [decimal(stamp, SCALE[column]) for stamp in stamps]
    if as_json:
        path = write(folder, "\n".join(f'{{"{column}": {text}}}' for text in texts))
    else:
        path = write(folder, "\n".join([column, *texts]), "trace.csv")
    trace = read_trace(path)
    assert trace.offsets_ns.tolist() == sorted(stamp - min(stamps) for stamp in stamps)
    assert trace.offsets_ns.dtype == np.int64
    assert trace.indexes.tolist() == list(range(len(stamps)))
    assert trace.payloads == ()


rows = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from(["", "a", "b,c"]),
        st.one_of(st.none(), st.integers(0, 50), st.sampled_from(["x.npz", "sub/y.npz"])),
    ),
    min_size=1,
    max_size=15,
)


@given(rows)
def test_csv_and_jsonl_say_the_same(folder, given_rows):
    lines = [
        {"timestamp_ms": time, **({"model": model} if model else {}), **({} if what is None else {"payload": what})}
        for time, model, what in given_rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["timestamp_ms", "model", "payload"])
    writer.writeheader()
    writer.writerows(lines)
    one = read_trace(write(folder, text.getvalue(), "trace.csv"))
    other = read_trace(write(folder, "\n".join(map(json.dumps, lines))))
    assert (one.offsets_ns == other.offsets_ns).all()
    assert (one.indexes == other.indexes).all()
    assert one.payloads == other.payloads
    named = any(model or isinstance(what, str) for _, model, what in given_rows)
    assert bool(one.payloads) == named
    assert list(one.offsets_ns) == sorted(one.offsets_ns)


@given(st.text(max_size=60) | st.text(alphabet='timestamp_ms,{}[]:"0123456789.\n e-', max_size=60))
def test_any_text_is_a_trace_or_a_sentence(folder, text):
    path = write(folder, text.encode("utf-8", "surrogatepass"), "any.txt")
    for read in (read_trace, read_intervals):
        try:
            found = read(path)
        except DataError:
            continue
        assert len(found) >= 1


def test_rows_go_in_the_order_of_their_times(folder):
    trace = read_trace(write(folder, '{"timestamp": 20, "payload": 7}\n\n{"timestamp": 10, "payload": 3}\n'))
    assert trace.offsets_ns.tolist() == [0, 10_000_000]
    assert trace.indexes.tolist() == [3, 7]
    assert trace.in_pool(5) == [3, 2]


def test_payloads_are_named_once(folder):
    trace = read_trace(
        write(
            folder,
            '{"timestamp_s": 0.5, "payload": "a.npz"}\n{"timestamp_s": 1, "payload": "a.npz", "model": "b"}\n'
            '{"timestamp_s": 1.5, "payload": "a.npz"}\n{"timestamp_s": 2, "payload": 4}\n'
            '{"timestamp_s": 2, "shape": {"ids": [16], "mask": [16]}}\n'
            '{"timestamp_s": 2, "shape": "ids:16 ; mask:16"}\n',
        )
    )
    assert trace.indexes.tolist() == [0, 1, 0, 2, 3, 4]
    assert trace.payloads == (
        Payload(path=folder / "a.npz"),
        Payload("b", path=folder / "a.npz"),
        Payload(number=4),
        Payload(shapes=("ids:16", "mask:16")),
        Payload(shapes=("ids:16", "mask:16"), variant=1),
    )


def test_shapes_with_commas_are_quoted_in_csv(folder):
    trace = read_trace(write(folder, 'timestamp, shape\n0, "image:3,8,8;ids:4"\n', "trace.csv"))
    assert trace.payloads == (Payload(shapes=("image:3,8,8", "ids:4")),)


def test_clock_times_begin_with_the_first(folder):
    trace = read_trace(write(folder, "timestamp_ns\n1763000000000000500\n1763000000000000000\n", "trace.csv"))
    assert trace.offsets_ns.tolist() == [0, 500]


def test_a_trace_has_a_rate_and_can_be_played_faster():
    trace = Trace(np.array([0, 10**9, 4 * 10**9]), np.arange(3), (), "here")
    assert (len(trace), trace.duration_ns, trace.rate) == (3, 4 * 10**9, 0.5)
    assert trace.faster(2).offsets_ns.tolist() == [0, 5 * 10**8, 2 * 10**9]
    assert Trace(np.zeros(2, np.int64), np.arange(2), (), "here").rate == 0
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="factor above 0"):
            trace.faster(factor)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file is not understood"),
        ("timestamp\n", "has no row"),
        ("time\n1\n", "column 'time' is not understood; did you mean 'timestamp"),
        ("timestamp,payload\n1,2,3\n", "line 2 has more values than columns"),
        ("timestamp\nsoon\n", "line 2: timestamp 'soon' is no time"),
        ("timestamp\nnan\n", "is no time"),
        ("timestamp\n1e999999999\n", "is no time"),
        ("timestamp,timestamp_s\n1,1\n", "needs one timestamp; has timestamp_s, timestamp"),
        ("timestamp,payload\n,3\n", "needs one timestamp; has none"),
        ("timestamp,payload\n1,-3\n", "neither a number of the pool nor an .npz file"),
        ("timestamp,payload\n1,a.json\n", "neither a number of the pool nor an .npz file"),
        ("timestamp,payload,shape\n1,3,x:4\n", "has a payload and a shape"),
        ("timestamp_s\n0\n9e9\n", "longer than a hundred years"),
        ('timestamp\n"1\n', "is no CSV"),
        ('{"timestamp": 1}\n{', "line 2 is no JSON"),
        ('{"timestamp": 1}\n[1]', "line 2: expected an object"),
        ('{"timestamp": true}', "is no time"),
        ('{"timestamp": [1]}', "is no time"),
        ('{"timestamp": 1, "payload": true}', "payload True is neither"),
        ('{"timestamp": 1, "payload": 1.5}', "is neither"),
        ('{"timestamp": 1, "model": 5}', "model 5 is no name"),
        ('{"timestamp": 1, "shape": 5}', "shape 5 is not understood"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_traces_that_are_not_understood(folder, text, words):
    with pytest.raises(DataError, match=words) as caught:
        read_trace(write(folder, text, "bad.txt"))
    assert "\n" not in str(caught.value)


def test_a_missing_trace_is_one_sentence(folder):
    for read in (read_trace, read_intervals):
        with pytest.raises(DataError, match="cannot be read: .*No such file"):
            read(folder / "none")


def test_intervals_are_microseconds(folder):
    assert read_intervals(write(folder, "100000\n200000\n\n500000\n0.5\n")) == (10**8, 2 * 10**8, 5 * 10**8, 500)


@given(st.lists(st.integers(0, 10**12), min_size=1).filter(any))
def test_intervals_survive(folder, gaps):
    assert read_intervals(write(folder, "\n".join(map(str, gaps)))) == tuple(gap * 1000 for gap in gaps)


@pytest.mark.parametrize("text", ["", "0\n0", "x", "-1", "nan", "inf", "1e400000000"])
def test_intervals_that_are_not_understood(folder, text):
    with pytest.raises(DataError, match="microseconds"):
        read_intervals(write(folder, text, "bad.txt"))


def test_a_fixed_schedule_is_in_the_input_data(folder):
    one = write(
        folder, json.dumps({"data": [{"x": [1], "timestamp": [2000]}, {"x": [2], "timestamp": [1000]}]}), "1.json"
    )
    two = write(folder, json.dumps({"data": [[{"x": [1], "timestamp": 1500.5}]]}), "2.json")
    trace = read_fixed_schedule([one, two])
    assert trace.offsets_ns.tolist() == [10**9, 1_500_500_000, 2 * 10**9]  # from the start, not from the first
    assert trace.indexes.tolist() == [1, 2, 0]


@pytest.mark.parametrize("stamp", [None, [], [1, 2], "1", True, -1, float("nan"), 1e300])
def test_a_fixed_schedule_needs_a_time_for_each_step(folder, stamp):
    path = write(folder, json.dumps({"data": [{"x": [1], "timestamp": stamp}]}), "bad.json")
    with pytest.raises(DataError, match=r'step 0 needs "timestamp": \[MILLISECONDS\]'):
        read_fixed_schedule([path])
