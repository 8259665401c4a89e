# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT plans: whether they are plans, and whether the server's TensorRT and GPUs load them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.plan_files import PlanFile, any_manifest, plan_files
from trtkit.lint.rule import Rule, rule
from trtkit.pbtxt import Path
from trtkit.preflight import gpu_problem, plan_verdict
from trtkit.project import Target

_CAPABILITY = re.compile(r"[1-9]\d?\.\d")
_GENERATIONS = range(3, 16)


def _real_plans(model: Model) -> Iterator[PlanFile]:
    """The plans of TensorRT itself; those of TensorRT-RTX have a rule of their own."""
    return (plan for plan in plan_files(model) if plan.header is not None and plan.header.flavour == "tensorrt")


def _target(model: Model, capability: str | None = None) -> Target:
    """What is known of the server, as a target; the image may be left out."""
    facts = model.server.facts
    if facts is None:
        return Target(backend="tensorrt", compute_capability=capability)
    return Target(backend="tensorrt", image=model.server.image, compute_capability=capability)


@rule("PLN001", "not-a-plan", server=True)
def not_a_plan(model: Model) -> Iterator[Found]:
    """The model file is no TensorRT plan: it begins otherwise, it is empty, or it is cut off.

    Only the first 64 bytes are read, and the size that engine.json gives is compared.
    Source: tensorrt_backend, loader.cc, LoadPlan.

    Wrong:
        1/model.plan  # an ONNX file under another name

    Right:
        1/model.plan  # as trtexec or TensorRT's builder wrote it
    """
    for plan in plan_files(model):
        if plan.problem:
            yield model.found_in(plan.file, f"unable to load plan file: {plan.problem}; build it with TensorRT")
        elif plan.engine is not None and plan.header is not None:
            whole = plan.engine.manifest["plan"].get("byte_size")
            if isinstance(whole, int) and plan.header.byte_size < whole:
                told = f"it has {plan.header.byte_size} bytes of the {whole} that engine.json tells: copy it again"
                yield model.found_in(plan.file, f"unable to load plan file: it is cut off; {told}")


@rule("PLN002", "plan-of-tensorrt-rtx", server=True)
def plan_of_rtx(model: Model) -> Iterator[Found]:
    """The plan was built by TensorRT-RTX, which no backend of the server loads.

    Such a plan has a format of its own, which only TensorRT-RTX reads (tensorrt_backend: loader.cc, LoadPlan).

    Wrong:
        1/model.plan  # begins with vtrt

    Right:
        1/model.plan  # begins with ftrt
    """
    for plan in plan_files(model):
        if plan.header is not None and plan.header.flavour != "tensorrt":
            yield model.found_in(plan.file, plan_verdict(plan.header, None, _target(model)).reason)


@rule("PLN003", "plan-of-another-tensorrt", server=True, depends_on_server=True)
def plan_of_another_tensorrt(model: Model) -> Iterator[Found]:
    """The plan was built by a TensorRT whose plans that of the image does not load.

    A plan is for one version of TensorRT, unless it was built version compatible, and then for later ones of
    the same major number. Told only where it is known which TensorRT the image holds.
    Source: TensorRT's documentation, version compatibility.

    Wrong:
        1/model.plan  # TensorRT 10.3, and the image is tritonserver:25.10-py3 with 10.13.3

    Right:
        1/model.plan  # TensorRT 10.13.3, and the image is tritonserver:25.10-py3
    """
    for plan in _real_plans(model):
        manifest = plan.engine.manifest if plan.engine else {}
        options = manifest.get("options")
        known = {"options": options} if isinstance(options, dict) else {}
        if plan.header is not None and (problem := plan_verdict(plan.header, known, _target(model)).problem):
            yield model.found_in(plan.file, problem)


@rule("PLN004", "plan-of-another-gpu", server=True, depends_on_server=True)
def plan_of_another_gpu(model: Model) -> Iterator[Found]:
    """A plan stands in cc_model_filenames under a compute capability that it was not built for.

    Or the image supports no GPU of that capability. Which GPU a plan was built for says engine.json, or
    ``<plan>.json`` where a folder holds several plans.
    Source: tensorrt_backend, instance_state.cc; NVIDIA's support matrix.

    Wrong:
        cc_model_filenames { key: "8.9" value: "model_sm80.plan" }

    Right:
        cc_model_filenames { key: "8.0" value: "model_sm80.plan" }
        cc_model_filenames { key: "8.9" value: "model_sm89.plan" }
    """
    for plan in _real_plans(model):
        if plan.capability is None or not _CAPABILITY.fullmatch(plan.capability):
            continue
        path: Path = ("cc_model_filenames", plan.capability)
        if problem := gpu_problem(_target(model, plan.capability)):
            yield model.found(path, problem)
        if plan.engine is not None and plan.header is not None:
            target = Target(backend="tensorrt", compute_capability=plan.capability)
            if problem := plan_verdict(plan.header, plan.engine.manifest, target, plan.file).problem:
                yield model.found(path, problem)


