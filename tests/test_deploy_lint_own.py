# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The deployment's linter finds nothing in what trtkit renders, and something as soon as that is spoiled."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy_matrix import MATRIX, matrix_project
from deploy_tools import write_all
from trtkit.deploy.ci.facts import facts_of
from trtkit.deploy.ci.render import SYSTEMS
from trtkit.deploy.ci.render import files as ci_files
from trtkit.deploy.compose.document import files as compose_files
from trtkit.deploy.docker.dockerfile import files as docker_files
from trtkit.deploy.kubernetes.objects import objects
from trtkit.deploy.kubernetes.render import files as kubernetes_files
from trtkit.deploy.manifests.fileset import Known
from trtkit.deploy.manifests.run import Linted, lint_files
from trtkit.deploy.monitoring.rendered import monitoring_files
from trtkit.deploy.plan import make_plans
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump_all

Parts = dict[str, tuple[Plan, dict[str, str]]]


def known(plan: Plan) -> Known:
    free = plan.spec.cluster.free_gpus
    return Known(plan.spec.kube_version, plan.release, float(plan.startup.load.value), free)


@cache
def rendered(name: str) -> Parts:
    """By what belongs together, the plan and the files; an overlay's objects as kustomize puts them together."""
    with TemporaryDirectory() as folder:
        project = matrix_project(Path(folder) / "project", name)
        base, environments = make_plans(project)
        pipelines = ci_files(facts_of(project, base, environments, "1.0"), list(SYSTEMS))
        parts: Parts = {"k8s": (base, kubernetes_files(project, base, environments)), "pipelines": (base, pipelines)}
        for label, plan in {"base": base, **environments}.items():
            parts[f"objects of {label}"] = plan, {"objects.yaml": dump_all(list(objects(plan)))}
            parts[f"compose of {label}"] = plan, compose_files(plan)
            parts[f"docker of {label}"] = plan, docker_files(project, plan)
            parts[f"monitoring of {label}"] = plan, monitoring_files(plan)
    return parts


def lint(files: dict[str, str], folder: Path, facts: Known) -> Linted:
    return lint_files([str(write_all(files, folder))], known=facts)


def codes(files: dict[str, str], folder: Path, facts: Known) -> set[str]:
    return {finding.code for finding in lint(files, folder, facts).outcome.findings}


@pytest.mark.parametrize("name", sorted(MATRIX))
def test_nothing_is_found_in_what_is_rendered(name: str, tmp_path: Path) -> None:
    for label, (plan, files) in rendered(name).items():
        linted = lint(files, tmp_path / label, known(plan))
        said = [f"{label}: {f.place}: {f.code}: {f.message}" for f in linted.outcome.findings]
        assert said == []
        assert linted.outcome.models, f"{label}: no file was judged"


SPOILED = [
    ("DRN001", "objects of base", "terminationGracePeriodSeconds: ", "terminationGracePeriodSeconds: 1 # "),
    ("SRV001", "objects of base", "--model-repository=", "--load-model=encoder\n            - --model-repository="),
    ("KUB001", "objects of base", "  selector:", "  unknown:"),
    ("PRB007", "objects of base", "/v2/health/live", "/health"),
    ("SEC005", "objects of base", "runAsUser:", "unknown:"),
    ("POD001", "objects of base", "mountPath: /dev/shm", "mountPath: /elsewhere"),
    ("PQL003", "monitoring of base", "nv_inference_request_success", "nv_inference_requests_succes"),
    ("CMP003", "compose of base", "stop_grace_period: ", "stop_grace_period: 5s # "),
    ("CMP002", "compose of base", "shm_size:", "unknown:"),
    ("DRN003", "compose of base", "idle_timeout: ", "idle_timeout: 7200s # "),
    ("DKR005", "docker of base", "USER 1000", "USER 0"),
]


@pytest.mark.parametrize(("code", "part", "old", "new"), SPOILED, ids=[row[0] for row in SPOILED])
def test_the_same_files_spoiled_are_found(code: str, part: str, old: str, new: str, tmp_path: Path) -> None:
    plan, files = rendered("cpu")[part]
    assert any(old in text for text in files.values()), f"{old} is nowhere in {part}"
    assert code in codes({name: text.replace(old, new) for name, text in files.items()}, tmp_path, known(plan))


def test_a_tenth_of_the_start_up_budget_is_too_small(tmp_path: Path) -> None:
    """The rendered budget is enough for the load it was made for, and not for ten times that."""
    plan, files = rendered("cpu")["objects of base"]
    load = float(plan.startup.load.value)
    assert codes(files, tmp_path / "same", Known(load_seconds=load)) == set()
    assert "PRB002" in codes(files, tmp_path / "ten", Known(load_seconds=10 * float(plan.startup.budget.value)))
    tenth = max(1, plan.startup.failures // 10)
    spoiled = {
        name: text.replace(f"failureThreshold: {plan.startup.failures}", f"failureThreshold: {tenth}")
        for name, text in files.items()
    }
    assert "PRB002" in codes(spoiled, tmp_path / "tenth", Known(load_seconds=2 * tenth * plan.startup.period))
