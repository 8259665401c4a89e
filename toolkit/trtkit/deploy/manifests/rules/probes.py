# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Start and probes: tritonserver opens no port until every startup model is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.commands import Spot, Word
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.deploy.manifests.servers import Server
from trtkit.deploy.manifests.values import seconds
from trtkit.lint.model import Found

_PATHS = re.compile(r"/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready|/v2/?")
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_CALLS = re.compile(r"curl|wget|/v2/|:800[01]|perf_analyzer|grpcurl|python|warm", flags=re.IGNORECASE)


def pod_servers(files: FileSet) -> Iterator[tuple[Server, Node]]:
    """The servers in pods that run until they are stopped, with their containers."""
    for server in files.servers:
        if server.pod is not None and server.node is not None and server.pod.serves:
            yield server, server.node


def allowance(probe: Node) -> float:
    """How long a probe lets a container fail before something is done, s."""
    period = probe["periodSeconds"].number or 10
    failures = probe["failureThreshold"].number or 3
    return (probe["initialDelaySeconds"].number or 0) + period * failures


@rule("PRB001", "no-startup-probe", WARNING)
def no_startup_probe(files: FileSet) -> Iterator[Found]:
    """A tritonserver has a liveness probe and no startup probe.

    No port opens until all startup models are loaded (run): until then the liveness probe fails, and kills a server
    that was only loading. The published charts have this mistake. A startup probe on /v2/health/live holds the
    others back for as long as loading may take.

    Wrong:
        livenessProbe: {httpGet: {path: /v2/health/live, port: http}, initialDelaySeconds: 15}

    Right:
        startupProbe: {httpGet: {path: /v2/health/live, port: http}, periodSeconds: 5, failureThreshold: 24}
        livenessProbe: {httpGet: {path: /v2/health/live, port: http}, periodSeconds: 10}
    """
    for _, node in pod_servers(files):
        probe = node["livenessProbe"]
        if probe and not node["startupProbe"]:
            allowed = f"{allowance(probe):g} s"
            yield found(
                probe, f"without a startupProbe the container is killed when loading takes longer than {allowed}"
            )


@rule("PRB002", "start-up-budget-below-load-time", depends=True)
def budget_below_load(files: FileSet) -> Iterator[Found]:
    """The container is killed, or called unhealthy, before its models are loaded.

    The startup probe (or, without one, the liveness probe) gives ``initialDelaySeconds + periodSeconds x
    failureThreshold``; --load-seconds, or the --measurement of `trtkit deploy measure`, is longer. The pod restarts
    for ever.

    Wrong:
        startupProbe: {periodSeconds: 10, failureThreshold: 3}      # 30 s; loading takes 120 s

    Right:
        startupProbe: {periodSeconds: 10, failureThreshold: 24}     # 2 x 120 s
    """
    for node, budget, load in _budgets(files):
        if budget < load:
            service = "start_period" in node.fields or "test" in node.fields
            what, how = (
                ("is unhealthy", "start_period") if service else ("is killed", "failureThreshold x periodSeconds")
            )
            says = f"the container {what} after {budget:g} s, and loading takes {load:g} s"
            yield found(node, f"{says}; give it {2 * load:g} s: {how}")


@rule("PRB003", "start-up-budget-thin", WARNING, depends=True)
def budget_thin(files: FileSet) -> Iterator[Found]:
    """The startup probe allows less than twice the measured load time.

    A cold page cache, a slower disk or a busy registry doubles it easily; too large a budget costs nothing, for the
    probe ends with its first success.

    Wrong:
        startupProbe: {periodSeconds: 10, failureThreshold: 14}     # 140 s; loading takes 120 s

    Right:
        startupProbe: {periodSeconds: 10, failureThreshold: 24}
    """
    for node, budget, load in _budgets(files):
        if load <= budget < 2 * load:
            yield found(node, f"{budget:g} s for a load of {load:g} s; twice the load time, {2 * load:g} s, is safe")


def _budgets(files: FileSet) -> Iterator[tuple[Node, float, float]]:
    """Where a container's budget stands, how long it is, and how long loading takes."""
    load = files.known.load_seconds
    for _, node in pod_servers(files) if load is not None else ():
        probe = node["startupProbe"] or node["livenessProbe"]
        if probe and load is not None:
            yield probe, allowance(probe), load
    for server in files.servers if load is not None else ():
        check = server.node["healthcheck"] if server.kind == "compose" and server.node else None
        if check and not check["disable"].truth and load is not None:
            start, period = seconds(check["start_period"].text) or 0, seconds(check["interval"].text) or 30
            yield check, start + period * (check["retries"].number or 3), load


