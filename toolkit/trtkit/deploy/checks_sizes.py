# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Sizes and numbers that the block gives: whether Kubernetes takes them, and whether they are enough."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.measured import LoadMeasurement
from trtkit.deploy.memory import amount, mib
from trtkit.deploy.planned import Plan
from trtkit.images import parse_version
from trtkit.project import Deploy

Found = tuple[tuple[str, ...], str]
LARGEST = 2**63 - 1  # of a quantity, apimachinery's int64
MOST_PODS = 2**31 - 1
OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.23", "1.36"
"""The oldest has all that is rendered (autoscaling/v2); up to the newest the manifests are checked in the tests."""
_MEMORY = (
    ("resources", "memory"), ("resources", "shm"), ("resources", "temporary"), ("storage", "size"),
    ("cluster", "node_memory"), ("cluster", "quota_memory"),
)  # fmt: skip
_CORES = (("resources", "cpu"), ("cluster", "quota_cpu"))


def number_problems(spec: Deploy) -> Iterator[Found]:
    """Quantities and numbers that no cluster takes: the key, and a sentence."""
    for key in _MEMORY:
        quantity = getattr(getattr(spec, key[0]), key[1])
        if quantity is not None and not 2**20 <= amount(quantity) <= LARGEST:
            what = "less than 1Mi" if amount(quantity) < 2**20 else "more than 64 bits count"
            yield key, f"{quantity} is {what}; write a size such as 4Gi{_leave_out(key)}"
    for key in _CORES:
        quantity = getattr(getattr(spec, key[0]), key[1])
        if quantity is not None and not 0.001 <= amount(quantity) <= MOST_PODS:
            what = "less than 1m, a thousandth of a core" if amount(quantity) < 1 else "more than any cluster has"
            yield key, f"{quantity} is {what}; write cores such as 2 or 500m{_leave_out(key)}"
    for name in ("min_replicas", "max_replicas"):
        count = getattr(spec.scaling, name)
        if count > MOST_PODS:
            yield ("scaling", name), f"{count} is more than the {MOST_PODS} that Kubernetes counts"
    if parse_version(spec.kube_version) < parse_version(OLDEST_KUBERNETES):
        yield (
            ("kube_version",),
            f"{spec.kube_version} does not know what is rendered, such as autoscaling/v2; {OLDEST_KUBERNETES} is the "
            "oldest that does",
        )


def _leave_out(key: tuple[str, str]) -> str:
    return ", or leave it out" if key[0] == "resources" else ""


def number_warnings(spec: Deploy) -> Iterator[str]:
    """What a cluster may take, and nobody has tried."""
    if parse_version(spec.kube_version) > parse_version(NEWEST_KUBERNETES):
        yield (
            f"kube_version {spec.kube_version} is newer than {NEWEST_KUBERNETES}, the newest whose API the manifests "
            "were checked against"
        )


def declared_problems(plan: Plan, measured: LoadMeasurement | None) -> Iterator[Found]:
    """Sizes that the block gives, and that are smaller than what is known to be needed."""
    given, memory = plan.spec.resources, plan.memory
    took = measured.host_mib + measured.shm_mib if measured is not None else 0.0
    if measured is not None and given.memory and memory.host.whole < took:
        yield (
            ("resources", "memory"),
            f"{given.memory} is {memory.host.whole:,} MiB, and loading took {took:,.0f} ({measured.file}); the pod "
            "would be killed; leave it out",
        )
    if measured is not None and given.shm and memory.shm.whole < measured.shm_mib:
        yield (
            ("resources", "shm"),
            f"{given.shm} is {memory.shm.whole:,} MiB, and {measured.shm_mib:,.0f} were used ({measured.file})",
        )
    size = sum(model.weight_bytes for model in plan.models) / 2**20
    if plan.spec.storage.uri and given.temporary and memory.temporary.whole < size:
        yield (
            ("resources", "temporary"),
            f"{given.temporary} is {memory.temporary.whole:,} MiB, and the server copies the repository of "
            f"{size:,.0f} MiB there; leave it out",
        )
    claim = plan.spec.storage.size
    if claim and mib(claim) < size:
        yield ("storage", "size"), f"{claim} is {mib(claim):,} MiB, and the repository has {size:,.0f}; leave it out"


def declared_warnings(plan: Plan) -> Iterator[str]:
    """Sizes that the block gives, and that are smaller than what was computed."""
    given, memory = plan.spec.resources, plan.memory
    parts = {name: part for name, part in memory.parts.items() if name.startswith("host ") and name != "host buffer"}
    need = sum(part.whole for part in parts.values())
    if given.memory and memory.host.whole < need:
        why = " + ".join(f"{name[5:]} {part.whole:,}" for name, part in parts.items() if part.whole)
        yield (
            f"resources.memory {given.memory} is {memory.host.whole:,} MiB, and a pod is expected to use {need:,} "
            f"({why}); beyond the limit it is killed"
        )
    if given.shm and memory.shm.whole < memory.computed_shm:
        yield (
            f"resources.shm {given.shm} is {memory.shm.whole:,} MiB, less than the {memory.computed_shm:,} that were "
            "computed; a Python model without room there does not load, or its requests fail"
        )
    load, seconds = plan.startup.load, plan.spec.server.startup_seconds
    if seconds is not None and load.origin == "estimated" and seconds < float(load.value):
        yield (
            f"server.startup_seconds {seconds} is less than the estimated load time {load.text} ({load.why}); a pod "
            "that is not ready by then is restarted, again and again"
        )
