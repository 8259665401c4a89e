# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""torch sources: modules exported with dynamic axes, compared with themselves, and what torch bakes in is refused."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from exporting import Result, export_python
from trtkit.errors import ExportError, MissingDependencyError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.quiet import quiet

HEAD = """
import torch
from torch import nn

class Of(nn.Module):
    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)

class OfTwo(Of):
    def forward(self, ids, mask):
        return self.function(self, ids, mask)

class OfAny(Of):
    def forward(self, first, *others):
        return self.function(self, first, *others)

torch.manual_seed(0)
"""
X = "inputs: {x: {shape: [batch, 4]}}"
WHERE = "trtkit.yaml:3:14: "


def made(folder: Path, expression: str, block: str = X) -> Result:
    """Export the module that an expression gives."""
    return export_python(folder, "torch", f"{HEAD}\ndef make():\n    return {expression}\n", block)


def refused(folder: Path, expression: str, block: str = X) -> str:
    with pytest.raises(ExportError) as caught:
        made(folder, expression, block)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert "\n" not in message
    return message.removeprefix(WHERE)


def compared(result: Result) -> list[str]:
    parity = result.facts["parity"]
    assert parity["compared"]
    assert all(found["passed"] for found in parity["outputs"].values())
    return list(parity["outputs"])


