# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of a model: those that its backend, its config and its warm-ups want, and those that are in the way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.layout import is_leftover, looks_like_config
from trtkit.repository import CONFIG_FILE

_USUAL = ("model.graphdef", "model.savedmodel", "model.plan", "model.onnx", "model.xml", "model.pt", "model.py")
_MAY_BE_FOLDER = ("onnxruntime", "tensorflow", "openvino")
_OF_EDITORS = re.compile(
    r"\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._|\.#|#.*#$|\.nfs[0-9a-f]|.*(?:\.sw[a-p]|~|\.bak|\.orig|\.rej|\.part|\.tmp)$",
    re.IGNORECASE | re.DOTALL,
)
_LFS = b"version https://git-lfs.github.com/spec/"
_MOST_LABELS = 2**24


@rule("LAY016", "no-config", server=True, needs_config=False)
def no_config(model: Model) -> Iterator[Found]:
    """There is no config.pbtxt, and the server does not complete configs.

    With ``--disable-auto-complete-config`` every model needs one.

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
        path = f"{path}/model.onnx" if config.backend == "onnxruntime" and _kind(model, path) == "folder" else path
        wrong = _missing(model, path)
        if wrong:
            yield model.found_in(str(version), wrong)


def _kind(model: Model, path: str) -> str | None:
    entry = model.entry(path)
    return None if entry is None else entry.kind


def _missing(model: Model, path: str) -> str:
    """What to say of a model file that is not there as it has to be; '' when it is."""
    kind, backend = _kind(model, path), model.config.backend
    folder, _, name = path.rpartition("/")
    if kind == "file" or (kind == "folder" and backend in _MAY_BE_FOLDER) or (kind and backend not in _KNOWN):
        return ""
    known = f"Python model file not found in '{path}'" if backend == "python" else f"unable to find '{path}'"
    if kind is not None:
        return f"{known}: it is {'a folder' if kind == 'folder' else 'a link that leads nowhere'}"
    there = [entry.name for entry in model.entries(folder) if not entry.name.startswith(".")]
    hint = nearest(name, there) if there else "the folder is empty"
    return f"{known} for model instance '{model.name}'; {hint}"


_KNOWN = ("onnxruntime", "tensorrt", "pytorch", "openvino", "python", "tensorflow")


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
            if model.entries(str(version)) and model.entry(f"{version}/{name}") is None:
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
            elif is_pointer(model, path):
                yield model.found_in(path, "the model file is a pointer of Git LFS; run: git lfs pull")


def is_pointer(model: Model, path: str) -> bool:
    """Whether a file is what Git LFS leaves in the place of a large one."""
    entry = model.entry(path)
    try:
        return entry is not None and 0 < entry.size < 1024 and model.read(path, len(_LFS)) == _LFS
    except OSError:
        return False


@rule("LAY021", "label-file-missing", server=True)
def label_file_missing(model: Model) -> Iterator[Found]:
    """The label file of an output is not there.

    label_filename is looked for in the model's folder, one with a slash in front as well (backend_model.cc). Where
    it is a folder the whole server ends.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "label.txt" }    # and m/labels.txt

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }
    """
    for index, output in enumerate(model.config.output):
        name = output.label_filename
        if not name or ".." in name.split("/"):
            continue
        kind = _kind(model, name.strip("/"))
        if kind not in ("file", "other"):
            there = [entry.name for entry in model.entries() if entry.kind == "file" and entry.name != CONFIG_FILE]
            words = f"failed to open text file for read {model.name}/{name.lstrip('/')}: No such file or directory"
            words = "label_filename is a folder, and the server ends at it" if kind == "folder" else words
            yield model.found(("output", index, "label_filename"), f"{words}; {nearest(name, there)}")


@rule("LAY022", "number-of-labels", Severity.WARNING)
def number_of_labels(model: Model) -> Iterator[Found]:
    """A label file has another number of lines than its output has elements.

    Line N is the label of element N; an element without a line has an empty label in classification answers.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }    # of 2 lines

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }    # of 10 lines
    """
    for index, output in enumerate(model.config.output):
        entry = model.entry(output.label_filename.strip("/")) if output.label_filename else None
        if entry is None or entry.kind != "file" or not output.dims or min(output.dims) < 1:
            continue
        try:
            text = model.read(output.label_filename.strip("/"), _MOST_LABELS)
        except OSError:
            continue
        lines, elements = len(text.splitlines()), math.prod(output.dims)
        if lines != elements and len(text) < _MOST_LABELS:
            words = f"{output.label_filename} has {lines} labels, and output '{output.name}' {elements} elements"
            yield model.found(("output", index, "label_filename"), f"{words}; write one line for each")


@rule("LAY023", "warm-up-file-unused", Severity.ADVICE)
def unused_warm_up(model: Model) -> Iterator[Found]:
    """A file in warmup/ is named by no input_data_file of the model's configs.

    Wrong:
        m/warmup/x    # and no model_warmup in config.pbtxt

    Right:
        model_warmup { name: "one" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4
          input_data_file: "x" } } }
    """
    files = [entry.name for entry in model.entries("warmup") if entry.kind == "file"]
    if not files or model.config_file != CONFIG_FILE:
        return
    used = {
        tensor.input_data_file
        for each in (model, *_variants(model))
        for warm_up in each.written.model_warmup
        for tensor in warm_up.inputs.values()
    }
    for name in files:
        if name not in used:
            yield model.found_in(f"warmup/{name}", f"no input_data_file of a model_warmup is '{name}'; remove it")


def _variants(model: Model) -> Iterator[Model]:
    for entry in model.entries("configs"):
        if entry.name.endswith(".pbtxt"):
            yield Model(model.repository, model.name, model.folder, f"configs/{entry.name}")


@rule("LAY024", "not-a-config-in-configs", Severity.ADVICE, needs_config=False)
def not_a_config(model: Model) -> Iterator[Found]:
    """A file in configs/ has no .pbtxt at its end, so no ``--model-config-name`` can mean it.

    Wrong:
        m/configs/l4.txt

    Right:
        m/configs/l4.pbtxt    # for --model-config-name=l4
    """
    for entry in model.entries("configs"):
        if not entry.name.endswith(".pbtxt"):
            words = f"--model-config-name finds only files that end with .pbtxt; rename '{entry.name}', or remove it"
            yield model.found_in(f"configs/{entry.name}", words)


@rule("LAY025", "broken-link", server=True, needs_config=False)
def broken_link(model: Model) -> Iterator[Found]:
    """A link in the model's folder leads nowhere, or to itself.

    Whatever it is for, the server refuses the model: it looks at each entry to find the versions (filesystem,
    GetDirectorySubdirs).

    Wrong:
        m/2 -> /mnt/gone

    Right:
        m/2 -> /mnt/models/m/2
    """
    for entry in model.entries():
        if entry.kind == "broken" and entry.name != model.config_file:
            words = f"failed to stat file {model.path(entry.name)}"
            yield model.found_in(entry.name, f"{words}: it is a link that leads nowhere; remove it, or mend it")


@rule("LAY026", "file-of-an-editor", Severity.ADVICE, needs_config=False)
def of_editors(model: Model) -> Iterator[Found]:
    """A file that an editor, a copy or an operating system left behind.

    The server reads none of them, but with ``--model-control-mode=poll`` each one that comes or goes loads the
    model anew.

    Wrong:
        m/.config.pbtxt.swp

    Right:
        m/config.pbtxt
    """
    for folder in ("", *(str(version) for version in model.version_folders)):
        for entry in model.entries(folder):
            if entry.kind == "file" and _OF_EDITORS.match(entry.name):
                path = f"{folder}/{entry.name}" if folder else entry.name
                yield model.found_in(path, f"'{entry.name}' is no file of the model; remove it")


@rule("LAY027", "name-is-the-start-of-the-config", Severity.WARNING, needs_config=False)
def start_of_config(model: Model) -> Iterator[Found]:
    """A file or folder has a name that config.pbtxt begins with, such as ``config``.

    The server then takes two entries for the config and notes no times of change (model_repository_manager.cc,
    ModelTimestamp), so it does not see when the model was changed.

    Wrong:
        m/config.pbtxt
        m/config

    Right:
        m/config.pbtxt
        m/settings.json
    """
    for entry in model.entries():
        if entry.name != CONFIG_FILE and CONFIG_FILE.startswith(entry.name) and model.entry(CONFIG_FILE):
            words = "Duplicate model config is detected, so a changed model is not noticed"
            yield model.found_in(entry.name, f"{words}: config.pbtxt begins with '{entry.name}'; rename it")


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
        if path.endswith(".xml") and _kind(model, path) == "file" and _kind(model, path[:-4] + ".bin") is None:
            name = path.rpartition("/")[2]
            yield model.found_in(path, f"'{name[:-4]}.bin' with the weights is not beside '{name}'; copy it there")


RULES = (
    no_config, model_file_missing, cc_file_missing, several_model_files, empty_or_pointer, label_file_missing,
    number_of_labels, unused_warm_up, not_a_config, broken_link, of_editors, start_of_config, weights_missing,
)  # fmt: skip
