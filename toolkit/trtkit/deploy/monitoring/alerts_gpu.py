# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts on GPUs, from dcgm-exporter: the server's own GPU metrics leave out reserved memory, XID errors and MIG."""

from __future__ import annotations

from trtkit.deploy.monitoring.rule import Alert, Series
from trtkit.deploy.monitoring.scope import DCGM_JOB, Where, dcgm
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan

BY_GPU = "Hostname, UUID, GPU_I_ID"
"""What names a GPU, or a slice of one, in dcgm-exporter."""
FULL = 0.9
"""The share of GPU memory over which an allocation is likely to fail."""
MARGIN = 0.03
"""How much more than planned may be in use, where the plan itself comes near `FULL`."""


def gpu_alerts(plan: Plan, timing: Timing, where: Where) -> list[Alert]:
    """The alerts of a plan on a GPU; none for a CPU target."""
    if not plan.on_gpu:
        return []
    return [_memory_high(plan, timing, where), _xid(plan, where), _metrics_absent(plan, timing, where)]


def memory_ratio(plan: Plan, where: Where) -> str:
    """The used share of GPU memory; old versions of dcgm-exporter have no FB_RESERVED."""
    used, free, reserved = (
        f"sum by ({BY_GPU}) ({dcgm(plan, where, f'DCGM_FI_DEV_FB_{kind}')})" for kind in ("USED", "FREE", "RESERVED")
    )
    return f"{used}\n/ ({used}\n+ {free}\n+ ({reserved} or 0 * {used}))"


def memory_limit(plan: Plan) -> tuple[float, str]:
    """The share of GPU memory to alert on, and why."""
    gpu = plan.gpu
    if gpu is not None and gpu.memory is not None and plan.memory.gpu is not None:
        pods = float(gpu.pods_per_gpu.value) if plan.spec.gpu.time_slicing or plan.spec.gpu.mps else 1.0
        planned = pods * float(plan.memory.gpu.value) / (gpu.count * float(gpu.memory.value))
        if planned + MARGIN > FULL:
            limit = min(0.99, round(planned + MARGIN, 2))
            return limit, f"{planned:.0%} of it is planned ({plan.memory.gpu.text} for each pod), and {MARGIN:.0%} more"
    return FULL, "above, the next allocation may fail"


def _memory_high(plan: Plan, timing: Timing, where: Where) -> Alert:
    limit, why = memory_limit(plan)
    labels = _gpu(plan, where)

    def memory(used: float) -> tuple[Series, ...]:
        return (
            Series("DCGM_FI_DEV_FB_USED", labels, value=10_000 * used),
            Series("DCGM_FI_DEV_FB_FREE", labels, value=10_000 * (1 - used) - 50),
            Series("DCGM_FI_DEV_FB_RESERVED", labels, value=50),
        )

    high = (1 + limit) / 2
    return Alert(
        "GpuMemoryHigh",
        f"{memory_ratio(plan, where)}\n> {limit:g}",
        f"share of the memory of a GPU or slice: {why}",
        timing.hold_s(120),
        "warning",
        "GPU {{ $labels.UUID }} on {{ $labels.Hostname }}: {{ $value | humanizePercentage }} of its memory is in use",
        """The next larger batch, another instance or a model reload may fail for want of GPU memory. Look
        whether another process is on the GPU (nvidia-smi), whether a backend's arena has grown (ONNX
        Runtime and PyTorch keep what they once took), and what trtkit deploy plan counts on. Loading a
        new version keeps the old one in memory meanwhile.""",
        memory(high),
        memory(limit - 0.1),
        (_named(labels), high),
    )


def _xid(plan: Plan, where: Where) -> Alert:
    labels = _gpu(plan, where)
    return Alert(
        "GpuXidError",
        f"max by ({BY_GPU}) ({dcgm(plan, where, 'DCGM_FI_DEV_XID_ERRORS')}) > 0",
        "the code of the last error of the driver; it stays until dcgm-exporter restarts",
        0,
        "critical",
        "GPU {{ $labels.UUID }} on {{ $labels.Hostname }} reported XID {{ $value }}",
        """The driver reported an error of this GPU. 13, 31, 43 and 45 come from a program (an illegal
        access, a killed process): look at the server's log. 48, 63, 64, 74, 79, 94 and 95 are the
        hardware's (ECC, NVLink, fallen off the bus): drain the node and reset or replace the GPU. The
        node's kernel log has the details (grep Xid).""",
        (Series("DCGM_FI_DEV_XID_ERRORS", labels, value=79.0),),
        (Series("DCGM_FI_DEV_XID_ERRORS", labels, value=0.0),),
        (_named(labels), 79.0),
    )


def _metrics_absent(plan: Plan, timing: Timing, where: Where) -> Alert:
    labels = _gpu(plan, where)
    known = {"namespace": plan.namespace, "job": DCGM_JOB} if where == "static" else {"namespace": plan.namespace}
    return Alert(
        "GpuMetricsAbsent",
        f"absent({dcgm(plan, where, 'DCGM_FI_DEV_FB_USED')})",
        "without them the other GPU alerts are silent",
        timing.hold_s(1800),
        "warning",
        f"no GPU metrics of {plan.name} in {plan.namespace}",
        """dcgm-exporter gives no metrics for the GPUs of these servers: GPU memory and XID errors are not
        watched. Look whether its DaemonSet runs on the GPU nodes, whether Prometheus scrapes it, and
        whether it maps GPUs to pods (DCGM_EXPORTER_KUBERNETES=true).""",
        (),
        (Series("DCGM_FI_DEV_FB_USED", labels, value=1.0),),
        (known, 1.0),
        {"namespace": plan.namespace},
    )


def _gpu(plan: Plan, where: Where) -> dict[str, str]:
    gpu = {"Hostname": "node-a", "UUID": "GPU-1", "gpu": "0"}
    if where == "static":
        return {**gpu, "namespace": plan.namespace, "job": DCGM_JOB}
    workload = {"exported_namespace": plan.namespace, "exported_pod": f"{plan.name}-0"}
    return {**gpu, **workload, "namespace": "gpu-operator", "job": DCGM_JOB}


def _named(labels: dict[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in ("Hostname", "UUID")}