IDS = """
inputs:
  ids: {data_type: INT64, shape: [batch, sequence]}
  mask: {data_type: INT64, shape: [batch, sequence]}
outputs: [embedding]
"""
MEAN = "(s.table(i) * m.unsqueeze(-1)).sum(1) / m.sum(1, keepdim=True).clamp(min=1)"
# name -> module, block, the outputs it has to have
MODULES = {
    "a perceptron": (
        "nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))",
        f"{X}\noutputs: [scores]",
        ["scores FP32 [batch, 3]"],
    ),
    "a convolution with normalization, left in training": (
        "nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9), nn.Flatten(), "
        "nn.Linear(144, 3)).train()",
        "inputs: {image: {shape: [batch, 1, 8, 8]}}\noutputs: [logits]",
        ["logits FP32 [batch, 3]"],
    ),
    "ids and a mask, an output called as an inner value": (
        f"OfTwo(lambda s, i, m: {MEAN}, table=nn.Embedding(10, 4))",
        IDS,
        ["embedding FP32 [batch, 4]"],
    ),
    "a dictionary": ("Of(lambda s, x: {'z': x * 2, 'a': x.sum(1)})", X, ["z FP32 [batch, 4]", "a FP32 [batch]"]),
    "a dictionary with other names": (
        "Of(lambda s, x: {'z': x * 2, 'a': x.sum(1)})",
        f"{X}\noutputs: [one, two]",
        ["one FP32 [batch, 4]", "two FP32 [batch]"],
    ),
    "a tuple in a tuple": (
        "Of(lambda s, x: (x * 2, (x.sum(1), x.argmax(1))))",
        f"{X}\noutputs: [a, b, c]",
        ["a FP32 [batch, 4]", "b FP32 [batch]", "c INT64 [batch]"],
    ),
    "a None among them": ("Of(lambda s, x: (x * 2, None))", f"{X}\noutputs: [a]", ["a FP32 [batch, 4]"]),
    "the input itself, and one output twice": (
        "Of(lambda s, x: (lambda y: (x, y, y))(x * 2))",
        f"{X}\noutputs: [a, b, c]",
        [f"{name} FP32 [batch, 4]" for name in "abc"],
    ),
    "the input itself, under no other name": (
        "Of(lambda s, x: {'x': x, 'y': x * 2})",
        X,
        ["x_output FP32 [batch, 4]", "y FP32 [batch, 4]"],
    ),
    "an output called as a weight": ("nn.Linear(4, 2)", f"{X}\noutputs: [weight]", ["weight FP32 [batch, 2]"]),
    "any number of arguments": (
        "OfAny(lambda s, a, *more: a + sum(more))",
        "inputs: {a: {shape: [batch, n]}, b: {shape: [batch, n]}, c: {shape: [batch, n]}}\noutputs: [y]",
        ["y FP32 [batch, n]"],
    ),
    "half precision": (
        "nn.Linear(64, 64).half()",
        "inputs: {x: {data_type: FP16, shape: [batch, 64]}}\noutputs: [y]",
        ["y FP16 [batch, 64]"],
    ),
    "axes with names that mean something to Python": (
        "nn.Linear(4, 2)",
        "inputs: {x: {shape: [N, lambda, 4]}}\noutputs: [y]",
        ["y FP32 [N, lambda, 2]"],
    ),
    "a recurrent network": (
        "Of(lambda s, x: s.cell(x)[0], cell=nn.LSTM(4, 5, batch_first=True))",
        "inputs: {x: {shape: [batch, time, 4]}}\noutputs: [y]",
        ["y FP32 [batch, y_1, 5]"],
    ),
    "a transformer": (
        "nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)",
        "inputs: {x: {shape: [batch, time, 8]}}\noutputs: [y]",
        ["y FP32 [batch, time, 8]"],
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_exported_and_compared_with_itself(name: str, tmp_path: Path) -> None:
    expression, block, outputs = MODULES[name]
    result = made(tmp_path, expression, block)
    assert (result.outputs, result.size) == (outputs, 8)
    assert result.facts["batch"]["proven"] == [1, 2, 8]
    assert compared(result) == [output.split()[0] for output in outputs]
    assert (result.facts["opset"], result.facts["source"]) == (18, "torch")


def test_ids_are_drawn_from_the_vocabulary(tmp_path: Path) -> None:
    expression, block, _ = MODULES["ids and a mask, an output called as an inner value"]
    result = made(tmp_path, expression, block)
    assert result.facts["ranges"] == {"ids": [0, 10], "mask": [0, 2]}
    lengths = {
        len(result.run(ids=np.zeros((2, n), np.int64), mask=np.ones((2, n), np.int64))["embedding"]) for n in (1, 5)
    }
    assert lengths == {2}


def test_a_shape_that_torch_states_wrongly_is_corrected(tmp_path: Path) -> None:
    """The exporter writes the time of its example, 4, as the size of an LSTM's output."""
    expression, block, _ = MODULES["a recurrent network"]
    result = made(tmp_path, expression, block)
    assert result.facts["changes"] == ["output 'y' said ['?', 4, 5] and has the shape [2, 8, 5]"]
    assert result.run(x=np.zeros((3, 11, 4), np.float32))["y"].shape == (3, 11, 5)


def test_an_axis_without_a_name_is_fixed(tmp_path: Path) -> None:
    result = made(tmp_path, "nn.Linear(4, 2)", "inputs: {x: {shape: [2, 4]}}\noutputs: [y]")
    assert (result.inputs, result.outputs, result.size) == (["x FP32 [2, 4]"], ["y FP32 [2, 2]"], 0)
    assert compared(result) == ["y"]


def test_equal_modules_give_equal_files_without_the_places_they_were_made_in(tmp_path: Path) -> None:
    expression, block, _ = MODULES["ids and a mask, an output called as an inner value"]
    expression = expression.replace(
        "nn.Embedding(10, 4)", "nn.Embedding.from_pretrained(torch.arange(40.).reshape(10, 4))"
    )
    first, second = ((made(tmp_path / name, expression, block).folder / MODEL_FILE).read_bytes() for name in ("a", "b"))
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b"site-packages" not in first


FIXED = {
    "a constant of the batch": "Of(lambda s, x: x + torch.zeros(3, 4))",
    "the size as a number": "Of(lambda s, x: x.reshape(int(x.shape[0]), 2, 2))",
    "a loop over the batch": "Of(lambda s, x: torch.stack([row * 2 for row in x]))",
    "a branch on the size": "Of(lambda s, x: x * 2 if x.shape[0] == 3 else x)",
}


@pytest.mark.parametrize("name", FIXED)
def test_a_batch_that_torch_fixes_is_refused(name: str, tmp_path: Path) -> None:
    """Its exporter does so without a word, and a model without batching would be served."""
    assert refused(tmp_path, FIXED[name]).startswith(
        "torch fixed the axis 'batch' of input 'x' at 3, the size of its example: `forward` computes with it as a "
    )


def test_another_axis_that_torch_fixes_is_refused_too(tmp_path: Path) -> None:
    block = "inputs: {x: {shape: [batch, time, 2]}}"
    sentence = refused(tmp_path, "Of(lambda s, x: x + torch.ones(4, 2))", block)
    assert sentence.startswith("torch fixed the axis 'time' of input 'x' at 4")


BAKED = {
    "a view": ("Of(lambda s, x: x.view(3, -1))", "Reshape 'node_view'"),
    "a mean over the batch": ("Of(lambda s, x: x - x.mean(0, keepdim=True))", "ReduceMean 'node_mean'"),
    "an output without a batch": ("Of(lambda s, x: x.mean(0))", "ReduceMean 'node_mean'"),
    "a batch left on another axis": ("Of(lambda s, x: x.T * 2)", "Transpose 'node_"),
}


@pytest.mark.parametrize("name", BAKED)
def test_a_batch_that_the_module_bakes_in_is_refused_with_the_node(name: str, tmp_path: Path) -> None:
    expression, node = BAKED[name]
    sentence = refused(tmp_path, expression)
    assert sentence.startswith("the batch dimension is not dynamic: ")
    assert f"the node that baked it in is {node}" in sentence


REFUSED = {
    "no inputs": (
        "nn.Linear(4, 2)",
        "",
        "a torch source needs `inputs:`, e.g. inputs: {x: {data_type: FP32, shape: [batch, 64]}}",
    ),
    "a forward that raises": (
        "Of(lambda s, x: 1 / 0)",
        X,
        "Of itself fails on x [3, 4]: ZeroDivisionError: division by zero",
    ),
    "another shape": (
        "nn.Linear(4, 2)",
        "inputs: {x: {shape: [batch, 5]}}",
        "Linear itself fails on x [3, 5]: RuntimeError: mat1 and mat2",
    ),
    "another type": (
        "nn.Linear(4, 2)",
        "inputs: {x: {data_type: INT64, shape: [batch, 4]}}",
        "Linear itself fails on x [3, 4]: RuntimeError: ",
    ),
    "too many inputs": (
        "nn.Linear(4, 2)",
        "inputs: {x: {shape: [batch, 4]}, y: {shape: [batch, 4]}}",
        "Linear itself fails on x [3, 4], y [3, 4]: TypeError: ",
    ),
    "too few inputs": ("OfTwo(lambda s, i, m: i + m)", X, "OfTwo itself fails on x [3, 4]: TypeError: "),
    "text": (
        "nn.Linear(4, 2)",
        "inputs: {x: {data_type: BYTES, shape: [batch, 4]}}",
        "input 'x' is BYTES, which cannot be exported from torch",
    ),
    "brain floats": (
        "nn.Linear(4, 2)",
        "inputs: {x: {data_type: BF16, shape: [batch, 4]}}",
        "input 'x' is BF16, which cannot be",
    ),
    "an answer that is no tensor": (
        "Of(lambda s, x: 'yes')",
        X,
        "Of answers with str; tensors are needed, alone or in a tuple",
    ),
    "a branch on values": (
        "Of(lambda s, x: x if x.sum() > 0 else -x)",
        X,
        "torch cannot export Of: GuardOnDataDependentSymNode: Could not guard",
    ),
    "too many names": (
        "nn.Linear(4, 2)",
        f"{X}\noutputs: [a, b]",
        "`outputs:` gives the names ['a', 'b'], the graph has 1 outputs: ",
    ),
    "one name twice": (
        "Of(lambda s, x: (x * 2, x * 3))",
        f"{X}\noutputs: [a, a]",
        "`outputs:` gives the names ['a', 'a'], the graph has 2",
    ),
    "an input's name": (
        "nn.Linear(4, 2)",
        f"{X}\noutputs: [x]",
        "`outputs:` gives the name 'x', which is an input's; choose another",
    ),
    "no module": ("3", X, "'source.py:make' gave an int; a torch.nn.Module or a torch.export program,"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    expression, block, sentence = REFUSED[name]
    found = refused(tmp_path, expression, block)
    assert found.startswith(sentence)
    assert "For more information" not in found


def test_an_exporter_that_gets_a_value_wrong_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    export = torch.onnx.export

    def wrong(*args: object, **kwargs: object) -> object:
        program = export(*args, **kwargs)
        weight = next(t for t in program.model_proto.graph.initializer if t.name == "weight")
        values = np.frombuffer(weight.raw_data, np.float32).copy()
        values[3] += 0.5
        model = program.model_proto
        next(t for t in model.graph.initializer if t.name == "weight").raw_data = values.tobytes()
        return type("Program", (), {"model_proto": model})()

    monkeypatch.setattr(torch.onnx, "export", wrong)
    sentence = refused(tmp_path, "nn.Linear(4, 2)", f"{X}\noutputs: [y]")
    assert sentence.startswith(
        "the exported graph is not its source: output 'y' on random data: 16 of 32 elements differ, at most by"
    )


def test_nothing_that_torch_or_the_module_says_leaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made(tmp_path, "Of(lambda s, x: (print('traced'), x * 2)[1])")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [str(warning.message) for warning in caught if "torch" in str(warning.filename)] == []
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_silence_ends_where_it_should(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    def speak() -> None:
        print("hidden")
        logging.getLogger("x").error("hidden")
        raise ValueError("loud")

    with pytest.raises(ValueError, match="loud"), quiet():
        speak()
    print("shown")
    logging.getLogger("x").error("shown")
    assert capsys.readouterr().out == "shown\n"
    assert [record.message for record in caplog.records] == ["shown"]


@pytest.mark.parametrize("module", ["torch", "onnxscript"])
def test_without_torch_the_extra_is_named(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's file may import torch elsewhere; what trtkit needs itself is said."""
    from trtkit.export.torch_source import convert_module

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{module} .*; run: pip install 'trtkit\[torch\]'"):
        convert_module(object(), None, "here")  # type: ignore[arg-type]
