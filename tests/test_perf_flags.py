# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every flag of `trtkit perf` parses, and changes exactly the fields of `Options` that its row of the table says."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.cli.perf import command, was_given
from trtkit.cli.perf_flags import FLAGS, GROUPS, perf_analyzer_table
from trtkit.cli.perf_options import options_of, remarks
from trtkit.errors import DataError, ProjectError
from trtkit.perf.load_levels import Levels, Range, parse_levels
from trtkit.perf.options import Options, Point, Search, loads, search

ROOT = Path(__file__).resolve().parents[1]

# perf_analyzer's everyday flags, with the fields they have to change and to what
EVERYDAY = {
    "-m resnet": {"model": "resnet"},
    "-x 3": {"version": "3"},
    "-b 8": {"batch_size": 8},
    "-u 10.0.0.5:8000": {"url": "10.0.0.5:8000"},
    "-i grpc": {"protocol": "grpc"},
    "-i gRPC": {"protocol": "grpc"},
    "-i grpc --streaming": {"protocol": "grpc-stream"},
    "-v": {"verbose": 1},
    "-v -v": {"verbose": 2},
    "--concurrency-range 4": {"concurrency": Levels((Range(4, 4),))},
    "--concurrency-range 2:8:2": {"concurrency": Levels((Range(2, 8, 2),))},
    "--concurrency-range 2:0:2 -l 50": {"concurrency": Levels((Range(2, 0, 2),)), "latency_limit_ms": 50},
    "-c 8": {"concurrency": Levels((Range(8, 8),))},
    "-t 4": {"concurrency": Levels((Range(4, 4),))},
    "-d -c 8": {"concurrency": Levels((Range(1, 8),))},
    "-d -t 2 -c 8": {"concurrency": Levels((Range(2, 8),))},
    "--request-rate-range 100:500:50": {"request_rate": Levels((Range(100, 500, 50),))},
    "--request-rate-range 12.5": {"request_rate": Levels((Range(12.5, 12.5),))},
    "--request-rate-range 5 --request-distribution poisson": {
        "request_rate": Levels((Range(5, 5),)), "arrival": "poisson",
    },
    "--request-intervals gaps.txt": {"intervals": Path("gaps.txt")},
    "--schedule 0,0.5,2": {"schedule_s": (0, 0.5, 2)},
    "--input-data t.json --fixed-schedule": {"input_data": ("t.json",), "fixed_schedule": True},
    "-i grpc --streaming --periodic-concurrency-range 1:9:2 --request-period 5": {
        "protocol": "grpc-stream", "periodic": (1, 9, 2), "request_period": 5,
    },
    "-p 5000": {"window_s": 5},
    "--measurement-interval=2500": {"window_s": 2.5},
    "--measurement-mode count_windows": {"window_requests": 50},
    "--measurement-mode=count_windows --measurement-request-count=200": {"window_requests": 200},
    "--request-count 500": {"requests": 500},
    "--warmup-request-count 100": {"warmup_requests": 100},
    "-s 5": {"stability": 0.05},
    "--stability-percentage=999": {"stability": 9.99},
    "-r 12": {"max_windows": 12},
    "--max-trials 30": {"max_windows": 30},
    "--percentile=95": {"percentile": 95},
    "-l 50": {"latency_limit_ms": 50},
    "--latency-threshold 0": {},
    "--binary-search -l 50 --concurrency-range 1:64:4": {
        "find_capacity": "mean < 50 ms", "latency_limit_ms": 50, "concurrency": Levels((Range(1, 64, 4),)),
    },
    "--binary-search -l 50 --percentile 95 --request-rate-range 10:90:5": {
        "find_capacity": "p95 < 50 ms", "latency_limit_ms": 50, "percentile": 95,
        "request_rate": Levels((Range(10, 90, 5),)),
    },
    "--shape x:3,224,224 --shape y:8": {"shapes": ("x:3,224,224", "y:8")},
    "--input-data zero": {"input_data": ("zero",)},
    "--input-data a.json --input-data b.json": {"input_data": ("a.json", "b.json")},
    "--data-directory folder": {"input_data": ("folder",)},
    "-z": {"input_data": ("zero",)},
    "--string-length 16": {"string_length": 16},
    "--string-data hello": {"string_data": "hello"},
    "--input-tensor-format json": {"input_format": "json"},
    "--output-tensor-format json": {"output_format": "json"},
    "--request-parameter max_tokens:256:int": {"request_parameters": (("max_tokens", 256),)},
    "--request-parameter a:b:c:string --request-parameter on:true:bool": {
        "request_parameters": (("a", "b:c"), ("on", True)),
    },
    "-H X-Team:search -H 'Authorization: Bearer a:b'": {
        "headers": (("X-Team", "search"), ("Authorization", "Bearer a:b")),
    },
    "-i grpc --grpc-compression-algorithm gzip": {"protocol": "grpc", "compression": "gzip"},
    "--shared-memory system --output-shared-memory-size 4096": {
        "shared_memory": "system", "output_shared_memory_size": 4096,
    },
    "--sequence-length 5": {"sequence_length": 5},
    "--sequence-length-variation 50": {"sequence_length_variation": 0.5},
    "--num-of-sequences 8": {"concurrent_sequences": 8},
    "--sequence-id-range 5:100": {"sequence_ids": (5, 100)},
    "--sequence-id-range 0": {},
    "--serial-sequences": {},
    "--service-kind triton": {},
    "--bls-composing-models a:3,b": {"composing": (("a", "3"), ("b", ""))},
    "--collect-metrics -u h:1": {"url": "h:1", "metrics_url": "localhost:8002/metrics"},
    "--collect-metrics --metrics-url h:9/metrics --metrics-interval 250": {
        "metrics_url": "h:9/metrics", "metrics_interval_s": 0.25,
    },
    "-f r.csv --verbose-csv": {"csv": Path("r.csv"), "verbose_csv": True},
    "--profile-export-file p.json": {"profile_export": Path("p.json")},
    "-u h:1 -i grpc --ssl-grpc-use-ssl --ssl-grpc-root-certifications-file ca.pem": {
        "url": "h:1", "protocol": "grpc", "tls": True, "tls_ca": Path("ca.pem"),
    },
    "-u https://h:1 --ssl-https-verify-host 0": {"url": "https://h:1", "tls": True, "tls_verify": False},
    "-u https://h:1 --ssl-https-ca-certificates-file ca.pem --ssl-https-verify-peer 1": {
        "url": "https://h:1", "tls": True, "tls_ca": Path("ca.pem"),
    },
    "--trace-level TIMESTAMPS --trace-level TENSORS --trace-rate 100 --trace-count -1 --log-frequency 0": {
        "trace_settings": (
            ("trace_level", ("TIMESTAMPS", "TENSORS")), ("trace_rate", ("100",)), ("trace_count", ("-1",)),
            ("log_frequency", ("0",)),
        ),
    },
    "-a": {},
    "--async": {},
    "--sync": {},
    "--max-threads 16": {},
}  # fmt: skip


