# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What several commands share: options, the console, the server they talk to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.errors import ProjectError

if TYPE_CHECKING:
    from rich.console import Console

    from trtkit.project import Project

project_option = click.option(
    "--project", "project_path", type=click.Path(path_type=Path), help="The project file or its folder. Default: here."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
url_option = click.option(
    "--url", help="HOST:PORT of a running server (of the protocol in use). Default: start an embedded one."
)
repository_option = click.option(
    "--repository",
    type=click.Path(path_type=Path),
    help="The model repository for the embedded server. Default: the project's.",
)


@dataclass(frozen=True)
class Endpoints:
    """Where a server is, by protocol; both the same when the user gave one URL."""

    http_url: str
    grpc_url: str

    def url(self, protocol: str) -> str:
        """The address of ``http`` or ``grpc``."""
        return self.http_url if protocol == "http" else self.grpc_url


def console(*, stderr: bool = False) -> Console:
    """The terminal, or a plain 120-column text when the output is not one."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 120)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def write_report(path: Path | None, value: Any) -> None:
    """Write a JSON report, where one was asked for.

    Raises:
        ProjectError: the file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def optional_project(path: Path | None = None) -> Project | None:
    """The project here, or None when there is none; a wrong one is still an error."""
    from trtkit.project import PROJECT_FILE, find_project

    here = [Path.cwd(), *Path.cwd().parents]
    if path is None and not any((folder / PROJECT_FILE).is_file() for folder in here):
        return None
    return find_project(path)


def repository_of(project: Project | None, repository: Path | None) -> Path:
    """The repository to serve: the one that was named, else the project's, else ``model_repository``."""
    if repository is not None:
        return repository
    return project.repository if project else Path("model_repository")


def split_url(url: str) -> str:
    """HOST:PORT of an address, with or without a scheme.

    Raises:
        ProjectError: there is no port in it.
    """
    address = url.partition("://")[2] or url
    host, _, port = address.rstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ProjectError(f"--url '{url}' is no HOST:PORT, e.g. 127.0.0.1:8000")
    return f"{host}:{port}"


@contextmanager
def open_server(url: str | None, repository: Path | None, models: tuple[str, ...] = ()) -> Iterator[Endpoints]:
    """The server at `url`, or an embedded one for the time of the command.

    Args:
        url: HOST:PORT, or None.
        repository: what to serve when `url` is None; None for the project's.
        models: load only these; default: all.
    """
    if url is not None:
        address = split_url(url)
        yield Endpoints(address, address)
        return
    from trtkit.server import serve

    folder = repository_of(optional_project() if repository is None else None, repository)
    check_models(folder, models)
    with serve(folder, models=models) as server:
        yield Endpoints(server.http_url, server.grpc_url)


def check_models(repository: Path, names: tuple[str, ...]) -> None:
    """Say that a model is not there before a server is started for it.

    Raises:
        ProjectError: the repository does not exist, or holds no such model or no version of it.
    """
    from trtkit.errors import nearest
    from trtkit.repository import models, versions

    if not repository.is_dir():
        raise ProjectError(
            f"there is no model repository at {repository}; run `trtkit build`, or pass --repository or --url"
        )
    for name in names:
        if name not in models(repository):
            raise ProjectError(f"model '{name}' is not in {repository}; {nearest(name, models(repository))}")
        if not versions(repository, name):
            raise ProjectError(f"model '{name}' has no version in {repository}; run `trtkit build {name}`")
