# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Code of Python models: what is said of it, and what must not be said because it cannot be known."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG, ECHO_MODEL, ROOT, write_model
from lint_repositories import findings
from trtkit.lint.finding import Finding
from trtkit.lint.python_source import PythonSource
from trtkit.lint.rules import RULES
from trtkit.lint.server_facts import ServerFacts

HEAD = "import triton_python_backend_utils as pb_utils\n\n\nclass TritonPythonModel:\n"
EXECUTE = indent("def execute" + ECHO_MODEL.partition("def execute")[2].lstrip("\n"), "    ")


def lint(root: Path, *, strict: bool = False, image: str | None = None) -> list[Finding]:
    flags = ("--disable-auto-complete-config",) if strict else ()
    return findings(root, [each for each in RULES if each.category == "PYM"], ServerFacts(flags, image, gpus=0))


def codes(root: Path, python: str, config: str = ECHO_CONFIG) -> list[str]:
    write_model(root, "echo", config, python)
    return [each.code for each in lint(root)]


def method(text: str) -> str:
    """The echo model with another method before execute."""
    return HEAD + indent(dedent(text).strip("\n"), "    ") + "\n\n" + EXECUTE


def body(text: str) -> str:
    """A model whose execute has this body."""
    return HEAD + "    def execute(self, requests):\n" + indent(dedent(text).strip("\n"), " " * 8) + "\n"


def test_the_echo_model_is_right(tmp_path: Path) -> None:
    assert codes(tmp_path, ECHO_MODEL) == []


def test_our_own_models_are_right(tmp_path: Path) -> None:
    folders = [each.parents[1] for each in (ROOT / "model_repository").glob("*/1/model.py")]
    assert lint(ROOT / "model_repository") == []
    for index, file in enumerate(
        [*ROOT.glob("python_backends/*/model.py"), *(each / "1/model.py" for each in folders)]
    ):
        assert codes(tmp_path / str(index), file.read_text(), 'backend: "python"') == []


@pytest.mark.parametrize(
    "python",
    [
        "from models import TritonPythonModel\n",
        "from models import *\n",
        "from models import Model as TritonPythonModel\n",
        "class A: ...\nTritonPythonModel = A\n",
        "try:\n    class TritonPythonModel:\n        def execute(self, r): return []\nexcept OSError:\n    pass\n",
        "globals()['TritonPythonModel'] = type('A', (), {})\n",
        "for TritonPythonModel in (object,):\n    pass\n",
        HEAD.replace("Model:", "Model(Base):") + "    pass\n",
        "@decorated\n" + HEAD.partition("\n\n\n")[2] + "    pass\n",
        HEAD + "    from mixin import execute\n",
        HEAD + "    if True:\n        def execute(self, requests): return []\n",
        HEAD + "    execute = lambda self, requests: []\n",
        HEAD + "    pass\n\nsetattr(TritonPythonModel, 'execute', f)\n",
        HEAD + "    def execute(self, *args): return []\n",
        HEAD + "    def execute(self, requests, more=None): return []\n",
        HEAD + "    async def execute(self, requests): return []\n",
        HEAD + "    @wrapped\n    def execute(self): yield 1\n",
        HEAD + "    @staticmethod\n    def execute(requests): return []\n",
        method("def initialize(self, args, *rest, **more): ..."),
        method("@staticmethod\ndef initialize(args): ..."),
        method("def auto_complete_config(config): return config"),
        method("@classmethod\ndef auto_complete_config(cls, config): return config"),
        method("@other\n@staticmethod\ndef auto_complete_config(): ..."),
        body("raise NotImplementedError"),
        body("self.loop(requests)\nsender = requests[0].get_response_sender()"),
        body("return self.answers(requests)"),
        body("return list(map(self.answer, requests))"),
        body("return [torch.Tensor('other', x) for x in requests]"),
        body("return [pb_utils.Tensor(name, x) for x in requests]"),
        body("request = pb_utils.InferenceRequest(model_name=name)\nreturn [pb_utils.Tensor('theirs', x)]"),
        body("return [pb_utils.get_input_tensor_by_name(r, name) for r in requests]"),
        body("return [pb_utils.get_input_tensor_by_name(*r) for r in requests]"),
    ],
)
def test_what_cannot_be_known_is_not_said(python: str, tmp_path: Path) -> None:
    assert [code for code in codes(tmp_path, python) if code not in ("PYM014", "PYM013")] == []


