# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A run bundle: a folder with everything that is needed to understand, compare and repeat a run.

``bundle.json`` holds the measurements and what they were made with; ``records-N.npz`` the requests of measurement N.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.errors import DataError, ProjectError
from trtkit.perf.loop.records import Records
from trtkit.perf.measurement import Measurement
from trtkit.perf.statistics.runs import Run, RunSide, run_of
from trtkit.perf.transports.base import Failure

FORMAT = "trtkit-perf-bundle"
"""What ``bundle.json`` says it is."""

VERSION = 1
"""Of the format; a reader refuses newer ones."""

_FILE = "bundle.json"
_COLUMNS = tuple(column.name for column in fields(Records) if column.name != "failures")


def write_bundle(folder: Path, measurements: Sequence[Measurement], context: Mapping[str, Any]) -> None:
    """Write a bundle, whole or not at all.

    Args:
        folder: to make; an empty one is taken, too.
        measurements: with their records.
        context: what they were made with, JSON values only: `run_context` gives it.

    Raises:
        ProjectError: the folder holds something already, or cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ProjectError(f"{folder} exists already and a bundle replaces nothing; name a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            unfinished.mkdir()
            _write_into(unfinished, measurements, context)
            unfinished.replace(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as exc:
        raise ProjectError(f"the bundle {folder} cannot be written: {exc.strerror or exc}") from exc


def _write_into(folder: Path, measurements: Sequence[Measurement], context: Mapping[str, Any]) -> None:
    entries = []
    for number, one in enumerate(measurements, 1):
        name = f"records-{number}.npz"
        columns = {column: getattr(one.all_records, column) for column in _COLUMNS}
        with (folder / name).open("wb") as stream:
            np.savez_compressed(stream, **columns)
        run = run_of(one)
        failures = [failure._asdict() for failure in one.all_records.failures]
        judged = {"start_ns": run.start_ns, "end_ns": run.end_ns}
        entries.append({**one.to_json(), "records": {"file": name, "failures": failures, "judged": judged}})
    document = {"format": FORMAT, "format_version": VERSION, **context, "measurements": entries}
    (folder / _FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_context(path: Path) -> dict[str, Any]:
    """What a bundle's measurements were made with, and their JSON form.

    Args:
        path: the bundle's folder, or its ``bundle.json``.

    Raises:
        DataError: there is no bundle, or it is damaged or newer than this trtkit.
    """
    file = path / _FILE if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is no bundle: {file} does not exist; trtkit perf --bundle FOLDER makes one") from None
    except OSError as exc:
        raise DataError(f"{file} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise DataError(f"{file} is damaged: it is no JSON ({exc})") from exc
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"{file} is no bundle of trtkit perf; trtkit perf --bundle FOLDER makes one")
    version = document.get("format_version")
    if version != VERSION:
        raise DataError(f"{file} has format version {version!r}, and this trtkit reads {VERSION}; upgrade trtkit")
    return document


def read_bundle(path: Path) -> list[RunSide]:
    """The runs of a bundle for a comparison: a side for each load, with its runs in the order they were made.

    Args:
        path: the bundle's folder, or its ``bundle.json``.

    Raises:
        DataError: there is no bundle, or it is damaged or newer than this trtkit.
    """
    document = read_context(path)
    folder = path if path.is_dir() else path.parent
    sides: dict[str, list[Run]] = {}
    try:
        for entry in document["measurements"]:
            sides.setdefault(str(entry["label"]), []).append(_run(folder, entry))
    except (KeyError, TypeError, ValueError) as exc:
        raise DataError(f"{folder / _FILE} is damaged: {_what(exc)}") from exc
    if not sides:
        raise DataError(f"{folder / _FILE} holds no measurement")
    return [RunSide(label, tuple(runs)) for label, runs in sides.items()]


def _what(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _run(folder: Path, entry: Mapping[str, Any]) -> Run:
    about = entry["records"]
    start_ns, end_ns = int(about["judged"]["start_ns"]), int(about["judged"]["end_ns"])
    records = read_records(folder / Path(str(about["file"])).name, about["failures"])
    return Run(
        records=records.between(start_ns, end_ns),
        start_ns=start_ns,
        end_ns=end_ns,
        started_at=str(entry["started_at"]),
        batch_size=int(entry["load"]["batch_size"]),
        stable=bool(entry["stable"]),
    )


def read_records(file: Path, failures: Sequence[Mapping[str, Any]]) -> Records:
    """The requests of one ``records-N.npz``.

    Args:
        file: to read; nothing in it is executed.
        failures: the kinds of failures, as the bundle's JSON names them.

    Raises:
        DataError: it is missing, damaged, or its columns do not fit each other.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            columns = {name: archive[name].astype(np.int64) for name in _COLUMNS}
    except FileNotFoundError:
        raise DataError(f"{file} is missing in the bundle") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as exc:
        raise DataError(f"{file} is damaged: {_what(exc)}") from exc
    records = Records(**columns, failures=tuple(Failure(**failure) for failure in failures))
    rows = {columns[name].shape for name in _COLUMNS if name != "response_ns"}
    fits = len(rows) == 1 and records.last_ns.ndim == 1 and records.response_ns.ndim == 1
    if not fits or not _consistent(records):
        raise DataError(f"{file} is damaged: its columns do not fit each other")
    return records


def _consistent(records: Records) -> bool:
    """Whether outcomes name failures, and the streams' times are as many as were counted."""
    if len(records) and not 0 <= records.outcome.min() <= records.outcome.max() <= len(records.failures):
        return False
    return not records.streamed or int(records.responses.sum()) == len(records.response_ns)
