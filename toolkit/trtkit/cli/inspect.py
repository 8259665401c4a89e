# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trtkit.cli.build import size_text
from trtkit.cli.common import console, json_option, print_json

if TYPE_CHECKING:
    from trtkit.inspection import OnnxSummary


@click.command(
    help="""Show what an ONNX file holds: inputs, outputs, opset, operators, size, weights by data type, Q/DQ nodes."""
)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Read the graph and print it."""
    from trtkit.inspection import inspect_onnx

    summary = inspect_onnx(file)
    if as_json:
        print_json(summary.to_json())
    else:
        _print(summary)


def _print(summary: OnnxSummary) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    opsets = ", ".join(f"{domain} {version}" for domain, version in summary.opsets.items())
    external = f", external data: {', '.join(summary.external_data)}" if summary.external_data else ""
    rows = [
        ("file", f"{summary.file} ({size_text(summary.byte_size)}{external})"),
        ("format", f"IR {summary.ir_version}, opset {opsets}, by {summary.producer or 'unknown'}"),
        *(("input" if index == 0 else "", text) for index, text in enumerate(summary.inputs)),
        *(("output" if index == 0 else "", text) for index, text in enumerate(summary.outputs)),
        ("operators", ", ".join(f"{name} {count}" for name, count in summary.operators.items()) or "none"),
        *(
            (("weights" if i == 0 else ""), _weights(kind, row))
            for i, (kind, row) in enumerate(summary.initializers.items())
        ),
        ("Q/DQ", f"{summary.quantize_linear} QuantizeLinear, {summary.dequantize_linear} DequantizeLinear"),
    ]
    from rich.text import Text

    for key, text in rows:
        table.add_row(Text(key, style="bold"), Text(text))
    console().print(table)


def _weights(kind: str, row: dict[str, int]) -> str:
    return f"{kind}: {row['elements']} elements in {row['count']} tensors, {size_text(row['byte_size'])}"
