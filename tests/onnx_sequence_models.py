# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX models of sequences, implicit states and ragged batches, each named by what it does."""

from __future__ import annotations

import onnx
from onnx import ModelProto

HEADER = '<ir_version: 10, opset_import: ["" : %d, "ai.onnx.ml" : 3]>\n'


def parsed(text: str, opset: int = 17) -> ModelProto:
    """A model of a graph in ONNX's text form."""
    model = onnx.parser.parse_model(HEADER % opset + text)
    onnx.checker.check_model(model, full_check=True)
    return model


# ------------------------------------------------------------------------------------------- sequences


def echoes_its_controls(types: dict[str, str], dims: str = "b,1") -> ModelProto:
    """x -> y, and every control to an output of its name in lower case.

    Args:
        types: of the controls, by input name, in ONNX's words: float, int32, …
        dims: of every tensor.
    """
    inputs = "".join(f", {kind}[{dims}] {name}" for name, kind in types.items())
    outputs = "".join(f", {kind}[{dims}] {name.lower()}" for name, kind in types.items())
    body = "".join(f" {name.lower()} = Identity({name})" for name in types)
    return parsed(f"echo (float[{dims}] x{inputs}) => (float[{dims}] y{outputs}) {{ y = Identity(x){body} }}")


# --------------------------------------------------------------------------------------------- states


def sums_up(kind: str = "float", dims: str = "b,1") -> ModelProto:
    """x plus the total so far -> y, and the new total."""
    return parsed(
        f"""total (float[{dims}] x, {kind}[{dims}] total_in) => (float[{dims}] y, {kind}[{dims}] total_out) {{
            added = CastLike(x, total_in)
            total_out = Add(total_in, added)
            y = CastLike(total_out, x)
        }}"""
    )


def sums_up_from_start() -> ModelProto:
    """Like `sums_up`, and the control START sets the total to zero, whatever the state says."""
    return parsed(
        """total (float[b,1] x, bool[b,1] START, float[b,1] total_in) => (float[b,1] y, float[b,1] total_out)
           <float zero = {0.0}> {
            before = Where(START, zero, total_in)
            y = Add(before, x)
            total_out = Identity(y)
        }"""
    )


def sums_up_a_wide_state(columns: int) -> ModelProto:
    """The total of all x -> y, kept in every column of the state."""
    return parsed(
        f"""wide (float[b,1] x, float[b,{columns}] total_in) => (float[b,1] y, float[b,{columns}] total_out)
           <int64[1] zero = {{0}}, int64[1] one = {{1}}> {{
            total_out = Add(total_in, x)
            y = Slice(total_out, zero, one, one)
        }}"""
    )


def mean_of_all() -> ModelProto:
    """The mean of all x of the sequence -> y, with two states: their sum (float) and their number (int64)."""
    return parsed(
        """mean (float[b,1] x, float[b,1] sum_in, int64[b,1] number_in)
           => (float[b,1] y, float[b,1] sum_out, int64[b,1] number_out) <int64 one = {1}> {
            sum_out = Add(sum_in, x)
            number_out = Add(number_in, one)
            divisor = CastLike(number_out, x)
            y = Div(sum_out, divisor)
        }"""
    )


def remembers_all() -> ModelProto:
    """The sequence's values so far, one more with each request -> history_out, a state that is an output too."""
    return parsed(
        """remember (float[b,1] x, float[b,n] history_in) => (float[b,m] history_out) {
            history_out = Concat <axis = 1> (history_in, x)
        }"""
    )


def joins_words() -> ModelProto:
    """The sequence's words so far, joined -> y; the state is a string."""
    return parsed(
        """join (string[b,1] word, string[b,1] text_in) => (string[b,1] y, string[b,1] text_out) {
            y = StringConcat(text_in, word)
            text_out = Identity(y)
        }""",
        opset=20,
    )


def sums_up_looked_up() -> ModelProto:
    """The total of table[x] -> y; ONNX Runtime refuses an x above 3."""
    return parsed(
        """lookup (float[b,1] x, float[b,1] total_in) => (float[b,1] y, float[b,1] total_out)
           <float[4] table = {0.0, 10.0, 20.0, 30.0}> {
            index = Cast <to = 7> (x)
            found = Gather(table, index)
            y = Add(total_in, found)
            total_out = Identity(y)
        }"""
    )


