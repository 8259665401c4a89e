# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Nothing that can lie in a repository makes lint raise.

``python tests/test_lint_fuzz.py 100000`` runs that many inputs.
"""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

from google.protobuf import text_format
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import onnx_models
from config_strategies import configs
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Entry


class MemoryTree:
    """Files by path; a value of None is something that is there and cannot be looked at."""

    def __init__(self, files: dict[str, bytes | None]) -> None:
        self.root, self.files = "memory", files

    def entries(self, folder: str) -> list[Entry]:
        start = f"{folder}/" if folder else ""
        inside: dict[str, Entry] = {}
        for path, content in self.files.items():
            if path.startswith(start):
                name, slash, _ = path[len(start) :].partition("/")
                if slash:
                    inside[name] = Entry(name, "folder")
                else:
                    inside.setdefault(
                        name, Entry(name, "broken") if content is None else Entry(name, "file", len(content))
                    )
        return sorted(inside.values(), key=lambda entry: entry.name)

    def open(self, file: str) -> BinaryIO:
        content = self.files.get(file)
        if content is None:
            raise FileNotFoundError(file)
        return io.BytesIO(content)


PYTHON = b"""
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())])]
"""
PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b'"',
    b"#",
    b"\n",
    b"\\",
    b"-",
    b"\x00",
    b"\xff",
    b"8",
    b"name",
    b"# trtkit: ignore=BAT001",
]
NAMES = [
    "config.pbtxt", "1/model.py", "1/model.onnx", "1/model.plan", "1/engine.json", "2/model.py", "labels.txt",
    "configs/a.pbtxt", "warmup/x", "01/model.py",
]  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few pieces put in, taken out or cut off."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 8)))
        content = content[:start] + draw(st.sampled_from([b"", *PIECES]) | st.binary(max_size=4)) + content[end:]
    return content


@st.composite
def config_texts(draw: st.DrawFn) -> bytes:
    """A config: of any message, mangled; or no config at all."""
    config = draw(configs())
    if draw(st.booleans()):
        config.name = "a"
        config.backend = draw(st.sampled_from(["python", "onnxruntime", "tensorrt", "ensemble", ""]))
        config.platform = draw(st.sampled_from(["", "ensemble", "tensorrt_plan"]))
    text = text_format.MessageToString(config).encode()
    return draw(mangled(text) | st.binary(max_size=60))


def contents(name: str) -> st.SearchStrategy[bytes | None]:
    """Something for a file of that name."""
    made: dict[str, Any] = {"pbtxt": config_texts(), "py": mangled(PYTHON), "onnx": mangled(GRAPH)}
    return made.get(name.rpartition(".")[2], st.binary(max_size=80)) | st.none()


@st.composite
def repositories(draw: st.DrawFn) -> dict[str, bytes | None]:
    """A few models whose files may be anything."""
    files: dict[str, bytes | None] = {}
    for model in draw(st.lists(st.sampled_from(["a", "b", "A", ".c", "é b"]), min_size=1, max_size=2, unique=True)):
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
            files[f"{model}/{name}"] = draw(contents(name))
    return files


FLAGS = [None, (), ("--disable-auto-complete-config",), ("--rate-limit-resource=R:x:y", "--rate-limit=execution_count")]
GRAPH: bytes = onnx_models.matmul_dynamic_batch().SerializeToString()


@given(repositories(), st.sampled_from(FLAGS))
def lint_anything(files: dict[str, bytes | None], flags: tuple[str, ...] | None) -> None:
    findings = findings_of(open_repository(MemoryTree(files), ServerFacts(flags)), RULES)
    for finding in findings:
        assert finding.message
        assert "\n" not in finding.message, finding
        assert len(finding.message) < 2000, finding
        assert finding.line is None or finding.line >= 1


def fuzz(examples: int) -> None:
    """Run that many inputs."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=checks
    )(lint_anything)()


def test_nothing_makes_lint_raise() -> None:
    fuzz(500)


if __name__ == "__main__":
    fuzz(int(sys.argv[1]))
