# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What rules are made of, at its edges: edits of a config, the server's flags, arguments of calls, sizes of data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from lint_repositories import TENSORS as SINGLE
from lint_repositories import findings, lint, write_files, write_model
from test_lint_onnx_header import header_of
from trtkit.config import ModelConfig
from trtkit.errors import ProjectError
from trtkit.lint.data_files import string_problem
from trtkit.lint.edits import insertion, removal, removed
from trtkit.lint.finding import Edit
from trtkit.lint.flags import Need, flags_for, is_met
from trtkit.lint.python_source import argument
from trtkit.lint.rules import RULES
from trtkit.lint.run import open_repository
from trtkit.lint.selection import find_rule
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.shapes import agree
from trtkit.lint.tree import LocalTree
from trtkit.pbtxt import Path as Place
from trtkit.pbtxt import read


def applied(text: str, edits: tuple[Edit, ...]) -> str:
    for edit in sorted(edits, key=lambda each: each.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


# -- edits


@pytest.mark.parametrize(
    ("text", "path", "left"),
    [
        ('name: "m"\nbackend: "b"\n', ("name",), 'backend: "b"\n'),
        ('backend: "b"\nname: "m"', ("name",), 'backend: "b"\n'),
        ('name: "m" backend: "b"\n', ("name",), ' backend: "b"\n'),
        ('backend: "b" name: "m"\n', ("name",), 'backend: "b" \n'),
        ('name: "m"  # a remark\n', ("name",), "  # a remark\n"),
        ('name: "m", backend: "b"\n', ("name",), 'backend: "b"\n'),
        ('  name: "m" ;  \nbackend: "b"\n', ("name",), 'backend: "b"\n'),
        ("input { dims: [ 1, 2, 3 ] }", ("input", 0, "dims", 0), "input { dims: [ 2, 3 ] }"),
        ("input { dims: [ 1, 2, 3 ] }", ("input", 0, "dims", 2), "input { dims: [ 1, 2 ] }"),
        ("input { dims: [ 1 ] }", ("input", 0, "dims", 0), "input { dims: [  ] }"),
        (",dims: 1", ("nothing",), ",dims: 1"),
    ],
)
def test_what_is_left_when_a_field_is_removed(text: str, path: Place, left: str) -> None:
    document = read(text, ModelConfig)
    assert applied(text, removal(document, path).edits if path in document.spans else ()) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("input { dims: 1 dims: 2 }", "input {   }"),
        ("input { dims: [ 1, 2 ] }", "input {  }"),
        ("input { dims: [ 1, 2 ] dims: 3 }", "input {   }"),
        ("input { dims: 1 optional: true dims: 2 }", "input {  optional: true  }"),
    ],
)
def test_every_place_of_a_field_is_removed(text: str, left: str) -> None:
    document = read(text, ModelConfig)
    change = removed(document, ("input", 0, "dims"))
    assert change is not None
    assert applied(text, change.edits) == left
    assert removed(document, ("input", 0, "reshape")) is None


@pytest.mark.parametrize(
    ("text", "parent", "after"),
    [
        ("", (), "new\n"),
        ('name: "m"', (), 'name: "m"\nnew\n'),
        ('name: "m"\n', (), 'name: "m"\nnew\n'),
        ("input {\n}\n", ("input", 0), "input {\n  new\n}\n"),
        ("input { optional: true }", ("input", 0), "input { optional: true new }"),
        ("input {optional: true}", ("input", 0), "input {optional: true new }"),
    ],
)
def test_a_line_is_added(text: str, parent: Place, after: str) -> None:
    assert applied(text, (insertion(read(text, ModelConfig), parent, "new"),)) == after


