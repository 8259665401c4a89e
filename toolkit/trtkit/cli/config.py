# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trtkit.cli.common import json_option, print_json, split_url

if TYPE_CHECKING:
    from trtkit.config import ModelConfig


@click.group(help="Work with config.pbtxt files.")
def command() -> None:
    """The group of the commands below."""


@command.command(
    help="""Compare two configurations as messages, field by field.

    A and B are config.pbtxt files, folders of models, or http://HOST:PORT/MODEL for the configuration that a running
    server has completed. Comments and the order of fields do not matter; inputs, outputs, instance groups and other
    rows with names are matched by name. Exit code 0: the same; 1: they differ."""
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
def diff(first: str, second: str, as_json: bool) -> int:
    """Print a line for each difference."""
    from trtkit.config_diff import differences

    found = differences(_config(first), _config(second))
    if as_json:
        rows = [difference.to_json() for difference in found]
        print_json({"first": first, "second": second, "same": not found, "differences": rows})
    for difference in () if as_json else found:
        print(difference)
    return int(bool(found))


def _config(what: str) -> ModelConfig:
    """The config of a file, a model's folder or a served model.

    Raises:
        ProjectError: there is none.
        ConfigError: it is no ModelConfig.
        ServerError: the server does not answer, or has no such model.
    """
    return _served(what) if what.startswith(("http://", "https://")) else _written(Path(what))


def _written(path: Path) -> ModelConfig:
    from trtkit.config import read_config
    from trtkit.errors import ProjectError
    from trtkit.repository import CONFIG_FILE

    file = path / CONFIG_FILE if path.is_dir() else path
    try:
        return read_config(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError as exc:
        raise ProjectError(f"there is no {file}; give a config.pbtxt, a model's folder or a URL") from exc
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else f"it is no UTF-8 text: {exc.reason}"
        raise ProjectError(f"{file} cannot be read: {reason}") from exc


def _served(url: str) -> ModelConfig:
    from trtkit.errors import ProjectError
    from trtkit.server import connect

    address, _, model = url.partition("://")[2].partition("/")
    if not model or not url.startswith("http://"):
        raise ProjectError(f"'{url}' is no http://HOST:PORT/MODEL, e.g. http://127.0.0.1:8000/digits")
    with connect(split_url(address), "http") as client:
        client.require_model(model)
        return client.config(model)
