# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The ensemble rules: places, several mistakes at once, what is not knowable, speed; and random ones with the server.

``python tests/test_lint_ensembles.py 1000`` asks the server about that many.
"""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from hypothesis import HealthCheck, Phase, assume, given, settings

from lint_ensemble_strategies import STEPS, VERSIONS, ensembles, write_model
from lint_judge import TRITON, Judge, open_judge
from lint_repositories import STRICT, findings
from trtkit.config import ModelConfig, ensemble_config
from trtkit.errors import ConfigError
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree
from trtkit.project import load_project

OWN = [each for each in RULES if each.category == "ENS"]
SERVER_RULES = {rule.code for rule in RULES if rule.server}


def lint(repository: Path, *, rules: Any = OWN, strict: bool = False) -> list[Finding]:
    facts = ServerFacts((STRICT,) if strict else (), triton=TRITON, gpus=0)
    return findings(repository, rules, facts)


def write_steps(repository: Path) -> None:
    for name, config in STEPS.items():
        write_model(repository, name, config, VERSIONS.get(name, (1,)))


# the server's word


@pytest.fixture(scope="module", params=[False, True], ids=["completing", "strict"])
def judge(request: pytest.FixtureRequest) -> Iterator[tuple[Judge, bool]]:
    with open_judge([STRICT] if request.param else []) as running:
        load_steps(running)
        yield running, request.param


def ask(judge: Judge, what: str, name: str) -> str:
    """Load or unload a model, and leave the steps of an ensemble alone; '' when the server did it, else its words."""
    url = f"http://{judge.server.http_url}/v2/repository/models/{name}/{what}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=60):
            return ""
    except urllib.error.HTTPError as exc:
        return exc.read().decode()


def not_ready(judge: Judge, name: str) -> str:
    """'' where a model is served: the server says yes to loading one that it has refused as a step before."""
    try:
        with urllib.request.urlopen(f"http://{judge.server.http_url}/v2/models/{name}/ready", timeout=60):
            return ""
    except urllib.error.HTTPError as exc:
        return f"not ready ({exc.code})"


def load_steps(judge: Judge) -> None:
    """The steps' models stay loaded, so that a question is one of the core's own."""
    write_steps(judge.repository)
    assert [name for name in STEPS if ask(judge, "load", name)] == []


def under(config: dict[str, Any], made: dict[str, Any]) -> set[str]:
    """The ensembles that one is built on, however deep."""
    found: set[str] = set()
    todo = [config]
    while todo:
        names = {step["model_name"] for step in todo.pop()["ensemble_scheduling"]["step"]} & set(made)
        todo += [made[name] for name in names - found]
        found |= names
    return found


def agree(judge: Judge, made: dict[str, dict[str, Any]], *, strict: bool) -> None:
    """Assert that lint and the server say the same of each ensemble, those below it counted in."""
    for name, config in made.items():
        write_model(judge.repository, name, config)
    try:
        errors = [f for f in lint(judge.repository, rules=RULES, strict=strict) if f.severity == Severity.ERROR]
        if any("the server crashes" in f.message for f in errors):
            return
        said = "\n".join(f"{f.place}: {f.code}: {f.message}" for f in errors)
        for name, config in made.items():
            concerned = {name, *under(config, made)}
            answer = ask(judge, "load", name) or not_ready(judge, name)
            codes = {f.code for f in errors if f.model in concerned}
            text = (judge.repository / name / "config.pbtxt").read_text()
            assert bool(codes & SERVER_RULES) == bool(answer), f"{name}: server: {answer!r}\nlint:\n{said}\n{text}"
    finally:
        for name in made:
            ask(judge, "unload", name)
        for name in made:
            shutil.rmtree(judge.repository / name)


def ask_about(examples: int, judge: Judge, *, strict: bool) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=checks,
    )
    chosen(given(ensembles())(lambda made: agree(judge, made, strict=strict)))()


def test_random_ensembles(judge: tuple[Judge, bool]) -> None:
    ask_about(150, judge[0], strict=judge[1])


# what it says, and where

STEP = """  step {
    model_name: "same"
    model_version: -1
    input_map { key: "x" value: "%s" }
    output_map { key: "y" value: "%s" }
  }
