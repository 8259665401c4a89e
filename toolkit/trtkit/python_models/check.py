# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One call of a model's function before it is published, in its own environment, with what its version folder holds."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtkit.config import ModelConfig, explained_part
from trtkit.dtypes import by_name
from trtkit.errors import BuildError, ConfigError
from trtkit.numerics import Array
from trtkit.project import Project
from trtkit.python_models import call_once
from trtkit.python_models.archive import run_activated, unpack
from trtkit.samples import evaluation_samples, random_inputs
from trtkit.signature import TensorSpec

_ROWS = 2  # a batch that is none of one row shows more mistakes
_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def check_function(
    project: Project, name: str, known: Mapping[str, Any], folder: Path, environment: Path | None, python: str
) -> dict[str, Any]:
    """Import a model's function and call it once; its results have to be what the config says.

    The inputs are rows of ``evaluate:``, or else random.

    Args:
        project: the project.
        name: the model.
        known: fields for its config.
        folder: the version folder.
        environment: the packed environment; None for the server's own, in whose place this Python stands.
        python: the environment's, e.g. ``3.12``.

    Returns:
        Facts: ``max_batch_size``, ``notes``.

    Raises:
        ConfigError: what `explained_part` raises.
        DataError: the rows of ``evaluate:`` do not fit.
        BuildError: the function cannot be imported or called, or gives something else.
    """
    where = project.where("models", name, "source", "python")
    config = explained_part(project, name, known).config
    facts: dict[str, Any] = {"max_batch_size": config.max_batch_size, "notes": []}
    _refuse_bf16(project, name, config)
    request = _request(project, name, config)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="tmp-") as work:
        unpacked = Path(work) / "environment" if environment else None
        if environment and unpacked:
            unpack(environment, unpacked, where)
            if _python_of(unpacked) != python:
                note = f"the environment was not tried out: there is no Python {python} on this machine"
                return {**facts, "notes": [note]}
        error = _answer(request, folder, Path(work), unpacked, where)
    if error:
        raise BuildError(f"{where}: {error}")
    return facts


def _python_of(environment: Path) -> str:
    return run_activated(environment, ["-c", _VERSION]).stdout.strip()


def _answer(request: dict[str, Any], folder: Path, work: Path, environment: Path | None, where: str) -> str:
    """What is wrong with the function; ``""`` when nothing is."""
    given, result = work / "request", work / "result"
    given.write_bytes(pickle.dumps(request))
    # isolated, or the folder of the script would be importable; without .pyc files, which would be published
    arguments = ["-I", "-B", str(Path(call_once.__file__)), str(folder), str(given), str(result)]
    if environment:
        done = run_activated(environment, arguments)
    else:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=work, capture_output=True, text=True, errors="replace", check=False
        )
    print(done.stdout, done.stderr, flush=True)  # noqa: T201 - to the stage's log
    if not result.is_file():
        end = done.stderr.strip().rpartition("\n")[2]
        raise BuildError(f"{where}: the function's process ended with exit code {done.returncode}: {end}")
    return str(json.loads(result.read_text()).get("error", ""))


def _request(project: Project, name: str, config: ModelConfig) -> dict[str, Any]:
    """What `call_once` needs, in plain values: it may run with another version of numpy."""
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    if "function" not in parameters:
        where = project.where("models", name, "parameters")
        raise ConfigError(f"{where}: the parameter 'function' follows from `source:`, so it cannot be taken away")
    batch = min(_ROWS, config.max_batch_size)
    arrays, origin = _arrays(project, name, config, batch)
    as_text = parameters.get("strings") == "str"
    return {
        "function": parameters["function"],
        "arguments": _arguments(project, name, parameters.get("arguments", "{}")),
        "factory": parameters.get("factory") == "true",
        "inputs": {row.name: row.optional for row in config.input},
        "outputs": [
            (row.name, by_name(_type(row)).numpy, ([batch] if batch else []) + _dims(row)) for row in config.output
        ],
        "arrays": [
            (key, str(array.dtype), array.shape, _plain(array, as_text=as_text)) for key, array in arrays.items()
        ],
        "origin": origin,
    }


def _arrays(project: Project, name: str, config: ModelConfig, batch: int) -> tuple[dict[str, Array], str]:
    """One request's inputs, and where they are from."""
    specs = [_spec(row, batched=batch > 0) for row in config.input]
    samples = evaluation_samples(project, name, specs)
    if samples is None:
        return random_inputs(specs, batch, seed=7), "random data (`evaluate: {data: …}` would give real rows)"
    return (samples.rows(0, batch) if batch else samples.inputs), samples.origin


def _spec(row: Any, *, batched: bool) -> TensorSpec:
    dims = ["" if dim < 0 else dim for dim in _dims(row)]
    return TensorSpec(row.name, by_name(_type(row)), tuple(["batch"] * batched + dims))


def _dims(row: Any) -> list[int]:
    """As the function sees them: the server reshapes."""
    return list(row.reshape.shape if row.HasField("reshape") else row.dims)


def _type(row: Any) -> str:
    return str(row.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[row.data_type].name)


def _refuse_bf16(project: Project, name: str, config: ModelConfig) -> None:
    for side in ("input", "output"):
        for row in getattr(config, side):
            if _type(row) == "TYPE_BF16":
                where = project.where("models", name, f"{side}s", row.name)
                raise ConfigError(f"{where}: '{row.name}' is TYPE_BF16, which numpy lacks; use TYPE_FP32")


def _arguments(project: Project, name: str, text: str) -> Any:
    where = project.where("models", name, "parameters", "arguments")
    try:
        arguments = json.loads(text)
    except ValueError as exc:
        raise ConfigError(f"{where}: the arguments are no JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        raise ConfigError(f"{where}: the arguments are a {type(arguments).__name__}; names and their values are needed")
    return arguments


def _plain(array: Array, *, as_text: bool) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    return [value.decode("utf-8", "replace") if as_text and isinstance(value, bytes) else value for value in values]
