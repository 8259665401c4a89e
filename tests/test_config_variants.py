# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""configs/NAME.pbtxt: made from ``configs:``, published and protected like config.pbtxt, and picked by the server."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import precision_models
from conftest import ECHO_CONFIG, ECHO_MODEL, write_model
from trtkit import build_models, load_project
from trtkit.build_results import BuildResult
from trtkit.cli.serve import command as serve_command
from trtkit.config import ModelConfig, is_generated, read_config
from trtkit.errors import ConfigError, RepositoryError, TrtkitError
from trtkit.server import connect, serve

MODEL = """\
targets:
  cpu: {backend: onnxruntime}
  cuda: {backend: onnxruntime, execution_provider: cuda}
  plan: {backend: tensorrt, compute_capability: "8.9"}
models:
  m:
    source: {onnx: m.onnx}
    config: {max_batch_size: 4, parameters: {a: {string_value: "1"}}}
    configs:
"""
SMALL = """\
      small: {max_batch_size: 2, instance_group: [{count: 2, kind: KIND_CPU}], parameters: {b: {string_value: x}}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    onnx.save(precision_models.conv_net(channels=(4,)), tmp_path / "m.onnx")
    return tmp_path


def build(project: Path, text: str, *names: str) -> list[BuildResult]:
    (project / "trtkit.yaml").write_text(text)
    results, error = build_models(load_project(project / "trtkit.yaml"), names, target="cpu")
    if error:
        raise error
    return results


def config(project: Path, file: str) -> ModelConfig:
    return read_config((project / "model_repository" / file).read_text(), file)


def test_a_config_of_a_name_is_the_models_with_more_on_top(project: Path) -> None:
    build(project, MODEL + SMALL)
    main, small = config(project, "m/config.pbtxt"), config(project, "m/configs/small.pbtxt")
    assert (main.max_batch_size, small.max_batch_size) == (4, 2)
    assert [warmup.batch_size for warmup in small.model_warmup] == [1, 2]
    assert {key: one.string_value for key, one in small.parameters.items()} == {"a": "1", "b": "x"}
    assert small.input == main.input
    assert is_generated((project / "model_repository/m/configs/small.pbtxt").read_text())
    assert all(result.up_to_date for result in build(project, MODEL + SMALL))


def test_without_batching_the_batch_is_an_axis_like_any_other(project: Path) -> None:
    build(project, f"{MODEL}      whole: {{max_batch_size: 0}}\n")
    whole, main = config(project, "m/configs/whole.pbtxt"), config(project, "m/config.pbtxt")
    assert list(whole.input[0].dims) == [-1, *main.input[0].dims]
    assert [list(warmup.inputs["image"].dims) for warmup in whole.model_warmup] == [[1, *main.input[0].dims]]
    assert not whole.HasField("dynamic_batching")


def test_a_larger_batch_than_was_proven_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"^trtkit\.yaml:10:15: max_batch_size is 5, and the model was proven for 4"):
        build(project, f"{MODEL}      large: {{max_batch_size: 5}}\n")


def test_the_name_of_a_target_makes_it_for_that_target(project: Path) -> None:
    (result,) = build(
        project, f"{MODEL}      cuda: {{}}\n      plan: {{}}\n      cpu: {{response_cache: {{enable: true}}}}\n"
    )
    kinds = [
        group.kind for name in ("cuda", "cpu") for group in config(project, f"m/configs/{name}.pbtxt").instance_group
    ]
    assert kinds == [1, 0], "KIND_GPU and KIND_AUTO"
    assert config(project, "m/configs/cpu.pbtxt").response_cache.enable
    assert not (project / "model_repository/m/configs/plan.pbtxt").exists()
    assert result.notes == [
        "configs/plan.pbtxt is left out: target 'plan' needs other files than this build for 'cpu' makes; "
        "build with --target plan"
    ]


@pytest.mark.parametrize("exchange", [True, False])
def test_one_that_is_no_longer_wanted_goes_and_one_by_hand_stays(
    project: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # as on a file system that cannot
        monkeypatch.setattr("trtkit.repository._exchange", lambda one, other: False)
    build(project, MODEL + SMALL)
    folder = project / "model_repository" / "m" / "configs"
    (folder / "mine.pbtxt").write_text('name: "m"\n')
    (result,) = build(project, f"{MODEL}      other: {{}}\n")
    assert sorted(file.name for file in folder.iterdir()) == ["mine.pbtxt", "other.pbtxt"]
    assert result.version == 1, "configs alone make no version"
    assert [stage.why for stage in result.stages if stage.stage == "publish"] == ["configs/small.pbtxt changed"]


def test_one_that_was_edited_by_hand_is_not_overwritten(project: Path) -> None:
    build(project, MODEL + SMALL)
    file = project / "model_repository" / "m" / "configs" / "small.pbtxt"
    file.write_text(file.read_text() + "# mine\n")
    assert build(project, MODEL + SMALL.replace("small", "smaller"))
    assert file.read_text().endswith("# mine\n"), "no longer in the project file: it is the user's now"
    with pytest.raises(RepositoryError, match=r"configs/small\.pbtxt was .* edited by hand .* the `configs:` block at"):
        build(project, MODEL + SMALL)


WRONG = {
    "an unknown field": (
        "      v: {max_batch: 1}\n",
        "10:11: 'max_batch' is no field of ModelConfig; did you mean 'max_b",
    ),
    "a wrong value": ("      v: {instance_group: [{count: x}]}\n", "10:29: 'count' takes a whole number, got 'x'"),
    "a name that is no file's": ("      'a b': {}\n", "10:7: models.m.configs.a b: has to match pattern"),
    "no fields": ("      v: 5\n", "10:7: models.m.configs.v: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_block_is_one_sentence_with_its_place(project: Path, case: str) -> None:
    block, words = WRONG[case]
    with pytest.raises(TrtkitError) as caught:
        build(project, MODEL + block)
    assert str(caught.value).startswith(f"trtkit.yaml:{words}")


ENSEMBLE = """
  e:
    ensemble:
      - {model: m, inputs: {image: X}, outputs: {scores: S}}
    configs: {own: {version_policy: {all: {}}}}
