# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which backend a model is for: platform, backend, runtime."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from difflib import get_close_matches

from trtkit.config import ModelConfig
from trtkit.lint.core_autofill import AOTI_SINCE
from trtkit.lint.edits import removed, set_value
from trtkit.lint.finding import Edit, Fix, Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule

ENSEMBLE = "ensemble"
_PLATFORMS = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch",),
}
_AHEAD_OF_TIME = "torch_aoti"
# backends whose only library is libtriton_NAME.so
_OF_THE_IMAGES = ("onnxruntime", "openvino", "python", "tensorflow", "tensorrt", "dali", "fil", "tensorrtllm")


@rule("PLT001", "backend-not-determined", server=True)
def backend_not_determined(model: Model) -> Iterator[Found]:
    """Neither the config nor the files tell which backend runs the model.

    Without backend, platform and default_model_filename the core looks at the file names in the first version
    folder, then takes what stands behind the dot in the model's name for the backend (core:
    model_config_utils.cc, AutoCompleteBackendFields).

    Wrong:
        max_batch_size: 8    # and 1/weights.onnx

    Right:
        backend: "onnxruntime"
        max_batch_size: 8
        default_model_filename: "weights.onnx"
    """
    config = model.config
    if not (config.backend or config.platform or config.default_model_filename):
        yield model.found(
            (),
            f"Invalid model name: Could not determine backend for model '{model.name}' with no backend in model "
            "configuration. Expected model name of the form 'model.<backend_name>'; set backend, or give the model "
            "file its usual name (model.onnx, model.plan, model.pt, model.py, model.xml)",
        )


@rule("PLT002", "unexpected-platform", server=True, fixable=True)
def unexpected_platform(model: Model) -> Iterator[Found]:
    """The config has no backend, and its platform is none that stands for one.

    Platforms that stand for a backend: tensorrt_plan, onnxruntime_onnx, pytorch_libtorch, tensorflow_graphdef,
    tensorflow_savedmodel; and ensemble (core: model_config_utils.cc, ValidateModelConfig).

    Wrong:
        platform: "python"

    Right:
        backend: "python"
    """
    config = model.config
    if config.backend or config.platform == ENSEMBLE or not (config.platform or config.default_model_filename):
        return
    path = ("platform",) if config.platform else ("default_model_filename",)
    meant = f'"{config.platform}"' if config.platform in (*_PLATFORMS, *_OF_THE_IMAGES) else '"..."'
    fix = _rename_platform(model) if meant != '"..."' else None
    words = f"unexpected platform type '{config.platform}' for {config.name}; set backend: {meant}"
    yield model.found(path, f"{words} instead of the platform" if config.platform else words, fix=fix)


def _rename_platform(model: Model) -> Fix | None:
    """Call the field `backend`: its value is a backend's name."""
    document = model.document
    if document is None or ("platform",) not in document.spans:
        return None
    span = document.spans[("platform",)]
    return Fix("rename platform to backend", (Edit(span.start, span.start + len("platform"), "backend"),))


@rule("PLT003", "platform-and-backend-differ", server=True, fixable=True)
def platform_and_backend(model: Model) -> Iterator[Found]:
    """The platform and the backend are of two different backends.

    For tensorrt, onnxruntime, pytorch and tensorflow the platform has to be the backend's own; only tensorflow
    does not fill it in (core: model_config_utils.cc, ValidateModelConfig).

    Wrong:
        backend: "onnxruntime"
        platform: "tensorrt_plan"

    Right:
        backend: "onnxruntime"
    """
    config = model.config
    allowed = _PLATFORMS.get(config.backend)
    if allowed is None or config.platform in allowed or config.platform == ENSEMBLE:
        return
    if config.platform == _AHEAD_OF_TIME and config.backend == "pytorch" and model.server.is_from(AOTI_SINCE):
        return
    expected = " or ".join(allowed)
    yield model.found(
        ("platform",) if model.written.platform else ("backend",),
        f"unexpected 'platform' and 'backend' pair, got:{config.platform}, {config.backend}; "
        f"the platform of {config.backend} is {expected}",
        fix=_without_platform(model, config),
    )


