# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Host memory of a pod: the server, the weights while they load, Python's processes, pools, /dev/shm, /tmp; and cores.

Sizes of processes are what a small server was seen to use, rounded up; `trtkit deploy measure` takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any

from trtkit.config import ModelConfig
from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import LoadMeasurement, PerfMeasurement
from trtkit.deploy.options import size_option
from trtkit.deploy.planned import ServedModel
from trtkit.deploy.releases import has
from trtkit.dtypes import by_name
from trtkit.project import Deploy

SERVER_MIB, SERVER_CUDA_MIB = 300, 1500
STUB_MIB = 150
LOAD_THREADS = 4
"""--model-load-thread-count: so many models are read at once."""
PINNED_POOL_MIB = 256
"""--pinned-memory-pool-byte-size, for one NUMA node; made only where there is a GPU."""
CACHE_BYTES = 100 << 20
MOST_CORES = 8
"""That are requested without a measurement: instances are seldom all busy, and a pod has to find a node."""
LEAST_SHM_MIB = 64
DYNAMIC = 512
"""What a dynamic dimension other than the batch is taken for."""
_STRING_BYTES = 32
_LEAST_TMP_MIB = 256


def host_parts(
    spec: Deploy, served: Sequence[ServedModel], measured: LoadMeasurement | None, *, on_gpu: bool
) -> dict[str, Figure]:
    """What host memory is made of, without /dev/shm and the buffer, MiB."""
    parts = _measured_parts(measured) if measured else _estimated_parts(served, on_gpu=on_gpu)
    if on_gpu:
        if measured:
            why = "libraries of CUDA in the server's process; the measuring server ran without a GPU"
            parts["host CUDA"] = Figure(SERVER_CUDA_MIB - SERVER_MIB, "MiB", why, "estimated")
        parts["host pinned pool"] = _pinned_pool(spec.server.options)
    if any(model.cached for model in served):
        parts["host response cache"] = cache_of(spec)
    return parts


def _pinned_pool(options: Sequence[str]) -> Figure:
    size = size_option(options, "pinned-memory-pool-byte-size")
    if size is not None:
        return Figure(ceil(size / 2**20), "MiB", f"--pinned-memory-pool-byte-size={size}", "declared")
    why = f"--pinned-memory-pool-byte-size, {PINNED_POOL_MIB} MiB by default, for one NUMA node"
    return Figure(PINNED_POOL_MIB, "MiB", why, "preset")


def cache_of(spec: Deploy) -> Figure:
    """The response cache's size, MiB."""
    size = spec.server.response_cache_bytes
    if size is None:
        return Figure(CACHE_BYTES >> 20, "MiB", "a model has response_cache; 100 MiB where nothing is said", "preset")
    return Figure(-(-size >> 20) or 1, "MiB", f"server.response_cache_bytes: {size}", "declared")


def _measured_parts(measured: LoadMeasurement) -> dict[str, Figure]:
    why = f"largest resident memory while loading ({measured.file}), pages shared by its processes counted once"
    return {"host measured": Figure(ceil(measured.host_mib), "MiB", why, "measured")}


def _estimated_parts(served: Sequence[ServedModel], *, on_gpu: bool) -> dict[str, Figure]:
    base = SERVER_CUDA_MIB if on_gpu else SERVER_MIB
    cpu = "the server with its backends' libraries, a guess; 2.51 without any takes 31 MiB"
    what = "the server with CUDA's libraries, a guess" if on_gpu else cpu
    parts = {"host server": Figure(base, "MiB", what, "estimated")}
    mib = {model.name: model.weight_bytes / 2**20 for model in served if model.backend != "ensemble"}
    resident = sum(mib[model.name] * _copies(model) for model in served if model.name in mib and not on_gpu)
    if resident:
        why = "the files' size for each instance, which has a session of its own"
        parts["host weights"] = Figure(ceil(resident), "MiB", why, "estimated")
    largest = sorted(mib.values(), reverse=True)[:LOAD_THREADS]
    why = (
        f"files of the largest {LOAD_THREADS} models, read at once (--model-load-thread-count); "
        "twice, because a graph is parsed from the bytes that were read"
    )
    parts["host loading"] = Figure(ceil(2 * sum(largest)), "MiB", why, "estimated")
    stubs = sum(model.instances for model in served if model.python)
    if stubs:
        why = f"{stubs} instances of Python models, a process of {STUB_MIB} MiB each (with NumPy; more with torch)"
        parts["host Python"] = Figure(stubs * STUB_MIB, "MiB", why, "estimated")
    return parts


