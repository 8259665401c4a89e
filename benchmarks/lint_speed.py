# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How quickly a repository is linted, on one core: python benchmarks/lint_speed.py.

Asked for, and exit 1 where it does not hold: 1,000 models in less than five seconds, and twice the models in at
most 2.2 times as long. A run is a whole process, `trtkit lint` with its start, and its time that of the one core
it is on, so that other work on this machine does not count. Of each ten models four are ONNX
files with weights, two Python models, two ensembles of three steps and two TensorRT configs with profiles.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RUNS = 5
MODELS = 1000
SECONDS = 5.0
RATIO = 2.2
WEIGHT_BYTES = 200_000

PYTHON_MODEL = """import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])

    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y = pb_utils.Tensor("y", np.tanh(x))
            responses.append(pb_utils.InferenceResponse(output_tensors=[y]))
        return responses
"""
TENSORS = """input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {size} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {size} ] }} ]
"""
BATCHING = """max_batch_size: 32
dynamic_batching {
  max_queue_delay_microseconds: 500
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 100000 max_queue_size: 64 }
}
instance_group [ { count: 2 kind: KIND_CPU } ]
"""
WARM_UP = """model_warmup [
  { name: "warm" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ %d ] zero_data: true } } }
]
"""
SIZE = 220
PLAN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(4096)  # a header, and nothing behind it


def main() -> None:
    """Make both repositories, lint them in turn, compare the medians."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory(prefix="trtkit-lint-") as folder:
        repositories = {count: Path(folder, str(count)) for count in (MODELS, 2 * MODELS)}
        for count, root in repositories.items():
            write_repository(root, count)
        runs: dict[int, list[tuple[float, float]]] = {count: [] for count in repositories}
        for _ in range(RUNS):
            for count, root in repositories.items():
                runs[count].append(seconds(root, count))
    once, twice = (statistics.median(cpu for cpu, _ in rows) for rows in runs.values())
    for count, rows in runs.items():
        walls = ", ".join(f"{wall:.2f}" for _, wall in rows)
        print(
            f"{count} models: median {statistics.median(cpu for cpu, _ in rows):.2f} s on core {core} (wall: {walls})"
        )
    print(f"{MODELS} models: {once:.2f} s (less than {SECONDS:.0f})")
    print(f"twice the models: {twice / once:.2f} times as long (at most {RATIO})")
    sys.exit(int(once >= SECONDS or twice / once > RATIO))


def seconds(root: Path, count: int) -> tuple[float, float]:
    """The core's and the wall's time of one `trtkit lint`, which has to have looked at every model."""
    trtkit = shutil.which("trtkit", path=str(Path(sys.executable).parent)) or "trtkit"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([trtkit, "lint", str(root), "--json"], capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout or "{}")
    if done.returncode != 0 or report["summary"]["models"] != count:
        errors = [row["message"] for row in report.get("findings", ()) if row["severity"] == "error"]
        raise SystemExit(f"exit {done.returncode}: {errors[:3]} {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def write_repository(root: Path, count: int) -> None:
    """Write as many models as asked for, of all kinds."""
    graph = onnx_bytes()
    makers = (onnx_model, python_model, onnx_model, ensemble, tensorrt_model) * 2
    for number in range(count):
        makers[number % len(makers)](root, number, graph)


def onnx_bytes() -> bytes:
    """A graph of about `WEIGHT_BYTES` that keeps its input's size."""
    weights = np.zeros((SIZE, WEIGHT_BYTES // 8 // SIZE), np.float32)
    inner = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(weights.T.copy(), "v")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIZE]) for name in "xy")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "v"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], inner), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    return bytes(onnx.ModelProto.SerializeToString(model))


def write(root: Path, name: str, config: str, files: dict[str, bytes]) -> None:
    """Write one model."""
    for file, content in {"config.pbtxt": config.encode(), **files}.items():
        (root / name / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / file).write_bytes(content)


def onnx_model(root: Path, number: int, graph: bytes) -> None:
    """A model of the onnxruntime backend."""
    config = f'name: "onnx_{number}"\nbackend: "onnxruntime"\n' + BATCHING + TENSORS.format(size=SIZE) + WARM_UP % SIZE
    write(root, f"onnx_{number}", config, {"1/model.onnx": graph})


def python_model(root: Path, number: int, graph: bytes) -> None:
    """A Python model."""
    config = f'name: "python_{number}"\nbackend: "python"\n' + BATCHING + TENSORS.format(size=SIZE)
    write(root, f"python_{number}", config, {"1/model.py": PYTHON_MODEL.encode()})


def ensemble(root: Path, number: int, graph: bytes) -> None:
    """An ensemble over the three models before it."""
    steps = [("x", f"onnx_{number - 3}", "a"), ("a", f"python_{number - 2}", "b"), ("b", f"onnx_{number - 1}", "y")]
    body = ",\n".join(
        f'  {{ model_name: "{model}" model_version: -1 input_map {{ key: "x" value: "{source}" }} '
        f'output_map {{ key: "y" value: "{target}" }} }}'
        for source, model, target in steps
    )
    config = f'name: "ensemble_{number}"\nplatform: "ensemble"\nmax_batch_size: 32\n' + TENSORS.format(size=SIZE)
    (root / f"ensemble_{number}" / "1").mkdir(parents=True)
    write(root, f"ensemble_{number}", f"{config}ensemble_scheduling {{ step [\n{body}\n] }}\n", {})


def tensorrt_model(root: Path, number: int, graph: bytes) -> None:
    """A TensorRT config with two profiles."""
    config = f'name: "tensorrt_{number}"\nplatform: "tensorrt_plan"\nmax_batch_size: 32\n' + TENSORS.format(size=SIZE)
    groups = 'instance_group [ { count: 1 kind: KIND_GPU profile: [ "0", "1" ] } ]\n'
    graphs = "optimization { cuda { graphs: true graph_spec [ { batch_size: 8 } ] } }\n"
    write(root, f"tensorrt_{number}", config + groups + graphs + WARM_UP % SIZE, {"1/model.plan": PLAN})


if __name__ == "__main__":
    main()