def _without_platform(model: Model, config: ModelConfig) -> Fix | None:
    """Drop the platform where the version folders hold the backend's file: then the backend is what was meant."""
    usual = {"tensorrt": "model.plan", "onnxruntime": "model.onnx", "pytorch": "model.pt"}.get(config.backend)
    files = [model.entry(f"{version}/{usual}") for version in model.version_folders]
    if not usual or not files or None in files:
        return None
    return removed(model.document, ("platform",))


@rule("PLT004", "runtime-not-found", server=True, fixable=True)
def runtime_not_found(model: Model) -> Iterator[Found]:
    """The runtime names a library that the backend does not have.

    The server looks for it in the version folder, the model folder and the backend's own folder, where the
    backends of NVIDIA's images have libtriton_BACKEND.so (pytorch also model.py) and nothing else (core:
    backend_model.cc, GetBackendLibraryProperties).

    Wrong:
        backend: "python"
        runtime: "model.py"

    Right:
        backend: "python"
    """
    config = model.config
    runtime = config.runtime
    if not runtime or config.backend not in _OF_THE_IMAGES:
        return
    own = {f"libtriton_{config.backend}.so", f"triton_{config.backend}.dll"}
    if _in_backend_folder(config.backend, runtime) in own:
        return
    if runtime == "model.py":
        words = f"unable to find Python backend based backend library 'model.py' for model '{config.name}'"
    elif any(model.entry(posixpath.join(folder, runtime)) for folder in ("", *map(str, model.version_folders))):
        return
    else:
        words = f"unable to find backend library '{runtime}' for model '{config.name}'"
    yield model.found(
        ("runtime",),
        f"{words}; backend '{config.backend}' has libtriton_{config.backend}.so, which needs no runtime",
        fix=removed(model.document, ("runtime",)),
    )


def _in_backend_folder(backend: str, runtime: str) -> str:
    """The runtime's path inside the backend's folder: '../python/x.so' of python is 'x.so'."""
    return posixpath.relpath(posixpath.join("/", backend, runtime), f"/{backend}")


@rule("PLT005", "backend-not-there", server=True, depends_on_server=True)
def backend_not_there(model: Model) -> Iterator[Found]:
    """The server does not have the backend.

    Known only where the server's backends are. A model may bring its backend's library itself, in its folder or
    the version's (core: backend_model.cc, GetBackendRuntimeLibraryName).

    Wrong:
        backend: "onnxruntme"

    Right:
        backend: "onnxruntime"
    """
    config, there = model.config, model.server.backends
    if there is None or not config.backend or config.runtime or config.backend in there or config.platform == ENSEMBLE:
        return
    library = f"libtriton_{config.backend}.so"
    if not any(model.entry(posixpath.join(folder, library)) for folder in ("", *map(str, model.version_folders))):
        yield model.found(
            ("backend",) if model.written.backend else (),
            f"unable to find backend library for backend '{config.backend}', try specifying runtime on the model "
            f"configuration; the server has {', '.join(sorted(there)) or 'no backends'}",
        )


_KNOWN = (
    "armnn_tflite", "dali", "dali_backend", "fil", "fastertransformer", "identity", "iterative_sequence", "onnxruntime",
    "openvino", "python", "pytorch", "repeat", "sequence", "square", "tensorflow", "tensorrt", "tensorrtllm", "vllm",
)  # fmt: skip


@rule("PLT006", "backend-misspelt", Severity.WARNING, fixable=True)
def backend_misspelt(model: Model) -> Iterator[Found]:
    """The backend's name is nearly that of one of NVIDIA's.

    A backend may have any name, so this is no error; a server without it says "unable to find backend library"
    (core: backend_model.cc).

    Wrong:
        backend: "pyhton"

    Right:
        backend: "python"
    """
    backend = model.written.backend
    if backend in ("", *_KNOWN) or model.server.backends is not None:
        return
    for near in get_close_matches(backend, _KNOWN, n=1, cutoff=0.8):
        words = f"there is no backend '{backend}' in NVIDIA's images; did you mean '{near}'?"
        yield model.found(("backend",), words, fix=set_value(model.document, ("backend",), f'"{near}"'))


RULES = (
    backend_not_determined,
    unexpected_platform,
    platform_and_backend,
    runtime_not_found,
    backend_not_there,
    backend_misspelt,
)
