# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of folders: a model's own, its versions', and what else the server takes for one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher

from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import NO_VERSIONS, Found, Model, Repository, version_of
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


@rule("LAY002", "no-version", server=True)
def no_version(model: Model) -> Iterator[Found]:
    """There is no version folder: one whose name is a whole number without zeros in front.

    An ensemble needs one too; it may be empty (model_lifecycle.cc, VersionsToLoad).

    Wrong:
        digits/model.onnx
        digits/config.pbtxt

    Right:
        digits/1/model.onnx
        digits/config.pbtxt
    """
    if model.version_folders or is_leftover(model) or not (model.config.backend or model.config.platform):
        return
    words = f"at least one version must be available under the version policy of model '{model.name}'"
    zeros = [entry.name for entry in model.entries() if entry.kind == "folder" and _has_zeros(entry.name)]
    files = [entry.name for entry in model.entries() if entry.kind == "file" and entry.name.isdecimal()]
    if zeros:
        words += f"; '{zeros[0]}' is ignored because of its leading zeros, rename it to '{int(zeros[0])}'"
    elif files:
        words += f"; '{files[0]}' is a file, put it into a folder of that name"
    else:
        words += "; put the model file into a folder named 1"
    yield model.found_in("", words)


def _has_zeros(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) > 1 and name[0] == "0"


@rule("LAY003", "version-policy-serves-nothing", server=True)
def nothing_served(model: Model) -> Iterator[Found]:
    """The version policy leaves no version: none of those it names is there, or it serves the latest 0.

    ``latest { }`` means the latest 0 versions, too: protobuf does not tell 0 from absent.

    Wrong:
        version_policy { latest { } }

    Right:
        version_policy { latest { num_versions: 1 } }
    """
    if not model.version_folders or model.served_versions:
        return
    policy = model.config.version_policy
    kind = str(policy.WhichOneof("policy_choice"))
    there = ", ".join(map(str, model.version_folders))
    path = ("version_policy", kind, "num_versions" if kind == "latest" else "versions")
    words = f"at least one version must be available under the version policy of model '{model.name}'"
    asked = ", ".join(map(str, policy.specific.versions)) or "none"
    given = "num_versions is 0" if kind == "latest" else f"it names {asked}"
    yield model.found(path, f"{words}: {given}, and there is {there}")


@rule("LAY004", "version-not-there", Severity.WARNING)
def version_not_there(model: Model) -> Iterator[Found]:
    """The version policy names a version that has no folder; the others are served.

    Wrong:
        version_policy { specific { versions: [ 1, 9 ] } }    # and folders 1, 2

    Right:
        version_policy { specific { versions: [ 1, 2 ] } }
    """
    if not model.served_versions:
        return
    for index, version in enumerate(model.config.version_policy.specific.versions):
        if version not in model.version_folders:
            path = ("version_policy", "specific", "versions", index)
            words = f"version {version} is specified for model '{model.name}', but the version directory is not present"
            yield model.found(path, f"{words}; there is {', '.join(map(str, model.version_folders))}")


@rule("LAY005", "version-under-another-name", server=True)
def version_under_another_name(model: Model) -> Iterator[Found]:
    """A folder counts as a version that is served, but the server looks for its files under the bare number.

    The core reads a number from the start of the name and leaves the rest, so ``7.tmp`` or ``2_backup`` is the
    latest version, and ``7`` or ``2`` is not there (model_lifecycle.cc, VersionsToLoad).

    Wrong:
        m/1/model.onnx
        m/2_backup/model.onnx

    Right:
        m/1/model.onnx
        m/old/model.onnx
    """
    for name, version in _other_names(model):
        if version in model.served_versions:
            words = f"'{name}' counts as version {version}, which is served, and there is no folder {version}"
            rename = f"rename it to {version}, or to something that does not start with a number"
            yield model.found_in(name, f"{words}; {rename}")


