# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What of a built model differs from the repository and has to be published."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trtkit.artifacts import Cache, StageRun
from trtkit.errors import BuildError, RepositoryError
from trtkit.project import Project
from trtkit.python_models.key import PYTHON
from trtkit.repository import (
    VARIANTS,
    Publication,
    PublishedVersion,
    config_file,
    config_text,
    latest,
    variants,
)

WARMUP = "warmup"
_ENVIRONMENTS = f"environment-{'[0-9a-f]' * 12}.tar.gz"  # those of Python models, each named by its content
_KEPT_FACTS = (
    "signature", "max_batch_size", "batch", "ranges", "axis_size", "opset", "ir_version", "changes", "parity",
    "tool_versions", "calibration", "conversion", "metric", "race", "engine", "profiles", "no_plan",
    "part", "environment",
)  # fmt: skip


class NothingToPublish(Exception):  # noqa: N818 - no error: what was asked for was done
    """A model of which nothing is published in this build; the text says why, and what comes next."""


@dataclass(frozen=True)
class Served:
    """What the stages made of a model with a source.

    Attributes:
        export: the run of the export: its graph is the reference that the served model is validated against.
        run: the run whose artifact is published: the same, or that of the precision, race or engine stage.
        precision: of the served graph.
        facts: the export's, and over them what the later stages found.
        target: the name of the target it was made for.
        warmup: the artifact with the warm-up data, where that is not the published one; ``""`` where it is.
        environment: the artifact with the packed environment of a Python model; ``""`` without one.
    """

    export: StageRun
    run: StageRun
    precision: str
    facts: dict[str, Any]
    target: str
    warmup: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Plan:
    """A built model beside what is published of it.

    Attributes:
        why: why it has to be published, or why not.
        current: the version that is published now; None when there is none.
        publication: what to publish; None when nothing differs.
        replaces_config: whether a config.pbtxt that is published gives way to another.
    """

    why: str
    current: PublishedVersion | None
    publication: Publication | None = None
    replaces_config: bool = False


