# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.build import size_text
from trtkit.cli.common import console, json_option, print_json

if TYPE_CHECKING:
    from trtkit.inspection import OnnxSummary, PlanSummary


@click.command(
    help="""Show what a file holds, without a GPU.

    An ONNX file: inputs, outputs, opset, operators, size, weights by data type, Q/DQ nodes. A TensorRT plan: the
    version that built it and that it needs, its target, and what engine.json beside it says."""
)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Read the graph and print it."""
    from trtkit.inspection import inspect_onnx, inspect_plan, is_plan

    if is_plan(file):
        plan = inspect_plan(file)
        _print(plan.to_json() if as_json else _plan_rows(plan))
    else:
        graph = inspect_onnx(file)
        _print(graph.to_json() if as_json else _onnx_rows(graph))


def _print(what: dict[str, Any] | list[tuple[str, str]]) -> None:
    """JSON, or rows of a key and a text."""
    if isinstance(what, dict):
        print_json(what)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, text in what:
        table.add_row(Text(key, style="bold"), Text(text))
    console().print(table)


def _onnx_rows(summary: OnnxSummary) -> list[tuple[str, str]]:
    opsets = ", ".join(f"{domain} {version}" for domain, version in summary.opsets.items())
    external = f", external data: {', '.join(summary.external_data)}" if summary.external_data else ""
    return [
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


def _plan_rows(summary: PlanSummary) -> list[tuple[str, str]]:
    rtx = summary.flavour == "tensorrt_rtx"
    name = "TensorRT-RTX" if rtx else "TensorRT"
    loads = "no tritonserver: it is evidence, never something to serve" if rtx else ", ".join(summary.images)
    rows = [
        ("file", f"{summary.file} ({size_text(summary.byte_size)})"),
        ("plan", f"{name} {summary.version}"),
        ("compute capability", ", ".join(summary.compute_capabilities) or _capability(summary)),
        ("loaded by", loads or "no image that trtkit knows of"),
    ]
    return rows + (_manifest_rows(summary.manifest) if summary.manifest else [("engine.json", "none beside the plan")])


def _capability(summary: PlanSummary) -> str:
    found = (summary.manifest or {}).get("compute_capability")
    return str(found) if found else "not in the header of this flavour"


def _manifest_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """What engine.json holds, one row per key; tables inside as JSON."""
    hidden = {"flavour", "tensorrt_version", "compute_capability"}
    return [
        (key, _value_text(value)) for key, value in manifest.items() if key not in hidden and value not in (None, [])
    ]


def _value_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _weights(kind: str, row: dict[str, int]) -> str:
    return f"{kind}: {row['elements']} elements in {row['count']} tensors, {size_text(row['byte_size'])}"
