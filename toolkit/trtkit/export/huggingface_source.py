# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""transformers directories to ONNX: the task follows from the architecture that config.json names.

Nothing is fetched and no code of the directory is run: weights are loaded with ``local_files_only``, without
``trust_remote_code``, and pickled ones as weights only.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import onnx

from trtkit.compat import require
from trtkit.errors import ExportError, nearest
from trtkit.export.huggingface_folder import CONFIG, read_config
from trtkit.export.huggingface_inputs import input_specs
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.export.sources import Predict
from trtkit.export.torch_source import convert_module
from trtkit.project import ModelSpec

# the classes that choose by model_type, for an architecture that is called differently
_BY_TASK = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "ForImageClassification": "AutoModelForImageClassification",
    "Model": "AutoModel",
}
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSpeechSeq2Seq", "EncoderDecoderModel")
_KEYS_SHOWN = 5
# most of a name is its task
_NEAR = 0.96


def convert_directory(folder: Path, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Export the model of a directory; inputs and outputs have the model's own names.

    Without ``inputs:`` they are the tokenizer's, INT64 [batch, sequence], or the image's, FP32 [batch, channels,
    height, width]. Outputs are the tensors of the model's answer; ``outputs:`` chooses among them where it holds
    their names, and renames them in order where it does not.

    Raises:
        ExportError: the directory is incomplete or damaged, its weights are not those of its architecture, the
            architecture is unknown or generates text, or torch cannot export it.
        MissingDependencyError: transformers or torch is not installed.
    """
    config = read_config(folder, where)
    with quiet():
        transformers = require("transformers")
        torch = require("torch")
    with _offline():
        found = _class(transformers, config, folder, where)
        model = _loaded(transformers, torch, found, folder, where).eval()
        inputs = input_specs(transformers, model, folder, spec.inputs, where)
    served = _served(torch, model, tuple(inputs), spec.output_names, where)
    return convert_module(served, spec.model_copy(update={"inputs": inputs}), where)


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's client refuses every request; only here, as the user's own code may want it to work."""
    with quiet():
        constants: Any = require("huggingface_hub.constants")
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _class(transformers: Any, config: Mapping[str, Any], folder: Path, where: str) -> Any:
    """The class of the architecture, or the one that is chosen by its task and ``model_type``."""
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise ExportError(
            f"{where}: {folder.name}/{CONFIG} has to name one architecture, as in "
            f'"architectures": ["BertForSequenceClassification"]; got {names!r}'
        )
    name = names[0]
    model_type = str(config.get("model_type", ""))
    if name.endswith(_GENERATIVE):
        raise _generative(name, where)
    with quiet():
        found: Any = getattr(transformers, name, None) if name.isidentifier() else None
    is_model = inspect.isclass(found) and issubclass(found, transformers.PreTrainedModel)
    if not is_model:
        return _by_task(transformers, name, model_type, config, where)
    if found.can_generate():
        raise _generative(name, where)
    wanted = getattr(found.config_class, "model_type", "")
    if model_type and wanted and model_type != wanted:
        raise ExportError(
            f"{where}: {folder.name}/{CONFIG} contradicts itself: the architecture {name} is of the model_type "
            f"'{wanted}', and '{model_type}' is given"
        )
    return found


def _generative(name: str, where: str) -> ExportError:
    return ExportError(
        f"{where}: {name} generates text token by token with a cache between the steps, which one call of a graph "
        "is not; serve it with Triton's vLLM or TensorRT-LLM backend, or give one forward pass of it by a `torch:` "
        "callable"
    )


def _by_task(transformers: Any, name: str, model_type: str, config: Mapping[str, Any], where: str) -> Any:
    if config.get("auto_map"):
        raise ExportError(
            f"{where}: the architecture {name} comes with Python code of its own (auto_map in {CONFIG}), which is "
            "never run from a directory; load it in your own Python file and give it by a `torch:` callable"
        )
    task = next((auto for suffix, auto in _BY_TASK.items() if name.endswith(suffix)), "")
    if not task or model_type not in transformers.CONFIG_MAPPING:
        saved = f" ({config['transformers_version']})" if config.get("transformers_version") else ""
        known = [n for n in dir(transformers) if n.endswith(tuple(_BY_TASK)) and "Auto" not in n]
        near = get_close_matches(name, known, n=1, cutoff=_NEAR)  # there are over a thousand
        remedy = f"did you mean '{near[0]}'?" if near else f"install the version it was saved with{saved}"
        of_type = f" (model_type {model_type!r})" if model_type else ""
        raise ExportError(
            f"{where}: transformers {transformers.__version__} has no architecture {name}{of_type}; {remedy}"
        )
    return getattr(transformers, task)


def _loaded(transformers: Any, torch: Any, found: Any, folder: Path, where: str) -> Any:
    """The model with its weights as FP32; whatever transformers would fill with random values is refused."""
    # the argument was renamed in 4.56, and the old name is gone in 5
    dtype = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"
    options: dict[str, Any] = {dtype: torch.float32}
    try:
        with quiet():
            # eager: masks are added as finite numbers; sdpa's graph has an IsNaN and a Where behind each Softmax
            model, report = found.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True,
                ignore_mismatched_sizes=True, attn_implementation="eager", **options,
            )  # fmt: skip
    except Exception as exc:  # transformers, safetensors and pickle raise anything for damaged files
        reason = f"{type(exc).__name__}: {one_line(exc)}"
        if "UnpicklingError" in _names_behind(exc):
            reason = "its .bin file is damaged or holds Python objects, which are never loaded; save it as safetensors"
        raise ExportError(f"{where}: {found.__name__} cannot be loaded from {folder.name}: {reason}") from exc
    _check_weights(report, type(model).__name__, folder, where)
    return model


