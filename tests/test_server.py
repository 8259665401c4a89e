# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The real server: ready, refused, drained, killed, crashed; and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL, processes, write_model
from trtkit.errors import (
    MissingDependencyError,
    ModelUnavailableError,
    ProjectError,
    RepositoryError,
    ServerError,
    ServerStartError,
    ServerUnavailableError,
)
from trtkit.server import (
    RunningServer,
    connect,
    container_command,
    embedded_launch,
    serve,
    start_server,
    tritonserver_launch,
)
from trtkit.server import launch as launch_module
from trtkit.server.process import free_ports, load_failures

SHM = Path("/dev/shm")
pytestmark = pytest.mark.triton

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def left_over(server: RunningServer) -> list[str]:
    """What a server of this process left: its shared memory, and living processes of its group."""
    port = server.http_url.rpartition(":")[2]
    shm = [file.name for file in SHM.glob(f"trtkit_{os.getpid()}_{port}_*")]
    group = [process.name for process in processes() if process.group == server.process.pid]
    return shm + group


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_ready_server_answers(server: RunningServer, protocol: str) -> None:
    with connect(server.http_url if protocol == "http" else server.grpc_url, protocol) as client:
        assert client.ready_models() == {"echo": ["1"]}
        signature = client.signature("echo")
        assert [str(spec) for spec in signature.inputs + signature.outputs] == [
            "x FP32 [batch, 4]",
            "y FP32 [batch, 4]",
        ]
        assert np.array_equal(client.infer("echo", {"x": X})["y"], X)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_server_s_refusals_are_ours(server: RunningServer, protocol: str) -> None:
    with connect(server.http_url if protocol == "http" else server.grpc_url, protocol) as client:
        with pytest.raises(ModelUnavailableError, match="model 'eco' is not ready on .*; did you mean 'echo'"):
            client.require_model("eco")
        with pytest.raises(ModelUnavailableError, match="unknown model"):
            client.infer("eco", {"x": X})
        with pytest.raises(ServerError, match="unexpected shape for input 'x'"):
            client.infer("echo", {"x": X[:, :3].copy()})


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_nobody_there(protocol: str) -> None:
    ports = free_ports()
    with (
        connect(f"127.0.0.1:{ports.http}", protocol) as client,
        pytest.raises(ServerUnavailableError, match="answers there"),
    ):
        client.ready_models()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_other_protocol_s_port(server: RunningServer, protocol: str) -> None:
    url = server.grpc_url if protocol == "http" else server.http_url
    with connect(url, protocol) as client, pytest.raises(ServerUnavailableError):
        client.ready_models()


def test_the_end_leaves_nothing(echo_repository: Path) -> None:
    with serve(echo_repository, models=["echo"]) as running:
        assert len(left_over(running)) >= 3, "the check would not see what is left"
    assert left_over(running) == []
    assert running.process.returncode == 0
    assert not running.log.exists()


def test_a_kill_leaves_nothing(echo_repository: Path) -> None:
    with serve(echo_repository) as running:
        running.kill()
        assert left_over(running) == []
        with pytest.raises(ServerStartError, match=r"ended by itself \(signal SIGKILL\); the end of its log:\n"):
            running.check_alive()


BROKEN = ECHO_MODEL.replace(
    "def execute", "def initialize(self, args):\n        raise RuntimeError('no such weights')\n\n    def execute"
)


def test_a_model_that_fails_to_load_is_named_with_the_server_s_reason(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG, ECHO_MODEL)
    write_model(tmp_path, "broken", ECHO_CONFIG.replace('"echo"', '"broken"'), BROKEN)
    with (
        pytest.raises(ModelUnavailableError, match="model 'broken' failed to load: .*no such weights") as error,
        serve(tmp_path),
    ):
        pass
    assert "'echo'" not in str(error.value)


def test_a_config_that_the_server_refuses(tmp_path: Path) -> None:
    write_model(tmp_path, "echo", ECHO_CONFIG.replace("dims: 4 }", "dims: 0 }"), ECHO_MODEL)
    with (
        pytest.raises(ModelUnavailableError, match="model 'echo' failed to load: .*dimension must be integer >= 1"),
        serve(tmp_path),
    ):
        pass


def test_an_unknown_option_is_reported_with_the_log(echo_repository: Path) -> None:
    with pytest.raises(ServerStartError, match="no-such-option"), serve(echo_repository, options=["--no-such-option"]):
        pass


def test_a_deadline(tmp_path: Path) -> None:
    slow = ECHO_MODEL.replace(
        "def execute", "def initialize(self, args):\n        import time; time.sleep(60)\n\n    def execute"
    )
    write_model(tmp_path, "echo", ECHO_CONFIG, slow)
    with pytest.raises(ServerUnavailableError, match="was not ready after 2 s"), serve(tmp_path, ready_timeout_s=2):
        pass


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="there is no model repository at"), serve(tmp_path / "none"):
        pass


def test_a_port_in_use_is_named(echo_repository: Path) -> None:
    with socket.socket() as taken, ExitStack() as stack:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = replace(free_ports(), http=taken.getsockname()[1])
        with pytest.raises(ServerUnavailableError, match=rf"port {ports.http} \(http\) of 127.0.0.1 cannot be used"):
            start_server(stack, echo_repository, ports=ports)


