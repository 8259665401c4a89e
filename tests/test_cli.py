# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line: help without heavy imports, exit codes, one sentence per mistake."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from trtkit.cli import COMMANDS, root_help

HEAVY = ("torch", "tensorrt", "onnx", "onnxruntime", "grpc", "numpy", "tritonclient", "google.protobuf", "sklearn")
NAMES = [name for name, _ in COMMANDS]


def commands_of(name: str) -> dict[str, click.Command]:
    """A command by its words; of a group, each of its commands."""
    command = import_module(f"trtkit.cli.{name}").command
    if isinstance(command, click.Group):
        return {f"{name} {inner}": value for inner, value in command.commands.items()}
    return {name: command}


WORDS = [words for name in NAMES for words in commands_of(name)]


def trtkit(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("words", ["", *dict.fromkeys((*NAMES, *WORDS))])
def test_help_needs_nothing_heavy(words: str) -> None:
    arguments = [*words.split(), "--help"]
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    code = f"{block}; sys.argv = ['trtkit', *{arguments!r}]; from trtkit.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: trtkit")


def test_root_help_imports_no_click() -> None:
    code = (
        "import sys; sys.argv = ['trtkit', '--help']; sys.modules['click'] = None; from trtkit.cli import main; main()"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_every_module_of_a_command_is_listed() -> None:
    folder = Path(str(import_module("trtkit.cli").__file__)).parent
    shared = {"__init__", "common", "lint_report"}
    modules = {file.stem for file in folder.glob("*.py")} - shared
    assert {name for name in modules if name.partition("_")[0] not in NAMES or name in NAMES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_json_and_help(name: str) -> None:
    for words, command in commands_of(name).items():
        assert command.help, words
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, words
    assert f"  {name}" in root_help()


def test_a_race_fits_in_80_columns() -> None:
    from rich.console import Console

    from trtkit.cli.build import _print_race

    cells = ["int8", "107.1 kB", "0.073", "0.0800 (0.0000)", "0.175", "5.345", "2.14", "a long sentence " * 9]
    columns = [
        "candidate",
        "size",
        "max abs error",
        "metric (drop)",
        "batch 1 ms",
        "batch 32 ms",
        "speed-up",
        "verdict",
    ]
    race = {
        "columns": columns, "table": [cells], "remarks": ["note"], "chosen": "fp32", "why": "fp32: because",
        "plot": "p.svg", "verdicts": {"fp32": "taken: the reference", "int8": "slower"},
    }  # fmt: skip
    out = Console(width=80, record=True, file=io.StringIO())
    _print_race(out, "m", race)
    text = out.export_text()
    assert "…" not in text, "nothing is cut"
    assert text.splitlines()[-4:] == ["m: int8: slower", "m: note", "m: taken: fp32: because", "m: plot: p.svg"]


def test_derived_profiles_are_printed_as_they_stand_under_a_model() -> None:
    from rich.console import Console

    from trtkit.cli.build import _print_derived

    derived = {"rows": [["a"]], "counts": [["b"]], "notes": [], "yaml": "profiles:\n  - x: {min: [1]}\n"}
    out = Console(width=80, record=True, file=io.StringIO())
    _print_derived(out, "m", derived)
    assert out.export_text().endswith("under `m:` in trtkit.yaml:\n    profiles:\n      - x: {min: [1]}\n")


def test_inspect_says_what_a_folder_is(tmp_path: Path) -> None:
    result = trtkit("inspect", str(tmp_path))
    assert (result.returncode, result.stderr) == (2, f"trtkit inspect: {tmp_path} is a folder; name a file in it\n")


def test_without_a_command_the_help_and_exit_2() -> None:
    result = trtkit()
    assert (result.returncode, result.stdout) == (2, root_help())


def test_unknown_command_names_the_nearest() -> None:
    result = trtkit("bulid")
    assert result.returncode == 2
    assert "there is no command 'bulid'; did you mean 'build'?" in result.stderr


def test_a_mistake_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "trtkit.yaml").write_text("models: {a: {source: {onnx: a.onnx}, presicion: fp32}}\n")
    result = trtkit("build", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    place = "trtkit build: trtkit.yaml:1:38: models.a.presicion: unknown key; did you mean 'precision'?"
    assert result.stderr.startswith(place)


def test_a_defect_is_a_traceback_and_exit_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import click

    from trtkit import cli

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(import_module("trtkit.cli.schema"), "command", broken)
    assert cli.run(["schema"]) == cli.EXIT_BUG
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_ctrl_c_is_exit_130(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from trtkit import cli

    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("trtkit.cli.schema"), "command", interrupted)
    assert cli.run(["schema"]) == cli.EXIT_INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["infer", "m"], 2, "there is no model repository at"),
        (["serve"], 2, "there is no model repository at"),
        (["validate"], 2, "no trtkit.yaml in"),
        (["build"], 2, "no trtkit.yaml in"),
        (["inspect", "no.onnx"], 2, "there is no file no.onnx"),
        (["infer", "m", "--url", "nowhere"], 2, "--url 'nowhere' is no HOST:PORT"),
        (["infer", "m", "--url", "127.0.0.1:1"], 5, "no Triton server answers there"),
        (["perf", "m", "--url", "127.0.0.1:1"], 5, "127.0.0.1:1"),
        (["init", "--from", "no.onnx"], 2, "--from no.onnx: there is no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_before_any_server(arguments: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    result = trtkit(*arguments, cwd=tmp_path)
    assert result.returncode == code
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
