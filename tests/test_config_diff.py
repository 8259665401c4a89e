# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit config diff``: messages compared field by field, with paths that people read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ECHO_CONFIG
from trtkit.config import ModelConfig, read_config
from trtkit.config_diff import differences
from trtkit.server import RunningServer

# each case: one config, another, and the lines of their difference
CASES = {
    "the same": ("max_batch_size: 8", "# a comment\nmax_batch_size: 0x8", []),
    "the order of fields": ('name: "m" backend: "b"', 'backend: "b" name: "m"', []),
    "a number": ("max_batch_size: 8", "max_batch_size: 4", ["max_batch_size: 8 -> 4"]),
    "a number inside": (
        "dynamic_batching { max_queue_delay_microseconds: 500 }",
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
        ["dynamic_batching.max_queue_delay_microseconds: 500 -> 100"],
    ),
    "an empty message": ("", "dynamic_batching { }", ["dynamic_batching: (not set) -> {}"]),
    "a whole message": (
        "dynamic_batching { preferred_batch_size: [4, 8] }",
        "",
        ["dynamic_batching: { preferred_batch_size: [4, 8] } -> (not set)"],
    ),
    "text": ('name: "a\\"b"', 'name: "ä"', ['name: "a\\"b" -> "ä"']),
    "a word": (
        'input { name: "x" data_type: TYPE_FP32 }',
        'input { name: "x" data_type: TYPE_FP16 }',
        ["input[x].data_type: TYPE_FP32 -> TYPE_FP16"],
    ),
    "a switch": (
        'input { name: "x" optional: true }',
        'input { name: "x" }',
        ["input[x].optional: true -> false"],
    ),
    "numbers in a row": (
        'input { name: "x" dims: [3, -1] }',
        'input { name: "x" dims: [3] dims: [224] }',
        ["input[x].dims: [3, -1] -> [3, 224]"],
    ),
    "an input in front of another": (
        'input { name: "x" dims: 1 }',
        'input { name: "w" } input { name: "x" dims: 1 }',
        ['input[w]: (not set) -> { name: "w" }'],
    ),
    "another order of inputs": (
        'input { name: "x" } input { name: "y" } input { name: "z" }',
        'input { name: "z" } input { name: "x" }',
        ['input[y]: { name: "y" } -> (not set)', "input (order): x, z -> z, x"],
    ),
    "rows without names": (
        "instance_group { count: 1 } instance_group { count: 2 }",
        "instance_group { count: 3 }",
        ["instance_group[0].count: 1 -> 3", "instance_group[1]: { count: 2 } -> (not set)"],
    ),
    "rows with one name": (
        'input { name: "x" dims: 1 } input { name: "x" dims: 2 }',
        'input { name: "x" dims: 1 } input { name: "x" dims: 3 }',
        ["input[1].dims: [2] -> [3]"],
    ),
    "states by their inputs": (
        'sequence_batching { state { input_name: "a" output_name: "b" } state { input_name: "c" } }',
        'sequence_batching { state { input_name: "c" } state { input_name: "a" output_name: "d" } }',
        ['sequence_batching.state[a].output_name: "b" -> "d"', "sequence_batching.state (order): a, c -> c, a"],
    ),
    "a map": (
        'parameters { key: "b" value { string_value: "1" } } parameters { key: "a" value { string_value: "1" } }',
        'parameters { key: "b" value { string_value: "2" } } parameters { key: "c" value { } }',
        [
            'parameters[a]: { string_value: "1" } -> (not set)',
            'parameters[b].string_value: "1" -> "2"',
            "parameters[c]: (not set) -> {}",
        ],
    ),
    "a map of numbers": (
        "model_warmup { name: 'w' } dynamic_batching { priority_queue_policy { key: 2 value { max_queue_size: 1 } } }",
        "model_warmup { name: 'w' } dynamic_batching { priority_queue_policy { key: 2 value { max_queue_size: 3 } } }",
        ["dynamic_batching.priority_queue_policy[2].max_queue_size: 1 -> 3"],
    ),
    "one of several": (
        "version_policy { latest { num_versions: 1 } }",
        "version_policy { all { } }",
        ["version_policy.latest: { num_versions: 1 } -> (not set)", "version_policy.all: (not set) -> {}"],
    ),
    "one of several numbers": (
        'model_warmup { inputs { key: "x" value { zero_data: false } } }',
        'model_warmup { inputs { key: "x" value { random_data: true } } }',
        [
            "model_warmup[0].inputs[x].zero_data: false -> (not set)",
            "model_warmup[0].inputs[x].random_data: (not set) -> true",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_difference_is_told_by_its_path(case: str) -> None:
    first, second, lines = CASES[case]
    configs = read_config(first, "first"), read_config(second, "second")
    assert [str(difference) for difference in differences(*configs)] == lines
    back = [f"{d.path}: {d.second} -> {d.first}" for d in differences(*reversed(configs))]
    assert sorted(back) == sorted(lines), "the other way round the same is told"


NAMES = st.sampled_from(["", "a", "b", "c"])
ROWS = st.lists(st.tuples(NAMES, st.integers(0, 2)), max_size=3)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    config = ModelConfig(name=draw(NAMES), max_batch_size=draw(st.integers(0, 1)))
    for name, count in draw(ROWS):
        config.instance_group.add(name=name, count=count)
    for name, dim in draw(ROWS):
        config.input.add(name=name, dims=[dim] * dim)
    for name, text in draw(ROWS):
        config.parameters[name].string_value = "x" * text
    if draw(st.booleans()):
        config.dynamic_batching.default_queue_policy.max_queue_size = draw(st.integers(0, 1))
    return config


@given(configs(), configs())
def test_no_difference_is_told_exactly_where_the_messages_are_equal(first: ModelConfig, second: ModelConfig) -> None:
    found = differences(first, second)
    assert (not found) == (first == second)
    assert all(difference.first != difference.second for difference in found)


# -- the command


def diff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", "config", "diff", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_text("max_batch_size: 8")
    (tmp_path / "other.pbtxt").write_text("max_batch_size: 4")
    return tmp_path / "m", tmp_path / "other.pbtxt"


def test_exit_codes_are_diffs(files: tuple[Path, Path]) -> None:
    folder, file = files
    same = diff(folder, folder / "config.pbtxt")
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    other = diff(folder, file)
    assert (other.returncode, other.stdout, other.stderr) == (1, "max_batch_size: 8 -> 4\n", "")


def test_json(files: tuple[Path, Path]) -> None:
    folder, file = files
    result = diff(folder, file, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "first": str(folder),
        "second": str(file),
        "same": False,
        "differences": [{"path": "max_batch_size", "first": "8", "second": "4"}],
    }
    assert json.loads(diff(file, file, "--json").stdout)["same"] is True


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, 2, "; give a config.pbtxt, a model's folder or a URL"),
        (b"max_batch_sise: 8", 4, ':1:1 : Message type "inference.ModelConfig" has no field named "max_batch_sise"'),
        (b"\xff", 2, " cannot be read: it is no UTF-8 text"),
    ],
    ids=["no file", "no config", "no text"],
)
def test_what_cannot_be_compared(files: tuple[Path, Path], content: bytes | None, code: int, words: str) -> None:
    folder, file = files
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    result = diff(folder, file)
    assert result.returncode == code
    assert words in result.stderr
    assert str(file) in result.stderr


@pytest.mark.triton
def test_a_running_server_is_asked(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(ECHO_CONFIG.replace("max_batch_size: 8", "max_batch_size: 7"))
    result = diff(tmp_path, f"http://{server.http_url}/echo")
    assert result.returncode == 1
    assert "max_batch_size: 7 -> 8\n" in result.stdout
    assert "input[x].dims" not in result.stdout, "it is the same there"
    missing = diff(tmp_path, f"http://{server.http_url}/ecco")
    assert missing.returncode == 5
    assert "did you mean 'echo'?" in missing.stderr
    assert "is no http://HOST:PORT/MODEL" in diff(tmp_path, f"http://{server.http_url}").stderr
