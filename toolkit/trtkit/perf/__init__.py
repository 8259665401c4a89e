# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How fast a served model answers: the load generator.

The way of the data: ``data`` (requests) → ``encoding`` (bytes) → ``transports`` → ``loop`` (load loops, rows)
→ ``statistics`` (windows, percentiles) → ``measurement`` (the result) → ``reports``. ``session.run`` does everything
that options ask, ``runner.measure`` one load from Python; ``server`` asks the server about itself.
"""

from trtkit.perf.data.generated import random_pool
from trtkit.perf.data.workload import batches
from trtkit.perf.load import Load
from trtkit.perf.loop.records import ErrorCount
from trtkit.perf.measurement import Measurement
from trtkit.perf.runner import measure
from trtkit.perf.server.control import ModelDescription, describe
from trtkit.perf.server.server_side import ServerFigures
from trtkit.perf.statistics.latency import LatencyStatistics
from trtkit.perf.statistics.windows import Window

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
    "random_pool",
]
