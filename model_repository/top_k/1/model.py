# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The k best classes of each row: labels from a file of the model's folder, and scores."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """FP32 [batch, classes] to BYTES [batch, k] and FP32 [batch, k], best first."""

    def initialize(self, args):
        """Read k and the labels file, one label a line, from the config's parameters."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.k = int(parameters["k"]["string_value"])
        file = Path(args["model_repository"]) / parameters["labels"]["string_value"]
        self.labels = np.array(file.read_text(encoding="utf-8").splitlines(), dtype=object)

    def execute(self, requests):
        """One response per request, in order."""
        return [self.respond(request) for request in requests]

    def respond(self, request):
        """Rank the classes of each row of one request."""
        scores = pb_utils.get_input_tensor_by_name(request, "scores").as_numpy()
        if scores.shape[1] != len(self.labels):
            text = f"{scores.shape[1]} scores for {len(self.labels)} labels"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        label = np.vectorize(lambda text: text.encode(), otypes=[object])(self.labels[best])
        score = np.take_along_axis(scores, best, axis=1)
        return pb_utils.InferenceResponse([pb_utils.Tensor("label", label), pb_utils.Tensor("score", score)])