def _names_behind(exc: BaseException | None) -> Iterator[str]:
    """The class of an exception and of those that it was raised for."""
    while exc is not None:
        yield type(exc).__name__
        exc = exc.__cause__ or exc.__context__


def _check_weights(report: Mapping[str, Any], name: str, folder: Path, where: str) -> None:
    if wrong := sorted(report["mismatched_keys"]):
        first = wrong[0]  # 4.57 has the name only, versions before and after it the two shapes too
        if isinstance(first, str):
            has = f"{first} has another shape than {name} needs"
        else:
            has = f"{first[0]} has the shape {list(first[1])}, and {name} needs {list(first[2])}"
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ExportError(f"{where}: the weights in {folder.name} are not those of its {CONFIG}: {has}{others}")
    if missing := sorted(report["missing_keys"]):
        shown = ", ".join(missing[:_KEYS_SHOWN]) + (", …" if len(missing) > _KEYS_SHOWN else "")
        raise ExportError(
            f"{where}: the weights in {folder.name} lack {len(missing)} that {name} needs, and transformers would take "
            f"random values: {shown}; save the whole trained model, or name the architecture it has in {CONFIG}"
        )
    if messages := report["error_msgs"]:
        raise ExportError(f"{where}: {name} cannot be loaded from {folder.name}: {' '.join(str(messages[0]).split())}")


def _served(torch: Any, model: Any, names: tuple[str, ...], wanted: Sequence[str], where: str) -> Any:
    """A module of positional tensors that answers with the tensors of the model's answer, by their names."""
    model.config.use_cache = False

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            answer = self.model(**dict(zip(names, tensors, strict=True)), return_dict=True)
            # what is no tensor is a cache, or one value per layer
            own = {key: value for key, value in answer.items() if isinstance(value, torch.Tensor)}
            return _chosen(own, wanted, where)

    Served.__name__ = type(model).__name__
    return Served()


def _chosen(own: dict[str, Any], wanted: Sequence[str], where: str) -> dict[str, Any]:
    """The outputs that are served, by the model's own names.

    Raises:
        ExportError: ``outputs:`` mixes the model's names with others, or renames another number of outputs.
    """
    known = [name for name in wanted if name in own]
    if wanted and len(known) == len(wanted):
        return {name: own[name] for name in wanted}
    if known:
        other = next(name for name in wanted if name not in own)
        raise ExportError(
            f"{where}: `outputs:` has '{known[0]}', which the model gives, and '{other}', which it does not; "
            f"{nearest(other, own)}"
        )
    if wanted and len(wanted) != len(own):
        raise ExportError(
            f"{where}: `outputs:` has {len(wanted)} new names ({', '.join(wanted)}) for the {len(own)} outputs of the "
            f"model: {', '.join(own)}"
        )
    return own
