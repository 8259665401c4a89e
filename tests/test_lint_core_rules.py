# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the server core's own validation, at their edges, and what the core fills in by itself.

What is expected was asked of tritonserver 2.51, unless a test says otherwise.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lint_repositories import PYTHON, findings, write_files
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.model import Model
from trtkit.lint.rules import RULES
from trtkit.lint.run import open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree

OWN = [each for each in RULES if each.category in ("BAT", "CCH", "INS", "MET", "OPT", "PAR", "PLT", "RAG", "TEN")]
STRICT = ServerFacts(flags=("--disable-auto-complete-config",), triton="2.51")
COMPLETING = ServerFacts(flags=(), triton="2.51")
COMPLETES = """class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        return config

    def execute(self, requests):
        return []
"""
IO = """input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
"""


def repository(folder: Path, config: str, files: dict[str, str] | None = None, model: str = "m") -> Path:
    """A repository of one more model; its files by path, by default a model.py."""
    write_files(folder / model, {"config.pbtxt": config, **({"1/model.py": PYTHON} if files is None else files)})
    return folder


def lint(folder: Path, server: ServerFacts = STRICT) -> list[Finding]:
    return findings(folder, OWN, server)


def codes(folder: Path, server: ServerFacts = STRICT) -> list[str]:
    return [finding.code for finding in lint(folder, server)]


def with_input(text: str, batch: int = 8) -> str:
    return f'backend: "python"\nmax_batch_size: {batch}\ninput {{ name: "x" data_type: TYPE_FP32 {text} }}\n'


@pytest.mark.parametrize(
    ("reshape", "expected"),
    [
        ("dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] }", []),
        ("dims: [ -1, -1 ] reshape { shape: [ -1, 1, -1 ] }", []),
        ("dims: [ 1, 1 ] reshape { }", []),
        ("dims: [ -1 ] reshape { }", ["TEN022"]),
        ("dims: [ 4 ] reshape { shape: [ -1 ] }", ["TEN022"]),
        ("dims: [ 2, -1 ] reshape { shape: [ 3, -1 ] }", ["TEN022"]),
        ("dims: [ -1, -1 ] reshape { shape: [ -1 ] }", ["TEN023"]),
        ("dims: [ 0 ] reshape { shape: [ 0 ] }", ["TEN004", "TEN021"]),
        ("reshape { shape: [ 4 ] }", ["TEN003"]),
    ],
)
def test_a_reshape_is_compared_as_the_server_does(tmp_path: Path, reshape: str, expected: list[str]) -> None:
    assert codes(repository(tmp_path, with_input(reshape))) == expected


def test_an_empty_reshape_of_a_model_that_does_not_batch_is_one_finding(tmp_path: Path) -> None:
    assert codes(repository(tmp_path, with_input("dims: [ 4 ] reshape { }", batch=0))) == ["TEN020"]


def test_everything_that_is_wrong_is_said_and_where(tmp_path: Path) -> None:
    config = """backend: "python"
max_batch_size: -1
input { data_type: TYPE_FP32 dims: [ 4 ] }
input { name: "x" dims: [ 0, -2 ] }
output { name: "y" data_type: TYPE_FP32 }
dynamic_batching { preferred_batch_size: [ 0, 2 ] priority_levels: 2 }
"""
    found = lint(repository(tmp_path, config))
    assert [(f.code, f.line) for f in found] == [
        ("BAT001", 2), ("TEN001", 3), ("TEN002", 4), ("TEN004", 4), ("TEN004", 4), ("TEN003", 5),
        ("BAT004", 6), ("BAT002", 6), ("BAT003", 6),
    ]  # fmt: skip
    assert [f.column for f in found if f.code == "TEN004"] == [27, 30]


def test_what_a_model_completes_is_missing_only_in_strict_mode(tmp_path: Path) -> None:
    config = (
        'backend: "python"\nmax_batch_size: 4\ninput { name: "x" }\n'
        'batch_input { target_name: "n" data_type: TYPE_INT32 source_input: "z" }\n'
    )
    folder = repository(tmp_path, config, {"1/model.py": COMPLETES})
    assert codes(folder, STRICT) == ["TEN002", "TEN003", "RAG004"]
    assert codes(folder, COMPLETING) == []
    (folder / "m" / "1" / "model.py").write_text(PYTHON)
    assert codes(folder, COMPLETING) == ["TEN002", "TEN003", "RAG004"]


def test_what_a_model_cannot_mend_is_wrong_in_both_modes(tmp_path: Path) -> None:
    config = with_input("dims: [ 0 ] is_shape_tensor: true") + "dynamic_batching { preferred_batch_size: 16 }\n"
    folder = repository(tmp_path, config, {"1/model.py": COMPLETES})
    assert codes(folder, STRICT) == codes(folder, COMPLETING) == ["TEN004", "TEN006", "BAT003"]


