# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How an engine is built: the options, and which of them a TensorRT version does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtkit.engine.library import Library, compute_capabilities
from trtkit.errors import nearest

DEFAULT_WORKSPACE_BYTES = 1 << 30
# option -> the member of HardwareCompatibilityLevel, and the first version that trtkit knows to have it
HARDWARE_LEVELS = {
    "ampere_plus": ("AMPERE_PLUS", "8.6"),
    "same_compute_capability": ("SAME_COMPUTE_CAPABILITY", "10.13"),
}
# precision -> builder flags where the library is weakly typed; FP32 graphs with Q/DQ need INT8, and FP16 allows both
WEAK_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",), "int8+fp16": ("INT8", "FP16")}


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built.

    Attributes:
        workspace_bytes: the most scratch memory a layer may use.
        optimization_level: 0 builds fastest, 5 searches longest; None for the library's own choice (3).
        version_compatible: the plan also loads in newer TensorRT versions.
        hardware_compatibility: ``none``, ``ampere_plus`` or ``same_compute_capability``: on which other GPUs it loads.
        strip_plan: leave the weights out of the plan.
        refit: the plan's weights can be replaced later.
        plugins: shared libraries with TensorRT plugins.
        timing_cache: the folder with a file of measured kernel times per flavour, version and compute capability.
        compute_capabilities: what TensorRT-RTX builds for, e.g. ``("8.9",)``; empty for all that it calls portable.
        precision: of the graph; read by TensorRT before 10 only, which needs a builder flag for each type.
        overlapping_profiles: accept profiles that overlap.
        max_batch_size: of the config; None when there is none for the profiles to agree with.
    """

    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    strip_plan: bool = False
    refit: bool = False
    plugins: tuple[str, ...] = ()
    timing_cache: Path | None = None
    compute_capabilities: tuple[str, ...] = ()
    precision: str = "fp32"
    overlapping_profiles: bool = False
    max_batch_size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        lists = {"plugins": list(self.plugins), "compute_capabilities": list(self.compute_capabilities)}
        return {**asdict(self), **lists, "timing_cache": str(self.timing_cache) if self.timing_cache else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EngineOptions:
        """The reverse of `to_json`."""
        cache = values.get("timing_cache")
        tuples = {name: tuple(values.get(name, ())) for name in ("plugins", "compute_capabilities")}
        return cls(**{**values, **tuples, "timing_cache": Path(cache) if cache else None})


def option_problems(library: Library, options: EngineOptions, gpu: bool) -> Iterator[str]:
    """What this TensorRT cannot do of what was asked, in sentences, before anything is built.

    Args:
        library: the TensorRT in use.
        options: what was asked.
        gpu: whether a GPU is there.
    """
    if options.workspace_bytes < 1:
        yield f"workspace_bytes is {options.workspace_bytes}; it has to be at least 1"
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        yield f"optimization_level is {options.optimization_level}; it goes from 0 to 5"
    yield from _compatibility_problems(library, options)
    yield from _weight_problems(library, options, gpu)
    yield from _target_problems(library, options)
    if not library.strongly_typed and options.precision not in WEAK_FLAGS:
        yield f"precision {options.precision} needs TensorRT 10 or newer; this is {library.version_text}"
    for plugin in options.plugins:
        if not Path(plugin).is_file():
            yield f"there is no plugin library {plugin}"


def _compatibility_problems(library: Library, options: EngineOptions) -> Iterator[str]:
    level = options.hardware_compatibility
    if level not in ("none", *HARDWARE_LEVELS):
        yield f"hardware_compatibility '{level}' is unknown; {nearest(level, ['none', *HARDWARE_LEVELS])}"
    elif level != "none" and library.rtx:
        yield f"{level} needs TensorRT; TensorRT-RTX builds for the compute_capabilities it is given instead"
    elif level != "none" and not hasattr(library.trt.HardwareCompatibilityLevel, HARDWARE_LEVELS[level][0]):
        yield f"{level} needs TensorRT {HARDWARE_LEVELS[level][1]} or newer; this is {library.version_text}"
    if options.version_compatible and library.rtx:
        yield "version_compatible needs TensorRT; TensorRT-RTX has no lean runtime to put into the plan"


def _weight_problems(library: Library, options: EngineOptions, gpu: bool) -> Iterator[str]:
    if options.strip_plan and not hasattr(library.trt.BuilderFlag, "STRIP_PLAN"):
        yield f"strip_plan needs TensorRT 10 or newer; this is {library.version_text}"
    for name, asked in (("strip_plan", options.strip_plan), ("refit", options.refit)):
        if asked and library.rtx and not gpu:
            yield f"{name} with TensorRT-RTX needs a GPU to build, and there is none here; leave it out or build there"


def _target_problems(library: Library, options: EngineOptions) -> Iterator[str]:
    if options.compute_capabilities and not library.rtx:
        yield (
            f"compute_capabilities {', '.join(options.compute_capabilities)} are for TensorRT-RTX; "
            "TensorRT builds for the GPU it runs on"
        )
        return
    known = compute_capabilities(library.trt) if library.rtx else {}
    for target in options.compute_capabilities:
        if target not in known:
            yield f"TensorRT-RTX {library.version_text} has no compute capability {target}; {nearest(target, known)}"


def costs(options: EngineOptions) -> list[str]:
    """What the chosen options cost, a sentence each."""
    notes = []
    if options.version_compatible:
        notes.append(
            "version_compatible: the plan holds a lean runtime and leaves kernels out, so it is larger and slower; the "
            "server loads it with --backend-config=tensorrt,version-compatible=true only"
        )
    if options.hardware_compatibility != "none":
        ampere = options.hardware_compatibility == "ampere_plus"
        where = "every GPU of Ampere and newer" if ampere else "every GPU of this compute capability"
        notes.append(
            f"hardware_compatibility {options.hardware_compatibility}: the plan loads on {where}, and is slower, "
            "because kernels of one GPU are left out"
        )
    if options.strip_plan:
        notes.append("strip_plan: the plan has no weights; it cannot be served before it is refitted with the graph's")
    if options.refit:
        notes.append("refit: weights stay replaceable, which rules out optimizations that need their values; slower")
    if options.plugins and not options.version_compatible:
        names = ", ".join(Path(plugin).name for plugin in options.plugins)
        notes.append(f"plugins: the server has to load {names} too before it can load the plan")
    return notes
