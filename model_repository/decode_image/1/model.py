# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode image bytes to grey pixels. A request with an unreadable image fails alone."""

import io
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image, UnidentifiedImageError


class TritonPythonModel:
    """BYTES [batch, 1] to FP32 [batch, width * height]."""

    def initialize(self, args):
        """Read width, height and divide_by from the config's parameters."""
        parameters = json.loads(args["model_config"])["parameters"]
        value = {name: float(parameter["string_value"]) for name, parameter in parameters.items()}
        self.size = (int(value["width"]), int(value["height"]))
        self.divide_by = np.float32(value["divide_by"])

    def execute(self, requests):
        """One response per request, in order."""
        return [self.respond(request) for request in requests]

    def respond(self, request):
        """Decode all images of one request."""
        images = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
        try:
            pixels = np.stack([self.decode(data) for data in images])
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as exc:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"an image cannot be decoded: {exc}"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("pixels", pixels)])

    def decode(self, data):
        """One image's pixels, row by row."""
        with Image.open(io.BytesIO(data)) as image:
            grey = image.convert("L").resize(self.size, Image.Resampling.BILINEAR)
        return np.asarray(grey, dtype=np.float32).ravel() / self.divide_by
