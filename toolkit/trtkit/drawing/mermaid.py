# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph as a Mermaid flowchart, for Markdown files."""

from __future__ import annotations

import re

from trtkit.drawing.graph import Graph, Tensor, printable

# Mermaid ends a quoted text at a quote, reads # and ; as an entity, and takes HTML and Markdown (lists too) as such
_SPECIAL = re.compile(r"[^\w ./:,()=?-]|[.)-](?= )", flags=re.ASCII)


def to_mermaid(graph: Graph) -> str:
    """The flowchart: stadiums for inputs and outputs, boxes for steps, tensors on the arrows between them."""
    lines = ["flowchart LR"]
    border = {key: f"t{index}" for index, key in enumerate(graph.tensors) if graph.tensors[key].role != "inner"}
    writers = [(key, f"s{index}") for index, step in enumerate(graph.steps) for key in step.outputs.values()]
    for key, node in border.items():
        tensor = graph.tensors[key]
        lines.append(f'  {node}(["{_text(tensor.name)}<br/>{_text(tensor.type_text)}"]):::{tensor.role}')
    for index, step in enumerate(graph.steps):
        kind = "step" if step.known else "unknown"
        lines.append(f'  s{index}["{"<br/>".join(map(_text, (step.model, *step.facts)))}"]:::{kind}')
    for index, step in enumerate(graph.steps):
        for own, key in step.inputs.items():
            tensor = graph.tensors[key]
            sources = [border[key]] if tensor.role == "input" else [node for other, node in writers if other == key]
            lines += [f'  {source} -->|"{_arrow(tensor, own)}"| s{index}' for source in sources]
        for own, key in step.outputs.items():
            if graph.tensors[key].role == "output":
                lines.append(f'  s{index} -->|"{_text(own)}"| {border[key]}')
    return "\n".join([*lines, *_CLASSES]) + "\n"


def _arrow(tensor: Tensor, own: str) -> str:
    """The tensor's name and type; at the border, whose node has them, the step's name of it."""
    if tensor.role == "input":
        return _text(own)
    name = tensor.name if own == tensor.name else f"{tensor.name} as {own}"
    return f"{_text(name)}<br/>{_text(tensor.type_text)}"


def _text(text: str) -> str:
    """A text that Mermaid shows as it is."""
    return _SPECIAL.sub(lambda match: f"#{ord(match[0])};", printable(text))


_CLASSES = (
    "  classDef input fill:#e3f4e6,stroke:#4c9a5e,color:#1b2733",
    "  classDef output fill:#fdeede,stroke:#c98a3a,color:#1b2733",
    "  classDef step fill:#eaf1fb,stroke:#5b7db1,color:#1b2733",
    "  classDef unknown fill:#fbeaea,stroke:#b3473f,color:#1b2733,stroke-dasharray:5 3",
)
