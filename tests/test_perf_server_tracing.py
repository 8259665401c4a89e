# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's own tracing, switched on for a run and off again, at a real tritonserver."""

from __future__ import annotations

import json
import urllib.request

import pytest

from trtkit.errors import ProjectError
from trtkit.perf.server.address import parse_address
from trtkit.perf.server.control import open_control
from trtkit.perf.server.server_tracing import server_tracing
from trtkit.server import serve

pytestmark = pytest.mark.triton
SETTINGS = (("trace_level", ("TIMESTAMPS",)), ("trace_rate", ("7",)))


def shown(server):
    with urllib.request.urlopen(f"http://{server.http_url}/v2/models/echo/trace/setting", timeout=10) as answer:
        value = json.load(answer)
    return value["trace_level"], value["trace_rate"]


def tracing(server, wire, settings):
    url = server.grpc_url if wire == "grpc" else server.http_url
    with open_control(parse_address(url, wire), wire, 5) as fetch, server_tracing(fetch, wire, ["echo"], settings):
        return shown(server)


def test_a_run_is_traced_and_nothing_after_it(echo_repository, tmp_path):
    options = [f"--trace-config=triton,file={tmp_path / 'trace.json'}", "--trace-config=level=OFF"]
    with serve(echo_repository, options=options) as server:
        before = shown(server)
        for wire in ("http", "grpc"):
            assert tracing(server, wire, SETTINGS) == (["TIMESTAMPS"], "7")
            assert shown(server) == before


def test_a_server_without_a_trace_file_is_one_sentence(server):
    for wire in ("http", "grpc"):
        assert tracing(server, wire, ()) == shown(server)
        with pytest.raises(ProjectError, match="start it with --trace-config"):
            tracing(server, wire, SETTINGS)