def test_unset_is_not_zero(tmp_path: Path) -> None:
    quiet = f'backend: "python"\n{IO}dynamic_batching {{ default_queue_policy {{ timeout_action: DELAY }} }}\n'
    assert codes(repository(tmp_path, quiet + "version_policy { }\ninstance_group { count: 0 }\n")) == []


@pytest.mark.parametrize("batching_text", ["", "preserve_ordering: true priority_levels: 1 default_priority_level: 1"])
def test_dynamic_batching_that_the_server_takes(tmp_path: Path, batching_text: str) -> None:
    assert codes(repository(tmp_path, f'backend: "python"\n{IO}dynamic_batching {{ {batching_text} }}\n')) == []


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("0", []), ("1x", ["INS011"]), (" +1", ["INS011"]), ("01", ["INS011"]), ("x1", ["INS008"]), ("+", ["INS008"]),
        ("", ["INS008"]), ("-1", ["INS009"]), ("-99999999999", ["INS010"]), ("2147483648", ["INS010"]),
    ],
)  # fmt: skip
def test_a_profile_is_read_as_the_server_reads_it(tmp_path: Path, profile: str, expected: list[str]) -> None:
    config = f'platform: "tensorrt_plan"\n{IO}instance_group {{ kind: KIND_CPU profile: "{profile}" }}\n'
    assert codes(repository(tmp_path, config, {"1/model.plan": ""})) == expected


@pytest.mark.parametrize(
    ("group", "gpus", "expected"),
    [
        ("kind: KIND_GPU", None, []),
        ("kind: KIND_GPU", 0, ["INS004"]),
        ("kind: KIND_GPU", 1, []),
        ("kind: KIND_GPU gpus: [ 0, 1, 7 ]", None, []),
        ("kind: KIND_GPU gpus: [ 0, 1, 7 ]", 1, ["INS005", "INS005"]),
        ("kind: KIND_GPU gpus: -1", None, ["INS005"]),
        ("gpus: [ 3 ]", None, []),
        ("gpus: [ 3 ]", 4, []),
        ("gpus: [ 3 ]", 3, ["INS003"]),
        ("kind: KIND_MODEL gpus: 0 gpus: 1", 2, ["INS002"]),
        ("kind: 7", 2, ["INS006"]),
    ],
)
def test_gpus_are_judged_as_far_as_they_are_known(
    tmp_path: Path, group: str, gpus: int | None, expected: list[str]
) -> None:
    config = f'backend: "python"\n{IO}instance_group {{ {group} }}\n'
    assert codes(repository(tmp_path, config), ServerFacts(flags=(), gpus=gpus)) == expected


def test_a_resource_is_shared_by_the_models_of_a_server(tmp_path: Path) -> None:
    text = (
        'backend: "python"\n{}instance_group {{ kind: KIND_CPU {} rate_limiter {{ resources {{ name: "R" {}}} }} }}\n'
    )
    repository(tmp_path, text.format(IO, "", "global: true "), model="a")
    repository(tmp_path, text.format(IO, "", ""), model="b")
    repository(tmp_path, text.format(IO, "passive: true", ""), model="c")
    on = ServerFacts(flags=("--rate-limit=execution_count",))
    assert [(f.code, f.model) for f in lint(tmp_path, on) if f.severity == Severity.ERROR] == [
        ("INS020", "a"),
        ("INS020", "b"),
    ]
    assert "INS020" in codes(tmp_path, ServerFacts())  # nobody said whether the rate limiter is on
    assert "INS020" not in codes(tmp_path, COMPLETING)


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("team", True),
        ("", True),
        ("1", True),
        ("a_1", True),
        ("_a", False),
        ("a:b", False),
        ("é", False),
        ("a b", False),
    ],
)
def test_a_metric_tag_is_part_of_a_label(tmp_path: Path, key: str, good: bool) -> None:
    config = f'backend: "python"\n{IO}metric_tags {{ key: "{key}" value: "v" }}\n'
    assert codes(repository(tmp_path, config)) == ([] if good else ["MET001"])


def test_model_metrics_are_judged_for_the_servers_that_know_them(tmp_path: Path) -> None:
    """From the core's source of 2026: 2.51 refuses the field."""
    control = "metric_control { metric_identifier { } histogram_options { } }"
    folder = repository(tmp_path, f'backend: "python"\n{IO}model_metrics {{ {control} metric_control {{ }} }}\n')
    assert codes(folder, STRICT) == ["MET002"]
    assert sorted(codes(folder, ServerFacts())) == ["MET003", "MET004", "MET005", "MET006"]


