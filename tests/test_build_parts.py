# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models made of trtkit's parts: what is published, when it is published again, and mistakes before the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from lint_repositories import findings
from test_build import Workspace, reasons, times
from trtkit.build import build_models
from trtkit.config import ModelConfig, read_config
from trtkit.errors import BuildError, ConfigError, ProjectError, RepositoryError
from trtkit.parts import part_files, part_names
from trtkit.project import load_project
from trtkit.repository import latest
from trtkit.server import RunningServer, connect, serve

TOP_K = "top: {source: {part: top_k}, parameters: {k: 2, labels: labels.txt}, files: {labels.txt: labels.txt}}"
LABELS = "ant\nbee\ncat\n"


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def top(work: Workspace) -> Workspace:
    """A project with the model `top`, made of `top_k` and a labels file, built as version 1."""
    work.write(TOP_K, labels__txt=LABELS)
    work.built()
    return work


def config_of(work: Workspace, name: str) -> ModelConfig:
    return read_config((work.repository / name / "config.pbtxt").read_text(), name)


def failure(work: Workspace, *names: str) -> str:
    """The first error of a build, or of reading the project."""
    try:
        _, error = work.build(*names)
    except ProjectError as exc:
        return str(exc)
    assert isinstance(error, BuildError)
    return str(error)


# -- what is published


def test_a_version_has_the_part_its_modules_and_the_users_files(top: Workspace) -> None:
    version = latest(top.repository, "top")
    assert version is not None
    assert set(version.record["files"]) == {*part_files("top_k"), "labels.txt"}
    assert (version.path / "labels.txt").read_text() == LABELS
    assert version.record["source"] == {"part": "top_k"}
    assert version.record["made_from"]["files"]["labels.txt"]
    assert version.record["precision"] == "python"
    assert findings(top.repository) == []


def test_the_config_is_the_parts_with_the_project_files_on_top(top: Workspace) -> None:
    config = config_of(top, "top")
    assert (config.name, config.backend, config.max_batch_size) == ("top", "python", 32)
    assert config.parameters["k"].string_value == "2"
    assert config.parameters["activation"].string_value == "none"  # the part's default
    text = (top.repository / "top" / "config.pbtxt").read_text()
    assert "# what the scores become: none, sigmoid, or softmax over all classes" in text


def test_parameters_are_texts_there_and_plain_values_here(work: Workspace) -> None:
    work.write(
        """
        top: {source: {part: top_k}, parameters: {k: 3, largest: false, threshold: 0.5, labels: null}}
        """
    )
    work.built()
    given = {key: value.string_value for key, value in config_of(work, "top").parameters.items()}
    assert given == {"k": "3", "largest": "false", "threshold": "0.5", "activation": "none"}


def test_tensors_are_narrowed_added_and_replaced(work: Workspace) -> None:
    work.write(
        """
        narrowed: {source: {part: top_k}, config: {max_batch_size: 4, input: [{name: scores, dims: [3]}]}}
        added: {source: {part: nms}, config: {output: [{name: extra, data_type: TYPE_FP32, dims: [1]}]}}
        replaced: {source: {part: top_k}, outputs: {score: {data_type: FP16, shape: [batch, 1]}}}
        """
    )
    work.built()
    narrowed, added, replaced = (config_of(work, name) for name in ("narrowed", "added", "replaced"))
    assert (narrowed.max_batch_size, list(narrowed.input[0].dims)) == (4, [3])
    assert "extra" in {output.name for output in added.output}
    assert [(output.name, list(output.dims)) for output in replaced.output] == [("score", [1])]


def test_files_may_be_made_by_a_function_and_may_be_folders(work: Workspace) -> None:
    (work.root / "data").mkdir()
    (work.root / "data" / "a.bin").write_bytes(b"\0\1")
    work.write(
        "top: {source: {part: top_k}, parameters: {labels: l.txt}, files: {l.txt: 'make.py:labels', more: data}}",
        make__py="def labels():\n    return 'x\\ny\\n'\n",
    )
    work.built()
    folder = work.repository / "top" / "1"
    assert ((folder / "l.txt").read_text(), (folder / "more" / "a.bin").read_bytes()) == ("x\ny\n", b"\0\1")
    (work.root / "data" / "b.bin").write_bytes(b"")
    assert reasons(work.built()["top"])["python"] == "changed: files"


def test_every_part_makes_a_model_that_lint_has_nothing_against(work: Workspace) -> None:
    parts = [name for name in part_names() if name != "python_function"]
    files = "files: {labels.txt: f.txt, tokenizer.json: f.txt, schema.json: f.txt}"
    tensors = "inputs: {x: {data_type: FP32, shape: [batch, 4]}}, outputs: {y: {data_type: FP32, shape: [batch, 4]}}"
    routing = [name for name in parts if "trtkit_routing.py" in part_files(name)]
    rows = [f"m_{name}: {{source: {{part: {name}}}, {tensors if name in routing else files}}}" for name in parts]
    work.write("\n".join(rows), f__txt="x")
    results = work.built()
    assert len(results) == len(parts) >= 10
    assert findings(work.repository) == []


