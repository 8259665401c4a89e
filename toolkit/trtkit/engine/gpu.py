# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The GPU that an engine is built on."""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.gpu import gpu_state


@dataclass(frozen=True)
class Gpu:
    """The first GPU that this process may use, which is the one TensorRT takes.

    Attributes:
        name: as the driver calls it, e.g. ``NVIDIA L40S``.
        compute_capability: e.g. ``8.9``.
        cuda_version: the newest CUDA that the driver supports, e.g. ``12.4``.
    """

    name: str
    compute_capability: str
    cuda_version: str | None


def find_gpu() -> Gpu | None:
    """The first GPU of CUDA_VISIBLE_DEVICES; None where there is no driver or it has no GPU."""
    state = gpu_state()
    return Gpu(state.gpus[0].name, state.gpus[0].compute_capability, state.cuda) if state.gpus else None
