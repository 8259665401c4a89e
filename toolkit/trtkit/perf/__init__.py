# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How fast a served model answers: a closed loop over HTTP or gRPC, windows, and the server's own figures.

The way of the data: ``workload`` (requests) → ``encode`` (bytes) → ``http_transport`` or ``grpc_transport``
→ ``closed_loop`` → ``recorder`` (cuts) → ``windows`` (stable or not) → ``measurement`` (the result) →
``report`` (text). ``runner.measure`` runs it; ``control`` and ``server_side`` ask the server about itself.
"""

from trtkit.perf.control import ModelDescription, describe
from trtkit.perf.latency import LatencyStatistics
from trtkit.perf.measurement import Load, Measurement
from trtkit.perf.records import ErrorCount
from trtkit.perf.runner import measure
from trtkit.perf.server_side import ServerFigures
from trtkit.perf.windows import Window
from trtkit.perf.workload import batches, parse_shape, random_inputs

__all__ = [
    "ErrorCount",
    "LatencyStatistics",
    "Load",
    "Measurement",
    "ModelDescription",
    "ServerFigures",
    "Window",
    "batches",
    "describe",
    "measure",
    "parse_shape",
    "random_inputs",
]
