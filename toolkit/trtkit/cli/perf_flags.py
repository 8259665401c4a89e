# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The flags of ``trtkit perf``: what each is called, what it means, and which field of `Options` it changes.

What is parsed, what ``--help`` shows, what docs/perf.md lists, and what tests/test_perf_flags.py tries, flag by flag.
"""

from __future__ import annotations

import click

from trtkit.cli.perf_flag import (
    ABOVE_0,
    COUNT,
    COUNT_OR_0,
    FILE,
    NOT_BELOW_0,
    PEM,
    TEXT,
    TRACES,
    WHOLE,
    Flag,
    choice,
    composing,
    fraction,
    headers,
    levels,
    mix,
    none_is_empty,
    periodic,
    request_parameters,
    schedule,
    seconds,
    sequence_ids,
    tolerance,
)

_SERVER = (
    Flag("-m --model", "model", TEXT, "The model, where the first word would be read as something else.", "other",
         pa="-m", here="the first word, or `-m`", together=True, metavar="MODEL"),
    Flag("--model-version -x", "version", TEXT, "The version to ask for. Default: the server's choice.", "2", pa="-x"),
    Flag("--url -u", "url", TEXT, "HOST:PORT of a running server (of the protocol in use), also as https:// or "
         "grpcs://. Default: start an embedded one.", "h:8000", pa="-u", here="`--url`; without it, see above"),
    Flag("--project", "project", FILE, "The project file or its folder. Default: here.", "trtkit.yaml", together=True),
    Flag("--repository", "repository", FILE, "The model repository for the embedded server. Default: the project's.",
         "models"),
    Flag("--mix", "mix", TEXT, "Send to several models at once, with these shares of the requests; MODEL itself has "
         "the weight 1.", "b=2", convert=mix, multiple=True, metavar="MODEL=WEIGHT"),
)  # fmt: skip

_LOAD = (
    Flag("--concurrency -c", "concurrency", TEXT, "Closed loop: requests in flight: 8, 1,4,8, 1:8:1 or 1:64:*2. "
         "Default: 1.", "8", together=True, pa="-c", here="`-c N` is `--concurrency N`; with `-d`, the end of a range"),
    Flag("--request-rate", "request_rate", TEXT, "Open loop: requests per second: 500, 100,200, 100:500:100 or "
         "50:800:*2.", "500", convert=levels("request rate")),
    Flag("--request-distribution", "arrival", choice("constant", "poisson"), "How an open loop spreads its requests.",
         "poisson", "--request-rate 500", default="constant", pa="--request-distribution"),
    Flag("--ramp", "ramp_s", ABOVE_0, "Raise the load evenly from the first to the last of --concurrency or "
         "--request-rate in so many seconds, in one measurement.", "60", "-c 1:64", metavar="SECONDS"),
    Flag("--trace", "trace", FILE, "Replay recorded requests at their own times, from a file.", "t.jsonl"),
    Flag("--max-in-flight", "max_in_flight", COUNT_OR_0, "The most that an open loop has in flight; what is late for "
         "it still counts from its own time. 0: 1024.", "64", "--request-rate 500", "0"),
    Flag("--find-capacity", "find_capacity", TEXT, "Search the highest --concurrency (or --request-rate) of the range "
         "that holds: 'p99 < 50 ms, errors < 0.1%'.", "p99 < 50 ms", metavar="CONDITION"),
    Flag("--processes", "processes", COUNT_OR_0, "Processes of the client. 0: as many as a calibration finds "
         "necessary.", "2", default="0"),
    Flag("--seed", "seed", COUNT_OR_0, "Of random values and times; the same seed gives the same run.", "7",
         default="0"),
)  # fmt: skip

_MEASUREMENT = (
    Flag("--duration", "duration_s", ABOVE_0, "Measure so many seconds, stable or not.", "30", metavar="SECONDS"),
    Flag("--requests --max-requests --request-count", "requests", COUNT_OR_0, "Measure so many requests. 0: no such "
         "end.", "500", default="0", pa="--request-count"),
    Flag("--warmup", "warmup_s", NOT_BELOW_0, "Seconds of load before the first window.", "3", default="1.0",
         metavar="SECONDS"),
    Flag("--warmup-requests --warmup-request-count", "warmup_requests", COUNT_OR_0, "Warm up with so many requests "
         "instead. 0: by time.", "100", default="0", pa="--warmup-request-count"),
    Flag("--window", "window_s", ABOVE_0, "Seconds of a window.", "2", default="1.0", metavar="SECONDS"),
    Flag("--windows", "windows", WHOLE, "Judge the last so many windows; 3 or more.", "7", default="5"),
    Flag("--max-windows --max-trials -r", "max_windows", COUNT, "Give up becoming stable after so many windows.", "30",
         default="20", pa="--max-trials -r"),
    Flag("--stability --stability-percentage -s", "stability", NOT_BELOW_0, "Percent of the mean within which "
         "throughput and latency have to be known.", "5", default="10.0", convert=fraction,
         pa="--stability-percentage -s", here="the same name, another test: see [stability](#when-a-result-is-stable)"),
    Flag("--percentile", "percentile", WHOLE, "The percentile of the latency that has to be stable, and is reported. "
         "-1: p90.", "95", default="-1", convert=lambda value: None if value == -1 else value, pa="--percentile",
         here="the same; without it p90 is judged, not the mean"),
    Flag("--timeout", "timeout_s", ABOVE_0, "Seconds until a request has failed.", "5", default="30.0",
         metavar="SECONDS"),
    Flag("--metrics-url", "metrics_url", TEXT, "The metrics of a server that is not embedded.", "h:8002/metrics",
         together=True, pa="--metrics-url"),
    Flag("--metrics-interval", "metrics_interval_s", ABOVE_0, "Milliseconds from one question for metrics to the "
         "next.", "250", default="1000", convert=seconds, pa="--metrics-interval", metavar="MS"),
)  # fmt: skip

_DATA = (
    Flag("--batch-size -b", "batch_size", COUNT, "Samples in each request.", "4", default="1", pa="-b"),
    Flag("--shape", "shapes", TEXT, "Sizes of an input with dynamic dimensions, without the batch: image:3,224,224; "
         "drawn for each request: ids:16..128, ids:choice(16|64), ids:normal(64,16).", "x:4", multiple=True,
         convert=tuple, pa="--shape", metavar="NAME:SIZES"),
    Flag("--range", "ranges", TEXT, "Random values of an input lie between these: ids:0,30521.", "x:0,5",
         multiple=True, convert=tuple, metavar="NAME:LOW,HIGH"),
    Flag("--input", "input", FILE, "An .npz file: one array per input, samples along axis 0.", "x.npz"),
    Flag("--input-data", "input_data", TEXT, "random, zero, a file (JSON as perf_analyzer reads it, .npz, lines of "
         "text) or a folder; may be given several times.", "zero", multiple=True, together=True, pa="--input-data",
         metavar="KIND|PATH"),
    Flag("--images", "images", FILE, "A folder of images, as the model takes them.", "pictures"),
    Flag("--texts", "texts", FILE, "A folder of texts, or a file with one in each line.", "lines.txt"),
    Flag("--calibration", "calibration", None, "The calibration samples of the project file."),
    Flag("--unique", "unique", None, "No two requests are equal, so that no cache answers."),
    Flag("--string-length", "string_length", COUNT, "Bytes of random BYTES elements.", "16", default="128",
         pa="--string-length"),
    Flag("--string-data", "string_data", TEXT, "Every BYTES element holds this text.", "hello", pa="--string-data"),
    Flag("--output", "outputs", TEXT, "Ask only for this output; may be given several times.", "y", multiple=True,
         convert=tuple),
)  # fmt: skip

_TRANSPORT = (
    Flag("--protocol -i", "protocol", choice("http", "grpc", "grpc-stream", "generate-stream"), "How the requests "
         "travel; the last two for models that answer a request with several responses.", "grpc", default="http",
         pa="-i", together=True),
    Flag("--streaming", "protocol", None, "With --protocol grpc: grpc-stream.", context="-i grpc", pa="--streaming",
         together=True, here="`--protocol grpc-stream`"),
    Flag("--shared-memory", "shared_memory", choice("none", "system", "cuda"), "Where inputs and outputs lie.",
         "system", default="none", pa="--shared-memory"),
    Flag("--output-shared-memory-size", "output_shared_memory_size", COUNT_OR_0, "Bytes for each output whose size is "
         "not known from the model.", "4096", default="102400", pa="--output-shared-memory-size"),
    Flag("--header -H", "headers", TEXT, "Sent with every request; over gRPC as metadata.", "X-Team:search",
         multiple=True, convert=headers, pa="-H", here="the same, and over gRPC as metadata", metavar="NAME:VALUE"),
    Flag("--compression", "compression", choice("none", "gzip", "deflate"), "Of the requests.", "gzip",
         default="none", convert=none_is_empty),
    Flag("--response-compression", "response_compression", choice("none", "gzip", "deflate"), "To ask for over HTTP.",
         "gzip", default="none", convert=none_is_empty),
    Flag("--tensor-format", "input_format output_format", choice("binary", "json"), "Of inputs and outputs over HTTP.",
         "json", default="binary", together=True),
    Flag("--input-tensor-format", "input_format", choice("binary", "json"), "Of inputs alone.", "json",
         pa="--input-tensor-format", default="binary"),
    Flag("--output-tensor-format", "output_format", choice("binary", "json"), "Of outputs alone.", "json",
         pa="--output-tensor-format", default="binary"),
    Flag("--request-parameter", "request_parameters", TEXT, "A parameter of every request, as in max_tokens:256:int.",
         "max_tokens:256:int", multiple=True, convert=request_parameters, pa="--request-parameter",
         here="the same, and over HTTP too", metavar="NAME:VALUE:TYPE"),
    Flag("--tls-ca", "tls tls_ca", FILE, "PEM file of those who may have signed the server's certificate.", "ca.pem",
         "-u h:1", together=True),
    Flag("--tls-certificate", "tls tls_certificate", FILE, "PEM file of the client's certificate.", "c.pem",
         "-u h:1", together=True),
    Flag("--tls-key", "tls_key", FILE, "PEM file of the client's private key.", "k.pem", "-u h:1 --tls-certificate c",
         together=True),
    Flag("--tls-no-verify", "tls tls_verify", None, "Trust every server.", context="-u h:1", together=True),
)  # fmt: skip

_SEQUENCES = (
    Flag("--sequence-length", "sequence_length", COUNT_OR_0, "Requests in a sequence. 0: 20, or as many as its data "
         "have.", "5", default="0", pa="--sequence-length"),
    Flag("--sequence-length-variation", "sequence_length_variation", NOT_BELOW_0, "Percent by which lengths differ.",
         "50", default="20.0", convert=fraction, pa="--sequence-length-variation"),
    Flag("--num-of-sequences", "concurrent_sequences", COUNT, "Sequences at the same time in an open loop; a closed "
         "one has --concurrency.", "8", "--request-rate 50", "4", pa="--num-of-sequences"),
    Flag("--sequence-id-range", "sequence_ids", TEXT, "Correlation ids from START to before END.", "5:100",
         default="1", convert=sequence_ids, pa="--sequence-id-range", metavar="START[:END]"),
    Flag("--serial-sequences", "", None, "", pa="--serial-sequences",
         instead="a sequence never has two requests in flight"),
)  # fmt: skip

_CHECKS = (
    Flag("--goodput", "goodput", TEXT, "Count the requests that keep all of these: 'ttft < 100 ms, latency < 1 s'.",
         "latency < 1 s", metavar="CONDITIONS"),
    Flag("--verify", "verify", None, "Compare every answer with the right one for its input: the data's own, or the "
         "server's before the load."),
    Flag("--tolerance", "tolerance", TEXT, "Of --verify. Default: that of each output's data type.", "1e-3", "--verify",
         convert=tolerance, metavar="RTOL[,ATOL]"),
    Flag("--diagnose", "diagnose", None, "Say what bounds the throughput, and what to try."),
    Flag("--fail-on-errors", "fail_on_errors", None, "End with exit code 9 when any request failed."),
    Flag("--baseline", "baseline", FILE, "A bundle of an earlier run to compare with.", "before"),
    Flag("--fail-if", "fail_if", TEXT, "End with exit code 9 when this is significant against --baseline: "
         "'p99 > +10%, throughput < -5%'.", "p99 > +10%", "--baseline before", metavar="CONDITIONS"),
)  # fmt: skip

_REPORTS = (
    Flag("--json", "as_json", None, "Print JSON instead of text."),
    Flag("--report", "report", FILE, "Write the JSON to this file, too.", "r.json"),
    Flag("--html", "html", FILE, "Write a page with charts.", "r.html"),
    Flag("--csv -f", "csv", FILE, "Write perf_analyzer's CSV columns.", "r.csv", pa="-f"),
    Flag("--verbose-csv", "verbose_csv", None, "With the further columns.", context="--csv r.csv", pa="--verbose-csv"),
    Flag("--junit", "junit", FILE, "Write JUnit XML.", "r.xml"),
    Flag("--profile-export --profile-export-file", "profile_export", FILE, "Write every request in perf_analyzer's "
         "JSON format.", "p.json", pa="--profile-export-file"),
    Flag("--bundle", "bundle", FILE, "Write a folder with all that was measured, and on what, for `trtkit perf "
         "compare`.", "run"),
    Flag("--verbose -v", "verbose", None, "Say more figures; twice: every window.", pa="-v", counted=True),
)  # fmt: skip

_NO_THREADS = "one loop keeps all requests in flight without threads"
_C_API = "the server is asked over the network, never as a library in this process"
_TRITON = "it belongs to servers other than Triton, which this does not load"
_PERF_ANALYZER = (
    Flag("--concurrency-range", "concurrency", TEXT, "START:END:STEP; END 0 goes on until --latency-threshold.",
         "2:8:2", together=True, here="`--concurrency 2:8:2`"),
    Flag("--request-rate-range", "request_rate", TEXT, "START:END:STEP of request rates, likewise.", "100:500:100",
         convert=levels("request rate", open_end=True), here="`--request-rate 100:500:100`"),
    Flag("--request-intervals", "intervals", FILE, "A file with microseconds between requests.", "gaps.txt"),
    Flag("--schedule", "schedule_s", TEXT, "When to send each request: seconds from the start.", "0,0.5,2",
         convert=schedule),
    Flag("--fixed-schedule", "fixed_schedule", None, "Follow the times in the files of --input-data.",
         context="--input-data t.json"),
    Flag("--periodic-concurrency-range", "periodic", TEXT, "START:END:STEP: STEP more streams whenever each of the "
         "last ones had --request-period responses.", "1:9:2", "-i grpc --streaming", convert=periodic),
    Flag("--request-period", "request_period", COUNT, "Responses before the next step of that.", "5", default="10"),
    Flag("--measurement-interval -p", "window_s", ABOVE_0, "Milliseconds of a window.", "5000", convert=seconds,
         here="`--window` in seconds; 1 s unless given, not 5", metavar="MS"),
    Flag("--measurement-mode", "window_requests", choice("time_windows", "count_windows"), "count_windows: a window "
         "has --measurement-request-count requests.", "count_windows", default="time_windows", together=True),
    Flag("--measurement-request-count", "window_requests", COUNT, "Of count_windows. Default: 50.", "200",
         "--measurement-mode count_windows", together=True),
    Flag("--latency-threshold -l", "latency_limit_ms", NOT_BELOW_0, "Milliseconds: stop a range after the first "
         "level above them. 0: measure all.", "50", default="0", metavar="MS"),
    Flag("--binary-search", "find_capacity", None, "Search the range for the highest level within "
         "--latency-threshold.", context="-l 50 --concurrency-range 1:64:4", together=True,
         here="`--find-capacity 'mean < 50 ms' --concurrency 1:64:4`; the percentile of --percentile"),
    Flag("--data-directory", "input_data", TEXT, "--input-data with a folder.", "folder", together=True,
         here="`--input-data`", metavar="PATH"),
    Flag("-z", "input_data", None, "--input-data zero.", together=True, here="`--input-data zero`"),
    Flag("-t", "concurrency", TEXT, "--concurrency.", "4", together=True, here="`--concurrency`", metavar="N"),
    Flag("-d", "concurrency", None, "Measure all concurrencies from -t to -c.", context="-c 8", together=True,
         here="`--concurrency 1:8`"),
    Flag("--grpc-compression-algorithm", "compression", choice("none", "gzip", "deflate"), "--compression over gRPC.",
         "gzip", "-i grpc", "none", together=True, here="`--compression`"),
    Flag("--ssl-grpc-use-ssl", "tls", None, "TLS over gRPC.", context="-i grpc -u h:1", together=True,
         here="`--url grpcs://…`"),
    Flag("--ssl-grpc-root-certifications-file", "tls_ca", FILE, "--tls-ca over gRPC.", "ca.pem",
         "-i grpc -u h:1 --ssl-grpc-use-ssl", together=True, here="`--tls-ca`"),
    Flag("--ssl-grpc-certificate-chain-file", "tls_certificate", FILE, "--tls-certificate over gRPC.", "c.pem",
         "-i grpc -u h:1 --ssl-grpc-use-ssl", together=True, here="`--tls-certificate`"),
    Flag("--ssl-grpc-private-key-file", "tls_key", FILE, "--tls-key over gRPC.", "k.pem",
         "-i grpc -u h:1 --ssl-grpc-use-ssl --ssl-grpc-certificate-chain-file c", together=True, here="`--tls-key`"),
    Flag("--ssl-https-ca-certificates-file", "tls_ca", FILE, "--tls-ca over HTTPS.", "ca.pem", "-u https://h:1",
         together=True, here="`--tls-ca`"),
    Flag("--ssl-https-client-certificate-file", "tls_certificate", FILE, "--tls-certificate over HTTPS.", "c.pem",
         "-u https://h:1", together=True, here="`--tls-certificate`"),
    Flag("--ssl-https-private-key-file", "tls_key", FILE, "--tls-key over HTTPS.", "k.pem",
         "-u https://h:1 --ssl-https-client-certificate-file c", together=True, here="`--tls-key`"),
    Flag("--ssl-https-verify-peer", "tls_verify", choice("0", "1"), "0: --tls-no-verify over HTTPS.", "0",
         "-u https://h:1", "1", together=True, here="0 is `--tls-no-verify`"),
    Flag("--ssl-https-verify-host", "tls_verify", choice("0", "1", "2"), "0: --tls-no-verify over HTTPS.", "0",
         "-u https://h:1", "2", together=True, here="0 is `--tls-no-verify`: who signed is not verified either"),
    Flag("--ssl-https-client-certificate-type", "", PEM, "PEM is all that is read.", "PEM",
         together=True, here="PEM only"),
    Flag("--ssl-https-private-key-type", "", PEM, "PEM is all that is read.", "PEM", together=True,
         here="PEM only"),
    Flag("--collect-metrics", "metrics_url", None, "--metrics-url localhost:8002/metrics.", context="-u h:8000",
         together=True, here="`--metrics-url`; an embedded server's are always collected"),
    Flag("--bls-composing-models", "composing", TEXT, "Models behind a BLS model whose figures are shown too.", "a:3,b",
         convert=composing, metavar="MODEL[:VERSION],…"),
    Flag("--trace-level", "trace_settings", TRACES, "The server's own tracing, during the run.", "TIMESTAMPS",
         multiple=True, together=True),
    Flag("--trace-rate", "trace_settings", COUNT, "One of so many requests is traced.", "100",
         "--trace-level TIMESTAMPS", together=True),
    Flag("--trace-count", "trace_settings", click.IntRange(min=-1), "So many are traced; -1: no bound.", "10",
         "--trace-level TIMESTAMPS", together=True),
    Flag("--log-frequency", "trace_settings", COUNT_OR_0, "A file for so many traces; 0: one file.", "10",
         "--trace-level TIMESTAMPS", together=True),
    Flag("--service-kind", "", choice("triton", "triton_c_api", "tfserving", "torchserve", "openai", "dynamic_grpc"),
         "triton is all that is measured.", "triton", together=True, here="triton only; another one is refused"),
    Flag("--session-concurrency", "", COUNT, "Refused: conversations are OpenAI's protocol.", together=True,
         here="refused; conversations are OpenAI's protocol"),
    Flag("--async -a", "", None, "", instead=_NO_THREADS),
    Flag("--sync", "", None, "", instead=_NO_THREADS),
    Flag("--max-threads", "", COUNT, "", "8", instead=f"{_NO_THREADS}; --processes adds processes"),
    Flag("--enable-mpi", "", None, "", instead="--mix sends to several models without MPI"),
    Flag("--endpoint", "", TEXT, "", "v1/x", instead=_TRITON),
    Flag("--model-signature-name", "", TEXT, "", "s", instead=_TRITON),
    Flag("--model-repository", "", FILE, "", "r", instead=f"{_C_API}; --repository serves one"),
    Flag("--triton-server-directory", "", FILE, "", "d", instead=_C_API),
)  # fmt: skip

GROUPS = {
    "Model and server": _SERVER,
    "Load": _LOAD,
    "Measurement": _MEASUREMENT,
    "Data": _DATA,
    "Transport": _TRANSPORT,
    "Sequences": _SEQUENCES,
    "Checks": _CHECKS,
    "Reports": _REPORTS,
    "perf_analyzer's other names": _PERF_ANALYZER,
}
FLAGS = tuple(flag for group in GROUPS.values() for flag in group)


def perf_analyzer_table() -> str:
    """The table of docs/perf.md: every flag of perf_analyzer, and what does the same here."""
    rows = ["| perf_analyzer | here |", "|---|---|"]
    for flag in FLAGS:
        names = flag.names if flag in _PERF_ANALYZER else flag.pa
        same = "the same" if flag.name in names.split() else f"`{flag.name}`"
        here = f"nothing: {flag.instead}" if flag.instead else flag.here or same
        if names:
            rows.append(f"| {', '.join(f'`{name}`' for name in names.split())} | {here} |")
    return "\n".join(rows) + "\n"
