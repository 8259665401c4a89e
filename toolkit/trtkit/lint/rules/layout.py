# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Names in a repository: the models' folders, and what the server takes for a model or a config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model, Repository
from trtkit.lint.rule import repository_rule, rule
from trtkit.repository import CONFIG_FILE

_JUNK = ("__pycache__", "lost+found", "__MACOSX")
_OUTSIDE_URLS = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@-]")
_MODEL_FILES = (".onnx", ".plan", ".engine", ".pt", ".pth", ".pbtxt", ".safetensors", ".xml", ".savedmodel")


def is_leftover(model: Model) -> bool:
    """Whether a folder was surely not meant as a model: another program made it, and nothing of a model is in it."""
    named = model.name.startswith(".") or model.name in _JUNK
    return named and not model.version_folders and model.entry(CONFIG_FILE) is None


@rule("LAY001", "name-is-not-the-directory", server=True, fixable=True)
def name_differs(model: Model) -> Iterator[Found]:
    """The config's name is not that of the model's folder.

    A name may be left out; the core then takes the folder's (model_repository_manager.cc, InitializeModelInfo).

    Wrong:
        digits/config.pbtxt: name: "digit"

    Right:
        digits/config.pbtxt: name: "digits"
    """
    name = model.written.name
    if name and name != model.name and model.document is not None:
        words = f"unexpected directory name '{model.name}' for model '{name}', directory name must equal model name"
        quoted = model.name.replace("\\", "\\\\").replace('"', '\\"')
        fix = set_value(model.document, ("name",), f'"{quoted}"') if model.name.isprintable() else None
        yield model.found(("name",), words, fix=fix)


@rule("LAY009", "leftover-folder-is-a-model", server=True, needs_config=False)
def leftover_is_a_model(model: Model) -> Iterator[Found]:
    """A folder that some program left in the repository is a model to the server, and one that does not load.

    The server takes every folder for a model, those with a dot in front too. One that does not load ends the
    start of a server that loads all models.

    Wrong:
        model_repository/.ipynb_checkpoints/

    Right:
        model_repository/digits/
    """
    if is_leftover(model):
        yield model.found_in("", f"the server takes '{model.name}' for a model, and it has no version; remove it")


@rule("LAY010", "hidden-model", Severity.WARNING, needs_config=False)
def hidden_model(model: Model) -> Iterator[Found]:
    """A model's folder has a dot in front of its name; the server serves it all the same.

    Renaming it so does not take a model out of service.

    Wrong:
        model_repository/.digits_old/1/model.onnx

    Right:
        (moved out of the repository)
    """
    if model.name.startswith(".") and not is_leftover(model):
        yield model.found_in("", f"'{model.name}' is served as a model; move it out of the repository to hide it")


@rule("LAY011", "name-outside-urls", Severity.WARNING, needs_config=False)
def name_outside_urls(model: Model) -> Iterator[Found]:
    """The model's name has characters that no HTTP client can send as they are.

    The server compares the name with the URL's text without decoding it (2.51), so ``my model``, asked for as
    ``my%20model``, is not found over HTTP; gRPC reaches it. A name with ``..`` is refused by newer servers
    ("model name must not contain path traversal characters").

    Wrong:
        model_repository/my model/

    Right:
        model_repository/my_model/
    """
    bad = list(dict.fromkeys(_OUTSIDE_URLS.findall(model.name)))
    if bad:
        shown = " ".join(repr(each) for each in bad)
        words = f"the model's name has {shown}, so HTTP clients cannot reach it"
        yield model.found_in("", f"{words}; use letters, digits, _")
    elif ".." in model.name:
        yield model.found_in("", "the model's name has '..', which newer servers refuse; use letters, digits, _")


@repository_rule("LAY012", "names-differ-by-case", Severity.WARNING)
def names_differ_by_case(repository: Repository) -> Iterator[Found]:
    """Two models' names differ only in capital letters.

    They become one folder on file systems of macOS and Windows, and people take one for the other.

    Wrong:
        model_repository/Digits/
        model_repository/digits/

    Right:
        model_repository/digits/
        model_repository/digits_v2/
    """
    first: dict[str, str] = {}
    for name in sorted(repository.models):
        other = first.setdefault(name.casefold(), name)
        if other != name:
            yield Found(name, f"'{name}' differs from '{other}' only in capital letters; rename one")


@repository_rule("LAY013", "file-beside-the-models", Severity.ADVICE)
def file_beside_models(repository: Repository) -> Iterator[Found]:
    """A model file or config lies in the repository itself, where the server does not look.

    The core lists only the folders of a repository (filesystem, GetDirectorySubdirs).

    Wrong:
        model_repository/digits.onnx

    Right:
        model_repository/digits/1/model.onnx
    """
    for entry in repository.tree.entries(""):
        if entry.kind == "file" and entry.name.endswith(_MODEL_FILES):
            yield Found(entry.name, f"'{entry.name}' is in no model's folder, and not served; move it into one")


@repository_rule("LAY014", "broken-link-in-repository", server=True)
def broken_link_in_repository(repository: Repository) -> Iterator[Found]:
    """A link in the repository leads nowhere, and the server reads no model of it.

    The core looks at each entry of the repository, and one that it cannot look at ends that (filesystem,
    GetDirectorySubdirs). Models loaded by name are found.

    Wrong:
        model_repository/digits -> /mnt/gone

    Right:
        model_repository/digits -> /mnt/models/digits
    """
    for entry in repository.tree.entries(""):
        if entry.kind == "broken":
            words = f"failed to poll model repository: failed to stat file {entry.name}"
            yield Found(entry.name, f"{words}; it is a link that leads nowhere, remove it")


def looks_like_config(name: str) -> bool:
    """Whether a file was probably meant as config.pbtxt."""
    folded = name.casefold()
    if name == CONFIG_FILE or folded.endswith((".swp", "~", ".bak", ".orig")):
        return False
    return folded.startswith("config.pb") or SequenceMatcher(None, folded, CONFIG_FILE).ratio() > 0.85


@rule("LAY015", "config-under-another-name", Severity.WARNING, needs_config=False)
def config_under_another_name(model: Model) -> Iterator[Found]:
    """A file that was probably meant as config.pbtxt has another name or is in a version's folder: it is not read.

    The server then completes the config from the model file, or refuses the model where it is strict.

    Wrong:
        m/Config.pbtxt
        m/1/config.pbtxt

    Right:
        m/config.pbtxt
    """
    for place, name in _strays_of_config(model):
        yield model.found_in(place, f"'{name}' is not read; the config is config.pbtxt in the model's folder")


def _strays_of_config(model: Model) -> Iterable[tuple[str, str]]:
    if model.entry(CONFIG_FILE) is None:
        for entry in model.entries():
            if entry.kind == "file" and looks_like_config(entry.name):
                yield entry.name, entry.name
    for version in model.version_folders:
        if model.entry(f"{version}/{CONFIG_FILE}"):
            yield f"{version}/{CONFIG_FILE}", f"{version}/{CONFIG_FILE}"


RULES = (
    name_differs, leftover_is_a_model, hidden_model, name_outside_urls, names_differ_by_case, file_beside_models,
    broken_link_in_repository, config_under_another_name,
)  # fmt: skip
