# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods of a plan fit on a GPU and a node, and which of its models together on one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from trtkit.deploy.gpu_memory import CUDA_CONTEXT_MIB, CUDA_POOL_MIB, model_gpu, runs_on_gpu
from trtkit.deploy.gpus import PRODUCTS
from trtkit.deploy.memory import mib
from trtkit.deploy.packing import USABLE, Bin, Density, densities, pack
from trtkit.deploy.place import Place
from trtkit.deploy.planned import Plan


@dataclass(frozen=True)
class Report:
    """How densely a plan's pods, and its models, can be packed.

    Attributes:
        ways: pods per GPU and node, for each way to share it; empty without a GPU whose memory is known.
        models: MiB by model, on one GPU; empty on a CPU target.
        bins: the models on as few GPUs (or slices) as first-fit decreasing needs.
        too_large: models that fit none.
        by_host: pods on a node by its host memory; None where cluster.node_memory is not given.
    """

    ways: tuple[Density, ...]
    models: dict[str, int]
    bins: tuple[Bin, ...]
    too_large: tuple[str, ...]
    by_host: int | None


def report_of(plan: Plan, place: Place) -> Report:
    """Pack a plan's pods onto GPUs and nodes, and its models onto GPUs."""
    cluster = plan.spec.cluster
    node = mib(cluster.node_memory) if cluster.node_memory else None
    by_host = node // plan.memory.host.whole if node else None
    if plan.gpu is None or plan.memory.gpu is None:
        return Report((), {}, (), (), by_host)
    count = plan.gpu.count
    each = ceil(plan.memory.gpu.whole / count)
    needs = {m.name: max(1, ceil(model_gpu(place, m).total / count)) for m in plan.models if runs_on_gpu(m)}
    if plan.gpu.memory is None:
        return Report((), needs, (), (), by_host)
    capacity = plan.gpu.memory.whole
    whole = PRODUCTS[plan.spec.gpu.product].memory_mib if plan.spec.gpu.product in PRODUCTS else capacity
    ways = densities(
        plan.spec.gpu.product, whole, each, gpus_per_node=cluster.gpus_per_node, node_memory_mib=node,
        host_mib=plan.memory.host.whole,
    ) if whole != capacity or plan.spec.gpu.mig is None else []  # fmt: skip
    bins, too_large = pack(needs, int(capacity * USABLE), CUDA_CONTEXT_MIB + CUDA_POOL_MIB)
    return Report(tuple(ways), needs, tuple(bins), tuple(too_large), by_host)
