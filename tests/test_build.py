# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The build: what runs and why, what is published, and what a failure leaves as it was."""

from __future__ import annotations

import hashlib
import json
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from conftest import ECHO_MODEL
from trtkit.build import build_models
from trtkit.build_results import BuildResult, worst_parity
from trtkit.errors import (
    BuildError,
    ConfigError,
    ExportError,
    MissingDependencyError,
    ProjectError,
    RepositoryError,
    TrtkitError,
)
from trtkit.project import load_project
from trtkit.repository import config_text, latest, versions


def times(factor: float, width: int = 4) -> ModelProto:
    """x [batch, width] -> y, factor times x."""
    shape = ["batch", width]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full(width, factor, np.float32), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Workspace:
    """A project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.repository = root, root / "model_repository"

    def write(self, models: str, **files: str | ModelProto) -> None:
        """The models of trtkit.yaml (the first in line 2), and files: ``a__py`` is a.py."""
        (self.root / "trtkit.yaml").write_text(
            "models:\n" + textwrap.indent(textwrap.dedent(models).strip(), "  ") + "\n"
        )
        for name, content in files.items():
            file = self.root / name.replace("__", ".")
            if isinstance(content, str):
                file.write_text(textwrap.dedent(content))
            else:
                onnx.save(content, str(file))

    def build(
        self, *names: str, force: bool = False, jobs: int = 0
    ) -> tuple[dict[str, BuildResult], TrtkitError | None]:
        """The results by model, and the first error."""
        results, error = build_models(load_project(self.root / "trtkit.yaml"), names, force=force, jobs=jobs)
        return {result.model: result for result in results}, error

    def built(self, *names: str, force: bool = False) -> dict[str, BuildResult]:
        """The results of a build without errors."""
        results, error = self.build(*names, force=force)
        assert error is None
        return results

    def command(self, *arguments: str, file_size: int = 0) -> subprocess.CompletedProcess[str]:
        """``trtkit build`` as a process; `file_size`: the largest file it may write, as on a full disk."""
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))) if file_size else None
        command = [sys.executable, "-m", "trtkit", "build", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, preexec_fn=limit)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def one(work: Workspace) -> Workspace:
    """A project with the model `m`, 2 times x, built as version 1."""
    work.write("m: {source: {onnx: m.onnx}}", m__onnx=times(2))
    work.built()
    return work


def reasons(result: BuildResult) -> dict[str, str]:
    """Why each stage ran; without those that did not."""
    return {stage.stage: stage.why for stage in result.stages if stage.ran}


# -- what runs, and why


def test_a_first_build_publishes_version_1(work: Workspace) -> None:
    work.write("m: {source: {onnx: m.onnx}}", m__onnx=times(2))
    events: list[tuple[str, str, str]] = []
    project = load_project(work.root / "trtkit.yaml")
    results, error = build_models(project, on_event=lambda *event: events.append(event))
    assert error is None
    (result,) = results
    assert reasons(result) == {
        "export": "never built here", "config": "never built here", "publish": "no version is published",
    }  # fmt: skip
    assert events == [("m", "export", "never built here"), ("m", "export", "done"), ("m", "publish", "version 1")]
    assert (result.version, result.precision, result.skipped, result.error) == (1, "fp32", "", "")
    assert not result.up_to_date
    published = latest(work.repository, "m")
    assert published is not None
    assert result.byte_size == published.byte_size > 0
    assert set(published.record["files"]) == {"model.onnx"}
    assert published.record["made_from"]["files"] == {
        "m.onnx": hashlib.sha256((work.root / "m.onnx").read_bytes()).hexdigest()
    }
    assert published.record["max_batch_size"] == 8
    assert json.loads(json.dumps(result.to_json()))["up_to_date"] is False


def test_a_second_build_does_nothing(one: Workspace) -> None:
    def stats() -> dict[str, tuple[int, int]]:
        paths = [path for path in one.root.rglob("*") if path.name != "lock"]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}

    one.built()  # remembers that the published files were looked at
    before = stats()
    result = one.built()["m"]
    assert stats() == before
    assert result.up_to_date
    assert [(stage.stage, stage.ran, stage.why) for stage in result.stages] == [
        ("export", False, "up to date"), ("config", False, "up to date"), ("publish", False, "version 1 is up to date"),
    ]  # fmt: skip


def test_a_changed_source_is_named_and_gives_a_new_version(one: Workspace) -> None:
    first = tree(one.repository / "m" / "1")
    onnx.save(times(3), str(one.root / "m.onnx"))
    result = one.built()["m"]
    assert reasons(result) == {"export": "changed: m.onnx", "publish": "the artifact changed"}
    assert result.version == 2
    assert tree(one.repository / "m" / "1") == first


def test_a_change_that_is_taken_back_needs_no_export(one: Workspace) -> None:
    onnx.save(times(3), str(one.root / "m.onnx"))
    one.built()
    onnx.save(times(2), str(one.root / "m.onnx"))
    result = one.built()["m"]
    assert reasons(result) == {"publish": "the artifact changed"}
    assert result.version == 3
    assert (one.repository / "m" / "3" / "model.onnx").read_bytes() == (
        one.repository / "m" / "1" / "model.onnx"
    ).read_bytes()


def test_a_source_that_is_only_written_again_changes_nothing(one: Workspace) -> None:
    (one.root / "m.onnx").write_bytes((one.root / "m.onnx").read_bytes())
    assert one.built()["m"].up_to_date


def test_a_changed_key_is_named(one: Workspace) -> None:
    one.write("m: {source: {onnx: m.onnx}, config: {max_batch_size: 4}}")
    result = one.built()["m"]
    assert reasons(result) == {
        "export": "changed: max_batch_size",  # so many rows are proven
        "config": "changed: config, exported model",
        "publish": "config.pbtxt changed",
    }
    assert "max_batch_size: 4" in (config_text(one.repository, "m") or "")
    assert result.version == 1


def test_a_changed_config_block_exports_nothing(one: Workspace) -> None:
    one.write("m: {source: {onnx: m.onnx}, config: {instance_group: [{count: 2}]}}")
    result = one.built()["m"]
    assert reasons(result) == {"config": "changed: config", "publish": "config.pbtxt changed"}
    assert [version.version for version in versions(one.repository, "m")] == [1]


def test_files_that_the_users_code_reads_are_named(work: Workspace) -> None:
    work.write(
        "m: {source: {callable: make.py:model}, evaluate: {data: d.npz}}",
        m__onnx=times(2),
        make__py="import onnx, more\ndef model(): return onnx.load(more.FILE)\n",
        more__py="FILE = 'm.onnx'\n",
    )
    np.savez(work.root / "d.npz", x=np.ones((3, 4), np.float32))
    py_compile.compile(str(work.root / "more.py"))  # so that Python opens the compiled file instead
    work.built()
    for file, change in {
        "make.py": lambda: (work.root / "make.py").write_text(
            "import onnx, more\ndef model():\n    return onnx.load(more.FILE)\n"
        ),
        "more.py": lambda: (work.root / "more.py").write_text("FILE = './m.onnx'\n"),
        "m.onnx": lambda: onnx.save(times(3), str(work.root / "m.onnx")),
        "d.npz": lambda: np.savez(work.root / "d.npz", x=np.zeros((3, 4), np.float32)),
    }.items():
        assert work.built()["m"].up_to_date
        change()
        assert reasons(work.built()["m"])["export"] == f"changed: {file}"


@pytest.mark.parametrize("source", ["onnx: m.onnx", "callable: make.py:f"])
def test_changed_external_data_are_named(work: Workspace, source: str) -> None:
    work.write(f"m: {{source: {{{source}}}}}", make__py="import onnx\ndef f(): return onnx.load('m.onnx')\n")
    for factor in (2, 3):
        model = times(factor, width=400)
        (work.root / "m.data").unlink(missing_ok=True)  # onnx appends to it
        onnx.save_model(
            model, str(work.root / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0
        )
        why = reasons(work.built()["m"])["export"]
    assert why == "changed: m.data"
    assert [version.version for version in versions(work.repository, "m")] == [1, 2]


def test_a_source_outside_the_project_is_watched_too(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "project")
    elsewhere = tmp_path / "elsewhere"
    for folder in (work.root, elsewhere):
        folder.mkdir()
    (elsewhere / "make.py").write_text("import helper\ndef f(): return helper.load()\n")
    (elsewhere / "helper.py").write_text("import onnx\ndef load(): return onnx.load('m.onnx')\n")
    onnx.save(times(2), str(elsewhere / "m.onnx"))
    (work.root / "link.onnx").symlink_to(elsewhere / "m.onnx")
    models = f"""
        a: {{source: {{onnx: {elsewhere}/m.onnx}}}}
        b: {{source: {{onnx: link.onnx}}}}
        c: {{source: {{callable: ../elsewhere/make.py:f}}}}
    """
    work.write(models, m__onnx=times(5))
    work.built()
    assert all(result.up_to_date for result in work.built().values())
    onnx.save(times(3), str(elsewhere / "m.onnx"))
    (elsewhere / "helper.py").write_text("import onnx\n\ndef load(): return onnx.load('m.onnx')\n")
    results = work.built()
    assert reasons(results["a"])["export"] == reasons(results["b"])["export"] == f"changed: {elsewhere}/m.onnx"
    assert reasons(results["c"])["export"] == f"changed: {elsewhere}/helper.py"


def test_force_runs_every_stage(one: Workspace) -> None:
    result = one.built(force=True)["m"]
    assert reasons(result) == {"export": "--force", "config": "--force", "publish": "--force"}
    assert result.version == 2


def test_only_the_named_models_are_built(work: Workspace) -> None:
    work.write("a: {source: {onnx: a.onnx}}\nb: {source: {onnx: b.onnx}}", a__onnx=times(2), b__onnx=times(3))
    assert list(work.built("b")) == ["b"]
    assert [path.name for path in work.repository.iterdir()] == ["b"]
    with pytest.raises(ProjectError, match="model 'c' is not in"):
        work.build("a", "c")
    assert list(work.built()) == ["a", "b"]


# -- requires


def test_a_model_whose_requirement_is_missing_is_left_out_unless_it_is_named(work: Workspace) -> None:
    models = """
        a: {source: {onnx: a.onnx}, requires: [numpy, no_such_module.part]}
        b: {source: {onnx: a.onnx}, requires: [onnx.helper]}
        e:
          requires: [torch_of_nowhere]
          ensemble: [{model: b, inputs: {x: X}, outputs: {y: Y}}]
    """
    work.write(models, a__onnx=times(2))
    results = work.built()
    assert results["a"].skipped == "no_such_module.part is not installed"
    assert results["e"].skipped == "torch_of_nowhere is not installed"
    assert not results["a"].up_to_date
    assert results["b"].version == 1
    for name, place, module in (("a", "2:31", "no_such_module.part"), ("e", "5:5", "torch_of_nowhere")):
        results, error = work.build(name)
        assert isinstance(error, MissingDependencyError)
        assert str(error) == f"trtkit.yaml:{place}: model '{name}' requires {module}, which is not installed"
        assert results[name].error == str(error)
    assert [path.name for path in work.repository.iterdir()] == ["b"]


def test_the_missing_requirement_of_a_named_ensembles_step_is_an_error(work: Workspace) -> None:
    models = """
        a: {source: {onnx: a.onnx}, requires: [no_such_module]}
        e: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: Y}}]}
    """
    work.write(models, a__onnx=times(2))
    assert work.built()["e"].skipped == "its step 'a' was not built"
    results, error = work.build("e")
    assert isinstance(error, MissingDependencyError)
    assert results["e"].skipped == "its step 'a' was not built"


# -- the user's code


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            "def f():\n    raise ValueError('bad\\nweights')\n",
            ExportError,
            r"'make\.py:f' raised ValueError: bad weights \(make\.py:2\)$",
        ),
        (
            "def f():\n    return g()\n\ndef g():\n    return {}['k']\n",
            ExportError,
            r"raised KeyError: 'k' \(make\.py:5\)$",
        ),
        ("import no_such_thing\nf = 1\n", ExportError, r"raised ModuleNotFoundError: .* \(make\.py:1\)$"),
        ("def f():\n    return 7\n", ExportError, r"'make\.py:f' gave an int; an ONNX model, .* is needed$"),
    ],
)
def test_code_that_raises_names_the_users_line(
    one: Workspace, code: str, kind: type[TrtkitError], message: str
) -> None:
    before = tree(one.repository)
    one.write("m: {source: {callable: make.py:f}}", make__py=code)
    results, error = one.build()
    assert isinstance(error, kind)
    with pytest.raises(kind, match=rf"^trtkit\.yaml:2:16: .*{message}"):
        raise error
    assert results["m"].error == str(error)
    assert results["m"].stages == []
    assert tree(one.repository) == before


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", f"was killed by signal {signal.SIGRTMIN + 3}"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os.write(int(sys.argv[2]), b'{'); os._exit(0)", "ended with exit code 0"),
        ("sys.exit(4)", "ended with exit code 4"),
    ],
)
def test_code_that_ends_the_process_is_told_with_the_end_of_its_log(one: Workspace, code: str, how: str) -> None:
    before = tree(one.repository)
    made = f"""
        import os, signal, sys
        def f():
            print("first words" + "\\n." * 50)
            print("last words", flush=True)
            {code}
    """
    one.write("m: {source: {callable: make.py:f}}", make__py=made)
    _, error = one.build()
    assert isinstance(error, BuildError)
    first, *rest = str(error).splitlines()
    assert first == f"model 'm': the export {how}; the end of {one.root}/.trtkit/logs/m.export.log:"
    assert rest[-1] == "last words"
    assert "first words" not in rest
    assert tree(one.repository) == before


def test_what_the_users_code_prints_goes_to_the_log(work: Workspace) -> None:
    code = "import onnx\nprint('training')\ndef f():\n    print('done')\n    return onnx.load('m.onnx')\n"
    work.write("m: {source: {callable: make.py:f}}", m__onnx=times(2), make__py=code)
    done = work.command("--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["models"][0]["version"] == 1
    assert (work.root / ".trtkit" / "logs" / "m.export.log").read_text().splitlines() == ["training", "done"]


def test_a_program_that_the_users_code_leaves_running_is_not_waited_for(work: Workspace) -> None:
    code = """
        import onnx, subprocess
        def f():
            left = subprocess.Popen(["sleep", "100"], close_fds=False)
            open("pid", "w").write(str(left.pid))
            return onnx.load("m.onnx")
    """
    work.write("m: {source: {callable: make.py:f}}", m__onnx=times(2), make__py=code)
    work.built()
    os.kill(int((work.root / "pid").read_text()), signal.SIGKILL)  # fails when it has ended


def test_a_wrong_config_block_is_found_before_the_users_code_runs(work: Workspace) -> None:
    work.write(
        "m: {source: {callable: make.py:f}, config: {max_batchsize: 4}}",
        make__py="def f():\n    open('ran', 'w').close()\n",
    )
    _, error = work.build()
    assert isinstance(error, ConfigError)
    assert str(error).startswith(
        "trtkit.yaml:2:47: 'max_batchsize' is no field of ModelConfig; did you mean 'max_batch_size'?"
    )
    assert not (work.root / "ran").exists()


def test_models_are_exported_at_the_same_time(work: Workspace) -> None:
    code = """
        import onnx, pathlib, time
        def meet(me, other):
            pathlib.Path(me).touch()
            for _ in range(600):
                if pathlib.Path(other).exists():
                    return onnx.load("m.onnx")
                time.sleep(0.05)
            raise TimeoutError(f"{other} never came")
        def a(): return meet("a", "b")
        def b(): return meet("b", "a")
    """
    models = "a: {source: {callable: make.py:a}}\nb: {source: {callable: make.py:b}}"
    work.write(models, m__onnx=times(2), make__py=code)
    results, error = work.build(jobs=2)
    assert error is None
    assert [result.version for result in results.values()] == [1, 1]


def test_one_failing_model_does_not_stop_the_others(work: Workspace) -> None:
    models = """
        a: {source: {callable: make.py:f}}
        b: {source: {onnx: m.onnx}}
    """
    work.write(models, m__onnx=times(2), make__py="def f(): raise OSError('no disk')\n")
    results, error = work.build()
    assert isinstance(error, ExportError)
    assert results["a"].error == str(error)
    assert results["b"].version == 1


# -- what stands in the repository


def test_a_config_that_was_edited_by_hand_is_kept(one: Workspace) -> None:
    config = one.repository / "m" / "config.pbtxt"
    edited = config.read_text().replace("max_batch_size: 8", "max_batch_size: 2")
    config.write_text(edited)
    onnx.save(times(3), str(one.root / "m.onnx"))
    before = tree(one.repository)
    _, error = one.build()
    assert isinstance(error, RepositoryError)
    assert str(error) == (
        f"{config} was written or edited by hand and would be replaced; "
        "move its fields to the `config:` block at trtkit.yaml:2:3, or build with --force"
    )
    assert tree(one.repository) == before
    assert one.built(force=True)["m"].version == 2
    assert "max_batch_size: 8" in config.read_text()


def test_a_config_of_an_older_project_file_is_replaced(one: Workspace) -> None:
    one.write("m: {source: {onnx: m.onnx}, config: {max_batch_size: 3}}")
    one.built()
    assert "max_batch_size: 3" in (config_text(one.repository, "m") or "")


def test_a_config_that_is_gone_is_written_again(one: Workspace) -> None:
    (one.repository / "m" / "config.pbtxt").unlink()
    assert reasons(one.built()["m"]) == {"publish": "config.pbtxt changed"}
    assert one.built()["m"].up_to_date


@pytest.mark.parametrize("damage", ["changed", "missing", "changed in place"])
def test_a_published_file_that_was_tampered_with_gives_a_new_version(one: Workspace, damage: str) -> None:
    one.built()
    file = one.repository / "m" / "1" / "model.onnx"
    good = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "changed":
        file.write_bytes(good[:-1] + b"x")
    else:
        status = file.stat()
        file.write_bytes(good[:-1] + b"x")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    tampered = tree(one.repository / "m" / "1")
    result = one.built()["m"]
    assert reasons(result) == {"publish": "version 1 was changed after it was published: model.onnx"}
    assert result.version == 2
    assert (one.repository / "m" / "2" / "model.onnx").read_bytes() == good
    assert tree(one.repository / "m" / "1") == tampered  # it may be evidence
    assert one.built()["m"].up_to_date


def test_a_warm_up_file_that_was_removed_is_put_back(one: Workspace) -> None:
    file = one.repository / "m" / "warmup" / "input_0.bin"
    good = file.read_bytes()
    for damage in (file.unlink, lambda: file.write_bytes(b"short")):
        damage()
        result = one.built()["m"]
        assert reasons(result) == {"publish": "warmup/input_0.bin changed"}
        assert (result.version, file.read_bytes()) == (1, good)
    assert one.built()["m"].up_to_date


def test_a_version_that_trtkit_did_not_publish_is_not_taken_for_ours(one: Workspace) -> None:
    (one.repository / "m" / "5").mkdir()
    result = one.built()["m"]
    assert reasons(result) == {"publish": "the artifact changed"}
    assert result.version == 6


def test_an_artifact_that_is_gone_is_exported_again(one: Workspace) -> None:
    (artifact,) = (one.root / ".trtkit" / "objects").iterdir()
    artifact.rename(one.root / "elsewhere")
    assert reasons(one.built()["m"]) == {"export": "its artifact is gone from the cache"}
    assert tree(artifact) == tree(one.root / "elsewhere")


def test_a_damaged_artifact_is_never_published(one: Workspace) -> None:
    (artifact,) = (one.root / ".trtkit" / "objects").iterdir()
    (artifact / "model.onnx").write_bytes(b"damaged")
    assert one.built()["m"].up_to_date  # what is published is good
    (one.repository / "m" / "1" / "model.onnx").unlink()
    before = tree(one.repository)
    _, error = one.build()
    assert isinstance(error, BuildError)
    assert "was damaged and is removed; build again" in str(error)
    assert tree(one.repository) == before
    assert one.built()["m"].version == 2


@pytest.mark.parametrize("place", [".trtkit", "model_repository"])
def test_a_file_where_a_folder_is_needed_is_one_sentence(work: Workspace, place: str) -> None:
    work.write("m: {source: {onnx: m.onnx}}", m__onnx=times(2))
    (work.root / place).write_text("mine")
    done = work.command()
    assert done.returncode == RepositoryError.exit_code
    assert place in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (work.root / place).read_text() == "mine"


def test_a_full_disk_leaves_the_repository_as_it_was(one: Workspace) -> None:
    before = tree(one.repository)
    onnx.save(times(3, width=100_000), str(one.root / "m.onnx"))
    done = one.command(file_size=100_000)
    assert done.returncode == RepositoryError.exit_code
    assert done.stderr.splitlines()[-1].endswith("nothing was changed")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(one.repository) == before
    assert one.command().returncode == 0
    assert [version.version for version in versions(one.repository, "m")] == [1, 2]


# -- ensembles

CHAIN = """
    outer: {ensemble: [{model: inner, inputs: {X: A}, outputs: {Y: B}}, {model: b, inputs: {x: B}, outputs: {y: C}}]}
    inner: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: Y}}]}
    b: {source: {onnx: b.onnx}}
    a: {source: {onnx: a.onnx}}
