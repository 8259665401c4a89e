# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""torch.export programs: what they say of themselves is what is served, and files that hold none are refused."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from exporting import Result, export, export_python, project
from trtkit.build_worker import FileWatch
from trtkit.errors import ExportError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.quiet import quiet
from trtkit.export.sources import load_source
from trtkit.project.callables import call

CODE = """
import torch
from torch import nn
from torch.export import Dim, export

BATCH = Dim("b")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 2), nn.Dropout(0.5)

    def forward(self, x, y, *, scale):
        return {"scores": self.drop(self.linear(x)) + y.sum(1, keepdim=True) * scale, "twice": x * 2}

class Nested(nn.Module):
    def forward(self, parts):
        return parts[0] - parts[1]["other"], None

class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

class Times(nn.Module):
    def forward(self, x, k):
        return x * k

class Nothing(nn.Module):
    def forward(self):
        return torch.ones(2)

torch.manual_seed(0)
NET = Net().eval()

def net(module=NET, batch=BATCH):
    shapes = {"x": {0: batch}, "y": {0: batch, 1: Dim("t")}, "scale": {0: batch}}
    inputs = torch.randn(3, 4), torch.randn(3, 5)
    return export(module, inputs, {"scale": torch.randn(3, 1)}, dynamic_shapes=shapes)

def one(module, x, **dims):
    return export(module, (x,), dynamic_shapes=({int(axis[1:]): dim for axis, dim in dims.items()},))

def nested():
    shapes = {"parts": [{0: BATCH}, {"other": {0: BATCH}}]}
    return export(Nested(), ([torch.randn(3, 4), {"other": torch.randn(3, 4)}],), dynamic_shapes=shapes)
"""
WHERE = "trtkit.yaml:3:14: "


def made(folder: Path, expression: str, block: str = "", kind: str = "torch") -> Result:
    """Export the program that an expression gives."""
    return export_python(folder, kind, f"{CODE}\ndef make():\n    return {expression}\n", block)


def sentence(caught: pytest.ExceptionInfo[ExportError]) -> str:
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert "\n" not in message
    assert len(message) < 800
    return message.removeprefix(WHERE)