def given_in(line):
    """The model's word and the flags of a command line."""
    with command.make_context("perf", shlex.split(line)) as context:
        values = dict(context.params)
        return values.pop("word"), {key: value for key, value in values.items() if was_given(context, key)}


def parsed(line):
    return options_of(*given_in(line))


def changed(left, right):
    return {field.name for field in fields(Options) if getattr(left, field.name) != getattr(right, field.name)}


def cases():
    for flag in FLAGS:
        for name in flag.names.split():
            word = "" if flag.names == "-m --model" else "m"
            line = f"{word} {flag.context}".strip()
            example = "" if flag.kind is None else shlex.quote(flag.example)
            yield pytest.param(flag, line, f"{line} {name} {example}", id=name)


@pytest.mark.parametrize(("flag", "without", "line"), list(cases()))
def test_a_flag_changes_the_fields_of_its_row_and_no_other(flag, without, line):
    if flag.name in ("--model", "--session-concurrency"):
        return  # without it there is no model; and one is refused, as another test says
    assert changed(parsed(without), parsed(line)) == set(flag.fields.split())


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.default], ids=lambda flag: flag.name)
def test_the_default_in_the_help_is_what_leaving_it_out_means(flag):
    line = f"m {flag.context}"
    assert parsed(f"{line} {flag.name} {flag.default}") == parsed(line)


