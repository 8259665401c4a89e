# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a transformers model takes: the tokenizer's tensors, an image, or what the project file says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtkit.errors import ExportError, nearest
from trtkit.export.huggingface_folder import PREPROCESSOR, has_tokenizer, read_json
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.project import InputSpec

_EXAMPLE = "inputs: {input_ids: {data_type: INT64, shape: [batch, sequence]}}"


def input_specs(
    transformers: Any, model: Any, folder: Path, given: Mapping[str, InputSpec], where: str
) -> dict[str, InputSpec]:
    """The model's inputs by the names that its ``forward`` has for them, in the order in which they are served.

    Args:
        transformers: the module.
        model: a loaded PreTrainedModel.
        folder: the directory; its tokenizer and preprocessor are read where they are needed.
        given: the project file's ``inputs:``; they win, and integers need no data type there.
        where: for messages.

    Raises:
        ExportError: a given name is no parameter of ``forward``, the tokenizer cannot be read, or nothing says
            what the model takes.
    """
    name = type(model).__name__
    parameters = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    for key in given:
        if key not in parameters:
            raise ExportError(
                f"{where}: `inputs:` names '{key}', which {name} does not take; {nearest(key, parameters)}"
            )
    if given:
        return {key: _with_type(key, value) for key, value in given.items()}
    main = getattr(model, "main_input_name", "")
    if main == "pixel_values":
        return {main: InputSpec(data_type="FP32", shape=["batch", *_image(model.config, folder, where)])}
    if main != "input_ids":
        raise ExportError(
            f"{where}: {name} takes {main or 'tensors'}, whose shape nothing here says; add `inputs:`, as in inputs: "
            f"{{{main or 'x'}: {{data_type: FP32, shape: [batch, 16000]}}}}"
        )
    tokens = InputSpec(data_type="INT64", shape=["batch", "sequence"])
    return dict.fromkeys(_token_names(transformers, model, parameters, folder, where), tokens)


def _with_type(name: str, given: InputSpec) -> InputSpec:
    """Ids, masks and boxes are INT64 unless the project file says otherwise."""
    integers = name.endswith(("_ids", "_mask")) or name == "bbox"
    if "data_type" in given.model_fields_set or not integers or name == "pixel_mask":
        return given
    return given.model_copy(update={"data_type": "INT64"})


def _token_names(transformers: Any, model: Any, parameters: list[str], folder: Path, where: str) -> list[str]:
    """What the tokenizer gives and the model takes; without a tokenizer, what one of its kind would give."""
    if not has_tokenizer(folder):
        types = getattr(model.config, "type_vocab_size", 0) or 0
        usual = ["input_ids", "attention_mask", *(["token_type_ids"] if types > 1 else [])]
        return [name for name in usual if name in parameters]
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            names = list(tokenizer.model_input_names)
    except Exception as exc:  # transformers, tokenizers and sentencepiece raise anything for damaged files
        reason = f"{type(exc).__name__}: {one_line(exc).rstrip('.')}"
        if "trust_remote_code" in reason:
            reason = "it needs Python code of its own, which is never run from a directory"
        raise ExportError(
            f"{where}: the tokenizer in {folder.name} cannot be read: {reason}; mend it, or say what the model takes, "
            f"as in {_EXAMPLE}"
        ) from exc
    taken = [name for name in names if name in parameters]
    return taken if "input_ids" in taken else ["input_ids", *taken]


def _image(config: Any, folder: Path, where: str) -> list[int]:
    """[channels, height, width] of the configuration, else of the preprocessor."""
    size = getattr(config, "image_size", None)
    if size is None and (folder / PREPROCESSOR).is_file():
        settings = read_json(folder / PREPROCESSOR, where)
        size = settings.get("crop_size") if settings.get("do_center_crop", True) else None
        size = size or settings.get("size")
    channels = getattr(config, "num_channels", None) or 3
    pair = _pair(size)
    if pair is None or not isinstance(channels, int):
        raise ExportError(
            f"{where}: neither config.json (image_size) nor {PREPROCESSOR} (size) in {folder.name} says how large an "
            "image is; add `inputs:`, as in inputs: {pixel_values: {shape: [batch, 3, 224, 224]}}"
        )
    return [channels, *pair]


def _pair(size: Any) -> list[int] | None:
    """Height and width of the forms that transformers writes: 224, [224, 160], {height:, width:}, {shortest_edge:}."""
    if isinstance(size, Mapping):
        size = [size.get("height"), size.get("width")] if "height" in size else size.get("shortest_edge")
    pair = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    whole = [side for side in pair if isinstance(side, int) and not isinstance(side, bool) and side > 0]
    return whole if len(whole) == len(pair) == 2 else None
