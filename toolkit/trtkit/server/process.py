# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The life of one tritonserver process: start, ready or why not, drain, end, and nothing left behind."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trtkit.errors import ModelUnavailableError, RepositoryError, ServerStartError, ServerUnavailableError
from trtkit.server.launch import Launch, embedded_launch

LOCALHOST = "127.0.0.1"
_SHM = Path("/dev/shm")
_LOG_LINES = 15
_PORT_TRIES = 4
_BAD_OPTION = re.compile(
    r"unrecognized option|^Bad option|^invalid argument for|requires an argument|^error: creating server"
)


@dataclass(frozen=True)
class Ports:
    """Where the server listens."""

    http: int
    grpc: int
    metrics: int


class RunningServer:
    """A tritonserver process that was started here.

    Attributes:
        http_url: ``HOST:PORT`` of HTTP, as tritonclient wants it.
        grpc_url: of gRPC.
        metrics_url: of Prometheus metrics.
        process: the process; its group holds the Python backend's stubs too.
        log: the file with what the server wrote.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], ports: Ports, log: Path, shm_prefix: str, address: str
    ) -> None:
        host = LOCALHOST if address in ("0.0.0.0", "::") else address
        self.http_url, self.grpc_url, self.metrics_url = (
            f"{host}:{p}" for p in (ports.http, ports.grpc, ports.metrics)
        )
        self.process, self.log = process, log
        self._shm_prefix = shm_prefix

    def log_end(self, lines: int = _LOG_LINES) -> str:
        """The last lines of the server's log; only its complaint, when it refused its options with a long usage."""
        text = self.log.read_text(errors="replace").splitlines()
        complaints = [line for line in text if _BAD_OPTION.search(line)]
        return "\n".join(complaints or text[-lines:])

    def is_ready(self) -> bool:
        """Whether the server says it is ready to serve all its models."""
        try:
            with urllib.request.urlopen(f"http://{self.http_url}/v2/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def check_alive(self) -> None:
        """Raise ServerStartError with the end of the log if the process has ended by itself."""
        code = self.process.poll()
        if code is not None:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ServerStartError(f"tritonserver ended by itself ({how}); the end of its log:\n{self.log_end()}")

    def stop(self, timeout_s: float = 35.0) -> None:
        """Let requests in flight finish, then end the process and everything it left.

        Args:
            timeout_s: how long to wait for a clean end before killing; tritonserver's own limit for
                requests in flight is ``--exit-timeout-secs``, 30 by default.
        """
        try:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process and its stubs at once, and remove their shared memory."""
        with suppress(ProcessLookupError):  # the whole group may be gone already
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for region in _SHM.glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)


@contextmanager
def serve(
    repository: Path,
    *,
    models: Sequence[str] = (),
    options: Sequence[str] = (),
    launch: Launch | None = None,
    ready_timeout_s: float = 120.0,
) -> Iterator[RunningServer]:
    """A ready server on free ports of 127.0.0.1, stopped at the end.

    Args:
        repository: the model repository.
        models: load only these (and the steps of ensembles among them); default: all.
        options: further tritonserver options, by Triton's names.
        launch: what to start; default: the embedded server.
        ready_timeout_s: how long loading all models may take.

    Raises:
        ServerStartError, ModelUnavailableError, ServerUnavailableError: see `start_server`.
    """
    chosen = [f"--load-model={name}" for name in models]
    control = ["--model-control-mode=explicit", *chosen] if models else []
    with ExitStack() as stack:
        server = start_server(stack, repository, [*control, *options], launch=launch, ready_timeout_s=ready_timeout_s)
        yield server


def start_server(
    stack: ExitStack,
    repository: Path,
    options: Sequence[str] = (),
    *,
    launch: Launch | None = None,
    ports: Ports | None = None,
    address: str = LOCALHOST,
    ready_timeout_s: float = 120.0,
) -> RunningServer:
    """Start a server and wait until it says it is ready.

    The kernel ends the server when the thread that called this ends, so that none is left behind by a kill.

    Args:
        stack: takes over stopping the server and removing its temporary files.
        repository: the model repository.
        options: further tritonserver options.
        launch: what to start; default: the embedded server.
        ports: default: free ones.
        address: the interface to listen on.
        ready_timeout_s: how long loading all models may take.

    Raises:
        RepositoryError: the repository is no folder.
        ServerStartError: it ended before it was ready, with the end of its log.
        ModelUnavailableError: a model failed to load, with the server's own reason.
        ServerUnavailableError: a port is in use, or it was not ready in time.
    """
    if not repository.is_dir():
        raise RepositoryError(f"there is no model repository at {repository}; run `trtkit build`, or pass --repository")
    if ports:
        _check_free(ports, address)
    launch = launch or embedded_launch()
    folder = Path(tempfile.mkdtemp(prefix="trtkit-server-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    for attempt in range(_PORT_TRIES):
        server = _spawn(launch, folder, repository, options, ports or free_ports(), address)
        stack.callback(server.stop)
        try:
            _wait_ready(server, ready_timeout_s)
        except (ServerUnavailableError, KeyboardInterrupt):
            server.kill()  # it is loading a model: draining would wait for that
            raise
        except ServerStartError:
            taken = "Address already in use" in server.log.read_text(errors="replace")
            if ports or not taken or attempt == _PORT_TRIES - 1:
                raise
        else:
            break
    return server


def free_ports() -> Ports:
    """Three ports nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind((LOCALHOST, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def _check_free(ports: Ports, address: str) -> None:
    for name, port in vars(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as exc:
                raise ServerUnavailableError(
                    f"port {port} ({name}) of {address} cannot be used: {exc.strerror}; "
                    f"choose another with --{name}-port"
                ) from exc


def server_command(
    launch: Launch,
    folder: Path | None,
    repository: Path,
    options: Sequence[str],
    ports: Ports,
    address: str,
    shm_prefix: str,
) -> list[str]:
    """The whole command line.

    Args:
        launch: the program.
        folder: where the backend directory is made; None to only show the line.
        repository: the model repository.
        options: further options, last.
        ports: where to listen.
        address: the interface.
        shm_prefix: of the Python backend's shared-memory files; empty for its own.
    """
    return [
        *launch.command,
        *(_backend_options(launch, folder / "backends") if folder else []),
        f"--model-repository={repository.resolve()}",
        *(f"--{api}-address={address}" for api in ("http", "grpc", "metrics")),
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        *([f"--backend-config=python,shm-region-prefix-name={shm_prefix}"] if shm_prefix else []),
        *options,
    ]


def _spawn(
    launch: Launch, folder: Path, repository: Path, options: Sequence[str], ports: Ports, address: str
) -> RunningServer:
    shm_prefix = f"trtkit_{os.getpid()}_{ports.http}_"
    command = server_command(launch, folder, repository, options, ports, address, shm_prefix)
    log = folder / "tritonserver.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=dict(launch.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that ctrl-C reaches us and not the server, which we then drain
                preexec_fn=_die_with_parent,
            )
    except OSError as exc:
        raise ServerStartError(f"{command[0]} cannot be executed: {exc.strerror}") from exc
    return RunningServer(process, ports, log, shm_prefix, address)


_PRCTL = ctypes.CDLL(None).prctl if hasattr(ctypes.CDLL(None), "prctl") else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end the server when trtkit is killed, so that no server stays behind."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _backend_options(launch: Launch, folder: Path) -> list[str]:
    """Make the backend directory; files are copied, because the server refuses a link that leaves it."""
    if not launch.backends:
        return []
    for name, source in launch.backends.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copy2(source, target)
        elif not target.is_symlink():
            target.symlink_to(source)
    return [f"--backend-directory={folder}"]


def _wait_ready(server: RunningServer, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not server.is_ready():
        if server.process.poll() is not None:
            _raise_model_failure(server)
            server.check_alive()
        if time.monotonic() > deadline:
            _raise_model_failure(server)
            raise ServerUnavailableError(
                f"tritonserver was not ready after {timeout_s:g} s; the end of its log:\n{server.log_end()}"
            )
        time.sleep(0.02)


# a row of the table that the server prints once all models were tried: | name | version | UNAVAILABLE: why |
_TABLE_ROW = re.compile(r"^\|\s*(?P<model>\S+)\s*\|\s*(?P<version>\S+)\s*\|\s*UNAVAILABLE:\s*(?P<why>.*?)\s*\|?\s*$")
_CONTINUED_ROW = re.compile(r"^\|\s+\|\s+\|\s?(?P<why>.*?)\s*\|?\s*$")
_POLL_ERROR = re.compile(
    r"(?:failed to load model '|failed to load '|Poll failed for model directory ')(?P<model>[^']+)'"
    r"(?: version \d+)?: (?P<why>.*?)\"?$"
)
_PARSE_ERROR = re.compile(r"Error parsing text-format \S+ (?P<why>.*)$")  # the line before the poll error it is for


def load_failures(log: str) -> dict[str, str]:
    """The models that failed to load and the server's reasons, from its log."""
    failures: dict[str, str] = {}
    current = parsing = ""
    for line in log.splitlines():
        if row := _TABLE_ROW.match(line):
            current = row["model"]
            failures[current] = row["why"]
        elif current and (more := _CONTINUED_ROW.match(line)):
            failures[current] = f"{failures[current]} {more['why']}".strip()
        else:
            current = ""
            if error := _POLL_ERROR.search(line):
                failures.setdefault(error["model"], f"{error['why']}{parsing}")
            parse_error = _PARSE_ERROR.search(line)
            parsing = f": {parse_error['why']}" if parse_error else ""
    return failures


def _raise_model_failure(server: RunningServer) -> None:
    failures = load_failures(server.log.read_text(errors="replace"))
    if failures:
        reasons = "; ".join(f"model '{model}' failed to load: {why}" for model, why in failures.items())
        raise ModelUnavailableError(f"tritonserver: {reasons}")
