# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""tritonserver's command line."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.known_triton import OPTIONS
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.releases import DEPRECATED_FLAGS, FLAGS, has_flag
from trtkit.lint.model import Found


@rule("SRV001", "load-model-without-explicit-mode", refused_by="tritonserver exits")
def load_model_without_explicit(files: FileSet) -> Iterator[Found]:
    """--load-model is given, and the model control mode is not explicit.

    tritonserver exits with "Error: use of '--load-model' requires setting '--model-control-mode=explicit' as well"
    (run with 24.10), so the container restarts for ever.

    Wrong:
        args: [tritonserver, --model-repository=/models, --load-model=digits]

    Right:
        args: [tritonserver, --model-repository=/models, --model-control-mode=explicit, --load-model=digits]
    """
    for server in files.servers:
        given = server.flag("load-model")
        if given and server.mode != "explicit":
            says = "--load-model requires setting --model-control-mode=explicit; without, tritonserver exits"
            yield found(given.word, f"{says} (the mode here is {server.mode})")


@rule("SRV002", "deprecated-flag", WARNING)
def deprecated_flag(files: FileSet) -> Iterator[Found]:
    """An option of tritonserver is deprecated.

    It is still taken, with a warning in the log, and each release may drop it (tritonserver --help).

    Wrong:
        args: [tritonserver, --model-store=/models, --strict-model-config=false]

    Right:
        args: [tritonserver, --model-repository=/models]
    """
    for server in files.servers:
        for flag in server.flags:
            if flag.name in DEPRECATED_FLAGS:
                default = flag.name == "strict-model-config" and flag.value.lower() in ("false", "0")
                use = "leave it out, false is the default" if default else f"use --{DEPRECATED_FLAGS[flag.name]}"
                yield found(flag.word, f"--{flag.name} is deprecated; {use}")


@rule("SRV003", "unknown-flag", refused_by="tritonserver exits")
def unknown_flag(files: FileSet) -> Iterator[Found]:
    """No release of tritonserver has an option of that name.

    tritonserver says "unrecognized option" or "option is ambiguous" and exits (run). The beginning of a name is taken
    where only one option begins so: --exit-timeout is --exit-timeout-secs.

    Wrong:
        args: [tritonserver, --model-path=/models]

    Right:
        args: [tritonserver, --model-repository=/models]
    """
    for server in files.servers:
        for flag in server.flags:
            if flag.name not in OPTIONS:
                several = sorted(each for each in OPTIONS if each.startswith(flag.name))
                near = get_close_matches(flag.name, OPTIONS, n=1)
                hint = f"did you mean --{near[0]}?" if near else "`tritonserver --help` lists all"
                hint = f"it could be --{' or --'.join(several)}" if several else hint
                yield found(flag.word, f"tritonserver has no option --{flag.name}; {hint}")


@rule("SRV004", "flag-newer-than-image", refused_by="tritonserver exits")
def flag_newer_than_image(files: FileSet) -> Iterator[Found]:
    """An option of tritonserver came with a later release than the image's.

    The tag names the release; for an image of your own give --release. tritonserver prints its usage and exits.

    Wrong:
        image: nvcr.io/nvidia/tritonserver:23.10-py3
        args: [tritonserver, --model-repository=/models, --grpc-max-connection-age=300000]

    Right:
        image: nvcr.io/nvidia/tritonserver:24.10-py3
        args: [tritonserver, --model-repository=/models, --grpc-max-connection-age=300000]
    """
    for server in files.servers:
        release = files.release(server)
        for flag in server.flags:
            if release and flag.name in FLAGS and not has_flag(release, flag.name):
                yield found(flag.word, f"--{flag.name} is there since {FLAGS[flag.name]}; the image is of {release}")


@rule("SRV005", "counters-switched-off")
def counters_switched_off(files: FileSet) -> Iterator[Found]:
    """counter_latencies=false also freezes the counts of requests, failures and executions at 0.

    The guard in the server's source is around all of them (run with 24.10, and read in the newest source): rates,
    error alerts and autoscaling see no traffic, however much there is.

    Wrong:
        args: [tritonserver, --model-repository=/models, "--metrics-config=counter_latencies=false"]

    Right:
        args: [tritonserver, --model-repository=/models]
    """
    for server in files.servers:
        for flag in server.flags:
            if flag.name == "metrics-config" and flag.value.replace(" ", "").lower() in (
                "counter_latencies=false", "counter_latencies=0",
            ):  # fmt: skip
                says = "counter_latencies=false freezes nv_inference_request_success, _count and _exec_count at 0 too"
                yield found(flag.word, f"{says}; leave it out")


@rule("SRV006", "poll-mode", WARNING)
def poll_mode(files: FileSet) -> Iterator[Found]:
    """The model control mode is poll.

    The server may read a model while it is still being written, and each pod at another time; Triton's own
    documentation says "not recommended for use in production". Replace the pods, or load models explicitly.

    Wrong:
        args: [tritonserver, --model-repository=/models, --model-control-mode=poll]

    Right:
        args: [tritonserver, --model-repository=/models]
    """
    for server in files.servers:
        given = server.flag("model-control-mode")
        if given and server.mode == "poll":
            yield found(given.word, "poll reads models while they are being written; use none, and replace the pods")


@rule("SRV007", "model-api-open", ADVICE)
def model_api_open(files: FileSet) -> Iterator[Found]:
    """Anyone who reaches the server can load and unload models.

    In explicit mode the repository API is open; whoever can load a Python model runs code in the server (Triton's
    secure deployment guide). Restrict it with a header that only your own tools know.

    Wrong:
        args: [tritonserver, --model-repository=/models, --model-control-mode=explicit]

    Right:
        args: [tritonserver, --model-repository=/models, --model-control-mode=explicit,
               "--http-restricted-api=model-repository:x-admin=$(ADMIN_KEY)",
               "--grpc-restricted-protocol=model-repository:x-admin=$(ADMIN_KEY)"]
    """
    for server in files.servers:
        given = server.flag("model-control-mode")
        protocols = (("http", "http-restricted-api"), ("grpc", "grpc-restricted-protocol"))
        open_ones = [
            option
            for protocol, option in protocols
            if not server.is_off(f"allow-{protocol}")
            and not any("model-repository" in each.value for each in server.flags if each.name == option)
        ]
        if given and server.mode == "explicit" and server.kind != "script" and open_ones:
            yield found(
                given.word, f"anyone who reaches the server can load models; give --{' and --'.join(open_ones)}"
            )


@rule("SRV008", "restricted-api-separator", refused_by="tritonserver exits")
def restricted_api_separator(files: FileSet) -> Iterator[Found]:
    """A restricted API is written without the colon between its name and the header.

    It is ``API,API:HEADER=VALUE``; the help of 24.10 shows a comma before the header, which is refused (run).

    Wrong:
        args: [tritonserver, "--http-restricted-api=model-repository,x-admin=key"]

    Right:
        args: [tritonserver, "--http-restricted-api=model-repository:x-admin=key"]
    """
    for server in files.servers:
        for flag in server.flags:
            restricted = flag.name in ("http-restricted-api", "grpc-restricted-protocol")
            if restricted and flag.value and ":" not in flag.value.partition("=")[0]:
                yield found(
                    flag.word, f"--{flag.name} is API:HEADER=VALUE, with a colon; got {flag.value.partition('=')[0]}=…"
                )


RULES = (
    load_model_without_explicit,
    deprecated_flag,
    unknown_flag,
    flag_newer_than_image,
    counters_switched_off,
    poll_mode,
    model_api_open,
    restricted_api_separator,
)