def refused(folder: Path, expression: str, block: str = "") -> str:
    with pytest.raises(ExportError) as caught:
        made(folder, expression, block)
    return sentence(caught)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The program of three inputs, one of them a keyword."""
    return made(tmp_path_factory.mktemp("net"), "net()")


def test_a_program_says_itself_what_it_takes(net: Result) -> None:
    time = re.fullmatch(r"y FP32 \[batch, (s\d+)\]", net.inputs[1])
    assert time, "an axis that is no batch has the name of its symbol"
    assert net.inputs == ["x FP32 [batch, 4]", f"y FP32 [batch, {time[1]}]", "scale FP32 [batch, 1]"]
    assert net.outputs == ["scores FP32 [batch, 2]", "twice FP32 [batch, 4]"]
    assert (net.size, net.facts["source"], net.facts["opset"]) == (8, "torch", 18)
    assert net.facts["batch"]["proven"] == [1, 2, 8]
    parity = net.facts["parity"]
    assert parity["compared"]
    assert list(parity["outputs"]) == ["scores", "twice"]


@pytest.mark.parametrize(("rows", "time"), [(1, 1), (2, 9), (7, 3)])
def test_it_computes_what_the_module_computes(net: Result, rows: int, time: int) -> None:
    weights = {t.name: numpy_helper.to_array(t) for t in net.model.graph.initializer}
    rng = np.random.default_rng(rows)
    x, y, scale = (rng.standard_normal((rows, n)).astype(np.float32) for n in (4, time, 1))
    found = net.run(x=x, y=y, scale=scale)
    expected = x @ weights["linear.weight"].T + weights["linear.bias"] + y.sum(1, keepdims=True) * scale
    assert np.allclose(found["scores"], expected, atol=1e-5)
    assert np.array_equal(found["twice"], x * 2)


def test_the_project_file_names_inputs_axes_and_outputs(tmp_path: Path) -> None:
    block = "inputs: {q: {shape: [n, 4]}, r: {shape: [n, tokens]}, s: {shape: [n, 1]}}\noutputs: [one, two]"
    result = made(tmp_path, "net()", block, "callable")
    assert result.inputs == ["q FP32 [n, 4]", "r FP32 [n, tokens]", "s FP32 [n, 1]"]
    assert result.outputs == ["one FP32 [n, 2]", "two FP32 [n, 4]"]
    assert list(result.facts["parity"]["outputs"]) == ["one", "two"]


def test_tensors_in_lists_and_dictionaries_are_inputs_one_by_one(tmp_path: Path) -> None:
    result = made(tmp_path, "nested()")
    assert result.inputs == ["parts_0 FP32 [batch, 4]", "parts_1_other FP32 [batch, 4]"]
    ones = np.ones((2, 4), np.float32)
    (found,) = result.run(parts_0=ones * 5, parts_1_other=ones * 2).values()
    assert np.array_equal(found, ones * 3)
    assert result.facts["parity"]["compared"]


def test_a_formula_of_an_axis_is_kept(tmp_path: Path) -> None:
    program = "one(Of(lambda x: x.reshape(x.shape[0], -1, 2).sum(2)), torch.randn(8, 6), d0=BATCH, d1=2 * Dim('h'))"
    result = made(tmp_path, program)
    symbol = re.fullmatch(r"x FP32 \[batch, 2\*(s\d+)\]", result.inputs[0])
    assert symbol
    assert result.outputs == [f"sum_1 FP32 [batch, {symbol[1]}]"]
    assert result.run(x=np.ones((3, 10), np.float32))["sum_1"].tolist() == [[2.0] * 5] * 3


def test_a_program_without_dynamic_axes_does_not_batch(tmp_path: Path) -> None:
    result = made(tmp_path, "one(nn.ReLU(), torch.randn(2, 3))")
    assert (result.inputs, result.outputs, result.size) == (["input FP32 [2, 3]"], ["relu FP32 [2, 3]"], 0)


def test_a_program_of_at_most_four_rows_is_compared_four_by_four(tmp_path: Path) -> None:
    program = "net(batch=Dim('b', max=4))"
    result = made(tmp_path / "a", program, "config: {max_batch_size: 4}")
    assert (result.size, result.facts["parity"]["rows"]) == (4, 16)
    for block in ("", "config: {max_batch_size: 5}"):
        wanted = 5 if block else 8
        assert refused(tmp_path / "b", program, block) == (
            f"the program takes a batch of at most 4, and max_batch_size is {wanted}; set config: "
            "{max_batch_size: 4}, or export it with a larger maximum"
        )


def test_equal_programs_give_equal_files_without_the_places_they_were_made_in(net: Result, tmp_path: Path) -> None:
    again = made(tmp_path, "net()")
    content = (again.folder / MODEL_FILE).read_bytes()
    assert content == (net.folder / MODEL_FILE).read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"site-packages" not in content


INPUTS = "inputs: {{q: {{shape: [{}]}}, r: {{shape: [{}]}}, s: {{shape: [{}]}}}}"
# expression, block, the sentence with <s> for a symbol of torch's
REFUSED = {
    "training": (
        "net(Net().train())",
        "",
        "the program was exported in training mode: its aten.dropout.default 'dropout' gives other values in each call",
    ),
    "training of a normalization": (
        "one(nn.BatchNorm1d(4).train(), torch.randn(3, 4), d0=BATCH)",
        "",
        "the program was exported in training mode: its aten.batch_norm.default 'batch_norm' gives other values",
    ),
    "a number as input": (
        "export(Times(), (torch.randn(3, 4), 3), dynamic_shapes=({0: BATCH}, None))",
        "",
        "the program takes 'k', which is int and no tensor; make it a constant of the module",
    ),
    "a number as output": (
        "one(Of(lambda x: (x * 2, x.shape[1])), torch.randn(3, 4), d0=BATCH)",
        "",
        "the program answers with 4, which is no tensor; let `forward` return tensors only",
    ),
    "brain floats": (
        "one(nn.ReLU(), torch.randn(3, 4).bfloat16(), d0=BATCH)",
        "",
        "input 'input' of the program is torch.bfloat16, which Triton or ONNX Runtime cannot pass",
    ),
    "no inputs": (
        "export(Nothing(), ())",
        "",
        "the program takes no inputs, so that nothing could be asked of it",
    ),
    "fewer inputs": (
        "net()",
        "inputs: {q: {shape: [n, 4]}}",
        "`inputs:` has 1 (q), the program takes 3: x, y, scale",
    ),
    "another size": (
        "net()",
        INPUTS.format("n, 5", "n, t", "n, 1"),
        "input 'q' has 5 as axis 1, but the program's 'x' is FP32 [<s>, 4]",
    ),
    "another rank": (
        "net()",
        INPUTS.format("n, 4, 1", "n, t", "n, 1"),
        "input 'q' has 3 axes, but the program's 'x' is FP32 [<s>, 4]",
    ),
    "another type": (
        "net()",
        "inputs: {q: {data_type: FP64, shape: [n, 4]}, r: {shape: [n, t]}, s: {shape: [n, 1]}}",
        "input 'q' is FP64, but the program's 'x' is FP32 [<s>, 4]",
    ),
    "a name for a fixed axis": (
        "net()",
        INPUTS.format("n, k", "n, t", "n, 1"),
        "input 'q' calls axis 1 'k', but the program's 'x' is FP32 [<s>, 4]: it is fixed at 4; export it with "
        "dynamic_shapes, or write 4",
    ),
    "a size for a dynamic axis": (
        "net()",
        INPUTS.format("n, 4", "n, 7", "n, 1"),
        "input 'r' has 7 as axis 1, but the program's 'y' is FP32 [<s>, <s>]: it is dynamic; give it a name",
    ),
    "two names for one axis": (
        "net()",
        INPUTS.format("n, 4", "m, t", "n, 1"),
        "input 'r' calls an axis 'm' that is 'n' before: the program has one size for both; give them one name",
    ),
    "too many names": (
        "net()",
        "outputs: [a, b, c]",
        "`outputs:` gives the names ['a', 'b', 'c'], the graph has 2 outputs: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    expression, block, expected = REFUSED[name]
    found = refused(tmp_path, expression, block)
    assert re.sub(r"\bs\d+\b", "<s>", found).startswith(expected)


def test_a_batch_that_the_program_bakes_in_is_refused_with_the_node(tmp_path: Path) -> None:
    found = refused(tmp_path, "one(Of(lambda x: x - x.mean(0, keepdim=True)), torch.randn(3, 4), d0=BATCH)")
    assert found.startswith("the batch dimension is not dynamic: ")
    assert "the node that baked it in is ReduceMean" in found


# -- files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of the .pt2 file of the program above."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "saving.py").write_text(f"{CODE}\ndef save(file):\n    torch.export.save(net(), file)\n")
    with quiet():
        call("saving.py:save", folder, "here", folder / "model.pt2")
    return (folder / "model.pt2").read_bytes()


def of_file(folder: Path, content: bytes, kind: str = "torch: model.pt2") -> Result:
    code = "def path():\n    return 'model.pt2'\n"
    return export(project(folder, f"source: {{{kind}}}", model_pt2=content, source_py=code))


@pytest.mark.parametrize("kind", ["torch: model.pt2", "callable: source.py:path", "torch: source.py:path"])
def test_a_saved_program_is_the_program(kind: str, net: Result, saved: bytes, tmp_path: Path) -> None:
    result = of_file(tmp_path, saved, kind)
    assert (result.inputs, result.outputs, result.size) == (net.inputs, net.outputs, 8)
    assert result.facts["source"] == "torch"
    rows = {name: np.ones((3, size), np.float32) for name, size in {"x": 4, "y": 6, "scale": 1}.items()}
    assert np.allclose(result.run(**rows)["scores"], net.run(**rows)["scores"], atol=1e-6)


def rewritten(content: bytes, change: dict[str, object]) -> bytes:
    """The archive with other values at the top of models/model.json."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name.endswith("models/model.json"):
                part = json.dumps({**json.loads(part), **change}).encode()
            new.writestr(name, part)
    return out.getvalue()


