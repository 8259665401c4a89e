# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The TensorRT plans of a model, read by their first bytes, and what engine.json says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any
from weakref import WeakKeyDictionary

from trtkit.engine import PlanHeader, Profile, parse_manifest, plan_info
from trtkit.engine.plan import HEADER_BYTES
from trtkit.engine.profiles import from_json
from trtkit.errors import BuildError
from trtkit.images import parse_version
from trtkit.lint.model import Found, Model, Repository

_LARGEST_MANIFEST = 4 * 2**20


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine.

    Attributes:
        mode: ``input`` or ``output``.
        dtype: e.g. ``TYPE_FP32``.
        shape: with the batch, -1 for dynamic; None where the engine could not tell.
        sizes: whether its values are sizes (a shape tensor).
    """

    name: str
    mode: str
    dtype: str
    shape: Sequence[int] | None
    sizes: bool


@dataclass(frozen=True)
class Engine:
    """What engine.json says of a plan, as far as a config has to agree with it."""

    manifest: Mapping[str, Any]
    tensors: tuple[EngineTensor, ...]
    profiles: Sequence[Profile]

    def of(self, mode: str) -> dict[str, EngineTensor]:
        """The inputs, or the outputs, by name."""
        return {each.name: each for each in self.tensors if each.mode == mode}

    def batches(self, profile: int) -> tuple[int, int] | None:
        """The smallest and the largest batch that a profile takes; None where nothing begins with a batch."""
        ranges = self.profiles[profile] if profile < len(self.profiles) else {}
        lows, highs = [], []
        for each in self.of("input").values():
            given = ranges.get(each.name)
            if given is not None and given.min and given.max:
                lows.append(given.min[0])
                highs.append(given.max[0])
            elif each.shape and not each.sizes:
                lows.append(each.shape[0])
                highs.append(each.shape[0])
        return (max(lows), min(highs)) if highs and min(highs) > 0 else None

    def best_batches(self, profiles: Sequence[int]) -> set[int]:
        """The batches that the kernels of some profiles were chosen for."""
        shapes = [
            each.opt for index in profiles if index < len(self.profiles) for each in self.profiles[index].values()
        ]
        return {shape[0] for shape in shapes if shape}


@dataclass(frozen=True)
class PlanFile:
    """A plan that a model is served with.

    Attributes:
        file: from the model directory.
        capability: the key of cc_model_filenames; None for default_model_filename.
        problem: why it is no plan; '' when it is one.
        header: what it says of itself; None when it is no plan.
        engine: what engine.json says; None where there is none, or it is of no use.
        manifest_file: engine.json's path, or where it should be.
        manifest_problem: what is wrong with engine.json; '' for nothing, or when there is none.
        has_manifest: whether there is one.
    """

    file: str
    capability: str | None
    problem: str
    header: PlanHeader | None
    engine: Engine | None
    manifest_file: str
    manifest_problem: str
    has_manifest: bool


# by model, so that each plan is looked at once; each run has models of its own
_FOUND: WeakKeyDictionary[Model, tuple[PlanFile, ...]] = WeakKeyDictionary()


def plan_files(model: Model) -> tuple[PlanFile, ...]:
    """The plans of the served versions that are there; nothing for a model of another backend."""
    if model not in _FOUND:
        _FOUND[model] = tuple(_plan_files(model))
    return _FOUND[model]


@lru_cache(maxsize=1)  # each run has one repository
def any_manifest(repository: Repository) -> bool:
    """Whether a plan of the repository has an engine.json."""
    return any(plan.has_manifest for model in repository.models.values() for plan in plan_files(model))


def of_first_plan(
    check: Callable[[Model, PlanFile, Engine], Iterable[Found]],
) -> Callable[[Model], Iterable[Found]]:
    """A check of a plan that engine.json describes, as a rule's check of a model.

    Its findings are those of the first plan that has any: a model's plans are mostly built alike.
    """

    @wraps(check)
    def checked(model: Model) -> Iterable[Found]:
        described = [(plan, plan.engine) for plan in plan_files(model) if plan.header and not plan.manifest_problem]
        found = (list(check(model, plan, engine)) for plan, engine in described if engine is not None)
        return next((rows for rows in found if rows), [])

    return checked


def _plan_files(model: Model) -> Iterator[PlanFile]:
    config = model.config
    if config.backend != "tensorrt":
        return
    named: dict[str, str | None] = {name: cc for cc, name in sorted(config.cc_model_filenames.items())}
    if config.default_model_filename:
        named.setdefault(config.default_model_filename, None)
    for version in model.served_versions:
        for name, capability in named.items():
            entry = model.entry(f"{version}/{name}")
            if entry is not None and entry.kind == "file":
                yield _plan_file(model, f"{version}/{name}", capability, entry.size)


def _plan_file(model: Model, file: str, capability: str | None, size: int) -> PlanFile:
    problem, header = "", None
    try:
        flavour, version = plan_info(model.read(file, HEADER_BYTES)).values()
        header = PlanHeader(flavour, parse_version(version), (), size)
    except (BuildError, OSError) as exc:
        problem = "it is empty" if not size else "it cannot be read" if isinstance(exc, OSError) else str(exc)
    folder = file.rpartition("/")[0]
    beside = (f"{file}.json", f"{folder}/engine.json")
    manifest_file = next((each for each in beside if model.entry(each)), None)
    if manifest_file is None:
        return PlanFile(file, capability, problem, header, None, beside[1], "", False)
    try:
        engine = _engine(parse_manifest(model.read(manifest_file, _LARGEST_MANIFEST), manifest_file.rpartition("/")[2]))
    except BuildError as exc:
        return PlanFile(file, capability, problem, header, None, manifest_file, str(exc), True)
    except OSError:
        return PlanFile(file, capability, problem, header, None, manifest_file, "it cannot be read", True)
    return PlanFile(file, capability, problem, header, engine, manifest_file, _misfit(engine, header), True)


def _misfit(engine: Engine, header: PlanHeader | None) -> str:
    """What engine.json says otherwise than the plan; its hash is not asked for, plans are large."""
    if header is None:
        return ""
    version = str(engine.manifest["tensorrt_version"])
    found = ".".join(header.version_text.split(".")[: version.count(".") + 1])
    size = engine.manifest["plan"].get("byte_size")
    told = size if isinstance(size, int) and size < header.byte_size else header.byte_size  # a smaller plan is cut off
    for what, said, there in (
        ("flavour", engine.manifest["flavour"], header.flavour),
        ("TensorRT version", version, found),
        ("size", told, header.byte_size),
    ):
        if said != there:
            return f"the plan has the {what} {there}, engine.json says {said}"
    return ""


def _engine(manifest: Mapping[str, Any]) -> Engine:
    tensors = []
    for row in manifest["io"]:
        if not isinstance(row, dict) or not _is_shape(row.get("shape")):
            raise BuildError("engine.json is no engine.json of trtkit: a row of its field 'io' is of another type")
        name, mode, dtype = (str(row.get(key, "")) for key in ("name", "mode", "dtype"))
        tensors.append(EngineTensor(name, mode, f"TYPE_{dtype}", row.get("shape"), bool(row.get("sizes"))))
    return Engine(manifest, tuple(tensors), from_json(manifest["profiles"]))


def _is_shape(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(type(size) is int for size in value))
