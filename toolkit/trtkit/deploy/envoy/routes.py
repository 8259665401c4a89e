# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What clients may ask through Envoy, where it goes, and what is tried again.

A retry is safe where the request cannot have reached a server, and for models without state also where it may have:
the work is done twice then, and nobody sees it. A model with sequences would count a step twice.
"""

from __future__ import annotations

from typing import Any

from trtkit.deploy.envoy.addresses import CANARY, STABLE, Addresses
from trtkit.deploy.envoy.clusters import cluster_name
from trtkit.deploy.figure import Noted
from trtkit.deploy.planned import Plan

Node = dict[str, Any]

SEQUENCE_HEADER = "x-sequence-id"
"""What a client of a sequence model sends with each request of one, over HTTP and gRPC."""
TRACK_HEADER = "x-track"
"""With the value ``canary`` it asks for the release that is tried out."""
RUNTIME_PREFIX = "traffic"
"""The weights of the tracks are the runtime values traffic.CLUSTER, which Envoy takes while it runs."""

_UNSENT = "connect-failure,refused-stream,reset-before-request"
_REPEATABLE = "reset"
# of gRPC: a server that stops says so, or ends calls in flight (before release 25.06)
_GRPC_STOPPED = "unavailable,cancelled"
# and on connections that are open it still takes calls after it has unloaded the models (seen with 24.10)
_GRPC_UNLOADED: Node = {
    "retriable_headers": Noted(
        [
            {"name": "grpc-message", "string_match": {"contains": "no available versions"}},
            {"name": "grpc-message", "string_match": {"contains": "not at ready state"}},
        ],
        "a stopping server's answer once its models are unloaded",
    )
}
_MODEL = r"/v2/models/[^/]+(/versions/[^/]+)?"
_SERVICE = r"/inference\.GRPCInferenceService/"


def http_routes(plan: Plan, addresses: Addresses) -> list[Node]:
    """Of the HTTP listener, the first match counts; all else is 404, among it loading models and shared memory."""
    routes = [{**_refused(), "match": _regex("/v2/models/.+/trace/.*")}]
    for model in plan.models:
        if model.sequences:
            below = {"path_separated_prefix": f"/v2/models/{model.name}"}
            routes += _tracks(plan, addresses, below, "http", sticky=True)
    routes += _tracks(plan, addresses, _regex(_MODEL + "/generate_stream"), "http", streams=True)
    routes += _tracks(plan, addresses, _regex(_MODEL + "/(infer|generate)"), "http")
    asked = rf"/v2(/health/(live|ready))?|{_MODEL}(/(ready|config|stats))?"
    routes += _tracks(plan, addresses, _regex(asked), "http", limited=False)
    return [*routes, _refused()]


def grpc_routes(plan: Plan, addresses: Addresses) -> list[Node]:
    """Of the gRPC listener; what is not listed is UNIMPLEMENTED."""
    sticky = plan.has_sequences
    streams = _regex(_SERVICE + "ModelStreamInfer")
    calls = _regex(_SERVICE + "Model(Infer|Ready|Metadata|Config|Statistics)")
    asked = _regex(_SERVICE + "Server(Live|Ready|Metadata)|/grpc.health.v1.Health/Check")
    return [
        *_tracks(plan, addresses, streams, "grpc", sticky=sticky, streams=True),
        *_tracks(plan, addresses, calls, "grpc", sticky=sticky),
        *_tracks(plan, addresses, asked, "grpc", sticky=sticky, limited=False),
        _refused(),
    ]


def _tracks(
    plan: Plan,
    addresses: Addresses,
    match: Node,
    wire: str,
    *,
    sticky: bool = False,
    streams: bool = False,
    limited: bool = True,
) -> list[Node]:
    """One route for those that ask for the canary, and one that divides the rest by weight."""
    own_cluster = sticky and wire == "http"
    names = {track: cluster_name(wire, track, sticky=own_cluster) for track in (STABLE, CANARY)}
    action = _action(plan, wire, sticky=sticky, streams=streams)
    limit = {"typed_per_filter_config": rate_limit(plan)} if limited and plan.spec.exposure.requests_per_second else {}
    if not addresses.canary:
        return [{"match": match, "route": {"cluster": names[STABLE], **action}, **limit}]
    asks = {"headers": [{"name": TRACK_HEADER, "string_match": {"exact": CANARY}}]}
    weights = [{"name": names[STABLE], "weight": 100}, {"name": names[CANARY], "weight": 0}]
    divided = {"clusters": weights, "runtime_key_prefix": RUNTIME_PREFIX}
    return [
        {"match": {**match, **asks}, "route": {"cluster": names[CANARY], **action}, **limit},
        {"match": match, "route": {"weighted_clusters": divided, **action}, **limit},
    ]


def _action(plan: Plan, wire: str, *, sticky: bool, streams: bool) -> Node:
    seconds = plan.spec.exposure.timeout_seconds
    action: Node = {
        "timeout": (
            Noted("0s", "a stream may last; silence ends it")
            if streams
            else Noted(f"{seconds}s", "exposure.timeout_seconds, tries included")
        ),
        "idle_timeout": f"{seconds}s",
        "retry_policy": _retries(wire, sticky=sticky, streams=streams),
    }
    if sticky:
        action["hash_policy"] = [
            {"header": {"header_name": SEQUENCE_HEADER}, "terminal": True},
            {"connection_properties": {"source_ip": True}},
        ]
    return action


def _retries(wire: str, *, sticky: bool, streams: bool) -> Node:
    unsent = f"{_UNSENT},retriable-headers" if wire == "grpc" else _UNSENT
    if sticky or streams:
        when = Noted(unsent, "only what no model has seen: a step or a stream is not repeated")
    else:
        more = f"{_REPEATABLE},{_GRPC_STOPPED}" if wire == "grpc" else _REPEATABLE
        when = Noted(f"{unsent},{more}", "a server that stops costs no request; models without state may run it twice")
    return {
        "retry_on": when,
        **(_GRPC_UNLOADED if wire == "grpc" else {}),
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        **({} if sticky else _another_host()),
    }


def _another_host() -> Node:
    """Not for sequences: their hash says which server is next."""
    previous = "envoy.retry_host_predicates.previous_hosts"
    kind = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_host_predicate": [{"name": previous, "typed_config": {"@type": kind}}],
        "host_selection_retry_max_attempts": 5,
    }


def rate_limit(plan: Plan) -> Node:
    """The filter's configuration of a route: so many requests per second and client address, then 429."""
    allowed = plan.spec.exposure.requests_per_second or 0
    bucket = {"max_tokens": 2 * allowed, "tokens_per_fill": allowed, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    filter_name = "envoy.filters.http.local_ratelimit"
    return {
        filter_name: {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "clients",
            "token_bucket": Noted({**bucket, "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000}, "of all clients"),
            "filter_enabled": always,
            "filter_enforced": always,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "max_dynamic_descriptors": Noted(10_000, "addresses that are remembered"),
            "rate_limits": [{"actions": [{"remote_address": {}}]}],
            "descriptors": [
                {
                    "entries": [{"key": "remote_address"}],
                    "token_bucket": Noted(bucket, "exposure.requests_per_second of each client, twice that in a burst"),
                }
            ],
        }
    }


def _regex(pattern: str) -> Node:
    return {"safe_regex": {"regex": pattern}}


def _refused() -> Node:
    text = "no such path, or one that is not open to clients\n"
    return {"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": {"inline_string": text}}}
