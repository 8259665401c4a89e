# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Packed environments of Python models: made, or given and checked, and served where only they have a package."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lint_repositories import findings
from test_build import Workspace, reasons
from trtkit.errors import BuildError
from trtkit.project import Target, load_project
from trtkit.python_models.archive import check_archive
from trtkit.python_models.environment import make_environment
from trtkit.python_models.key import server_python
from trtkit.repository import latest
from trtkit.server import RunningServer, connect, serve

PACKAGE = "only_in_the_environment"
WHEEL = f"{PACKAGE}-1.0-py3-none-any.whl"
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
CODE = f"import {PACKAGE}\n\ndef f(x):\n    return {PACKAGE}.double(x)\n"
MODEL = """
m:
  source: {python: 'f.py:f'}
  inputs: {x: {shape: [batch, 4]}}
  outputs: {y: {shape: [batch, 4]}}
  environment: %s
"""


def write_wheel(folder: Path) -> Path:
    """A package that is nowhere else, as a wheel."""
    info = f"{PACKAGE}-1.0.dist-info"
    script = f"[console_scripts]\ndouble = {PACKAGE}:main\n"
    files = {
        f"{PACKAGE}.py": "def double(x):\n    return x * 2\n\ndef main():\n    print(double(21))\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": script,
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / WHEEL


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project whose model needs the package, built once."""
    workspace = Workspace(tmp_path_factory.mktemp("environment"))
    write_wheel(workspace.root)
    workspace.write(MODEL % "requirements.txt", f__py=CODE, requirements__txt=f"./{WHEEL}\n")
    workspace.built()
    return workspace


@pytest.fixture(scope="module")
def archive(work: Workspace) -> Path:
    (found,) = (work.repository / "m").glob("environment-*.tar.gz")
    return found


@pytest.fixture(scope="module")
def served(work: Workspace) -> Iterator[RunningServer]:
    with serve(work.repository) as server:
        yield server


# -- made from requirements


@pytest.mark.triton
def test_a_package_that_only_the_environment_has_is_served(served: RunningServer) -> None:
    assert importlib.util.find_spec(PACKAGE) is None
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    with connect(served.http_url) as client:
        np.testing.assert_array_equal(client.infer("m", {"x": x})["y"], x * 2)


def test_the_record_and_the_config_name_it(work: Workspace, archive: Path) -> None:
    config = (work.repository / "m" / "config.pbtxt").read_text()
    assert f'"$$TRITON_MODEL_DIRECTORY/{archive.name}"' in config
    version = latest(work.repository, "m")
    assert version is not None
    environment = version.record["environment"]
    assert (environment["file"], environment["python"]) == (archive.name, OWN)
    assert f"{PACKAGE.replace('_', '-')}==1.0" in environment["packages"]
    assert [name for name in environment["packages"] if name.startswith("numpy==1.")]
    assert findings(work.repository) == []


def test_a_second_build_makes_nothing_and_a_lost_archive_is_put_back(work: Workspace, archive: Path) -> None:
    assert work.built()["m"].up_to_date
    content = archive.read_bytes()
    archive.unlink()
    assert reasons(work.built()["m"]) == {"publish": f"{archive.name} changed"}
    assert archive.read_bytes() == content


def test_it_holds_no_path_of_the_machine_that_made_it(archive: Path, work: Workspace, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "env", filter="tar")
    assert not [path for path in (tmp_path / "env").rglob("*") if path.is_symlink()]
    texts = [path for folder in ("bin", "lib") for path in (tmp_path / "env" / folder).rglob("*") if path.is_file()]
    mine = [str(work.root).encode(), str(Path(sys.prefix)).encode()]
    guilty = [
        path for path in texts if path.name != "direct_url.json" and any(one in path.read_bytes() for one in mine)
    ]
    assert guilty == []


def test_its_programs_run_with_its_python(archive: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "env", filter="tar")
    line = 'source "$0/bin/activate" && double && python3 -c "import sys; print(sys.prefix)"'
    done = subprocess.run(
        ["bash", "-c", line, str(tmp_path / "env")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert done == ["42", str(tmp_path / "env")]


def test_another_python_on_the_path_is_told_and_left_alone(tmp_path: Path) -> None:
    from trtkit.python_models.environment import _ACTIVATE

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text(_ACTIVATE.format(minor="3.99"))
    line = 'source "$0/bin/activate" && echo "$VIRTUAL_ENV"'
    clean = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", line, str(tmp_path)], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert "this environment is for Python 3.99" in done.stderr


@pytest.mark.parametrize(
    ("requirements", "sentence"),
    [
        ("['numpy>=2']", "pip cannot make the environment for Python"),
        ("['./gone.whl']", "pip cannot make the environment for Python"),
        ("gone.txt", "there is no file or folder 'gone.txt'"),
    ],
)
def test_requirements_that_cannot_be_met_are_one_sentence(tmp_path: Path, requirements: str, sentence: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.write(MODEL % requirements, f__py=CODE)
    done = workspace.command()
    assert done.returncode in (2, 4)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("trtkit build:")]
    assert line.startswith("trtkit build: trtkit.yaml:6:")
    assert sentence in line


def test_a_package_that_is_missing_from_it_is_found_before_publishing(work: Workspace, tmp_path: Path) -> None:
    project = Path(shutil.copytree(work.root, tmp_path / "copy", symlinks=True))
    copy = Workspace(project)
    (project / "f.py").write_text(f"import yaml\n{CODE}")  # this Python has it, the environment has not
    _, error = copy.build()
    assert isinstance(error, BuildError)
    assert "'f:f' cannot be imported: ModuleNotFoundError: No module named 'yaml'" in str(error)
    assert latest(copy.repository, "m").version == 1


def test_for_another_python_wheels_of_it_are_taken(tmp_path: Path) -> None:
    other = "3.12" if OWN != "3.12" else "3.10"
    write_wheel(tmp_path)
    workspace = Workspace(tmp_path)
    workspace.write(MODEL % f"[./{WHEEL}]", f__py=CODE)
    (tmp_path / "made").mkdir()
    facts = make_environment(load_project(tmp_path / "trtkit.yaml"), "m", other, tmp_path / "made")
    with tarfile.open(tmp_path / "made" / facts["file"]) as archive:
        names = archive.getnames()
    tag = f"cpython-{other.replace('.', '')}"
    site = f"lib/python{other}/site-packages"
    assert f"{site}/{PACKAGE}.py" in names
    assert [name for name in names if name.startswith(f"{site}/numpy/") and tag in name]


def test_the_python_is_the_targets() -> None:
    image = "nvcr.io/nvidia/tritonserver"
    assert server_python(Target()) == (OWN, "")
    assert server_python(Target(image=f"{image}:24.10-py3")) == ("3.10", "")
    assert server_python(Target(image=f"{image}:24.11-py3")) == ("3.12", "")
    assert server_python(Target(image="mine:1", python_version="3.12")) == ("3.12", "")
    python, note = server_python(Target(image="mine:1"))
    assert python == OWN
    assert "the Python of mine:1 is not known" in note


# -- given as an archive


@pytest.mark.triton
def test_an_archive_may_be_given(archive: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    shutil.copyfile(archive, tmp_path / "mine.tar.gz")
    workspace.write(MODEL % "mine.tar.gz", f__py=CODE)
    workspace.built()
    (published,) = (workspace.repository / "m").glob("environment-*.tar.gz")
    assert published.read_bytes() == archive.read_bytes()
    with serve(workspace.repository) as server, connect(server.http_url) as client:
        assert client.infer("m", {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2.0] * 4]


def packed(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for entry in folder.iterdir():
            archive.add(entry, entry.name)
    return file


def environment_folder(folder: Path, *, python: str = OWN, activate: str = "") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text(activate)
    (folder / "lib" / f"python{python}" / "site-packages").mkdir(parents=True)
    return folder


def test_an_ordinary_venv_is_not_relocatable(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=True, symlinks=True)
    file = packed(tmp_path / "venv", tmp_path / "venv.tar.gz")
    (tmp_path / "work").mkdir()
    with pytest.raises(BuildError, match="is not relocatable: activated in another folder its Python is that of"):
        check_archive(file, OWN, tmp_path / "work", "here")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("text", "cannot be unpacked as tar.gz"),
        ("nested", "has no bin/activate at its top, where it has env"),
        ("other", "holds python3.99; the server's stub is one of Python"),
        ("empty", "has no Python that imports numpy, as the stub does"),
    ],
)
def test_an_archive_that_does_not_fit_is_one_sentence(tmp_path: Path, kind: str, sentence: str) -> None:
    file, folder = tmp_path / "e.tar.gz", tmp_path / "folder"
    if kind == "text":
        file.write_text("no archive")
    elif kind == "nested":
        environment_folder(folder / "env")
        packed(folder, file)
    else:
        packed(environment_folder(folder, python="3.99" if kind == "other" else OWN, activate="PATH=/nowhere"), file)
    (tmp_path / "work").mkdir()
    with pytest.raises(BuildError) as caught:
        check_archive(file, OWN, tmp_path / "work", "here")
    assert str(caught.value).startswith("here: 'e.tar.gz' ")
    assert sentence in str(caught.value)
