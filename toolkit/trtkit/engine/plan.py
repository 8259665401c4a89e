# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a plan says about itself in its first 64 bytes; no GPU and no TensorRT is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trtkit.errors import BuildError

HEADER_BYTES = 64
_LEAST_BYTES = 28
_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
# the bits of the word at byte 32 of a TensorRT-RTX plan, as its builder 1.7 was seen to set them
_RTX_TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True)
class PlanHeader:
    """The header of a plan.

    Attributes:
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library that built it, e.g. ``(10, 13, 3, 9)``.
        compute_capabilities: what a TensorRT-RTX plan was built for; empty for TensorRT, whose header has none.
        byte_size: of the whole plan.
    """

    flavour: str
    version: tuple[int, ...]
    compute_capabilities: tuple[str, ...]
    byte_size: int

    @property
    def version_text(self) -> str:
        """The version, as in ``10.13.3.9``."""
        return ".".join(map(str, self.version))


def plan_header(plan: Path | bytes) -> PlanHeader:
    """Read the header of a plan, or of a file that holds one; 64 bytes are read of a file.

    Flavour and version stand where NVIDIA's trtexec --getPlanVersionOnly reads them: ``ftrt`` or ``vtrt`` and a
    zero word, the version in bytes 24 to 27. TensorRT-RTX has the plan's size at 16 and its targets at 32.

    Raises:
        BuildError: there is no such file, it is empty or cut off, or it is no TensorRT plan.
    """
    if isinstance(plan, bytes):
        return _parse(plan[:HEADER_BYTES], len(plan), "the given bytes")
    try:
        with plan.open("rb") as file:
            head = file.read(HEADER_BYTES)
        size = plan.stat().st_size
    except OSError as exc:
        raise BuildError(f"{plan} cannot be read: {exc.strerror or exc}") from exc
    return _parse(head, size, str(plan))


def _parse(head: bytes, size: int, what: str) -> PlanHeader:
    if not head:
        raise BuildError(f"{what}: not a TensorRT plan: empty")
    if head[:4] not in _MAGIC or head[4:8] != bytes(4)[: len(head[4:8])]:
        raise BuildError(f"{what}: not a TensorRT plan: it begins with {head[:8]!r}, a plan with b'ftrt' or b'vtrt'")
    if len(head) < _LEAST_BYTES:
        raise BuildError(f"{what}: a TensorRT plan that is cut off after {len(head)} bytes")
    flavour, version = _MAGIC[head[:4]], tuple(head[24:28])
    if flavour == "tensorrt":
        return PlanHeader(flavour, version, (), size)
    declared, mask = int.from_bytes(head[16:24], "little"), int.from_bytes(head[32:40], "little")
    if declared > size:
        raise BuildError(f"{what}: a TensorRT-RTX plan of {declared} bytes that is cut off after {size}")
    return PlanHeader(flavour, version, tuple(t for bit, t in enumerate(_RTX_TARGETS) if mask >> bit & 1), size)


def plan_info(plan: bytes) -> dict[str, str]:
    """Flavour and version from the first bytes of a plan, which may be all that is given of it.

    Raises:
        BuildError: it is no TensorRT plan.
    """
    if len(plan) < _LEAST_BYTES or plan[:4] not in _MAGIC or plan[4:8] != bytes(4):
        raise BuildError("not a TensorRT plan: its first bytes are no plan's header")
    return {"flavour": _MAGIC[plan[:4]], "version": ".".join(map(str, plan[24:28]))}