"""


def test_ensembles_are_built_after_what_they_are_made_of(work: Workspace) -> None:
    work.write(CHAIN, a__onnx=times(2), b__onnx=times(3))
    results = work.built()
    assert list(results) == ["outer", "inner", "b", "a"]
    assert [result.version for result in results.values()] == [1, 1, 1, 1]
    assert results["outer"].precision == "ensemble"
    assert [stage.stage for stage in results["outer"].stages] == ["config", "publish"]
    assert 'key: "X"' in (config_text(work.repository, "outer") or "")
    assert all(result.up_to_date for result in work.built().values())


def test_a_named_ensemble_brings_its_steps(work: Workspace) -> None:
    work.write(CHAIN, a__onnx=times(2), b__onnx=times(3))
    assert list(work.built("inner")) == ["inner", "a"]
    assert list(work.built("outer")) == ["outer", "inner", "b", "a"]


def test_an_ensemble_follows_its_steps_tensors(work: Workspace) -> None:
    work.write(CHAIN, a__onnx=times(2), b__onnx=times(3))
    work.built()
    for name in ("a", "b"):
        onnx.save(times(2, width=6), str(work.root / f"{name}.onnx"))
    results = work.built()
    assert reasons(results["inner"]) == {"config": "changed: config.pbtxt of a", "publish": "config.pbtxt changed"}
    assert results["inner"].version == 1
    assert "dims: [6]" in (config_text(work.repository, "outer") or "")


def test_the_block_and_the_wiring_of_an_ensemble_are_named_when_they_change(work: Workspace) -> None:
    models = "a: {source: {onnx: a.onnx}}\ne: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: Y}}]BLOCK}"
    work.write(models.replace("BLOCK", ""), a__onnx=times(2))
    work.built()
    work.write(models.replace("BLOCK", ", config: {max_batch_size: 2}"))
    assert reasons(work.built()["e"]) == {"config": "changed: config", "publish": "config.pbtxt changed"}
    work.write(models.replace("BLOCK", "").replace("y: Y", "y: Z"))
    assert reasons(work.built()["e"])["config"] == "changed: config, ensemble"


def test_an_ensemble_with_a_failed_step_is_skipped(work: Workspace) -> None:
    work.write(CHAIN, a__onnx=times(2), b__onnx=times(3))
    work.built()
    before = tree(work.repository)
    (work.root / "a.onnx").write_bytes(b"no model")
    results, error = work.build()
    assert isinstance(error, ExportError)
    assert results["a"].error == str(error)
    assert results["inner"].skipped == "its step 'a' was not built"
    assert results["outer"].skipped == "its step 'inner' was not built"
    assert results["b"].up_to_date
    assert tree(work.repository) == before


PAIR = """
    a: {source: {onnx: a.onnx}CONFIG}
    b: {source: {onnx: b.onnx}CONFIG}
    e: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: T}}, {model: b, inputs: {x: T}, outputs: {y: Y}}]MORE}
