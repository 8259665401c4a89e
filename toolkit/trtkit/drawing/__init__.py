# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble, or a single model, as a picture: what goes in, through which steps, and what comes out."""

from trtkit.drawing.graph import Graph, graph_of
from trtkit.drawing.mermaid import to_mermaid
from trtkit.drawing.svg import to_svg

__all__ = ["Graph", "graph_of", "to_mermaid", "to_svg"]
