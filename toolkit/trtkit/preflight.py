# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a target can take a graph, and load a plan; asked before anything is built or copied.

The rules are NVIDIA's (https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html, version
and hardware compatibility); what is in an image is `trtkit.images`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from trtkit.images import ImageFacts, image_facts, images_with, parse_version
from trtkit.project import Target

Version = tuple[int, ...]

VERSION_COMPATIBLE_OPTION = "--backend-config=tensorrt,version-compatible=true"

# the newest opset by version. TensorRT: onnx-tensorrt's docs/operators.md of 8.5, 9.2, 10.15; 8.6 and 10.0 from its
# release notes; 11 from NVIDIA's ONNX Opset Guide. Between two of them the true limit lies between theirs.
_TENSORRT_OPSETS: dict[Version, int] = {(8, 5): 17, (8, 6): 17, (9, 2): 19, (10, 0): 20, (10, 15): 24, (11, 0): 25}
# ONNX Runtime: measured with its CPU wheels 1.17.3, 1.18.1, 1.19.2, 1.20.1, 1.21.0, 1.22.0, 1.23.2, 1.24.4, 1.27.0;
# older ones from onnxruntime.ai/docs/reference/compatibility.html
_ONNXRUNTIME_OPSETS: dict[Version, int] = {
    (1, 13): 17, (1, 14): 18, (1, 16): 19,
    (1, 17): 20, (1, 18): 21, (1, 19): 21, (1, 20): 21, (1, 21): 22, (1, 22): 22, (1, 23): 23, (1, 24): 25, (1, 27): 26,
}  # fmt: skip
# the newest version of the file format, measured with the same wheels
_ONNXRUNTIME_IR: dict[Version, int] = {(1, 17): 9, (1, 18): 10, (1, 22): 10, (1, 23): 11, (1, 24): 13}
# what the hardware computes in: NVIDIA's support matrix, "Hardware and Precision"
_PRECISION_FLOOR: dict[str, Version] = {"fp8": (8, 9), "bf16": (8, 0)}
# releases and GPUs, from Triton's release notes 25.01
_TURING, _TURING_FLOOR = "25.01", (7, 5)
_BLACKWELL, _BLACKWELL_FLOOR = "25.01", (10, 0)
# server issue 6129: 23.07 refuses version-compatible plans, the backend had no option for them
_NO_VERSION_COMPATIBLE = "23.07"
_CROSSINGS = {(8, 10), (10, 11)}


class Header(Protocol):
    """What a plan says of itself (`trtkit.engine.plan.PlanHeader`)."""

    @property
    def flavour(self) -> str:
        """``tensorrt`` or ``tensorrt_rtx``."""

    @property
    def version(self) -> Version:
        """Of the library that built it."""


@dataclass(frozen=True)
class Verdict:
    """Whether a target loads a plan.

    Attributes:
        state: ``unknown`` where something that decides it is not known: advice, not a reason to stop.
        reason: one sentence: what stands against it, or what is not known; empty when all is fine.
        server_options: what tritonserver has to be started with for it.
    """

    state: Literal["fine", "problem", "unknown"]
    reason: str = ""
    server_options: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """The reason to refuse it, if any."""
        return self.reason if self.state == "problem" else None

    @property
    def advice(self) -> str | None:
        """What to find out, if anything."""
        return self.reason if self.state == "unknown" else None


def plan_verdict(header: Header, manifest: Mapping[str, Any] | None, target: Target, what: str = "the plan") -> Verdict:
    """Whether the target's image and GPUs load a plan.

    Args:
        header: of the plan file.
        manifest: the engine.json beside it: compute_capability, version_compatible, hardware_compatibility, at its
            top or under ``options``; None when there is none.
        target: with image or tensorrt_version, and compute_capability.
        what: how sentences call the plan.
    """
    if header.flavour == "tensorrt_rtx":
        return Verdict(
            "problem",
            f"{what} was built by TensorRT-RTX {_dotted(header.version)}, which no Triton backend loads; "
            "build it with TensorRT on the target's GPU",
        )
    version = _version_verdict(header.version, manifest or {}, target, what)
    gpu = _gpu_verdict(manifest or {}, target, what)
    for state in ("problem", "unknown"):
        for verdict in (version, gpu):
            if verdict.state == state:
                return verdict
    return version


