# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How far one tensor is from another, for every kind of tensor a model may give."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trtkit.numerics import Array, Difference, difference


def floats(*values: float) -> Array:
    return np.array(values, np.float64)


def texts(*values: object) -> Array:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


# -- what is compared with what


def test_equal_arrays_differ_by_nothing() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = difference(array, array.copy(), 0.0, 0.0)
    assert result == Difference(elements=6)
    assert result.passed


@pytest.mark.parametrize(
    ("reference", "actual", "problem"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "shape [3, 2] instead of [2, 3]"),
        (np.zeros((2, 3)), np.zeros(6), "shape [6] instead of [2, 3]"),
        (np.zeros(()), np.zeros(1), "shape [1] instead of []"),
        (np.zeros((0, 3)), np.zeros((0, 2)), "shape [0, 2] instead of [0, 3]"),
        (texts(b"1"), floats(1.0), "numbers instead of text"),
        (floats(1.0), np.array(["1"]), "text instead of numbers"),
        (np.array([], np.int64), texts(), "text instead of numbers"),
    ],
)
def test_another_shape_or_kind_is_a_problem(reference: Array, actual: Array, problem: str) -> None:
    result = difference(reference, actual, 1e9, 1e9)
    assert result.problem == problem
    assert not result.passed


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, object, "S1"])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_arrays_are_equal(dtype: Any, shape: tuple[int, ...]) -> None:
    array: Array = np.empty(shape, dtype)
    assert difference(array, array.copy(), 0.0, 0.0) == Difference(elements=0)


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        (np.array(1.0), np.array(2.0)),
        (np.array(1.0, np.float16), np.array(np.nan, np.float16)),
        (np.array(3), np.array(4)),
        (np.array(True), np.array(False)),
        (np.array(b"a", dtype=object), np.array(b"b", dtype=object)),
    ],
)
def test_an_array_without_dimensions_has_one_element(reference: Array, actual: Array) -> None:
    assert difference(reference, reference, 0.0, 0.0) == Difference(elements=1)
    result = difference(reference, actual, 0.0, 0.0)
    assert (result.elements, result.outside, result.worst) == (1, 1, ())
    assert result.worst_actual != result.worst_reference != ""


# -- floating-point


def test_the_figures_of_a_difference() -> None:
    result = difference(floats(1.0, -2.0, 0.0, 4.0), floats(1.5, -2.0, 0.25, 3.0), 0.1, 0.1)
    assert result.elements == 4
    assert result.outside == 3  # allowed: 0.2, 0.3, 0.1, 0.5
    assert result.max_abs == 1.0
    assert result.mean_abs == pytest.approx(1.75 / 4)
    assert result.max_rel == 0.5  # the element with a reference of 0 has none
    assert result.mean_rel == pytest.approx((0.5 + 0.0 + 0.25) / 3)
    assert result.cosine == pytest.approx(17.5 / math.sqrt(21 * 15.3125))
    assert not result.passed


def test_the_worst_element_is_the_one_furthest_outside_its_own_tolerance() -> None:
    reference, actual = floats(1000.0, 1.0, 1.0), floats(1020.0, 1.5, 1.1)
    result = difference(reference, actual, 0.01, 0.0)
    assert result.worst == (1,)
    assert (result.worst_reference, result.worst_actual) == ("1", "1.5")
    assert result.max_abs == 20.0
    assert result.outside == 3


def test_without_a_tolerance_the_worst_element_is_the_largest_difference() -> None:
    result = difference(np.zeros((2, 3)), np.array([[0.0, 4.0, 5.0], [9.0, 7.0, 0.0]]), 0.0, 0.0)
    assert result.worst == (1, 0)


def test_the_worst_element_inside_the_tolerance_is_named_too() -> None:
    result = difference(floats(1.0, 1.0), floats(1.0, 1.01), 0.1, 0.0)
    assert result.passed
    assert result.worst == (1,)


