# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The export stage alone: python scripts/export_onnx.py MODEL FOLDER writes FOLDER/model.onnx, proven."""

import argparse
from pathlib import Path

from trtkit import export_model, find_project

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a model of trtkit.yaml with a source")
parser.add_argument("folder", type=Path, help="where to write model.onnx and its warm-up data")
arguments = parser.parse_args()

arguments.folder.mkdir(parents=True, exist_ok=True)
exported = export_model(find_project(), arguments.model, arguments.folder)
print(f"inputs: {', '.join(map(str, exported.signature.inputs))}")
print(f"outputs: {', '.join(map(str, exported.signature.outputs))}")
print(f"batch: {exported.facts['batch']}")
