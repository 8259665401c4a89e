# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Ask the real tritonserver whether it loads the models of a folder, one question after another."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from trtkit.server import RunningServer, serve
from trtkit.server.launch import embedded_launch

TRITON = "2.51"
"""The version of the embedded server."""

# a stand-in for backends the embedded server has not: it takes every model, so that what the server's own
# core says about such configs can be asked
_STAND_IN = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def execute(self, requests):
        return []
"""
_TRIES = 4
_LOAD_SECONDS = 120.0
_UNLOAD_SECONDS = 30.0
STAND_INS = ("tensorrt", "pytorch", "openvino")


@dataclass(frozen=True)
class Judgement:
    """The server's answer.

    Attributes:
        refused: by the model's name, why it was not loaded.
        log: what the server wrote meanwhile.
    """

    refused: dict[str, str]
    log: str

    @property
    def verdict(self) -> str:
        return "refuses" if self.refused else "accepts"


class Judge:
    """A running server with an empty repository, into which each case's models are put for a moment.

    The server may end itself while it drops a model that it has only just loaded, or that it refuses because its
    warm-up failed: TritonBackendThread::StopBackendThread takes the last of a list that the thread has emptied for a
    moment. Or it never gets rid of one. So a question to a server that ended or is stuck is asked again, of a new one.
    """

    def __init__(self, start: Callable[[], RunningServer], repository: Path) -> None:
        self._start, self.repository = start, repository
        self.server = start()

    def judge(self, folder: Path, models: Sequence[str] = ()) -> Judgement:
        """Load all models of a folder, or those named, and unload them.

        Args:
            folder: a model repository.
            models: default: every folder in it, as a server started with it would do.
        """
        folders = [each for each in folder.iterdir() if each.is_dir()]
        copied = [Path(shutil.copytree(each, self.repository / each.name, symlinks=True)) for each in folders]
        names = list(models) or sorted(each.name for each in copied)
        try:
            for _ in range(_TRIES):
                with contextlib.suppress(_ServerEndedError):
                    return self._judge(names)
                self.server.kill()
                self.server = self._start()
        finally:
            for each in copied:
                shutil.rmtree(each)
        return Judgement(dict.fromkeys(names, f"the server ended itself or got stuck, {_TRIES} times"), "")

    def _judge(self, names: Sequence[str]) -> Judgement:
        if len(names) > 1:
            self._wait_until_unloaded()  # an ensemble would take a step's namesake that is still there
        start = self.server.log.stat().st_size
        refused = {name: why for name in names if (why := self._ask("load", name))}
        with contextlib.suppress(_ServerEndedError):  # the answer is known
            for name in names:
                self._ask("unload", name)
        with self.server.log.open("rb") as log:
            log.seek(start)
            judgement = Judgement(refused, log.read().decode(errors="replace"))
        if self.server.process.poll() is not None or self._unpacked_something():
            self.server.kill()
            self.server = self._start()
        return judgement

    def _unpacked_something(self) -> bool:
        """Whether a model has an environment: the server knows one again by path and time, and trips over a bad one."""
        configs = [file for file in self.repository.glob("*/config.pbtxt") if file.is_file()]
        return any(b"EXECUTION_ENV_PATH" in file.read_bytes() for file in configs)

    def _ask(self, what: str, name: str) -> str:
        """'' when the server did it, else its words."""
        body = '{"parameters": {"unload_dependents": true}}' if what == "unload" else "{}"
        status, text = self._post(f"models/{urllib.parse.quote(name)}/{what}", body)
        if status == 200:
            return ""
        with contextlib.suppress(ValueError):
            return str(json.loads(text)["error"])
        return f"HTTP {status}"

    def _wait_until_unloaded(self) -> None:
        """An unload is answered before the model is gone, which takes seconds; sometimes it never goes."""
        deadline = time.monotonic() + _UNLOAD_SECONDS
        busy = {"READY", "LOADING", "UNLOADING"}
        while any(row.get("state") in busy for row in json.loads(self._post("index", "{}")[1])):
            if time.monotonic() > deadline:
                raise _ServerEndedError
            time.sleep(0.05)

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        """The status and the content of the server's answer."""
        connection = http.client.HTTPConnection(self.server.http_url, timeout=60)
        try:
            connection.request("POST", f"/v2/repository/{path}", body)
            # a dead server's stubs hold the connection open; and a Python model without its file never loads
            deadline = time.monotonic() + _LOAD_SECONDS
            while not select.select([connection.sock], [], [], 0.2)[0]:
                if self.server.process.poll() is not None:
                    raise _ServerEndedError
                if time.monotonic() > deadline:
                    raise _ServerEndedError
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise _ServerEndedError from exc
        finally:
            connection.close()


class _ServerEndedError(Exception):
    """The server's process ended before it answered, or is stuck."""


@contextmanager
def open_judge(options: Sequence[str] = ()) -> Iterator[Judge]:
    """A judge whose server has these options too, e.g. ``--disable-auto-complete-config``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="trtkit-judge-")))
        (folder / "repository").mkdir()
        backends = {}
        for name in STAND_INS:
            (folder / "backends" / name).mkdir(parents=True)
            (folder / "backends" / name / "model.py").write_text(_STAND_IN)
            backends[name] = folder / "backends" / name
        launch = embedded_launch()
        launch = replace(launch, backends={**backends, **launch.backends})
        control = ["--model-control-mode=explicit", *options]
        repository = folder / "repository"
        yield Judge(lambda: stack.enter_context(serve(repository, options=control, launch=launch)), repository)