@rule("PRB004", "readiness-of-the-whole-server", WARNING)
def readiness_of_whole_server(files: FileSet) -> Iterator[Found]:
    """In explicit or poll mode, readiness asks for the whole server.

    /v2/health/ready is 400 while any model loads, so the pod leaves its Service, and 200 when nothing is loaded at
    all (both run). Ask for the models that the pod is there for: /v2/models/NAME/versions/V/ready, or NAME/ready.

    Wrong:
        args: [tritonserver, --model-control-mode=explicit, --load-model=digits]
        readinessProbe: {httpGet: {path: /v2/health/ready, port: http}}

    Right:
        args: [tritonserver, --model-control-mode=explicit, --load-model=digits]
        readinessProbe: {httpGet: {path: /v2/models/digits/ready, port: http}}
    """
    for server, node in pod_servers(files):
        path = node.at("readinessProbe", "httpGet", "path")
        if server.mode in ("explicit", "poll") and path.text.rstrip("/") == "/v2/health/ready":
            says = f"in {server.mode} mode /v2/health/ready is 400 while any model loads, and 200 when none is loaded"
            yield found(path, f"{says}; ask for /v2/models/NAME/ready")


@rule("PRB005", "no-readiness-probe", WARNING)
def no_readiness_probe(files: FileSet) -> Iterator[Found]:
    """A tritonserver has no readiness probe.

    The pod gets requests as soon as its container runs, long before a port is open.

    Wrong:
        containers: [{name: triton, image: "nvcr.io/nvidia/tritonserver:25.01-py3"}]

    Right:
        readinessProbe: {httpGet: {path: /v2/health/ready, port: http}, periodSeconds: 5}
    """
    for _, node in pod_servers(files):
        if not node["readinessProbe"]:
            yield found(node, "without a readinessProbe the pod gets requests before a port of tritonserver is open")


@rule("PRB006", "warm-up-after-start")
def warm_up_after_start(files: FileSet) -> Iterator[Found]:
    """A postStart hook calls the server.

    It runs beside the container's start, no port is open until the models are loaded, the call fails, and Kubernetes
    kills the container: FailedPostStartHook. Warm-up belongs into config.pbtxt (model_warmup), before readiness.

    Wrong:
        lifecycle: {postStart: {exec: {command: [curl, "-f", "http://localhost:8000/v2/models/digits/infer"]}}}

    Right:
        # config.pbtxt
        model_warmup [{ name: "zeros" batch_size: 1 inputs { ... } }]
    """
    for _, node in pod_servers(files):
        hook = node.at("lifecycle", "postStart")
        words = " ".join(each.text for _, each in hook.walk())
        if hook and (_CALLS.search(words) or hook["httpGet"] or hook["tcpSocket"]):
            says = "postStart runs while tritonserver still has no port open, and its failure kills the container"
            yield found(hook, f"{says}; use model_warmup in config.pbtxt")


@rule("PRB007", "probe-asks-what-is-not-there")
def probe_path(files: FileSet) -> Iterator[Found]:
    """An HTTP probe asks for a path, or on a port, that tritonserver does not answer.

    Health is /v2/health/live, /v2/health/ready and /v2/models/NAME/ready on the HTTP port (8000); 8001 is gRPC, and
    takes a `grpc:` probe.

    Wrong:
        livenessProbe: {httpGet: {path: /health, port: 8001}}

    Right:
        livenessProbe: {httpGet: {path: /v2/health/live, port: 8000}}
    """
    for server, node in pod_servers(files):
        names = {each["name"].text: each["containerPort"].number for each in node["ports"].items}
        for probe in (node[name]["httpGet"] for name in _PROBES):
            path = probe["path"]
            if not probe:
                continue
            number = probe["port"].number or names.get(probe["port"].text)
            wrong = {8001: "gRPC's", 8002: "for metrics"}.get(int(number or 0))
            changed = server.flag("http-port") or server.flag("metrics-port") or server.flag("grpc-port")
            if not _PATHS.fullmatch(path.text.partition("?")[0]) and wrong != "for metrics":
                yield found(
                    path, f"tritonserver has no {path.text or '/'}; ask for /v2/health/live or /v2/health/ready"
                )
            elif wrong and not changed and path.text != "/metrics":
                yield found(probe["port"], f"port {number:g} is {wrong}; health over HTTP is on 8000")


