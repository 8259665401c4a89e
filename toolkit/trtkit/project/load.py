# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Find, read and check ``trtkit.yaml``; every complaint names its line and column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trtkit.errors import ProjectError, nearest
from trtkit.parts import is_routing, part_folder
from trtkit.project.callables import check_path, check_reference, is_callable_reference, no_path
from trtkit.project.spec import (
    Calibration,
    EnsembleStep,
    Evaluate,
    InputSpec,
    Keep,
    ModelSpec,
    ProjectSpec,
    ShapeRangeSpec,
    Source,
    Tolerance,
)
from trtkit.project.spec_deploy import (
    CiSettings,
    Cluster,
    ComposeSettings,
    Cron,
    Deploy,
    Exposure,
    Gpu,
    Measurements,
    ModelSlo,
    Monitoring,
    PodResources,
    Queue,
    Rollout,
    Scaling,
    ServerSettings,
    Slo,
    Storage,
    merged,
)
from trtkit.project.spec_target import Engine, Target
from trtkit.project.yaml_text import MAX_BYTES, Path_, Positions, line_and_column, read_yaml

PROJECT_FILE = "trtkit.yaml"


@dataclass(frozen=True)
class Project:
    """A checked project file.

    Attributes:
        file: its absolute path.
        models: the models, by name, in the file's order.
        targets: where they will run, by name, in the file's order; may be empty.
        repository: the absolute path of the model repository; it need not exist yet.
        deploy: where and how the repository is served.
        environments: the same block with an environment's keys on top, by the environment's name.
    """

    file: Path
    repository: Path
    models: dict[str, ModelSpec]
    targets: dict[str, Target]
    deploy: Deploy
    environments: dict[str, Deploy]
    positions: Positions = field(repr=False, compare=False)

    @property
    def root(self) -> Path:
        """The folder of the project file: what relative paths in it refer to."""
        return self.file.parent

    @property
    def state(self) -> Path:
        """The folder of the cache, the stage records and the reports."""
        return self.root / ".trtkit"

    def where(self, *path: str | int) -> str:
        """``trtkit.yaml:LINE:COLUMN`` of a key path, or of the nearest parent that stands in the file."""
        return f"{self.file.name}:{_position(self.positions, path)}"

    def select(self, names: Sequence[str]) -> list[str]:
        """The named models in the file's order, or all of them when no name is given.

        Raises:
            ProjectError: a name is not in the project file, or there is no model at all.
        """
        for name in names:
            if name not in self.models:
                raise ProjectError(f"model '{name}' is not in {self.file.name}; {nearest(name, self.models)}")
        if not self.models:
            raise ProjectError(f"{self.file.name} has no models; add one under `models:` (see `trtkit init`)")
        return [name for name in self.models if not names or name in names]


def find_project(path: Path | None = None) -> Project:
    """Load the project at `path` (a file or a folder; default: the current folder or the nearest parent).

    Raises:
        ProjectError: there is none, or it is wrong.
    """
    start = (path or Path.cwd()).resolve()
    if start.is_file():
        return load_project(start)
    candidates = [start] if path else [start, *start.parents]
    for folder in candidates:
        if (folder / PROJECT_FILE).is_file():
            return load_project(folder / PROJECT_FILE)
    raise ProjectError(f"no {PROJECT_FILE} in {start}; run `trtkit init` to write one, or pass --project PATH")


def load_project(file: Path) -> Project:
    """Read and check one project file.

    Raises:
        ProjectError: the first thing wrong with it, with file, line and column.
    """
    value, positions = read_yaml(_read_text(file), file.name)
    if not isinstance(value, dict):
        given = "nothing" if value is None else f"a {type(value).__name__}"
        raise ProjectError(f"{file.name}:1:1: expected keys such as `models:`, got {given}")
    try:
        spec = ProjectSpec.model_validate(value)
    except ValidationError as exc:
        raise ProjectError(_first_complaint(exc, file.name, value, positions)) from exc
    resolved = file.resolve()
    where = f"{file.name}:{_position(positions, ('repository',))}: repository:"
    try:
        repository = (resolved.parent / spec.repository).resolve()
    except (OSError, RuntimeError) as exc:  # a name too long, or a loop of symbolic links
        raise ProjectError(f"{where} {no_path(spec.repository, exc)}") from exc
    if resolved.is_relative_to(repository):
        raise ProjectError(
            f"{where} '{spec.repository}' holds the project itself; give the models a folder of their own"
        )
    environments = _environments(spec.deploy, file.name, value, positions)
    project = Project(resolved, repository, dict(spec.models), dict(spec.targets), spec.deploy, environments, positions)
    for path, reference in _references(project):
        check_reference(reference, project.root, project.where(*path), folder=path[-1] == "huggingface")
    for name, model in project.models.items():
        _check_python(project, name, model)
    return project


