# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One build or check in a process of its own: ``python -m trtkit.engine.worker RESULT_FD PARENT_PID``.

The request comes as JSON on standard input. Progress and then the result, or the error, go to the pipe, one JSON
object a line; what the library says goes to standard error, which is a log.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trtkit.compat import require
from trtkit.engine.builder import build_engine
from trtkit.engine.examine import examine
from trtkit.engine.library import logger_of
from trtkit.engine.manifest import save_engine
from trtkit.engine.options import EngineOptions
from trtkit.engine.profiles import from_json
from trtkit.errors import TrtkitError

Tell = Callable[[dict[str, Any]], None]


def answer(request: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Do what was asked: the manifest of a build, or the findings of a check."""
    trt = require(request["module"])
    logger_of(trt).echo = lambda line: print(line, file=sys.stderr)  # noqa: T201 - standard error is the log
    onnx_file, folder = Path(request["onnx"]), Path(request["folder"])
    profiles, options = from_json(request["profiles"]), EngineOptions.from_json(request["options"])
    if request["task"] == "check":
        return examine(trt, onnx_file, profiles, options, request["compute_capability"], folder)

    def on_progress(phase: str, fraction: float, eta_seconds: float | None) -> None:
        tell({"progress": [phase, fraction, eta_seconds]})

    wanted = on_progress if request["progress"] else None
    return save_engine(folder, build_engine(trt, onnx_file, profiles, options, on_progress=wanted), onnx_file)


def main() -> None:
    """The worker's entry point."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end when the build is killed
    descriptor, parent = (int(argument) for argument in sys.argv[1:3])
    if os.getppid() != parent:
        sys.exit("the build was killed before its worker began")
    os.set_inheritable(descriptor, False)
    with os.fdopen(descriptor, "w") as pipe:

        def tell(message: dict[str, Any]) -> None:
            pipe.write(f"{json.dumps(message)}\n")
            pipe.flush()

        try:
            tell({"result": answer(json.load(sys.stdin), tell)})
        except TrtkitError as exc:
            tell({"error": type(exc).__name__, "message": str(exc)})


if __name__ == "__main__":
    main()
