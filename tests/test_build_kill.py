# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``kill -9`` of a build at random moments: what is published is always whole, and always loads.

The project is two ONNX models and the ensemble of both. Before each build both sources change, and mostly
their widths and batch sizes too, so that a new model beside an old config.pbtxt, or new models beside the old
ensemble, would not load. `benchmarks/kill_build.py` does the same 50 times, with a server after each kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import DataType

from trtkit.config import ensemble_config, is_generated, read_config
from trtkit.dtypes import by_onnx
from trtkit.project import load_project
from trtkit.repository import latest, versions
from trtkit.server import connect, serve

KILLS = int(os.environ.get("TRTKIT_KILLS", "8"))
SEED = int(os.environ.get("TRTKIT_KILL_SEED", "1"))
MODELS = ("a", "b")

PROJECT = """
models:
  a: {{source: {{onnx: a.onnx}}, config: {{max_batch_size: {batch}}}}}
  b: {{source: {{onnx: b.onnx}}, config: {{max_batch_size: {batch}}}}}
  e:
    ensemble:
      - {{model: a, inputs: {{x: X}}, outputs: {{y: T}}}}
      - {{model: b, inputs: {{x: T}}, outputs: {{y: Y}}}}
"""


@dataclass(frozen=True)
class Kill:
    """One killed build.

    Attributes:
        seconds: after how long it was killed.
        alive: whether it was still at work.
        reached: the last line it had written.
    """

    seconds: float
    alive: bool
    reached: str


