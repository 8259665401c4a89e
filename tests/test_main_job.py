# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The main job as a user does it, command by command, against the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtkit.errors import ParityError
from trtkit.server import RunningServer, connect, serve

pytestmark = pytest.mark.triton
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def trtkit(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def json_of(*arguments: str, cwd: Path, code: int = 0) -> Any:
    return json.loads(trtkit(*arguments, "--json", cwd=cwd, code=code).stdout)


@pytest.fixture(scope="module")
def served(built_sample: Path) -> Iterator[RunningServer]:
    with serve(built_sample / "model_repository") as server:
        yield server


@pytest.fixture(scope="module")
def train_digits() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import train_digits

    yield train_digits
    sys.path.remove(str(SCRIPTS))


def test_a_second_build_does_nothing_and_says_so(sample: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*") if path.is_file()}
    out = trtkit("build", cwd=sample).stdout
    assert out == "Everything is up to date (12 models, nothing to do).\n"
    after = {path: path.stat().st_mtime_ns for path in sample.rglob("*") if path.is_file()}
    moved = {path for path in before if before[path] != after.get(path)}
    assert moved <= {sample / ".trtkit" / "lock"}
    reasons = trtkit("build", "--explain", cwd=sample).stdout
    assert reasons.count("not run") == 35


def test_the_committed_configs_are_what_a_build_generates(built_sample: Path) -> None:
    root = SCRIPTS.parent
    models = {file.parent.name for file in (built_sample / "model_repository").glob("*/config.pbtxt")}
    assert len(models) == 12
    for model in models - {"digits_cnn"}:
        file = Path("model_repository") / model / "config.pbtxt"
        assert (built_sample / file).read_text() == (root / file).read_text(), f"run trtkit build and commit {file}"


def test_100_held_out_images_equal_the_estimator(
    built_sample: Path, served: RunningServer, train_digits: Any, tmp_path: Path
) -> None:
    files = train_digits.write_images(tmp_path, 100)
    answer = json_of("infer", "digits_pipeline", *map(str, files), "--url", served.http_url, cwd=built_sample)
    _, pixels, _, _ = train_digits.split()
    expected = [f"digit {label}" for label in train_digits.train().predict(pixels[:100])]
    assert answer["outputs"]["LABEL"]["data"] == expected
    folder = json_of(
        "infer", "digits_pipeline", "--input", f"IMAGE={tmp_path}", "--url", served.http_url, cwd=built_sample
    )
    assert folder["outputs"]["LABEL"]["data"] == expected


def test_labels_come_from_the_server(
    built_sample: Path, served: RunningServer, train_digits: Any, tmp_path: Path
) -> None:
    _, pixels, _, _ = train_digits.split()
    np.save(tmp_path / "x.npy", pixels[:3])
    for protocol, url in (("http", served.http_url), ("grpc", served.grpc_url)):
        command = ("infer", "digits", "--input", f"x={tmp_path / 'x.npy'}", "--protocol", protocol, "--url", url)
        answer = json_of(*command, cwd=built_sample)
        labels = answer["outputs"]["label"]["data"]
        assert answer["labels"]["probabilities"] == [f"digit {label}" for label in labels]


def test_one_bad_image_fails_with_the_server_s_sentence(
    built_sample: Path, served: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    command = ("infer", "digits_pipeline", str(tmp_path / "bad.png"), "--url", served.http_url)
    assert "model 'decode_image': image 0 of input 'image'" in trtkit(*command, cwd=built_sample, code=5).stderr


def test_a_tenth_of_the_requests_is_answered_by_the_candidate(built_sample: Path, served: RunningServer) -> None:
    x = np.zeros((1, 64), np.float32)
    with connect(served.http_url) as client:
        answers = [client.infer("digits_split", {"x": x}) for _ in range(200)]
        expected = {name: client.infer(name, {"x": x}) for name in ("digits", "digits_candidate")}
    for answer in answers:
        variant = answer["variant"].item().decode()
        np.testing.assert_allclose(answer["probabilities"], expected[variant]["probabilities"], rtol=1e-5)
    shares = Counter(answer["variant"].item().decode() for answer in answers)
    assert 5 <= shares["digits_candidate"] <= 50


def test_texts_about_one_topic_are_close(built_sample: Path, served: RunningServer) -> None:
    texts = ["The petals of the iris flowers", "Iris flowers and their petals", "Cells of a malignant tumour"]
    command = ("infer", "text_pipeline", "--input", f"TEXT={json.dumps([[text] for text in texts])}")
    answer = json_of(*command, "--url", served.http_url, cwd=built_sample)["outputs"]["EMBEDDING"]
    first, second, other = np.array(answer["data"]).reshape(answer["shape"])
    assert first @ second > first @ other


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("top_k", "is a Python model, and its own reference"),
        ("digits_ab", "which of digits, digits_candidate answers, chance decides at 'digits_split'"),
    ],
)
def test_what_has_nothing_to_compare_with_is_not_validated(
    built_sample: Path, served: RunningServer, model: str, why: str
) -> None:
    assert why in trtkit("validate", model, "--url", served.http_url, cwd=built_sample, code=7).stderr


def test_validate_all_with_reports(sample: Path) -> None:
    out = trtkit("validate", "--junit", "j.xml", "--report", "r.json", cwd=sample).stdout
    assert out.count("within") == 18
    assert "outside" not in out
    suites = ElementTree.parse(sample / "j.xml").getroot()
    assert [suite.get("name") for suite in suites] == [
        "digits", "digits_cnn", "digits_candidate", "digits_pipeline", "text_encoder", "text_pipeline",
    ]  # fmt: skip
    assert {suite.get("failures") for suite in suites} == {"0"}
    report = json.loads((sample / "r.json").read_text())
    assert all(model["passed"] for model in report["models"])
    served = {
        model["model"]: min(m["served"] for m in model["metrics"]) for model in report["models"] if model["metrics"]
    }
    assert served.pop("text_pipeline") > 0.75  # 0.5 is chance
    assert min(served.values()) > 0.95


def test_a_tampered_weight_is_found(sample: Path) -> None:
    file = sample / "model_repository" / "digits" / "1" / "model.onnx"
    model = onnx.load(file)
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data) or len(tensor.float_data))
    values = numpy_helper.to_array(weights).copy()
    values.flat[np.abs(values).argmax()] += 0.5
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, file)
    result = trtkit("validate", "digits", "--junit", "j.xml", cwd=sample, code=ParityError.exit_code)
    assert "trtkit validate: model 'digits' version 1: output '" in result.stderr
    assert "the worst is element [" in result.stderr
    failures = ElementTree.parse(sample / "j.xml").getroot().findall(".//failure")
    messages = [str(failure.get("message")) for failure in failures]
    worst = [message for message in messages if "output 'probabilities' over http" in message]
    assert "the worst is element [" in worst[0]
    out = trtkit("build", "--explain", "digits", cwd=sample).stdout
    assert "version 1 was changed after it was published: model.onnx" in out
    assert json_of("validate", "digits", cwd=sample)["models"][0]["version"] == 2


