# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The edges of rules: what lies just beside a mistake, and what is one although it hardly looks like it.

lint_edges.yaml holds them by rule: ``why``, how often the rule ``finds`` something, the ``config`` of the model m
(``$tensors`` is an input and an output of 4), other ``files``, and what is known of the ``server``. The model has a
model.py unless there is another file in its version. A file that begins with ``$`` is made by MADE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
import yaml

from lint_repositories import PYTHON, TENSORS, findings, write_files
from trtkit.lint.server_facts import ServerFacts

HERE = Path(__file__).parent
PLAN = HERE / "lint" / "PLN010_larger_batches_than_the_profile" / "right" / "m" / "1"
GRAPH = """<ir_version: 10, opset_import: ["" : 17]>
g (float[{0}, 4] x, float[{1}, 4] z) => (float[{0}, 4] y, float[{1}, 4] w) {{
  y = Identity(x)
  w = Identity(z)
}}"""
EDGES = [
    (code, edge)
    for code, edges in yaml.safe_load((HERE / "lint_edges.yaml").read_text()).items()
    for edge in edges
]  # fmt: skip


def graph(dimensions: str) -> bytes:
    """Two inputs and two outputs of these first dimensions."""
    model = onnx.parser.parse_model(GRAPH.format(*dimensions.split()))
    return bytes(model.SerializeToString())


def engine(changes: str) -> bytes:
    """The engine.json of the plan, for batches of 1 to 8 of x[4] and y[4]."""
    manifest = json.loads((PLAN / "engine.json").read_text())
    return json.dumps({**manifest, **json.loads(changes or "{}")}).encode()


MADE: dict[str, Callable[[str], bytes]] = {
    "$engine": engine,
    "$graph": graph,
    "$plan": lambda _: (PLAN / "model.plan").read_bytes(),
    "$python": lambda _: PYTHON.encode(),
    "$tar": lambda _: bytes(257) + b"ustar" + bytes(300),
    "$zip": lambda _: b"PK\x03\x04" + bytes(600),
}


def content(text: str) -> bytes:
    kind, _, rest = text.partition(" ")
    return MADE[kind](rest) if kind in MADE else text.replace("$tensors\n", TENSORS).encode()


@pytest.mark.parametrize(("code", "edge"), EDGES, ids=[f"{code}-{edge['why']}" for code, edge in EDGES])
def test_a_rule_at_its_edge(code: str, edge: dict[str, Any], tmp_path: Path) -> None:
    files = {**edge.get("files", {}), **({"m/config.pbtxt": edge["config"]} if "config" in edge else {})}
    if not any(path.startswith("m/1/") for path in files):
        files["m/1/model.py"] = "$python"
    write_files(tmp_path, {path: content(text) for path, text in files.items()})
    server = {"flags": (), "triton": "2.51", "gpus": 0, **edge.get("server", {})}
    found = findings(tmp_path, facts=ServerFacts(**{**server, "flags": tuple(server["flags"])}))
    told = [f"{each.place}: {each.code} {each.message}" for each in found]
    assert [each.code for each in found].count(code) == edge["finds"], told
