# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions of the project as models: what is packed with them, and the one call before they are published."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lint_repositories import findings
from test_build import Workspace, reasons
from trtkit.config import ModelConfig, read_config
from trtkit.errors import BuildError, DataError, ProjectError
from trtkit.parts import part_files
from trtkit.python_models.modules import project_modules
from trtkit.repository import latest
from trtkit.server import RunningServer, connect, serve

TENSORS = "inputs: {x: {shape: [batch, 4]}}, outputs: {y: {shape: [batch, 4]}}"
TWICE = "def f(x):\n    return x * 2\n"


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def twice(work: Workspace) -> Workspace:
    """A project with the model `m`, a function that doubles, built as version 1."""
    work.write(f"m: {{source: {{python: 'f.py:f'}}, {TENSORS}}}", f__py=TWICE)
    work.built()
    return work


def config_of(work: Workspace, name: str = "m") -> ModelConfig:
    return read_config((work.repository / name / "config.pbtxt").read_text(), name)


def failure(work: Workspace) -> str:
    try:
        _, error = work.build()
    except ProjectError as exc:
        return str(exc)
    assert isinstance(error, BuildError | DataError)
    return str(error)


# -- what is published


def test_a_function_becomes_a_model(twice: Workspace) -> None:
    version = latest(twice.repository, "m")
    assert version is not None
    assert set(version.record["files"]) == {*part_files("python_function"), "f.py"}
    config = config_of(twice)
    assert config.parameters["function"].string_value == "f:f"
    rows = [(row.name, row.data_type, list(row.dims)) for row in (*config.input, *config.output)]
    assert rows == [("x", 11, [4]), ("y", 11, [4])]
    assert config.max_batch_size == 32
    assert findings(twice.repository) == []
    assert twice.built()["m"].up_to_date


def test_tensors_may_stand_in_the_config_block_and_need_no_batch(work: Workspace) -> None:
    work.write(
        """
        c:
          source: {python: 'f.py:f'}
          config:
            max_batch_size: 0
            input: [{name: x, data_type: TYPE_INT32, dims: [-1, 2]}]
            output: [{name: y, data_type: TYPE_INT64, dims: [-1, 2]}]
        fixed: {source: {python: 'f.py:f'}, inputs: {x: {shape: [3]}}, outputs: {y: {shape: [3]}}}
        scalar: {source: {python: 'f.py:f'}, inputs: {x: {shape: [batch]}}, outputs: {y: {shape: [batch]}}}
        """,
        f__py=TWICE,
    )
    work.built()
    assert (config_of(work, "c").max_batch_size, list(config_of(work, "c").input[0].dims)) == (0, [-1, 2])
    assert config_of(work, "fixed").max_batch_size == 0
    assert list(config_of(work, "scalar").input[0].reshape.shape) == []
    assert list(config_of(work, "scalar").input[0].dims) == [1]