def test_without_the_reference_validate_says_so(sample: Path) -> None:
    for folder in (sample / ".trtkit" / "objects").iterdir():
        (folder / "model.onnx").write_bytes(b"")
    result = trtkit("validate", "digits", cwd=sample, code=7)
    assert (
        "the reference of version 1 is not in the cache, or was changed there; run `trtkit build digits`"
        in result.stderr
    )


def test_tolerances_from_the_command_line(sample: Path) -> None:
    out = trtkit("validate", "digits", "--rows", "10", "--rtol", "0", "--atol", "1e-30", "--json", cwd=sample).stdout
    found = {o["output"]: (o["rtol"], o["atol"]) for o in json.loads(out)["models"][0]["outputs"]}
    assert found["probabilities"] == (0.0, 1e-30)


def unseen_model(file: Path) -> None:
    """INT64 ids with a dynamic second axis and FP32 features; FP32 scores and BYTES names."""
    rng = np.random.default_rng(0)
    table = numpy_helper.from_array(rng.standard_normal((50, 16)).astype(np.float32), "table")
    weights = numpy_helper.from_array(rng.standard_normal((19, 4)).astype(np.float32), "weights")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Concat", ["mean", "features"], ["joined"], axis=1),
        helper.make_node("MatMul", ["joined", "weights"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder", ["best"], ["name"], domain="ai.onnx.ml",
            keys_int64s=[0, 1, 2, 3], values_strings=["cat", "dog", "émeu", "fox"],
        ),
    ]  # fmt: skip
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "length"]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("name", TensorProto.STRING, ["n"]),
    ]
    graph = helper.make_graph(nodes, "unseen", inputs, outputs, [table, weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), file)


