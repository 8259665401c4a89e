# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What cannot be asked together, said before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from trtkit.errors import ProjectError
from trtkit.perf.data.generated import parse_range
from trtkit.perf.data.shapes import parse_shape_rule
from trtkit.perf.options import STREAMS, Options
from trtkit.perf.statistics.conditions import CAPACITY, GATE, GOAL, Condition, parse, streaming_metrics

_MOST_LEVELS = 1000
_MOST_IN_FLIGHT = 10_000  # so many a transport carries
_FEWEST_WINDOWS = 3
_LOADS = {
    "concurrency": "--concurrency",
    "request_rate": "--request-rate",
    "trace": "--trace",
    "fixed_schedule": "--fixed-schedule",
    "intervals": "--request-intervals",
    "schedule_s": "--schedule",
    "periodic": "--periodic-concurrency-range",
}
_DATA = {
    "input": "--input",
    "input_data": "--input-data",
    "images": "--images",
    "texts": "--texts",
    "calibration": "--calibration",
}
_ABOVE_0 = {"window_s": "window", "timeout_s": "timeout", "metrics_interval_s": "metrics interval"}
_NOT_BELOW_0 = {
    "warmup_s": "warm-up",
    "duration_s": "duration",
    "ramp_s": "ramp",
    "stability": "stability",
    "sequence_length_variation": "variation of the sequence length",
    "latency_limit_ms": "latency threshold",
}


def check(options: Options) -> None:
    """Find the contradictions that need no server to be seen.

    Raises:
        ProjectError: two things that exclude each other, or a number that is impossible.
        DataError: a shape or a range that is not understood.
    """
    for rule in _RULES:
        for problem in rule(options):
            raise problem


def _models(options: Options) -> Iterator[ProjectError]:
    if not options.models:
        yield ProjectError("no model is named; give MODEL, -m MODEL or --mix MODEL=WEIGHT")
    if options.version and not options.version.isdigit():
        yield ProjectError(f"--model-version '{options.version}' is no version; versions are whole numbers")
    if options.mix and options.version:
        yield ProjectError("--model-version is of one model, and --mix names several; leave one of them out")


def _numbers(options: Options) -> Iterator[ProjectError]:
    for name, words in _ABOVE_0.items():
        if not 0 < getattr(options, name) < math.inf:
            yield ProjectError(f"{words} {getattr(options, name):g} s is impossible; it must be above 0")
    for name, words in _NOT_BELOW_0.items():
        if not 0 <= getattr(options, name) < math.inf:
            yield ProjectError(f"{words} {getattr(options, name):g} is impossible; it must be 0 or more")
    if options.batch_size < 1:
        yield ProjectError(f"batch size {options.batch_size} is impossible; it must be 1 or more")


def _load(options: Options) -> Iterator[ProjectError]:
    given = [flag for name, flag in _LOADS.items() if getattr(options, name)]
    if given[:2] == ["--concurrency", "--request-rate"]:
        yield ProjectError(
            "--concurrency and --request-rate exclude each other: a closed loop sends when an answer came, an open one "
            "at its own times; give one of them (--max-in-flight bounds what an open loop has in flight)"
        )
    if len(given) > 1:
        yield ProjectError(f"{_and(given)} are different loads; give one of them")
    closed = not given or given[0] in ("--concurrency", "--periodic-concurrency-range")
    if options.max_in_flight and closed:
        yield ProjectError("--max-in-flight bounds an open loop; give --request-rate, or only --concurrency")
    if options.periodic and options.protocol != "grpc-stream":
        yield ProjectError("--periodic-concurrency-range counts responses of streams; add --protocol grpc-stream")
    if options.ramp_s and given and given[0] not in ("--concurrency", "--request-rate"):
        yield ProjectError(f"--ramp raises --concurrency or --request-rate; {given[0]} has times of its own")
    if options.ramp_s and options.arrival == "poisson":
        yield ProjectError("--ramp raises a constant rate; leave --request-distribution poisson out")


def _levels(options: Options) -> Iterator[ProjectError]:
    levels = options.request_rate or options.concurrency
    what = "request rates" if options.request_rate else "concurrencies"
    if levels is None:
        return
    if levels.high == 0 and not options.latency_limit_ms:
        yield ProjectError(f"the range of {what} has no end; give one, or the --latency-threshold that ends it")
    if options.ramp_s and len(levels.parts) > 1:
        yield ProjectError(f"--ramp goes from one {what} to another; give one range, as in 1:64")
    if levels.high == 0 and (options.find_capacity or options.ramp_s):
        yield ProjectError(f"the range of {what} has no end, which a search and a ramp need; give START:END")
    if options.concurrency and levels.high > _MOST_IN_FLIGHT:
        yield ProjectError(f"concurrency {levels.high:g} is above {_MOST_IN_FLIGHT}, the most that one client carries")
    alone = options.find_capacity or options.ramp_s or levels.high == 0
    if not alone and len(list(islice(levels, _MOST_LEVELS + 1))) > _MOST_LEVELS:
        yield ProjectError(f"that is more than {_MOST_LEVELS} {what}; use a larger step")


def _search(options: Options) -> Iterator[ProjectError]:
    if not options.find_capacity:
        return
    yield from _only_streamed(options, "--find-capacity", parse(options.find_capacity, CAPACITY))
    for name, flag in {**_LOADS, "ramp_s": "--ramp"}.items():
        if name not in ("concurrency", "request_rate") and getattr(options, name):
            yield ProjectError(f"--find-capacity searches --concurrency or --request-rate; leave {flag} out")