def test_numbers_that_no_name_stands_for(tmp_path: Path) -> None:
    config = 'backend: "python"\ninput { name: "x" data_type: 99 format: 9 dims: [ 4 ] }\n'
    found = lint(repository(tmp_path, config))
    assert [(f.code, f.severity) for f in found] == [("TEN013", Severity.WARNING)]


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        ("", ["1/model.graphdef", "1/model.savedmodel/x"], ("tensorflow", "tensorflow_graphdef", "model.graphdef")),
        ('backend: "tensorflow"', ["1/x"], ("tensorflow", "", "")),
        ('default_model_filename: "model.plan"', ["1/x"], ("tensorrt", "tensorrt_plan", "model.plan")),
        ("", ["1/model.plan/x", "1/model.py"], ("python", "", "model.py")),
        ("", ["1/model.onnx/model.onnx"], ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
        ("", ["1/model.xml"], ("openvino", "", "model.xml")),
        ("", ["1/model.pt", "1/model.py"], ("pytorch", "pytorch_libtorch", "model.pt")),
        ("", ["1/model.py", "0/model.plan"], ("tensorrt", "tensorrt_plan", "model.plan")),
        ('backend: "pytorch" runtime: "model.py"', ["1/model.py"], ("pytorch", "pytorch_libtorch", "")),
        ('platform: "foo" default_model_filename: "model.py"', ["1/model.py"], ("python", "foo", "model.py")),
        ('platform: "ensemble"', ["1/model.py"], ("", "ensemble", "")),
        ("", ["1/x"], ("", "", "")),
    ],
)
def test_what_the_core_fills_in(tmp_path: Path, config: str, files: list[str], expected: tuple[str, str, str]) -> None:
    assert filled(repository(tmp_path, config, dict.fromkeys(files, ""))) == expected


def filled(folder: Path, name: str = "m", server: ServerFacts = STRICT) -> tuple[str, str, str]:
    model: Model = open_repository(LocalTree(folder), server).models[name]
    return model.config.backend, model.config.platform, model.config.default_model_filename


def test_a_backend_behind_the_dot_of_a_name(tmp_path: Path) -> None:
    assert filled(repository(tmp_path, "", {"1/x": ""}, "a.b.c"), "a.b.c") == ("b.c", "", "model.b.c")


def test_packages_of_pytorch_are_for_newer_servers(tmp_path: Path) -> None:
    """From the core's source of 2026; 2.51 takes the next file that it knows."""
    folder = repository(tmp_path, "", {"1/model.pt2": "", "1/model.py": PYTHON})
    assert filled(folder, server=ServerFacts()) == ("pytorch", "torch_aoti", "model.pt2")
    assert filled(folder) == ("python", "", "model.py")
    assert "PLT003" in codes(repository(tmp_path, 'backend: "pytorch"\nplatform: "torch_aoti"\n', {"1/model.pt2": ""}))


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("libtriton_python.so", []), ("../python/libtriton_python.so", []), ("model.py", ["PLT004"]),
        ("own.so", []), ("other.so", ["PLT004"]), ("../nothing/lib.so", ["PLT004"]),
    ],
)  # fmt: skip
def test_where_a_runtime_is_looked_for(tmp_path: Path, runtime: str, expected: list[str]) -> None:
    files = {"1/model.py": PYTHON, "1/own.so": ""}
    assert codes(repository(tmp_path, f'backend: "python"\nruntime: "{runtime}"\n{IO}', files)) == expected


def test_a_backend_is_missing_only_where_the_backends_are_known(tmp_path: Path) -> None:
    folder = repository(tmp_path, f'backend: "mine"\n{IO}', {"1/model.bin": ""})
    assert codes(folder) == []
    known = ServerFacts(flags=(), backends=frozenset({"python", "onnxruntime"}))
    assert codes(folder, known) == ["PLT005"]
    (folder / "m" / "libtriton_mine.so").touch()
    assert codes(folder, known) == []


def test_profiles_written_one_by_one_are_all_removed(tmp_path: Path) -> None:
    config = f'backend: "python"\n{IO}instance_group {{ kind: KIND_CPU profile: "0" count: 1 profile: "1" }}\n'
    (finding,) = lint(repository(tmp_path, config))
    assert finding.fix is not None
    for edit in sorted(finding.fix.edits, key=lambda each: -each.start):
        config = config[: edit.start] + edit.text + config[edit.end :]
    assert "profile" not in config
    assert codes(repository(tmp_path, config)) == []
