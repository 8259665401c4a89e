# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the flags that were given to `Options`: most change a field of their own, some only several together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trtkit.cli.perf_flag import levels
from trtkit.cli.perf_flags import FLAGS
from trtkit.errors import ProjectError

if TYPE_CHECKING:
    from trtkit.perf.options import Options

Given = Mapping[str, Any]
"""The values of the flags that were given, by their keys."""

_METRICS_URL = "localhost:8002/metrics"
_WINDOW_REQUESTS = 50


def options_of(word: str | None, given: Given) -> Options:
    """What was asked for, checked as far as that needs no server.

    Args:
        word: the first word of the command line: the model.
        given: the flags that were given.

    Raises:
        ProjectError: two flags that exclude each other, or a value that is impossible.
        DataError: a shape or a range that is not understood.
    """
    from trtkit.perf.option_checks import check
    from trtkit.perf.options import Options

    _refuse(given)
    fields = {"model": _model(word, given), **_load(given), **_windows(given), **_transport(given), **_server(given)}
    for flag in FLAGS:
        if flag.key in given and flag.fields and not flag.together:
            value = given[flag.key]
            fields[flag.fields] = flag.convert(value) if flag.convert else value
    options = Options(**fields)
    check(options)
    return options


def remarks(given: Given) -> list[str]:
    """What was given and changes nothing, and what does the same."""
    said = [f"{flag.name} changes nothing: {flag.instead}" for flag in FLAGS if flag.instead and flag.key in given]
    needs = {
        "measurement_request_count": (
            "--measurement-mode count_windows",
            given.get("measurement_mode") == "count_windows",
        ),
        "verbose_csv": ("--csv", "csv" in given),
        "num_of_sequences": ("--request-rate", "request_rate" in given or "request_rate_range" in given),
        "request_distribution": ("--request-rate", "request_rate" in given or "request_rate_range" in given),
    }
    names = {flag.key: flag.name for flag in FLAGS}
    said += [f"{names[key]} changes nothing without {other}" for key, (other, is_there) in needs.items()
             if key in given and not is_there]  # fmt: skip
    other = "https" if _wire(given) == "grpc" else "grpc"
    said += [f"{names[key]} changes nothing over {_wire(given)}" for key in given if key.startswith(f"ssl_{other}_")]
    return said


def _refuse(given: Given) -> None:
    if given.get("service_kind", "triton") != "triton":
        raise ProjectError(
            f"--service-kind {given['service_kind']} is no Triton server over the network, all that is measured; "
            "leave it out, and give the --url of a Triton server"
        )
    if "session_concurrency" in given:
        raise ProjectError("--session-concurrency is for conversations over OpenAI's protocol; use --concurrency")


def _model(word: str | None, given: Given) -> str:
    named = given.get("model")
    if word and named and word != named:
        raise ProjectError(f"the model is '{word}' and, by -m, '{named}'; give one of them")
    return word or named or ""


def _load(given: Given) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    both = [name for name in ("concurrency", "concurrency_range", "t") if name in given and "d" not in given]
    if len(both) > 1:
        raise ProjectError("the concurrency is given twice; give one of --concurrency, --concurrency-range and -t")
    if "request_rate" in given and "request_rate_range" in given:
        raise ProjectError("the request rate is given twice; give one of --request-rate and --request-rate-range")
    if "concurrency_range" in given:
        fields["concurrency"] = levels("concurrency", open_end=True)(given["concurrency_range"])
    elif "d" in given:
        fields["concurrency"] = levels("concurrency")(f"{given.get('t', 1)}:{given.get('concurrency', 1)}")
    elif both:
        fields["concurrency"] = levels("concurrency")(given[both[0]])
    if "binary_search" in given:
        fields["find_capacity"] = _binary_search(given)
    return fields


def _binary_search(given: Given) -> str:
    limit = given.get("latency_threshold", 0)
    if not limit or "find_capacity" in given:
        raise ProjectError("--binary-search needs a --latency-threshold and no --find-capacity, which is the same")
    percentile = given.get("percentile", -1)
    return f"{'mean' if percentile == -1 else f'p{percentile}'} < {limit:g} ms"