"""


def test_an_ensemble_has_the_configs_of_its_steps(project: Path) -> None:
    outputs = precision_models.conv_net(channels=(4,)).graph.output
    build(project, MODEL + SMALL + "      same: {}\n" + ENSEMBLE.replace("scores", outputs[0].name))
    folder = project / "model_repository" / "e"
    assert sorted(file.name for file in (folder / "configs").iterdir()) == ["own.pbtxt", "small.pbtxt"]
    assert [config(project, f"e/{file}").max_batch_size for file in ("config.pbtxt", "configs/small.pbtxt")] == [4, 2]
    assert config(project, "e/configs/own.pbtxt").version_policy.HasField("all")


@pytest.mark.triton
def test_the_server_picks_the_config_of_the_name(project: Path) -> None:
    outputs = precision_models.conv_net(channels=(4,)).graph.output
    build(project, MODEL + SMALL + "      whole: {max_batch_size: 0}\n" + ENSEMBLE.replace("scores", outputs[0].name))
    repository = project / "model_repository"
    write_model(repository, "echo", ECHO_CONFIG, ECHO_MODEL)
    sizes = {}
    for name in ("small", "whole"):
        options = [f"--model-config-name={name}"]
        with serve(repository, options=options) as server, connect(server.http_url) as client:
            sizes[name] = {model: client.config(model).max_batch_size for model in ("m", "e", "echo")}
    assert sizes == {"small": {"m": 2, "e": 2, "echo": 8}, "whole": {"m": 0, "e": 0, "echo": 8}}


def test_serve_hands_the_name_on_and_knows_a_typo(project: Path) -> None:
    build(project, MODEL + SMALL)
    repository = str(project / "model_repository")
    arguments = ["--repository", repository, "--dry-run", "--image", "i"]
    run = CliRunner().invoke(serve_command, [*arguments, "--model-config-name", "small"])
    assert "--model-config-name=small" in run.output
    run = CliRunner().invoke(serve_command, [*arguments, "--model-config-name", "smal"])
    assert str(run.exception) == (
        "--model-config-name smal: no model has configs/smal.pbtxt; did you mean 'small'? (available: small)"
    )
