# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The models behind the routing parts in their tests, and what the tests ask of the server."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as httpclient
from google.protobuf import text_format

from trtkit.config import ModelConfig
from trtkit.server import RunningServer

# what x[0][0] makes a variant do instead of an answer
RAISE, DIE = 99.0, 66.0

_CONFIG = """
backend: "python"
max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: -1 }
output { name: "got" data_type: TYPE_STRING dims: 1 }
instance_group { count: 1 kind: KIND_CPU }
"""

_MODEL = """
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.factor = float(parameters["factor"]["string_value"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        told = x.flat[0] if x.size else 0
        if told == 66:
            os.kill(os.getpid(), 9)
        if told == 99:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("it is 99"))
        if told < 0:
            time.sleep(float(-told))
        got = [request.request_id(), request.correlation_id(), request.flags(), request.timeout(), request.parameters()]
        got = np.array([[json.dumps(got).encode()]] * len(x), dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x * self.factor), pb_utils.Tensor("got", got)])
"""


def write_variant(
    repository: Path,
    name: str,
    factor: float,
    *,
    model: str = _MODEL,
    version: int = 1,
    edit: Callable[[ModelConfig], object] | None = None,
) -> None:
    """A model that answers y = factor * x and says in ``got`` what else the request had.

    x[0][0] makes it fail (RAISE), kill its own stub (DIE), or, below 0, sleep for so many seconds first.
    """
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(model)
    config = text_format.Parse(_CONFIG, ModelConfig())
    config.parameters["factor"].string_value = str(factor)
    if edit:
        edit(config)
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def infer(server: RunningServer, model: str, *rows: float, **options: Any) -> httpclient.InferResult:
    """Send rows of one number each over HTTP."""
    return infer_array(server, model, np.array(rows, dtype=np.float32).reshape(-1, 1), **options)


def infer_array(server: RunningServer, model: str, x: np.ndarray, **options: Any) -> httpclient.InferResult:
    """Send an array as ``x`` over HTTP."""
    with httpclient.InferenceServerClient(server.http_url, network_timeout=30) as client:
        tensor = httpclient.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        return client.infer(model, [tensor], **options)


def variants(result: httpclient.InferResult) -> list[str]:
    """The output ``variant`` as text."""
    return [name.decode() for name in result.as_numpy("variant").ravel()]


def got(result: httpclient.InferResult) -> dict[str, Any]:
    """What the variant that answered was given beside its tensors."""
    names = ("request_id", "correlation_id", "flags", "timeout", "parameters")
    values = dict(zip(names, json.loads(result.as_numpy("got").flat[0]), strict=True))
    return {**values, "parameters": json.loads(values["parameters"] or "{}")}


def metric(server: RunningServer, name: str, **labels: str) -> float:
    """A value on the metrics port, once those of the last requests have come there; NaN when there is none."""
    time.sleep(0.25)
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
        if found and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found[1])).items():
            return float(found[2])
    return float("nan")
