# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""When a validated model passes, and what is said when it does not."""

from __future__ import annotations

import math

import pytest

from trtkit.numerics import Difference
from trtkit.validate import MetricResult, ModelReport, OutputResult


def metric(reference: float, served: float, max_drop: float = 0.01) -> MetricResult:
    return MetricResult("http", "top1", reference, served, max_drop)


@pytest.mark.parametrize(
    ("reference", "served", "passed"),
    [(0.97, 0.97, True), (0.97, 0.965, True), (0.97, 0.99, True), (0.97, 0.95, False), (0.97, math.nan, False)],
)
def test_a_metric_may_fall_by_its_budget_and_no_more(reference: float, served: float, passed: bool) -> None:
    assert metric(reference, served).passed is passed


def test_a_report_fails_for_an_output_and_for_a_metric() -> None:
    far = Difference(10, outside=2, worst=(1, 3), worst_reference="1", worst_actual="2")
    outputs = [OutputResult("http", "y", 1e-4, 1e-5, Difference(10)), OutputResult("grpc", "y", 1e-4, 1e-5, far)]
    report = ModelReport("m", 3, "fp32", 10, "data", outputs, [metric(0.97, 0.9), metric(0.97, 0.97)])
    output, top1 = report.problems()
    assert output.startswith("output 'y' over grpc: 2 of 10 elements outside rtol 0.0001 and atol 1e-05")
    assert output.endswith("the worst is element [1, 3]: served 2, reference 1")
    assert top1 == "top1 over http: served 0.9000, reference 0.9700, allowed drop 0.01"
    assert report.to_json()["passed"] is False
    assert ModelReport("m", 3, "fp32", 10, "data", outputs[:1], [metric(1, 1)]).to_json()["passed"] is True
