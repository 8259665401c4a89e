# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX models on the Python backend as one would write it at first: gather, concatenate, run, split.

`benchmarks/onnxruntime_backend.py` compares with it. It takes requests of equal shapes that ask for all outputs.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session with ONNX Runtime's own defaults."""
        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        path = Path(pb_utils.get_model_dir()) / "model.onnx"
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests in one run."""
        gathered = {name: [] for name in self.inputs}
        for request in requests:
            for name in self.inputs:
                gathered[name].append(pb_utils.get_input_tensor_by_name(request, name).as_numpy())
        rows = [len(array) for array in gathered[self.inputs[0]]]
        batch = {name: np.concatenate(arrays) for name, arrays in gathered.items()}
        results = self.session.run(self.outputs, batch)
        splits = [np.split(result, np.cumsum(rows)[:-1]) for result in results]
        responses = []
        for parts in zip(*splits, strict=True):
            tensors = [pb_utils.Tensor(name, part) for name, part in zip(self.outputs, parts, strict=True)]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