@pytest.mark.parametrize("line", EVERYDAY)
def test_everyday_command_lines_of_perf_analyzer(line):
    options = parsed(line if line.startswith("-m") else f"-m resnet {line}")
    expected = {"model": "resnet", **EVERYDAY[line]}
    assert options == replace(Options(), **expected)


def test_more_than_forty_flags_of_perf_analyzer_change_something():
    """Of shown by 9 in the issue: each of these was tried above, with what it has to change."""
    words = {word.partition("=")[0] for line in EVERYDAY for word in shlex.split(line) if word.startswith("-")}
    rows = {flag.name for flag in FLAGS if flag.fields and words & set(flag.names.split())}
    assert len(rows) >= 50


def test_a_flag_without_meaning_says_what_is_in_its_place():
    for flag in FLAGS:
        if not flag.fields and not flag.together:
            assert flag.instead
            _, seen = given_in(f"m {flag.name} {flag.example}")
            assert remarks(seen) == [f"{flag.name} changes nothing: {flag.instead}"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("m --measurement-request-count 9", "--measurement-request-count changes nothing without"),
        ("m --verbose-csv", "--verbose-csv changes nothing without --csv"),
        ("m --request-distribution poisson", "--request-distribution changes nothing without --request-rate"),
        ("m --num-of-sequences 9", "--num-of-sequences changes nothing without --request-rate"),
        ("m --ssl-grpc-use-ssl", "--ssl-grpc-use-ssl changes nothing over http"),
        ("m -i grpc --ssl-https-verify-peer 0", "--ssl-https-verify-peer changes nothing over grpc"),
    ],
)
def test_a_flag_that_needs_another_says_so(line, words):
    (remark,) = remarks(given_in(line)[1])
    assert remark.startswith(words)
    assert parsed(line) in (parsed("m"), parsed("m -i grpc")) or changed(parsed("m"), parsed(line)) <= {
        "verbose_csv", "arrival", "concurrent_sequences",
    }  # fmt: skip


def test_no_name_is_in_two_rows_and_every_field_has_a_flag():
    names = [name for flag in FLAGS for name in flag.names.split()]
    assert len(names) == len(set(names))
    assert len({flag.key for flag in FLAGS}) == len(FLAGS)
    assert {name for flag in FLAGS for name in flag.fields.split()} == {field.name for field in fields(Options)}
    assert set(GROUPS) >= {"Load", "Measurement", "Data", "Transport", "Sequences", "Checks", "Reports"}


