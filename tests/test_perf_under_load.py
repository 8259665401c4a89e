# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit validate --under-load`: every answer against the model's own reference, over each way to the server."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from trtkit.cli import run
from trtkit.perf import under_load
from trtkit.perf.under_load import WAYS

pytestmark = pytest.mark.triton


def validated(*arguments):
    return run(["validate", "digits", "--under-load", "--seconds", "0.5", *arguments])


def test_a_healthy_model_passes_over_every_way(built_sample, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(built_sample)
    assert validated("--json", "--junit", str(tmp_path / "junit.xml")) == 0
    found = json.loads(capsys.readouterr().out)["under_load"]
    assert [one["way"] for one in found] == list(WAYS)
    for one in found:
        assert one["verification"]["ok"]
        assert one["verification"]["checked"] > 20
        assert (one["verification"]["unchecked"], one["errors"], one["problem"]) == (0, 0, "")
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert [case.get("name") for case in cases][-3:] == [f"under load over {way}" for way in WAYS]


def test_rows_that_were_swapped_between_requests_fail_it(built_sample, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(built_sample)
    proof_of = under_load.proof_of

    def swapped(*args, **options):
        """As if the server had exchanged the answers of two requests of one row."""
        proof = proof_of(*args, **options)
        first, second = [place for place, one in enumerate(proof.requests) if len(next(iter(one.values()))) == 1][:2]
        expected = list(proof.expected)
        expected[first], expected[second] = expected[second], expected[first]
        return replace(proof, expected=expected)

    monkeypatch.setattr(under_load, "proof_of", swapped)
    assert validated("--junit", str(tmp_path / "junit.xml")) == 8
    out, err = capsys.readouterr()
    assert "as if the two were swapped" in out
    assert err.startswith("trtkit validate: model 'digits' version 1: under load over http ")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert len(root.findall(".//testcase/failure")) == len(WAYS)
