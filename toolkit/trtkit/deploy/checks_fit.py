# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a pod fits its GPU, its node and the namespace's quota."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from trtkit.deploy.gpus import PRODUCTS
from trtkit.deploy.memory import amount, mib
from trtkit.deploy.packing import smallest_product, smallest_profile
from trtkit.deploy.planned import GpuPlan, Plan

Found = tuple[tuple[str, ...], str]
_NEARLY_FULL = 0.9


def fit_problems(plan: Plan) -> Iterator[Found]:
    """What does not fit: the key, and a sentence with the figures."""
    if plan.gpu is not None:
        yield from _gpu(plan, plan.gpu)
        yield from _gpus(plan, plan.gpu)
    yield from _host(plan)
    yield from _claim(plan)


def fit_warnings(plan: Plan) -> Iterator[str]:
    """What fits, but barely or only by an estimate."""
    gpu, need = plan.gpu, plan.memory.gpu
    if gpu is None or need is None:
        return
    if gpu.memory is None:
        yield (
            f"a pod needs {need.text} of GPU memory ({need.origin}), and which GPU it gets is not known; "
            "set gpu.product or gpu.memory_mib to check that it fits"
        )
    elif _each(plan, gpu) * gpu.pods_per_gpu.whole > gpu.memory.whole * _NEARLY_FULL:
        yield (
            f"a pod needs {_each(plan, gpu):,} MiB of a GPU's {gpu.memory.whole:,} MiB ({need.origin}); above 90 % "
            "a growing arena or a fragmented heap may end it"
        )
    if gpu.pods_per_gpu.whole > 1:
        yield f"{gpu.pods_per_gpu.whole} pods share a GPU and its memory; one that takes too much ends its neighbours"
    yield from _capability(plan)


def _each(plan: Plan, gpu: GpuPlan) -> int:
    """What a pod needs of one GPU, MiB: every model is on every GPU of a pod."""
    return ceil(plan.memory.gpu.whole / gpu.count) if plan.memory.gpu else 0


def _gpu(plan: Plan, gpu: GpuPlan) -> Iterator[Found]:
    if gpu.memory is None or plan.memory.gpu is None:
        return
    each, there, pods = _each(plan, gpu), gpu.memory.whole, gpu.pods_per_gpu.whole
    asked = plan.spec.gpu
    parts = ", ".join(f"{name[4:]} {part.whole:,}" for name, part in plan.memory.parts.items() if name[:3] == "gpu")
    if each > there and asked.mig:
        better = smallest_profile(asked.product or "", each)
        remedy = f"the smallest slice that is enough is {better}" if better else "no slice of it is enough"
        yield ("gpu", "mig"), f"needs {each:,} MiB ({parts}), slice {asked.mig} has {there:,}; {remedy}"
    elif each > there:
        better = smallest_product(each)
        remedy = f"{better} has {PRODUCTS[better].memory_mib:,}" if better else "no known GPU has so much"
        name = asked.product or "the GPU"
        yield (
            ("gpu", "product"),
            f"a pod needs {each:,} MiB ({parts}), {name} has {there:,}; {remedy}, or serve fewer models",
        )
    elif pods * each > there:
        key = "time_slicing" if asked.time_slicing else "mps"
        yield (
            ("gpu", key),
            f"{pods} pods of {each:,} MiB need {pods * each:,} MiB together, and the GPU has {there:,}; its memory is "
            f"not divided, take {max(1, there // each)} at most",
        )


def _gpus(plan: Plan, gpu: GpuPlan) -> Iterator[Found]:
    cluster, replicas = plan.spec.cluster, plan.scaling.replicas.whole
    need = replicas * gpu.count
    if cluster.quota_gpus is not None and cluster.quota_gpus < need:
        yield (
            ("cluster", "quota_gpus"),
            f"{cluster.quota_gpus} is less than {need}, what {replicas} replicas of {gpu.count} need; raise the quota "
            "or lower scaling.min_replicas",
        )
    if cluster.gpus_per_node is not None and cluster.gpus_per_node < gpu.count:
        yield (
            ("gpu", "count"),
            f"{gpu.count}, and a node has {cluster.gpus_per_node} (cluster.gpus_per_node); a pod runs on one node",
        )
    fits = (cluster.nodes or 0) * ((cluster.gpus_per_node or 0) // gpu.count)
    if cluster.nodes and cluster.gpus_per_node and replicas > fits:
        yield (
            ("scaling", "min_replicas"),
            f"{replicas} replicas of {gpu.count} GPUs; {cluster.nodes} nodes of {cluster.gpus_per_node} hold {fits}",
        )


def _host(plan: Plan) -> Iterator[Found]:
    cluster, memory, replicas = plan.spec.cluster, plan.memory, plan.scaling.replicas.whole
    shm = memory.shm.whole
    if shm >= memory.host.whole:
        yield (
            ("resources", "shm"),
            f"{memory.shm.text} of /dev/shm count as host memory, of which a pod has {memory.host.text}",
        )
    if cluster.node_memory and mib(cluster.node_memory) < memory.host.whole:
        yield (
            ("cluster", "node_memory"),
            f"a pod needs {memory.host.whole:,} MiB of host memory ({memory.host.why}), and a node has "
            f"{mib(cluster.node_memory):,}",
        )
    if cluster.quota_memory and mib(cluster.quota_memory) < replicas * memory.host.whole:
        yield (
            ("cluster", "quota_memory"),
            f"{cluster.quota_memory} is {mib(cluster.quota_memory):,} MiB, less than {replicas} replicas of "
            f"{memory.host.whole:,} MiB need",
        )
    if cluster.quota_cpu and amount(cluster.quota_cpu) < replicas * amount(str(memory.cpu.value)):
        yield (
            ("cluster", "quota_cpu"),
            f"{cluster.quota_cpu} cores are less than {replicas} replicas of {memory.cpu.value} need",
        )


def _claim(plan: Plan) -> Iterator[Found]:
    storage, scaling = plan.spec.storage, plan.scaling
    most = scaling.replicas.whole if scaling.kind == "none" else scaling.max_replicas
    if storage.kind == "pvc" and storage.access_mode == "ReadWriteOnce" and most > 1:
        yield (
            ("storage", "access_mode"),
            f"ReadWriteOnce is mounted on one node, and there are up to {most} replicas; take ReadOnlyMany or "
            "ReadWriteMany, or storage baked",
        )


def _capability(plan: Plan) -> Iterator[str]:
    product, wanted = plan.spec.gpu.product, plan.target.compute_capabilities
    if product in PRODUCTS and wanted and PRODUCTS[product].compute_capability not in wanted:
        yield (
            f"gpu.product {product} has compute capability {PRODUCTS[product].compute_capability}, and the target "
            f"'{plan.target_name}' says {', '.join(wanted)}"
        )
