# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The precision stage alone: an FP32 ONNX file and real rows to an INT8 one, for TensorRT or for CPUs.

python scripts/quantize.py model.onnx calibration.npz int8.onnx [--target cpu] [--method entropy] [--half]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx

from trtkit import calibrate, quantize_cpu, quantize_tensorrt, tensors_to_calibrate, to_half

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("onnx", type=Path)
parser.add_argument("rows", type=Path, help="an .npz file with one array per input")
parser.add_argument("result", type=Path)
parser.add_argument("--target", choices=["tensorrt", "cpu"], default="tensorrt")
parser.add_argument("--method", choices=["minmax", "percentile", "entropy"], default="minmax")
parser.add_argument("--half", action="store_true", help="what is not INT8 becomes FP16 (tensorrt only)")
arguments = parser.parse_args()

model = onnx.load(arguments.onnx)
ranges = calibrate(
    arguments.onnx, dict(np.load(arguments.rows)), tensors_to_calibrate(model), method=arguments.method,
    percentile=99.999, batch_rows=32, where=str(arguments.rows),
)  # fmt: skip
if arguments.target == "cpu":
    with tempfile.TemporaryDirectory() as folder:
        made = quantize_cpu(arguments.onnx, ranges, Path(folder), where=str(arguments.onnx))
else:
    made = quantize_tensorrt(model, ranges, "INT8", where=str(arguments.onnx))
result = to_half(made.model, "FP16").model if arguments.half else made.model
onnx.save(result, arguments.result)
print(f"{arguments.result}: {made.quantized}, left in floating point: {made.skipped or 'nothing'}")