def _environments(deploy: Deploy, name: str, value: Any, positions: Positions) -> dict[str, Deploy]:
    """The ``deploy:`` block as each environment has it; its complaints stand where the environment's key does."""
    base = {key: item for key, item in (value.get("deploy") or {}).items() if key != "environments"}
    found = {}
    for environment, over in deploy.environments.items():
        path = ("deploy", "environments", environment)
        if "environments" in over:
            raise ProjectError(f"{name}:{_position(positions, path)}: {'.'.join(path)}: environments do not nest")
        whole = merged(base, over)
        try:
            found[environment] = Deploy.model_validate(whole)
        except ValidationError as exc:
            inside = {**positions, **{("deploy", *key[3:]): at for key, at in positions.items() if key[:3] == path}}
            complaint = _first_complaint(exc, name, {"deploy": whole}, inside, ("deploy",))
            raise ProjectError(f"{complaint} (in environment '{environment}')") from exc
    return found


def _check_python(project: Project, name: str, model: ModelSpec) -> None:
    """The names and paths that only Python models have."""
    if model.source and model.source.part:
        try:
            part_folder(model.source.part)
        except ProjectError as exc:
            raise ProjectError(f"{project.where('models', name, 'source', 'part')}: {exc}") from exc
    if model.models and not (model.source and model.source.part and is_routing(model.source.part)):
        where = project.where("models", name, "models")
        raise ProjectError(f"{where}: only a part that passes requests on has `models`; leave them out")
    for file, reference in model.files.items():
        place = project.where("models", name, "files", file)
        if is_callable_reference(reference):
            check_reference(reference, project.root, place)
        else:
            check_path(reference, project.root, place)
    if isinstance(model.environment, str):
        check_path(model.environment, project.root, project.where("models", name, "environment"))


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ProjectError(f"{file}: cannot be read: {exc.strerror}") from exc
    if len(content) > MAX_BYTES:
        raise ProjectError(f"{file.name}: larger than {MAX_BYTES} bytes, the most a project file may have")
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        before = content[: exc.start].decode()
        where = line_and_column(before, len(before))
        raise ProjectError(f"{file.name}:{where}: not UTF-8 text: byte 0x{content[exc.start]:02x}") from exc


def _references(project: Project) -> Iterator[tuple[Path_, str]]:
    """Every path and FILE.py:NAME of the file, with its key path."""
    for name, model in project.models.items():
        if model.source and model.source.reference:
            yield ("models", name, "source", model.source.kind), model.source.reference
        if model.calibration:
            yield ("models", name, "calibration", "data"), model.calibration.data
        for index, plugin in enumerate(model.engine.plugins):
            yield ("models", name, "engine", "plugins", index), plugin
        if model.evaluate:
            yield from _evaluate_references(("models", name, "evaluate"), model.evaluate)


def _evaluate_references(path: Path_, evaluate: Evaluate) -> Iterator[tuple[Path_, str]]:
    yield (*path, "data"), evaluate.data
    if evaluate.metric and is_callable_reference(evaluate.metric):
        yield (*path, "metric"), evaluate.metric


def _position(positions: Positions, path: Sequence[str | int]) -> str:
    """``LINE:COLUMN`` of the longest prefix of the path that stands in the file."""
    for end in range(len(path), -1, -1):
        if tuple(path[:end]) in positions:
            line, column = positions[tuple(path[:end])]
            return f"{line}:{column}"
    return "1:1"


def _first_complaint(exc: ValidationError, name: str, value: Any, positions: Positions, start: Path_ = ()) -> str:
    """The most telling of pydantic's errors as one sentence with its place; `start` is where validation began."""
    errors = exc.errors()
    for each in errors:
        each["loc"] = (*start, *each["loc"])
    error = _most_telling(errors, value)
    path = _real_path(error["loc"], value)
    dotted = ".".join(map(str, path))[:200] or "the file"
    return f"{name}:{_position(positions, path)}: {dotted}: {_sentence(error, path)}"


