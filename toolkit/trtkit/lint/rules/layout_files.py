# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A model's config and the files that its backend loads."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.layout import is_leftover, looks_like_config
from trtkit.repository import CONFIG_FILE

_USUAL = ("model.graphdef", "model.savedmodel", "model.plan", "model.onnx", "model.xml", "model.pt", "model.py")
_KNOWN = ("onnxruntime", "tensorrt", "pytorch", "openvino", "python", "tensorflow")
_MAY_BE_FOLDER = ("onnxruntime", "tensorflow", "openvino")


@rule("LAY016", "no-config", server=True, needs_config=False, depends_on_server=True)
def no_config(model: Model) -> Iterator[Found]:
    """There is no config.pbtxt, and the server does not complete configs.

    With ``--disable-auto-complete-config`` every model needs one (core: model_repository_manager.cc).

    Wrong:
        tritonserver --disable-auto-complete-config    # and m/1/model.onnx alone

    Right:
        m/config.pbtxt
        m/1/model.onnx
    """
    if model.config_file != CONFIG_FILE or is_leftover(model) or not model.server.strict:
        return
    if model.entry(CONFIG_FILE) is None and not (model.server.config_name and model.entries("configs")):
        words = f"failed to open text file for read {model.name}/{CONFIG_FILE}: No such file or directory"
        others = [entry.name for entry in model.entries() if looks_like_config(entry.name)]
        yield model.found_in("", f"{words}; rename '{others[0]}'" if others else words)


@rule("LAY017", "model-file-missing", server=True)
def model_file_missing(model: Model) -> Iterator[Found]:
    """A version that is served has no model file under the name that its backend looks for.

    The name is default_model_filename, or the backend's own: model.onnx (a file, or a folder with model.onnx in
    it), model.plan, model.pt, model.xml, model.py, model.savedmodel (a folder). A server whose Python model has
    no model.py does not refuse it: it waits for it without end and never becomes ready.

    Wrong:
        m/1/digits.onnx

    Right:
        m/1/model.onnx
    """
    config = model.config
    if config.platform == "ensemble":  # it has no files, whatever their name is
        return
    if config.runtime.endswith(".py") or (config.backend == "tensorrt" and config.cc_model_filenames):
        return
    folders = {entry.name for entry in model.entries() if entry.kind == "folder"}
    for version, path in model.model_files().items():
        if str(version) not in folders:
            continue
        path = f"{path}/model.onnx" if config.backend == "onnxruntime" and model.kind(path) == "folder" else path
        wrong = _missing(model, path)
        if wrong:
            yield model.found_in(str(version), wrong)


def _missing(model: Model, path: str) -> str:
    """What to say of a model file that is not there as it has to be; '' when it is."""
    kind, backend = model.kind(path), model.config.backend
    folder, _, name = path.rpartition("/")
    if kind == "file" or (kind == "folder" and backend in _MAY_BE_FOLDER) or (kind and backend not in _KNOWN):
        return ""
    known = f"Python model file not found in '{path}'" if backend == "python" else f"unable to find '{path}'"
    if kind:
        return f"{known}: it is {'a folder' if kind == 'folder' else 'a link that leads nowhere'}"
    there = [entry.name for entry in model.entries(folder) if not entry.name.startswith(".")]
    hint = nearest(name, there) if there else "the folder is empty"
    return f"{known} for model instance '{model.name}'; {hint}"


@rule("LAY018", "file-of-a-capability-missing", Severity.WARNING)
def cc_file_missing(model: Model) -> Iterator[Found]:
    """A file that cc_model_filenames names is not in a version's folder.

    The server misses it where it has a GPU of that compute capability; elsewhere the default file is used.

    Wrong:
        cc_model_filenames { key: "8.9" value: "l4.onnx" }    # and 1/model.onnx alone

    Right:
        cc_model_filenames { key: "8.9" value: "l4.onnx" }    # and 1/l4.onnx
    """
    for version in model.served_versions if model.config.backend != "tensorrt" else ():
        for key, name in sorted(model.config.cc_model_filenames.items()):
            if name and model.entries(str(version)) and model.entry(f"{version}/{name}") is None:
                words = f"unable to find '{version}/{name}' on GPUs of compute capability {key}"
                there = [entry.name for entry in model.entries(str(version))]
                yield model.found(("cc_model_filenames", key), f"{words}; {nearest(name, there)}")


@rule("LAY019", "several-model-files", Severity.ADVICE)
def several_model_files(model: Model) -> Iterator[Found]:
    """The config names no backend, and a version has model files of several.

    The core takes the first it knows of: TensorFlow, TensorRT, ONNX, OpenVINO, PyTorch, Python.

    Wrong:
        m/1/model.onnx
        m/1/model.plan

    Right:
        m/config.pbtxt: backend: "tensorrt"
        m/1/model.onnx
        m/1/model.plan
    """
    written = model.written
    if written.backend or written.platform or written.default_model_filename or not model.version_folders:
        return
    there = [name for name in _USUAL if model.entry(f"{model.version_folders[0]}/{name}")]
    if len(there) > 1:
        words = f"{', '.join(there)} are there and the config names no backend; the server takes {model.config.backend}"
        yield model.found((), f'{words}, write backend: "{model.config.backend}" if that is meant')


@rule("LAY020", "no-model-in-the-file", server=True)
def empty_or_pointer(model: Model) -> Iterator[Found]:
    """The model file is empty, or a pointer of Git LFS in its place.

    ONNX files and TensorRT plans are looked at by their own rules.

    Wrong:
        m/1/model.pt: version https://git-lfs.github.com/spec/v1

    Right:
        m/1/model.pt    # after git lfs pull
    """
    for path in model.model_files().values() if model.config.backend not in ("onnxruntime", "tensorrt") else ():
        entry = model.entry(path)
        if entry is not None and entry.kind == "file":
            if entry.size == 0:
                yield model.found_in(path, "the model file is empty; it was not written, or not to its end")
            elif model.is_pointer(path):
                yield model.found_in(path, "the model file is a pointer of Git LFS; run: git lfs pull")


@rule("LAY028", "openvino-weights-missing", Severity.WARNING)
def weights_missing(model: Model) -> Iterator[Found]:
    """An OpenVINO model has no .bin file beside its .xml file.

    The .xml file holds the graph, the .bin file of the same name its weights; only a model without weights has none.

    Wrong:
        m/1/model.xml

    Right:
        m/1/model.xml
        m/1/model.bin
    """
    for path in model.model_files().values() if model.config.backend == "openvino" else ():
        if path.endswith(".xml") and model.kind(path) == "file" and not model.kind(path[:-4] + ".bin"):
            name = path.rpartition("/")[2]
            yield model.found_in(path, f"'{name[:-4]}.bin' with the weights is not beside '{name}'; copy it there")


RULES = (
    no_config, model_file_missing, cc_file_missing, several_model_files, empty_or_pointer, weights_missing,
)  # fmt: skip