def test_the_page_lists_every_flag_of_perf_analyzer():
    assert perf_analyzer_table() in (ROOT / "docs" / "perf.md").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no model is named"),
        ("a -m b", "the model is 'a' and, by -m, 'b'"),
        ("m -c 8 --request-rate 9", "--concurrency and --request-rate exclude each other"),
        ("m -c 8 --trace t.jsonl", "--concurrency and --trace are different loads"),
        ("m --request-rate 9 --request-intervals g", "--request-rate and --request-intervals are different loads"),
        ("m --concurrency-range 1:4 -c 8", "given twice"),
        ("m --request-rate 4 --request-rate-range 1:4", "given twice"),
        ("m --window 1 -p 1000", "given twice"),
        ("m --streaming", "--streaming is gRPC's"),
        ("m -i generate-stream --streaming", "--streaming is gRPC's"),
        ("m --max-in-flight 9", "--max-in-flight bounds an open loop"),
        ("m --shared-memory system --tensor-format json", "--shared-memory system sends no tensors"),
        ("m -i grpc --tensor-format json", "only over HTTP"),
        ("m -i generate-stream --shared-memory system", "generate_stream takes its inputs from its body"),
        ("m --grpc-compression-algorithm gzip", "gRPC's; add --protocol grpc"),
        ("m -i grpc --response-compression gzip", "--response-compression is HTTP's"),
        ("m --tls-ca ca.pem", "the embedded server speaks no TLS"),
        ("m -u h:1 --tls-key k.pem", "needs its certificate"),
        ("m --ssl-https-private-key-type DER", "read as PEM"),
        ("m --trace-rate 9", "need a --trace-level"),
        ("m --input x.npz --input-data zero", "--input and --input-data each say"),
        ("m --input-data zero --input-data a.json", "--input-data zero and a.json exclude each other"),
        ("m -z --unique", "zeros do not"),
        ("m --fixed-schedule", "takes the times from a file"),
        ("m --concurrency-range 1:0", "has no end"),
        ("m --binary-search", "needs a --latency-threshold"),
        ("m --binary-search -l 5 --concurrency-range 1:0", "which a search and a ramp need"),
        ("m --find-capacity 'p99 < 5 ms' --trace t.jsonl", "leave --trace out"),
        ("m --find-capacity 'p99 < 5 ms' --ramp 5", "leave --ramp out"),
        ("m --find-capacity fast", "fast"),
        ("m --goodput 'speed < 1 s'", "speed"),
        ("m --goodput 'itl < 20 ms'", "--goodput names itl, which only streamed answers have"),
        ("m --find-capacity 'ttft < 1 s, itl < 20 ms'", "--find-capacity names ttft and itl"),
        ("m --fail-if 'p99 > +10%'", "--baseline"),
        ("m --fail-if 'p99 > 10' --baseline b", "p99 > 10"),
        ("m --verify -i grpc --streaming", "a stream has several"),
        ("--mix a=1 --mix b=1 --shared-memory system", "one after the other"),
        ("m --tolerance 1e-3", "--tolerance is that of --verify"),
        ("m --tolerance x --verify", "tolerance 'x'"),
        ("m --ramp 5 --request-rate 5 --request-distribution poisson", "--ramp raises a constant rate"),
        ("m --ramp 5 --schedule 1,2", "times of its own"),
        ("m --schedule 2,1", "goes back in time"),
        ("m --windows 2", "2 windows"),
        ("m --max-windows 2", "at most 2 windows"),
        ("m --windows 30", "at most 20 windows are fewer than the 30"),
        ("m --percentile 100", "percentile 100"),
        ("m -c 0", "concurrency '0'"),
        ("m -c 1.5", "whole number"),
        ("m -c 1:0", "has no end; --find-capacity"),
        ("m -c 20000", "above 10000"),
        ("m -c 1:9999", "more than 1000 concurrencies"),
        ("m --request-rate 8:4", "not end before"),
        ("m --request-rate 1:4:*1", "never ends"),
        ("m --warmup nan", "warm-up nan"),
        ("m --timeout inf", "timeout inf"),
        ("m --mix a", "give each model once"),
        ("m --mix a=0", "weight above 0"),
        ("m --mix a=1 -x 3", "--model-version is of one model"),
        ("m -H colonless", "NAME:VALUE"),
        ("m -H 'a:b\r\nc:d'", "NAME:VALUE"),
        ("m --request-parameter a:1", "NAME:VALUE:TYPE"),
        ("m --request-parameter a:x:int", "NAME:VALUE:TYPE"),
        ("m --bls-composing-models ,", "MODEL[:VERSION]"),
        ("m --sequence-id-range 9:3", "sequence ids from 9 to 3"),
        ("m -c 8 --sequence-id-range 1:5", "8 sequences at a time need as many ids"),
        ("m --periodic-concurrency-range 1:8:2 -i grpc --streaming", "must lead from START to END"),
        ("m --periodic-concurrency-range 1:9:2", "add --protocol grpc-stream"),
        ("m --service-kind openai", "--service-kind openai is no Triton server"),
        ("m --session-concurrency 4", "OpenAI's protocol"),
    ],
)
def test_a_contradiction_is_one_sentence(line, words):
    with pytest.raises(ProjectError) as caught:
        parsed(line)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value).replace("a:b\r\nc:d", "")


