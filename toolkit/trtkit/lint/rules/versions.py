# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Version folders: which of a model's folders are versions, and which of them are served."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.config import is_generated
from trtkit.lint.finding import Severity
from trtkit.lint.model import NO_VERSIONS, Found, Model, version_of
from trtkit.lint.rule import rule
from trtkit.lint.rules.layout import is_leftover


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
    elif model.config.platform == "ensemble":
        words += "; make an empty folder named 1"
    elif model.document is not None and is_generated(model.document.text):
        words += "; its config was generated: run `trtkit build`"
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

    The core says so in its log only (model_lifecycle.cc, VersionsToLoad).

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


@rule("LAY007", "version-with-leading-zeros", Severity.WARNING)
def leading_zeros(model: Model) -> Iterator[Found]:
    """A version folder's name has zeros in front, and is ignored.

    The core says so in its log only (model_lifecycle.cc, VersionsToLoad).

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


RULES = (
    no_version, nothing_served, version_not_there, version_under_another_name, folder_counts_as_version, leading_zeros,
    stray_folder, version_too_large,
)  # fmt: skip