class Planner:
    """Compares what was built with what stands in the repository; `force` publishes everything again."""

    def __init__(self, project: Project, cache: Cache, force: bool) -> None:
        self.project, self.cache, self.force = project, cache, force

    def plan(self, name: str, texts: Mapping[str, str], served: Served | None) -> Plan:
        """What to publish of a model: a new version, or configs and warm-up data alone, or nothing.

        Args:
            name: the model.
            texts: its configs by name; ``""`` is config.pbtxt.
            served: what the stages made; None for an ensemble.

        Raises:
            RepositoryError: a config that was edited by hand would be replaced.
            BuildError: the artifact in the cache is not what it was.
        """
        repository = self.project.repository
        current = latest(repository, name)
        on_disk = {variant: config_text(repository, name, variant) for variant in ("", *variants(repository, name))}
        wanted = {**self._stale(on_disk, texts), **texts}
        changed = [variant for variant, text in wanted.items() if on_disk.get(variant) != text]
        new_version = "--force" if self.force else self._why_new_version(current, served)
        damaged = "" if new_version else self._changed_beside(name, served, texts)
        if current and not new_version and not damaged and not changed:
            return Plan(f"version {current.version} is up to date", current)
        for variant in changed:
            self._refuse_to_overwrite(name, variant, on_disk.get(variant))
        version_files, model_files = self._files(name, served, texts)
        more = {variant: text for variant, text in wanted.items() if variant}
        publication = Publication(
            name, texts[""], version_files if new_version else None, model_files, self._record(name, served), more
        )
        why = new_version or f"{damaged or config_file(changed[0])} changed"
        return Plan(why, current, publication, any(on_disk.get(variant) is not None for variant in changed))

    def _stale(self, on_disk: Mapping[str, str | None], texts: Mapping[str, str]) -> dict[str, None]:
        """Configs of names that the project file no longer has, or that these files do not serve; not those by hand."""
        from trtkit.config import is_generated

        left = {variant: text for variant, text in on_disk.items() if text is not None and variant not in texts}
        return {variant: None for variant, text in left.items() if is_generated(text)}

    def _why_new_version(self, current: PublishedVersion | None, served: Served | None) -> str:
        if current is None:
            return "no version is published"
        if current.record.get("artifact") != (served.run.artifact if served else ""):
            return "the artifact changed"
        changed = self._changed_file(current)
        return f"version {current.version} was changed after it was published: {changed}" if changed else ""

    def _changed_beside(self, name: str, served: Served | None, texts: Mapping[str, str]) -> str:
        """The first file beside the versions that is not as it was made; without it the server refuses the model."""
        if served is None:
            return ""
        objects, published = self.project.state / "objects", self.project.repository / name
        for file in sorted((objects / (served.warmup or served.run.artifact) / WARMUP).glob("*")):
            own = published / WARMUP / file.name
            if _is_named(file.name, texts) and not (own.is_file() and filecmp.cmp(file, own, shallow=False)):
                return f"{WARMUP}/{file.name}"
        for file in (objects / served.environment).glob(_ENVIRONMENTS) if served.environment else ():
            own = published / file.name  # large, and named by its content
            if not own.is_file() or own.stat().st_size != file.stat().st_size:
                return file.name
        return ""

    def _changed_file(self, version: PublishedVersion) -> str | None:
        """The first changed file of a version; files whose stat is unchanged since the last look are trusted."""
        stats = {n: _stat(version.path / n) for n in version.record.get("files", {})}
        memo = self.project.state / "verified" / f"{version.model}.json"
        seen = {"version": version.version, "stats": stats}
        if memo.is_file() and _read_json(memo) == json.loads(json.dumps(seen)):
            return None
        changed = version.changed_file()
        if changed is None:
            with suppress(OSError):  # it only saves time
                memo.parent.mkdir(parents=True, exist_ok=True)
                memo.write_text(json.dumps(seen))
        return changed

    def _refuse_to_overwrite(self, name: str, variant: str, on_disk: str | None) -> None:
        if self.force or on_disk is None:
            return
        from trtkit.config import is_generated

        if not is_generated(on_disk):
            where = self.project.where("models", name)
            raise RepositoryError(
                f"{self.project.repository / name / config_file(variant)} was written or edited by hand and would be "
                f"replaced; move its fields to the `{VARIANTS if variant else 'config'}:` block at {where}, or build "
                "with --force"
            )

    def _files(
        self, name: str, served: Served | None, texts: Mapping[str, str]
    ) -> tuple[dict[str, Path], dict[str, Path | None]]:
        """The version's files and the model folder's files of an artifact, None for one that is to go."""
        old = (self.project.repository / name).glob(_ENVIRONMENTS)
        beside: dict[str, Path | None] = {file.name: None for file in old}
        if served is None:
            return {}, beside
        files = self._artifact(name, served.run.artifact)
        warmup = self._artifact(name, served.warmup) if served.warmup else files
        beside |= self._artifact(name, served.environment) if served.environment else {}
        if served.precision == PYTHON:  # its files are the user's, whatever their names
            return files, beside
        beside |= {path: f for path, f in warmup.items() if path.startswith(f"{WARMUP}/") and _is_named(f.name, texts)}
        return {path: f for path, f in files.items() if not path.startswith(f"{WARMUP}/")}, beside

    def _artifact(self, name: str, sha256: str) -> dict[str, Path]:
        """The files of an artifact by relative path, if they are what they were."""
        artifact = self.cache.verified("onnx", sha256)
        if artifact is None:
            shutil.rmtree(self.project.state / "objects" / sha256, ignore_errors=True)
            raise BuildError(
                f"model '{name}': its artifact in {self.project.state} was damaged and is removed; build again"
            )
        return {f.relative_to(artifact.path).as_posix(): f for f in artifact.path.rglob("*") if f.is_file()}

    def _record(self, name: str, served: Served | None) -> dict[str, Any]:
        spec = self.project.models[name]
        made: dict[str, Any] = {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "precision": served.precision if served else "ensemble",
            "artifact": served.run.artifact if served else "",
            "reference": "",
        }
        if served and spec.source:
            made["source"] = spec.source.model_dump(exclude_none=True)
            if spec.source.is_graph:
                made["reference"] = served.export.artifact  # the FP32 graph it is validated against
            made["target"] = served.target
            made["made_from"] = {"inputs": served.export.inputs, "files": served.export.files}
            if served.run is not served.export:
                made["converted_from"] = {"inputs": served.run.inputs, "files": served.run.files}
            made |= {key: served.facts[key] for key in _KEPT_FACTS if key in served.facts}
        return made


def _is_named(file: str, texts: Mapping[str, str]) -> bool:
    """Whether a warm-up request of one of the configs reads the file: the project file may have taken it away."""
    return any(f'input_data_file: "{file}"' in text for text in texts.values())


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
