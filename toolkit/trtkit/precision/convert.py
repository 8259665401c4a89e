# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One exported FP32 graph → the graph of another precision, and what became of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import TensorProto

from trtkit.errors import BuildError, ConfigError
from trtkit.export.onnx_file import MODEL_FILE, read_graph, read_onnx
from trtkit.numerics import Array
from trtkit.precision.calibration import Ranges
from trtkit.precision.cpu_int8 import quantize_cpu
from trtkit.precision.culprits import find_culprits, overflowing_nodes
from trtkit.precision.emulate import cpu_session
from trtkit.precision.evidence import Evidence
from trtkit.precision.graph_edit import name_nodes
from trtkit.precision.half import HalfResult, nodes_asked, to_half
from trtkit.precision.key import CPU, TENSORRT
from trtkit.precision.qdq import quantize_tensorrt
from trtkit.precision.qdq_rules import count_qdq, qdq_problems
from trtkit.project import Keep

if TYPE_CHECKING:
    import onnx

_HALF = {"fp16": "FP16", "bf16": "BF16"}
_SEARCH_ROWS = 64


@dataclass
class Converted:
    """A graph in another precision.

    Attributes:
        model: the graph.
        quantized: what the quantizer did: counts of Q/DQ pairs; empty without one.
        skipped: nodes that could have been quantized and were not, with the reason.
        converted: how many nodes compute in half precision.
        kept: nodes that stay in FP32 beside them, with the reason.
        culprits: those of them that were found because the outputs missed the tolerance.
        notes: what else a reader should know.
    """

    model: onnx.ModelProto
    quantized: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    converted: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    culprits: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Everything but the graph, for records."""
        return {key: value for key, value in vars(self).items() if key != "model"}


@dataclass(frozen=True)
class Inputs:
    """What a conversion needs besides the precision.

    Attributes:
        exported: the folder of the exported graph.
        flavour: ``cpu`` or ``tensorrt``.
        keep: what stays in FP32.
        ranges: of the calibration; None where the precision needs none.
        quantized: a graph that another quantizer (modelopt) made; None to quantize here.
        evidence: the rows that half precision is proven on.
        where: FILE:LINE:COLUMN of ``precision:``.
        scratch: a folder for intermediate files.
    """

    exported: Path
    flavour: str
    keep: Keep
    ranges: Ranges | None
    quantized: Path | None
    evidence: Evidence
    where: str
    scratch: Path


def convert(precision: str, given: Inputs) -> Converted:
    """Make the graph of a precision such as ``int8+fp16``.

    Raises:
        ConfigError: a name or an operator to keep is not in the graph.
        BuildError: no node could be quantized, the target cannot run the precision, or half precision misses
            its tolerance whatever is kept.
    """
    _refuse_unknown_names(given)
    first, _, second = precision.partition("+")
    if first in _HALF:
        done = Converted(read_onnx(given.exported / MODEL_FILE, given.where))
        return _with_half(done, first, given)
    done = _quantized(first.upper(), given)
    if not second:
        return done
    if given.flavour == CPU:
        raise BuildError(
            f"{given.where}: {precision} is for GPUs; ONNX Runtime's CPU kernels compute what is not INT8 in FP32: "
            f"use precision: {first}"
        )
    return _with_half(done, second, given)


def _refuse_unknown_names(given: Inputs) -> None:
    """Quantizers would take no notice of a name to keep that matches nothing."""
    graph = read_graph(given.exported / MODEL_FILE, given.where)
    name_nodes(graph)
    try:
        nodes_asked(graph, given.keep.nodes, given.keep.operators)
    except ConfigError as exc:
        raise ConfigError(f"{given.evidence.project.where('models', given.evidence.name, 'keep')}: {exc}") from exc


def _quantized(dtype: str, given: Inputs) -> Converted:
    done = _quantize(dtype, given)
    problems = qdq_problems(done.model, given.flavour)
    if problems:
        raise BuildError(f"{given.where}: the quantized graph breaks the rules of {given.flavour}: {problems[0]}")
    done.quantized = dict(count_qdq(done.model))
    return done


def _quantize(dtype: str, given: Inputs) -> Converted:
    keep = given.keep
    if given.quantized is not None:
        return Converted(read_onnx(given.quantized, given.where), notes=["quantized by modelopt"])
    if given.flavour == TENSORRT:
        assert given.ranges is not None, "the calibration stage runs first"
        result = quantize_tensorrt(
            read_onnx(given.exported / MODEL_FILE, given.where), given.ranges, dtype,
            keep_nodes=keep.nodes, keep_operators=keep.operators, where=given.where,
        )  # fmt: skip
    else:
        result = quantize_cpu(
            given.exported / MODEL_FILE, given.ranges, given.scratch,
            keep_nodes=keep.nodes, keep_operators=keep.operators, where=given.where,
        )  # fmt: skip
    return Converted(result.model, skipped=result.skipped)


def _with_half(done: Converted, precision: str, given: Inputs) -> Converted:
    """Convert what is FP32 to half precision; nodes that the tolerance does not survive stay.

    The graph before this step is the reference, so that the quantizer's error does not count here. It is held to the
    quantizer's tolerance then, because a rounding of half precision may move a value to the next of 256 steps.
    """
    base, dtype, keep, evidence = done.model, _HALF[precision], given.keep, given.evidence
    judged_as = "int8" if done.quantized else precision
    options: dict[str, Any] = {"keep_operators": keep.operators, "keep_io_types": keep.io_types}
    reference = evidence.outputs(cpu_session(base))
    try:
        result = to_half(base, dtype, keep_nodes=keep.nodes, **options)
    except BuildError as exc:
        raise BuildError(f"{given.where}: {exc}") from exc
    _refuse_bf16_border(result.model, given)
    if not result.converted:
        reasons = "; ".join(f"node '{name}' {reason}" for name, reason in list(result.kept.items())[:3])
        raise BuildError(
            f"{given.where}: no node of the graph would compute in {dtype}: {reasons or 'it has no FP32 tensors'}; "
            "use precision: fp32"
        )
    if not evidence.within(judged_as, reference, evidence.outputs(cpu_session(result.model))):
        result = _without_culprits(done, result, precision, judged_as, reference, given)
    done.model, done.converted = result.model, result.converted
    done.kept = dict(result.kept)
    done.notes += result.notes
    return done


def _refuse_bf16_border(model: onnx.ModelProto, given: Inputs) -> None:
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            where = given.evidence.project.where("models", given.evidence.name, "keep", "io_types")
            raise BuildError(
                f"{where}: '{value.name}' would be BF16, which ONNX Runtime's Python API cannot pass, so that nothing "
                "could be checked; leave `io_types: false` out"
            )


def _without_culprits(
    done: Converted, whole: HalfResult, precision: str, judged_as: str, reference: Mapping[str, Array], given: Inputs
) -> HalfResult:
    """Search on some of the rows, then judge the result on all of them."""
    evidence, keep = given.evidence, given.keep
    found = find_culprits(
        done.model, _HALF[precision], evidence.samples.rows(0, _SEARCH_ROWS if evidence.max_batch_size else None),
        lambda expected, outputs: evidence.within(judged_as, expected, outputs),
        keep_nodes=keep.nodes, keep_operators=keep.operators, keep_io_types=keep.io_types,
    )  # fmt: skip
    outputs = evidence.outputs(cpu_session(found.result.model))
    if not evidence.within(judged_as, reference, outputs):
        raise _missed(done.model, precision, given, evidence.differences(judged_as, reference, outputs), found.nodes)
    done.culprits = dict(found.nodes)
    larger = found.result.model.ByteSize() - whole.model.ByteSize()
    casts = _casts(found.result.model) - _casts(whole.model)
    done.notes.append(
        f"{len(found.nodes)} of {whole.converted} nodes stay in FP32 because {precision} missed the tolerance "
        f"without them ({found.trials} trials); their price: {larger:+d} bytes and {casts:+d} Cast nodes"
    )
    return found.result


def _missed(
    model: onnx.ModelProto, precision: str, given: Inputs, differences: dict[str, dict[str, Any]], kept: Sized
) -> BuildError:
    """The error for a tolerance that cannot be met, naming up to three nodes around values beyond the type's range."""
    name, worst = max(differences.items(), key=lambda item: item[1]["outside"])
    found = overflowing_nodes(model, _HALF[precision], given.evidence.samples.inputs).reasons
    named = "".join(f"; '{node}': {why}" for node, why in list(found.items())[:3])
    more = f" ({len(found)} such nodes)" if len(found) > 3 else ""
    remedy = "" if given.keep.io_types else "leave `io_types: false` out, "
    tried = f"even with {len(kept)} nodes kept in FP32" if kept else "and keeping nodes in FP32 does not help"
    return BuildError(
        f"{given.where}: {precision} misses the tolerance (rtol {worst['rtol']:g}, atol {worst['atol']:g}) in "
        f"{worst['outside']} of {worst['elements']} values of '{name}', {tried}{named}{more}; {remedy}give the model "
        "a wider `tolerance:`, or precision: fp32"
    )


def _casts(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "Cast" for node in model.graph.node)
