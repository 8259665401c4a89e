# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of protobuf text: what it accepts, where things stand, and that nothing makes it raise."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config_strategies import configs
from trtkit import pbtxt
from trtkit.config import ModelConfig

TEXT = """\
# a model
name: "m"  # its name
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 4, -1 ] },
  { name: 'y' data_type: TYPE_INT64 dims: 3; dims: 5 }
]
parameters { key: "k" value { string_value: "a" "b" } }
dynamic_batching < priority_queue_policy: { key: 2, value: { max_queue_size: 9 } } >
"""


def read(text: str | bytes) -> pbtxt.Document:
    return pbtxt.read(text, ModelConfig)


def kinds(text: str | bytes) -> list[tuple[str, tuple[int, int]]]:
    document = read(text)
    return [(problem.kind, document.position(problem.offset)) for problem in document.problems]


def test_the_place_of_everything() -> None:
    document = read(TEXT)
    assert document.problems == []
    assert document.message == text_format.Parse(TEXT, ModelConfig())
    places = {
        ("name",): (2, 1),
        ("input",): (3, 1),
        ("input", 0): (4, 3),
        ("input", 0, "dims", 1): (4, 47),
        ("input", 1, "dims"): (5, 37),
        ("input", 1, "dims", 1): (5, 46),
        ("parameters", "k"): (7, 1),
        ("parameters", "k", "string_value"): (7, 31),
        ("dynamic_batching", "priority_queue_policy", 2, "max_queue_size"): (8, 62),
    }
    assert {path: document.where(path) for path in places} == places
    assert document.where(("input", 0, "reshape", "shape")) == (4, 3), "what is not written stands in what is around it"
    assert document.where(("backend",)) == (1, 1)
    span = document.spans["parameters", "k", "string_value"]
    assert TEXT[span.value : span.end] == '"a" "b"'
    assert [(c.text, c.alone) for c in document.comments] == [("# a model", True), ("# its name", False)]
    assert TEXT[document.bodies["input", 1]] == "}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name "m"', [("syntax", (1, 6))]),
        ('name = "m"', [("syntax", (1, 6))]),
        ("name: m", [("value", (1, 7))]),
        ('nam: "m"\nbackend: 1', [("unknown_field", (1, 1)), ("value", (2, 10))]),
        ('input { nme: "x" dms: [1] }', [("unknown_field", (1, 9)), ("unknown_field", (1, 18))]),
        ("max_batch_size: 1\nmax_batch_size: 2", [("duplicate", (2, 1))]),
        ("version_policy { all { } latest { } }", [("oneof", (1, 26))]),
        ("max_batch_size: 2147483648", [("value", (1, 17))]),
        ("max_batch_size: -2147483648", []),
        ("max_batch_size: 1.5", [("value", (1, 17))]),
        ("max_batch_size: 0x10", []),
        ("max_batch_size: 010", []),
        ("max_batch_size: 08", [("value", (1, 17))]),
        ("input { dims: [ 1, ] }", [("syntax", (1, 20))]),
        ("input { dims: [ ] }", []),
        ("input { optional: maybe }", [("value", (1, 19))]),
        ("input { optional: t }", []),
        ("input { optional: 1 }", []),
        ("input { data_type: FP32 }", [("value", (1, 20))]),
        ("input { data_type: 11 }", []),
        ("input {", [("syntax", (1, 8))]),
        ("input { name: 'x }", [("syntax", (1, 15))]),
        ("}", [("syntax", (1, 1))]),
        ("[a.b]: 1", [("unknown_field", (1, 1))]),
        (b"name: \"\xff\"", [("value", (1, 7))]),
        (b"# \xff\nname: \"x\"", []),
        (b"\xef\xbb\xbfname: \"x\"", [("syntax", (1, 1))]),
        (b"\x00\x01", [("syntax", (1, 1))]),
        ("max_batch_size: 8x", [("syntax", (1, 18))]),
        (r'name: "\a\n\x41\101\u00e9\U0001f600\?\\"', []),
        (r'name: "\q"', [("syntax", (1, 8))]),
        (r'name: "\x"', [("syntax", (1, 8))]),
        (r'name: "\u12"', [("syntax", (1, 8))]),
        (r'name: "\U12345678"', [("syntax", (1, 8))]),
        ("", []),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place(text: str | bytes, expected: list[tuple[str, tuple[int, int]]]) -> None:
    assert kinds(text) == expected


