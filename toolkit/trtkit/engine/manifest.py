# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""engine.json, the record beside a plan: what built it, from what, for what, and what was found in it.

Its fields are ``schema``; of the plan ``plan`` (file, byte_size, sha256); of its source ``source`` (file, sha256 of
the ONNX file); and the facts of the build: ``flavour``, ``tensorrt_version``, ``cuda_version`` (the newest that the
driver supports), ``compute_capability`` and ``gpu_name`` (None without a GPU), ``io`` (name, dtype, shape, mode, and
whether it holds sizes), ``profiles``, ``options``, ``layers`` by precision as found, ``precision_source`` (``engine``
or ``network``), ``notes`` and ``build_seconds``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors, hash_file, write_atomically
from trtkit.engine.builder import BuiltEngine
from trtkit.engine.plan import plan_header
from trtkit.errors import BuildError

SCHEMA = 1
PLAN_FILE = "model.plan"
MANIFEST_FILE = "engine.json"
_FIELDS = {
    "plan": dict, "source": dict, "flavour": str, "tensorrt_version": str, "io": list, "profiles": list,
    "options": dict, "layers": dict, "precision_source": str, "notes": list, "build_seconds": int | float,
}  # fmt: skip


def save_engine(folder: Path, built: BuiltEngine, onnx_file: Path) -> dict[str, Any]:
    """Write ``model.plan`` and, after it, ``engine.json`` into a folder.

    Returns:
        What engine.json holds.

    Raises:
        RepositoryError: the file system refused.
    """
    plan = folder / PLAN_FILE
    with file_errors(f"writing the engine to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(plan, built.plan)
        manifest = {
            "schema": SCHEMA,
            "plan": {"file": PLAN_FILE, "byte_size": len(built.plan), "sha256": hash_file(plan)},
            "source": {"file": onnx_file.name, "sha256": hash_file(onnx_file)},
            **built.facts,
        }
        write_atomically(folder / MANIFEST_FILE, f"{json.dumps(manifest, indent=1)}\n".encode())
    return manifest


def read_manifest(file: Path) -> dict[str, Any]:
    """Read an engine.json.

    Raises:
        BuildError: there is none, or it is not one that this trtkit reads.
    """
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise BuildError(f"{file} cannot be read: {exc.strerror or exc}") from exc
    return parse_manifest(content, str(file))


def parse_manifest(content: bytes, file: str) -> dict[str, Any]:
    """What an engine.json holds.

    Args:
        content: all of it.
        file: what sentences call it.

    Raises:
        BuildError: it is not one that this trtkit reads.
    """
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise BuildError(f"{file} is no engine.json of trtkit: it is no JSON") from exc
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise BuildError(f"{file} is no engine.json of trtkit: it has no schema number; build the engine again")
    if manifest["schema"] != SCHEMA:
        raise BuildError(
            f"{file} has schema {manifest['schema']}, this trtkit reads {SCHEMA}; build the engine again with it"
        )
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise BuildError(f"{file} is no engine.json of trtkit: its field '{name}' is missing or of another type")
    return manifest


def manifest_of(plan: Path) -> dict[str, Any] | None:
    """The manifest beside a plan: ``engine.json``, or ``<plan's name>.json`` where a folder holds several plans.

    Returns:
        None when there is none.

    Raises:
        BuildError: there is one that this trtkit does not read.
    """
    beside = (plan.with_name(f"{plan.name}.json"), plan.with_name(MANIFEST_FILE))
    return next((read_manifest(file) for file in beside if file.is_file()), None)


def manifest_problems(folder: Path) -> list[str]:
    """What does not fit between a folder's plan and its engine.json, in sentences; empty when all does.

    Raises:
        BuildError: either is missing or is none.
    """
    manifest, plan = read_manifest(folder / MANIFEST_FILE), folder / PLAN_FILE
    header = plan_header(plan)
    problems = []
    version = manifest["tensorrt_version"]  # the module's own, which may leave the last number out
    for what, said, found in (
        ("flavour", manifest["flavour"], header.flavour),
        ("TensorRT version", version, ".".join(header.version_text.split(".")[: version.count(".") + 1])),
        ("size", manifest["plan"].get("byte_size"), header.byte_size),
    ):
        if said != found:
            problems.append(f"{plan} has the {what} {found}, its {MANIFEST_FILE} says {said}")
    if not problems and manifest["plan"].get("sha256") != hash_file(plan):
        problems.append(f"{plan} is not the plan that its {MANIFEST_FILE} describes; build the engine again")
    return problems
