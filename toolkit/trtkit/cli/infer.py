# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit infer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import (
    console,
    json_option,
    open_server,
    optional_project,
    print_json,
    repository_of,
    repository_option,
    url_option,
)

if TYPE_CHECKING:
    from trtkit.inference import Answer
    from trtkit.server import Client

_SHOWN_ROWS = 20
_SHOWN_VALUES = 6


@click.command(
    help="""Send one request to a served model and show the answer.

    FILES are for a model with one input, one row each: images, .npy, or any file for a BYTES input. Other
    inputs are named: --input NAME=VALUE, where VALUE is a .npy, .json, .txt (one BYTES row a line) or image
    file, a folder of images, JSON, or plain text. A numeric input takes an image as pixel values 0 to 255, scaled
    to its height and width. Without any input, random values are sent. More rows than the model's
    max_batch_size are sent as several requests.

    \b
        trtkit infer digits_pipeline digit.png
        trtkit infer digits --input x=pixels.npy --json"""
)
@click.argument("model")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--input", "given", multiple=True, metavar="NAME=VALUE", help="One input; may be given several times.")
@click.option("--data", type=click.Path(path_type=Path), help="A .json or .npz file with a value for each input.")
@click.option("--random", "use_random", is_flag=True, help="Send random values, whatever else is possible.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Rows of random values.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random values.")
@click.option("--protocol", type=click.Choice(["http", "grpc"]), default="http", show_default=True)
@url_option
@repository_option
@json_option
def command(model: str, url: str | None, repository: Path | None, protocol: str, as_json: bool, **given: Any) -> None:
    """Ask the model and print what it answers."""
    from trtkit.inference import infer_rows
    from trtkit.server import connect

    folder = repository_of(None if url or repository else optional_project(), repository)
    with open_server(url, folder, (model,)) as server, connect(server.url(protocol), protocol) as client:
        client.require_model(model)
        inputs = _inputs(client, model, folder, given)
        answer = infer_rows(client, model, inputs)
    if as_json:
        print_json(_as_json(model, answer))
    else:
        _print(model, answer, given["files"])


def _inputs(client: Client, model: str, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    from trtkit.inference import read_inputs
    from trtkit.repository import latest
    from trtkit.samples import recorded_inputs

    signature = client.signature(model)
    batching = client.config(model).max_batch_size > 0
    if given["use_random"] or not (given["files"] or given["given"] or given["data"]):
        published = latest(folder, model)
        record = published.record if published else {}
        rows = given["batch"] if batching else int(record.get("axis_size", 1))
        return recorded_inputs(record, signature.inputs, rows, given["seed"])
    return read_inputs(signature, batching, given["data"], given["given"], given["files"])


def _as_json(model: str, answer: Answer) -> dict[str, Any]:
    outputs = {
        name: {
            "shape": list(array.shape),
            "data_type": array.dtype.name,
            "data": [_plain(v) for v in array.ravel().tolist()],
        }
        for name, array in answer.outputs.items()
    }
    return {"model": model, "outputs": outputs, "labels": answer.labels, "seconds": answer.seconds}


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _print(model: str, answer: Answer, files: tuple[Path, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    rows = max((len(array) if array.ndim else 1) for array in answer.outputs.values())
    named = len(files) == rows
    table = Table(*(["file"] if named else ["row"]), *answer.outputs, *(f"label of {n}" for n in answer.labels))
    for row in range(min(rows, _SHOWN_ROWS)):
        cells = [_cell(array, row) for array in answer.outputs.values()]
        labels = [labels[row] if row < len(labels) else "" for labels in answer.labels.values()]
        table.add_row(*(Text(t) for t in (files[row].name if named else str(row), *cells, *labels)))
    out = console()
    out.print(table)
    hidden = f"; {rows - _SHOWN_ROWS} more rows, --json shows all" if rows > _SHOWN_ROWS else ""
    out.print(f"{model}: {rows} rows in {answer.seconds * 1e3:.1f} ms{hidden}", markup=False)


def _cell(array: Any, row: int) -> str:
    values = (array[row] if array.ndim and row < len(array) else array).ravel().tolist()
    shown = [f"{v:.4g}" if isinstance(v, float) else str(_plain(v)) for v in values[:_SHOWN_VALUES]]
    return " ".join(shown) + (f" … ({len(values)} values)" if len(values) > _SHOWN_VALUES else "")
