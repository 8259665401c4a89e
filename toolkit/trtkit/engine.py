# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines from ONNX graphs, with the TensorRT module passed in.

`tensorrt` 8.6 to 11 needs a GPU to build; `tensorrt_rtx` builds on any machine, and what it builds is evidence
about model and profiles, never something Triton can load. The library is silent about profiles for unknown
inputs and about dimension 0, so profiles are checked here before it sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtkit.errors import BuildError, MissingDependencyError, nearest

Shape = tuple[int, ...]
DEFAULT_WORKSPACE_BYTES = 1 << 30
_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes of one input in one profile: min <= opt <= max in every axis, full shapes, batch first."""

    min: Shape
    opt: Shape
    max: Shape


Profile = Mapping[str, ShapeRange]


class _Log:
    """The one logger of a TensorRT module: a process keeps the first it is given for ever."""

    loggers: dict[str, Any] = {}  # noqa: RUF012 - shared on purpose

    @classmethod
    def of(cls, trt: Any) -> Any:
        """The module's logger, emptied."""
        if trt.__name__ not in cls.loggers:

            class Logger(trt.ILogger):  # type: ignore[misc]
                def __init__(self) -> None:
                    trt.ILogger.__init__(self)
                    self.errors: list[str] = []

                def log(self, severity: Any, message: str) -> None:
                    if "ERROR" in severity.name and "cudaError" not in message:
                        self.errors.append(message)

            cls.loggers[trt.__name__] = Logger()
        cls.loggers[trt.__name__].errors.clear()
        return cls.loggers[trt.__name__]


def build_engine(
    trt: Any, onnx_file: Path, profiles: Sequence[Profile] = (), *, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
) -> bytes:
    """Build a strongly typed engine: the precision is what the graph says.

    Args:
        trt: the module, `tensorrt` or `tensorrt_rtx`.
        onnx_file: the graph; external data are found beside it.
        profiles: optimization profiles; every input with a dynamic axis needs shapes in each.
        workspace_bytes: the most scratch memory a layer may use.

    Returns:
        The serialized plan.

    Raises:
        MissingDependencyError: `tensorrt` cannot build here because there is no usable GPU.
        BuildError: the parser or the builder refused, or a profile does not fit, naming the node or input.
    """
    log = _Log.of(trt)
    try:
        builder = trt.Builder(log)
    except TypeError as exc:
        raise MissingDependencyError(
            f"{trt.__name__} {trt.__version__} cannot build here: no usable GPU or driver"
        ) from exc
    network = builder.create_network(_network_flags(trt))
    _parse(trt, network, log, onnx_file)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    inputs = {tensor.name: tuple(tensor.shape) for tensor in map(network.get_input, range(network.num_inputs))}
    for problem in profile_problems(inputs, profiles):
        raise BuildError(f"{onnx_file.name}: {problem}")
    for index, profile in enumerate(profiles):
        _add_profile(builder, config, index, profile, log)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{trt.__name__} {trt.__version__} cannot build {onnx_file.name}: {_reasons(log)}")
    return bytes(plan)


def _network_flags(trt: Any) -> int:
    """Strong typing where it has to be asked for (10.x); 8.6 has none, 11 and RTX nothing else."""
    rtx = hasattr(trt.IBuilderConfig, "num_compute_capabilities")
    major = 11 if rtx else int(trt.__version__.split(".")[0])
    flag = {8: "EXPLICIT_BATCH", 9: "EXPLICIT_BATCH", 10: "STRONGLY_TYPED"}.get(major)
    return 1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag)) if flag else 0


def _parse(trt: Any, network: Any, log: Any, onnx_file: Path) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(onnx_file)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    text = "; ".join(f"{_node(error)}: {error.code().name} {error.desc()}" for error in errors)
    raise BuildError(f"{trt.__name__} {trt.__version__} cannot parse {onnx_file}: {text or _reasons(log)}")


def _node(error: Any) -> str:
    return f"node '{error.node_name()}'" if hasattr(error, "node_name") else f"node {error.node()}"


def _reasons(log: Any) -> str:
    return "; ".join(" ".join(text.split()) for text in log.errors) or "it gives no reason"


def _add_profile(builder: Any, config: Any, index: int, profile: Profile, log: Any) -> None:
    optimization = builder.create_optimization_profile()
    for name, shapes in profile.items():
        optimization.set_shape(name, shapes.min, shapes.opt, shapes.max)
    if config.add_optimization_profile(optimization) < 0:  # silent otherwise
        raise BuildError(f"profile {index} is refused: {_reasons(log)}")


def profile_problems(inputs: Mapping[str, Shape], profiles: Sequence[Profile]) -> Iterator[str]:
    """What is wrong with profiles, in sentences, before TensorRT is asked.

    Args:
        inputs: full shapes by name, -1 for a dynamic axis.
        profiles: what was asked for.
    """
    dynamic = {name: shape for name, shape in inputs.items() if -1 in shape}
    if dynamic and not profiles:
        yield f"a profile is needed: {', '.join(f'{n}{list(s)}' for n, s in dynamic.items())} have dynamic axes"
    for index, profile in enumerate(profiles):
        for name in dynamic.keys() - profile.keys():
            yield f"profile {index} has no shapes for input '{name}' {list(dynamic[name])}"
        for name, shapes in profile.items():
            if name not in inputs:
                yield f"profile {index}: '{name}' is no input; {nearest(name, inputs)}"
            else:
                yield from (f"profile {index}: {text}" for text in _range_problems(name, inputs[name], shapes))


def _range_problems(name: str, shape: Shape, given: ShapeRange) -> Iterator[str]:
    for kind, sizes in (("min", given.min), ("opt", given.opt), ("max", given.max)):
        if len(sizes) != len(shape):
            yield f"{kind} of '{name}' is {list(sizes)}, the input has {len(shape)} dimensions: {list(shape)}"
            return
        if any(size < 1 for size in sizes):
            yield f"{kind} of '{name}' is {list(sizes)}; every size has to be at least 1"
        if any(dim not in (-1, size) for dim, size in zip(shape, sizes, strict=True)):
            yield f"{kind} of '{name}' is {list(sizes)}, the input is fixed to {list(shape)}"
    if not all(low <= best <= high for low, best, high in zip(given.min, given.opt, given.max, strict=True)):
        yield f"'{name}' needs min <= opt <= max, got {list(given.min)}, {list(given.opt)}, {list(given.max)}"


def plan_info(plan: bytes) -> dict[str, str]:
    """Flavour and version from the first bytes of a plan; no GPU and no TensorRT is needed.

    The version stands in bytes 24 to 27, where NVIDIA's trtexec --getPlanVersionOnly reads it.

    Raises:
        BuildError: it is no TensorRT plan.
    """
    if len(plan) < 28 or plan[:4] not in _MAGIC or plan[4:8] != bytes(4):
        raise BuildError("not a TensorRT plan: its first bytes are no plan's header")
    return {"flavour": _MAGIC[plan[:4]], "version": ".".join(map(str, plan[24:28]))}