class Victim:
    """A project that is built, killed, and looked at."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.repository = root, root / "model_repository"
        self.random = random.Random(seed)
        self.factor = 1
        self.seen: dict[str, str] = {}

    def change(self) -> None:
        """New weights for both models, and mostly another width and batch size."""
        self.factor += 1
        width, batch = self.random.choice([4, 5, 6]), self.random.choice([2, 4, 8])
        (self.root / "trtkit.yaml").write_text(PROJECT.format(batch=batch))
        for name in MODELS:
            shape = ["batch", width]
            graph = helper.make_graph(
                [helper.make_node("Mul", ["x", "factor"], ["y"])],
                name,
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
                [numpy_helper.from_array(np.full(width, self.factor, np.float32), "factor")],
            )
            opsets = [helper.make_opsetid("", 17)]
            onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(self.root / f"{name}.onnx"))

    def start(self) -> subprocess.Popen[str]:
        """``trtkit build`` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "trtkit", "build"],
            cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def build(self) -> None:
        """A build that has to end well."""
        process = self.start()
        output, _ = process.communicate()
        assert process.returncode == 0, output

    def measure(self) -> tuple[float, float]:
        """A build that has to end well; the seconds until it publishes, and those of publishing."""
        started = time.perf_counter()
        old, process = self.staged(), self.start()
        while process.poll() is None and not self.staged() - old:
            time.sleep(0.0005)
        before = time.perf_counter()
        while process.poll() is None and self.staged() - old:
            time.sleep(0.0005)
        seconds = before - started, time.perf_counter() - before
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return seconds

    def staged(self) -> set[str]:
        """What is staged now, or was left by a killed build."""
        return {path.name for path in (self.root / ".trtkit").glob("staging-*")}

    def kill(self, seconds: float, *, publishing: bool) -> Kill:
        """Start a build and kill it, with its workers or alone, so long after its start or its first staged file."""
        old, process = self.staged(), self.start()
        started = time.perf_counter()
        while publishing and process.poll() is None and not self.staged() - old:
            time.sleep(0.0005)
        time.sleep(seconds)
        alive = process.poll() is None
        if self.random.random() < 0.5:
            process.kill()
        elif alive:
            os.killpg(process.pid, signal.SIGKILL)
        lines = process.communicate()[0].splitlines()
        return Kill(time.perf_counter() - started, alive, lines[-1] if lines else "")

    def change_and_kill(self, before: float, publication: float) -> Kill:
        """Change the sources and kill their build at a random moment; two of three while it publishes."""
        self.change()
        publishing = self.random.random() < 2 / 3
        return self.kill(self.random.uniform(0.0, 1.5 * publication if publishing else before), publishing=publishing)

    def check(self) -> None:
        """Everything in the repository is whole, fits together, and no published version has changed."""
        assert {path.name for path in self.repository.iterdir()} <= {*MODELS, "e"}
        for name in [path.name for path in self.repository.iterdir()]:
            self._check_model(name)
        self._check_ensemble()
        self._check_nothing_changed()

    def _check_model(self, name: str) -> None:
        folder = self.repository / name
        found = versions(self.repository, name)
        assert [version.version for version in found] == list(range(1, len(found) + 1))
        own = {"config.pbtxt", *(["warmup"] if name in MODELS else []), *(str(v.version) for v in found)}
        assert {path.name for path in folder.iterdir()} == own
        for version in found:
            record = json.loads((version.path / "trtkit.json").read_text())
            assert (record["model"], record["version"]) == (name, version.version)
            assert {path.name for path in version.path.iterdir()} == {"trtkit.json", *record["files"]}
            assert version.changed_file() is None
        text = (folder / "config.pbtxt").read_text()
        assert is_generated(text)
        if name in MODELS:
            self._check_config(name, text)

    def _check_config(self, name: str, text: str) -> None:
        """The config says what the latest version's graph takes and gives."""
        published = latest(self.repository, name)
        assert published is not None
        config = read_config(text, name)
        graph = onnx.load(published.path / "model.onnx").graph
        for tensors, values in ((config.input, graph.input), (config.output, graph.output)):
            shown = [(t.name, t.data_type, [-1, *t.dims]) for t in tensors]
            assert shown == [_shown(value) for value in values], published
        assert config.max_batch_size == published.record["max_batch_size"]
        row = self.repository / name / "warmup" / config.model_warmup[0].inputs["x"].input_data_file
        assert row.stat().st_size == 4 * config.input[0].dims[0]

    def _check_ensemble(self) -> None:
        """The ensemble is the one that follows from the configs beside it."""
        if not (self.repository / "e").exists():
            return
        text = {name: (self.repository / name / "config.pbtxt").read_text() for name in (*MODELS, "e")}
        configs = {name: read_config(content, name) for name, content in text.items()}
        project = load_project(self.root / "trtkit.yaml")
        assert configs["e"] == ensemble_config(project, "e", [configs[name] for name in MODELS])

    def _check_nothing_changed(self) -> None:
        files = (p for p in self.repository.glob("*/[0-9]*/**/*") if p.is_file())
        now = {str(p.relative_to(self.repository)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        assert {name: now.get(name) for name in self.seen} == self.seen
        self.seen = now

    def serve(self) -> None:
        """The server loads everything, and the ensemble multiplies by both models' factors."""
        factors = []
        for name in MODELS:
            published = latest(self.repository, name)
            assert published is not None
            factors.append(
                float(numpy_helper.to_array(onnx.load(published.path / "model.onnx").graph.initializer[0])[0])
            )
        width = read_config((self.repository / "e" / "config.pbtxt").read_text(), "e").input[0].dims[0]
        with serve(self.repository) as server, connect(server.http_url, "http") as client:
            served = client.infer("e", {"X": np.ones((2, width), np.float32)})["Y"]
        assert served.tolist() == np.full((2, width), factors[0] * factors[1]).tolist()


def _shown(value: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
    dtype = by_onnx(value.type.tensor_type.elem_type)
    assert dtype is not None
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
    return value.name, DataType.Value(dtype.triton), dims


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(1200)
def test_a_build_that_is_killed_at_any_moment_leaves_a_repository_that_loads(tmp_path: Path) -> None:
    victim = Victim(tmp_path, SEED)
    victim.change()
    victim.build()
    victim.change()
    before, publication = victim.measure()
    victim.check()
    killed = 0
    for turn in range(KILLS):
        killed += victim.change_and_kill(before, publication).alive
        victim.check()
        if turn % 4 == 3:
            victim.serve()
        if turn % 2 == 0:  # otherwise the next killed build finds what this one left
            victim.build()
            victim.check()
    assert killed > KILLS // 2, "most builds had ended before they were killed"
    victim.change()
    victim.build()
    victim.check()
    victim.serve()
    assert not [path for path in (tmp_path / ".trtkit").iterdir() if path.name.startswith(("staging-", "tmp-"))]
