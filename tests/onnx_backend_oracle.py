# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX's own backend cases, and what ONNX Runtime makes of each in this process."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test import loader
from onnx.backend.test.case import model as model_cases
from onnx.backend.test.case import node as node_cases

from trtkit.dtypes import by_onnx

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_IN_FILES = ("pytorch-converted", "pytorch-operator")  # kinds of cases that the package holds as files
_LIGHT = "onnx/backend/test/data/light/"  # of those with a URL, the ones that lie in the package

Tensors = dict[str, np.ndarray]


class CannotBeServedError(Exception):
    """A case that Triton cannot serve, or that ONNX Runtime cannot run.

    Attributes:
        reason: a few words, the same for all cases of a kind.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Case(NamedTuple):
    """One of ONNX's cases.

    Attributes:
        kind: where it comes from, in ONNX's words; ``node`` are those of single operators.
        data_sets: pairs of inputs and outputs, in the graph's order.
        rtol: by how much an output may differ, relatively.
        atol: the same, absolutely.
    """

    name: str
    kind: str
    model: ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


class Spec(NamedTuple):
    """A tensor as config.pbtxt describes it."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    optional: bool = False


class Plan(NamedTuple):
    """A case that can be served.

    Attributes:
        model: the case's, where necessary with the changes that `notes` tell.
        inputs: those that are initializers too, which a request may leave out, stand last.
        requests: pairs of inputs and wanted outputs, as Triton takes and gives them: scalars as [1].
        truth: whose outputs those are: ``ONNX``, or ``ONNX Runtime`` where that does not agree with the case.
        notes: what was changed in the model.
    """

    case: Case
    model: ModelProto
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    requests: tuple[tuple[Tensors, Tensors], ...]
    truth: str
    notes: str

    @property
    def batches(self) -> bool:
        """Whether the backend, asked to complete the configuration, would take the first dimension for a batch."""
        return all(spec.dims[0] == -1 for spec in (*self.inputs, *self.outputs))


@functools.cache
def collect() -> tuple[Case, ...]:
    """All small cases that need no download."""
    cases = [
        Case(each.name, each.kind, each.model, each.data_sets, each.rtol, each.atol)
        for each in _in_memory()
        if each.model is not None
    ]
    return (*cases, *(_of_files(each) for kind in _IN_FILES for each in loader.load_model_tests(kind=kind)))


def networks() -> Iterator[Case]:
    """Well-known networks whose weights are constants, so that they need no download either."""
    for each in _in_memory():
        if (each.url or "").startswith(_LIGHT):
            yield _light(each)


def _in_memory() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute their outputs with infinities and NaN
        return [*node_cases.collect_testcases(None), *model_cases.collect_testcases()]


def _light(each: Any) -> Case:
    """ONNX computed the network's output for an input that counts from 0 to 1."""
    file = Path(onnx.__file__).parents[1] / each.url
    model = onnx.load(file)
    weights = {tensor.name for tensor in model.graph.initializer}
    (info,) = (info for info in model.graph.input if info.name not in weights)
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    counting = (np.arange(np.prod(shape)) / np.prod(shape)).reshape(shape).astype(np.float32)
    output = onnx.load_tensor(file.with_name(f"{file.stem}_output_0.pb"))
    return Case(each.name, each.kind, model, [([counting], [output])], each.rtol, each.atol)


def _of_files(each: Any) -> Case:
    folder = Path(each.model_dir)
    data_sets = [
        tuple([onnx.load_tensor(data / f"{side}_{i}.pb") for i in range(len([*data.glob(f"{side}_*.pb")]))]
              for side in ("input", "output"))
        for data in sorted(folder.glob("test_data_set_*"))
    ]  # fmt: skip
    return Case(each.name, each.kind, onnx.load(folder / "model.onnx"), data_sets, each.rtol, each.atol)


def plan_of(case: Case) -> Plan:
    """How to serve a case and what must come back.

    Raises:
        CannotBeServedError: Triton has no such type or no such model, or ONNX Runtime cannot run it.
    """
    _check_types(case.model)
    model = ModelProto()
    model.CopyFrom(case.model)
    notes = "declared dimensions of 0 made dynamic" if _free_zeros(model) else ""
    session = _open(model)
    requests, truths = [], set()
    for feed in _feeds(case, model, session):
        outputs, truth = _truth(session, case, *feed)
        requests.append((_as_served(feed[0]), _as_served(outputs)))
        truths.add(truth)
    types = {info.name: by_onnx(info.type.tensor_type.elem_type).triton for info in _interface(model)}
    inputs = [_spec(types, node) for node in session.get_inputs()]
    inputs += [_spec(types, node, optional=True) for node in session.get_overridable_initializers()]
    outputs = tuple(_spec(types, node) for node in session.get_outputs())
    if any(0 in spec.dims for spec in (*inputs, *outputs)):  # of an output, inferred
        raise CannotBeServedError("config.pbtxt cannot say a dimension of 0")
    return Plan(case, model, tuple(inputs), outputs, tuple(requests), max(truths), notes)