def _windows(given: Given) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if given.get("measurement_mode") == "count_windows":
        fields["window_requests"] = given.get("measurement_request_count", _WINDOW_REQUESTS)
    if "window" in given and "measurement_interval" in given:
        raise ProjectError("the window is given twice; give one of --window (seconds) and -p (milliseconds)")
    if "windows" not in given and given.get("max_windows", 5) in (3, 4):
        fields["windows"] = given["max_windows"]
    return fields


def _protocol(given: Given) -> str:
    protocol = str(given.get("protocol", "http"))
    if "streaming" not in given:
        return protocol
    if protocol in ("http", "generate-stream"):
        raise ProjectError("--streaming is gRPC's; add --protocol grpc, or use --protocol generate-stream over HTTP")
    return "grpc-stream"


def _wire(given: Given) -> str:
    return "grpc" if str(given.get("protocol", "http")).startswith("grpc") else "http"


def _transport(given: Given) -> dict[str, Any]:
    fields: dict[str, Any] = {"protocol": _protocol(given)}
    data = [*given.get("input_data", ()), *([given["data_directory"]] if "data_directory" in given else ())]
    data += ["zero"] if "z" in given and "zero" not in data else []
    if data:
        fields["input_data"] = tuple(data)
    if "tensor_format" in given:
        fields["input_format"] = fields["output_format"] = given["tensor_format"]
    if "grpc_compression_algorithm" in given:
        if _wire(given) != "grpc":
            raise ProjectError("--grpc-compression-algorithm is gRPC's; add --protocol grpc, or use --compression")
        fields["compression"] = given["grpc_compression_algorithm"].replace("none", "")
    return {**fields, **_tls(given)}


def _tls(given: Given) -> dict[str, Any]:
    """perf_analyzer's names of the other protocol change nothing, as there; see `remarks`."""
    for key in ("ssl_https_client_certificate_type", "ssl_https_private_key_type"):
        if given.get(key) == "DER":
            raise ProjectError("certificates and keys are read as PEM; convert with `openssl x509 -inform DER`")
    url = str(given.get("url", ""))
    ours = {"tls_ca": "tls_ca", "tls_certificate": "tls_certificate", "tls_key": "tls_key"}
    https = {
        "tls_ca": "ssl_https_ca_certificates_file",
        "tls_certificate": "ssl_https_client_certificate_file",
        "tls_key": "ssl_https_private_key_file",
    }
    grpc = {
        "tls_ca": "ssl_grpc_root_certifications_file",
        "tls_certificate": "ssl_grpc_certificate_chain_file",
        "tls_key": "ssl_grpc_private_key_file",
    }
    theirs = grpc if _wire(given) == "grpc" else https
    fields = {field: given[key] for names in (theirs, ours) for field, key in names.items() if key in given}
    untrusting = any(given.get(key) == "0" for key in ("ssl_https_verify_peer", "ssl_https_verify_host"))
    if "tls_no_verify" in given or (untrusting and _wire(given) == "http"):
        fields["tls_verify"] = False
    asked = any(name in given for name in (*ours, "tls_no_verify"))
    if asked or url.startswith(("https://", "grpcs://")) or ("ssl_grpc_use_ssl" in given and _wire(given) == "grpc"):
        fields["tls"] = True
    return fields


def _server(given: Given) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "metrics_url" in given or ("collect_metrics" in given and "url" in given):
        fields["metrics_url"] = given.get("metrics_url", _METRICS_URL)
    settings = []
    if "trace_level" in given:
        settings.append(("trace_level", tuple(given["trace_level"])))
    for name in ("trace_rate", "trace_count", "log_frequency"):
        if name in given:
            settings.append((name, (str(given[name]),)))
    if settings:
        fields["trace_settings"] = tuple(settings)
    if "project" in given:
        fields["project"] = given["project"]
    return fields