def test_a_model_never_seen_before_with_nothing_written_by_hand(tmp_path: Path) -> None:
    unseen_model(tmp_path / "my model.onnx")
    trtkit("init", "--from", "my model.onnx", cwd=tmp_path)
    trtkit("build", cwd=tmp_path)
    answer = json_of("infer", "my_model", "--batch", "11", cwd=tmp_path)["outputs"]
    assert answer["scores"]["shape"] == [11, 4]
    assert set(answer["name"]["data"]) <= {"cat", "dog", "émeu", "fox"}
    report = json_of("validate", cwd=tmp_path)["models"][0]
    assert report["passed"]
    assert {output["output"] for output in report["outputs"]} == {"scores", "name"}
    own = json_of("infer", "my_model", "--input", "ids=[[1,2,3]]", "--input", "features=[[1,2,3]]", cwd=tmp_path)
    assert own["outputs"]["scores"]["shape"] == [1, 4]
    wrong = trtkit("infer", "my_model", "--input", "ids=[[1.5]]", "--input", "features=[[1,2,3]]", cwd=tmp_path, code=7)
    assert "INT64 is needed" in wrong.stderr


def test_the_sample_that_init_writes_works(tmp_path: Path) -> None:
    trtkit("init", "new", cwd=tmp_path)
    trtkit("build", cwd=tmp_path / "new")
    report = json_of("validate", cwd=tmp_path / "new")["models"][0]
    assert report["passed"]
    assert report["metrics"][0]["reference"] > 0.9
    again = trtkit("init", "new", cwd=tmp_path, code=2)
    assert "is there already" in again.stderr


def test_perf_starts_its_own_server(built_sample: Path) -> None:
    options = ("--concurrency", "8", "--window", "0.3", "--warmup", "0.2", "--stability", "1000")
    (measured,) = json_of("perf", "digits", *options, cwd=built_sample)["measurements"]
    assert measured["error_count"] == 0
    assert measured["throughput_infer_per_s"] > 0
    assert measured["server"]["queue_ns"] >= 0


def test_one_value_per_row_from_the_graph_to_the_server(tmp_path: Path) -> None:
    """The graph's [batch] is [batch, 1] on the server; the same data serve for both."""
    doubled = helper.make_node("Add", ["x", "x"], ["y"])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in "xy"]
    graph = helper.make_graph([doubled], "scalars", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=np.arange(20, dtype=np.float32))
    project = "models: {m: {source: {onnx: m.onnx}, evaluate: {data: data.npz}}}\n"
    (tmp_path / "trtkit.yaml").write_text(project)
    trtkit("build", cwd=tmp_path)
    (report,) = json_of("validate", cwd=tmp_path)["models"]
    assert (report["passed"], report["rows"]) == (True, 20)
    answer = json_of("infer", "m", "--input", "x=[[1.5],[2]]", cwd=tmp_path)
    assert answer["outputs"]["y"]["data"] == [3.0, 4.0]
