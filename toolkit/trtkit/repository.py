# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Model repositories on disk: read what is there, and publish a version whole or not at all.

A model's folder is staged beside the repository with hard links to what it already holds, completed,
flushed, and put in place by one rename (a new model) or one exchange of two names (renameat2, a known one).
At any kill the repository holds the old folder or the new one. Models that are published together (an
ensemble and its steps) are put in place in one go, microseconds apart. A staged folder is never where the server
would take it for a model: it takes every folder of a repository for one, even one whose name starts with a dot.

Where two names cannot be exchanged (`_move_piece_by_piece`) a kill may come between the new version and its
config.pbtxt; each of the two is whole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors, hash_file, sync, sync_tree
from trtkit.errors import RepositoryError

CONFIG_FILE, VARIANTS = "config.pbtxt", "configs"
RECORD_FILE = "trtkit.json"
STAGING_PREFIX = "staging-"


@dataclass(frozen=True)
class PublishedVersion:
    """One version of a model on disk.

    Attributes:
        model: the model's name.
        version: its number.
        path: the version's folder.
        record: what it was made from, as JSON; empty for a version trtkit did not publish.
    """

    model: str
    version: int
    path: Path
    record: dict[str, Any]

    @property
    def byte_size(self) -> int:
        """Bytes of the files that are served: all but the record, and what Python compiles beside its modules."""
        files = [f for f in self.path.rglob("*") if f.is_file() and f.name != RECORD_FILE]
        return sum(f.stat().st_size for f in files if f.parent.name != "__pycache__")

    def changed_file(self) -> str | None:
        """The first file that is not what was published (changed or missing), or None."""
        for name, fact in self.record.get("files", {}).items():
            if hash_file(self.path / name) != fact["sha256"]:
                return str(name)
        return None


def versions(repository: Path, model: str) -> list[PublishedVersion]:
    """The versions of a model, lowest first, as the server counts them: whole numbers without a leading 0."""
    folder = repository / model
    if not folder.is_dir():
        return []
    found = [
        PublishedVersion(model, int(entry.name), entry, _record(entry))
        for entry in folder.iterdir()
        if entry.is_dir() and _is_version(entry.name)
    ]
    return sorted(found, key=lambda version: version.version)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and (name == "0" or not name.startswith("0"))


def latest(repository: Path, model: str) -> PublishedVersion | None:
    """The version the default policy serves, or None."""
    found = versions(repository, model)
    return found[-1] if found else None


