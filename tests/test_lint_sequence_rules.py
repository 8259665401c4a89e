# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules for sequences, states and warm-ups beyond their golden folders."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lint_judge import Judge, open_judge
from lint_repositories import findings, write_files
from lint_sequence_strategies import Drawn, sequence_models, write
from test_lint_agreement import STRICT, run
from trtkit.lint.data_files import byte_size, data_file, string_problem
from trtkit.lint.finding import Finding
from trtkit.lint.model import Model
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree

OWN = [each for each in RULES if each.category in ("SEQ", "STA", "WRM")]
HEAD = 'backend: "python" max_batch_size: 4 output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }\n'
X = 'input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }\n'


def linted(folder: Path, text: str, files: dict[str, bytes] | None = None) -> list[Finding]:
    write_files(folder / "m", {"1/model.py": b"", "config.pbtxt": text, **(files or {})})
    return findings(folder, OWN)


def codes(folder: Path, text: str, files: dict[str, bytes] | None = None) -> list[str]:
    return sorted(found.code for found in linted(folder, text, files))


def model_of(folder: Path) -> Model:
    return open_repository(LocalTree(folder), ServerFacts()).models["m"]


def test_all_mistakes_are_found_not_only_the_first(tmp_path: Path) -> None:
    text = (
        HEAD + X + "sequence_batching { control_input { control { kind: CONTROL_SEQUENCE_START } }"
        ' control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID int32_false_true: [ 0 ] } }'
        " oldest { preferred_batch_size: [ 0, 5, 9 ] } }"
        ' model_warmup { batch_size: 5 inputs { key: "x" value { data_type: TYPE_INT8 dims: [ 5 ] } } }'
    )
    of_sequences = ["SEQ001", "SEQ004", "SEQ007", "SEQ008", "SEQ009", "SEQ010", "SEQ010"]
    assert codes(tmp_path, text) == [*of_sequences, "WRM003", "WRM008", "WRM009", "WRM010", "WRM015"]


def test_nothing_is_said_of_the_inputs_of_a_model_that_completes_itself(tmp_path: Path) -> None:
    value = "value { data_type: TYPE_FP32 dims: [ 3 ] zero_data: true }"
    assert codes(tmp_path, HEAD + f'model_warmup {{ batch_size: 9 inputs {{ key: "q" {value} }} }}') == []


def test_a_passive_model_is_not_warmed_up(tmp_path: Path) -> None:
    wrong = 'model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 9 ] } } }\n'
    assert codes(tmp_path, HEAD + X + wrong + "instance_group { passive: true }") == []
    mixed = "instance_group { passive: true } instance_group { }"
    assert codes(tmp_path, HEAD + X + wrong + mixed) == ["WRM003", "WRM009"]


def test_the_place_is_the_values_own(tmp_path: Path) -> None:
    value = "value {\n    data_type: TYPE_INT8 dims: [ 4 ] zero_data: true }"
    text = HEAD + X + f'model_warmup {{\n  batch_size: 1\n  inputs {{ key: "x" {value} }}\n}}'
    (found,) = linted(tmp_path, text)
    assert (found.code, found.line, found.column) == ("WRM008", 6, 5)


def test_a_fix_mends_its_finding(tmp_path: Path) -> None:
    value = "value { data_type: TYPE_INT8 dims: [ 1, 4 ] zero_data: false }"
    text = (
        f'{HEAD}{X}model_warmup {{\n  batch_size: 9\n  inputs {{ key: "x" {value} }}\n}}\n'
        "sequence_batching { oldest { preferred_batch_size: [ 0, 4 ] } }\nresponse_cache { enable: true }\n"
    )
    assert codes(tmp_path, text) == ["SEQ009", "SEQ012", "WRM008", "WRM009", "WRM010", "WRM017"]
    for _ in range(6):
        found = next(each for each in linted(tmp_path, text) if each.fix is not None)
        assert found.fix is not None
        for edit in found.fix.edits:
            text = text[: edit.start] + edit.text + text[edit.end :]
    assert codes(tmp_path, text) == []


def test_a_file_outside_the_folder_is_not_judged(tmp_path: Path) -> None:
    linted(tmp_path, HEAD, {"data": b"", "warmup/of/a": b"1234"})
    model = model_of(tmp_path)
    assert data_file(model, "warmup", "../data") is None
    below, absolute, folder = (data_file(model, "warmup", name) for name in ("of/a", "/of/a", "of"))
    assert below is not None
    assert below.entry is not None
    assert below.entry.size == 4
    assert absolute == below
    assert folder is not None
    assert "it is a folder" in folder.words


def test_a_folder_in_the_files_place_is_an_error(tmp_path: Path) -> None:
    value = 'value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "x" }'
    text = HEAD + X + f'model_warmup {{ batch_size: 1 inputs {{ key: "x" {value} }} }}'
    assert codes(tmp_path, text, {"warmup/x/inside": b""}) == ["WRM004"]


@given(st.lists(st.binary(max_size=5), max_size=5), st.binary(max_size=6))
def test_strings_are_counted_as_they_are_written(strings: list[bytes], tail: bytes) -> None:
    data = b"".join(struct.pack("<I", len(each)) + each for each in strings)
    assert string_problem(data, len(strings)) == ""
    assert string_problem(data, len(strings) + 1) != ""
    if strings:
        assert string_problem(data, len(strings) - 1) != ""
        assert string_problem(data[:-1], len(strings)) != ""
    if tail:
        assert string_problem(data + tail, len(strings)) != ""


def test_unknown_types_count_as_four_bytes() -> None:
    sizes = [
        byte_size(name, [2, 3])
        for name in ("TYPE_BOOL", "TYPE_BF16", "TYPE_INT64", "TYPE_STRING", "TYPE_INVALID", "99")
    ]
    assert sizes == [6, 12, 48, 24, 24, 24]
    assert byte_size("TYPE_FP32", []) == 4


@pytest.fixture(scope="module", params=[False, True], ids=["completing", "strict"])
def judge(request: pytest.FixtureRequest) -> Iterator[tuple[Judge, bool]]:
    with open_judge([STRICT] if request.param else []) as running:
        yield running, request.param


@pytest.mark.triton
def test_lint_and_the_server_agree_on_sequence_models(judge: tuple[Judge, bool]) -> None:
    run(30, judge[0], sequence_models(), write, strict=judge[1])


@given(sequence_models())
def test_no_drawn_model_makes_lint_stumble(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    write(folder, drawn)
    findings_of(open_repository(LocalTree(folder), ServerFacts()), RULES)
