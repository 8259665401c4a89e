# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Data flows one way: each module imports only what stands before it; and the public API is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trtkit

PACKAGE = Path(trtkit.__file__).parent
ORDER = (
    "errors", "dtypes", "compat", "parts", "images", "signature", "project", "artifacts", "numerics", "tolerance",
    "metrics", "samples", "export", "precision", "engine", "targets", "preflight", "accelerator", "container_build",
    "race", "pbtxt", "config", "config_diff", "repository", "drawing", "lint", "python_models", "build", "inspection",
    "scaffold", "server", "doctor", "inference", "validate", "perf", "deploy", "cli",
)  # fmt: skip
# the worker is the process the build starts, the plan its last step; neither is a layer of its own
SAME = {
    "build_worker": "build", "build_process": "build", "build_plan": "build", "build_stages": "build",
    "build_check": "build", "build_plans": "build", "build_lint": "build", "build_configs": "build",
    "build_warmups": "build", "build_order": "build", "build_results": "build", "build_gpu": "build",
    "build_python": "build", "gpu": "compat", "doctor_probes": "doctor", "__main__": "cli",
}  # fmt: skip
# the top of DESIGN.md's table: foreign packages with one home each
HOMES = {
    "yaml": {"project", "deploy"},
    "pydantic": {"project"},
    "pydantic_core": {"project"},
    "tensorrt": set(),  # passed in
    "tensorrt_rtx": set(),
    "torch": set(),  # only through compat.require, in export
    "skl2onnx": set(),
    "onnx": {"export", "precision", "race", "lint", "inspection"},
    "matplotlib": {"race", "deploy"},
    "onnxruntime": set(),  # only through compat.onnxruntime
    "tritonclient": {"config", "server", "perf"},
    "click": {"cli"},
    "rich": {"cli"},
}


def layer(file: Path) -> str:
    name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return SAME.get(name, name)


def imports(file: Path) -> Iterator[str]:
    """The absolute names a file imports, at any level, but not those for type checkers only."""
    tree = ast.parse(file.read_text())
    checking = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    ignored = {id(inner) for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_before_it(file: Path) -> None:
    own = ORDER.index(layer(file))
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "trtkit" and parts[1] in (*ORDER, *SAME):
            assert ORDER.index(SAME.get(parts[1], parts[1])) <= own, f"{file.name} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_foreign_package_has_one_home(file: Path) -> None:
    for name in imports(file):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or layer(file) in homes, f"{file.name} imports {name}"


def test_every_module_is_in_the_order() -> None:
    assert {layer(file) for file in FILES} <= set(ORDER)


def test_the_public_api() -> None:
    assert trtkit.__all__ == sorted(trtkit.__all__)
    assert set(trtkit.__all__) == {*trtkit._HOMES, "__version__"}
    for name in trtkit.__all__:
        value = getattr(trtkit, name)
        assert value is not None
        if callable(value):
            assert value.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = trtkit.nothing


def test_no_module_hides_a_public_name() -> None:
    """A submodule becomes an attribute of the package when it is imported, in place of a function of its name."""
    assert {file.stem for file in FILES if file.parent == PACKAGE} & set(trtkit.__all__) == set()


def test_importing_trtkit_imports_nothing_heavy() -> None:
    code = "import sys, trtkit; print(*{name.partition('.')[0] for name in sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert not {"numpy", "onnx", "grpc", "click", "pydantic", "yaml", "torch"} & set(out.split())
