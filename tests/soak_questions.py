# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models, and good and bad requests for them, each with a check of what came back.

A good request's outputs are those of onnxruntime in this process; a bad request's error names what is wrong with
this very request, so that the error of a batch-mate is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

import onnx_models
from precision_models import Graph

Outputs = Mapping[str, np.ndarray]
# the requests of 2 ms run together, so that good ones have bad mates
CONFIG = """
backend: "onnxruntime"
max_batch_size: 32
dynamic_batching {{ max_queue_delay_microseconds: 2000 }}
instance_group {{ count: {instances} kind: KIND_CPU }}
"""
HUGE = 1 << 40  # elements: 4 TiB


class Question(NamedTuple):
    """A request and what its answer must be.

    Attributes:
        kind: one word for the report; ``bad ...`` when only an error can be right.
        model: the model's name.
        inputs: tensors by name.
        wrong: says what is wrong with outputs or an error's words; '' when nothing is.
        outputs: names to ask for; all when empty.
        cancel: whether the client takes it back after a moment; then no answer is right too.
    """

    kind: str
    model: str
    inputs: Outputs
    wrong: Callable[[Outputs | str], str]
    outputs: tuple[str, ...] = ()
    cancel: bool = False


def memory() -> ModelProto:
    """Elements INT64 [batch, 1] -> y [batch, 1], the same, after so many elements (the batch's most) were allocated."""
    graph = Graph(seed=0)
    graph.constant("no_axes", [1], np.int64)
    graph.op("ReduceMax", ["elements"], "most", keepdims=0)
    graph.op("Reshape", ["most", "no_axes"], "shape")
    graph.op("Cast", [graph.op("ReduceSum", [graph.op("ConstantOfShape", ["shape"], "zeros")], "sum")], "zero", to=7)
    graph.op("Add", ["elements", "zero"], "y")
    model = graph.model({"elements": (TensorProto.INT64, ["batch", 1])}, {})
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.INT64, ["batch", 1]))
    return model


MODELS: dict[str, tuple[ModelProto, int]] = {
    "matmul": (onnx_models.matmul_dynamic_batch(), 2),
    "lookup": (onnx_models.fails_on_index_above_three(), 1),
    "sum": (onnx_models.sum_of_dynamic_second_axis(), 1),
    "strings": (onnx_models.identity(TensorProto.STRING, ["batch", "n"]), 1),
    "memory": (memory(), 1),
}


def write_repository(folder: Path) -> None:
    """All models."""
    for name, (model, instances) in MODELS.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        onnx.save(model, version / "model.onnx")
        (version.parent / "config.pbtxt").write_text(CONFIG.format(instances=instances))