def test_the_tolerance_is_exact_at_its_edge() -> None:
    assert difference(floats(2.0), floats(2.5), 0.25, 0.0).passed
    assert difference(floats(0.0), floats(0.5), 0.25, 0.5).passed
    assert difference(floats(2.0), floats(3.0), 0.25, 0.5).passed
    assert not difference(floats(2.0), floats(np.nextafter(2.5, 3.0)), 0.25, 0.0).passed
    assert not difference(floats(2.5), floats(2.5 + 0.625 + 1e-9), 0.25, 0.0).passed


@pytest.mark.parametrize(
    ("reference", "actual", "nonfinite"),
    [
        (math.nan, math.nan, 0),
        (math.inf, math.inf, 0),
        (-math.inf, -math.inf, 0),
        (math.inf, -math.inf, 1),
        (math.nan, math.inf, 1),
        (math.nan, 0.0, 1),
        (0.0, math.nan, 1),
        (0.0, math.inf, 1),
        (math.inf, 1e300, 1),
    ],
)
def test_what_is_no_number_has_to_be_the_same(reference: float, actual: float, nonfinite: int) -> None:
    result = difference(floats(1.0, reference), floats(1.5, actual), 1.0, 1e300)
    assert (result.nonfinite, result.outside) == (nonfinite, nonfinite)
    assert result.passed is (nonfinite == 0)
    assert (result.max_abs, result.mean_abs, result.max_rel) == (0.5, 0.5, 0.5)  # of the finite elements alone
    assert result.worst == ((1,) if nonfinite else (0,))


def test_only_what_is_no_number_has_no_figures() -> None:
    result = difference(floats(math.nan), floats(math.inf), 0.0, 0.0)
    assert (result.max_abs, result.mean_abs, result.max_rel, result.mean_rel, result.cosine) == (0, 0, 0, 0, 1)


def test_a_negative_zero_is_zero() -> None:
    assert difference(floats(0.0), floats(-0.0), 0.0, 0.0) == Difference(elements=1)


def test_huge_values_overflow_to_a_failure_and_no_warning() -> None:
    huge = np.finfo(np.float64).max
    result = difference(floats(huge, -huge), floats(-huge, huge), 0.0, 0.0)
    assert (result.outside, result.max_abs, result.mean_abs) == (2, math.inf, math.inf)
    assert result.cosine == pytest.approx(-1.0)
    equal = difference(floats(huge, -huge), floats(huge, -huge), 0.0, 0.0)
    assert (equal.passed, equal.mean_abs) == (True, 0.0)
    assert equal.cosine == pytest.approx(1.0)
    assert difference(floats(huge, huge), floats(huge, 0.0), 0.0, 0.0).mean_abs == huge / 2


def test_a_tolerance_that_overflows_takes_anything() -> None:
    result = difference(floats(1e308, 1.0), floats(-1e308, 2.0), 1e10, 0.0)
    assert result.passed
    assert result.worst == (1,)


def test_tiny_values_are_no_zeros() -> None:
    tiny = np.finfo(np.float64).smallest_subnormal
    assert difference(floats(0.0), floats(tiny), 0.0, 0.0).outside == 1
    assert difference(floats(tiny), floats(1.0), 0.0, 0.0).max_rel == math.inf


@pytest.mark.parametrize(
    ("reference", "actual", "cosine"),
    [
        (floats(1.0, 0.0), floats(0.0, 1.0), 0.0),
        (floats(1.0, 1.0), floats(-2.0, -2.0), -1.0),
        (floats(0.0, 0.0), floats(0.0, 0.0), 1.0),
        (floats(0.0, 0.0), floats(1.0, 0.0), 0.0),
        (floats(1e-200, 2e-200), floats(1e200, 2e200), 1.0),
        (floats(1e308, 1e308), floats(1e308, 1e308), 1.0),
        (floats(3.0, math.nan), floats(4.0, 7.0), 1.0),
        (np.array([3, 4]), np.array([4, 3]), 0.96),
    ],
)
def test_the_cosine(reference: Array, actual: Array, cosine: float) -> None:
    assert difference(reference, actual, 0.0, 0.0).cosine == pytest.approx(cosine)