@rule("LAY006", "folder-counts-as-version", Severity.ADVICE)
def folder_counts_as_version(model: Model) -> Iterator[Found]:
    """A folder counts as a version that is not served now; with another version policy it would be.

    See version-under-another-name.

    Wrong:
        m/1.old/
        m/2/model.onnx

    Right:
        m/old/
        m/2/model.onnx
    """
    for name, version in _other_names(model):
        if version not in model.served_versions:
            yield model.found_in(name, f"'{name}' counts as version {version}; let its name start with a letter")


def _other_names(model: Model) -> Iterator[tuple[str, int]]:
    """Folders that count as a version which has no folder under its own number."""
    folders = {entry.name for entry in model.entries() if entry.kind == "folder"}
    for name in sorted(folders):
        version = version_of(name)
        # the path is made with an unsigned number, so a folder -1 is not found under its own name
        if version is not None and (version < 0 or str(version) not in folders):
            yield name, version


@rule("LAY029", "version-too-large", server=True, needs_config=False)
def version_too_large(model: Model) -> Iterator[Found]:
    """A folder's name is a number that no version can be; the whole server ends when it looks at it.

    Versions have 64 bits. The core does not catch what its conversion throws at a larger number
    (model_lifecycle.cc, VersionsToLoad), so all other models go down with it.

    Wrong:
        m/20240131235959000000/model.onnx

    Right:
        m/20240131235959/model.onnx
    """
    for entry in model.entries():
        number = re.match(r"\s*[+-]?(\d{19,})", entry.name, re.ASCII) if entry.kind == "folder" else None
        if number and not entry.name.startswith("0") and version_of(entry.name) is None:
            words = f"'{entry.name}' is no version: at a number of more than 64 bits the server ends"
            yield model.found_in(entry.name, f"{words}; rename it to at most {2**63 - 1}")


@rule("LAY007", "version-with-leading-zeros", Severity.WARNING)
def leading_zeros(model: Model) -> Iterator[Found]:
    """A version folder's name has zeros in front, and is ignored.

    Wrong:
        m/1/model.onnx
        m/02/model.onnx

    Right:
        m/1/model.onnx
        m/2/model.onnx
    """
    for entry in model.entries() if model.version_folders else ():
        if entry.kind == "folder" and _has_zeros(entry.name):
            words = f"ignore version directory '{entry.name}' which contains leading zeros in its directory name"
            yield model.found_in(entry.name, f"{words}; rename it to '{int(entry.name)}'")


@rule("LAY008", "folder-is-no-version", Severity.ADVICE)
def stray_folder(model: Model) -> Iterator[Found]:
    """A folder of the model is no version; the server warns of it at every load.

    It may also keep the server from telling the backend: without one in the config it looks into the folder that
    comes first by name, whatever it is. Folders that the config names, and code beside a Python model, are meant
    to be there.

    Wrong:
        m/1/model.onnx
        m/.ipynb_checkpoints/

    Right:
        m/1/model.onnx
    """
    named = " ".join(str(each) for each in model.config.parameters.values())
    labels = {output.label_filename.partition("/")[0] for output in model.config.output}
    for entry in model.entries() if model.version_folders and model.config.backend != "python" else ():
        known = entry.name in NO_VERSIONS or entry.name in labels or entry.name in named
        if entry.kind == "folder" and not known and version_of(entry.name) is None and not entry.name[0].isdigit():
            words = f"ignore version directory '{entry.name}' which fails to convert to integral number"
            yield model.found_in(entry.name, f"{words}; keep it elsewhere")


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
    name_differs, no_version, nothing_served, version_not_there, version_under_another_name, folder_counts_as_version,
    version_too_large, leading_zeros, stray_folder, leftover_is_a_model, hidden_model, name_outside_urls,
    names_differ_by_case, file_beside_models, broken_link_in_repository, config_under_another_name,
)  # fmt: skip
