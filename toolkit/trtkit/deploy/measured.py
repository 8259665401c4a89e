# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements that a plan is made from: read back from the files they were written to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtkit.deploy.planned import ServedModel
from trtkit.errors import ProjectError, nearest
from trtkit.project import Deploy, Project

SCHEMA = 1
"""Of what `trtkit deploy measure` writes."""
_MOST = 1e9
"""More seconds, MiB, or requests per second than any server has."""


@dataclass(frozen=True)
class LoadMeasurement:
    """What `trtkit deploy measure` found.

    Attributes:
        file: where it was written.
        load_s: from the process's start until it was ready, s.
        host_mib: the largest resident memory of the server and its Python stubs, MiB.
        shm_mib: the largest use of /dev/shm, MiB.
        models: load time of each model, s, where the server said it.
        digest: of the repository that was loaded; see `Plan.digest`.
    """

    file: str
    load_s: float
    host_mib: float
    shm_mib: float
    models: dict[str, float]
    digest: str


@dataclass(frozen=True)
class PerfMeasurement:
    """One load of a `trtkit perf` report.

    Attributes:
        file: where it was written.
        model: that was measured.
        concurrency: requests kept in flight; None for an open loop.
        requests_per_s: of the judged windows.
        p99_ms: latency from the send; None without a successful request.
        queue_ms: mean queue time by the server; None where it gave none.
        error_ratio: failed by all requests.
        stable: whether it held.
        cpu_cores: CPU time of the server by time; None where it ran elsewhere.
        mix_per_s: requests per second of all models of a mix, of which this is one; None for a model by itself.
    """

    file: str
    model: str
    concurrency: int | None
    requests_per_s: float
    p99_ms: float | None
    queue_ms: float | None
    error_ratio: float
    stable: bool
    cpu_cores: float | None = None
    mix_per_s: float | None = None


@dataclass(frozen=True)
class Measured:
    """All that the project's measurement files say; empty where none are named."""

    load: LoadMeasurement | None = None
    perf: tuple[PerfMeasurement, ...] = ()


def read_measured(project: Project, spec: Deploy, served: tuple[ServedModel, ...]) -> Measured:
    """The files that `measurements:` names.

    Args:
        project: relative paths are from its folder.
        spec: the ``deploy:`` block.
        served: the models; a report of another one is refused.

    Raises:
        ProjectError: a file cannot be read, is no such report, or is of a model that is not served.
    """
    load = _load(project, spec.measurements.load, served) if spec.measurements.load else None
    return Measured(load, tuple(one for file in spec.measurements.perf for one in _perf(project, file, served)))


def read_json(path: Path, where: str) -> Any:
    """A JSON file that the project file names.

    Raises:
        ProjectError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as exc:
        raise ProjectError(f"{where}: {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise ProjectError(f"{where}: {path} is no JSON: {exc}") from exc


def _load(project: Project, file: str, served: tuple[ServedModel, ...]) -> LoadMeasurement:
    where = project.where("deploy", "measurements", "load")
    value = read_json(project.root / file, where)
    if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
        raise ProjectError(f"{where}: {file} has schema {value['schema']}, and this trtkit reads {SCHEMA}; run "
                           "`trtkit deploy measure` again")  # fmt: skip
    try:
        found = LoadMeasurement(
            file,
            float(value["load_s"]),
            float(value["host_mib"]),
            float(value["shm_mib"]),
            {str(name): float(seconds) for name, seconds in value["models"].items()},
            str(value["digest"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise ProjectError(f"{where}: {file} is no report of `trtkit deploy measure`: {_wrong(exc)}") from exc
    if not (0 < found.load_s < _MOST and 0 < found.host_mib < _MOST and 0 <= found.shm_mib < _MOST):
        raise ProjectError(f"{where}: {file}: load_s {found.load_s:g}, host_mib {found.host_mib:g} and shm_mib "
                           f"{found.shm_mib:g} have to be positive numbers below {_MOST:g}; measure again")  # fmt: skip
    names = [model.name for model in served]
    if found.models and not set(names) & set(found.models):
        others = ", ".join(sorted(found.models)[:5])
        raise ProjectError(f"{where}: {file} measured none of the served models ({', '.join(names[:5])}) but {others}; "
                           "run `trtkit deploy measure` in this project")  # fmt: skip
    return found


def _perf(project: Project, file: str, served: tuple[ServedModel, ...]) -> list[PerfMeasurement]:
    where = project.where("deploy", "measurements", "perf")
    path = project.root / file
    value = read_json(path / "bundle.json" if path.is_dir() else path, where)
    try:
        found = [one for each in value["measurements"] for one in _loads(file, each)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        raise ProjectError(f"{where}: {file} is no report of `trtkit perf --json`: {_wrong(exc)}") from exc
    if not found:
        raise ProjectError(f"{where}: {file} holds no measurement; run `trtkit perf --json` again")
    names = [model.name for model in served]
    for one in found:
        if not _sound(one):
            raise ProjectError(f"{where}: {file}: a load of '{one.model}' has a figure that is negative or no number; "
                               "measure again")  # fmt: skip
        if one.model not in names:
            raise ProjectError(f"{where}: {file} measured model '{one.model}', which is not served; "
                               f"{nearest(one.model, names)}")  # fmt: skip
    return found


def _wrong(exc: Exception) -> str:
    """What is wrong with a report, from the error that reading it gave."""
    return f"it has no {exc.args[0]!r}" if isinstance(exc, KeyError) else f"a value is of another kind ({exc})"


def _sound(one: PerfMeasurement) -> bool:
    """Whether each figure is a number that can be."""
    figures = (one.requests_per_s, one.p99_ms, one.queue_ms, one.error_ratio, one.cpu_cores)
    return all(0 <= figure < _MOST for figure in figures if figure is not None)


def _loads(file: str, value: Any) -> list[PerfMeasurement]:
    """One measurement of docs/perf.schema.json, and of a mix one for each model; latencies are nanoseconds there."""
    load, server = value["load"], value["server"]
    cores = (value["resources"] or {}).get("server_cpu_share_mean")
    # an ensemble waits in the queues of its models
    waits = [each["queue_ns"] for each in value["composing"] or ([server] if server else [])]
    queue_ms = sum(wait for wait in waits if wait is not None) / 1e6 if any(w is not None for w in waits) else None
    succeeded = sum(int(window["requests"]) for window in value["windows"])
    whole = {"model": load["model"], "requests_per_s": value["requests_per_s"], "latency": value["latency"],
             "errors": int(value["error_count"])}  # fmt: skip
    return [
        PerfMeasurement(
            file=file,
            model=str(share["model"]),
            concurrency=int(load["concurrency"]) or None,
            requests_per_s=float(share["requests_per_s"]),
            p99_ms=share["latency"]["p99_ns"] / 1e6 if share["latency"] else None,
            queue_ms=queue_ms if share is whole else None,
            error_ratio=share["errors"] / (share["errors"] + succeeded) if share["errors"] else 0.0,
            stable=bool(value["stable"]),
            cpu_cores=None if cores is None else float(cores),
            mix_per_s=None if share is whole else float(value["requests_per_s"]),
        )
        for share in value["by_model"] or [whole]
    ]