def test_reading_goes_on_after_a_mistake() -> None:
    document = read(
        'name = "m"\nmax_batchsize: 4\ninput { name: "x" dims: [ }\noutput { name: "y" }\nbackend: "python"\n'
    )
    assert [problem.kind for problem in document.problems] == ["syntax", "unknown_field", "syntax"]
    assert document.message.backend == "python"
    assert [tensor.name for tensor in document.message.output] == ["y"]


def test_an_unknown_field_names_the_nearest() -> None:
    (problem,) = read("input [ { type: TYPE_FP32 } ]\nbackend: 'python'").problems
    assert problem.suggestion == "data_type"
    assert 'Message type "inference.ModelInput" has no field named "type"; did you mean' in problem.message
    (problem,) = read("dynamic_batch { a: [ 1, 2 ] b < c: 'x' > }\nbackend: 'python'").problems
    assert problem.suggestion == "dynamic_batching"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("input { data_type: FP32 }", "TYPE_FP32"),
        ('input { data_type: "TYPE_INT8" }', "TYPE_INT8"),
        ("input { data_type: type_bool }", "TYPE_BOOL"),
        ("instance_group { kind: GPU }", "KIND_GPU"),
        ("input { data_type: FLOAT32 }", None),
    ],
)
def test_a_name_of_an_enum_without_its_prefix_is_known(text: str, meant: str | None) -> None:
    (problem,) = read(text).problems
    assert problem.suggestion == meant
    assert meant is None or f"; did you mean '{meant}'? (available: " in problem.message


def test_a_config_in_utf_16_is_told_so() -> None:
    problem = read("name: 'm'".encode("utf-16")).problems[0]
    assert problem.message == r"expected a field name, found '\xff'; save the file as UTF-8, not as UTF-16"


@pytest.mark.parametrize("text", ['model_path: "a"', "max_batchsize { }", "instance_kind: 1"])
def test_a_field_with_another_kind_of_value_is_not_the_nearest(text: str) -> None:
    (problem,) = read(text).problems
    assert problem.suggestion is None
    assert "max_batch_size, metric_tags" in problem.message, "all fields are listed"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("max_batch_size: ${triton_max_batch_size}", "found '$'; fill in the template's ${...} first"),
        ("// a model", "found '/'; a comment begins with #"),
        ("max_batch_size: 8 /* more */", "found '/'; a comment begins with #"),
        ("backend: \u201cpython\u201d", "; write straight quotes"),
        ("\ufeffbackend: 'python'", "; save the file without a byte order mark"),
        ("input { dims: [ 1, ] }", "found ']'; remove the comma before it"),
        ("input [ { name: 'x' }, ]", "found ']'; remove the comma before it"),
        ("input [ ] ]", "expected a field name, found ']'"),
    ],
)
def test_what_was_probably_meant(text: str, hint: str) -> None:
    assert read(text).problems[0].message.endswith(hint)


def test_problems_are_not_endless() -> None:
    assert len(read("x: 1\n" * 10_000).problems) == pbtxt.MAX_PROBLEMS


@settings(max_examples=300)
@given(
    configs(),
    st.sampled_from(
        [
            {},
            {"as_one_line": True},
            {"use_short_repeated_primitives": True},
            {"pointy_brackets": True},
            {"as_utf8": True},
        ]
    ),
)
def test_every_message_is_read_back(config: ModelConfig, options: dict[str, bool]) -> None:
    document = read(text_format.MessageToString(config, **options))
    assert document.problems == []
    assert document.message == config


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """The text of a config with some pieces changed."""
    text = text_format.MessageToString(draw(configs()), as_one_line=draw(st.booleans()))
    pieces = [
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        ":",
        ",",
        ";",
        "-",
        '"',
        "'",
        "#",
        "\n",
        " ",
        "0x",
        "1e5",
        "name",
        "x",
        "8",
        "\x00",
        "é",
    ]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 4)))
        text = text[:start] + draw(st.sampled_from(["", *pieces])) + text[end:]
    return text


@settings(max_examples=1000)
@given(mangled())
def test_it_refuses_what_protobuf_refuses(text: str) -> None:
    assume("\\" not in text)  # Python's escapes are not those of C++
    try:
        parsed = text_format.Parse(text, ModelConfig())
    except (text_format.ParseError, UnicodeError):
        assert read(text).problems
        return
    document = read(text)
    assert document.problems == []
    assert document.message == parsed


@settings(max_examples=1000)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_nothing_makes_it_raise(text: str | bytes) -> None:
    document = read(text)
    for problem in document.problems:
        assert 0 <= problem.offset <= problem.end <= len(document.text) + 1