def test_half_precision_is_measured_in_double() -> None:
    result = difference(np.array([60000.0], np.float16), np.array([-60000.0], np.float16), 0.0, 0.0)
    assert (result.max_abs, result.max_rel) == (120000.0, 2.0)


def test_floats_may_stand_for_integers() -> None:
    assert difference(np.array([1, 2]), floats(1.0, 2.1), 0.1, 0.0).passed
    assert difference(np.array([True, False]), floats(1.0, 0.5), 0.0, 0.1).worst == (1,)


# -- integers, booleans and text


def test_integers_have_to_be_equal_whatever_the_tolerance() -> None:
    result = difference(np.array([5, 7, 0]), np.array([5, 4, 1]), 1.0, 1.0)
    assert (result.outside, result.max_abs, result.worst) == (2, 3.0, (1,))
    assert (result.mean_abs, result.max_rel) == (pytest.approx(4 / 3), pytest.approx(3 / 7))
    assert (result.worst_reference, result.worst_actual) == ("7", "4")


def test_integers_of_other_widths_are_compared_by_value() -> None:
    assert difference(np.array([1, 255], np.uint8), np.array([1, 255], np.int64), 0.0, 0.0).passed
    assert not difference(np.array([255], np.uint8), np.array([-1], np.int8), 0.0, 0.0).passed
    assert difference(np.array([True]), np.array([1]), 0.0, 0.0).passed


@pytest.mark.parametrize(
    ("reference", "actual"),
    [
        (np.array([0, 2**63], np.uint64), np.array([0, 2**63 + 1], np.uint64)),
        (np.array([0, 2**62], np.int64), np.array([0, 2**62 + 1], np.int64)),
    ],
)
def test_huge_integers_that_one_float_stands_for_still_differ(reference: Array, actual: Array) -> None:
    result = difference(reference, actual, 0.0, 0.0)
    assert (result.outside, result.max_abs, result.worst) == (1, 1.0, (1,))
    assert result.worst_actual == str(actual[1])


def test_the_distance_of_unsigned_integers_does_not_wrap_around() -> None:
    result = difference(np.array([0], np.uint8), np.array([255], np.uint8), 0.0, 0.0)
    assert result.max_abs == 255.0


def test_text_has_to_be_equal() -> None:
    result = difference(texts(b"cat", b"dog", b"cow"), texts(b"cat", b"fog", b""), 9.0, 9.0)
    assert (result.elements, result.outside, result.worst) == (3, 2, (1,))
    assert (result.worst_reference, result.worst_actual) == ("b'dog'", "b'fog'")


def test_text_is_its_utf8_bytes() -> None:
    assert difference(texts("né"), texts("né".encode()), 0.0, 0.0).passed
    assert difference(np.array(["né"]), np.array(["né".encode()]), 0.0, 0.0).passed
    assert difference(texts("\udcff"), texts(b"\xff"), 0.0, 0.0).passed
    assert not difference(texts("né"), texts("ne"), 0.0, 0.0).passed


def test_a_long_text_is_shown_in_short() -> None:
    assert len(difference(texts(b"a" * 1000), texts(b"b"), 0.0, 0.0).worst_reference) == 80


def test_the_json_form_is_json() -> None:
    result = difference(np.array([[1, 2]], np.int32), np.array([[1, 3]], np.int32), 0.0, 0.0)
    value = json.loads(json.dumps(result.to_json()))
    assert value["worst"] == [0, 1]
    assert value["passed"] is False
    assert value["max_abs"] == 1.0


# -- properties

NUMBERS = st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool"])


@settings(deadline=None)
@given(array=hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4)))
def test_an_array_equals_itself(array: Array) -> None:
    result = difference(array, array.copy(), 0.0, 0.0)
    assert result.passed
    assert (result.max_abs, result.mean_abs, result.max_rel, result.nonfinite, result.worst) == (0, 0, 0, 0, None)
    assert result.elements == array.size
    assert result.cosine == pytest.approx(1.0)