def mended(root: Path, config: str, capture: pytest.CaptureFixture[str]) -> str:
    model = write_model(root, "m", config)
    lint(capture, str(root), "--select", "IGN", "--fix")
    return (model / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("max_batch_size: 8  # trtkit: ignore=NAM999", "max_batch_size: 8"),
        ("max_batch_size: 8  # why  # trtkit: ignore=NAM999", "max_batch_size: 8  # why"),
        ("# trtkit: ignore=NAM999\nmax_batch_size: 8", "max_batch_size: 8"),
    ],
)
def test_a_comment_that_ignores_no_rule_is_taken_out(
    line: str, left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = mended(tmp_path, f'backend: "python"\n{line}\n{SINGLE}', capsys)
    assert "NAM999" not in text
    assert text == f'backend: "python"\n{left}\n{SINGLE}'
    assert read(text, ModelConfig).problems == []


def test_a_comment_at_the_end_of_a_file_without_a_last_line_is_taken_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'backend: "python"\n{SINGLE}'
    assert mended(tmp_path, f"{text}# trtkit: ignore=NAM999", capsys) == text


# -- flags


@pytest.mark.parametrize(
    ("option", "flags", "met"),
    [
        ("cache-config", (), False),
        ("cache-config", ("--cache-config=local,size=1",), True),
        ("cache-config", ("--response-cache-byte-size=0",), False),
        ("cache-config", ("--response-cache-byte-size=1",), True),
        ("metrics-config", ("--metrics-config=histogram_latencies=true",), True),
        ("metrics-config", ("--metrics-config", "histogram_latencies=TRUE"), True),
        ("metrics-config", ("--metrics-config=histogram_latencies=false",), False),
        ("metrics-config", ("--metrics-config=counter_latencies=true", "--metrics-config=histogram_latencies=1"), True),
        ("rate-limit", ("--rate-limit=off",), False),
        ("rate-limit", ("--rate-limit=execution_count",), True),
    ],
)
def test_a_need_is_met(option: str, flags: tuple[str, ...], met: bool) -> None:
    assert is_met(Need(option, f"--{option}=x", (), ""), ServerFacts(flags)) is met


def test_flags_that_a_repository_needs(tmp_path: Path) -> None:
    write_model(tmp_path, "a", f'backend: "python"\n{SINGLE}response_cache {{ enable: true }}\n')
    limited = f'backend: "python"\n{SINGLE}instance_group {{ host_policy: "p" rate_limiter {{ priority: 1 }} }}\n'
    write_files(write_model(tmp_path, "b", SINGLE), {"configs/v.pbtxt": limited})
    repository = open_repository(LocalTree(tmp_path), ServerFacts())
    cache, limit = "--cache-config=local,size=104857600", "--rate-limit=execution_count"
    assert list(flags_for(repository, ())) == [cache]
    assert list(flags_for(repository, ("--cache-config=redis,host=h",))) == []
    assert list(flags_for(repository, ("--model-config-name=v",))) == [cache, limit]
    assert list(flags_for(repository, ("--model-config-name=v",), ["b"])) == [limit]
    assert list(flags_for(repository, ("--model-config-name=w",), ["b"])) == []


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        (("--a=1", "--a", "2"), ["1", "2"]),
        (("--a", "--b"), [""]),
        (("--a",), [""]),
        (("--ab=1", "--b", "--a=x=y"), ["x=y"]),
    ],
)
def test_the_values_of_an_option(flags: tuple[str, ...], values: list[str]) -> None:
    assert ServerFacts(flags).option("a") == values


def test_what_has_to_be_known_of_a_server() -> None:
    assert ServerFacts((), None, "2.51", 0).complete
    assert not ServerFacts(None, None, "2.51", 0).complete
    assert not ServerFacts((), None, None, 0).complete
    assert not ServerFacts((), None, "2.51", None).complete


# -- the rest


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("f(1, 2)", "2"),
        ("f(1)", None),
        ("f(1, k=3)", "3"),
        ("f(*a, 2)", None),
        ("f(1, *a)", None),
        ("f(1, 2, *a)", "2"),
    ],
)
def test_the_second_argument_of_a_call(code: str, found: str | None) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    value = argument(call, 1, "k")
    assert (None if value is None else ast.unparse(value)) == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\1\0\0\0a\0\0\0\0", ""),
        (b"\1\0\0\0a", "expected 2 string elements, got 1"),
        (b"\1\0\0\0a\0\0", "incomplete string length indicator, expecting 4 bytes but only 2 bytes available"),
        (b"\1\0\0\0a\2\0\0\0b", "incomplete string data, expecting string of length 2 but only 1 bytes available"),
        (b"\0\0\0\0" * 3, "unexpected number of string elements 3, expecting 2"),
    ],
)
def test_two_strings(data: bytes, words: str) -> None:
    assert string_problem(data, 2) == words


def test_a_weight_is_in_another_file_only_where_it_says_so() -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"1234")
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "9" * 20)):
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph([], "g", [], [], [weight])
    assert header_of(helper.make_model(graph).SerializeToString()).external_data == {}
    weight.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph([], "g", [], [], [weight])
    assert dict(header_of(helper.make_model(graph).SerializeToString()).external_data) == {"w.bin": 4}
    del weight.external_data[:]
    weight.external_data.add(key="offset", value="4")
    graph = helper.make_graph([], "g", [], [], [weight])
    assert header_of(helper.make_model(graph).SerializeToString()).external_data == {}, "it does not say where"


def test_shapes_go_together() -> None:
    assert agree([-1, 4], [8, 4])
    assert agree([], [])
    assert not agree([4], [4, 4])
    assert not agree([5], [4])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("bat02", "did you mean 'BAT002'?"),
        ("no-dynamic-batchin", "did you mean 'no-dynamic-batching'?"),
        ("BA", "lists all"),
    ],
)
def test_a_rule_that_there_is_not(word: str, hint: str) -> None:
    with pytest.raises(ProjectError) as caught:
        find_rule(RULES, word)
    assert hint in str(caught.value)


def test_findings_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "m/notes/x": "",
            "m/config.pbtxt": f'backend: "python"\nmax_batch_size: -1\n{SINGLE}output {{ }}\n',
            "x.onnx": "",
        },
    )
    found = findings(tmp_path)
    assert [each.file for each in found] == sorted(each.file for each in found)
    lines = [each.line or 0 for each in found if each.file == "m/config.pbtxt"]
    assert len(lines) > 1
    assert lines == sorted(lines)
