# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT modules made from the data in tests/trt_api: exactly the names of one version, and a minimal behaviour.

Whatever a version lacks raises AttributeError, reading, calling and setting alike; everything that is called or set
is recorded. Two inputs (x FP32 [-1, 4], and sizes INT64 [2], whose values are sizes), one output, three layers.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "trt_api"
VERSIONS = tuple(sorted(file.stem.removeprefix("api_") for file in DATA.glob("api_*.json")))
PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(36)
TIMES = b"measured times"
INSPECTED = {
    "Layers": [
        {"Name": "a", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Row major linear Int8 format"}]},
        {"Name": "b", "LayerType": "kgen", "Inputs": [{"DataType": "Half", "Format": "Row major"}]},
        {"Name": "c", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "LayerType": "fill", "Inputs": [], "Outputs": [{"Format/Datatype": "BFloat16"}]},
        {"Name": "e", "LayerType": "odd", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
    ]
}


@cache
def _data(version: str) -> dict[str, Any]:
    return json.loads((DATA / f"api_{version}.json").read_text())


class World:
    """One fake module, what it is told to do, and what was done with it.

    Attributes:
        calls: what was called or set, in order: ``Class.member``, and its arguments.
        refusals: what the parser says no to: (node, name, operator, text); empty for yes.
        no_gpu: the builder cannot be made.
        no_plan: the builder fails with this message.
        bad_cache: the timing cache that is given does not fit.
        no_engine: a plan cannot be loaded.
        added: what adding a profile returns.
        cancelled: whether a build was stopped by its monitor.
    """

    def __init__(self, version: str) -> None:
        self.rtx = version.startswith("rtx_")
        self.version = version.removeprefix("rtx_")
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.refusals: list[tuple[int, str, str, str]] = []
        self.no_gpu = self.bad_cache = self.no_engine = self.cancelled = False
        self.no_plan, self.added = "", 0
        self.classes: dict[str, type] = {}
        self.module = self._module(_data(version), f"tensorrt_{version}")

    def _module(self, data: dict[str, Any], name: str) -> Any:
        module = types.ModuleType(name)
        module.__version__ = self.version
        for member, spec in data.items():
            if "cls" in spec:
                self.classes[member] = self._class(member, spec["cls"])
                setattr(module, member, self.classes[member])
            elif "enum" in spec and member[0].isupper():
                setattr(module, member, enum.IntEnum(member, spec["enum"]))
            elif "other" in spec:
                setattr(module, member, lambda *given, name=member: self.record(name, given))
        return module

    def _class(self, name: str, members: list[str]) -> type:
        world = self

        def begin(self: Any, *given: Any) -> None:
            self.__dict__["values"] = {}
            world.record(name, given)
            if name == "Builder" and world.no_gpu:
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def put(self: Any, member: str, value: Any) -> None:
            if type(self) is made and member not in members:
                raise AttributeError(f"TensorRT {world.version} has no {name}.{member} to set")
            object.__setattr__(self, member, value)

        made = type(name, (), {"__init__": begin, "__setattr__": put})
        for member in members:
            setattr(made, member, Member(world, name, member))
        return made

    def record(self, name: str, given: tuple[Any, ...]) -> None:
        self.calls.append((name, given))

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [given for member, given in self.calls if member == name]

    def make(self, kind: str, /, **values: Any) -> Any:
        made = self.classes[kind].__new__(self.classes[kind])
        made.__dict__["values"] = values
        return made

    def tensor(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        kind = self.module.DataType[dtype if dtype in self.module.DataType.__members__ else "INT32"]
        return self.make("ITensor", name=name, dtype=kind, shape=shape, is_shape_tensor=name == "sizes")

    @property
    def inputs(self) -> list[Any]:
        return [self.tensor("x", "FLOAT", (-1, 4)), self.tensor("sizes", "INT64", (2,))]

    @property
    def layers(self) -> list[Any]:
        x, y, q = self.inputs[0], self.tensor("y", "HALF", (-1, 4)), self.tensor("q", "INT8", (-1, 4))
        kinds = [("DEQUANTIZE", [q], x), ("MATRIX_MULTIPLY", [x, None], y), ("ELEMENTWISE", [y], y)]
        kind = types.SimpleNamespace
        return [
            self.make("ILayer", type=kind(name=name), num_inputs=len(given), num_outputs=1, given=given, out=out)
            for name, given, out in kinds
        ]


class Member:
    """One member of a class: what the behaviours below say, else a function that is recorded and gives None."""

    def __init__(self, world: World, owner: str, name: str) -> None:
        self.world, self.owner, self.name = world, owner, name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        path = f"{self.owner}.{self.name}"
        if path in PROPERTIES:
            return PROPERTIES[path](self.world, instance)
        if self.name in instance.__dict__.get("values", {}):
            return instance.values[self.name]

        def method(*given: Any) -> Any:
            self.world.record(path, given)
            return METHODS[path](self.world, instance, *given) if path in METHODS else None

        return method

    def __set__(self, instance: Any, value: Any) -> None:
        self.world.record(f"{self.owner}.{self.name}", (value,))
        instance.values[self.name] = value


def _build(world: World, builder: Any, network: Any, config: Any) -> Any:
    assert isinstance(network, world.classes["INetworkDefinition"])
    log = world.called("Builder")[-1][0]
    if watcher := config.__dict__["values"].get("progress_monitor"):
        watcher.phase_start("Building", None, 2)
        if not (watcher.step_complete("Building", 0) and watcher.step_complete("Building", 1)):
            world.cancelled = True
            log.log(types.SimpleNamespace(name="ERROR"), "Build canceled by user")
            return None
        watcher.phase_finish("Building")
    if world.no_plan:
        log.log(types.SimpleNamespace(name="ERROR"), world.no_plan)
        return None
    return PLAN


def _error(world: World, parser: Any, index: int) -> Any:
    node, name, operator, text = world.refusals[index]
    return world.make("ParserError", number=node, named=name, operator=operator, text=text)


def _set_flag(world: World, config: Any, flag: Any) -> None:
    assert isinstance(flag, world.module.BuilderFlag)


PROPERTIES: dict[str, Callable[[World, Any], Any]] = {
    "INetworkDefinition.num_inputs": lambda w, o: 2,
    "INetworkDefinition.num_outputs": lambda w, o: 1,
    "INetworkDefinition.num_layers": lambda w, o: 3,
    "OnnxParser.num_errors": lambda w, o: len(w.refusals),
}
METHODS: dict[str, Callable[..., Any]] = {
    "Builder.create_network": lambda w, o, flags: w.make("INetworkDefinition"),
    "Builder.create_builder_config": lambda w, o: w.make("IBuilderConfig"),
    "Builder.create_optimization_profile": lambda w, o: w.make("IOptimizationProfile"),
    "Builder.get_plugin_registry": lambda w, o: w.make("IPluginRegistry"),
    "Builder.build_serialized_network": _build,
    "IPluginRegistry.load_library": lambda w, o, path: object(),
    "INetworkDefinition.get_input": lambda w, o, index: w.inputs[index],
    "INetworkDefinition.get_output": lambda w, o, index: w.tensor("y", "HALF", (-1, 4)),
    "INetworkDefinition.get_layer": lambda w, o, index: w.layers[index],
    "ILayer.get_input": lambda w, o, index: o.values["given"][index],
    "ILayer.get_output": lambda w, o, index: o.values["out"],
    "ITensor.get_dimension_name": lambda w, o, index: "batch",
    "IBuilderConfig.add_optimization_profile": lambda w, o, profile: w.added,
    "IBuilderConfig.set_flag": _set_flag,
    "IBuilderConfig.create_timing_cache": lambda w, o, content: w.make("ITimingCache", content=content),
    "IBuilderConfig.set_timing_cache": lambda w, o, cache, ignore: not (w.bad_cache and cache.values["content"]),
    "IBuilderConfig.get_timing_cache": lambda w, o: w.make("ITimingCache"),
    "ITimingCache.serialize": lambda w, o: TIMES,
    "OnnxParser.parse_from_file": lambda w, o, file: not w.refusals,
    "OnnxParser.get_error": _error,
    "OnnxParser.get_used_vc_plugin_libraries": lambda w, o: ["libvc.so"],
    "ParserError.node": lambda w, o: o.values["number"],
    "ParserError.node_name": lambda w, o: o.values["named"],
    "ParserError.node_operator": lambda w, o: o.values["operator"],
    "ParserError.desc": lambda w, o: o.values["text"],
    "ParserError.code": lambda w, o: w.module.ErrorCode.UNSUPPORTED_NODE,
    "Runtime.deserialize_cuda_engine": lambda w, o, plan: None if w.no_engine else w.make("ICudaEngine"),
    "ICudaEngine.create_engine_inspector": lambda w, o: w.make("EngineInspector"),
    "EngineInspector.get_engine_information": lambda w, o, form: json.dumps(INSPECTED),
}