def _windows(options: Options) -> Iterator[ProjectError]:
    if options.windows < _FEWEST_WINDOWS:
        yield ProjectError(
            f"{options.windows} windows do not show whether a result is stable; "
            f"--windows must be {_FEWEST_WINDOWS} or more"
        )
    if options.max_windows < options.windows:
        yield ProjectError(
            f"at most {options.max_windows} windows are fewer than the {options.windows} that are judged; "
            "raise --max-windows, or lower --windows"
        )
    if options.percentile is not None and not 1 <= options.percentile <= 99:
        yield ProjectError(f"percentile {options.percentile} is impossible; it must be from 1 to 99")


def _data(options: Options) -> Iterator[ProjectError]:
    given = [flag for name, flag in _DATA.items() if getattr(options, name)]
    if len(given) > 1:
        yield ProjectError(f"{_and(given)} each say what the requests hold; give one of them")
    kinds = [word for word in options.input_data if word in ("zero", "random")]
    if kinds and len(options.input_data) > 1:
        yield ProjectError(f"--input-data {kinds[0]} and {_other(options.input_data, kinds[0])} exclude each other")
    if options.fixed_schedule and (kinds or not options.input_data):
        yield ProjectError("--fixed-schedule takes the times from a file; give it with --input-data FILE")
    if options.unique and "zero" in options.input_data:
        yield ProjectError("--unique asks for requests that differ, and zeros do not; leave one of them out")
    for text in options.shapes:
        parse_shape_rule(text)
    for text in options.ranges:
        parse_range(text)


def _transport(options: Options) -> Iterator[ProjectError]:
    json = [name for name in ("input", "output") if getattr(options, f"{name}_format") == "json"]
    if json and options.wire == "grpc":
        yield ProjectError("tensors as JSON exist only over HTTP; leave --tensor-format out, or use --protocol http")
    memory = options.shared_memory
    if json and memory != "none":
        yield ProjectError(f"--shared-memory {memory} sends no tensors, so --tensor-format json has none to write")
    if options.protocol == "generate-stream" and memory != "none":
        yield ProjectError(f"generate_stream takes its inputs from its body; leave --shared-memory {memory} out")
    if options.response_compression and options.wire == "grpc":
        yield ProjectError("--response-compression is HTTP's; over gRPC the server's own setting says it")
    if options.tls and not options.url:
        yield ProjectError("the embedded server speaks no TLS; give the --url of one that does")
    if options.tls_key and not options.tls_certificate:
        yield ProjectError("a client's private key needs its certificate; give --tls-certificate")
    if options.trace_settings and not dict(options.trace_settings).get("trace_level"):
        yield ProjectError("--trace-rate, --trace-count and --log-frequency need a --trace-level")


def _sequences(options: Options) -> Iterator[ProjectError]:
    first, end = options.sequence_ids
    if first < 1 or (end is not None and end <= first):
        yield ProjectError(f"sequence ids from {first} to {end} are impossible; give START:END with 0 < START < END")
    if end is None:
        return
    closed = int(options.concurrency.high) if options.concurrency else 1
    most = options.concurrent_sequences if options.request_rate else closed
    if most > end - first:
        yield ProjectError(
            f"{most} sequences at a time need as many ids, and --sequence-id-range {first}:{end} has {end - first}"
        )


def _checks(options: Options) -> Iterator[ProjectError]:
    if options.tolerance and not options.verify:
        yield ProjectError("--tolerance is that of --verify; add it")
    if options.verify and options.protocol in STREAMS:
        yield ProjectError("--verify compares one answer with each request, and a stream has several; leave it out")
    if options.mix and options.shared_memory != "none":
        yield ProjectError("shared memory cannot be used with --mix; measure the models one after the other")
    if options.goodput:
        yield from _only_streamed(options, "--goodput", parse(options.goodput, GOAL))
    if options.fail_if:
        parse(options.fail_if, GATE)
    if options.mix and options.diagnose:
        yield ProjectError("--diagnose explains one model; measure the models of --mix one after the other for that")
    yield from _files(options)
    if options.bundle and options.bundle.exists() and (not options.bundle.is_dir() or any(options.bundle.iterdir())):
        yield ProjectError(f"{options.bundle} exists already and a bundle replaces nothing; name a new folder")
    if options.fail_if and options.baseline is None:
        yield ProjectError("--fail-if is about a difference; give the bundle of an earlier run with --baseline")


def _only_streamed(options: Options, flag: str, conditions: Sequence[Condition]) -> Iterator[ProjectError]:
    """Goals that a request with one response would always reach, or never."""
    named = streaming_metrics(conditions)
    if named and options.protocol not in STREAMS:
        yield ProjectError(
            f"{flag} names {_and(named)}, which only streamed answers have; add --protocol grpc-stream or "
            "generate-stream, or name latency"
        )


def _files(options: Options) -> Iterator[ProjectError]:
    """Reports that cannot be written, or would replace each other."""
    taken: dict[str, str] = {}
    for name in ("html", "csv", "junit", "profile_export", "report"):
        path = getattr(options, name)
        if path is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if path.is_dir():
            yield ProjectError(f"{flag} {path} is a folder; name a file")
        if str(path.absolute()) in taken:
            yield ProjectError(f"{flag} and {taken[str(path.absolute())]} would be the same file {path}; name another")
        taken[str(path.absolute())] = flag


def _and(flags: Iterable[str]) -> str:
    *most, last = flags
    return f"{', '.join(most)} and {last}" if most else last


def _other(words: Iterable[str], word: str) -> str:
    return next((other for other in words if other != word), word)


_RULES: tuple[Callable[[Options], Iterator[ProjectError]], ...] = (
    _models, _load, _numbers, _levels, _search, _windows, _data, _transport, _sequences, _checks,
)  # fmt: skip
