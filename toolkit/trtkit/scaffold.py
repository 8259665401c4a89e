# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""New projects: a small working one, or one around an ONNX file whose batching was tried out first."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from trtkit.artifacts import file_errors
from trtkit.errors import ExportError, ProjectError
from trtkit.project import PROJECT_FILE, load_project
from trtkit.signature import Signature, TensorSpec

_IGNORED = """# what trtkit builds: the cache, and the published versions
.trtkit/
__pycache__/
/model_repository/*/[0-9]*/
/model_repository/*/warmup/
"""

_PROJECT = """# A trtkit project: `trtkit build` publishes it, `trtkit serve` serves it, `trtkit validate` proves it,
# `trtkit perf iris --concurrency 8` measures it. `trtkit schema` prints what may stand here.
repository: model_repository

models:
  iris:
    # where the model comes from: FILE.py:NAME of a function that returns a fitted scikit-learn estimator;
    # or onnx: FILE.onnx, or torch: FILE.py:NAME with `inputs:`
    source: {sklearn: train_iris.py:train}
    outputs: [label, probabilities]
    # real data with labels, and what the model is for: `trtkit validate` measures it on the served model
    evaluate:
      data: train_iris.py:holdout
      metric: top1
      output: probabilities
    # any field of Triton's ModelConfig, in its own words; inputs, outputs and dims follow from the model
    config:
      max_batch_size: 32
      dynamic_batching: {max_queue_delay_microseconds: 500}
      output: [{name: probabilities, label_filename: labels.txt}]
"""

_TRAIN = '''"""The project's model: three kinds of iris flowers from four measurements in centimetres."""

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def split():
    """Training and held-out rows [N, 4] and labels [N]."""
    rows, labels = load_iris(return_X_y=True)
    return train_test_split(rows.astype(np.float32), labels, test_size=0.3, random_state=0, stratify=labels)


def train():
    """The fitted pipeline that trtkit exports."""
    rows, _, labels, _ = split()
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(rows, labels)


def holdout():
    """(inputs, labels): what `trtkit validate` compares the served model with its reference on."""
    _, rows, _, labels = split()
    return {"x": rows}, labels
'''

_SAMPLE_FILES = {
    PROJECT_FILE: _PROJECT,
    "train_iris.py": _TRAIN,
    ".gitignore": _IGNORED,
    "model_repository/iris/labels.txt": "setosa\nversicolor\nvirginica\n",
}

_FROM_ONNX = """# A trtkit project around {file}, written by `trtkit init --from`.
# `trtkit build` publishes it, `trtkit serve` serves it, `trtkit validate` proves it.
repository: model_repository

models:
  {name}:
    source: {{onnx: {reference}}}
{signature}
    # evaluate: {{data: data.npz}}    # one array per input, axis 0 counts the samples; default: random data
    config:
{batching}
"""


def init_sample(folder: Path) -> list[Path]:
    """Write the small working project; returns the files.

    Raises:
        ProjectError: one of the files is there already.
    """
    return _write(folder, _SAMPLE_FILES)


def init_from_onnx(folder: Path, model: Path) -> list[Path]:
    """Write a project around an ONNX file, after exporting it once to see whether it batches.

    Args:
        folder: the project's folder.
        model: the ONNX file; the project refers to it where it is.

    Raises:
        ProjectError: there is no such file, or a project is there already.
        ExportError: the model cannot be served at all.
    """
    if not model.is_file():
        raise ProjectError(f"--from {model}: there is no such file")
    _refuse_existing(folder, [PROJECT_FILE])
    text = _project_text(folder, model)
    files = {PROJECT_FILE: text}
    if not (folder / ".gitignore").exists():
        files[".gitignore"] = _IGNORED
    return _write(folder, files)


def _project_text(folder: Path, model: Path) -> str:
    """The project file: with batching when the proof holds, else without and the reason as a comment."""
    known = {"file": model.name, "name": model_name(model.stem), "reference": _quoted(os.path.relpath(model, folder))}
    try:
        signature, size = _try_export(
            folder, _FROM_ONNX.format(**known, signature="", batching="      {}"), known["name"]
        )
        why = (
            "rows are independent: proven by running batches of 1, 2 and this size"
            if size
            else "its first axis is fixed"
        )
    except ExportError as exc:
        text = _FROM_ONNX.format(**known, signature="", batching="      max_batch_size: 0")
        signature, size = _try_export(folder, text, known["name"])
        why = re.sub(r"^\S+:\d+:\d+: ", "", str(exc)).partition("; export it")[0]
    batching = f"      max_batch_size: {size}    # {why}"
    return _FROM_ONNX.format(**known, signature=_comments(signature), batching=batching)


def _try_export(folder: Path, text: str, name: str) -> tuple[Signature, int]:
    from trtkit.export.stage import export_model

    with file_errors(f"writing to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, file = tempfile.mkstemp(prefix=".trtkit-init-", suffix=".yaml", dir=folder)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            exported = export_model(load_project(Path(file)), name, Path(scratch))
    finally:
        Path(file).unlink()
    return exported.signature, exported.max_batch_size


def _comments(signature: Signature) -> str:
    def lines(side: str, specs: tuple[TensorSpec, ...]) -> list[str]:
        return [f"    # {side} {_one_line(str(spec))}" for spec in specs]

    return "\n".join([*lines("input ", signature.inputs), *lines("output", signature.outputs)])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def model_name(stem: str) -> str:
    """A model name that Triton and the file system take, from a file's name."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", stem).lstrip(".-") or "model"


def _refuse_existing(folder: Path, names: list[str]) -> None:
    for name in names:
        if (folder / name).exists():
            raise ProjectError(f"{folder / name} is there already; choose another folder, or remove it")


def _write(folder: Path, files: dict[str, str]) -> list[Path]:
    _refuse_existing(folder, list(files))
    with file_errors(f"writing a project to {folder}"):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]
