# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A sample of ONNX's own backend cases through the real server; `make onnx-cases` takes them all."""

from __future__ import annotations

import zlib

import ml_dtypes
import numpy as np
import pytest

from onnx_backend_cases import RIGHT, Row, planned, served
from onnx_backend_oracle import Case, Plan, collect, difference
from trtkit.dtypes import DTYPES

SIZE = 200
KINDS = {"a scalar", "no elements", "an optional input", "no input", "a dynamic output", "ONNX Runtime's output"}


def features(plan: Plan) -> set[str]:
    """What the case has: operators, types at either side, and some of `KINDS`."""
    declared = [info.type.tensor_type.shape for info in (*plan.model.graph.input, *plan.model.graph.output)]
    arrays = [array for request in plan.requests for tensors in request for array in tensors.values()]
    kinds = {
        "a scalar": any(not shape.dim for shape in declared),
        "no elements": any(array.size == 0 for array in arrays),
        "an optional input": any(spec.optional for spec in plan.inputs),
        "no input": not plan.inputs,
        "a dynamic output": any(-1 in spec.dims for spec in plan.outputs),
        "ONNX Runtime's output": plan.truth == "ONNX Runtime",
    }
    return {
        *(node.op_type for node in plan.model.graph.node),
        *(f"input {spec.data_type}" for spec in plan.inputs),
        *(f"output {spec.data_type}" for spec in plan.outputs),
        *(kind for kind, has in kinds.items() if has),
    }


def sample_of(plans: list[Plan]) -> list[Plan]:
    """The same ones each time: first those that have something that those before have not."""
    new, others, seen = [], [], set()
    for plan in sorted(plans, key=lambda plan: zlib.crc32(plan.case.name.encode())):
        (others if features(plan) <= seen else new).append(plan)
        seen |= features(plan)
    return [*new, *others][:SIZE]


def planted_mistakes(plan: Plan) -> list[Plan]:
    """The case with a wrong wanted value, and with a type in its config.pbtxt that is not the model's."""
    inputs, wanted = plan.requests[0]
    other_values = inputs, {name: value + 1 for name, value in wanted.items()}
    other_type = plan.outputs[0]._replace(data_type="TYPE_INT8")
    return [
        plan._replace(case=plan.case._replace(name="other_value"), requests=(other_values,)),
        plan._replace(case=plan.case._replace(name="other_type"), outputs=(other_type, *plan.outputs[1:])),
    ]


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return planned(collect())[0]


@pytest.fixture(scope="module")
def sample(plans: list[Plan]) -> list[Plan]:
    return sample_of(plans)


@pytest.fixture(scope="module")
def rows(sample: list[Plan]) -> dict[str, Row]:
    complete = next(plan for plan in sample if "an optional input" in features(plan))  # in config.pbtxt
    return {row.case: row for row in served([*sample, *planted_mistakes(complete)])}


def test_the_sample_has_every_operator_and_type(plans: list[Plan], sample: list[Plan]) -> None:
    assert len(sample) == SIZE
    seen = set().union(*map(features, sample))
    assert {f"{side} {dtype.triton}" for dtype in DTYPES for side in ("input", "output")} | KINDS <= seen
    assert seen == set().union(*map(features, plans))


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.timeout(600)  # of a busy machine; the first to ask starts ten servers
def test_the_sample_is_served_right_over_both_protocols(sample: list[Plan], rows: dict[str, Row]) -> None:
    asked = [rows[plan.case.name] for plan in sample]
    assert [row for row in asked if row.answers != {"http": RIGHT, "grpc": RIGHT}] == []
    assert {row.config for row in asked} == {"complete", "completed"}


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.timeout(600)  # of a busy machine; the first to ask starts ten servers
def test_a_mistake_is_seen(rows: dict[str, Row]) -> None:
    assert {rows[name].verdict for name in ("other_value", "other_type")} == {"wrong"}
    for protocol in ("http", "grpc"):
        assert "elements wrong" in rows["other_value"].answers[protocol]
        assert "configuration expects datatype TYPE_INT8" in rows["other_type"].answers[protocol]


BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("got", "want", "how"),
    [
        (np.array([1.0, np.nan]), np.array([1.0005, np.nan]), ""),
        (np.array([1.0]), np.array([1.01]), "has 1 of 1 elements wrong, such as 1.0 for 1.01"),
        (np.array([1.0]), np.array([np.nan]), "has 1 of 1 elements wrong, such as 1.0 for nan"),
        (np.array([1.0]), np.array([1.0], np.float32), "is float64[1], not float32[1]"),
        (np.array([1.0]), np.array([[1.0]]), "is float64[1], not float64[1, 1]"),
        (np.array([1.0], BF16), np.array([1.01], BF16), ""),
        (np.array([1.0], BF16), np.array([1.1], BF16), "has 1 of 1 elements wrong, such as 1.0 for 1.1015625"),
        (np.array([b"a", b""], np.object_), np.array([b"a", b""], np.object_), ""),
        (np.array([b"a"], np.object_), np.array([b"b"], np.object_), "is [b'a'], not [b'b']"),
    ],
)
def test_differences(got: np.ndarray, want: np.ndarray, how: str) -> None:
    assert difference(got, want, Case("", "node", None, [], rtol=1e-3, atol=1e-7)) == how