@rule("PLN005", "version-compatible-plan-without-flag", server=True, depends_on_server=True)
def flag_missing(model: Model) -> Iterator[Found]:
    """The plan needs a server flag that is not among those given.

    A version-compatible plan holds code to run, so the server loads it only when it is told to trust it.
    Told where the flags are known.
    Source: tensorrt_backend, README.md, version-compatible.

    Wrong:
        1/model.plan  # version compatible, of TensorRT 10.3 in an image with 10.13, and no flag

    Right:
        1/model.plan  # and --backend-config=tensorrt,version-compatible=true
    """
    if model.server.flags is None:
        return
    given = {f"--backend-config={value.replace(' ', '')}" for value in model.server.option("backend-config")}
    for plan in _real_plans(model):
        if plan.engine is not None and plan.header is not None:
            capability = plan.engine.manifest.get("compute_capability")
            known = isinstance(capability, str) and _CAPABILITY.fullmatch(capability)
            verdict = plan_verdict(plan.header, plan.engine.manifest, _target(model, capability if known else None))
            for option in verdict.server_options:
                if verdict.state != "problem" and option not in given:
                    yield model.found_in(plan.file, f"the plan is version compatible; start the server with {option}")


@rule("PLN006", "plan-without-engine-json", Severity.ADVICE)
def no_manifest(model: Model) -> Iterator[Found]:
    """There is no engine.json beside a plan, and beside other plans of the repository there is.

    A plan does not tell its tensors, its profiles or its GPU without TensorRT and that GPU; trtkit writes them
    beside it, and checks the config against them.

    Wrong:
        a/1/model.plan
        a/1/engine.json
        b/1/model.plan

    Right:
        a/1/model.plan
        a/1/engine.json
        b/1/model.plan
        b/1/engine.json
    """
    for plan in _real_plans(model):
        if not plan.has_manifest and any_manifest(model.repository):
            message = "there is no engine.json beside the plan, so the config cannot be checked against it"
            yield model.found_in(plan.file, f"{message}; build the plan with trtkit")


@rule("PLN007", "engine-json-of-another-plan", Severity.WARNING)
def manifest_misfit(model: Model) -> Iterator[Found]:
    """engine.json cannot be read, or describes another plan than the one beside it.

    The rules about the engine read it, so they keep silent about such a plan.

    Wrong:
        1/model.plan   # of TensorRT 10.13.3
        1/engine.json  # "tensorrt_version": "10.3.0"

    Right:
        1/model.plan   # of TensorRT 10.13.3
        1/engine.json  # "tensorrt_version": "10.13.3"
    """
    for plan in plan_files(model):
        if plan.manifest_problem:
            yield model.found_in(plan.manifest_file, f"{plan.manifest_problem}; build the engine again")


@rule("PLN008", "plan-file-missing", server=True)
def plan_missing(model: Model) -> Iterator[Found]:
    """A file that cc_model_filenames names is not in a version's folder.

    The server misses it where it has a GPU of that compute capability.
    Source: tensorrt_backend, instance_state.cc.

    Wrong:
        cc_model_filenames { key: "8.9" value: "model_sm89.plan" }  # 1/ holds model.plan only

    Right:
        cc_model_filenames { key: "8.9" value: "model_sm89.plan" }  # 1/ holds it
    """
    if model.config.backend != "tensorrt":
        return
    for capability, name in model.config.cc_model_filenames.items():
        for version in model.served_versions:
            if model.entry(f"{version}/{name}") is None:
                words = f"unable to find '{version}/{name}' for model '{model.config.name}'"
                there = ", ".join(entry.name for entry in model.entries(str(version))[:20]) or "nothing"
                told = f"version {version} has: {there}"
                yield model.found(("cc_model_filenames", capability), f"{words}; {told}")


@rule("PLN009", "compute-capability-of-no-gpu", Severity.WARNING)
def capability_of_no_gpu(model: Model) -> Iterator[Found]:
    """A key of cc_model_filenames is no compute capability, so its file is never used.

    The server compares the keys with its GPU's capability as text: ``8.9``, not ``89`` or ``sm_89``.
    Source: tensorrt_backend, model_state.cc, AutoCompleteConfig.

    Wrong:
        cc_model_filenames { key: "sm_89" value: "model_sm89.plan" }

    Right:
        cc_model_filenames { key: "8.9" value: "model_sm89.plan" }
    """
    for capability in model.config.cc_model_filenames:
        major = capability.partition(".")[0]
        if not _CAPABILITY.fullmatch(capability) or int(major) not in _GENERATIONS:
            message = f"'{capability}' is no compute capability, so the file is never used"
            yield model.found(("cc_model_filenames", capability), f'{message}; write it as in nvidia-smi, e.g. "8.9"')


RULES: tuple[Rule, ...] = (
    not_a_plan, plan_of_rtx, plan_of_another_tensorrt, plan_of_another_gpu, flag_missing, no_manifest,
    manifest_misfit, plan_missing, capability_of_no_gpu,
)  # fmt: skip