# -- when it is published again


def test_a_second_build_does_nothing(top: Workspace) -> None:
    assert top.built()["top"].up_to_date


def test_a_changed_file_gives_a_new_version_and_leaves_the_old_one(top: Workspace) -> None:
    (top.root / "labels.txt").write_text("dog\n")
    assert reasons(top.built()["top"]) == {"python": "changed: labels.txt", "publish": "the artifact changed"}
    old, new = (top.repository / "top" / number / "labels.txt" for number in "12")
    assert (old.read_text(), new.read_text()) == (LABELS, "dog\n")


def test_a_changed_parameter_changes_the_config_alone(top: Workspace) -> None:
    top.write(TOP_K.replace("k: 2", "k: 1"))
    assert reasons(top.built()["top"]) == {"config": "changed: config", "publish": "config.pbtxt changed"}
    assert latest(top.repository, "top").version == 1


def test_a_labels_file_of_the_repository_is_watched_too(work: Workspace) -> None:
    labels = work.repository / "other" / "labels.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("a\n")
    work.write("top: {source: {part: top_k}, files: {l.txt: model_repository/other/labels.txt}}")
    work.built()
    labels.write_text("b\n")
    assert reasons(work.built()["top"])["python"] == "changed: files"


def test_check_finds_an_edited_config(top: Workspace) -> None:
    file = top.repository / "top" / "config.pbtxt"
    file.write_text(file.read_text().replace("max_batch_size: 32", "max_batch_size: 16"))
    (result,), error = build_models(load_project(top.root / "trtkit.yaml"), check=True)
    assert isinstance(error, RepositoryError)
    assert [row["path"] for row in result.config_check[0]["differences"]] == ["max_batch_size"]


# -- models that requests are passed on to


SPLIT = """
    ab: {source: {part: split}, models: [a, b], parameters: {weights: 'a:50, b:50'}}
    a: {source: {onnx: a.onnx}}
    b: {source: {onnx: b.onnx}, config: {max_batch_size: 4}}
"""


def test_the_tensors_follow_from_the_models_that_are_built_first(work: Workspace) -> None:
    work.write(SPLIT, a__onnx=times(2), b__onnx=times(3))
    assert set(work.built("ab")) == {"ab", "a", "b"}  # they come along
    config = config_of(work, "ab")
    assert config.max_batch_size == 4
    assert [(row.name, list(row.dims)) for row in (*config.input, *config.output)] == [("x", [4]), ("y", [4])]


def test_it_follows_when_one_of_them_changes(work: Workspace) -> None:
    work.write(SPLIT, a__onnx=times(2), b__onnx=times(3))
    work.built()
    work.write(SPLIT.replace("max_batch_size: 4", "max_batch_size: 2"))
    results = work.built("b")
    assert reasons(results["ab"])["config"] == "changed: config.pbtxt of b"
    assert config_of(work, "ab").max_batch_size == 2


def test_it_is_skipped_when_one_of_them_fails(work: Workspace) -> None:
    work.write(SPLIT, a__onnx=times(2), b__onnx="no graph")
    results, error = work.build()
    assert error is not None
    assert results["ab"].skipped == "its model 'b' was not built"


@pytest.mark.parametrize(
    ("b", "sentence"),
    [
        (times(3, width=5), "tensor 'x' is TYPE_FP32 [4] at 'a' and TYPE_FP32 [5] at 'b'; one request has to fit all"),
        ("{max_batch_size: 0}", "all of them have to batch, or none: 'a' batches, 'b' does not"),
    ],
    ids=["shape", "batch"],
)
def test_models_that_do_not_agree_are_refused(work: Workspace, b: object, sentence: str) -> None:
    models = SPLIT.replace("{max_batch_size: 4}", b) if isinstance(b, str) else SPLIT
    work.write(models, a__onnx=times(2), b__onnx=times(3) if isinstance(b, str) else b)
    error = failure(work)
    assert "trtkit.yaml:2:" in error
    assert sentence in error


def test_tensors_that_are_given_are_taken(work: Workspace) -> None:
    tensors = "inputs: {x: {shape: [batch, 4]}}, outputs: {y: {shape: [batch, 4]}}, config: {max_batch_size: 3}"
    models = SPLIT.replace("models: [a, b],", f"models: [a, b], {tensors},").replace("size: 4}", "size: 0}")
    work.write(models, a__onnx=times(2), b__onnx=times(3))
    work.built()
    assert config_of(work, "ab").max_batch_size == 3


def test_models_that_pass_requests_to_each_other_are_refused(work: Workspace) -> None:
    work.write(
        """
        a: {source: {part: split}, models: [b], parameters: {weights: 'b:1'}}
        b: {source: {part: split}, models: [a], parameters: {weights: 'a:1'}}
        """
    )
    with pytest.raises(ConfigError, match="the models a, b contain each other"):
        work.build()


