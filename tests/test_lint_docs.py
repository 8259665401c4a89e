# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every rule has a code, a page with examples, a golden case, and stands in the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from trtkit.config import ModelConfig
from trtkit.lint.pages import documents, page_of
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.pbtxt import read

ROOT = Path(__file__).resolve().parents[1]
LINT_MD = ROOT / "docs" / "lint.md"
CASES = [case.name for case in sorted((ROOT / "tests" / "lint").iterdir()) if case.is_dir()]
FIELDS = {field.name for field in ModelConfig.DESCRIPTOR.fields}

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def renew() -> None:
    """Write the generated documents; `python tests/test_docs.py` calls it."""
    for name, text in documents(RULES, LINT_MD.read_text()).items():
        (ROOT / "docs" / name).parent.mkdir(exist_ok=True)
        (ROOT / "docs" / name).write_text(text)


def is_pbtxt(example: str) -> bool:
    """Whether an example is (part of) a config, and not a tree of files, Python or ONNX."""
    first = re.match(r"(?:\s*#[^\n]*\n)*\s*([a-z_]+)\s*[:{\[]", example)
    return first is not None and first[1] in FIELDS


def test_codes_and_names_are_of_one_form_and_unique() -> None:
    for rule in RULES:
        assert re.fullmatch(r"[A-Z]{3}\d{3}", rule.code), rule.code
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name), rule.code
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


def test_a_category_s_rules_stand_together() -> None:
    order = [rule.category for rule in RULES]
    assert [code for code, before in zip(order, [None, *order], strict=False) if code != before] == list(
        dict.fromkeys(order)
    )


def test_sixty_server_rules() -> None:
    assert sum(rule.server for rule in RULES) >= 60


@each_rule
def test_a_page_has_a_sentence_and_two_examples(rule: Rule) -> None:
    page = page_of(rule)
    first = page.sentence.split()[0]
    assert first[0].isupper() or "_" in first or "." in first, "a sentence, or one that starts with a field or a file"
    assert page.sentence.endswith(".")
    assert page.why
    assert page.wrong
    assert page.right
    assert page.wrong != page.right


@each_rule
def test_examples_that_are_configs_can_be_read(rule: Rule) -> None:
    page = page_of(rule)
    if is_pbtxt(page.right):
        assert read(page.right, ModelConfig).problems == []
    if is_pbtxt(page.wrong) and rule.category != "PBT":
        assert read(page.wrong, ModelConfig).problems == []


def test_most_examples_are_configs() -> None:
    assert sum(is_pbtxt(page_of(rule).wrong) for rule in RULES) > len(RULES) / 2


NO_GOLDEN_CASE = {"ONX002"}
"""A file of two gigabytes; test_lint_onnx.py makes one with a hole in it."""


@each_rule
def test_a_rule_has_a_golden_case(rule: Rule) -> None:
    assert rule.code in NO_GOLDEN_CASE or [case for case in CASES if case.partition("_")[0] == rule.code]


def test_the_documents_are_current() -> None:
    """Renew with: python tests/test_docs.py."""
    wanted = documents(RULES, LINT_MD.read_text())
    for name, text in wanted.items():
        assert (ROOT / "docs" / name).read_text() == text, name
    there = {f"rules/{file.name}" for file in (ROOT / "docs" / "rules").iterdir()}
    assert there == set(wanted) - {"lint.md"}


def test_links_to_a_rule_lead_to_its_heading() -> None:
    links = re.findall(r"\[([A-Z]{3}\d{3})\]\((rules/[A-Z]{3}\.md)#([a-z0-9-]+)\)", LINT_MD.read_text())
    assert len(links) == len(RULES)
    for code, file, anchor in links:
        headings = re.findall(r"^## (.*)$", (LINT_MD.parent / file).read_text(), flags=re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, code


def test_the_codes_in_the_guide_exist() -> None:
    guide = LINT_MD.read_text().partition("<!-- rules -->")[0]
    assert set(re.findall(r"\b[A-Z]{3}\d{3}\b", guide)) <= {rule.code for rule in RULES}


def test_the_guide_s_json_has_the_keys_of_a_report(tmp_path: Path) -> None:
    from trtkit.lint.outcome import lint_place
    from trtkit.lint.places import find_places
    from trtkit.lint.report import to_json
    from trtkit.lint.server_facts import ServerFacts

    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text("max_batchsize: 8\n")
    (place,) = find_places([str(tmp_path)])
    real = to_json([lint_place(place, RULES, ServerFacts())])
    (text,) = re.findall(r"```json\n(.*?)```", LINT_MD.read_text(), flags=re.DOTALL)
    shown = json.loads(text)
    assert set(shown) == set(real)
    assert set(shown["summary"]) == set(real["summary"])
    assert set(shown["findings"][0]) == set(real["findings"][0])


HOOKED = (
    "config.pbtxt",
    "m/config.pbtxt",
    "a/b/m/config.pbtxt",
    "m/configs/l40s.pbtxt",
    "m/1/model.py",
    "m/12/model.onnx",
)
NOT_HOOKED = ("m/config.pbtxt.orig", "m/myconfig.pbtxt", "m/model.py", "m/one/model.py", "labels.txt", "a.pbtxt")


def test_the_pre_commit_hook_is_for_the_files_that_lint_knows() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == "trtkit lint"
    assert hook["language"] == "python"
    assert hook["pass_filenames"] is True
    assert all(re.search(hook["files"], name) for name in HOOKED)
    assert not any(re.search(hook["files"], name) for name in NOT_HOOKED)
    assert f"id: {hook['id']}" in LINT_MD.read_text()