@cache
def _session(model: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(MODELS[model][0].SerializeToString(), options, providers=["CPUExecutionProvider"])


def expected(model: str, inputs: Outputs) -> dict[str, np.ndarray]:
    """The outputs of onnxruntime in this process."""
    session = _session(model)
    return dict(zip([node.name for node in session.get_outputs()], session.run(None, dict(inputs)), strict=True))


def differs(outputs: Outputs, reference: Outputs) -> str:
    """What is wrong with outputs; sums of floats may depend on the batch in their last bits."""
    if outputs.keys() != reference.keys():
        return f"outputs {sorted(outputs)} instead of {sorted(reference)}"
    for name, value in reference.items():
        given = outputs[name]
        if given.shape != value.shape:
            return f"{name} has shape {given.shape} instead of {value.shape}"
        equal = (
            np.allclose(given, value, 1e-5, 1e-6, equal_nan=True)
            if value.dtype.kind == "f"
            else np.array_equal(given, value)
        )
        if not equal:
            return f"{name} is {given.ravel()[:4]} instead of {value.ravel()[:4]}"
    return ""


def good(kind: str, model: str, inputs: Outputs, reference: Outputs | None = None, cancel: bool = False) -> Question:
    """A request that must be answered with the reference's outputs, by default those of onnxruntime here."""
    known = expected(model, inputs) if reference is None else reference

    def wrong(answer: Outputs | str) -> str:
        return f"an error: {answer}" if isinstance(answer, str) else differs(answer, known)

    return Question(kind, model, inputs, wrong, cancel=cancel)


def bad(kind: str, model: str, inputs: Outputs, *words: str, outputs: tuple[str, ...] = ()) -> Question:
    """A request whose error must hold all these words."""

    def wrong(answer: Outputs | str) -> str:
        if not isinstance(answer, str):
            return "an answer where an error was due"
        missing = [word for word in words if word not in answer]
        return f"the error lacks {missing}: {answer}" if missing else ""

    return Question(f"bad: {kind}", model, inputs, wrong, outputs=outputs)


def strings(kind: str, *values: bytes) -> Question:
    """A row of strings, which come back as they are."""
    tensor = np.array([values], dtype=np.object_)
    return good(kind, "strings", {"x": tensor}, {"y": tensor})


def good_questions(random: np.random.Generator) -> Iterator[Question]:
    """One good request of each kind, with random values."""
    rows, width = int(random.integers(1, 4)), int(random.integers(1, 9))
    x = random.standard_normal((rows, 64), dtype=np.float32)
    yield good("matmul", "matmul", {"x": x})
    yield good("matmul, cancelled", "matmul", {"x": x}, cancel=True)
    yield good("not a number", "matmul", {"x": np.where(x > 1, np.float32(np.nan), x)})
    yield good("lookup", "lookup", {"index": random.integers(0, 4, (rows, 1))})
    yield good("lookup, cancelled", "lookup", {"index": random.integers(0, 4, (rows, 1))}, cancel=True)
    yield good("sum", "sum", {"x": random.random((rows, width), np.float32)})
    yield good("sum of nothing", "sum", {"x": np.zeros((rows, 0), np.float32)})
    yield good("memory", "memory", {"elements": random.integers(1, 1000, (rows, 1))})
    yield strings("strings", *(random.bytes(width).hex().encode() for _ in range(width)))
    yield strings("empty strings", b"", "né".encode(), b"")


def bad_questions(random: np.random.Generator) -> Iterator[Question]:
    """One bad request of each kind, with random values."""
    x = random.standard_normal((1, 64), dtype=np.float32)
    width = int(random.integers(1, 64))
    yield bad("wrong dtype", "matmul", {"x": x.astype(np.float64)}, "'x'", "'FP64'", "'FP32'")
    yield bad("wrong shape", "matmul", {"x": x[:, :width]}, "'x'", f"[1,{width}]")
    yield bad("wrong rank", "matmul", {"x": x[0]}, "<= 32", "matmul")  # 64 rows
    yield bad("missing input", "matmul", {}, "expected 1 inputs but got 0", "matmul")
    yield bad("unknown input", "matmul", {"other": x}, "'other'", "matmul")
    yield bad("unknown output", "matmul", {"x": x}, "'other'", "matmul", outputs=("other",))
    yield bad("batch too large", "matmul", {"x": np.repeat(x, 33, 0)}, "<= 32", "matmul")
    index = int(random.integers(4, 1 << 30))
    yield bad("index out of range", "lookup", {"index": np.array([[index]])}, f"idx={index} ")
    elements = HUGE + 64 * int(random.integers(0, HUGE // 64))  # ONNX Runtime allocates multiples of 256 bytes
    yield bad("absurd memory", "memory", {"elements": np.array([[elements]])}, "memory", str(elements * 4))


def not_utf8(random: np.random.Generator) -> Iterator[Question]:
    """Strings that are not UTF-8: they come back as they are, or an error says what they are not."""
    question = strings("not UTF-8", b"\xff\xfe" + random.bytes(3).replace(b"\0", b"\1"), b"plain")

    def wrong(answer: Outputs | str) -> str:
        return "" if isinstance(answer, str) and "UTF-8" in answer else question.wrong(answer)

    yield question._replace(wrong=wrong)


def giant_string(megabytes: int) -> Question:
    """A single string of so many megabytes."""
    return strings(f"a string of {megabytes} MB", b"x" * (megabytes << 20))


def pool(size: int, makers: tuple[Callable[[Any], Iterator[Question]], ...]) -> list[Question]:
    """So many draws of each kind of question, shuffled."""
    random = np.random.default_rng(0)
    drawn = [question for _ in range(size) for make in makers for question in make(random)]
    order = random.permutation(len(drawn))
    return [drawn[index] for index in order]