def _copies(model: ServedModel) -> float:
    """Instances per version: weight_bytes is over the versions, instances as well."""
    return model.instances / max(1, len(model.versions))


def shm_of(spec: Deploy, served: Sequence[ServedModel], release: str, measured: LoadMeasurement | None) -> Figure:
    """Size of /dev/shm, MiB: each instance of a Python model has a region there, which grows with its requests."""
    instances = sum(model.instances for model in served if model.python)
    if not instances:
        why = f"no Python model uses it; {LEAST_SHM_MIB} MiB as containers have"
        return Figure(LEAST_SHM_MIB, "MiB", why, "preset")
    given = size_option(spec.server.options, "backend-config", "python,shm-default-byte-size=")
    # python_backend pull request 291 of 2023-08
    region = ceil(given / 2**20) if given else 1 if has(release, "23.09") else 64
    tensors = sum(model.instances * 2 * batch_mib(model.config) for model in served if model.python)
    estimate = ceil(instances * region + tensors)
    regions = f"{instances} Python instances x {region} MiB + {tensors:.1f} MiB for two batches in flight each"
    if measured is not None and 2 * measured.shm_mib > max(estimate, LEAST_SHM_MIB):
        why = f"2 x {measured.shm_mib:g} MiB measured ({measured.file}); a region never shrinks"
        return Figure(ceil(2 * measured.shm_mib), "MiB", why, "computed")
    if estimate < LEAST_SHM_MIB:
        return Figure(LEAST_SHM_MIB, "MiB", f"at least {LEAST_SHM_MIB} MiB; {regions} is less", "preset")
    return Figure(estimate, "MiB", regions, "estimated")


def batch_mib(config: ModelConfig) -> float:
    """Inputs and outputs of one full batch, MiB; dynamic dimensions are taken for 512."""
    return max(1, config.max_batch_size) * sum(map(_row_bytes, (*config.input, *config.output))) / 2**20


def _row_bytes(row: Any) -> int:
    """Bytes of one row of an input or output of a config."""
    dims = [DYNAMIC if size < 0 else size for size in row.dims]
    kind = row.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[row.data_type].name
    size = 0 if kind == "TYPE_INVALID" else by_name(kind).byte_size
    return prod(dims) * (size or _STRING_BYTES)


def temporary_of(spec: Deploy, served: Sequence[ServedModel], repository: Path) -> Figure:
    """Size of /tmp, MiB: a repository in a bucket is copied there, and archives of environments are unpacked."""
    size = sum(model.weight_bytes for model in served) / 2**20
    packed = sum(file.stat().st_size for m in served for file in (repository / m.name).rglob("*.tar.gz")) / 2**20
    total, reasons = 0.0, []
    if spec.storage.uri:
        total += 2 * size
        reasons.append(f"2 x {size:.0f} MiB of {spec.storage.uri}, of which the server keeps a copy, and a second one "
                       "where a model has several versions")  # fmt: skip
    if packed:
        total += 4 * packed
        reasons.append(f"4 x {packed:.0f} MiB of packed Python environments, unpacked there")
    if total < _LEAST_TMP_MIB:
        less = f"; {' and '.join(reasons)} is less" if reasons else ""
        why = f"at least {_LEAST_TMP_MIB} MiB for the server's own files{less}"
        return Figure(_LEAST_TMP_MIB, "MiB", why, "preset")
    return Figure(ceil(total), "MiB", " + ".join(reasons), "estimated")


def cores(served: Sequence[ServedModel], perf: Sequence[PerfMeasurement], *, on_gpu: bool) -> Figure:
    """Cores that a pod requests."""
    shares = [one.cpu_cores for one in perf if one.cpu_cores is not None]
    if shares:
        largest = max(shares)
        why = f"the server used {largest:.2g} cores at the highest measured load, and a half of one is kept"
        return Figure(str(ceil(largest + 0.5)), "", why, "measured")
    stubs = sum(model.instances for model in served if model.python)
    others = sum(model.instances for model in served if not model.python)
    if on_gpu:
        count, why = 2 + stubs, f"2 for the server and its GPU's instances + {stubs} Python instances; not measured"
    else:
        count = 1 + stubs + others
        why = f"1 for the server + {others} instances + {stubs} Python instances, a core each; not measured"
    if count > MOST_CORES:
        why = f"{MOST_CORES} at most without a measurement; {why}"
    return Figure(str(min(MOST_CORES, max(2, count))), "", why, "estimated")
