# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the documents say is what runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

from trtkit.cli import COMMANDS, root_help
from trtkit.perf.reports.schema import json_schema as perf_schema
from trtkit.project import json_schema, load_project
from trtkit.validate import TOLERANCES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def cli_markdown() -> str:
    """docs/cli.md as it has to be: every command's --help."""
    parts = [
        "# The commands\n\nMade from `--help`; `tests/test_docs.py` says how to renew it.\n",
        _block("trtkit", root_help()),
    ]
    for name, _ in COMMANDS:
        parts += _blocks(f"trtkit {name}", import_module(f"trtkit.cli.{name}").command)
    return "\n".join(parts)


def _blocks(words: str, command: click.Command) -> Iterator[str]:
    """The help of a command, and of those in it."""
    with command.make_context(words, [], resilient_parsing=True, terminal_width=100) as context:
        yield _block(words, command.get_help(context) + "\n")
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from _blocks(f"{words} {name}", inner)


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}```\n"


def test_the_readme_s_two_commands_are_the_makefile_s() -> None:
    assert fences(README, "sh")[:2] == ["make demo\n", "make test\n"]
    assert re.search(r"^demo: .*\n\t\$\(PY\) scripts/demo.py$", MAKEFILE, flags=re.MULTILINE)
    assert re.search(r"^test: .*\n\t\$\(PY\) -m pytest( --\S+( \w+)?)*$", MAKEFILE, flags=re.MULTILINE)


def test_ci_runs_make_test() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")


def test_the_readme_s_commands_exist_and_take_their_options() -> None:
    lines = [line for fence in fences(README, "sh") for line in fence.splitlines() if line.startswith("trtkit ")]
    assert len(lines) >= 6
    for line in lines:
        name, *arguments = shlex.split(line, comments=True)[1:]
        command = import_module(f"trtkit.cli.{name}").command
        while isinstance(command, click.Group) and (name != "perf" or arguments[0] in command.commands):
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, arguments).close()


def test_the_readme_s_project_file_is_the_sample_s(tmp_path: Path) -> None:
    (text,) = fences(README, "yaml")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train_digits.py").write_text((ROOT / "scripts" / "train_digits.py").read_text())
    (tmp_path / "trtkit.yaml").write_text(text)
    digits = load_project(tmp_path / "trtkit.yaml").models["digits"]
    sample = load_project(ROOT / "trtkit.yaml").models["digits"]
    assert digits.source == sample.source
    assert digits.config["dynamic_batching"] == sample.config["dynamic_batching"]


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda f: f.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", file.read_text()):
        assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_the_schema_in_docs_is_current() -> None:
    assert json.loads((ROOT / "docs" / "trtkit.schema.json").read_text()) == json_schema()


def test_the_commands_in_docs_are_current() -> None:
    """Renew with: python tests/test_docs.py."""
    assert (ROOT / "docs" / "cli.md").read_text() == cli_markdown()


def test_the_tolerances_in_docs_are_the_table_s() -> None:
    text = (ROOT / "docs" / "project-file.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9, ]+) \| (\de-\d) \| (\de-\d) \|$", text, flags=re.MULTILINE)
    documented = {name: (float(rtol), float(atol)) for names, rtol, atol in rows for name in names.split(", ")}
    assert documented == TOLERANCES


def test_every_key_of_a_model_is_explained() -> None:
    text = (ROOT / "docs" / "project-file.md").read_text()
    for key in json_schema()["$defs"]["ModelSpec"]["properties"]:
        assert f"| `{key}` |" in text, key


def test_every_key_of_the_deploy_block_is_explained() -> None:
    text = (ROOT / "docs" / "project-file.md").read_text()
    for key in json_schema()["$defs"]["Deploy"]["properties"]:
        assert f"| `{key}` |" in text, key


def test_exit_codes_in_the_readme() -> None:
    from trtkit import errors

    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")
    }
    assert {int(code) for code in re.findall(r"\b([2-9]) (?:the|a|outside)", README)} == codes - {1}


def test_nothing_of_a_machine_is_committed() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = [f"{folder}/" for folder in (ROOT, Path.home(), Path(sys.prefix)) if len(folder.parts) > 1]
    for file in files:
        text = (ROOT / file).read_text(errors="replace") if (ROOT / file).is_file() else ""
        assert not [folder for folder in folders if folder in text], file


if __name__ == "__main__":
    import test_lint_docs

    test_lint_docs.renew()
    (ROOT / "docs" / "cli.md").write_text(cli_markdown())
    (ROOT / "docs" / "trtkit.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
    (ROOT / "docs" / "perf.schema.json").write_text(json.dumps(perf_schema(), indent=2) + "\n")
