# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files for other programs: perf_analyzer's CSV and profile export as perf_analyzer 2.50 writes them, and JUnit."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime
from xml.etree import ElementTree

import numpy as np
import pytest

from perf_results import SECOND, STRANGE, measurement
from trtkit.errors import ProjectError
from trtkit.perf.checks.verify import Mismatch, Verification
from trtkit.perf.reports.junit import Case, cases_of, junit_xml, write_junit
from trtkit.perf.reports.pa_files import composing_csvs, csv_text, write_csv, write_profile_export

# the first lines of files that perf_analyzer 2.50 wrote, with -f and with -f --verbose-csv
PLAIN_HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
)
VERBOSE_HEADER = f"{PLAIN_HEADER},Avg latency,request/response,response wait"
METRICS_HEADER = f"{VERBOSE_HEADER},Avg GPU Utilization,Avg GPU Power Usage,Max GPU Memory Usage,Total GPU Memory"
RATE_PERCENTILE_HEADER = PLAIN_HEADER.replace("Concurrency", "Request Rate") + ",request/response,response wait"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_headers_are_perf_analyzers():
    one = [measurement()]
    assert csv_text(one).splitlines()[0] == PLAIN_HEADER
    assert csv_text(one, verbose=True).splitlines()[0] == VERBOSE_HEADER
    assert csv_text(one, verbose=True, metrics=True).splitlines()[0] == METRICS_HEADER
    open_loop = [measurement(rate=200, per_second=200)]
    assert csv_text(open_loop, verbose=True, percentile=95).splitlines()[0] == RATE_PERCENTILE_HEADER