def sums_up_slowly() -> ModelProto:
    """The total of all x -> y, after a loop of abs(x) turns for the slowest row."""
    return parsed(
        """slow (float[b,1] x, float[b,1] total_in) => (float[b,1] y, float[b,1] total_out)
           <bool go = {1}, float zero = {0.0}> {
            sizes = Abs(x)
            most = ReduceMax <keepdims = 0> (sizes)
            turns = Cast <to = 7> (most)
            rest = Loop (turns, go, zero) <body = turn (int64 i, bool on, float before) => (bool still, float after) {
                still = Identity(on)
                after = Sin(before)
            }>
            added = Add(x, rest)
            y = Add(total_in, added)
            total_out = Identity(y)
        }"""
    )


# -------------------------------------------------------------------------------------------- ragged


def sums_of_ragged(kind: str) -> ModelProto:
    """Ragged x and a weight per request -> the request's sum times its weight, its length, and where it ends.

    Args:
        kind: of the computed inputs, float or int32.
    """
    return parsed(
        f"""ragged (float[n] x, float[b,1] weight, {kind}[r] lengths, {kind}[r] ends, {kind}[s] bounds)
            => (float[b,1] y, {kind}[r,1] length, {kind}[r,1] end)
            <int64 axis = {{0}}, int64[1] one = {{1}}, int64[1] zero = {{0}}, int64[1] last = {{-1}},
             int64[1] far = {{9223372036854775807}}, float[1] nothing = {{0.0}}> {{
                summed = CumSum(x, axis)
                sums = Concat <axis = 0> (nothing, summed)
                places = Cast <to = 7> (bounds)
                begins = Slice(places, zero, last)
                stops = Slice(places, one, far)
                upto = Gather(sums, stops)
                before = Gather(sums, begins)
                parts = Sub(upto, before)
                column = Unsqueeze(parts, one)
                y = Mul(column, weight)
                length = Unsqueeze(lengths, one)
                end = Unsqueeze(ends, one)
            }}"""
    )


def longest_of_ragged() -> ModelProto:
    """Ragged x and a tensor as long as the longest request -> that length, for each request."""
    return parsed(
        """longest (float[n] x, float[m] shaped, int32[r] lengths) => (int64[r,1] y) <int64[1] one = {1}> {
            length = Shape(shaped)
            column = Unsqueeze(lengths, one)
            requests = Shape(column)
            y = Expand(length, requests)
        }"""
    )


def shapes_of_items(kind: str) -> ModelProto:
    """Ragged x and the shape of every row, as a matrix and flat -> x doubled, and both, a row for each row.

    Args:
        kind: of the shapes, float or int32.
    """
    return parsed(
        f"""items (float[n] x, {kind}[b,2] shapes, {kind}[f] flat) => (float[n] y, {kind}[b,2] shape, {kind}[g,2] pairs)
            <int64[2] two = {{-1, 2}}> {{
                y = Add(x, x)
                shape = Identity(shapes)
                pairs = Reshape(flat, two)
            }}"""
    )


def looks_up_ragged() -> ModelProto:
    """Ragged x -> y, table[x] element by element; ONNX Runtime refuses an x above 3."""
    return parsed(
        """lookup (int64[n] x) => (float[n] y) <float[4] table = {0.0, 10.0, 20.0, 30.0}> {
            y = Gather(table, x)
        }"""
    )


def first_element_of_ragged() -> ModelProto:
    """Ragged x -> y, only its very first element: fewer than the requests brought."""
    return parsed(
        """first (float[n] x) => (float[m] y) <int64[1] zero = {0}> {
            y = Gather(x, zero)
        }"""
    )


# --------------------------------------------------------------------------------------------- batches


def repeats_rows(times: int) -> ModelProto:
    """x [batch, 1] -> y [more, 1], every row so many times: the first dimension is another batch."""
    copies = "".join(", x" for _ in range(times - 1))
    return parsed(f"more (float[b,1] x) => (float[m,1] y) {{ y = Concat <axis = 0> (x{copies}) }}")


def drops_the_last_row() -> ModelProto:
    """x [batch, 1] -> y [batch - 1, 1]."""
    return parsed(
        """fewer (float[b,1] x) => (float[m,1] y) <int64[1] zero = {0}, int64[1] last = {-1}> {
            y = Slice(x, zero, last)
        }"""
    )


def reshapes(inside: str, outside: str) -> ModelProto:
    """x -> y, doubled, between two shapes of the same size.

    Args:
        inside: of x without the batch, e.g. ``2,3``.
        outside: of y without the batch.
    """
    return parsed(
        f"""reshapes (float[b,{inside}] x) => (float[b,{outside}] y)
            <int64[{outside.count(",") + 2}] shape = {{-1, {outside}}}> {{
                doubled = Add(x, x)
                y = Reshape(doubled, shape)
            }}"""
    )