# -- mistakes


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("{source: {part: topk}}", "there is no part 'topk'; did you mean 'top_k'?"),
        (
            "{source: {part: top_k}, parameters: {treshold: 1}}",
            "the part 'top_k' has no parameter 'treshold'; did you mean 'threshold'?",
        ),
        ("{source: {part: top_k}, files: {labels.txt: gone.txt}}", "there is no file or folder 'gone.txt'"),
        ("{source: {part: top_k}, files: {../x: labels.txt}}", "files"),
        ("{source: {part: top_k}, files: {model.py: labels.txt}}", "'model.py' is a file of trtkit's own"),
        (
            "{source: {part: top_k}, parameters: {labels: labels.txt}}",
            "parameter 'labels' of the part 'top_k' is 'labels.txt', which the model has not",
        ),
        (
            "{source: {part: top_k}, files: {l: 'make.py:number'}}",
            "'make.py:number' gave a int; bytes or text are needed",
        ),
        ("{source: {part: top_k}, files: {l: 'make.py:nothing'}}", "make.py defines no 'nothing'"),
        ("{source: {part: top_k}, precision: fp16}", "a Python model has no graph, and so no precision"),
        ("{source: {part: top_k}, environment: [x]}", "a part runs in the server's own environment"),
        ("{source: {part: top_k}, models: [a]}", "only a part that passes requests on has `models`"),
        ("{source: {part: top_k}, outputs: [y]}", "the outputs of a Python model need types"),
        (
            "{source: {part: split}, parameters: {weights: 'a:1'}}",
            "has no inputs; give it the models that it passes requests on to as `models: [A, B]`, or `inputs:",
        ),
        ("{source: {part: split}, models: [a], parameters: {weights: 'a:1'}}", "model 'a' has no config.pbtxt"),
        (
            "{source: {part: top_k}, config: {input: [{name: score, dims: [3]}]}}",
            "the model has no input 'score'; did you mean 'scores'?",
        ),
        (
            "{source: {part: top_k}, inputs: {scores: {shape: [4]}}}",
            "max_batch_size is 32, so that the first axis of every input and output is the batch",
        ),
        ("{source: {part: top_k}, files: {trtkit.json: labels.txt}}", "'trtkit.json' is a file of trtkit's own"),
        ("{source: {part: top_k}, files: {a: labels.txt, a/b: labels.txt}}", "there is a file or folder 'a/b' already"),
        ("{source: {part: top_k}, config: {input: [{data_type: TYPE_FP32, dims: [1]}]}}", "the model has no input"),
        (
            "{source: {part: top_k}, outputs: {score: {data_type: FLOAT, shape: [batch]}}}",
            "outputs.score.data_type: has to be",
        ),
        ("{source: {cast: FP16}, inputs: {x: {shape: [4]}}, files: {a: b}}", "files belongs to models with"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_place(work: Workspace, model: str, sentence: str) -> None:
    work.write(f"m: {model}", labels__txt=LABELS, make__py="def number():\n    return 3\n")
    error = failure(work)
    assert error.startswith("trtkit.yaml:2:")
    assert sentence in error
    assert not (work.repository / "m").exists()


# -- served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = Workspace(tmp_path_factory.mktemp("parts"))
    pipeline = """
    pipeline:
      ensemble:
        - {model: ab, inputs: {x: X}, outputs: {y: y}}
        - {model: top, inputs: {scores: y}, outputs: {label: LABEL}}
    """
    work.write(
        f"{TOP_K}\n{SPLIT}\n{pipeline}".replace("\n    ", "\n"),
        a__onnx=times(2), b__onnx=times(3), labels__txt="a\nb\nc\nd\n",
    )  # fmt: skip
    work.built()
    with serve(work.repository) as server:
        yield server


@pytest.mark.triton
def test_what_was_built_is_served_as_steps_of_an_ensemble(served: RunningServer) -> None:
    with connect(served.http_url) as client:
        x = np.array([[1, 4, 2, 3], [9, 0, 0, 8]], np.float32)
        assert client.infer("pipeline", {"X": x})["LABEL"].tolist() == [[b"b", b"d"], [b"a", b"d"]]
        y = client.infer("ab", {"x": x})["y"]
        assert any(np.array_equal(y, x * factor) for factor in (2, 3))


# -- documents


def test_the_document_lists_every_part_and_its_examples_are_right(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "parts.md").read_text()
    linked = re.findall(r"^\| \[`(\w+)`\]\(\.\./python_backends/(\w+)/README\.md\)", text, flags=re.MULTILINE)
    assert sorted(linked) == [(name, name) for name in part_names()]
    for name in ("scoring.py", "requirements.txt", "stable.onnx", "candidate.onnx", "models/tokenizer.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("predict = abs" if name.endswith(".py") else "")
    examples = [text for text in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL) if text.startswith("models:")]
    assert len(examples) == 3
    for example in examples:
        (tmp_path / "trtkit.yaml").write_text(example)
        load_project(tmp_path / "trtkit.yaml")
