# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the container's start to the first answer.

tritonserver opens no port until every model is loaded (seen with 2.51), so that nothing but a startup probe can wait
for it, and its budget has to cover the slowest load.
"""

from __future__ import annotations

from collections.abc import Sequence

from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import LoadMeasurement
from trtkit.deploy.planned import ServedModel, Startup
from trtkit.project import Deploy

FACTOR = 2
"""Of the load time: a cold node reads from the disk or the network what a measurement found in the page cache."""
LEAST_BUDGET_S = 30
_SHORT_PERIOD_S, _LONG_PERIOD_S, _LONG_BUDGET_S = 5, 10, 300
# where nothing was measured
_SERVER_S, _CUDA_S, _STUB_S = 5, 10, 2
_READ_MIB_PER_S, _DOWNLOAD_MIB_PER_S = 100, 50


def startup_of(
    spec: Deploy, served: Sequence[ServedModel], measured: LoadMeasurement | None, *, on_gpu: bool
) -> Startup:
    """The budget of the startup probe.

    Args:
        spec: the ``deploy:`` block; its server.startup_seconds goes first.
        served: the models.
        measured: what `trtkit deploy measure` found.
        on_gpu: whether CUDA has to start too.
    """
    load = load_time(spec, served, measured, on_gpu=on_gpu)
    budget = _budget(spec.server.startup_seconds, load)
    period = _LONG_PERIOD_S if float(budget.value) > _LONG_BUDGET_S else _SHORT_PERIOD_S
    return Startup(load, budget, period, -(-budget.whole // period))


def load_time(spec: Deploy, served: Sequence[ServedModel], measured: LoadMeasurement | None, *, on_gpu: bool) -> Figure:
    """How long loading all models takes, s; with the download where the repository is in a bucket."""
    mib = sum(model.weight_bytes for model in served) / 2**20
    download = mib / _DOWNLOAD_MIB_PER_S if spec.storage.uri else 0.0
    fetched = f" + {mib:.0f} MiB at {_DOWNLOAD_MIB_PER_S} MiB/s from the bucket" if spec.storage.uri else ""
    if measured is not None:
        why = f"{measured.load_s:g} s measured ({measured.file}){fetched}"
        return Figure(round(measured.load_s + download, 1), "s", why, "computed" if fetched else "measured")
    stubs = sum(model.instances for model in served if model.python)
    seconds = _SERVER_S + (_CUDA_S if on_gpu else 0) + mib / _READ_MIB_PER_S + _STUB_S * stubs + download
    cuda = f" + {_CUDA_S} s for CUDA" if on_gpu else ""
    why = (
        f"not measured: {_SERVER_S} s for the server{cuda} + {mib:.0f} MiB at {_READ_MIB_PER_S} MiB/s + {stubs} Python "
        f"instances of {_STUB_S} s{fetched}; `trtkit deploy measure` measures it"
    )
    return Figure(round(seconds, 1), "s", why, "estimated")


def _budget(declared: int | None, load: Figure) -> Figure:
    if declared is not None:
        why = f"server.startup_seconds: {declared}; loading takes {load.text} ({load.origin})"
        return Figure(declared, "s", why, "declared")
    twice = -(-FACTOR * float(load.value) // 1)
    if twice < LEAST_BUDGET_S:
        why = f"at least {LEAST_BUDGET_S} s; {FACTOR} x the load time {load.text} ({load.origin}) is less"
        return Figure(LEAST_BUDGET_S, "s", why, "preset")
    why = f"{FACTOR} x the load time {load.text} ({load.origin}): a cold node reads from disk or network"
    return Figure(int(twice), "s", why, "estimated" if load.origin == "estimated" else "computed")