def _most_telling(errors: list[ErrorDetails], value: Any) -> ErrorDetails:
    """A typo explains the rest; of the members of a union, the one that takes this kind of value."""
    typo = next((error for error in errors if error["type"] == "extra_forbidden"), None)
    place = _real_path(errors[0]["loc"], value)
    same = [error for error in errors if _real_path(error["loc"], value) == place]
    inside = [
        error
        for error in errors
        if _real_path(error["loc"], value)[: len(place)] == place != _real_path(error["loc"], value)
    ]
    first = next(iter(inside), errors[0]) if errors[0]["type"].endswith("_type") else errors[0]
    return typo or next((error for error in same if not error["type"].endswith("_type")), first)


def _real_path(loc: tuple[int | str, ...], value: Any) -> Path_:
    """Pydantic's location without the parts it adds for unions and key checks."""
    path: list[int | str] = []
    for part in loc:
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if inside:
            value = value[part]
            path.append(part)
    return tuple(path)


def _sentence(error: ErrorDetails, path: Path_) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(path[-1]), _keys_at(path[:-1]))}"
    if kind == "missing":
        return f"'{error['loc'][-1]}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return message
    if kind == "model_type":
        return f"takes the keys {', '.join(_keys_at(path))}; got {_kind_of(error['input'])}"
    message = re.sub("^[A-Z][a-z]+ should ", "has to ", message).replace("valid dictionary", "mapping")
    return f"{message}, got {_kind_of(error['input'])}"


def _kind_of(given: Any) -> str:
    """The given value itself when it is short, else what it is."""
    if given is None:
        return "nothing"
    if isinstance(given, dict | list):
        return "a mapping" if isinstance(given, dict) else f"a list of {len(given)}"
    return repr(given) if len(repr(given)) <= 80 else f"{repr(given)[:80]}…"


def _keys_at(path: Path_) -> list[str]:
    """The keys the schema knows at a path."""
    named = (3,) if path[:1] == ("deploy",) else _NAMED.get(path[2:3], (1,))
    pattern = tuple("*" if index in named else part for index, part in enumerate(path))
    return list(_CLASSES[pattern].model_fields) if pattern in _CLASSES else []


# which parts of a path are names or indices of the user's
_NAMED: dict[Path_, tuple[int, ...]] = {
    ("inputs",): (1, 3),
    ("outputs",): (1, 3),
    ("ensemble",): (1, 3),
    ("tolerance",): (1, 4),
    ("profiles",): (1, 3, 4),
}
_CLASSES: dict[Path_, type[BaseModel]] = {
    (): ProjectSpec,
    ("models", "*"): ModelSpec,
    ("targets", "*"): Target,
    ("models", "*", "source"): Source,
    ("models", "*", "calibration"): Calibration,
    ("models", "*", "keep"): Keep,
    ("models", "*", "engine"): Engine,
    ("models", "*", "profiles", "*", "*"): ShapeRangeSpec,
    ("models", "*", "evaluate"): Evaluate,
    ("models", "*", "tolerance"): Tolerance,
    ("models", "*", "tolerance", "outputs", "*"): Tolerance,
    ("models", "*", "inputs", "*"): InputSpec,
    ("models", "*", "outputs", "*"): InputSpec,
    ("models", "*", "ensemble", "*"): EnsembleStep,
    ("deploy",): Deploy,
    ("deploy", "gpu"): Gpu,
    ("deploy", "resources"): PodResources,
    ("deploy", "storage"): Storage,
    ("deploy", "server"): ServerSettings,
    ("deploy", "exposure"): Exposure,
    ("deploy", "slo"): Slo,
    ("deploy", "slo", "models", "*"): ModelSlo,
    ("deploy", "scaling"): Scaling,
    ("deploy", "scaling", "cron", "*"): Cron,
    ("deploy", "scaling", "queue"): Queue,
    ("deploy", "rollout"): Rollout,
    ("deploy", "cluster"): Cluster,
    ("deploy", "monitoring"): Monitoring,
    ("deploy", "compose"): ComposeSettings,
    ("deploy", "ci"): CiSettings,
    ("deploy", "measurements"): Measurements,
}
