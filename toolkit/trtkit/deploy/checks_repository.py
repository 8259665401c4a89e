# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the server would load the repository: what the linter says with the plan's own flags, and the plans' GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.gpus import PRODUCTS
from trtkit.deploy.planned import Plan
from trtkit.images import image_facts
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.model import Repository
from trtkit.lint.plan_files import plan_files
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of
from trtkit.preflight import plan_verdict
from trtkit.project import Target


def repository_problems(plan: Plan, repository: Repository) -> Iterator[str]:
    """Why the server would not load it, a sentence each.

    Args:
        plan: with the flags and the image.
        repository: opened by the linter, with the same.
    """
    yield from _plans(plan, repository)
    names = [model.name for model in plan.models]
    found = [f for f in findings_of(repository, RULES, names) if f.severity == Severity.ERROR]
    if found:
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield (
            f"{repository.tree.root} does not lint: {_place(first)}: {first.code} {first.message}{more}; "
            "see `trtkit lint`, and mend it before it is deployed"
        )


def _place(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}" if finding.line else finding.file


def _plans(plan: Plan, repository: Repository) -> Iterator[str]:
    """TensorRT plans that were built for another GPU or another TensorRT."""
    target = _target(plan)
    for served in plan.models:
        for each in plan_files(repository.models[served.name]):
            if each.header is None:
                continue  # the linter says why it is none
            manifest = each.engine.manifest if each.engine else None
            own = target.model_copy(update={"compute_capability": each.capability}) if each.capability else target
            if problem := plan_verdict(each.header, manifest, own, f"{served.name}/{each.file}").problem:
                yield problem


def _target(plan: Plan) -> Target:
    """The target, with the image that pods run and, where a product is named, its GPU."""
    changes: dict[str, object] = {}
    if image_facts(plan.image) is not None:
        changes["image"] = plan.image
    product = plan.spec.gpu.product
    if product in PRODUCTS:
        changes["compute_capability"] = PRODUCTS[product].compute_capability
    return plan.target.model_copy(update=changes) if changes else plan.target
