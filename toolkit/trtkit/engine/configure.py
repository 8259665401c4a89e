# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Options and profiles put into a builder's config, by names that every version has or after asking for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors, write_atomically
from trtkit.engine.gpu import Gpu
from trtkit.engine.graph import ParsedGraph
from trtkit.engine.library import Library, compute_capabilities, reason
from trtkit.engine.options import HARDWARE_LEVELS, WEAK_FLAGS, EngineOptions
from trtkit.engine.profiles import Profile
from trtkit.errors import BuildError


def configure(graph: ParsedGraph, profiles: Sequence[Profile], options: EngineOptions) -> Any:
    """A config for the graph; the options were found to be possible and the profiles to fit."""
    trt, library = graph.library.trt, graph.library
    config = graph.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # what the layers really run in can be read later
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    for name in _flags(library, options):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if options.version_compatible:
        used = list(graph.parser.get_used_vc_plugin_libraries())
        config.plugins_to_serialize = [*used, *options.plugins]
    if options.hardware_compatibility != "none":
        member = HARDWARE_LEVELS[options.hardware_compatibility][0]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, member)
    if options.compute_capabilities:
        _set_targets(trt, config, options.compute_capabilities)
    for index, profile in enumerate(profiles):
        _add_profile(graph, config, index, profile)
    return config


def _flags(library: Library, options: EngineOptions) -> list[str]:
    flags = [] if library.strongly_typed else [*WEAK_FLAGS[options.precision]]
    flags += ["VERSION_COMPATIBLE"] * options.version_compatible + ["REFIT"] * options.refit
    if options.strip_plan:
        flags += ["STRIP_PLAN"] if options.refit else ["STRIP_PLAN", "REFIT_IDENTICAL"]
    return flags


def _set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    names = compute_capabilities(trt)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, names[target]), index)


def _add_profile(graph: ParsedGraph, config: Any, index: int, profile: Profile) -> None:
    optimization = graph.builder.create_optimization_profile()
    sizes = {tensor.name for tensor in graph.inputs if tensor.is_shape_tensor}
    for name, shapes in profile.items():
        add = optimization.set_shape_input if name in sizes else optimization.set_shape
        add(name, shapes.min, shapes.opt, shapes.max)
    if config.add_optimization_profile(optimization) < 0:  # silent otherwise
        raise BuildError(f"{graph.file.name}: profile {index} is refused: {reason(graph.log.errors)}")


class TimingCache:
    """Measured kernel times, kept between builds in one file per flavour, version and compute capability.

    Times of another GPU or version are refused by the library or, worse, taken; hence the file's name.
    """

    def __init__(self, graph: ParsedGraph, options: EngineOptions, gpu: Gpu | None) -> None:
        self.notes: list[str] = []
        self.file: Path | None = None
        if options.timing_cache and graph.library.rtx:
            self.notes.append("timing_cache: TensorRT-RTX measures no kernels when it builds; nothing is kept")
        elif options.timing_cache:
            place = f"sm{gpu.compute_capability.replace('.', '')}" if gpu else "unknown"
            name = f"{graph.library.flavour}-{graph.library.version_text}-{place}.timing"
            self.file = options.timing_cache / name

    def load(self, config: Any) -> None:
        """Give the config what the file holds; a file that does not fit is replaced by an empty cache."""
        if self.file is None:
            return
        content = b""
        if self.file.is_file():
            with file_errors(f"reading the timing cache {self.file}"):
                content = self.file.read_bytes()
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return
        self.notes.append(f"timing_cache: {self.file.name} is damaged or of another machine; a new one is begun")
        config.set_timing_cache(config.create_timing_cache(b""), False)

    def save(self, config: Any) -> None:
        """Put what the build has measured into the file."""
        cache = config.get_timing_cache() if self.file else None
        if self.file is None or cache is None:
            return
        with file_errors(f"writing the timing cache {self.file}"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, bytes(cache.serialize()))
