# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every error a user can act on, and the exit code each one gives the command line.

TrtkitError                  exit 1   anything the user can act on
├─ ProjectError              exit 2   trtkit.yaml or a command's argument is wrong
├─ MissingDependencyError    exit 3   an optional package is absent, or two that exclude each other are present
├─ BuildError                exit 4   the model cannot become what was asked
│  ├─ ExportError                     the source gives no usable ONNX graph
│  └─ ConfigError                     no valid config.pbtxt follows from the project file
├─ ServerError               exit 5   tritonserver answered with an error
│  ├─ ServerUnavailableError          nobody listens, or not ready in time
│  ├─ ServerStartError                tritonserver could not start, or died
│  └─ ModelUnavailableError           the model is not loaded, or failed to load
├─ RepositoryError           exit 6   the file system refused, and the repository is as it was
├─ DataError                 exit 7   inputs, calibration or evaluation data do not fit the model
├─ ParityError               exit 8   served outputs are outside the tolerance
└─ MeasurementError          exit 9   a measurement did not hold (requests failed, or it never became stable)

Anything else is a defect of trtkit: a traceback and exit 70.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class TrtkitError(Exception):
    """Anything the user can act on: one sentence naming the thing, what was given, and what to do."""

    exit_code = 1


class ProjectError(TrtkitError):
    """The project file, or an argument of a command, is wrong."""

    exit_code = 2


class MissingDependencyError(TrtkitError):
    """An optional package is absent, or two that exclude each other are installed together."""

    exit_code = 3


class BuildError(TrtkitError):
    """The model cannot become what was asked."""

    exit_code = 4


class ExportError(BuildError):
    """The source gives no ONNX graph that ONNX Runtime and Triton can serve."""


class ConfigError(BuildError):
    """No valid config.pbtxt follows from the project file."""


class ServerError(TrtkitError):
    """Tritonserver answered with an error."""

    exit_code = 5


class ServerUnavailableError(ServerError):
    """Nobody listens at the address, or the server was not ready in time."""


class ServerStartError(ServerError):
    """Tritonserver could not start, or ended by itself."""


class ModelUnavailableError(ServerError):
    """The model is not loaded, or failed to load."""


class RepositoryError(TrtkitError):
    """The file system refused; the repository is as it was."""

    exit_code = 6


class DataError(TrtkitError):
    """Inputs, calibration or evaluation data do not fit the model."""

    exit_code = 7


class ParityError(TrtkitError):
    """Served outputs are outside the tolerance."""

    exit_code = 8


class MeasurementError(TrtkitError):
    """A measurement did not hold."""

    exit_code = 9


def nearest(given: str, available: Iterable[str]) -> str:
    """The end of an error sentence: the nearest available name, or all of them.

    Args:
        given: what the user wrote.
        available: what would have been right.

    Returns:
        ``did you mean 'x'? (available: x, y)`` or ``available: x, y``; ``none is available`` when empty.
    """
    names = sorted(str(name) for name in available)
    if not names:
        return "none is available"
    listed = ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    close = get_close_matches(str(given), names, n=1)
    return f"did you mean '{close[0]}'? (available: {listed})" if close else f"available: {listed}"
