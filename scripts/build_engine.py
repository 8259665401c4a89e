# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The engine stage alone: an ONNX file to a TensorRT plan.

python scripts/build_engine.py model.onnx model.plan --profile x=1x64,8x64,32x64 [--module tensorrt_rtx]
"""

import argparse
from importlib import import_module
from pathlib import Path

from trtkit import ShapeRange, build_engine, plan_info
from trtkit.engine import EngineOptions
from trtkit.errors import TrtkitError


def shape_range(text: str) -> tuple[str, ShapeRange]:
    """NAME=MIN,OPT,MAX with sizes joined by x."""
    name, _, shapes = text.rpartition("=")
    minimum, optimum, maximum = (tuple(int(size) for size in shape.split("x")) for shape in shapes.split(","))
    return name, ShapeRange(minimum, optimum, maximum)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("onnx", type=Path)
parser.add_argument("plan", type=Path)
parser.add_argument("--profile", action="append", nargs="+", default=[], type=shape_range, metavar="NAME=MIN,OPT,MAX")
parser.add_argument("--module", default="tensorrt", help="tensorrt (needs the GPU) or tensorrt_rtx (evidence only)")
parser.add_argument("--compute-capability", action="append", default=[], help="for tensorrt_rtx, e.g. 8.9")
arguments = parser.parse_args()

try:
    built = build_engine(
        import_module(arguments.module),
        arguments.onnx,
        [dict(profile) for profile in arguments.profile],
        EngineOptions(compute_capabilities=tuple(arguments.compute_capability)),
    )
except ImportError:
    parser.error(f"{arguments.module} is not installed")
except TrtkitError as exc:
    parser.exit(exc.exit_code, f"{exc}\n")
arguments.plan.write_bytes(built.plan)
print(f"{arguments.plan}: {len(built.plan)} bytes, {plan_info(built.plan)}")
print(f"layers: {built.facts['layers']}, found in the {built.facts['precision_source']}")