"""


def pair(config: str = "", more: str = "") -> str:
    return PAIR.replace("CONFIG", config).replace("MORE", more)


@pytest.fixture
def ensemble(work: Workspace) -> Workspace:
    """The ensemble `e` of `a` and `b`, 4 wide, built as version 1."""
    work.write(pair(), a__onnx=times(2), b__onnx=times(3))
    work.built()
    return work


def held(name: str, line: int, ensemble: str = "e") -> str:
    return (
        f"trtkit.yaml:{line}:3: model '{name}' is not published: its config.pbtxt changes, and the ensemble "
        f"'{ensemble}', which fits the published one, could not be rebuilt"
    )


def test_a_step_that_a_published_ensemble_would_no_longer_fit_is_held_back(ensemble: Workspace) -> None:
    before = tree(ensemble.repository)
    onnx.save(times(2, width=5), str(ensemble.root / "a.onnx"))  # and b stays 4 wide
    results, error = ensemble.build()
    assert isinstance(error, ConfigError)
    assert "tensor 'T' has the dims [5] at a.y and the dims [4] at b.x" in results["e"].error
    assert results["a"].error == held("a", 2)
    assert results["b"].up_to_date
    assert tree(ensemble.repository) == before
    onnx.save(times(3, width=5), str(ensemble.root / "b.onnx"))
    results = ensemble.built()
    assert [results[name].version for name in "abe"] == [2, 2, 1]
    assert not results["a"].stages[0].ran  # its export was remembered


def test_a_step_that_still_fits_is_published_beside_a_failed_one(ensemble: Workspace) -> None:
    onnx.save(times(7), str(ensemble.root / "a.onnx"))
    (ensemble.root / "b.onnx").write_bytes(b"no model")
    results, error = ensemble.build()
    assert isinstance(error, ExportError)
    assert results["e"].skipped == "its step 'b' was not built"
    assert (results["a"].version, results["a"].error) == (2, "")


def test_a_first_build_holds_nothing_back(work: Workspace) -> None:
    work.write(pair(), a__onnx=times(2, width=5), b__onnx=times(3))
    results, error = work.build()
    assert isinstance(error, ConfigError)
    assert [results[name].version for name in "abe"] == [1, 1, 0]


def test_what_was_made_to_fit_a_model_that_is_held_back_is_held_back_too(ensemble: Workspace) -> None:
    wider = "    f: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: Y}}]}\n"
    chain = "    g: {ensemble: [{model: f, inputs: {X: X}, outputs: {Y: Y}}]}\n"
    ensemble.write(pair() + wider + chain)
    ensemble.built()
    before = tree(ensemble.repository)
    onnx.save(times(2, width=5), str(ensemble.root / "a.onnx"))
    results, _ = ensemble.build()
    assert [results[name].error for name in "afg"] == [held("a", 2), held("f", 5), held("g", 6)]
    assert tree(ensemble.repository) == before


def test_the_other_steps_of_what_is_held_back_are_held_back_too(ensemble: Workspace) -> None:
    other = """
    c: {source: {onnx: c.onnx}}
    f: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: T}}, {model: c, inputs: {x: T}, outputs: {y: Y}}]}
    """
    ensemble.write(pair() + other, c__onnx=times(5))
    ensemble.built()
    before = tree(ensemble.repository)
    for name in ("a", "c"):  # which fit each other, as `f` has it; but `b` and so `e` stay 4 wide
        onnx.save(times(2, width=5), str(ensemble.root / f"{name}.onnx"))
    results, _ = ensemble.build()
    assert [results[name].error for name in "acf"] == [held("a", 2), held("c", 6, "f"), held("f", 7)]
    assert tree(ensemble.repository) == before


def test_an_ensemble_that_is_not_published_holds_nothing_back(work: Workspace) -> None:
    work.write(pair().split("    e:")[0], a__onnx=times(2), b__onnx=times(3))
    work.built()
    work.write(pair(), a__onnx=times(2, width=5))
    results, error = work.build()
    assert isinstance(error, ConfigError)
    assert results["e"].error == str(error)
    assert (results["a"].version, results["a"].error) == (2, "")


def test_a_step_that_is_not_there_at_all_is_not_held_back(ensemble: Workspace) -> None:
    shutil.rmtree(ensemble.repository / "a")
    (ensemble.root / "b.onnx").write_bytes(b"no model")
    results, _ = ensemble.build()
    assert (results["a"].version, results["a"].error) == (1, "")


def test_only_what_was_published_took_time_to_publish(ensemble: Workspace) -> None:
    onnx.save(times(7), str(ensemble.root / "a.onnx"))
    results = ensemble.built()
    assert results["a"].stages[-1].seconds > 0.0
    assert [results[name].stages[-1].seconds for name in "be"] == [0.0, 0.0]


def test_a_model_built_alone_takes_its_published_ensembles_along(ensemble: Workspace) -> None:
    ensemble.write(pair(", config: {max_batch_size: 2}"))
    results = ensemble.built("a")
    assert list(results) == ["a", "e"]
    assert reasons(results["e"]) == {"config": "changed: config.pbtxt of a", "publish": "config.pbtxt changed"}
    for name in ("a", "e"):
        assert "max_batch_size: 2" in (config_text(ensemble.repository, name) or "")
    assert "max_batch_size: 8" in (config_text(ensemble.repository, "b") or "")


def test_an_ensemble_that_cannot_be_rebuilt_here_holds_its_steps_back(ensemble: Workspace) -> None:
    before = tree(ensemble.repository)
    ensemble.write(pair(", config: {max_batch_size: 2}", ", requires: [no_such_module]"))
    results, error = ensemble.build("b")
    assert isinstance(error, BuildError)
    assert results["e"].skipped == "no_such_module is not installed"
    assert results["b"].error == held("b", 3)
    assert tree(ensemble.repository) == before


def test_all_models_of_a_build_are_published_or_none(ensemble: Workspace) -> None:
    for name, factor in (("a", 5), ("b", 7)):
        onnx.save(times(factor), str(ensemble.root / f"{name}.onnx"))
    (ensemble.repository / "b" / "2").write_text("in the way")
    before = tree(ensemble.repository)
    results, error = ensemble.build()
    assert isinstance(error, RepositoryError)
    assert "File exists" in str(error)
    assert str(error).startswith("publishing 'a', 'b' to ")
    assert results["a"].error == results["b"].error == str(error)
    assert results["e"].up_to_date
    assert tree(ensemble.repository) == before


def test_a_step_may_be_a_model_of_the_repository_that_is_not_ours(work: Workspace) -> None:
    models = """
        a: {source: {onnx: a.onnx}}
        e: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: T}}, {model: echo, inputs: {x: T}, outputs: {y: Y}}]}
    """
    work.write(models, a__onnx=times(2))
    results, error = work.build()
    assert isinstance(error, ConfigError)
    assert str(error) == "trtkit.yaml:3:64: step 'echo' has no config.pbtxt in model_repository; available: a"
    assert results["a"].version == 1
    (work.repository / "echo" / "1").mkdir(parents=True)
    (work.repository / "echo" / "1" / "model.py").write_text(ECHO_MODEL)
    tensors = 'input { name: "x" data_type: TYPE_FP32 dims: 4 } output { name: "y" data_type: TYPE_FP32 dims: 4 }'
    (work.repository / "echo" / "config.pbtxt").write_text(f'backend: "python" max_batch_size: 4 {tensors}')
    before = tree(work.repository / "echo")
    assert work.built()["e"].version == 1
    assert tree(work.repository / "echo") == before
    assert "max_batch_size: 4" in (config_text(work.repository, "e") or "")


@pytest.mark.parametrize("models", ["e: {ensemble: [STEP e}]}", "e: {ensemble: [STEP f}]}\nf: {ensemble: [STEP e}]}"])
def test_ensembles_that_contain_each_other_are_refused_before_anything_is_built(work: Workspace, models: str) -> None:
    steps = models.replace("STEP", "{inputs: {x: X}, outputs: {y: Y}, model:")
    work.write(f"a: {{source: {{onnx: a.onnx}}}}\n{steps}", a__onnx=times(2))
    with pytest.raises(ConfigError, match=r"^trtkit\.yaml:3:7: the ensembles e.* contain each other$"):
        work.build()
    assert not work.repository.exists()


# -- several builds at the same time


def test_builds_at_the_same_time_all_end_well(work: Workspace) -> None:
    work.write(CHAIN, a__onnx=times(2), b__onnx=times(3))
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: done.append(work.command("--json"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in done] == [0, 0, 0]
    built = [[model["up_to_date"] for model in json.loads(each.stdout)["models"]] for each in done]
    assert sorted(built) == [[False] * 4, [True] * 4, [True] * 4]
    assert [version.version for name in "ab" for version in versions(work.repository, name)] == [1, 1]
    assert not list((work.root / ".trtkit").glob("*-*"))


def test_what_a_killed_build_left_is_removed_by_the_next(one: Workspace) -> None:
    for name in ("staging-abc", "tmp-abc"):
        (one.root / ".trtkit" / name / "m").mkdir(parents=True)
    half_written = one.root / ".trtkit" / "stages" / "m" / ".export.json.abc"
    half_written.write_text("[{")
    assert one.built()["m"].up_to_date
    assert not list((one.root / ".trtkit").glob("*-abc"))
    assert not half_written.exists()


def test_a_worker_whose_build_is_gone_does_nothing(work: Workspace) -> None:
    work.write("m: {source: {callable: make.py:f}}", make__py="def f():\n    open('ran', 'w').close()\n")
    command = [sys.executable, "-m", "trtkit.build_worker", "{}", "1", "1"]
    done = subprocess.run(command, cwd=work.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the build was killed before its worker began" in done.stderr
    assert sorted(path.name for path in work.root.iterdir()) == ["make.py", "trtkit.yaml"]


def test_the_worst_error_of_an_export() -> None:
    outputs = {"a": {"max_abs": 0.5}, "b": {"max_abs": 0.25}}
    assert worst_parity({"parity": {"compared": True, "outputs": outputs}}) == 0.5
    assert worst_parity({"parity": {"compared": False, "why": "an ONNX source is its own reference"}}) is None
    assert worst_parity({}) is None