def test_values_are_whole_microseconds_that_add_up_to_the_mean():
    one = measurement()
    (row,) = rows_of(csv_text([one], verbose=True))
    assert row["Concurrency"] == "8"
    assert row["Inferences/Second"] == f"{one.throughput_infer_per_s:g}"
    assert row["p99 latency"] == str(one.latency.p99_ns // 1000)
    parts = [name for name in row if name.startswith(("Client", "Network", "Server"))]
    assert sum(int(row[name]) for name in parts) == int(row["Avg latency"]) == one.latency.mean_ns // 1000


def test_rows_ascend_by_throughput_and_leave_out_what_never_succeeded():
    failed = measurement(concurrency=2, error_share=1.0)
    levels = [measurement(concurrency=8, per_second=400), measurement(concurrency=1, per_second=100), failed]
    assert [row["Concurrency"] for row in rows_of(csv_text(levels))] == ["1", "8"]


def test_another_percentile_has_its_column_in_order():
    one = measurement()
    (row,) = rows_of(csv_text([one], percentile=75))
    assert [name for name in row if name.startswith("p")] == [f"p{p} latency" for p in (50, 75, 90, 95, 99)]
    assert row["p75 latency"] == str(one.latency.p75_ns // 1000)


def test_streams_caches_and_gpus_have_their_columns():
    one = measurement(responses=5, gpu=True)
    one = replace(one, server=replace(one.server, cache_hit_count=1, cache_hit_ns=9_000, cache_miss_ns=8_000))
    (row,) = rows_of(csv_text([one], verbose=True, metrics=True))
    assert list(row)[2] == "Response Throughput"
    assert float(row["Response Throughput"]) == pytest.approx(5 * float(row["Inferences/Second"]), rel=1e-4)
    assert (row["Server Cache Hit"], row["Server Cache Miss"]) == ("9", "8")
    assert row["Max GPU Memory Usage"] == f"GPU-11:{3 * 2**30};"
    assert row["Avg GPU Utilization"].startswith("GPU-11:0.")


def test_a_server_that_said_nothing_leaves_all_to_the_network():
    one = replace(measurement(), server=None)
    (row,) = rows_of(csv_text([one]))
    assert row["Network+Server Send/Recv"] == str(one.latency.mean_ns // 1000)
    assert row["Server Queue"] == "0"


def test_the_models_of_an_ensemble_have_files_of_their_own_and_choose_no_folder(tmp_path):
    one = measurement(ensemble=True)
    write_csv(tmp_path / "deep" / "out.csv", [one])
    names = sorted(path.name for path in (tmp_path / "deep").iterdir())
    assert len(names) == 1 + len(one.composing)
    assert {"out.csv", "decode_v1.out.csv"} < set(names)
    assert not any("/" in name for name in composing_csvs([one], "out.csv"))
    (row,) = rows_of((tmp_path / "deep" / "decode_v1.out.csv").read_text())
    assert row["Inferences/Second"] == f"{one.throughput_infer_per_s:g}"
    assert row["Server Compute Infer"] == str(one.composing[0].compute_infer_ns // 1000)


def export_of(tmp_path, *measurements, inputs=()):
    write_profile_export(tmp_path / "export.json", measurements, inputs)
    return json.loads((tmp_path / "export.json").read_text())


def test_the_profile_export_has_every_successful_request_of_every_window(tmp_path):
    one = measurement(error_share=0.1)
    value = export_of(tmp_path, one, measurement(rate=200.0, per_second=200))
    assert {name: value[name] for name in value if name != "experiments"} == {
        "version": "",
        "service_kind": "triton",
        "endpoint": "",
    }
    closed, paced = value["experiments"]
    assert closed["experiment"] == {"mode": "concurrency", "value": 8}
    assert paced["experiment"] == {"mode": "request_rate", "value": 200.0}
    assert len(closed["requests"]) == int(one.all_records.ok.sum())
    assert list(closed["requests"][0]) == ["timestamp", "request_inputs", "response_timestamps", "response_outputs"]
    latencies = [request["response_timestamps"][0] - request["timestamp"] for request in closed["requests"]]
    assert latencies == one.all_records.where(one.all_records.ok).latency_ns.tolist()


def test_window_boundaries_are_on_the_wall_clock(tmp_path):
    one = measurement()
    boundaries = export_of(tmp_path, one)["experiments"][0]["window_boundaries"]
    assert len(boundaries) == len(one.windows) + 1
    assert np.diff(boundaries).tolist() == [window.duration_ns for window in one.windows]
    assert boundaries[0] == int(datetime.fromisoformat(one.started_at).timestamp()) * SECOND


def test_streams_have_all_their_responses_and_sequences_their_id(tmp_path):
    one = measurement(responses=4)
    records = replace(one.all_records, sequence=np.full(len(one.all_records), 7))
    value = export_of(tmp_path, replace(one, all_records=records), inputs=[{"x": [1.5, 2]}])
    request = value["experiments"][0]["requests"][3]
    assert request["sequence_id"] == 7
    assert request["request_inputs"] == {"x": [1.5, 2]}
    assert request["response_outputs"] == [{}] * 4
    differences = np.diff(request["response_timestamps"])
    assert differences.tolist() == np.diff(one.all_records.response_ns[12:16]).tolist()


@pytest.mark.parametrize("write", [write_csv, write_profile_export])
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="out cannot be written: "):
        write(tmp_path / "file" / "out", [measurement()])


def parsed(text):
    return ElementTree.fromstring(text.encode())


def test_junit_has_a_case_a_load_with_its_reason():
    root = parsed(junit_xml("digits", cases_of([measurement(), measurement(concurrency=16, stable=False)])))
    good, bad = root.findall(".//testcase")
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert good.find("failure") is None
    assert good.get("classname") == "trtkit.perf.digits.load"
    assert "inferences/s" in good.findtext("system-out")
    assert bad.find("failure").get("message") == "concurrency 16 is unstable"


def test_junit_has_verifications_and_gates():
    mismatch = Mismatch(3, "row 2 belongs to request 4")
    one = replace(measurement(), verification=Verification(100, 1, 0, (mismatch,)))
    cases = [
        *cases_of([one], fail_on_errors=True),
        Case("gate", "p99 > +10%"),
        Case("slo", "p99 < 5 ms", "p99 is 6 ms"),
    ]
    root = parsed(junit_xml("digits", cases))
    failures = {case.get("name"): case.find("failure") for case in root.iter("testcase")}
    assert failures["answers at concurrency 8"].get("type") == "verify"
    assert "row 2 belongs to request 4" in failures["answers at concurrency 8"].text
    assert failures["p99 > +10%"] is None
    assert failures["p99 < 5 ms"].text == "p99 is 6 ms"


def test_junit_is_well_formed_whatever_a_server_says(tmp_path):
    nasty = STRANGE + "]]>\x00\x0b\ud800\ufffe\u2028"
    one = measurement(model=nasty, error_share=1.0)
    one = replace(one, errors=(replace(one.errors[0], message=nasty),), warnings=(nasty,))
    write_junit(tmp_path / "deep" / "junit.xml", nasty, cases_of([one]))
    root = ElementTree.parse(tmp_path / "deep" / "junit.xml").getroot()
    assert "<b>me" in root.find(".//failure").get("message")