def difference(got: np.ndarray, want: np.ndarray, case: Case) -> str:
    """How a tensor differs from the wanted one; empty where it is right by the case's tolerance."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"is {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
    if want.dtype == np.object_:
        return "" if got.tolist() == want.tolist() else f"is {got.tolist()}, not {want.tolist()}"[:300]
    rtol = case.rtol
    if want.dtype == BFLOAT16:
        rtol = max(rtol, 2**-6)  # two units in its last place, as ONNX's own runner has it
        got, want = got.astype(np.float32), want.astype(np.float32)
    wrong = ~np.isclose(got, want, rtol, case.atol, equal_nan=True)
    if not wrong.any():
        return ""
    return f"has {wrong.sum()} of {wrong.size} elements wrong, such as {got[wrong][0]} for {want[wrong][0]}"


def _interface(model: ModelProto) -> Iterator[ValueInfoProto]:
    yield from model.graph.input
    yield from model.graph.output


def _check_types(model: ModelProto) -> None:
    for info in _interface(model):
        kind = info.type.WhichOneof("value").removesuffix("_type")
        if kind != "tensor":
            raise CannotBeServedError(f"an input or output is {'an' if kind == 'optional' else 'a'} {kind}")
        if by_onnx(info.type.tensor_type.elem_type) is None:
            name = TensorProto.DataType.Name(info.type.tensor_type.elem_type)
            raise CannotBeServedError(f"Triton has no data type {name}")


def _free_zeros(model: ModelProto) -> bool:
    """Make declared dimensions of 0 dynamic, because config.pbtxt can say 1 and more or -1; whether there were any."""
    zeros = [
        (dim, f"{info.name}_{axis}")
        for info in _interface(model)
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        if dim.HasField("dim_value") and dim.dim_value == 0
    ]
    for dim, name in zeros:
        dim.dim_param = name
    return bool(zeros)


def _open(model: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise CannotBeServedError(*_refusal("refuses the model", error)) from error


def _refusal(what: str, error: Exception) -> tuple[str, str]:
    """The error's kind, and all of it."""
    words = " ".join(str(error).split())
    parts = words.split(" : ", 3)
    kind = parts[2] if len(parts) == 4 else type(error).__name__
    if "max supported IR version" in words or "support for models stamped with official released onnx opset" in words:
        kind = "it is newer than ONNX Runtime"
    return f"ONNX Runtime {what} ({kind})", words


def _feeds(case: Case, model: ModelProto, session: ort.InferenceSession) -> Iterator[tuple[Tensors, Tensors]]:
    """The inputs and outputs of the case by name; once more with the optional inputs where there are some."""
    names = [[node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs())]
    optional = {node.name for node in session.get_overridable_initializers()}
    defaults = {tensor.name: _array(tensor) for tensor in model.graph.initializer if tensor.name in optional}
    for data_set in case.data_sets:
        inputs, outputs = (
            dict(zip(side, map(_array, values), strict=True)) for side, values in zip(names, data_set, strict=True)
        )
        yield inputs, outputs
        if defaults:
            yield {**inputs, **defaults}, outputs


def _array(value: Any) -> np.ndarray:
    array = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
    return array.astype(np.object_) if array.dtype.kind in "SU" else array


def _truth(session: ort.InferenceSession, case: Case, inputs: Tensors, given: Tensors) -> tuple[Tensors, str]:
    """What ONNX Runtime answers, or what the case says where they agree; and which of it."""
    try:
        own = _run(session, inputs, given)
    except Exception as error:  # see _open
        raise CannotBeServedError(*_refusal("cannot run it", error)) from error
    agree = not any(difference(own[name], given[name], case) for name in given)
    return (given, "ONNX") if agree else (own, "ONNX Runtime")


def _run(session: ort.InferenceSession, inputs: Tensors, given: Tensors) -> Tensors:
    if BFLOAT16 not in {value.dtype for value in (*inputs.values(), *given.values())}:
        return dict(zip(given, session.run(list(given), inputs), strict=True))
    values = session.run_with_ort_values(list(given), {name: _ort_value(value) for name, value in inputs.items()})
    # ONNX Runtime's Python API cannot give a BF16 tensor: there the case is trusted
    return {
        name: tensor if tensor.dtype == BFLOAT16 else value.numpy()
        for (name, tensor), value in zip(given.items(), values, strict=True)
    }


def _ort_value(value: np.ndarray) -> ort.OrtValue:
    if value.dtype == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(value.view(np.uint16), TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(value)


def _as_served(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Triton has no scalars, and strings are bytes."""
    served = {name: value if value.ndim else value.reshape(1) for name, value in tensors.items()}
    return {name: _encoded(value) if value.dtype == np.object_ else value for name, value in served.items()}


def _encoded(value: np.ndarray) -> np.ndarray:
    encoded = np.empty(value.shape, np.object_)
    encoded.ravel()[:] = [item if isinstance(item, bytes) else item.encode() for item in value.ravel()]
    return encoded


def _spec(types: Mapping[str, str], node: ort.NodeArg, *, optional: bool = False) -> Spec:
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return Spec(node.name, types[node.name], dims or (1,), optional)
