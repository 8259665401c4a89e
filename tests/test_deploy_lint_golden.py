# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Each rule of the deployment's linter on a mistake and on its mended twin.

A case is tests/deploy_lint/<CODE>_<mistake>/{wrong,right}, each a folder of files; ``case.yaml`` beside them may hold
the fields of `Known`. ``expected.txt`` holds what is said to the wrong side, word for word: ``python
tests/test_deploy_lint_golden.py`` writes it anew, and the documents; look at the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from trtkit.deploy.manifests.fileset import Known
from trtkit.deploy.manifests.known import known_of
from trtkit.deploy.manifests.rules import RULES
from trtkit.deploy.manifests.run import lint_files
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.pages import Home, documents, page_of
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES as REPOSITORY_RULES

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT / "tests" / "deploy_lint"
ALL = sorted(case.name for case in CASES.iterdir() if case.is_dir())
GUIDE = ROOT / "docs" / "deploy-lint.md"
HOME = Home("deploy-lint.md", "deploy-rules", "python tests/test_deploy_lint_golden.py", ("of them refused", "refused"))

MISTAKES = {
    1: "GPU001_request_alone",
    2: "KUB001_no_selector",
    3: "KUB003_service_without_ports",
    4: "SCL001_gpu_resource",
    5: "KED003_queue_length_and_mode",
    6: "SCL003_recreate",
    7: "SRV001_load_model_alone",
    8: "SRV002_strict_model_config",
    9: "PRB006_post_start_curl",
    10: "PQL001_nvidia_gpu",
    11: "PQL002_request_duration",
    12: "GPU003_three_of_3g",
    13: "DKR006_pyc",
    14: "DKR003_curl_only_in_the_first_stage",
    15: "DKR004_user_aiservice",
    16: "CMP001_version",
    17: "KUB008_streaming_annotation",
    18: "IMG002_cuda_12_1",
    19: "DKR001_driver",
    20: "ENG004_blames_the_driver",
    21: "ENG002_model_engine",
    22: "ROL002_no_free_gpu",
    23: "ROL005_github_canary",
    24: "SEC003_env_from",
    25: "SCL006_eighty_of_one",
}
"""The case of each of the 25 common mistakes of published guides."""
FURTHER = {
    2: ["KUB001_no_labels"],
    5: ["KED004_metric_name", "KED005_no_credentials"],
    6: ["SCL004_auto"],
    10: ["PQL001_gpu_mem_usage_percent"],
    12: ["GPU003_three_of_3g_by_hand", "GPU004_profile_as_mode"],
    18: ["DKR007_second_stage_without_python"],
    21: ["ENG001_builder_config", "ENG003_onnx_as_plan"],
    22: ["ROL001_surge_one", "ROL001_default_strategy"],
    24: ["SEC001_password", "SEC002_string_data"],
    25: ["KED006_eighty_of_one", "PQL008_ninety_of_one"],
}
"""The cases of those mistakes that are several."""


def known(case: str) -> Known:
    file = CASES / case / "case.yaml"
    given: dict[str, Any] = yaml.safe_load(file.read_text()) if file.exists() else {}
    return known_of(**given)


def code_of(case: str) -> str:
    return case.partition("_")[0]


def lint(case: str, side: str) -> list[Finding]:
    return list(lint_files([str(CASES / case / side)], known=known(case)).outcome.findings)


def shown(findings: list[Finding]) -> str:
    return "\n".join(f"{f.place}: {f.code} {f.severity}: {f.message}" for f in findings)


def said(case: str) -> str:
    return "".join(
        f"{f.place}: {f.message}{f' [{f.model}]' if f.model else ''}\n"
        for f in lint(case, "wrong")
        if f.code == code_of(case)
    )


@pytest.mark.parametrize("case", ALL)
def test_a_rule_finds_its_mistake_and_nothing_else(case: str) -> None:
    found = lint(case, "wrong")
    assert code_of(case) in {f.code for f in found}, shown(found)
    assert [f for f in found if f.code != code_of(case)] == [], shown(found)


@pytest.mark.parametrize("case", ALL)
def test_the_mended_twin_has_no_finding(case: str) -> None:
    assert lint(case, "right") == [], shown(lint(case, "right"))


@pytest.mark.parametrize("case", ALL)
def test_a_rule_says_this(case: str) -> None:
    file = CASES / case / "expected.txt"
    assert file.exists(), f"write {file.relative_to(ROOT)}: {HOME.renewal}"
    assert said(case) == file.read_text()


def test_all_25_mistakes_are_found() -> None:
    assert sorted(MISTAKES) == list(range(1, 26))
    for number, case in [*MISTAKES.items(), *((n, c) for n, cases in FURTHER.items() for c in cases)]:
        assert code_of(case) in {f.code for f in lint(case, "wrong")}, f"mistake {number}: {case}"


def test_a_case_for_every_rule() -> None:
    assert {rule.code for rule in RULES} == {code_of(case) for case in ALL}


def test_codes_and_names_are_unique_and_none_of_the_repository_linter_s() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert not {rule.category for rule in RULES} & {rule.category for rule in REPOSITORY_RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_page_has_a_sentence_a_reason_and_two_examples(rule: Rule) -> None:
    page = page_of(rule)
    assert page.sentence.endswith(".")
    assert page.why
    assert page.wrong
    assert page.right
    assert page.wrong != page.right
    assert rule.severity == Severity.ERROR or not rule.server, "what is refused is an error"


def test_the_documents_are_current() -> None:
    wanted = documents(RULES, GUIDE.read_text(), HOME)
    for name, text in wanted.items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name}: {HOME.renewal}"
    there = {f"deploy-rules/{file.name}" for file in (ROOT / "docs" / "deploy-rules").iterdir()}
    assert there == set(wanted) - {"deploy-lint.md"}


if __name__ == "__main__":
    os.chdir(ROOT)
    for each in ALL:
        (CASES / each / "expected.txt").write_text(said(each))
    for file, content in documents(RULES, GUIDE.read_text(), HOME).items():
        (ROOT / "docs" / file).parent.mkdir(exist_ok=True)
        (ROOT / "docs" / file).write_text(content)