def test_a_tritonserver_binary_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="there is no program of that name"):
        tritonserver_launch(tmp_path / "tritonserver")


def test_numpy_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_module, "installed", lambda name: "2.1.0")
    with pytest.raises(
        MissingDependencyError, match=r"numpy 2.1.0 is installed, .* needs numpy 1; run: pip install 'numpy<2'"
    ):
        embedded_launch()


def test_the_container_s_command_line(tmp_path: Path) -> None:
    line = container_command("image:1", tmp_path, ["--log-verbose=1"], gpus="all", ports=(1, 2, 3), name="n")
    assert line[:3] == ["docker", "run", "--rm"]
    assert {"--gpus=all", "--name=n", "--publish=127.0.0.1:1:8000", "--publish=127.0.0.1:3:8002"} < set(line)
    assert f"--volume={tmp_path}:/models:ro" in line
    assert line[-4:] == ["image:1", "tritonserver", "--model-repository=/models", "--log-verbose=1"]


TABLE = """\
I1 server.cc:674]
+--------+---------+----------------------------------------------------+
| Model  | Version | Status                                             |
+--------+---------+----------------------------------------------------+
| bad    | 1       | UNAVAILABLE: Internal: first line                  |
|        |         | and the second                                     |
| good   | 1       | READY                                              |
+--------+---------+----------------------------------------------------+
E1 model_repository_manager.cc:724] "failed to load model 'worse': no version"
[libprotobuf ERROR text_format.cc:337] Error parsing text-format inference.ModelConfig: 3:1: no field named "max".
E1 model_repository_manager.cc:1460] "Poll failed for model directory 'text': failed to read text proto from text"
"""


def test_reasons_from_the_log() -> None:
    assert load_failures(TABLE) == {
        "bad": "Internal: first line and the second",
        "worse": "no version",
        "text": 'failed to read text proto from text: 3:1: no field named "max".',
    }
    assert load_failures("") == {}


class Serve:
    """`trtkit serve` as a process, on free ports."""

    def __init__(self, repository: Path, *options: str) -> None:
        self.ports = free_ports()
        ports = [f"--{name}-port={port}" for name, port in vars(self.ports).items()]
        command = [sys.executable, "-m", "trtkit", "serve", "--repository", str(repository), "--json", *ports, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        lines = ""
        for line in self.process.stdout:
            lines += line
            if line.startswith("}"):
                return
        raise AssertionError(f"not ready: {lines}{self.process.stderr and self.process.stderr.read()}")

    def server_pid(self) -> int:
        return next(p.pid for p in processes() if p.parent == self.process.pid and p.name == "tritonserver")

    def left_over(self) -> list[str]:
        return [file.name for file in SHM.glob(f"trtkit_{self.process.pid}_*")]

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


def gone(pid: int) -> bool:
    """Whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while any(process.pid == pid for process in processes()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_drains_and_leaves_nothing(echo_repository: Path, number: int) -> None:
    running = Serve(echo_repository)
    running.wait_ready()
    pid = running.server_pid()
    running.process.send_signal(number)
    code, errors = running.end()
    assert code == 0
    assert "requests in flight may finish" in errors
    assert gone(pid)
    assert running.left_over() == []


def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    slow = ECHO_MODEL + "\n    def finalize(self):\n        import time\n        time.sleep(25)\n"
    write_model(tmp_path, "echo", ECHO_CONFIG, slow)
    running = Serve(tmp_path)
    running.wait_ready()
    pid = running.server_pid()
    running.process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    running.process.send_signal(signal.SIGINT)
    code, errors = running.end()
    assert (code, errors.splitlines()[-1]) == (0, "killed")
    assert gone(pid)
    assert running.left_over() == []


def test_a_crash_is_reported_with_the_end_of_the_log(echo_repository: Path) -> None:
    running = Serve(echo_repository)
    running.wait_ready()
    os.kill(running.server_pid(), signal.SIGSEGV)
    code, errors = running.end()
    assert code == ServerStartError.exit_code
    assert "tritonserver ended by itself" in errors
    assert "Started HTTPService" in errors
    assert running.left_over() == []


def test_kill_9_of_trtkit_takes_the_server_along(echo_repository: Path) -> None:
    running = Serve(echo_repository)
    running.wait_ready()
    pid = running.server_pid()
    running.process.kill()
    running.end()
    assert gone(pid)
    for name in running.left_over():
        (SHM / name).unlink()


def test_options_after_two_dashes_pass_through(echo_repository: Path) -> None:
    running = Serve(echo_repository, "--", "--log-format=NO_SUCH_FORMAT")
    code, errors = running.end()
    assert code == ServerStartError.exit_code
    assert "invalid argument for --log-format" in errors


def test_an_image_is_shown_with_dry_run(echo_repository: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "trtkit",
        "serve",
        "--repository",
        str(echo_repository),
        "--image",
        "i:1",
        "--dry-run",
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.startswith("docker run --rm")
    assert " i:1 tritonserver --model-repository=/models" in out