"""
PLAIN = """platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
ensemble_scheduling {
%s}
"""


def lint_text(folder: Path, text: str, **models: dict[str, Any]) -> list[Finding]:
    """The findings about an ensemble `e` of this text, beside models."""
    for name, config in models.items():
        write_model(folder, name, config)
    (folder / "e" / "1").mkdir(parents=True)
    (folder / "e" / "config.pbtxt").write_text(text)
    return [f for f in lint(folder) if f.model == "e"]


def test_a_finding_stands_at_its_map_entry(tmp_path: Path) -> None:
    found = lint_text(tmp_path, PLAIN % (STEP % ("x", "t") + STEP % ("tt", "y")), same=STEPS["same"])
    assert [(f.code, f.line, f.column) for f in found] == [("ENS015", 9, 5), ("ENS014", 14, 5)]
    words = "output 'y' for ensemble 'e' is not written: at least one of its depending tensors, 'tt', is not connected"
    assert found[1].message.startswith(words)
    assert "did you mean 't'?" in found[1].message


def test_every_mistake_is_told_and_not_just_the_first(tmp_path: Path) -> None:
    step = STEP % ("x", "y")
    text = PLAIN % (step.replace("-1", "7") + step.replace('"same"', '"sane"').replace('value: "y"', 'value: "z"'))
    text = text.replace("FP32", "INT32", 1) + "instance_group { count: 1 }\n"
    codes = [f.code for f in lint_text(tmp_path, text, same=STEPS["same"])]
    assert sorted(codes) == ["ENS004", "ENS015", "ENS020", "ENS022", "ENS027"]


def test_each_circle_of_steps_is_told_once(tmp_path: Path) -> None:
    add = STEP.replace('"same"', '"add"').replace('key: "x"', 'key: "a"')
    circles = "".join(
        add.replace("  }\n", '    input_map { key: "b" value: "%s" }\n  }\n') % row
        for row in (("x", "a1", "a2"), ("x", "a2", "a1"), ("x", "b1", "b1"), ("a1", "y", "b1"))
    )
    found = lint_text(tmp_path, PLAIN % circles, add=STEPS["add"])
    told = [f.message.rpartition("wait for each other: ")[2] for f in found if f.code == "ENS016"]
    assert [f.code for f in found] == ["ENS016", "ENS016"]
    assert sorted(told) == ["a2 -> a1 -> a2", "b1 -> b1"]


def test_what_a_step_is_served_with_may_be_unknown(tmp_path: Path) -> None:
    """A Python model that completes itself: nothing is said about its tensors, all else is."""
    text = PLAIN % (STEP % ("x", "t") + STEP.replace('"same"', '"selfmade"') % ("t", "u") + STEP % ("u", "y"))
    selfmade = {"backend": "python"}
    assert lint_text(tmp_path, text, same=STEPS["same"], selfmade=selfmade) == []
    (tmp_path / "e" / "config.pbtxt").write_text(text.replace('"u"', '"v"', 1))
    assert [f.code for f in lint(tmp_path)] == ["ENS015", "ENS014"]


def test_a_step_with_a_broken_config_is_not_judged(tmp_path: Path) -> None:
    text = PLAIN % (STEP % ("x", "y"))
    write_model(tmp_path, "same", STEPS["same"])
    (tmp_path / "same" / "config.pbtxt").write_text("max_batchsize: 8")
    assert lint_text(tmp_path, text) == []


def test_a_decoupled_step_far_below(tmp_path: Path) -> None:
    """An ensemble of a decoupled model is decoupled, and so is one of that ensemble."""
    write_model(tmp_path, "stream", STEPS["stream"])
    for name, below in (("low", "stream"), ("middle", "low")):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(PLAIN % (STEP.replace("same", below) % ("x", "y")))
    cached = PLAIN % (STEP.replace("same", "middle") % ("x", "y")) + "response_cache { enable: true }\n"
    found = lint_text(tmp_path, cached)
    assert [(f.code, f.line) for f in found] == [("ENS030", 12)]
    assert "Response Cache does not currently support model e with 'decoupled' transaction policy" in found[0].message


def write_chain(folder: Path, length: int, end: str) -> None:
    """Ensembles, each a step of the next; the last is of the model `end`."""
    write_model(folder, "same", STEPS["same"])
    for index in range(length):
        below = f"e{index + 1}" if index + 1 < length else end
        (folder / f"e{index}" / "1").mkdir(parents=True)
        (folder / f"e{index}" / "config.pbtxt").write_text(PLAIN % (STEP.replace("same", below) % ("x", "y")))


@pytest.mark.parametrize(
    ("length", "end", "told"), [(1000, "same", 0), (50, "e0", 50), (50, "e49", 50)], ids=["chain", "circle", "tail"]
)
def test_many_ensembles_of_each_other(length: int, end: str, told: int, tmp_path: Path) -> None:
    write_chain(tmp_path, length, end)
    found = lint(tmp_path)
    assert [f.code for f in found] == ["ENS021"] * told
    crash = [f for f in found if "the server crashes on it" in f.message]
    assert len(crash) == (49 if end == "e49" else 0)


# what trtkit derives


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=ensembles())
def test_what_trtkit_derives_is_right(made: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    steps = made["e0"]["ensemble_scheduling"]["step"]
    names = [*(name for step in steps for side in ("input_map", "output_map") for name in step[side].values())]
    assume(all(step["model_name"] in STEPS for step in steps) and "" not in names)
    rows = [
        {"model": step["model_name"], "inputs": dict(step["input_map"]), "outputs": dict(step["output_map"])}
        for step in steps
    ]
    file = tmp_path / "trtkit.yaml"
    file.write_text(yaml.safe_dump({"models": {"e": {"ensemble": rows}}}))
    configs = [json_format.ParseDict(STEPS[row["model"]], ModelConfig()) for row in rows]
    try:
        config = ensemble_config(load_project(file), "e", configs)
    except ConfigError:
        assume(False)
    repository = tmp_path / "repository"
    if not repository.exists():
        write_steps(repository)
    shutil.rmtree(repository / "e", ignore_errors=True)
    write_model(repository, "e", json_format.MessageToDict(config, preserving_proto_field_name=True))
    opened = open_repository(LocalTree(repository), ServerFacts(triton=TRITON, gpus=0))
    found = findings_of(opened, RULES, ["e"])
    assert [f for f in found if f.severity == Severity.ERROR] == []


if __name__ == "__main__":
    for each in (False, True):
        with open_judge([STRICT] if each else []) as opened:
            load_steps(opened)
            start = time.monotonic()
            ask_about(int(sys.argv[1]), opened, strict=each)
            print("strict" if each else "completing", time.monotonic() - start)
