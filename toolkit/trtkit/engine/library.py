# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which TensorRT a module is, its one logger, and its error texts made readable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trtkit.errors import BuildError

OLDEST = (8, 6)
# the library's names of data types -> Triton's, where they differ
_DTYPES = {"FLOAT": "FP32", "HALF": "FP16"}
_CODE_PLACES = re.compile(
    r"\[\w[\w.]*\.(?:cpp|h)[:\w]*(?:: \w[\w()]*)?\] ?| In \w+ at /_?src/[^\s)]+"
    r"|^\w+\.cpp:\d+: |Error Code \d+: |IBuilder::\w+: |Assertion failed: "
)
_LONGEST = 600


@dataclass(frozen=True)
class Library:
    """A TensorRT module.

    Attributes:
        trt: the module.
        rtx: whether it is TensorRT-RTX.
        version: e.g. ``(10, 13, 3, 9)``; TensorRT-RTX counts for itself, its API is that of TensorRT 11.
    """

    trt: Any
    rtx: bool
    version: tuple[int, ...]

    @classmethod
    def of(cls, trt: Any) -> Library:
        """What a module is.

        Raises:
            BuildError: it is older than 8.6.
        """
        rtx = hasattr(trt.IBuilderConfig, "num_compute_capabilities")
        library = cls(trt, rtx, tuple(int(part) for part in re.findall(r"\d+", trt.__version__)))
        if not rtx and library.version[:2] < OLDEST:
            raise BuildError(f"TensorRT {trt.__version__} is too old; 8.6 is the oldest that trtkit builds with")
        return library

    @property
    def flavour(self) -> str:
        """``tensorrt`` or ``tensorrt_rtx``."""
        return "tensorrt_rtx" if self.rtx else "tensorrt"

    @property
    def version_text(self) -> str:
        """The version, as in ``10.13.3.9``."""
        return str(self.trt.__version__)

    @property
    def name(self) -> str:
        """Flavour and version, for messages."""
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version_text}"

    @property
    def strongly_typed(self) -> bool:
        """Whether the graph alone decides the precision: from 10 on."""
        return self.rtx or self.version[0] >= 10

    @property
    def network_flags(self) -> int:
        """For ``create_network``: 8 and 9 need an explicit batch, 10 has to be asked for strong typing."""
        flags = self.trt.NetworkDefinitionCreationFlag
        if self.rtx or self.version[0] >= 11:
            return 0
        flag = flags.STRONGLY_TYPED if self.version[0] == 10 else flags.EXPLICIT_BATCH
        return 1 << int(flag)


def compute_capabilities(trt: Any) -> dict[str, str]:
    """The names of TensorRT-RTX's targets by compute capability: ``{"8.9": "SM89", …}``."""
    names = (name for name in dir(trt.ComputeCapability) if re.fullmatch(r"SM\d{2,3}", name))
    return {f"{name[2:-1]}.{name[-1]}": name for name in sorted(names, key=lambda name: int(name[2:]))}


def dtype_name(dtype: Any) -> str:
    """A TensorRT data type in Triton's words: FP32, FP16, BF16, INT64, …; FP8, INT4 and FP4 have no other."""
    return _DTYPES.get(dtype.name, dtype.name)


class _Logs:
    """The logger of each module: a process keeps the first one it is given for ever."""

    by_module: dict[str, Any] = {}  # noqa: RUF012 - shared on purpose


def logger_of(trt: Any) -> Any:
    """The module's logger, with ``errors`` (texts) and ``echo`` (None, or a function that is given every line)."""
    if trt.__name__ not in _Logs.by_module:

        class Logger(trt.ILogger):
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.errors: list[str] = []
                self.echo: Callable[[str], None] | None = None

            def log(self, severity: Any, message: str) -> None:
                level = severity.name
                if "ERROR" in level:
                    self.errors.append(message)
                if self.echo and level != "VERBOSE":
                    self.echo(f"{level}: {message}")

        _Logs.by_module[trt.__name__] = Logger()
    return _Logs.by_module[trt.__name__]


def reason(texts: Iterable[str]) -> str:
    """Error texts of the library in one line: without places in its code and the CUDA errors that follow each."""
    lines = (line for text in texts for line in text.splitlines() if "cudaError" not in line)
    plain = (" ".join(_CODE_PLACES.sub("", line).split()) for line in lines)
    joined = "; ".join(dict.fromkeys(line for line in plain if line)) or "it gives no reason"
    return joined if len(joined) <= _LONGEST else f"{joined[:_LONGEST]}…"
