# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader takes and refuses the texts that the real server's C++ reader takes and refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lint_judge import Judge, open_judge
from trtkit import pbtxt
from trtkit.config import ModelConfig

# of a backend there is not: no model is started, and the text is read all the same
CONFIG = b"""
name: "m"
backend: "nowhere"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
# what follows that config
LINES = [
    b"",
    b"\r\n",
    b"# no line end",
    b"#\xff\xfe",
    b"\x00",
    b"\x0c\x0b",
    b"\xc2\xa0",
    b"version_policy: { all: { } }",
    b"version_policy < all < > >",
    b"version_policy { all { } }; ;",
    b"version_policy { all { } };",
    b"version_policy { all { } },",
    b"version_policy { all { } }, ,",
    b"version_policy [ { all { } } ]",
    b"version_policy { all }",
    b"version_policy { specific { versions: 1, versions: 1; } }",
    b"version_policy { specific { versions: [ 1, 1, ] } }",
    b"version_policy { specific { versions: [ ] versions: 1 } }",
    b"version_policy { specific { versions [ 1 ] } }",
    b"version_policy { latest { num_versions: 1 } latest { num_versions: 2 } }",
    b"version_policy { latest { } all { } }",
    b"version_policy { latest { num_versions: 01 } }",
    b"version_policy { latest { num_versions: 0x1 } }",
    b"version_policy { latest { num_versions: 09 } }",
    b"version_policy { latest { num_versions: - 1 } }",
    b"version_policy { latest { num_versions: 4294967296 } }",
    b"version_policy { latest { num_versions: 1u } }",
    b"version_policy { latest { num_versions: 1.0 } }",
    b'version_policy { latest { num_versions: "1" } }',
    b'runtime: "" runtime: ""',
    b"default_model_filename: 'model' '.py'",
    b'default_model_filename: "model\\.py"',
    b'default_model_filename: "model\\x2epy"',
    b'default_model_filename: "model\\56py"',
    b"default_model_filename: 'model.py\n'",
    b'metric_tags { key: "a" value: "b" } metric_tags { key: "a" value: "c" }',
    b'metric_tags { key: "a" }',
    b"metric_tags { }",
    b'metric_tags [ { key: "a" value: "b" }, { value: "c" } ]',
    b"metric_tags: [ ]",
    b'metric_tags { key: "a" key: "b" }',
    b'parameters { key: "\\u00e9" value { string_value: "\xc3\xa9" } }',
    b"dynamic_batching { preserve_ordering: True }",
    b"dynamic_batching { preserve_ordering: t }",
    b"dynamic_batching { preserve_ordering: 1 }",
    b"dynamic_batching { preserve_ordering: 2 }",
    b"dynamic_batching { preserve_ordering: TRUE }",
    b"dynamic_batching { preserve_ordering: yes }",
    b"dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } }",
    b"dynamic_batching { default_queue_policy { timeout_action: 1 } }",
    b"dynamic_batching { default_queue_policy { timeout_action: delay } }",
    b"dynamic_batching { default_queue_policy { timeout_action: 7 } }",
    b"dynamic_batching { max_queue_delay_microseconds: -1 }",
    b"dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }",
    b"dynamic_batching { max_queue_delay_microseconds: 18446744073709551616 }",
    b"instance_group { kind: KIND_CPU } instance_group [ { kind: KIND_CPU } ]",
    b"instance_group [ { kind: KIND_CPU }, ]",
    b"sequence_batching { direct { minimum_slot_utilization: 1f } }",
    b"sequence_batching { direct { minimum_slot_utilization: .5 } }",
    b"sequence_batching { direct { minimum_slot_utilization: 5.e-1 } }",
    b"sequence_batching { direct { minimum_slot_utilization: 0x1 } }",
    b"sequence_batching { direct { minimum_slot_utilization: -0 } }",
    b"sequence_batching { direct { minimum_slot_utilization: 01 } }",
    b"sequence_batching { direct { minimum_slot_utilization: 1e-400 } }",
    b"[a.b]: 1",
    b"[a.b] { c: 1 }",
    b"4: 8",
    b"max_batch_size { }",
    b"input: 4",
    b'Name: "m"',
    b"max_batch_size: 8",
    b"}",
    b"{ }",
    b"name",
    b'cc_model_filenames { key: "8.6" value: "model.py" }',
    b"max_batch_size:8output{}",
    b'dynamic_batching{}runtime:""',
    b"version_policy { latest { num_versions: 1 } }version_policy { latest { num_versions: 1 } }",
    b"version_policy { latest { num_versions: 1num_versions: 2 } }",
    b'default_model_filename: "model.py"metric_tags { }',
]


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with open_judge() as running:
        yield running


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_the_server_and_we_read_the_same(line: bytes, judge: Judge, tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_bytes(CONFIG + line)
    problems = pbtxt.read(CONFIG + line, ModelConfig).problems
    judgement = judge.judge(tmp_path)
    assert ("unable to find backend library" in judgement.log) != ("failed to read text proto" in judgement.log)
    assert bool(problems) == ("failed to read text proto" in judgement.log), f"{problems}\n{judgement.log}"