@rule("PRB008", "liveness-asks-for-readiness", WARNING)
def liveness_asks_readiness(files: FileSet) -> Iterator[Found]:
    """The liveness probe asks whether the server is ready.

    /v2/health/ready is 400 while a model loads or is reloaded (run), and Kubernetes then kills a server that works.

    Wrong:
        livenessProbe: {httpGet: {path: /v2/health/ready, port: http}}

    Right:
        livenessProbe: {httpGet: {path: /v2/health/live, port: http}}
    """
    for _, node in pod_servers(files):
        path = node.at("livenessProbe", "httpGet", "path")
        if path.text.rstrip("/").endswith("/ready"):
            yield found(path, f"liveness on {path.text} kills a server that loads a model; use /v2/health/live")


@rule("PRB009", "probe-of-a-restricted-api")
def probe_of_restricted(files: FileSet) -> Iterator[Found]:
    """Health is a restricted API, and a probe does not send its header.

    tritonserver answers 403 (run), and the container is killed.

    Wrong:
        args: [tritonserver, "--http-restricted-api=health:x-key=abc"]
        livenessProbe: {httpGet: {path: /v2/health/live, port: http}}

    Right:
        args: [tritonserver, "--http-restricted-api=model-repository:x-key=abc"]
        livenessProbe: {httpGet: {path: /v2/health/live, port: http}}
    """
    for server, node in pod_servers(files):
        for flag in server.flags:
            protected = flag.value.partition(":")[0].split(",")
            if flag.name == "http-restricted-api" and "health" in protected:
                header = flag.value.partition(":")[2].partition("=")[0]
                for probe in (node[name]["httpGet"] for name in _PROBES):
                    sent = {each["name"].text.lower() for each in probe["httpHeaders"].items}
                    if probe and header.lower() not in sent:
                        yield found(probe, f"health is restricted, and without the header {header} the answer is 403")


@rule("PRB010", "check-takes-any-answer", WARNING)
def takes_any_answer(files: FileSet) -> Iterator[Found]:
    """A check calls curl without --fail, and so takes every answer for a good one.

    /v2/health/ready and a model's /ready answer 400 where something is not ready; curl then ends with 0, unless it was
    given --fail. The check only sees whether the port is open.

    Wrong:
        healthcheck: {test: [CMD, curl, "http://localhost:8000/v2/health/ready"]}

    Right:
        healthcheck: {test: [CMD, curl, -sf, "http://localhost:8000/v2/health/ready"]}
    """
    for spot, text in _checks(files):
        if _ASKS.search(text) and not _FAILS.search(text):
            yield found(spot, "curl ends with 0 for an answer of 400 too; add --fail")


_ASKS = re.compile(r"\bcurl\b.*/v2/\S*ready\b", flags=re.DOTALL)
_FAILS = re.compile(r"\s(-[a-zA-Z]*f[a-zA-Z]*|--fail(-with-body)?)(?=\s)|http_code|response_code|\|\s*grep")


def _checks(files: FileSet) -> Iterator[tuple[Spot, str]]:
    """The commands that ask whether a server is healthy, with spaces between their words and at the ends."""
    for build in files.builds:
        check = build.final.last("HEALTHCHECK")
        if check:
            line = Word(check.rest, build.source.file, check.line, 1)
            yield line, re.sub(r'[\[\]",]', " ", f" {check.rest} ")
    for server in files.servers:
        if server.node is not None:
            tests = [
                server.node.at("healthcheck", "test"),
                *(server.node[name].at("exec", "command") for name in _PROBES),
            ]
            for test in (each for each in tests if each):
                yield test, f" {' '.join(each.text for each in test.items) or test.text} "


RULES = (
    no_startup_probe,
    budget_below_load,
    budget_thin,
    readiness_of_whole_server,
    no_readiness_probe,
    warm_up_after_start,
    probe_path,
    liveness_asks_readiness,
    probe_of_restricted,
    takes_any_answer,
)
