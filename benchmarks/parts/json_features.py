# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Records of 30 features: numbers, categories, flags and times, a record a request and 32."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, part_module, write_part

SCHEMA: dict[str, Any] = {
    "features": [
        *({"name": f"n{index}", "type": "number", "default": None} for index in range(16)),
        *({"name": f"i{i}", "type": "integer", "min": 0, "max": 1000, "path": f"inner.i{i}"} for i in range(8)),
        *({"name": f"c{index}", "type": "category", "categories": list("abcdefgh")} for index in range(3)),
        *({"name": f"b{index}", "type": "boolean"} for index in range(2)),
        {"name": "at", "type": "timestamp", "unit": "days"},
    ]
}  # fmt: skip


def benchmark(repository: Path) -> list[Case]:
    """One model; records as objects."""
    version = write_part(repository, "records", "json_features", files={"schema.json": json.dumps(SCHEMA).encode()})
    schema = part_module("json_features", "trtkit_schema").read_schema(str(version / "schema.json"))
    types = {"features": np.dtype(np.float32)}
    features = part_module("json_features", "trtkit_features").Features(schema, types, 1 << 20)
    return [case(features, rows) for rows in (1, 32)]


def case(features: Any, rows: int) -> Case:
    """A request of so many records."""
    generator = random.Random(rows)
    records = [json.dumps(record(generator)).encode() for _ in range(rows)]
    array = np.empty((rows, 1), np.object_)
    array[:, 0] = records
    return Case(
        "records", f"{rows} × {len(records[0])} bytes, 30 features", {"record": array},
        lambda: features.tensors([features.read(data, row) for row, data in enumerate(records)]), rows,
    )  # fmt: skip


def record(generator: random.Random) -> dict[str, Any]:
    """A record of the schema, with one value missing."""
    return {
        **{f"n{index}": generator.uniform(-5, 5) for index in range(15)},
        "inner": {f"i{index}": generator.randrange(1000) for index in range(8)},
        **{f"c{index}": generator.choice("abcdefgh") for index in range(3)},
        **{f"b{index}": generator.random() < 0.5 for index in range(2)},
        "at": "2024-05-31T12:30:00Z",
    }