def graph_problem(opset: int | None, precision: str, target: Target) -> str | None:
    """Why the target cannot take a graph, in one sentence; None when nothing that is known stands against it.

    Args:
        opset: of the domain ai.onnx; None while there is no graph yet.
        precision: as in the project file, e.g. ``int8+fp16``; ``auto`` is not yet known.
        target: with image or versions, and compute_capability.
    """
    facts = _facts(target)
    return (
        _opset_problem(opset, facts, target)
        or _precision_problem(set(precision.split("+")), facts, target)
        or gpu_problem(target)
    )


def ir_problem(ir_version: int, target: Target) -> str | None:
    """Why the target's ONNX Runtime cannot read a file's format, in one sentence; None when it can or is not known.

    Args:
        ir_version: of the ONNX file.
        target: with image or onnxruntime_version.
    """
    facts = _facts(target)
    version = facts.sure("onnxruntime") if facts else None
    limit = _at_most(parse_version(version), _ONNXRUNTIME_IR)
    if facts is None or limit is None or ir_version <= limit:
        return None
    where = f"ONNX Runtime {version} of {facts.image}" if facts.image else f"ONNX Runtime {version}"
    return f"the file has IR version {ir_version} and {where} takes at most {limit}; export it with IR version {limit}"


def gpu_problem(target: Target) -> str | None:
    """Why the target's image does not support one of its GPUs, in one sentence; None when it does or is not known."""
    facts = _facts(target)
    if facts is None or facts.release is None or not target.on_gpu:
        return None
    for capability in target.compute_capabilities:
        if facts.release >= _TURING and parse_version(capability) < _TURING_FLOOR:
            return (
                f"{facts.image} supports GPUs from compute capability 7.5, not {capability}; take an image before 25.01"
            )
        if facts.release < _BLACKWELL and parse_version(capability) >= _BLACKWELL_FLOOR:
            return (
                f"{facts.image} is older than GPUs of compute capability {capability}; take 25.01-py3 or a later image"
            )
    return None


def _version_verdict(plan: Version, manifest: Mapping[str, Any], target: Target, what: str) -> Verdict:
    facts = _facts(target)
    built = f"{what} was built by TensorRT {_dotted(plan)}"
    if facts is None or facts.tensorrt is None:
        where = f"which TensorRT is in {target.image} is not known" if target.image else "the target names no image"
        return Verdict("unknown", f"{built}, and {where}; give the target's tensorrt_version")
    here = parse_version(facts.tensorrt)
    shared = min(len(here), len(plan), 3)
    there = f"{facts.image or 'the target'} has {facts.tensorrt}"
    if facts.sure("tensorrt") is None:
        return Verdict("unknown", f"{built}; {there}, which no document confirms; give the target's tensorrt_version")
    if _option(manifest, "version_compatible") is True:
        return _across_versions(plan, here, facts, f"{built} as version compatible", there)
    if plan[:shared] != here[:shared]:
        return Verdict(
            "problem",
            f"{built} and {there}, which loads only plans of its own version; "
            f"rebuild the plan there, {_image_for(plan)}",
        )
    if len(here) < 3:
        return Verdict("unknown", f"{built} and {there}, of which three numbers are needed; give its tensorrt_version")
    if len(plan) == len(here) == 4 and plan != here:
        # TensorRT 8 and 9 refuse it (server issue 5975: "expecting library version 8.6.1.2 got 8.6.1.6")
        state: Literal["problem", "unknown"] = "problem" if plan[0] < 10 else "unknown"
        return Verdict(state, f"{built} and {there}, another build of the same version; rebuild the plan there")
    return Verdict("fine")


def _across_versions(plan: Version, here: Version, facts: ImageFacts, built: str, there: str) -> Verdict:
    """A version-compatible plan: on a newer TensorRT of the same major number, or over one of two borders."""
    shared = min(len(plan), len(here), 3)
    if here[:shared] < plan[:shared]:
        return Verdict("problem", f"{built} and {there}, which is older; such plans load in newer versions only")
    if here[0] != plan[0] and (plan[0], here[0]) not in _CROSSINGS:
        return Verdict("problem", f"{built} and {there}; across major versions only 8 to 10 and 10 to 11 load")
    if facts.release and facts.release <= _NO_VERSION_COMPATIBLE:
        return Verdict("problem", f"{built}, and {facts.image} has no option to load such plans; take a later image")
    return Verdict("fine", server_options=(VERSION_COMPATIBLE_OPTION,))