@pytest.mark.parametrize("line", ["m --shape 4", "m --range x", "m --range x:5,1"])
def test_a_shape_or_a_range_that_is_none(line):
    with pytest.raises(DataError, match="NAME:"):
        parsed(line)


def test_options_before_the_model_and_a_model_called_compare():
    assert parsed("-c 8 --json digits") == parsed("digits --json --concurrency 8")
    assert parsed("-m compare").model == "compare"
    assert parsed("-c 2 compare").model == "compare"


def test_few_windows_judge_what_there_is():
    assert parsed("m --max-windows 3").windows == 3
    assert parsed("m --max-windows 9").windows == 5


def test_a_mix_has_its_shares():
    assert parsed("--mix a=3 --mix b=1").models == (("a", 3.0), ("b", 1.0))
    assert parsed("m --mix a=3").models == (("m", 1.0), ("a", 3.0))
    assert parsed("a --mix a=3 --mix b=1").models == (("a", 3.0), ("b", 1.0))


def test_the_loads_of_a_run():
    assert list(loads(parsed("m"))) == [Point(concurrency=1)]
    assert [point.concurrency for point in loads(parsed("m -c 1:8:*2"))] == [1, 2, 4, 8]
    assert [point.concurrency for point in loads(parsed("m -c 1,4:8:2,4"))] == [1, 4, 6, 8]
    rates = loads(parsed("m --request-rate 0.1:0.3:0.1 --request-distribution poisson"))
    assert [(point.request_rate, point.arrival) for point in rates] == [
        (0.1, "poisson"), (0.2, "poisson"), (0.3, "poisson"),
    ]  # fmt: skip
    endless = loads(parsed("m --concurrency-range 2:0:3 -l 9"))
    assert [point.concurrency for point in islice(endless, 4)] == [2, 5, 8, 11]
    assert list(loads(parsed("m --trace t"))) == [Point(arrival="trace")]
    assert list(loads(parsed("m --schedule 1,2"))) == [Point(arrival="schedule")]
    assert list(loads(parsed("m --request-intervals g"))) == [Point(arrival="intervals")]
    ramp = Point(request_rate=500, arrival="constant", ramp_from=10, ramp_s=60)
    assert list(loads(parsed("m --request-rate 10:500 --ramp 60"))) == [ramp]
    assert list(loads(parsed("m -c 64 --ramp 9"))) == [Point(concurrency=64, ramp_from=1, ramp_s=9)]


def test_the_search_of_a_run():
    assert search(parsed("m")) is None
    assert search(parsed("m --find-capacity 'p99 < 5 ms'")) == Search("p99 < 5 ms", False, 1, 1024, 1)
    by_rate = search(parsed("m --find-capacity 'p99 < 5 ms' --request-rate 10:5000"))
    assert by_rate == Search("p99 < 5 ms", True, 10, 5000, 1)
    theirs = search(parsed("m --binary-search -l 5 --concurrency-range 2:64:4"))
    assert theirs == Search("mean < 5 ms", False, 2, 64, 4)
    assert list(loads(parsed("m --find-capacity 'p99 < 5 ms'"))) == []


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 50))
def test_a_range_holds_both_ends_and_no_more(start, length, step):
    levels = list(parse_levels(f"{start}:{start + length}:{step}", "concurrency", whole=True))
    assert levels == list(range(start, start + length + 1, step))


@given(st.text(alphabet="0123456789.:,* -", max_size=12))
def test_any_text_is_levels_or_our_error(text):
    try:
        levels = parse_levels(text, "request rate", whole=False)
    except ProjectError:
        return
    assert all(value > 0 for value in islice(levels, 20))
