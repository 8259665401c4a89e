# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines from ONNX graphs, with the TensorRT module passed in.

`tensorrt` 8.6 to 11 needs a GPU to build; `tensorrt_rtx` builds on any machine, and what it builds is evidence
about model and profiles, never something Triton can load. From TensorRT 10 on networks are strongly typed: the
graph alone decides the precision.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtkit.engine.configure import TimingCache, configure
from trtkit.engine.gpu import Gpu, find_gpu
from trtkit.engine.graph import ParsedGraph, parse_graph
from trtkit.engine.layers import engine_layers, network_layers
from trtkit.engine.library import Library, reason
from trtkit.engine.options import EngineOptions, costs, option_problems
from trtkit.engine.profiles import Profile, to_json
from trtkit.engine.progress import OnProgress, Progress, monitor
from trtkit.errors import BuildError


@dataclass(frozen=True)
class BuiltEngine:
    """A plan and what is known of it.

    Attributes:
        plan: the serialized engine.
        facts: JSON values; `trtkit.engine.manifest` says what they mean.
    """

    plan: bytes
    facts: dict[str, Any]


def build_engine(
    trt: Any,
    onnx_file: Path,
    profiles: Sequence[Profile] = (),
    options: EngineOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> BuiltEngine:
    """Build an engine from an ONNX file.

    Args:
        trt: the module, `tensorrt` or `tensorrt_rtx`.
        onnx_file: the graph; external data are found beside it.
        profiles: optimization profiles; every input with a dynamic axis needs shapes in each.
        options: how it is built.
        on_progress: called with (phase, fraction from 0 to 1, seconds left or None), from TensorRT 10 on. What it
            raises ends the build and is raised here.

    Raises:
        MissingDependencyError: `tensorrt` cannot build here because there is no usable GPU.
        BuildError: this version lacks an option, the parser or the builder refused, or a profile does not fit,
            naming the option, node or input.
        RepositoryError: the timing cache cannot be read or written.
    """
    chosen, gpu = options or EngineOptions(), find_gpu()
    for problem in option_problems(Library.of(trt), chosen, gpu is not None):
        raise BuildError(f"{onnx_file.name}: {problem}")
    try:
        graph = parse_graph(trt, onnx_file, chosen)
        for problem in graph.profile_problems(profiles, chosen):
            raise BuildError(f"{onnx_file.name}: {problem}")
        return build_parsed(graph, profiles, chosen, gpu, on_progress)
    except UnicodeDecodeError as exc:
        raise BuildError(f"{onnx_file}: a tensor or node has a name that is not UTF-8; export it with another") from exc


def build_parsed(
    graph: ParsedGraph,
    profiles: Sequence[Profile],
    options: EngineOptions,
    gpu: Gpu | None,
    on_progress: OnProgress | None = None,
) -> BuiltEngine:
    """Build a graph that is parsed, with options and profiles that were checked; see `build_engine`."""
    trt, began = graph.library.trt, time.perf_counter()
    progress = Progress(on_progress) if on_progress else None
    config = configure(graph, profiles, options)
    watcher = monitor(trt, progress) if progress else None  # lives as long as the build
    if watcher is not None:
        config.progress_monitor = watcher
    cache = TimingCache(graph, options, gpu)
    cache.load(config)
    plan = graph.builder.build_serialized_network(graph.network, config)
    if progress and (plan is not None or progress.failure):
        progress.finished()
    if plan is None:
        raise BuildError(f"{graph.library.name} cannot build {graph.file.name}: {reason(graph.log.errors)}")
    cache.save(config)
    content = bytes(plan)
    facts = {
        "flavour": graph.library.flavour,
        "tensorrt_version": graph.library.version_text,
        "cuda_version": gpu.cuda_version if gpu else None,
        "compute_capability": gpu.compute_capability if gpu else None,
        "gpu_name": gpu.name if gpu else None,
        "io": graph.io(),
        "profiles": to_json(profiles),
        "options": {**options.to_json(), "timing_cache": options.timing_cache is not None},
        **_layer_facts(graph, content, options, gpu),
        "notes": [*costs(options), *cache.notes],
        "build_seconds": round(time.perf_counter() - began, 3),
    }
    return BuiltEngine(content, facts)


def _layer_facts(graph: ParsedGraph, plan: bytes, options: EngineOptions, gpu: Gpu | None) -> dict[str, Any]:
    """Layers by precision, from the engine where it can be loaded: on a GPU that it was built for."""
    layers = _inspected(graph, plan, options) if gpu else {}
    if layers:
        return {"layers": layers, "precision_source": "engine"}
    return {"layers": network_layers(graph.network), "precision_source": "network"}


def _inspected(graph: ParsedGraph, plan: bytes, options: EngineOptions) -> dict[str, int]:
    trt = graph.library.trt
    runtime = trt.Runtime(graph.log)
    if options.version_compatible:  # such a plan holds code that runs on the host; it is the one just built
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return {}
    return engine_layers(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
