# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How much faster INT8 is than FP32 on one thread of this CPU, and what it costs: python benchmarks/int8_speed.py.

Asked for: the convolutional digits model (scripts/train_digits_conv32.py) at least 1.5 times FP32's throughput at
batch 32 with top-1 within 0.5 points; a transformer encoder of 6 layers and 384 hidden units at least 1.6 times
at batch 8 of 128 tokens. Both go through the `cpu` preset and are timed by the race: in turns, in one process,
so that only the ratios mean something. Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import train_digits_conv32 as digits
from precision_models import encoder
from trtkit.numerics import Array
from trtkit.precision.calibration import calibrate, tensors_to_calibrate
from trtkit.precision.cpu_int8 import cpu_scheme, quantize_cpu
from trtkit.project import Tolerance
from trtkit.race.candidate import Candidate
from trtkit.race.measure import Metric, Row, measure
from trtkit.race.timing import Ratio, times_faster
from trtkit.tolerance import tolerance_for

SECONDS = 3.0
CONV_LEAST, CONV_DROP, ENCODER_LEAST = 1.5, 0.005, 1.6


def quantized(model: onnx.ModelProto, calibration: Mapping[str, Array], folder: Path) -> list[Candidate]:
    """The model and its INT8 form by the `cpu` preset, as files."""
    folder.mkdir()
    plain, small = folder / "fp32.onnx", folder / "int8.onnx"
    onnx.save(model, plain)
    ranges = None
    if cpu_scheme(model) == "static":
        tensors = tensors_to_calibrate(model)
        ranges = calibrate(
            plain, calibration, tensors, method="minmax", percentile=99.999, batch_rows=32, where=folder.name
        )
    made = quantize_cpu(plain, ranges, folder, keep_nodes=(), keep_operators=(), where=folder.name)
    onnx.save(made.model, small)
    return [Candidate("fp32", "fp32", plain), Candidate("int8", "int8", small)]


def compare(candidates: list[Candidate], rows: Mapping[str, Array], batch: int, metric: Metric | None) -> list[Row]:
    """Both in turns on one thread."""

    def tolerance(precision: str, output: str, dtype: Any) -> tuple[float, float]:
        return tolerance_for(precision, dtype, output, Tolerance())

    found = measure(
        candidates, rows, batch_sizes=(batch,), metric=metric, tolerance=tolerance, threads=1, seconds=SECONDS
    )
    for row in found:
        if row.problem or row.untimed:
            raise SystemExit(f"{row.name}: {row.problem or row.untimed}")
    return found


def line(what: str, rows: list[Row], batch: int, least: float, extra: str) -> tuple[str, Ratio]:
    """What was measured, and the ratio."""
    plain, small = (row.timings[batch] for row in rows)
    ratio = times_faster(small, plain)
    medians = f"fp32 {plain.median_ns / 1e6:.3f} ms, int8 {small.median_ns / 1e6:.3f} ms (medians)"
    quartiles = f"quartiles {ratio.low:.2f} to {ratio.high:.2f}"
    return f"{what}: int8 {ratio.median:.2f} times fp32 (at least {least}; {quartiles}), {medians}, {extra}", ratio


def top1(labels: Array) -> Callable[[Mapping[str, Array]], float]:
    """The share of rows whose largest logit is the label's."""
    return lambda outputs: float((outputs["logits"].argmax(axis=1) == labels).mean())


def run_digits(folder: Path) -> bool:
    """The convolutional digits model; whether both goals are met."""
    images, labels = digits.holdout()
    candidates = quantized(digits.train(), digits.calibration(), folder / "digits")
    rows = compare(candidates, images, 32, top1(labels))
    drop = rows[1].drop
    assert drop is not None, "there is a metric"
    accuracy = f"top-1 fp32 {rows[0].metric:.4f}, int8 {rows[1].metric:.4f} (within {CONV_DROP})"
    text, ratio = line("digits, convolutions, batch 32", rows, 32, CONV_LEAST, accuracy)
    print(text)
    return ratio.median >= CONV_LEAST and drop <= CONV_DROP


def run_encoder(folder: Path) -> bool:
    """The transformer encoder; whether the goal is met."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 1000, (8, 128))
    rows = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    found = compare(quantized(encoder(), rows, folder / "encoder"), rows, 8, None)
    closeness = f"cosine {found[1].outputs['embedding'].cosine:.4f}"
    text, ratio = line("encoder, batch 8 of 128 tokens", found, 8, ENCODER_LEAST, closeness)
    print(text)
    return ratio.median >= ENCODER_LEAST


def main() -> int:
    """Both models; 0 when all goals are met."""
    with tempfile.TemporaryDirectory(prefix="trtkit-int8-") as folder:
        met = [run(Path(folder)) for run in (run_digits, run_encoder)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
