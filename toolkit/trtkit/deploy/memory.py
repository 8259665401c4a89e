# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What one pod needs: memory of its GPUs, of the host, /dev/shm, /tmp, and cores."""

from __future__ import annotations

import re
from math import ceil

from trtkit.deploy.figure import Figure, Origin
from trtkit.deploy.gpu_memory import gpu_parts
from trtkit.deploy.host_memory import cores, host_parts, shm_of, temporary_of
from trtkit.deploy.place import Place
from trtkit.deploy.planned import Memory

_UNITS = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
LARGEST_BUFFER_MIB = 2048
BUFFER_SHARE = 0.15


def amount(quantity: str) -> float:
    """A quantity in Kubernetes' notation as a number: bytes, or cores.

    Args:
        quantity: e.g. ``12Gi`` or ``500m``.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", quantity)
    assert found, quantity
    return float(found[1]) * _UNITS[found[2]]


def mib(quantity: str) -> int:
    """A quantity of memory, MiB, rounded up."""
    return -(-int(amount(quantity)) // 2**20)


def memory_of(place: Place) -> Memory:
    """What one pod needs, with its parts; what the block declares goes first."""
    given = place.spec.resources
    on_gpu = place.target.on_gpu
    gpus = gpu_parts(place) if on_gpu else {}
    measured = place.measured.load
    expected_shm = shm_of(place.spec, place.served, place.release, measured)
    shm = _declared(given.shm, "shm") or expected_shm
    parts = host_parts(place.spec, place.served, measured, on_gpu=on_gpu)
    parts["host /dev/shm"] = Figure(shm.value, "MiB", f"it counts as host memory: {shm.why}", shm.origin)
    parts["host buffer"] = buffer_of(sum(part.whole for part in parts.values()))
    temporary = _declared(given.temporary, "temporary") or temporary_of(place.spec, place.served, place.repository)
    return Memory(
        gpu=_sum(gpus) if on_gpu else None,
        host=_declared(given.memory, "memory") or _sum(parts),
        shm=shm,
        temporary=temporary,
        cpu=_declared_cores(given.cpu) or cores(place.served, place.measured.perf, on_gpu=on_gpu),
        parts={**gpus, **parts},
        computed_shm=expected_shm.whole,
    )


def buffer_of(used: int) -> Figure:
    """What is kept free against the OOM killer: 2 GiB or 15 %, but on a small server no more than it uses itself."""
    share = ceil(used * BUFFER_SHARE)
    value = max(share, min(LARGEST_BUFFER_MIB, used))
    if value == share:
        why = f"15 % of {used} MiB, against the OOM killer"
    elif value == used:
        why = f"as much again as it uses ({used} MiB), because 2 GiB would be more than the server itself"
    else:
        why = f"2 GiB against the OOM killer, more than 15 % of {used} MiB"
    return Figure(value, "MiB", why, "preset")


def _sum(parts: dict[str, Figure]) -> Figure:
    why = " + ".join(f"{name.partition(' ')[2]} {part.whole}" for name, part in parts.items() if part.whole)
    measured = any(part.origin == "measured" for part in parts.values())
    guessed = any(part.origin == "estimated" for part in parts.values())
    origin: Origin = "estimated" if guessed and not measured else "computed"
    return Figure(sum(part.whole for part in parts.values()), "MiB", why, origin)


def _declared(quantity: str | None, key: str) -> Figure | None:
    if quantity is None:
        return None
    return Figure(mib(quantity), "MiB", f"resources.{key}: {quantity}", "declared")


def _declared_cores(quantity: str | None) -> Figure | None:
    return None if quantity is None else Figure(quantity, "", f"resources.cpu: {quantity}", "declared")
