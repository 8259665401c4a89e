# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A transformers directory as files: which of them count, and what can be refused before anything is loaded.

The layout is that of ``PreTrainedModel.save_pretrained`` and of the repositories on the Hugging Face hub.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtkit.errors import ExportError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
# in the order in which transformers looks for them; an index names the files it is split into
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_ADAPTER = "adapter_config.json"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARY = ("vocab.txt", "vocab.json", "merges.txt", "*.model")
# parts of weights, in the two forms
_SHARDS = ("*.safetensors", "*.bin")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def files_of(folder: Path) -> list[Path]:
    """The files that decide what is loaded from a directory, sorted.

    Those of the fixed names are given even where they are absent, because a file that appears changes the
    result as well: hash each with `trtkit.artifacts.hash_file`, which knows ``absent``. Weights are read by
    safetensors in Rust, where no audit hook of Python sees them.
    """
    names = {CONFIG, PREPROCESSOR, _ADAPTER, *_WEIGHTS, *_TOKENIZER}
    found = {path for pattern in (*_VOCABULARY, *_SHARDS) for path in folder.glob(pattern)}
    return sorted({folder / name for name in names} | found)


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer was saved with the model."""
    return any(True for pattern in (*_TOKENIZER[:2], *_VOCABULARY) for _ in folder.glob(pattern))


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """``config.json``, checked for what no loading could mend.

    Raises:
        ExportError: it is absent or no JSON object, or the directory holds an adapter, quantized weights, or
            none that torch reads.
    """
    if not (folder / CONFIG).is_file():
        raise ExportError(f"{where}: {_no_config(folder)}")
    config = read_json(folder / CONFIG, where)
    if method := config.get("quantization_config"):
        name = method.get("quant_method", "") if isinstance(method, dict) else ""
        raise ExportError(
            f"{where}: the weights in {folder.name} are quantized ({name or 'quantization_config'}), which no ONNX "
            "graph can be made of; give the unquantized model and choose `precision:` here"
        )
    if (folder / _ADAPTER).is_file():
        raise ExportError(f"{where}: {_adapter(folder)}")
    for file in _weight_files(folder, where):
        with file.open("rb") as opened:
            if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ExportError(
                    f"{where}: {folder.name}/{file.name} is a pointer of Git LFS and not the weights; run: git lfs pull"
                )
    return config


def read_json(file: Path, where: str) -> dict[str, Any]:
    """A JSON object; ExportError for anything else."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise ExportError(f"{where}: {file.parent.name}/{file.name} cannot be read as JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ExportError(f"{where}: {file.parent.name}/{file.name} holds no JSON object")
    return value


def _no_config(folder: Path) -> str:
    if (folder / _ADAPTER).is_file():
        return _adapter(folder)
    held = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(held[:10]) + (", …" if len(held) > 10 else "")
    found = f"it has no {CONFIG}, only {shown}" if held else "it is empty"
    return f"{folder.name} is no transformers directory: {found}; save one with save_pretrained"


def _adapter(folder: Path) -> str:
    return (
        f"{folder.name} holds a PEFT adapter, which is no model by itself; merge it into its base model "
        "(merge_and_unload) and save that with save_pretrained"
    )


def _weight_files(folder: Path, where: str) -> Iterator[Path]:
    """The files with the weights that transformers will take."""
    first = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        other = sorted(path.name for pattern in ("*.h5", "*.msgpack", *_SHARDS) for path in folder.glob(pattern))
        held = f"; {', '.join(other)} is none of these" if other else ""
        raise ExportError(
            f"{where}: {folder.name} has no weights: neither {_WEIGHTS[0]} nor {_WEIGHTS[2]} nor the index of a split "
            f"one is there{held}"
        )
    if first.suffix != ".json":
        yield first
        return
    parts = read_json(first, where).get("weight_map")
    for name in sorted(set(map(str, parts.values()))) if isinstance(parts, dict) else ():
        if not (folder / name).is_file():
            raise ExportError(f"{where}: {folder.name}/{first.name} names {name}, which is not there; copy it too")
        yield folder / name
