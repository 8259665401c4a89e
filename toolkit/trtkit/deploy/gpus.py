# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs as Kubernetes names them: their memory, and the MIG slices they are cut into.

Names are those of the node label nvidia.com/gpu.product (GPU feature discovery); memory is what the driver reports.
How many slices of a profile fit on a GPU is from the configurations of NVIDIA's mig-parted. The memory of a slice is
what the driver reports where it is known, else 95 % of the size in the profile's name, which is less than it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import GpuPlan
from trtkit.errors import nearest
from trtkit.images import image_facts
from trtkit.project.spec_deploy import Gpu

_GB = 10**9 / 2**20  # MiB


@dataclass(frozen=True)
class Product:
    """A GPU.

    Attributes:
        memory_mib: by the driver.
        compute_capability: e.g. ``8.9``.
        slices: how many MIG slices of a profile it gives, by profile; empty for a GPU without MIG.
    """

    memory_mib: int
    compute_capability: str
    slices: Mapping[str, int]


_A100_40 = {"1g.5gb": 7, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}
_GB80 = {"1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1}
_A30 = {"1g.6gb": 4, "2g.12gb": 2, "4g.24gb": 1}
_GH200 = {"1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.48gb": 2, "4g.48gb": 1, "7g.96gb": 1}
_NVL = {"1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.47gb": 2, "4g.47gb": 1, "7g.94gb": 1}
_H200 = {"1g.18gb": 7, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1}
_B200 = {"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1}
_NONE: Mapping[str, int] = {}

PRODUCTS: dict[str, Product] = {
    "Tesla-T4": Product(15360, "7.5", _NONE),
    "Tesla-V100-SXM2-16GB": Product(16384, "7.0", _NONE),
    "Tesla-V100-SXM2-32GB": Product(32768, "7.0", _NONE),
    "NVIDIA-A2": Product(15356, "8.6", _NONE),
    "NVIDIA-A10": Product(23028, "8.6", _NONE),
    "NVIDIA-A10G": Product(23028, "8.6", _NONE),
    "NVIDIA-A16": Product(15356, "8.6", _NONE),
    "NVIDIA-A30": Product(24576, "8.0", _A30),
    "NVIDIA-A40": Product(46068, "8.6", _NONE),
    "NVIDIA-RTX-A6000": Product(49140, "8.6", _NONE),
    "NVIDIA-A100-PCIE-40GB": Product(40960, "8.0", _A100_40),
    "NVIDIA-A100-SXM4-40GB": Product(40960, "8.0", _A100_40),
    "NVIDIA-A100-80GB-PCIe": Product(81920, "8.0", _GB80),
    "NVIDIA-A100-SXM4-80GB": Product(81920, "8.0", _GB80),
    "NVIDIA-L4": Product(23034, "8.9", _NONE),
    "NVIDIA-L40": Product(46068, "8.9", _NONE),
    "NVIDIA-L40S": Product(46068, "8.9", _NONE),
    "NVIDIA-RTX-6000-Ada-Generation": Product(49140, "8.9", _NONE),
    "NVIDIA-H100-PCIe": Product(81559, "9.0", _GB80),
    "NVIDIA-H100-80GB-HBM3": Product(81559, "9.0", _GB80),
    "NVIDIA-H100-NVL": Product(95830, "9.0", _NVL),
    "NVIDIA-GH200-480GB": Product(97871, "9.0", _GH200),
    "NVIDIA-H200": Product(143771, "9.0", _H200),
    "NVIDIA-H200-NVL": Product(143771, "9.0", _H200),
    "NVIDIA-B200": Product(183359, "10.0", _B200),
}
"""By the label nvidia.com/gpu.product; another product needs `gpu.memory_mib`."""

_SLICE_MIB = {
    "1g.5gb": 4864, "2g.10gb": 9856, "1g.10gb": 9728, "3g.20gb": 19968, "4g.20gb": 19968, "7g.40gb": 40192,
    "1g.20gb": 19968, "2g.20gb": 19968, "3g.40gb": 40192, "4g.40gb": 40192, "7g.80gb": 80896,
    "1g.6gb": 5952, "2g.12gb": 11968, "4g.24gb": 24000,
}  # fmt: skip


def slice_memory(profile: str) -> int:
    """Memory of a MIG slice, MiB.

    Args:
        profile: e.g. ``1g.10gb``.
    """
    gigabytes = int(profile.partition(".")[2].removesuffix("gb"))
    return _SLICE_MIB.get(profile, int(0.95 * gigabytes * _GB))


def profiles_of(product: str) -> Mapping[str, int]:
    """How many slices of each MIG profile a GPU gives; empty when it has no MIG, or is not known."""
    return PRODUCTS[product].slices if product in PRODUCTS else _NONE


def gpu_memory(gpu: Gpu) -> Figure | None:
    """Memory of one GPU, or slice; None where nobody said which it is."""
    if gpu.memory_mib is not None:
        return Figure(gpu.memory_mib, "MiB", f"gpu.memory_mib: {gpu.memory_mib}", "declared")
    if gpu.mig is not None:
        known = "as the driver reports it" if gpu.mig in _SLICE_MIB else "95 % of the size in its name"
        return Figure(slice_memory(gpu.mig), "MiB", f"a MIG slice {gpu.mig}, {known}", "preset")
    if gpu.product in PRODUCTS:
        return Figure(PRODUCTS[gpu.product].memory_mib, "MiB", f"{gpu.product}, as the driver reports it", "preset")
    return None


def profile_problem(gpu: Gpu) -> str | None:
    """Why the product gives no such slice, in a sentence; None when it does, or is not known."""
    slices = profiles_of(gpu.product or "")
    if gpu.mig is None or gpu.product not in PRODUCTS or gpu.mig in slices:
        return None
    there = nearest(gpu.mig, slices) if slices else "it has no MIG"
    return f"{gpu.product} gives no slice {gpu.mig}; {there}"


def shown_product(gpu: Gpu) -> str | None:
    """The product as the node label has it: shared GPUs and those cut into slices of one profile have a suffix."""
    if gpu.product is None:
        return None
    if gpu.mig is not None and gpu.mig_strategy == "single":
        return f"{gpu.product}-MIG-{gpu.mig}"
    shared = gpu.time_slicing is not None or gpu.mps is not None
    return f"{gpu.product}-SHARED" if shared and not gpu.product.endswith("-SHARED") else gpu.product


def gpu_plan(gpu: Gpu, image: str, need: Figure) -> GpuPlan:
    """Which GPUs a pod gets.

    Args:
        gpu: of the ``deploy:`` block.
        image: the server's; the oldest driver follows from it.
        need: of the GPUs of a pod together, MiB.
    """
    memory = gpu_memory(gpu)
    mixed = gpu.mig is not None and gpu.mig_strategy == "mixed"
    facts = image_facts(image)
    return GpuPlan(
        resource=f"nvidia.com/mig-{gpu.mig}" if mixed else "nvidia.com/gpu",
        count=gpu.count,
        product=shown_product(gpu),
        memory=memory,
        pods_per_gpu=_sharing(gpu, need),
        driver=facts.sure("driver") if facts else None,
        min_node_memory=None if gpu.product or gpu.mig else _min_memory(gpu, need),
    )


def _sharing(gpu: Gpu, need: Figure) -> Figure:
    if gpu.time_slicing:
        why = f"gpu.time_slicing: {gpu.time_slicing} pods take turns, each with {need.text} of the same memory"
        return Figure(gpu.time_slicing, "pods", why, "declared")
    if gpu.mps:
        why = f"gpu.mps: {gpu.mps} pods at once, each with {need.text} of the same memory"
        return Figure(gpu.mps, "pods", why, "declared")
    what = f"a slice {gpu.mig} is a pod's own" if gpu.mig else "a whole GPU is a pod's own, so none disturbs another"
    return Figure(1, "pods", what, "preset")


def _min_memory(gpu: Gpu, need: Figure) -> Figure:
    sharing = gpu.time_slicing or gpu.mps or 1
    each = -(-need.whole // gpu.count) * sharing
    shared = f", for {sharing} pods that share it" if sharing > 1 else ""
    return Figure(each, "MiB", f"what a pod needs of one GPU: {need.text} on {gpu.count}{shared}", need.origin)
