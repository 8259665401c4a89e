# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files to tensors. All images of one execute are decoded in parallel; a bad one fails its request alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_cores import threads_per_instance
from trtkit_image import BadImage, Size
from trtkit_image_config import decoder_of, dims_of_an_image, fits
from trtkit_parts import BadRequest, Parameters, answer_each, output_type, tensor

Decoded = tuple[np.ndarray, Size]


class TritonPythonModel:
    """BYTES `image` to `pixels` (UINT8, FP16 or FP32) and `original_size` (height and width)."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the parameters, and check that they make what the config promises."""
        config = json.loads(args["model_config"])
        self.name = config["name"]
        self.types = {entry["name"]: output_type(config, entry["name"]) for entry in config["output"]}
        parameters = Parameters(config)
        self.decoder = decoder_of(parameters, self.types.get("pixels", np.float32))
        threads = parameters.integer("threads", 0, least=0) or threads_per_instance(config)
        parameters.done()
        self.dims = dims_of_an_image(config, self.decoder)
        self.one_size = self.decoder.geometry.fixed_size() is not None
        self.one_image = int(config["max_batch_size"]) == 0 and config["input"][0]["dims"] == [1]
        self.pool = ThreadPoolExecutor(threads, "image_decode") if threads > 1 else None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Decode the images of all requests together, then answer each."""
        images = [_images(request) for request in requests]
        results = iter(self._decode_all([data for each in images for data in each]))
        decoded = {
            id(request): list(islice(results, len(each))) for request, each in zip(requests, images, strict=True)
        }
        return answer_each(self.name, requests, lambda request: self._answer(request, decoded[id(request)]))

    def finalize(self) -> None:
        """End the threads."""
        if self.pool:
            self.pool.shutdown()

    def _decode_all(self, images: Sequence[bytes]) -> Iterable[Decoded | Exception]:
        map_in_order = self.pool.map if self.pool and len(images) > 1 else map
        return map_in_order(self._try_to_decode, images)

    def _try_to_decode(self, data: bytes) -> Decoded | Exception:
        try:
            return self.decoder.decode(data)
        except Exception as error:  # of one image, whose request is told
            return error

    def _answer(self, request: Any, decoded: Sequence[Decoded | Exception]) -> Any:
        shape = tensor(request, "image").shape
        if len(shape) > 1 and math.prod(shape) != shape[0]:
            raise BadRequest(f"input 'image' has shape {list(shape)}, expected one image in each row")
        good = [_good(result, index) for index, result in enumerate(decoded)]
        outputs = []
        if "pixels" in request.requested_output_names():
            outputs.append(pb_utils.Tensor("pixels", self._rows(self._pixels([pixels for pixels, _ in good]))))
        if "original_size" in request.requested_output_names():
            sizes = np.array([size[::-1] for _, size in good], self.types["original_size"]).reshape(-1, 2)
            outputs.append(pb_utils.Tensor("original_size", self._rows(sizes)))
        return pb_utils.InferenceResponse(outputs)

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """With a row for each image, or without where the model takes a single one."""
        return values[0] if self.one_image else values

    def _pixels(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The images of one request in one array, in the shape of the config."""
        if self.one_size:
            return np.array(images, self.types["pixels"]).reshape(len(images), *self.dims)
        shapes = sorted({image.shape for image in images})
        if not shapes:
            raise BadRequest("it has no image, and the shape of 'pixels' depends on the image")
        if len(shapes) > 1:
            found = ", ".join(str(list(shape)) for shape in shapes)
            raise BadRequest(f"its images get different shapes, {found}; send them one by one, or set a fixed size")
        if not fits(self.dims, shapes[0]):
            raise BadRequest(f"its images get the shape {list(shapes[0])}, 'pixels' has dims {list(self.dims)}")
        return np.array(images)


def _images(request: Any) -> Sequence[bytes]:
    """What there is to decode; nothing for a request that lacks its input, which is told later."""
    found = pb_utils.get_input_tensor_by_name(request, "image")
    return () if found is None else found.as_numpy().ravel()


def _good(result: Decoded | Exception, index: int) -> Decoded:
    if isinstance(result, BadImage):
        raise BadRequest(f"image {index} of input 'image': {result}")
    if isinstance(result, Exception):
        raise result
    return result
