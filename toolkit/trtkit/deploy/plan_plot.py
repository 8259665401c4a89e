# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The memory of a pod as stacked bars: what it is made of, and what the GPU, or node, has."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors, write_atomically
from trtkit.deploy.memory import mib
from trtkit.deploy.planned import Plan
from trtkit.errors import ProjectError

# seen alike by people with and without colour blindness (Okabe and Ito), light enough for black text
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#999999")
_QUIET = "#5f6570"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "trtkit", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9.5,
    "text.parse_math": False,
}  # fmt: skip
_WIDEST = 5
"""Times the used memory: where there is more, it stands in the headline only, and the parts can be told apart."""
Bar = tuple[str, list[tuple[str, int]], int | None, str]


def write_plot(plan: Plan, file: Path) -> None:
    """Draw a plan's memory.

    Args:
        plan: what is drawn.
        file: ends in .svg or .png.

    Raises:
        ProjectError: it ends in something else.
        RepositoryError: the file system refused.
    """
    kind = file.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise ProjectError(f"--plot {file}: a picture is .svg or .png")
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        out = io.BytesIO()
        metadata = {"Date": None, "Creator": "trtkit"} if kind == "svg" else None
        draw(plan).savefig(out, format=kind, dpi=150, metadata=metadata)
    with file_errors(f"writing {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, out.getvalue())


def bars(plan: Plan) -> list[Bar]:
    """For each bar its name, its parts in MiB, what there is of it, and what that is called."""
    found: list[Bar] = []
    sharing = plan.gpu.pods_per_gpu.whole if plan.gpu else 1
    if plan.gpu is not None and plan.memory.gpu is not None:
        has = plan.gpu.memory.whole * plan.gpu.count if plan.gpu.memory else None
        name = f"slice {plan.spec.gpu.mig}" if plan.spec.gpu.mig else plan.spec.gpu.product or "GPU"
        what = f"{plan.gpu.count} x {name}" if plan.gpu.count > 1 else name
        parts = _parts(plan, "gpu ")
        if sharing > 1:
            parts.append((f"{sharing - 1} further pods", (sharing - 1) * plan.memory.gpu.whole))
        found.append(("GPU memory", parts, has, what))
    node = plan.spec.cluster.node_memory
    parts = _parts(plan, "host ")
    declared = plan.memory.host.whole - sum(size for _, size in parts)
    if plan.memory.host.origin == "declared" and declared > 0:
        parts.append(("declared beyond that", declared))
    found.append(("host memory", parts, mib(node) if node else None, "node"))
    return found


def _parts(plan: Plan, kind: str) -> list[tuple[str, int]]:
    return [
        (name.removeprefix(kind), part.whole)
        for name, part in plan.memory.parts.items()
        if name.startswith(kind) and part.whole
    ]


def draw(plan: Plan) -> Any:
    """The picture as a matplotlib Figure."""
    from matplotlib.figure import Figure

    rows = bars(plan)
    figure = Figure(figsize=(9.0, 0.75 + 1.75 * len(rows)))
    title = f"{plan.name}{f' ({plan.environment})' if plan.environment else ''}: memory of one pod"
    figure.text(0.02, 1 - 0.3 / figure.get_figheight(), title, fontsize=12, fontweight="bold", va="center")
    axes = figure.subplots(len(rows), 1, squeeze=False)
    for axis, row in zip(axes[:, 0], rows, strict=True):
        _bar(axis, row)
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.02, right=0.98, top=1 - 0.85 / height, bottom=0.85 / height, hspace=1.55)
    return figure


def _bar(axis: Any, row: Bar) -> None:
    name, parts, has, what = row
    total = sum(size for _, size in parts)
    shown = has if has is not None and has <= _WIDEST * total else None
    left = 0
    for index, (part, size) in enumerate(parts):
        axis.barh(0, size, left=left, linewidth=0.8, label=f"{part} {size:,}", **_look(part, index))
        left += size
    limit = max(total, shown or 0) * 1.02
    _limit(axis, shown, what, total)
    axis.set_title(_headline(name, total, has, what), loc="left", fontsize=10)
    axis.set_xlim(0, limit)
    axis.set_yticks([])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.tick_params(axis="x", colors=_QUIET, labelsize=8.5)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    columns = min(len(parts), 6)
    handles = axis.get_legend_handles_labels()[0]
    in_rows = [handle for column in range(columns) for handle in handles[column::columns]]  # it fills column by column
    axis.legend(handles=in_rows, loc="upper left", bbox_to_anchor=(0, -0.32), ncols=columns, frameon=False,
                fontsize=8.5, handlelength=1.0, columnspacing=1.4, borderaxespad=0.0)  # fmt: skip


def _look(part: str, index: int) -> dict[str, Any]:
    """What a pod does not use itself is pale."""
    if part == "buffer":
        return {"color": "#eceff3", "hatch": "///", "edgecolor": "#b9c0ca"}
    if part.endswith(" further pods"):
        return {"color": "#d5dae1", "edgecolor": "white"}
    return {"color": _COLOURS[index % len(_COLOURS)], "edgecolor": "white"}


def _headline(name: str, total: int, has: int | None, what: str) -> str:
    if has is None:
        return f"{name}: {total:,} MiB"
    return f"{name}: {total:,} of {has:,} MiB of the {what}, {100 * total / has:.0f} %"


def _limit(axis: Any, has: int | None, what: str, total: int) -> None:
    """What there is, as an empty box behind the parts."""
    if has is None:
        return
    axis.barh(0, has, color="none", edgecolor=_QUIET, linewidth=1.0, linestyle="--" if has >= total else "-")