def _gpu_verdict(manifest: Mapping[str, Any], target: Target, what: str) -> Verdict:
    built_for, targets = _option(manifest, "compute_capability"), target.compute_capabilities
    if not built_for:
        return Verdict("unknown", f"for which GPU {what} was built is not known: there is no engine.json beside it")
    if not targets:
        return Verdict(
            "unknown", f"{what} was built for compute capability {built_for}; give the target's compute_capability"
        )
    if _option(manifest, "hardware_compatibility") == "ampere_plus":
        old = [capability for capability in targets if parse_version(capability) < (8, 0)]
        reason = f"{what} loads on GPUs from compute capability 8.0, and the target has {', '.join(old)}"
        return Verdict("problem", f"{reason}; build a plan on such a GPU") if old else Verdict("fine")
    if built_for not in targets:
        return Verdict(
            "problem",
            f"{what} was built for compute capability {built_for} and the target's GPUs have {', '.join(targets)}; "
            "build it there, or with engine.hardware_compatibility: ampere_plus",
        )
    return Verdict("fine")


def _opset_problem(opset: int | None, facts: ImageFacts | None, target: Target) -> str | None:
    name, field, limits = (
        ("TensorRT", "tensorrt", _TENSORRT_OPSETS)
        if target.backend == "tensorrt"
        else ("ONNX Runtime", "onnxruntime", _ONNXRUNTIME_OPSETS)
    )
    version = facts.sure(field) if facts else None
    limit = _at_most(parse_version(version), limits)
    if facts is None or limit is None or opset is None or opset <= limit:
        return None
    where = f"{name} {version} of {facts.image}" if facts.image else f"{name} {version}"
    return f"the graph has opset {opset} and {where} takes at most {limit}; export it with opset {limit} or lower"


def _at_most(version: Version, limits: Mapping[Version, int]) -> int | None:
    """The limit of the first listed version that is not older: limits only grow. None beyond the newest."""
    later = [limit for listed, limit in limits.items() if listed >= version[: len(listed)]]
    return later[0] if version and later else None


def _precision_problem(kinds: set[str], facts: ImageFacts | None, target: Target) -> str | None:
    kind = next((kind for kind in ("fp8", "bf16") if kind in kinds), None)
    if kind is None:
        return _mixed_problem(kinds, target)
    if not target.on_gpu:
        return f"ONNX Runtime has no CPU kernels for {kind}; choose fp32 or int8, or a target on a GPU"
    runs_tensorrt = target.backend == "tensorrt" or target.execution_provider == "tensorrt"
    version = facts.sure("tensorrt") if facts else None
    if facts and version and runs_tensorrt and parse_version(version) < (9,):
        where = f"TensorRT {version} of {facts.image}" if facts.image else f"TensorRT {version}"
        return f"{where} has no {kind}, which came with 9.0; choose fp16 or int8, or a later image"
    floor = _PRECISION_FLOOR[kind]
    old = [capability for capability in target.compute_capabilities if parse_version(capability) < floor]
    if old:
        needs = f"{kind} needs compute capability {_dotted(floor)}"
        return f"{needs}, and the target has {', '.join(old)}; choose fp16 or int8"
    return None


def _mixed_problem(kinds: set[str], target: Target) -> str | None:
    if target.on_gpu or kinds != {"int8", "fp16"}:
        return None
    return (
        "int8+fp16 is for GPUs: ONNX Runtime's CPU kernels compute in FP32 what is not INT8; choose int8, or a target "
        "on a GPU"
    )


def _facts(target: Target) -> ImageFacts | None:
    return image_facts(
        target.image, tensorrt_version=target.tensorrt_version, onnxruntime_version=target.onnxruntime_version
    )


def _image_for(plan: Version) -> str:
    images = images_with(tensorrt=_dotted(plan[:3]))
    if not images:
        return f"or in an image that has {_dotted(plan[:3])} (trtkit knows none)"
    return f"or serve it with {images[0]}"


def _option(manifest: Mapping[str, Any], name: str) -> Any:
    options = manifest.get("options")
    return manifest.get(name, options.get(name) if isinstance(options, Mapping) else None)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
