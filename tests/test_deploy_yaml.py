# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Rendered YAML says what was meant, to readers of YAML 1.1 (PyYAML) and of 1.2 (ruamel.yaml)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.yaml_out import dump, dump_all

TRAPS = [
    "yes", "No", "on", "OFF", "y", "N", "true", "~", "null", "Null", "NULL", "", " ", "1", "1.0", "1e3", "0x1f", "0o17",
    "017", "1_000", "12:30:45", "2024-01-01", ".inf", "-.Inf", ".nan", "=", "<<", "!tag", "&anchor", "*alias", "- item",
    "a: b", "a:", ":a", "a #b", "#a", "@a", "`a", "%a", "{a", "[a", "]", "}", ",", "?", "? a", "|", ">", "'", '"',
    "a'b", 'a"b', "\\", "\t", "a\tb", "---", "...", "--- a", "\x00", "\x07", "\x7f", "\x85", "\xa0", "\u2028", "\u2029",
    "\ufeff", "\ufffe", "\U0001f600", "ä", "中文", "a\nb", "a\nb\n", "a\nb\n\n", "\na", "\n", "a\n\nb", " a\nb",
    "a \nb",
    "a\n b", "#a\nb", "a\r\nb", "a\rb", "http://a:1/b", "s3://https://h:1/b/c", "nvcr.io/a/b:25.01-py3", "a\n\tb\n",
    "inf", "nan", "Infinity", "NaN", "None", "1.30", "8.9", "0.1", "+1", "-1", "-", "--flag=1", "/v2/health/ready",
]  # fmt: skip
strings = st.sampled_from(TRAPS) | st.text(max_size=20) | st.text("ab \n#:-'\"\t", max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | strings


def _nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    mappings = st.dictionaries(strings, values, max_size=4)
    return st.lists(values, max_size=4) | mappings | st.builds(Noted, values, st.text(max_size=12))


documents = st.recursive(scalars, _nested, max_leaves=20)


def read(text: str) -> list[Any]:
    """A document as each reader takes it."""
    return [yaml.safe_load(text), YAML(typ="safe", pure=True).load(text)]


@settings(deadline=None)
@given(documents)
@example({"a": [{"b": "x\ny\n"}, [["c"]], [], {}, [{}], {"d": {}}]})
@example([Noted({"a": Noted("x\ny", "why"), "b": [1]}, "above")])
@example({"a": Noted(Noted(1, "inner"), "outer")})
@example([1e16, 1e-7, 1.5e300, 5e-324, -0.0, math.inf, -math.inf, 10**30])
@example([[Noted("a", "b\x00c\u2028d # e")]])
def test_what_is_read_is_what_was_written(value: Any) -> None:
    assert read(dump(value)) == [plain(value)] * 2


@pytest.mark.parametrize("text", TRAPS)
def test_strings_stay_strings_wherever_they_stand(text: str) -> None:
    for value in (text, [text], {"key": text}, {text: "value"}, {"a": [{"b": text, "c": 1}]}, [[text]]):
        assert read(dump(value)) == [value] * 2


@settings(deadline=None)
@given(st.lists(documents, min_size=1, max_size=4), st.text(max_size=30))
def test_several_documents_in_one_file(values: list[Any], comment: str) -> None:
    assert list(yaml.safe_load_all(dump_all(values, comment=comment))) == [plain(value) for value in values]


def test_not_a_number() -> None:
    assert all(math.isnan(value) for value in read(dump(math.nan)))


def test_comments_stand_beside_their_values() -> None:
    text = dump(
        {"a": Noted(1, "why\n1"), "b": [Noted("x", "why x"), {"c": Noted({"d": 2}, "why c")}]}, comment="above\n\nit"
    )
    assert text == (
        "# above\n#\n# it\n"
        "a: 1  # why 1\n"
        "b:\n"
        "  - x  # why x\n"
        "  - c:  # why c\n"
        "      d: 2\n"
    )  # fmt: skip


def test_both_comments_of_one_value() -> None:
    assert dump({"a": Noted(Noted(1, "inner"), "outer")}) == "a: 1  # outer; inner\n"


def test_lines_of_text_stay_readable() -> None:
    assert dump({"rule": "sum by (a) (\n  b\n)\n"}) == "rule: |\n  sum by (a) (\n    b\n  )\n"
