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

# within deploy: what a plan is, what it is made of, the plan; then what is rendered, or reckoned, from one
PLANNING = (
    "figure", "yaml_out", "files", "releases", "options", "cron", "planned", "measured", "digests", "facts", "gpus",
    "place", "host_memory", "gpu_memory", "memory", "packing", "startup", "drain", "rollout", "scaling_plan",
    "server_flags", "checks_options", "checks_repository", "checks_fit", "checks_scaling", "checks_sizes", "checks",
    "plan", "measure", "density", "plan_plot", "plan_report",
)  # fmt: skip
RENDERING = ("docker", "envoy", "monitoring", "kubernetes", "compose", "ci", "clusters", "manifests", "simulation")
# what one of them may take from another: names, and files that go into a larger whole
INTERFACES = {
    "clusters": {"kubernetes.meta", "kubernetes.placement"},
    "compose": {"envoy.addresses", "envoy.bootstrap", "kubernetes.settings", "monitoring.stack"},
    "kubernetes": {"monitoring.objects"},
    "monitoring": {"kubernetes.meta"},
    "simulation": {"kubernetes.scaling"},
}
# a renderer takes a plan and makes none: of what makes one, it uses these
FOR_RENDERERS = {*PLANNING[: PLANNING.index("measured") + 1], "gpus", "drain", "scaling_plan"}


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


DEPLOY = [file for file in FILES if layer(file) == "deploy" and file.parts[-2:] != ("deploy", "__init__.py")]


def of_deploy(name: str) -> str:
    """A module within deploy, e.g. ``kubernetes.meta``, of a name that is imported from it."""
    parts = name.removeprefix("trtkit.deploy.").split(".")
    return ".".join(parts[: 2 if parts[0] in RENDERING else 1])


@pytest.mark.parametrize("file", DEPLOY, ids=lambda file: str(file.relative_to(PACKAGE / "deploy")))
def test_deploy_plans_first_and_renders_then(file: Path) -> None:
    own = file.relative_to(PACKAGE / "deploy").parts[0].removesuffix(".py")
    imported = {of_deploy(name) for name in imports(file) if name.startswith("trtkit.deploy.")}
    if own in PLANNING:
        before = set(PLANNING[: PLANNING.index(own)])
        assert imported - before == set(), "imports what stands after it, or is rendered from a plan"
    else:
        assert own in RENDERING
        others = {name for name in imported if name.partition(".")[0] != own}
        assert others - FOR_RENDERERS - INTERFACES.get(own, set()) == set()


def test_deploy_has_no_circle_of_imports() -> None:
    """The interfaces between its parts go both ways; its modules do not."""
    modules = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in DEPLOY}
    ahead = {
        module: {name for each in imports(file) if (name := module_of(each)) in modules and name != module}
        for module, file in modules.items()
    }
    while free := {module for module, names in ahead.items() if not names & ahead.keys()}:
        ahead = {module: names for module, names in ahead.items() if module not in free}
    assert ahead == {}, "these import each other"


def module_of(name: str) -> str:
    """The module of a name that is imported from it, without the package's name: ``deploy.figure``."""
    module = name.removeprefix("trtkit.")
    return module if (PACKAGE / module.replace(".", "/")).with_suffix(".py").is_file() else module.rpartition(".")[0]


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
