# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Ensembles over a few fixed Python models: most often right, sometimes with a mistake or two."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lint_repositories import PYTHON, as_pbtxt, write_files


def _row(text: str) -> dict[str, Any]:
    """``x FP32 4 -1`` or ``x? FP32 4`` (optional) as a row of a config."""
    name, data_type, *dims = text.split()
    row: dict[str, Any] = {"name": name.rstrip("?"), "data_type": f"TYPE_{data_type}", "dims": [*map(int, dims)]}
    return {**row, "optional": True} if name.endswith("?") else row


def _model(inputs: str, outputs: str, batch: int, **more: Any) -> dict[str, Any]:
    sides = {"input": inputs, "output": outputs}
    rows = {side: [_row(part) for part in text.split(",")] for side, text in sides.items()}
    return {"backend": "python", "max_batch_size": batch, **rows, **more}


DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
STEPS = {
    "same": _model("x FP32 4", "y FP32 4", 8),
    "same_without_batch": _model("x FP32 -1 4", "y FP32 -1 4", 0),
    "any_size": _model("x FP32 -1", "y FP32 -1", 16),
    "add": _model("a FP32 4,b FP32 4,c? FP32 4", "y FP32 4", 8),
    "to_int": _model("x FP32 4", "y INT64 4", 4),
    "two": _model("x FP32 4", "y FP32 4,z INT64 1", 0),
    "stream": _model("x FP32 4", "y FP32 4,w FP32 4", 0, **DECOUPLED),
    "square": _model("x FP32 2 2", "y FP32 4", 8),
    "versions": _model("x FP32 4", "y FP32 4", 8, version_policy={"all": {}}),
}
VERSIONS = {"versions": (2, 3)}


def write_model(repository: Path, name: str, config: dict[str, Any], versions: tuple[int, ...] = (1,)) -> None:
    """A model directory; one of a Python model has its model.py."""
    for version in versions:
        (repository / name / str(version)).mkdir(parents=True)
    codes = {f"{version}/model.py": PYTHON for version in versions if config.get("backend") == "python"}
    write_files(repository / name, {"config.pbtxt": as_pbtxt(config), **codes})


@dataclass
class _Draft:
    """An ensemble while it grows: its tensors with what they were when they were met first."""

    draw: st.DrawFn
    known: dict[str, dict[str, Any]]
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def rarely(self, chance: int = 40) -> bool:
        return self.draw(st.integers(1, chance)) == chance

    def add_step(self, number: int) -> None:
        name = self.draw(st.sampled_from(sorted(self.known)))
        model = self.known[name]
        step: dict[str, Any] = {"model_name": name, "model_version": -1, "input_map": {}, "output_map": {}}
        for row in model["input"]:
            if not (row.get("optional") and self.draw(st.booleans())):
                step["input_map"][row["name"]] = self._source(row)
        for index, row in enumerate(model["output"]):
            if index == 0 or self.draw(st.booleans()):
                tensor = f"t{number}_{row['name']}"
                self.tensors[tensor] = row
                step["output_map"][row["name"]] = tensor
        self.steps.append(step)

    def _source(self, row: dict[str, Any]) -> str:
        fitting = [name for name, each in self.tensors.items() if _fits(each, row)]
        if fitting and self.draw(st.integers(0, 3)):
            found = self.draw(st.sampled_from(fitting))
        elif self.tensors and self.rarely():
            found = self.draw(st.sampled_from(sorted(self.tensors)))
        else:
            found = f"in{len(self.inputs)}"
            self.inputs.append(found)
            self.tensors[found] = {**row, "optional": False}
        self.read.add(found)
        return found

    def config(self, batch: int) -> dict[str, Any]:
        unread = [name for name in self.tensors if name not in self.read]
        more = [name for name in self.tensors if name in self.read and self.draw(st.integers(0, 4)) == 0]
        rows = {name: {key: row[key] for key in ("data_type", "dims")} for name, row in self.tensors.items()}
        return {
            "platform": "ensemble",
            "max_batch_size": batch,
            "input": [{"name": name, **rows[name]} for name in self.inputs],
            "output": [{"name": name, **rows[name]} for name in [*unread, *more]],
            "ensemble_scheduling": {"step": self.steps},
        }


def _fits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["data_type"] == other["data_type"] and len(one["dims"]) == len(other["dims"]))


def _spoil(draw: st.DrawFn, config: dict[str, Any]) -> None:
    """One mistake."""
    steps = config["ensemble_scheduling"]["step"]
    step = draw(st.sampled_from(steps))
    side = draw(st.sampled_from(["input_map", "output_map"]))
    names = sorted({value for each in steps for side_ in ("input_map", "output_map") for value in each[side_].values()})
    kind = draw(st.sampled_from(["value", "key", "drop", "version", "batch", "row", "lose", "model", "more", "field"]))
    rows = config[draw(st.sampled_from(["input", "output"]))]
    if kind == "value" and step[side]:
        step[side][draw(st.sampled_from(sorted(step[side])))] = draw(st.sampled_from([*names, "nowhere", ""]))
    elif kind == "key":
        step[side][draw(st.sampled_from(["x", "y", "z", "a", "c", "q"]))] = draw(st.sampled_from([*names, "new"]))
    elif kind == "drop" and step[side]:
        step[side].pop(draw(st.sampled_from(sorted(step[side]))))
    elif kind == "version":
        step["model_version"] = draw(st.sampled_from([0, 1, 2, 3, -2]))
    elif kind == "batch":
        config["max_batch_size"] = draw(st.sampled_from([1, 4, 5, 8, 16, 32]))
    elif kind == "row" and rows:
        changes = st.sampled_from([{"data_type": "TYPE_INT64"}, {"dims": [-1]}, {"dims": [5]}, {"dims": [2, 2]}])
        more = st.sampled_from([{"reshape": {"shape": [4]}, "dims": [2, 2]}, {"dims": [4, 1]}, {"dims": [-1, 4]}])
        draw(st.sampled_from(rows)).update(draw(changes | more))
    elif kind == "lose" and rows:
        rows.remove(draw(st.sampled_from(rows)))
    elif kind == "model":
        step["model_name"] = draw(st.sampled_from(["nobody", "", "same", "add", "stream", "e0", "e1"]))
    elif kind == "more":
        rows.append(_row(draw(st.sampled_from(["in0 FP32 4", "t0_y FP32 4", "extra FP32 4"]))))
    elif kind == "field":
        fields: list[dict[str, Any]] = [
            {"instance_group": [{"count": 1}]}, {"optimization": {}}, {"backend": "python"}, {"platform": ""},
            {"response_cache": {"enable": True}}, {"default_model_filename": "model.onnx"}, DECOUPLED,
            {"default_model_filename": "model.x"}, {"model_warmup": [{"name": "w", "batch_size": 1}]},
        ]  # fmt: skip
        config.update(draw(st.sampled_from(fields)))


@st.composite
def ensembles(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """One to three ensembles by name, later ones perhaps built on earlier ones."""
    made: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(1, 3))):
        usable = {name: each for name, each in made.items() if each["input"] and each["output"]}
        draft = _Draft(draw, {**STEPS, **usable})
        for index in range(draw(st.integers(1, 4))):
            draft.add_step(index)
        config = draft.config(draw(st.sampled_from([0, 0, 1, 4])))
        for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
            _spoil(draw, config)
        made[f"e{number}"] = config
    return made