@pytest.mark.parametrize(
    ("python", "code"),
    [
        ("", "nothing: LAY020 is for empty files"),
        ("x = 1\n", "PYM002"),
        (HEAD + "    pass\n", "PYM003"),
        (HEAD + "    def execute(self): return []\n", "PYM004"),
        (HEAD + "    def execute(self, requests, more): return []\n", "PYM004"),
        (HEAD + "    def execute(self, requests, *, more): return []\n", "PYM004"),
        (method("def finalize(self, args): ..."), "PYM004"),
        (method("def initialize(self): ..."), "PYM005"),
        (method("def initialize(self, a, b): ..."), "PYM005"),
        (method("def __init__(self, a): ..."), "PYM005"),
        (method("@staticmethod\ndef auto_complete_config(): ..."), "PYM006"),
        (method("@staticmethod\nasync def auto_complete_config(config): return config"), "PYM006"),
        (method("@staticmethod\ndef auto_complete_config(config):\n    def inner(): return config"), "PYM006"),
        (body("pass"), "PYM007"),
        (body("return None"), "PYM007"),
        (body("return {}"), "PYM007"),
        (body("return (1, 2)"), "PYM007"),
        (body("yield 1"), "PYM007"),
        (body("return [pb_utils.get_input_tensor_by_name(r, 'X') for r in requests]"), "PYM009"),
        (body("return [pb_utils.get_input_tensor_by_name(r, name='X') for r in requests]"), "PYM009"),
        (body("return [pb_utils.Tensor('Y', 1) for r in requests]"), "PYM010"),
        (body("return [pb_utils.Tensor.from_dlpack('Y', 1) for r in requests]"), "PYM010"),
        (method("def initialize(self, args): pb_utils.get_output_config_by_name(c, 'Y')['dims']"), "PYM011"),
        (method("def initialize(self, args):\n  y = pb_utils.get_output_config_by_name(c, 'Y')\n  y['d']"), "PYM011"),
        (method("def initialize(self, args):\n  y = pb_utils.get_output_config_by_name(c, 'Y')\n  f(y)"), "PYM012"),
        (method("def initialize(self, args):\n  if a: pb_utils.get_output_config_by_name(c, 'Y')['d']"), "PYM012"),
        (method("def initialize(self, args):\n  a and pb_utils.get_input_config_by_name(c, 'X')['d']"), "PYM012"),
    ],
)
def test_what_is_sure_is_said(python: str, code: str, tmp_path: Path) -> None:
    found = [each for each in codes(tmp_path, python) if each not in ("PYM013",)]
    assert found == ([code] if code.startswith("PYM") else [])


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (body("return [answer(r) for r in requests]"), "must return None"),
        (body("pass"), "calls no get_response_sender"),
        (body("for r in requests:\n    r.get_response_sender().send(flags=1)"), ""),
        (body("for r in requests:\n    r.get_response_sender().send(flags=1)\nreturn None"), ""),
    ],
)
def test_decoupled_models(python: str, says: str, tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG + "model_transaction_policy { decoupled: true }", python)
    messages = [each.message for each in lint(tmp_path) if each.code == "PYM007"]
    assert [says in message for message in messages] == ([True] if says else [])


def test_inputs_of_the_sequence_batcher_are_inputs(tmp_path: Path) -> None:
    config = ECHO_CONFIG + (
        'sequence_batching { control_input { name: "START" control { kind: CONTROL_SEQUENCE_START '
        'int32_false_true: [ 0, 1 ] } } state { input_name: "in" output_name: "out" data_type: TYPE_FP32 dims: 1 } }'
    )
    wanted = "[pb_utils.get_input_tensor_by_name(r, n) for r in requests for n in ()]"
    text = "\n".join(f"pb_utils.get_input_tensor_by_name(requests[0], '{n}')" for n in ("START", "in", "x"))
    assert (
        codes(tmp_path, body(f"{text}\npb_utils.Tensor('out', 1)\npb_utils.Tensor('y', 1)\nreturn {wanted}"), config)
        == []
    )


def test_a_model_that_completes_its_config_is_judged_in_strict_mode_only(tmp_path: Path) -> None:
    python = method("@staticmethod\ndef auto_complete_config(config): return config").replace('"x"', '"other"')
    write_model(tmp_path, "echo", ECHO_CONFIG, python)
    assert [each.code for each in lint(tmp_path)] == []
    assert [each.code for each in lint(tmp_path, strict=True)] == ["PYM009"]


def test_the_place_of_a_name_is_its_text(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL.replace('"x"', '"X"'))
    (found,) = lint(tmp_path)
    assert found.file == "echo/1/model.py"
    lines = (tmp_path / found.file).read_text().split("\n")
    assert lines[(found.line or 0) - 1][(found.column or 0) - 1 :].startswith('"X"')
    assert "did you mean 'x'?" in found.message or "available: x" in found.message


def test_the_place_of_a_syntax_error(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, "def f(:\n    pass\n")
    (found,) = lint(tmp_path)
    assert (found.code, found.line, found.column) == ("PYM001", 1, 7)


def test_another_python_in_the_image_is_told(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, "def f(:\n    pass\n")
    tag = "24.08-py3" if sys.version_info[:2] == (3, 12) else "25.10-py3"
    (found,) = lint(tmp_path, image=f"nvcr.io/nvidia/tritonserver:{tag}")
    assert f"read by Python {sys.version_info.major}.{sys.version_info.minor}; the server has 3." in found.message


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python does not know it either")
def test_syntax_that_the_image_does_not_know_yet(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, "try:\n    pass\nexcept* OSError:\n    pass\n" + ECHO_MODEL)
    assert lint(tmp_path) == []
    (found,) = lint(tmp_path, image="nvcr.io/nvidia/tritonserver:24.08-py3")
    assert found.code == "PYM001"
    assert "the server has 3.10" in found.message


def test_each_served_version_is_read(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG + "version_policy { all { } }", ECHO_MODEL)
    (tmp_path / "echo/2").mkdir()
    (tmp_path / "echo/2/model.py").write_text("x = 1\n")
    assert [(each.file, each.code) for each in lint(tmp_path)] == [("echo/2/model.py", "PYM002")]


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_are_python_or_not(content: bytes) -> None:
    source = PythonSource("1/model.py", content)
    assert (source.tree is None) != (source.failure is None)
    assert source.has_no_class in (True, False)
    assert source.is_whole in (True, False)


@pytest.mark.parametrize(
    "content", [b"(" * 5000, b"-" * 100_000 + b"1", b"x = " + b"[" * 150 + b"]" * 150, b"\xff\xfe"]
)
def test_hostile_code_is_no_crash(content: bytes) -> None:
    source = PythonSource("1/model.py", content)
    assert (source.tree is None) != (source.failure is None)
