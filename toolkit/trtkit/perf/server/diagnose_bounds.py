# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What bounds a model's throughput: its queue, its instances, its cores, its GPU, its copies, its cache."""

from __future__ import annotations

from trtkit.perf.server.diagnose_facts import Diagnosis, ModelFacts, ms

_MOST = 0.5  # of the latency
_BUSY = 0.8  # of the time, or of the cores
_IDLE_CORES = 0.6
_COPIES = 0.3  # of the compute time
_COPIES_MATTER = 0.05  # of the latency
_MANY_HITS = 0.5
_NO_HITS = 0.01
_GPU_IDLE = 0.5
_GPU_BUSY = 0.9
_MEMORY_FULL = 0.95


def queue(model: ModelFacts) -> Diagnosis | None:
    """Most of the latency is waiting for an instance."""
    if model.queue_share < _MOST:
        return None
    return Diagnosis(
        "Queueing bounds the latency",
        f"requests of {model.name} wait {ms(model.stages.queue_ns)}, {model.queue_share:.0%} of the client's mean "
        f"latency, and are computed in {ms(model.stages.compute_infer_ns)}; {model.in_server:.3g} are in the server "
        f"at once for {model.instances} instance(s)",
        "less load at once (the throughput stays, the wait goes), larger batches, or more instances where there are "
        "idle cores or a GPU with room",
    )


def compute(model: ModelFacts) -> Diagnosis | None:
    """The instances compute nearly all the time."""
    busy = model.busy
    if busy is None or busy < _BUSY:
        return None
    return Diagnosis(
        "The model itself bounds the throughput",
        f"the {model.instances} instance(s) of {model.name} compute {busy:.0%} of the time, "
        f"{ms(model.stages.compute_infer_ns)} for each request ({model.compute_share:.0%} of the latency with the "
        "copies)",
        "a faster model (TensorRT, FP16 or INT8, fewer operators), larger batches, or more instances",
    )


def one_instance(model: ModelFacts) -> Diagnosis | None:
    """A single busy instance beside idle cores."""
    resources, busy = model.whole.resources, model.busy
    if resources is None or busy is None or not resources.server_cores or resources.server_cpu_share_mean is None:
        return None
    used = resources.server_cpu_share_mean / resources.server_cores
    on_cpu = model.cpu_instances == model.instances
    if not on_cpu or model.instances != 1 or busy < _BUSY or resources.server_cores < 2 or used > _IDLE_CORES:
        return None
    return Diagnosis(
        "One instance is busy while cores are idle",
        f"{model.name} has 1 instance, which computes {busy:.0%} of the time, and the server uses "
        f"{resources.server_cpu_share_mean:.2g} of {resources.server_cores} cores",
        "instance_group { count: 2 } or more, or more threads inside the model",
    )


def too_many_instances(model: ModelFacts) -> Diagnosis | None:
    """More CPU instances than cores, on cores that are all busy."""
    resources = model.whole.resources
    if resources is None or not resources.server_cores or resources.server_cpu_share_mean is None:
        return None
    full = resources.server_cpu_share_mean >= _BUSY * resources.server_cores
    if model.cpu_instances <= resources.server_cores or not full:
        return None
    return Diagnosis(
        "More instances than cores",
        f"{model.name} has {model.cpu_instances} instances on the CPU, the server may use {resources.server_cores} "
        f"cores and uses {resources.server_cpu_share_mean:.2g} of them: the instances wait for each other inside "
        f"their {ms(model.stages.compute_infer_ns)}",
        "as many instances as cores or fewer, each with fewer threads, and dynamic batching",
    )


def gpu(model: ModelFacts) -> Diagnosis | None:
    """A GPU that idles while its requests wait, or that is full."""
    gpus = model.whole.resources.gpus if model.whole.resources else ()
    known = [one for one in gpus if one.utilization_mean is not None]
    if not known or model.cpu_instances == model.instances:
        return None
    busiest = max(known, key=lambda one: one.utilization_mean or 0)
    share = busiest.utilization_mean or 0
    if share >= _GPU_BUSY:
        return Diagnosis(
            "The GPU is busy",
            f"GPU {busiest.uuid} is in use {share:.0%} of the time; {model.name} computes "
            f"{ms(model.stages.compute_infer_ns)} for each request",
            "a faster model (FP16 or INT8, TensorRT), larger batches, or another GPU",
        )
    if share < _GPU_IDLE and model.queue_share >= _MOST:
        return Diagnosis(
            "The GPU idles while requests wait",
            f"GPU {busiest.uuid} is in use {share:.0%} of the time, and requests of {model.name} wait "
            f"{ms(model.stages.queue_ns)} ({model.queue_share:.0%} of the latency) for {model.instances} instance(s)",
            "more instances on the GPU, dynamic batching, or less work on the CPU inside the model",
        )
    return None


def gpu_memory(model: ModelFacts) -> Diagnosis | None:
    """A GPU whose memory is nearly full."""
    for one in model.whole.resources.gpus if model.whole.resources else ():
        used, total = one.memory_used_max_bytes, one.memory_total_bytes
        if used is not None and total and used >= _MEMORY_FULL * total and model.cpu_instances < model.instances:
            return Diagnosis(
                "The GPU's memory is nearly full",
                f"GPU {one.uuid} used up to {used / 2**20:,.0f} of {total / 2**20:,.0f} MiB",
                "fewer instances, a smaller max_batch_size, or a lower precision",
            )
    return None


def copies(model: ModelFacts) -> Diagnosis | None:
    """Bringing tensors to and from the model is a large part of its work."""
    stages = model.stages
    moved = stages.compute_input_ns + stages.compute_output_ns
    total = moved + stages.compute_infer_ns
    if not total or moved < _COPIES * total or model.share(moved) < _COPIES_MATTER:
        return None
    return Diagnosis(
        "Copies are a large part of the computing",
        f"{model.name} spends {ms(stages.compute_input_ns)} on inputs and {ms(stages.compute_output_ns)} on outputs "
        f"of {ms(total)} per request",
        "shared memory (--shared-memory), fewer or smaller outputs (--output), smaller data types, or pre-processing "
        "beside the model",
    )


def cache(model: ModelFacts) -> Diagnosis | None:
    """A response cache that answers most requests, or none."""
    figures, share = model.figures, model.figures.cache_hit_share
    if share is None:
        return None
    looked_up = figures.cache_hit_count + figures.cache_miss_count
    hits = f"{figures.cache_hit_count:,} of {looked_up:,} requests of {model.name} ({share:.0%})"
    if share >= _MANY_HITS:
        return Diagnosis(
            "The response cache answers most requests",
            f"{hits} were answered from the cache in {ms(figures.cache_hit_ns or 0)}, not by the model",
            "unique requests to measure the model; this result is right only if real requests repeat like that",
        )
    if share <= _NO_HITS and model.share(model.stages.cache_ns) >= _COPIES_MATTER:
        return Diagnosis(
            "The response cache costs time and does not help",
            f"{hits} were answered from the cache, and looking up and storing take {ms(model.stages.cache_ns)} of each "
            "request",
            "response_cache off for this model, if real requests do not repeat either",
        )
    return None
