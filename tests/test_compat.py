# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is installed: the extras that exclude each other, and one sentence for what is missing."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import pytest

from trtkit import compat, doctor
from trtkit.cli import run
from trtkit.errors import MissingDependencyError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions by distribution that stand in for this environment's."""
    versions: dict[str, str | None] = {}
    real = compat.installed

    def version(name: str) -> str | None:
        return versions[name] if name in versions else real(name)

    for module in (compat, doctor):
        monkeypatch.setattr(module, "installed", version)
    return versions


def test_the_environment_of_these_tests_is_well() -> None:
    assert compat.onnxruntime_problem() is None
    assert compat.onnxruntime().__name__ == "onnxruntime"
    assert compat.tool_versions("numpy", "no-such-thing") == {"numpy": metadata.version("numpy")}


@pytest.mark.parametrize(
    ("cpu", "gpu", "sentence"),
    [
        (
            "1.31.1",
            "1.31.1",
            "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed and overwrite each other",
        ),
        (None, None, "ONNX Runtime is not installed; run: pip install 'trtkit[cpu]'"),
    ],
)
def test_exactly_one_onnxruntime(
    installed: dict[str, str | None], cpu: str | None, gpu: str | None, sentence: str
) -> None:
    installed.update({"onnxruntime": cpu, "onnxruntime-gpu": gpu})
    with pytest.raises(MissingDependencyError) as error:
        compat.onnxruntime()
    assert str(error.value).startswith(sentence)
    (check,) = (check for check in doctor.examine() if check.part == "ONNX Runtime")
    assert (check.state, check.details) == ("problem", str(error.value))
    assert run(["doctor", "--json"]) == MissingDependencyError.exit_code


def test_the_gpu_build_alone_is_well(installed: dict[str, str | None]) -> None:
    installed.update({"onnxruntime": None, "onnxruntime-gpu": "1.31.1"})
    assert compat.onnxruntime_problem() is None


@pytest.mark.parametrize(
    ("module", "extra"), [("pytriton", "server"), ("torch.onnx", "torch"), ("skl2onnx", "sklearn")]
)
def test_a_missing_module_names_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)  # another test may have imported it
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(MissingDependencyError, match=rf"run: pip install 'trtkit\[{extra}\]'"):
        compat.require(module)


def test_doctor_is_content_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "embedded tritonserver" in out
    assert "problem" not in out


def test_half_an_extra_is_a_problem(installed: dict[str, Any]) -> None:
    installed["onnxscript"] = None
    (check,) = (check for check in doctor.examine() if check.part == "extra torch")
    assert (check.state, check.details) == ("problem", "no onnxscript; pip install 'trtkit[torch]'")
