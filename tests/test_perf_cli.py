# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line of `trtkit perf`, as far as it needs no server: help, dispatch, mistakes, comparisons."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import trtkit.perf
from trtkit.cli import run
from trtkit.cli.perf import command
from trtkit.cli.perf_compare import compared
from trtkit.cli.perf_flags import FLAGS, GROUPS
from trtkit.errors import ProjectError, ServerUnavailableError
from trtkit.perf.loop.records import Records
from trtkit.perf.statistics.runs import Run, RunSide


@pytest.fixture
def session(monkeypatch):
    """What a session is asked; it measures nothing."""
    asked = SimpleNamespace(options=None, urls=None, error=None)

    def run_session(options, urls, hooks):
        asked.options, asked.urls = options, urls
        if asked.error:
            raise asked.error

    monkeypatch.setattr(trtkit.perf, "session", SimpleNamespace(run=run_session, Hooks=SimpleNamespace), raising=False)
    return asked


def test_the_help_has_every_flag_under_a_heading(capsys):
    assert run(["perf", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: trtkit perf [OPTIONS] MODEL\n       trtkit perf compare [OPTIONS] A B\n")
    places = [out.index(f"\n{heading}:\n") for heading in GROUPS]
    assert places == sorted(places)
    for flag in FLAGS:
        for name in flag.names.split():
            assert name in out


def test_help_imports_nothing_of_the_load_generator():
    code = (
        "import sys; sys.argv = ['trtkit', 'perf', '--help']\n"
        "from trtkit.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([name for name in sys.modules if name.startswith(('trtkit.perf', 'numpy', 'rich'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_compare_is_a_command_only_as_the_first_word(session, capsys):
    assert run(["perf", "compare"]) == 2
    assert "Missing argument 'A'" in capsys.readouterr().err
    assert run(["perf", "compare", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: trtkit perf compare [OPTIONS] A B\n")
    assert run(["perf", "-m", "compare", "-u", "h:1"]) == 0
    assert session.options.model == "compare"


def test_the_session_gets_the_options_and_the_server(session, capsys):
    line = ["perf", "-c", "8", "digits", "--url", "h:1", "--metrics-url", "h:2/metrics", "--max-threads", "4"]
    assert run(line) == 0
    assert (session.options.model, list(session.options.concurrency)) == ("digits", [8])
    assert session.urls.http == session.urls.grpc == "h:1"
    assert (session.urls.metrics, session.urls.pid) == ("h:2/metrics", None)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "trtkit perf: --max-threads changes nothing: one loop keeps all requests in flight without threads; "
        "--processes adds processes"
    ]


@pytest.mark.parametrize(("flags", "url"), [((), "localhost:8000"), (("-i", "grpc", "--streaming"), "localhost:8001")])
def test_as_perf_analyzer_m_without_u_asks_this_machine(session, capsys, tmp_path, monkeypatch, flags, url):
    monkeypatch.chdir(tmp_path)
    assert run(["perf", "-m", "digits", *flags]) == 0
    assert session.urls.http == url
    assert url in capsys.readouterr().err
    assert run(["perf", "digits", *flags]) == 2
    assert "there is no model repository" in capsys.readouterr().err


def test_m_serves_a_repository_that_is_here(session, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_repository").mkdir()
    assert run(["perf", "-m", "digits"]) == 2
    assert "model 'digits' is not in model_repository" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [(ServerUnavailableError("gone"), 5, "trtkit perf: gone"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_an_error_before_anything_was_measured_prints_no_results(session, capsys, error, code, last_line):
    session.error = error
    assert run(["perf", "m", "-u", "h:1", "--json"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == last_line


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["perf"], 2, "no model is named"),
        (["perf", "m", "-c", "8", "--request-rate", "5"], 2, "exclude each other"),
        (["perf", "m", "--shape", "4"], 7, "NAME:"),
        (["perf", "m", "-c", "8", "--max-threads", "4", "--streaming"], 2, "--streaming is gRPC's"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_starts(session, capsys, line, code, words):
    assert run(line) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("trtkit perf: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert session.options is None


def test_an_unknown_flag_names_the_nearest(capsys):
    assert run(["perf", "m", "--concurency", "8"]) == 2
    assert "--concurrency" in capsys.readouterr().err


def test_the_command_takes_the_readmes_way():
    with command.make_context("perf", ["digits", "--concurrency", "8"]) as context:
        assert context.params["word"] == "digits"


def side(label, mean_ms, seed, requests=3000):
    """A closed loop of one request in flight; independent latencies."""
    rng = np.random.default_rng(seed)
    latency = np.maximum(rng.normal(mean_ms, 0.2, requests), 0.1)
    last = np.cumsum(latency * 1e6).astype(np.int64)
    sent = np.concatenate([[0], last[:-1]])
    zeros = np.zeros(requests, np.int32)
    records = Records(
        intended_ns=sent, sent_ns=sent, first_ns=last, last_ns=last, index=zeros, outcome=zeros, responses=zeros + 1,
        sequence=np.zeros(requests, np.int64), response_ns=np.zeros(0, np.int64), failures=(),
    )  # fmt: skip
    return RunSide(label, (Run(records, 0, int(last[-1])),))


def test_only_loads_of_both_sides_are_compared():
    found = compared([side("a", 5, 0), side("b", 5, 1)], [side("b", 5, 2), side("c", 5, 3)], "")
    assert [comparison.label for comparison in found.comparisons] == ["b"]
    assert found.unmatched == ("a", "c")
    assert found.problem == ""
    assert json.loads(json.dumps(found.to_json()))["failed"] is False
    found.require_common()
    with pytest.raises(ProjectError, match="no load was measured on both sides \\(a, c\\)"):
        compared([side("a", 5, 0)], [side("c", 5, 3)], "").require_common()


def test_a_gate_fires_on_a_large_change_only():
    before = [side("one", 5, 0)]
    assert "p50" in compared(before, [side("one", 8, 1)], "p50 > +10%").problem
    assert compared(before, [side("one", 5, 1)], "p50 > +10%").problem == ""
    with pytest.raises(ProjectError):
        compared(before, before, "p50 > 10")


SHORT = ("--warmup", "0.05", "--window", "0.1", "--stability", "10000")


@pytest.mark.triton
def test_every_report_is_written_and_two_bundles_are_compared(server, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["perf", "echo", "--url", server.http_url, "-c", "1,2", *SHORT, "-H", "Authorization: secret"]
    files = ["--report", "a/r.json", "--html", "r.html", "-f", "r.csv", "--profile-export-file", "p.json"]
    assert run([*line, *files, "--junit", "j.xml", "--bundle", "before", "--diagnose"]) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found >= {"a/r.json", "r.html", "r.csv", "p.json", "j.xml", "before/bundle.json"}
    assert "secret" not in (tmp_path / "before" / "bundle.json").read_text() + (tmp_path / "r.html").read_text()
    assert run([*line, "--bundle", "before"]) == 2, "a bundle replaces nothing, and nothing was measured"
    assert run([*line, "--bundle", "after", "--baseline", "before", "--fail-if", "p50 > +100000%", "--json"]) == 0
    capsys.readouterr()
    assert run(["perf", "compare", "before", "after", "--fail-if", "throughput < -99%", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in value["comparisons"]] == ["concurrency 1", "concurrency 2"]
    assert run(["perf", "compare", "before", "absent"]) == 7
    assert "absent is no bundle" in capsys.readouterr().err


@pytest.mark.triton
def test_a_search_says_what_holds(server, capsys):
    line = ["perf", "echo", "--url", server.http_url, "-c", "1:4", *SHORT, "--json"]
    assert run([*line, "--find-capacity", "p99 < 60 s"]) == 0
    capacity = json.loads(capsys.readouterr().out)["capacity"]
    assert (capacity["limit"], capacity["broke_at"]) == (4, None)
    assert run([*line, "--find-capacity", "p50 < 1 ns"]) == 9
    out, err = capsys.readouterr()
    assert json.loads(out)["capacity"]["limit"] is None
    assert "held at no load" in err.splitlines()[-1]


@pytest.mark.triton
def test_a_file_that_cannot_be_written_loses_no_other(server, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    line = ["perf", "echo", "--url", server.http_url, *SHORT]
    code = run([*line, "--report", str(tmp_path / "file" / "r.json"), "--junit", str(tmp_path / "j.xml")])
    assert code == 2
    assert (tmp_path / "j.xml").exists()
    out, err = capsys.readouterr()
    assert "echo over HTTP" in out
    assert "cannot be written" in err.splitlines()[-1]


@pytest.mark.triton
def test_perf_analyzers_line_measures_the_same_thing(server, capsys):
    line = (
        f"-m echo -u {server.grpc_url} -i gRPC -b 2 --concurrency-range 1:3:2 -p 100 -s 999 -r 5 "
        "--warmup-request-count 9 --percentile 95 --input-data zero --async --max-threads 8"
    )
    assert run(["perf", *line.split(), "--json"]) == 0
    out, err = capsys.readouterr()
    loads = [one["load"] for one in json.loads(out)["measurements"]]
    assert [load["concurrency"] for load in loads] == [1, 3]
    for load in loads:
        assert (load["protocol"], load["batch_size"], load["window_s"], load["percentile"]) == ("grpc", 2, 0.1, 95)
    assert "--max-threads changes nothing" in err


@pytest.mark.triton
def test_v_says_more(server, capsys):
    line = ["perf", "echo", "--url", server.http_url, *SHORT, "--request-rate", "100"]
    assert run([*line, "-v", "-v"]) == 0
    out = capsys.readouterr().out
    assert "100 requests/s (constant): from the intended time, ms: min " in out
    assert "schedule lag, ms: min " in out
    assert "requests in flight on average" in out
    assert out.count("100 requests/s (constant), window ") >= 5
    assert run(line) == 0
    assert "stddev" not in capsys.readouterr().out