def _record(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / RECORD_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if _is_record(value) else {}


def _is_record(value: Any) -> bool:
    files = value.get("files") if isinstance(value, dict) else None
    return isinstance(files, dict) and all(isinstance(fact, dict) and "sha256" in fact for fact in files.values())


def models(repository: Path) -> list[str]:
    """The names of the models of a repository."""
    if not repository.is_dir():
        return []
    return sorted(entry.name for entry in repository.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def config_file(variant: str = "") -> str:
    """Where the config of that name stands in a model's folder; ``""`` is config.pbtxt."""
    return f"{VARIANTS}/{variant}.pbtxt" if variant else CONFIG_FILE


def variants(repository: Path, model: str) -> list[str]:
    """The names of a model's other configs, one of which ``--model-config-name`` picks."""
    return sorted(file.stem for file in (repository / model / VARIANTS).glob("*.pbtxt"))


def config_text(repository: Path, model: str, variant: str = "") -> str | None:
    """The content of a model's config; None when it has none.

    Args:
        repository: the model repository.
        model: its name.
        variant: of `variants`; ``""`` for config.pbtxt.

    Raises:
        RepositoryError: it is there but cannot be read as text.
    """
    path = repository / model / config_file(variant)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"{path} cannot be read: {exc}") from exc


@dataclass(frozen=True)
class Publication:
    """What is to be published of one model.

    Attributes:
        model: its name.
        config: the content of config.pbtxt.
        version_files: the new version's files by relative path; empty for an ensemble; None for no new version.
        model_files: files of the model's folder by relative path, such as ``warmup/x``; None for one that is to go.
        record: what the version was made from; the files' hashes are added.
        variants: the contents of configs/NAME.pbtxt by name; None for one that is to go.
    """

    model: str
    config: str
    version_files: Mapping[str, Path] | None
    model_files: Mapping[str, Path | None]
    record: Mapping[str, Any]
    variants: Mapping[str, str | None] = field(default_factory=dict)


def publish(
    repository: Path,
    model: str,
    config: str,
    *,
    state: Path,
    version_files: Mapping[str, Path] | None,
    model_files: Mapping[str, Path | None],
    record: Mapping[str, Any],
) -> PublishedVersion:
    """Put one model's config and, unless `version_files` is None, a new numbered version in place.

    Args:
        repository: the model repository; made when missing.
        model: see `Publication`.
        config: see there.
        state: where to stage, when it is on the repository's file system.
        version_files: see there.
        model_files: see there.
        record: see there.

    Returns:
        The latest version, which is the new one unless `version_files` is None.

    Raises:
        RepositoryError: the file system refused; the repository is as it was.
    """
    publication = Publication(model, config, version_files, model_files, record)
    return publish_all(repository, [publication], state=state)[0]


def publish_all(repository: Path, publications: Sequence[Publication], *, state: Path) -> list[PublishedVersion]:
    """Publish several models as one: all are staged and flushed, and only then put in place, one right after the other.

    Args:
        repository: the model repository; made when missing.
        publications: in the order in which they are put in place.
        state: where to stage, when it is on the repository's file system.

    Returns:
        The latest version of each.

    Raises:
        RepositoryError: the file system refused; the repository is as it was.
    """
    if not publications:
        return []
    names = [publication.model for publication in publications]
    with file_errors(f"publishing {', '.join(map(repr, names))} to {repository}"):
        repository.mkdir(parents=True, exist_ok=True)
        with _locked(repository), _staging_folder(repository, names, state) as staging:
            for publication in publications:
                _stage(repository, publication, staging / publication.model)
            _swap_all([(staging / name, repository / name) for name in names])
            sync(repository)
    return [_published(repository, name) for name in names]


def _stage(repository: Path, publication: Publication, staged: Path) -> None:
    """Make a model's folder as it is to be, with hard links to what it already holds."""
    target = repository / publication.model
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    _link_tree(target, staged)
    if publication.version_files is not None:
        number = max((v.version for v in versions(repository, publication.model)), default=0) + 1
        _write_version(staged / str(number), publication, number)
    for name, source in publication.model_files.items():
        if source is None:
            (staged / name).unlink(missing_ok=True)
        else:
            _place(source, staged / name)
    for variant, text in {"": publication.config, **publication.variants}.items():
        _write(staged / config_file(variant), text)
    sync_tree(staged)


def _published(repository: Path, model: str) -> PublishedVersion:
    published = latest(repository, model)
    if published is None:
        raise RepositoryError(
            f"{repository / model} holds no version after publishing; was it removed in the meantime?"
        )
    return published


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """One publication at a time, of other projects too; without a lock where the file system has none (NFS)."""
    descriptor = os.open(repository, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _staging_folder(repository: Path, names: Sequence[str], state: Path) -> Iterator[Path]:
    """A folder on the repository's file system, removed at the end; after a kill, by `clean_staging`."""
    state.mkdir(parents=True, exist_ok=True)
    device = repository.stat().st_dev
    parent = next(p for p in _staging_places(repository, names, state) if p.stat().st_dev == device)
    prefix = STAGING_PREFIX if parent == state else _hidden_prefix(repository)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging_places(repository: Path, names: Sequence[str], state: Path) -> Iterator[Path]:
    """The project's state, beside the repository, inside another model (the server passes over what is no version).

    Only in a repository that is a file system of its own and holds no other model is the repository itself left.
    """
    yield state
    if os.access(repository.parent, os.W_OK):
        yield repository.parent
    yield from (repository / other for other in models(repository) if other not in names)
    yield repository


def _hidden_prefix(repository: Path) -> str:
    return f".trtkit-{STAGING_PREFIX}{repository.name}-"


def clean_staging(repository: Path, state: Path) -> None:
    """Remove what a killed build left; only call it while holding the build lock."""
    for half_written in state.glob("stages/*/.*"):
        half_written.unlink(missing_ok=True)
    mine = [*state.glob(f"{STAGING_PREFIX}*"), *state.glob("tmp-*")]
    hidden = f"{glob.escape(_hidden_prefix(repository))}*"
    shared = [*repository.parent.glob(hidden), *repository.glob(hidden), *repository.glob(f"*/{hidden}")]
    for left in mine:
        shutil.rmtree(left, ignore_errors=True)
    if shared:
        with file_errors(f"cleaning {repository}"), _locked(repository):
            for left in shared:
                shutil.rmtree(left, ignore_errors=True)


def _link_tree(source: Path, target: Path) -> None:
    """Copy a folder by hard links where the file system has them."""
    target.mkdir(parents=True)
    if not source.is_dir():
        return
    shutil.copystat(source, target)
    for entry in source.iterdir():
        if entry.is_symlink():
            (target / entry.name).symlink_to(os.readlink(entry))  # noqa: PTH115 - Path.readlink drops "./"
        elif entry.is_dir():
            _link_tree(entry, target / entry.name)
        else:
            _link(entry, target / entry.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        shutil.copy2(source, target)


def _place(source: Path, target: Path) -> None:
    """A copy of its own, so that a later change of the cache cannot reach what is served."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, content: str | None) -> None:
    path.unlink(missing_ok=True)  # it may be a hard link to what is served now
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode())


def _write_version(folder: Path, publication: Publication, number: int) -> None:
    folder.mkdir()
    facts: dict[str, dict[str, Any]] = {}
    for name, source in (publication.version_files or {}).items():
        _place(source, folder / name)
        facts[name] = {"sha256": hash_file(folder / name), "byte_size": (folder / name).stat().st_size}
    whole = {"model": publication.model, "version": number, **publication.record, "files": facts}
    _write(folder / RECORD_FILE, json.dumps(whole, indent=1) + "\n")


def _swap_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Put each staged folder in its target's place; when one is refused, take the ones before it back."""
    done: list[tuple[Path, Path, bool]] = []
    try:
        for staged, target in pairs:
            is_new = not target.exists()
            _swap(staged, target)
            done.append((staged, target, is_new))
    except OSError:
        for staged, target, is_new in reversed(done):
            if is_new:
                target.rename(staged)
            else:
                _exchange(staged, target)
        raise


def _swap(staged: Path, target: Path) -> None:
    """Put the staged folder in the target's place; the old one is where the staged one was."""
    if not target.exists():
        staged.rename(target)
    elif not _exchange(staged, target):
        _move_piece_by_piece(staged, target)


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux renameat2); False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV):  # EXDEV: a folder of a lower overlay
        return False
    raise OSError(code, os.strerror(code), str(other))


def _move_piece_by_piece(staged: Path, target: Path) -> None:
    """Without an exchange: new folders by one rename each, then the files, config.pbtxt last."""
    for entry in sorted(staged.iterdir(), key=lambda e: (e.name == CONFIG_FILE, e.is_file(), e.name)):
        place = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and place.is_dir():
            if not _is_version(entry.name):  # a published version never changes
                kept = {inner.name for inner in entry.iterdir()}
                _move_piece_by_piece(entry, place)
                for left in [inner for inner in place.iterdir() if inner.name not in kept and inner.is_file()]:
                    left.unlink()
        else:
            entry.replace(place)  # does nothing where both are one file
    sync(target)
