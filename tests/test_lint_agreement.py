# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What lint accepts without an error the real server loads; what it refuses for a server rule the server refuses.

``python tests/test_lint_agreement.py 1000`` asks about that many configs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import json_format, text_format
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lint_core_strategies import OTHERS, python_configs
from lint_judge import STAND_INS, TRITON, Judge, open_judge
from lint_repositories import STRICT, as_pbtxt, findings, write_model
from test_lint_onnx import GRAPHS, near, parsed
from trtkit.config import ModelConfig
from trtkit.lint.finding import Severity
from trtkit.lint.rules import RULES
from trtkit.lint.server_facts import ServerFacts

BACKENDS = frozenset({"python", "onnxruntime", *STAND_INS})
SERVER_RULES = {rule.code for rule in RULES if rule.server}


def write(folder: Path, config: dict[str, Any]) -> None:
    """A repository of one Python model `m`."""
    write_model(folder, "m", as_pbtxt(config))


def agree(folder: Path, judge: Judge, *, strict: bool) -> None:
    """Assert that lint and the server say the same about a repository."""
    facts = ServerFacts((STRICT,) if strict else (), triton=TRITON, gpus=0, backends=BACKENDS)
    errors = [f for f in findings(folder, facts=facts) if f.severity == Severity.ERROR]
    judgement = judge.judge(folder)
    said = "\n".join(f"{f.place}: {f.code}: {f.message}" for f in errors)
    text = "\n".join(file.read_text() for file in folder.glob("*/config.pbtxt"))
    if not errors:
        assert not judgement.refused, f"lint accepts, the server says {judgement.refused}\n{text}"
    elif any(f.code in SERVER_RULES for f in errors):
        assert judgement.refused, f"the server accepts, lint says\n{said}\n{text}"


def run(
    examples: int,
    judge: Judge,
    strategy: st.SearchStrategy[Any],
    write_one: Callable[[Path, Any], None],
    *,
    strict: bool,
) -> None:
    """Ask about that many repositories."""

    def one(drawn: Any) -> None:
        folder = Path(tempfile.mkdtemp(prefix="trtkit-agreement-"))
        try:
            write_one(folder, drawn)
            agree(folder, judge, strict=strict)
        finally:
            shutil.rmtree(folder)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [Phase.generate, Phase.shrink]
    settings(max_examples=examples, database=None, deadline=None, phases=phases, suppress_health_check=checks)(
        given(strategy)(one)
    )()


@pytest.fixture(scope="module", params=[False, True], ids=["completing", "strict"])
def judge(request: pytest.FixtureRequest) -> Iterator[tuple[Judge, bool]]:
    with open_judge([STRICT] if request.param else []) as running:
        yield running, request.param


@st.composite
def onnx_models(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A graph, and a config that fits it but for what chance changes."""
    name = draw(st.sampled_from(sorted(GRAPHS)))
    config = draw(near(name))
    for field in draw(st.lists(st.sampled_from(sorted(set(OTHERS) - {"platform", "name"})), max_size=1)):
        config[field] = draw(OTHERS[field])
    return name, config


def write_onnx(folder: Path, drawn: tuple[str, dict[str, Any]]) -> None:
    """A repository of one ONNX model `m`."""
    name, config = drawn
    (folder / "m" / "1").mkdir(parents=True)
    onnx.save(parsed(name), folder / "m" / "1" / "model.onnx")
    message = json_format.ParseDict(config, ModelConfig())
    (folder / "m" / "config.pbtxt").write_text(text_format.MessageToString(message))


def test_python_models(judge: tuple[Judge, bool]) -> None:
    run(40, judge[0], python_configs(), write, strict=judge[1])


def test_onnx_models(judge: tuple[Judge, bool]) -> None:
    run(30, judge[0], onnx_models(), write_onnx, strict=judge[1])


if __name__ == "__main__":
    for strict in (False, True):
        with open_judge([STRICT] if strict else []) as opened:
            run(int(sys.argv[1]), opened, python_configs(), write, strict=strict)
            run(int(sys.argv[1]), opened, onnx_models(), write_onnx, strict=strict)
