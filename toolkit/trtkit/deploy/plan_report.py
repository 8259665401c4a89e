# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A plan as rows for people, and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trtkit.deploy.density import Report
from trtkit.deploy.planned import Plan


def to_json(plan: Plan, report: Report) -> dict[str, Any]:
    """As `trtkit deploy plan --json` prints it."""
    figures: dict[str, dict[str, Any]] = {}
    for group, name, figure in plan.figures():
        figures.setdefault(group, {})[name] = figure.to_json()
    return {
        "name": plan.name,
        "environment": plan.environment,
        "target": plan.target_name,
        "image": plan.served_image,
        "release": plan.release,
        "kube_version": plan.kube_version,
        "namespace": plan.namespace,
        "repository": plan.repository_uri,
        "digest": plan.digest,
        "models": [
            {"name": model.name, "backend": model.backend, "versions": list(model.versions),
             "weight_bytes": model.weight_bytes, "instances": model.instances, "uses": list(model.steps)}
            for model in plan.models
        ],
        "figures": figures,
        "gpu": None if plan.gpu is None else {
            "resource": plan.gpu.resource, "count": plan.gpu.count, "product": plan.gpu.product,
            "driver": plan.gpu.driver,
        },
        "startup_probe": {"period_s": plan.startup.period, "failures": plan.startup.failures},
        "scaling": {
            "kind": plan.scaling.kind, "metric": plan.scaling.metric, "max_replicas": plan.scaling.max_replicas,
            "counted": list(plan.scaling.counted),
        },
        "objectives": [asdict(objective) for objective in plan.objectives],
        "density": asdict(report),
        "command": plan.arguments,
        "flags": dict(plan.flags),
        "warnings": list(plan.warnings),
    }  # fmt: skip


def summary(plan: Plan) -> list[tuple[str, str]]:
    """What the plan is of, by name."""
    gpu = ""
    if plan.gpu is not None:
        driver = f", driver {plan.gpu.driver} or newer" if plan.gpu.driver else ""
        gpu = f"{plan.gpu.count} x {plan.gpu.resource} of {plan.gpu.product or 'any product'}{driver}"
    environment = f", environment {plan.environment}" if plan.environment else ""
    scaling = plan.scaling
    pods = f"{scaling.replicas.whole}"
    if scaling.kind != "none":
        pods += f" to {scaling.max_replicas}, by {scaling.kind} on {scaling.metric}"
    probe = f"a startup probe every {plan.startup.period} s, of which {plan.startup.failures} may fail"
    where = f"{plan.spec.storage.kind} {plan.spec.storage.uri or ''}".strip()
    rows = [
        ("deployment", f"{plan.namespace}/{plan.name}{environment}"),
        ("target", f"{plan.target_name}, Kubernetes {plan.kube_version}"),
        ("image", f"{plan.served_image} (Triton release {plan.release})"),
        ("GPU", gpu),
        ("pods", f"{pods}; {probe}"),
        ("repository", f"{where}, digest {plan.digest[:12]}"),
    ]
    return [(name, value) for name, value in rows if value]


def density_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Way, memory, pods per GPU, pods per node; for a table."""
    return [
        (way.way, f"{way.memory_mib:,} MiB", str(way.per_gpu), "" if way.per_node is None else str(way.per_node))
        for way in report.ways
    ]


def notes(report: Report) -> list[str]:
    """Sentences below the tables: which models fit together, and pods by host memory."""
    found = []
    if len(report.models) > 1 and report.bins:
        gpus = "; ".join(
            f"GPU {number}: {', '.join(each.models)} ({each.used_mib:,} MiB, {each.free_mib:,} free)"
            for number, each in enumerate(report.bins, 1)
        )
        found.append(f"one model a pod, several pods a GPU: {gpus}")
    if report.too_large:
        found.append(f"too large for a GPU by itself: {', '.join(report.too_large)}")
    if report.by_host is not None:
        found.append(f"{report.by_host} pods fit a node by host memory")
    return found
