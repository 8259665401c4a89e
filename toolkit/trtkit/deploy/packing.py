# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods fit on a GPU and a node, and which models together on one GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtkit.deploy.gpus import PRODUCTS, profiles_of, slice_memory

USABLE = 0.95
"""Of a GPU's memory: the driver keeps some for itself, and allocators cannot fill it to the last byte."""


@dataclass(frozen=True)
class Density:
    """How many pods fit, for one way to give them GPUs.

    Attributes:
        way: e.g. ``whole GPU``, ``shared GPU`` or ``MIG 1g.10gb``.
        memory_mib: that such a share has; of the whole GPU where it is shared.
        per_gpu: pods on one GPU by their GPU memory; 0 when one does not fit.
        per_node: on a node with `gpus_per_node` such GPUs, host memory considered; None where that is not known.
    """

    way: str
    memory_mib: int
    per_gpu: int
    per_node: int | None


def densities(
    product: str | None,
    memory_mib: int,
    need_mib: int,
    *,
    gpus_per_node: int | None = None,
    node_memory_mib: int | None = None,
    host_mib: int = 0,
) -> list[Density]:
    """How many pods of `need_mib` fit on a GPU: whole, shared, and cut into each MIG profile.

    Args:
        product: the label nvidia.com/gpu.product; its MIG profiles are listed when it is known.
        memory_mib: of one whole GPU.
        need_mib: of one pod on one GPU.
        gpus_per_node: for pods per node; None leaves them out.
        node_memory_mib: host memory of a node; None when it is no limit that is known.
        host_mib: of one pod.
    """

    def per_node(per_gpu: int) -> int | None:
        if gpus_per_node is None:
            return None
        by_host = node_memory_mib // host_mib if node_memory_mib and host_mib else per_gpu * gpus_per_node
        return min(per_gpu * gpus_per_node, by_host)

    whole = int(need_mib <= memory_mib)
    shared = int(memory_mib * USABLE) // max(1, need_mib)
    rows = [
        Density("whole GPU", memory_mib, whole, per_node(whole)),
        Density("shared GPU", memory_mib, shared, per_node(shared)),
    ]
    for profile, count in profiles_of(product or "").items():
        fits = count if need_mib <= slice_memory(profile) else 0
        rows.append(Density(f"MIG {profile}", slice_memory(profile), fits, per_node(fits)))
    return rows


def smallest_profile(product: str, need_mib: int) -> str | None:
    """The smallest MIG slice of a GPU that a pod fits into; None when none is large enough, or the GPU has no MIG."""
    fitting = [profile for profile in profiles_of(product) if need_mib <= slice_memory(profile)]
    return min(fitting, key=lambda profile: (slice_memory(profile), profile), default=None)


def smallest_product(need_mib: int) -> str | None:
    """The known GPU with the least memory that is enough; None when none has so much."""
    fitting = [name for name, product in PRODUCTS.items() if need_mib <= product.memory_mib * USABLE]
    return min(fitting, key=lambda name: (PRODUCTS[name].memory_mib, name), default=None)


@dataclass(frozen=True)
class Bin:
    """One GPU, or slice, and the models on it.

    Attributes:
        models: names, the largest first.
        used_mib: what they need, with `overhead_mib` of the server.
        free_mib: what is left of the capacity.
    """

    models: tuple[str, ...]
    used_mib: int
    free_mib: int


def pack(needs: Mapping[str, int], capacity_mib: int, overhead_mib: int = 0) -> tuple[list[Bin], list[str]]:
    """Which models together on one GPU: the largest first, each into the first GPU where it still fits.

    First-fit decreasing uses at most 11/9 of the fewest possible GPUs, and one more.

    Args:
        needs: MiB by model.
        capacity_mib: of one GPU, or slice.
        overhead_mib: of the server itself (the CUDA context, its pool), once for each GPU.

    Returns:
        The GPUs in the order in which they were opened, and the models that fit none.
    """
    bins: list[tuple[list[str], int]] = []
    too_large = []
    for name, need in sorted(needs.items(), key=lambda item: (-item[1], item[0])):
        if need + overhead_mib > capacity_mib:
            too_large.append(name)
            continue
        place = next((i for i, (_, used) in enumerate(bins) if used + need <= capacity_mib), None)
        if place is None:
            bins.append(([name], overhead_mib + need))
        else:
            names, used = bins[place]
            bins[place] = ([*names, name], used + need)
    return [Bin(tuple(names), used, capacity_mib - used) for names, used in bins], too_large


def together(bins: Sequence[Bin]) -> str:
    """The packing in a line, e.g. ``GPU 1: a, b; GPU 2: c``."""
    return "; ".join(f"GPU {number}: {', '.join(each.models)}" for number, each in enumerate(bins, 1))
