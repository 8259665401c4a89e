# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Builds in a process of their own: what comes back, and what is left when that process dies or has to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnx_models import matmul_dynamic_batch
from trtkit.engine import EngineOptions, ShapeRange, build_in_process, manifest_problems, read_manifest
from trtkit.errors import BuildError, MissingDependencyError, RepositoryError

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

X = {"x": ShapeRange((1, 64), (8, 64), (32, 64))}
FOR_ADA = EngineOptions(compute_capabilities=("8.9",))
# a module that is TensorRT enough to come to its Builder, which then does what the test is about
STAND_IN = """
import ctypes, os, pathlib, sys, time
__version__ = "10.13.3.9"
class IBuilderConfig: pass
class BuilderFlag: STRIP_PLAN = 0
class ILogger:
    def __init__(self): pass
class Builder:
    def __init__(self, log):
        log.log(type("S", (), {{"name": "INFO"}}), "about to begin")
        {does}
"""


@pytest.fixture
def matmul(tmp_path: Path) -> Path:
    onnx.save(matmul_dynamic_batch(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module of a name whose Builder does something, found by the worker on PYTHONPATH."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    def make(does: str) -> str:
        (folder / "stand_in_trt.py").write_text(STAND_IN.format(does=does))
        return "stand_in_trt"

    return make


def test_a_build_in_its_own_process(matmul: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float, float | None]] = []
    folder, log = tmp_path / "deep" / "out", tmp_path / "logs" / "engine.log"
    manifest = build_in_process(
        "tensorrt_rtx", matmul, [X], FOR_ADA, folder, lambda *what: told.append(what), log=log
    )  # fmt: skip
    assert sorted(file.name for file in folder.iterdir()) == ["engine.json", "model.plan"]
    assert manifest == read_manifest(folder / "engine.json")
    assert manifest_problems(folder) == []
    assert manifest["flavour"] == "tensorrt_rtx"
    assert told[-1] == ("done", 1.0, 0.0)
    assert len(told) > 10
    assert log.is_file()


def test_a_relative_path(matmul: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build_in_process("tensorrt_rtx", Path("model.onnx"), [X], FOR_ADA, Path("out"))
    assert (tmp_path / "out" / "model.plan").is_file()


def test_errors_come_back_as_they_are(matmul: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="^model.onnx: profile 0 has no shapes for input 'x'"):
        build_in_process("tensorrt_rtx", matmul, [{}], FOR_ADA, tmp_path / "out")
    with pytest.raises(MissingDependencyError, match="no_such_tensorrt is not installed"):
        build_in_process("no_such_tensorrt", matmul, [X], FOR_ADA, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made(matmul: Path) -> None:
    with pytest.raises(RepositoryError, match=r"making .*model.onnx/out: Not a directory"):
        build_in_process("tensorrt_rtx", matmul, [X], FOR_ADA, matmul / "out")


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        ("os.abort()", "was killed by SIGABRT; the end of"),
        ("ctypes.string_at(0)", "was killed by SIGSEGV; the end of"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL, as the kernel does when memory runs out; the end of"),
        ("os._exit(3)", "ended with exit code 3; the end of"),
        ("raise ValueError('odd')", "ended with exit code 1; the end of"),
        # all it can still do is to write a part of its answer
        ('os.write(int(sys.argv[1]), b\'{"result": {"sch\'); os._exit(0)', "ended with exit code 0; the end of"),
    ],
)
def test_a_death_takes_nothing_else_with_it(
    matmul: Path, tmp_path: Path, stand_in: Any, does: str, expected: str
) -> None:
    with pytest.raises(BuildError, match=expected) as raised:
        build_in_process(stand_in(does), matmul, [X], EngineOptions(), tmp_path / "out")
    assert str(raised.value).startswith("model.onnx: stand_in_trt in its own process ")
    assert "about to begin" in str(raised.value) or str(raised.value).endswith("\nValueError: odd")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_death_with_a_log_names_it(matmul: Path, tmp_path: Path, stand_in: Any) -> None:
    log = tmp_path / "engine.log"
    with pytest.raises(BuildError, match=f"the end of {log}:\n"):
        build_in_process(stand_in("os.abort()"), matmul, [X], EngineOptions(), tmp_path / "out", log=log)
    assert log.read_text().startswith("INFO: about to begin")


def test_a_raising_callback_kills_the_process(matmul: Path, tmp_path: Path) -> None:
    def on_progress(phase: str, fraction: float, eta: float | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_in_process("tensorrt_rtx", matmul, [X], FOR_ADA, tmp_path / "out", on_progress)
    assert not (tmp_path / "out" / "engine.json").exists()


def test_only_the_device_is_seen(matmul: Path, tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    show = stand_in('sys.exit("sees " + os.environ.get("CUDA_VISIBLE_DEVICES", "all"))')

    def seen(device: int | None) -> str:
        with pytest.raises(BuildError) as raised:
            build_in_process(show, matmul, [X], EngineOptions(), tmp_path / "out", device=device)
        return str(raised.value).rpartition("sees ")[2]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (seen(None), seen(1)) == ("all", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    assert (seen(None), seen(0), seen(1)) == ("3,GPU-abc", "3", "GPU-abc")


PARENT = """
import sys
from pathlib import Path
from trtkit.engine import EngineOptions, build_in_process
build_in_process("stand_in_trt", Path(sys.argv[1]), [], EngineOptions(), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_process_ends_with_its_parent(matmul: Path, tmp_path: Path, stand_in: Any, number: int) -> None:
    mark = tmp_path / "pid"
    stand_in(f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(matmul), str(tmp_path / "out")], stderr=subprocess.PIPE
    )
    worker = _when_written(mark)
    parent.send_signal(number)
    assert parent.wait(20) != 0
    assert parent.stderr is not None
    assert (b"KeyboardInterrupt" in parent.stderr.read()) is (number == signal.SIGINT)
    parent.stderr.close()
    deadline = time.monotonic() + 10
    while _runs(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.02)


def _when_written(mark: Path) -> int:
    deadline = time.monotonic() + 30
    while not (mark.is_file() and mark.read_text()):
        assert time.monotonic() < deadline, "the worker never began"
        time.sleep(0.02)
    return int(mark.read_text())


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # nobody may be there to collect it


def test_a_worker_without_its_parent_does_not_begin(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    ran = subprocess.run(
        [sys.executable, "-m", "trtkit.engine.worker", str(writer), "1"],
        input=json.dumps({}), text=True, capture_output=True, pass_fds=[writer], timeout=30, check=False,
    )  # fmt: skip
    os.close(reader)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, "the build was killed before its worker began\n")
