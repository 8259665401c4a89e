# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the queue of `trtkit deploy simulate` waits as long as a real server's, on models whose times are known.

    python benchmarks/deploy_simulate.py [--seconds 60] [--sleep-ms 20] [--instances 1 4]

For some numbers of instances of a Python model that sleeps, without batching, and for several utilizations: the
embedded server under Poisson arrivals of `trtkit perf --request-rate`, its mean queue time
(nv_inference_queue_duration_us by nv_inference_request_success, as perf reports it) beside the simulation's. The
service time of the simulation is the server's own mean time in the model, and the capacity instances by that.

Prints a line for each. Wants a quiet machine: a sleep that ends late is a longer service.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from trtkit.deploy.simulation.queueing import waiting_mdc
from trtkit.deploy.simulation.run import simulate
from trtkit.deploy.simulation.settings import Lifecycle, Objective, Pod, Scaler, Settings
from trtkit.deploy.simulation.shapes import shaped

MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            time.sleep(%(seconds)r)
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return responses
"""
CONFIG = """
name: "sleeper"
backend: "python"
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
instance_group { count: %(instances)d kind: KIND_CPU }
"""
USED = (0.3, 0.5, 0.7, 0.8, 0.9)


def measure(repository: Path, rate: float, seconds: float) -> dict[str, Any]:
    """One open loop against an embedded server."""
    command = [
        sys.executable, "-m", "trtkit", "perf", "sleeper", "--repository", str(repository),
        "--request-rate", f"{rate:g}",
        "--request-distribution", "poisson", "--warmup", "3", "--duration", f"{seconds:g}", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if not done.stdout.strip():
        sys.exit(f"trtkit perf failed: {done.stderr}")
    value: dict[str, Any] = json.loads(done.stdout)["measurements"][0]
    return value


def predicted_ms(pod: Pod, rate: float) -> float:
    """The simulation's mean wait at a steady load of one pod."""
    settings = Settings(pod, Lifecycle(), Objective(10.0))
    trace = shaped("step", rate, rate, 600.0)
    return simulate(trace, Scaler("one pod", 1, 1), settings).summary.wait_ms


def main() -> None:
    """Measure every case and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sleep-ms", type=float, default=20.0)
    arguments = parser.parse_args()
    print("instances  used   rate/s  service ms  queue ms: server  simulated  M/D/c formula")
    for instances, used in itertools.product(arguments.instances, USED):
        with tempfile.TemporaryDirectory() as folder:
            version = Path(folder) / "sleeper" / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(MODEL % {"seconds": arguments.sleep_ms / 1000})
            (version.parent / "config.pbtxt").write_text(CONFIG % {"instances": instances})
            rate = used * instances / (arguments.sleep_ms / 1000 + 0.0005)  # a sleep ends a little late
            found = measure(Path(folder), rate, arguments.seconds)
        server = found["server"]
        parts = ("compute_input_ns", "compute_infer_ns", "compute_output_ns")
        service_s = sum(server[part] for part in parts) / 1e9
        capacity = instances / service_s
        real = found["requests_per_s"]
        simulated = predicted_ms(Pod(capacity, service_s, instances), real)
        formula = 1000 * waiting_mdc(instances, min(0.999, real / capacity)) / real
        print(
            f"{instances:9} {real / capacity:5.3f} {real:8.2f} {1000 * service_s:11.3f} "
            f"{server['queue_ns'] / 1e6:17.3f} {simulated:10.3f} {formula:14.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