def with_a_changed_weight(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weight = archive.read(next(n for n in archive.namelist() if n.endswith("weights/weight_0")))
    assert content.count(weight) == 1
    return content.replace(weight, weight[:-1] + bytes([weight[-1] ^ 1]))


def compiled_package(_: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
        archive.writestr("model/data/aotinductor/model/wrapper.so", "")
    return out.getvalue()


FILES = {
    "text": (lambda content: b"text", "is no torch.export program, or a damaged one: File is not a zip file; write it"),
    "nothing": (lambda content: b"", "is no torch.export program, or a damaged one: File is not a zip file; write it"),
    "half of it": (lambda content: content[: len(content) // 2], "is no torch.export program, or a damaged one: "),
    "a changed weight": (with_a_changed_weight, "is damaged: its part "),
    "a newer torch's": (
        lambda content: rewritten(content, {"schema_version": {"major": 99, "minor": 1}, "torch_version": "4.2.0"}),
        "was saved by torch 4.2.0, and torch ",
    ),
    "another content": (
        lambda content: rewritten(content, {"graph_module": {}}),
        "is no torch.export program that torch ",
    ),
    "a compiled one": (compiled_package, "is compiled for one machine (AOTInductor); save the torch.export program"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_holds_no_program_is_refused_in_one_sentence(name: str, saved: bytes, tmp_path: Path) -> None:
    change, expected = FILES[name]
    with pytest.raises(ExportError) as caught:
        of_file(tmp_path, change(saved))
    assert sentence(caught).startswith(f"model.pt2 {expected}")


def test_a_torch_source_that_is_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export(project(tmp_path, "source: {torch: model.pt}", model_pt=b"a pickle"))
    assert sentence(caught) == (
        "'model.pt' is a .pt file; a torch.nn.Module or a torch.export program, given by FILE.py:NAME or saved as "
        ".pt2, is needed"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.pt2", "missing.pt2 cannot be read: No such file or directory"),
        ("x" * 5000, "is no usable path: File name too long"),
        ("a\0b", "is no usable path: embedded null byte"),
    ],
)
def test_a_path_that_is_none_is_refused(path: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_python(tmp_path, "callable", f"def make():\n    return {path!r}\n")
    assert str(caught.value).endswith(reason)


def test_the_build_sees_that_the_file_is_read(saved: bytes, tmp_path: Path) -> None:
    """A file that is opened in C++ would be missing in the record, and a changed program not be built again."""
    made = project(tmp_path, "source: {torch: model.pt2}", model_pt2=saved)
    watch = FileWatch(made, "m")
    watch.start()
    load_source(made, "m")
    assert tmp_path / "model.pt2" in watch.opened
    assert "model.pt2" in watch.files()