def test_the_projects_modules_come_along_and_others_do_not(tmp_path: Path) -> None:
    files = {
        "src/f.py": "import numpy, json, near\nfrom pack.inner import thing\nfrom spread.one import x\nimport gone",
        "src/near.py": "import far",
        "far.py": "",
        "stranger.py": "",
        "pack/__init__.py": "",
        "pack/inner.py": "from . import other",
        "pack/other.py": "",
        "pack/data.bin": "",
        "pack/__pycache__/x.pyc": "",
        "spread/one.py": "",
        "spread/two.py": "",
        "json.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = project_modules(tmp_path / "src" / "f.py", tmp_path)
    assert found.name == "f"
    package = ["pack/__init__.py", "pack/data.bin", "pack/inner.py", "pack/other.py"]
    assert sorted(found.files) == ["f.py", "far.py", "near.py", *package, "spread/one.py"]
    inside = project_modules(tmp_path / "pack" / "inner.py", tmp_path)
    assert (inside.name, sorted(inside.files)) == ("pack.inner", package)


def test_a_change_in_a_module_that_is_imported_gives_a_new_version(work: Workspace) -> None:
    work.write(
        f"m: {{source: {{python: 'f.py:f'}}, {TENSORS}}}",
        f__py="import g\n\ndef f(x):\n    return g.g(x)\n",
        g__py="def g(x):\n    return x\n",
    )
    work.built()
    (work.root / "g.py").write_text("def g(x):\n    return x + 1\n")
    assert reasons(work.built()["m"]) == {"python": "changed: g.py", "publish": "the artifact changed"}
    assert "x + 1" in (work.repository / "m" / "2" / "g.py").read_text()


def test_evaluation_data_are_what_it_is_called_with(work: Workspace) -> None:
    model = """
    m:
      source: {python: 'f.py:f'}
      inputs: {text: {data_type: BYTES, shape: [batch, 1]}}
      outputs: {length: {data_type: INT64, shape: [batch, 1]}}
      parameters: {strings: str}
    """
    code = """
    import numpy as np

    def f(text):
        return np.array([[int(row[0])] for row in text])

    def rows():
        return {"text": np.array([["12"], ["34"]])}
    """
    work.write(model, f__py=code)
    error = failure(work)
    assert "'f:f' raised ValueError: invalid literal for int()" in error
    assert "called with random data (`evaluate: {data: …}` would give real rows): text [2, 1]" in error
    work.write(f"{textwrap.dedent(model)}  evaluate: {{data: 'f.py:rows'}}")
    work.built()


# -- mistakes


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def g(x):\n    return x\n", "f.py defines no 'f'; available: g"),
        (
            "import nowhere\n\ndef f(x):\n    return x\n",
            "'f:f' cannot be imported: ModuleNotFoundError: No module named",
        ),
        ("def f(x):\n    return x.sum()\n", "output 'y' has shape [], expected [2, 4]"),
        ("def f(x):\n    return x.astype('int32').astype('float64')\n", "output 'y' is float64, expected float32"),
        ("def f(x):\n    return {'z': x}\n", "it returned a dictionary with z, expected y"),
        ("def f(x):\n    return None\n", "it returned None, expected y"),
        ("def f(y):\n    return y\n", "'f:f' has no parameter for input 'x'; it has y"),
        ("def f(x, more):\n    return x\n", "parameter 'more' of 'f:f' is no input of the model, which has x"),
        ("def f(x):\n    raise KeyError('k')\n", "'f:f' raised KeyError: 'k'"),
        ("import os\n\ndef f(x):\n    os._exit(3)\n", "the function's process ended with exit code 3"),
        ("f = 3\n", "'f:f' is a int, expected something that can be called"),
        ("async def f(x):\n    return x\n", "'f:f' is asynchronous"),
        ("def f(x:\n", "is not valid Python"),
    ],
)
def test_a_mistake_in_the_function_is_a_build_error(work: Workspace, code: str, sentence: str) -> None:
    work.write(f"m: {{source: {{python: 'f.py:f'}}, {TENSORS}}}", f__py=code)
    error = failure(work)
    assert error.startswith("trtkit.yaml:2:")
    assert sentence in error
    assert not (work.repository / "m").exists()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("{source: {python: f.py}}", "which name of that file?"),
        ("{source: {python: 'gone.py:f'}}", "there is no file gone.py"),
        ("{source: {python: 'model.py:f'}, inputs: {x: {}}}", "'shape' is missing"),
        (f"{{source: {{python: 'model.py:f'}}, {TENSORS}}}", "'model.py' is a file of trtkit's own"),
        ("{source: {python: 'f.py:f'}}", "model 'm' has no inputs; give it `inputs:"),
        ("{source: {python: 'f.py:f'}, inputs: {x: {shape: [batch, 4]}}}", "model 'm' has no outputs"),
        (f"{{source: {{python: 'f.py:f'}}, {TENSORS}, parameters: {{batches: whole}}}}", "has no parameter 'batches'"),
        (f"{{source: {{python: 'f.py:f'}}, {TENSORS}, parameters: {{arguments: '['}}}}", "the arguments are no JSON"),
        (
            "{source: {python: 'f.py:f'}, inputs: {x: {shape: [4]}}, outputs: {y: {shape: [4]}}, "
            "config: {max_batch_size: 8}}",
            "max_batch_size is 8, so that the first axis",
        ),
        (
            "{source: {python: 'f.py:f'}, inputs: {x: {data_type: BF16, shape: [4]}}, outputs: {y: {shape: [4]}}}",
            "'x' is TYPE_BF16, which numpy lacks",
        ),
        (f"{{source: {{python: 'f.py:f'}}, {TENSORS}, precision: int8}}", "a Python model has no graph"),
    ],
)
def test_a_mistake_in_the_project_file_is_one_sentence(work: Workspace, model: str, sentence: str) -> None:
    work.write(f"m: {model}", f__py=TWICE, model__py=TWICE)
    error = failure(work)
    assert error.startswith("trtkit.yaml:2:")
    assert sentence in error


def test_what_the_function_prints_goes_to_the_log(work: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    work.write(f"m: {{source: {{python: 'f.py:f'}}, {TENSORS}}}", f__py="print('hello')\n" + TWICE)
    work.built()
    assert "hello" in (work.root / ".trtkit" / "logs" / "m.python.log").read_text()
    assert "hello" not in capfd.readouterr().out


def test_nothing_of_the_call_is_left_in_the_version(twice: Workspace) -> None:
    assert not list((twice.repository / "m").rglob("*.pyc"))
    assert not list((twice.root / ".trtkit").glob("tmp-*"))


# -- served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = Workspace(tmp_path_factory.mktemp("python"))
    code = """
    from pathlib import Path

    from helper import add

    WEIGHT = float((Path(__file__).parent / "weight.txt").read_text())

    class Model:
        def __init__(self, offset):
            self.offset = offset

        def __call__(self, x):
            return add(x * WEIGHT, self.offset)
    """
    model = """
    m:
      source: {python: 'f.py:Model'}
      inputs: {x: {shape: [batch, 4]}}
      outputs: {y: {shape: [batch, 4]}}
      parameters: {arguments: {offset: 1.5}, batch: whole}
      files: {weight.txt: weight.txt}
    """
    work.write(model, f__py=code, helper__py="def add(x, y):\n    return x + y\n", weight__txt="3")
    work.built()
    with serve(work.repository) as server:
        yield server


@pytest.mark.triton
def test_it_is_served_with_its_modules_and_data(served: RunningServer) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for url, protocol in ((served.http_url, "http"), (served.grpc_url, "grpc")):
        with connect(url, protocol) as client:
            np.testing.assert_array_equal(client.infer("m", {"x": x})["y"], x * 3 + 1.5)