SHAPES = hnp.array_shapes(max_dims=3, max_side=5)
MODERATE = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(deadline=None)
@given(
    data=st.data(),
    array=hnp.arrays(np.float64, SHAPES, elements=MODERATE),
    rtol=st.sampled_from([0.0, 1e-5, 1e-3, 0.5]),
    atol=st.sampled_from([0.0, 1e-8, 1e-3, 10.0]),
)
def test_one_element_beyond_the_tolerance_is_named(data: st.DataObject, array: Array, rtol: float, atol: float) -> None:
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    inside = data.draw(hnp.arrays(np.float64, array.shape, elements=st.floats(-0.5, 0.5)))
    allowed = atol + rtol * np.abs(array)
    beyond = 1.5 * allowed[index] + data.draw(st.floats(1e-3, 1e3))
    actual = array + inside * allowed
    actual[index] = array[index] + beyond * data.draw(st.sampled_from([-1.0, 1.0]))
    result = difference(array, actual, rtol, atol)
    assert (result.outside, result.worst) == (1, index)
    assert result.nonfinite == 0
    assert result.worst_reference == f"{array[index]:.8g}"
    assert not result.passed


@settings(deadline=None)
@given(
    data=st.data(),
    array=hnp.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32)),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_one_element_that_is_no_number_is_named(data: st.DataObject, array: Array, value: float) -> None:
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    actual = array + np.float32(100.0)
    actual[index] = value
    for one, other in ((array, actual), (actual, array)):
        result = difference(one, other, 0.0, 0.0)
        assert (result.nonfinite, result.worst, result.outside) == (1, index, array.size)


@settings(deadline=None)
@given(data=st.data(), array=hnp.arrays(NUMBERS.filter(lambda name: "int" in name), SHAPES))
def test_one_integer_that_differs_is_named(data: st.DataObject, array: Array) -> None:
    index = tuple(data.draw(st.integers(0, side - 1)) for side in array.shape)
    actual = array.copy()
    limits = np.iinfo(array.dtype)
    actual[index] = data.draw(st.integers(int(limits.min), int(limits.max)))
    assume(actual[index] != array[index])
    result = difference(array, actual, 1e9, 1e9)
    assert (result.outside, result.worst) == (1, index)
    assert result.max_abs == pytest.approx(abs(int(actual[index]) - int(array[index])))
    assert result.worst_actual == str(int(actual[index]))


@settings(deadline=None)
@given(data=st.data(), words=st.lists(st.binary(max_size=4), min_size=1, max_size=6))
def test_one_text_that_differs_is_named(data: st.DataObject, words: list[bytes]) -> None:
    index = data.draw(st.integers(0, len(words) - 1))
    other = list(words)
    other[index] += b"!"
    result = difference(texts(*words), texts(*other), 0.0, 0.0)
    assert (result.outside, result.worst) == (1, (index,))


@settings(deadline=None)
@given(
    pair=SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(np.float64, shape), hnp.arrays(np.float64, shape))),
    rtol=st.floats(0.0, 10.0),
    atol=st.floats(0.0, 1e300),
)
def test_the_verdict_is_that_of_every_element(pair: tuple[Array, Array], rtol: float, atol: float) -> None:
    reference, actual = pair
    outside = [not _inside(float(r), float(a), rtol, atol) for r, a in zip(reference.flat, actual.flat, strict=True)]
    result = difference(reference, actual, rtol, atol)
    assert result.outside == sum(outside)
    assert result.passed is not any(outside)
    if any(outside):
        assert result.worst is not None
        assert outside[int(np.ravel_multi_index(result.worst, reference.shape))]


def _inside(reference: float, actual: float, rtol: float, atol: float) -> bool:
    if reference == actual or (math.isnan(reference) and math.isnan(actual)):
        return True
    finite = math.isfinite(reference) and math.isfinite(actual)
    return finite and abs(actual - reference) <= atol + rtol * abs(reference)
