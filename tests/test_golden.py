# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Broken inputs, each a folder of tests/golden named by its mistake, and the one sentence that is printed for it.

A folder holds a project and

- ``inputs``: the files that are no text, and who makes them: ``m.onnx = conv_net`` (see golden/inputs.py);
- ``command``: the arguments after ``trtkit``, when they are not just ``build``. ``preflight PLAN TARGET`` is no
  command: it asks the check that a build makes of a plan;
- ``expected.txt``: the sentence; ``{...}`` stands for a version, or for another library's words;
- ``exit``: the exit code, and the stages that were begun, the one that failed being the last;
- ``needs``: what the machine has to have, or to be without.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from golden.inputs import INPUTS, write_inputs
from trtkit import load_project
from trtkit.cli import run
from trtkit.engine import plan_header
from trtkit.errors import BuildError
from trtkit.gpu import gpu_state
from trtkit.preflight import plan_verdict

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(file.parent for file in GOLDEN.glob("*/trtkit.yaml"))
ABOUT_THE_CASE = {"command", "exit", "expected.txt", "inputs", "needs"}
# the console script's way, with a process's exit code and standard error
IN_A_PROCESS = {"calibration_misses_an_input", "onnx_cut_off", "plan_is_text", "profile_overlap"}
EVENT = re.compile(r"m: ([a-z-]+): \S")


def sentence_pattern(expected: str) -> str:
    return ".+".join(map(re.escape, expected.split("{...}")))


def command_of(case: Path) -> list[str]:
    file = case / "command"
    return file.read_text().split() if file.exists() else ["build"]


def skip_unless_fit(case: Path) -> None:
    needs = (case / "needs").read_text().strip() if (case / "needs").exists() else ""
    if needs == "tensorrt_rtx" and importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("the extra rtx is not installed")
    if needs == "no GPU" and gpu_state().gpus:
        pytest.skip("this machine has a GPU")
    assert needs in ("", "tensorrt_rtx", "no GPU")


@pytest.fixture
def project(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the case's files with the others made, where the test is then."""
    skip_unless_fit(case)
    folder = tmp_path / "project"
    shutil.copytree(case, folder, ignore=shutil.ignore_patterns(*ABOUT_THE_CASE, "__pycache__"))
    if (case / "inputs").exists():
        write_inputs(case / "inputs", folder)
    monkeypatch.chdir(folder)
    return folder


def preflight(plan: str, target: str) -> None:
    """What a build asks of a plan before it is published."""
    file = Path(plan)
    beside = file.with_name("engine.json")
    manifest = json.loads(beside.read_text()) if beside.exists() else None
    problem = plan_verdict(plan_header(file), manifest, load_project(Path("trtkit.yaml")).targets[target]).problem
    if problem:
        raise BuildError(problem)


def outcome(case: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and what stood on standard error."""
    command = command_of(case)
    if command[0] == "preflight":
        with pytest.raises(BuildError) as caught:
            preflight(*command[1:])
        return caught.value.exit_code, f"trtkit preflight: {caught.value}\n"
    if case.name in IN_A_PROCESS:
        done = subprocess.run([sys.executable, "-m", "trtkit", *command], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr
    return run(command), capsys.readouterr().err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_one_sentence(case: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = outcome(case, capsys)
    *events, last = errors.splitlines()
    expected = (case / "expected.txt").read_text().strip()
    assert re.fullmatch(f"trtkit {command_of(case)[0]}: {sentence_pattern(expected)}", last), errors
    assert all(EVENT.match(line) for line in events), errors
    begun = dict.fromkeys(EVENT.match(line)[1] for line in events)  # type: ignore[index]
    assert [str(code), *(stage for stage in begun if stage != "failed")] == (case / "exit").read_text().split()
    assert not (project / "model_repository").exists() or not any((project / "model_repository").iterdir())


def test_the_cases_are_complete() -> None:
    assert len(CASES) >= 32
    assert {case.name for case in CASES} >= IN_A_PROCESS
    assert sorted(p for p in GOLDEN.iterdir() if p.is_dir() and p.name != "__pycache__") == CASES
    lines = [line for file in GOLDEN.glob("*/inputs") for line in file.read_text().splitlines()]
    assert {line.partition("=")[2].strip() for line in lines} == set(INPUTS), "each is used"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sentence_is_fit_to_be_read(case: Path) -> None:
    (sentence,) = (case / "expected.txt").read_text().splitlines()
    assert sentence == sentence.strip()
    assert not sentence.endswith(".")
    assert "  " not in sentence
    assert not re.search(r"(?<![\w.:])/\w", sentence), "a path of this machine"
    assert len(sentence) < 500


def test_a_placeholder_stands_for_something() -> None:
    pattern = sentence_pattern("a {...} (b)")
    assert re.fullmatch(pattern, "a 1.2 (b)")
    assert not re.fullmatch(pattern, "a  (b)")
    assert not re.fullmatch(pattern, "a 1.2 b")
