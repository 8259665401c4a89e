# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""trtkit.yaml: what is read, and the one sentence with its place that everything wrong with it gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trtkit.errors import ExportError, ProjectError
from trtkit.project import Project, find_project, json_schema, load_project
from trtkit.project.callables import call, check_reference
from trtkit.project.yaml_text import MAX_BYTES, MAX_DEPTH, MAX_NODES, read_yaml

ROOT = Path(__file__).resolve().parents[1]
MODEL = "models:\n  m:\n    source: {onnx: m.onnx}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with m.onnx, data.py (f, Net, x, and names in blocks) and two files that are no Python."""
    made = tmp_path_factory.mktemp("project")
    (made / "m.onnx").write_bytes(b"an ONNX file, as far as the project file is concerned")
    (made / "scripts").mkdir()
    (made / "scripts" / "data.py").write_text(
        "import json as js\n"
        "def f():\n    local = 1\n"
        "class Net: pass\n"
        "x, (y, *z) = 1, (2, 3)\n"
        "if x:\n    def in_if(): pass\nelif y:\n    in_elif = 1\n"
        "for turn in []:\n    def in_for(): pass\n"
        "try:\n    pass\nexcept OSError:\n    def in_except(): pass\n"
    )
    (made / "scripts" / "broken.py").write_text("x = 1\ndef f(:\n    pass\n")
    (made / "scripts" / "binary.py").write_bytes(b"x = 1\0")
    return made


def load(folder: Path, content: str | bytes) -> Project:
    file = folder / "trtkit.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_project(file)


def complaint(folder: Path, content: str | bytes) -> str:
    """The sentence of the ProjectError that the content gives."""
    with pytest.raises(ProjectError) as caught:
        load(folder, content)
    return str(caught.value)


def is_one_sentence(text: str) -> bool:
    return text.isprintable() and 0 < len(text) < 1000


def with_model(line: str) -> str:
    return f"{MODEL}    {line}\n"


# (what the file holds, where the complaint points, what it says)
COMPLAINTS = {
    "an empty file": ("", "1:1", "expected keys such as `models:`, got nothing"),
    "only a comment": ("# later\n", "1:1", "expected keys such as `models:`, got nothing"),
    "text": ("hello", "1:1", "expected keys such as `models:`, got a str"),
    "a list": ("- a\n", "1:1", "expected keys such as `models:`, got a list"),
    "an unknown key at the top": ("modles: {}\n", "1:1", "modles: unknown key; did you mean 'models'?"),
    "an unknown key of a model": (with_model("precison: fp32"), "4:5", "unknown key; did you mean 'precision'?"),
    "an unknown key of a source": ("models: {m: {source: {onx: a}}}", "1:23", "did you mean 'onnx'?"),
    "an unknown key of evaluate": (with_model("evaluate: {data: m.onnx, metrik: a}"), "4:30", "did you mean 'metric'?"),
    "an unknown key of a tolerance": (with_model("tolerance: {rtoll: 1}"), "4:17", "did you mean 'rtol'?"),
    "an unknown key of an output's tolerance": (
        with_model("tolerance: {outputs: {y: {atl: 1}}}"),
        "4:31",
        "models.m.tolerance.outputs.y.atl: unknown key; did you mean 'atol'?",
    ),
    "an unknown key of an input": (with_model("inputs: {x: {shape: [1], dtype: FP32}}"), "4:30", "data_type"),
    "an unknown key of a step": (
        "models:\n  e:\n    ensemble:\n      - model: a\n        inputs: {x: X}\n        output: {y: Y}\n",
        "6:9",
        "models.e.ensemble.0.output: unknown key; did you mean 'outputs'?",
    ),
    "an unknown key beside a wrong value": (
        with_model("precision: 7\n    evalute: {}"),
        "5:5",
        "did you mean 'evaluate'?",
    ),
    "a number for text": ("repository: 5\n", "1:1", "repository: has to be a valid string, got 5"),
    "text for a number": (with_model("tolerance: {rtol: '1'}"), "4:17", "has to be a valid number, got '1'"),
    "a switch for a number": (with_model("tolerance: {rtol: yes}"), "4:17", "has to be a valid number, got True"),
    "a list for a mapping": ("models: []\n", "1:1", "models: has to be a mapping, got a list of 0"),
    "nothing for a model": ("models: {m: }\n", "1:10", "models.m: takes the keys source, ensemble,"),
    "text for a model": ("models: {m: m.onnx}\n", "1:10", "configs; got 'm.onnx'"),
    "a number for config": (with_model("config: 5"), "4:5", "models.m.config: has to be a mapping, got 5"),
    "a key that is missing": (with_model("evaluate: {metric: top1}"), "4:5", "models.m.evaluate: 'data' is missing"),
    "a value below the least": (
        with_model("tolerance: {rtol: -1e-3}"),
        "4:17",
        "greater than or equal to 0, got -0.001",
    ),
    "a tolerance that lets all pass": (
        with_model("tolerance: {rtol: .inf}"),
        "4:17",
        "has to be a finite number, got inf",
    ),
    "a tolerance that is no number": (
        with_model("tolerance: {atol: .nan}"),
        "4:17",
        "has to be a finite number, got nan",
    ),
    "an unknown precision": (
        with_model("precision: fp64"),
        "4:5",
        "has to be 'fp32', 'fp16', 'bf16', 'int8', 'fp8', 'int8+fp16', 'fp8+fp16' or 'auto', got 'fp64'",
    ),
    "an unknown data type": (with_model("inputs: {x: {data_type: FP31, shape: [1]}}"), "4:18", "got 'FP31'"),
    "a size of 0": (with_model("inputs: {x: {shape: [batch, 0]}}"), "4:33", "greater than or equal to 1, got 0"),
    "an axis with no name's letters": (with_model("inputs: {x: {shape: [a-b]}}"), "4:26", "got 'a-b'"),
    "a model with no name's letters": ('models: {"a b": {source: {onnx: m.onnx}}}', "1:10", "got 'a b'"),
    "a model that leaves the repository": ('models: {"../m": {source: {onnx: m.onnx}}}', "1:10", "got '../m'"),
    "a requirement that is no module": (
        with_model("requires: ['']"),
        "4:16",
        "models.m.requires.0: has to match pattern",
    ),
    "neither source nor ensemble": ("models: {m: {}}", "1:10", "models.m: give exactly one of source and ensemble"),
    "two sources": (
        "models: {m: {source: {onnx: a, torch: b}}}",
        "1:14",
        "give exactly one of onnx, sklearn, torch, huggingface, callable",
    ),
    "no source": (
        "models: {m: {source: {}}}",
        "1:14",
        "give exactly one of onnx, sklearn, torch, huggingface, callable",
    ),
    "an ensemble without steps": (
        "models: {m: {ensemble: []}}",
        "1:14",
        "models.m.ensemble: has to have at least 1 item",
    ),
    "a cast without inputs": (
        "models: {m: {source: {cast: FP32}}}",
        "1:10",
        "models.m: a cast needs `inputs:`, the name, data type and shape of each tensor it casts",
    ),
    "a cast of text": (
        "models: {m: {source: {cast: FP32}, inputs: {x: {data_type: BYTES, shape: [batch, 1]}}}}",
        "1:10",
        "models.m: a cast is one of numbers, and input 'x' is BYTES",
    ),
    "a cast to text": (
        "models: {m: {source: {cast: BYTES}, inputs: {x: {shape: [batch, 1]}}}}",
        "1:23",
        "models.m.source.cast: has to be 'BOOL', ",
    ),
    "an ensemble with inputs": (
        "models: {m: {ensemble: [{model: a, inputs: {x: X}, outputs: {y: Y}}], outputs: [y]}}",
        "1:10",
        "an ensemble's inputs and outputs follow from its steps",
    ),
    "a missing file": ("models: {m: {source: {onnx: no.onnx}}}", "1:23", "'no.onnx': there is no file no.onnx"),
    "a folder for a file": ("models: {m: {source: {onnx: scripts}}}", "1:23", "'scripts': there is no file scripts"),
    "a file for a folder": (
        "models: {m: {source: {huggingface: m.onnx}}}",
        "1:23",
        "'m.onnx': there is no folder m.onnx",
    ),
    "a missing folder": ("models: {m: {source: {huggingface: bert}}}", "1:23", "'bert': there is no folder bert"),
    "a missing Python file": (with_model("evaluate: {data: 'no.py:f'}"), "4:16", "'no.py:f': there is no file no.py"),
    "a Python file without a name": (
        with_model("evaluate: {data: scripts/data.py}"),
        "4:16",
        "write scripts/data.py:NAME",
    ),
    "a Python file with an empty name": (
        with_model("evaluate: {data: 'scripts/data.py:'}"),
        "4:16",
        "write scripts/data.py:NAME",
    ),
    "a name that is not defined": (
        with_model("evaluate: {data: 'scripts/data.py:Nett'}"),
        "4:16",
        "scripts/data.py defines no 'Nett'; did you mean 'Net'?",
    ),
    "a name inside a function": (with_model("evaluate: {data: 'scripts/data.py:local'}"), "4:16", "defines no 'local'"),
    "a metric that is not defined": (
        with_model("evaluate: {data: m.onnx, metric: 'scripts/data.py:g'}"),
        "4:30",
        "scripts/data.py defines no 'g'",
    ),
    "a syntax error in the user's Python": (
        with_model("evaluate: {data: 'scripts/broken.py:f'}"),
        "4:16",
        "scripts/broken.py is not valid Python: line 2, column 7: invalid syntax",
    ),
    "a NUL in the user's Python": (with_model("evaluate: {data: 'scripts/binary.py:f'}"), "4:16", "null bytes"),
    "a NUL in a path": ('models: {m: {source: {onnx: "a\\0b"}}}', "1:23", "'a\\x00b' holds unprintable characters"),
    "a path of two lines": ('models: {m: {source: {onnx: "a\\nb"}}}', "1:23", "'a\\nb' holds unprintable characters"),
    "a path that is too long": (f"models: {{m: {{source: {{onnx: {'x' * 5000}}}}}}}", "1:23", "File name too long"),
    "a NUL in the repository's path": (
        'repository: "a\\0"',
        "1:1",
        "repository: 'a\\x00' holds unprintable characters",
    ),
    "the project's own folder for the repository": (
        "repository: .",
        "1:1",
        "repository: '.' holds the project itself; give the models a folder of their own",
    ),
    "a folder above the project for the repository": (
        "models: {}\nrepository: ..",
        "2:1",
        "repository: '..' holds the",
    ),
    "a tag that runs code": (
        "a: !!python/object/apply:os.system [x]",
        "1:4",
        "python/object/apply:os.system' is refused",
    ),
    "a tag of the user's": ("a: !mine x", "1:4", "the tag '!mine' is refused"),
    "a tag on a key": ("? !!python/name:os.system x\n: 1\n", "1:3", "python/name:os.system' is refused"),
    "a tag that does not fit": ("models: !!map x", "1:9", "the tag 'tag:yaml.org,2002:map' is refused"),
    "a tag that is not true": ("a: !!bool maybe", "1:4", "'maybe' is no valid value"),
    "a tag of an empty number": ('a: !!int ""', "1:4", "'' is no valid value"),
    "a number of 6000 digits": (f"repository: 0x{'f' * 6000}", "1:13", "ff…' is no valid value"),
    "a merge key": ("base: &b {a: 1}\nm:\n  <<: *b\n", "3:3", "a key has to be plain text"),
    "a list as a key": ("? [a]\n: b\n", "1:3", "a key has to be plain text"),
    "a key of two lines": ('"a\\nb": 1', "1:1", "the key 'a\\nb' holds unprintable characters"),
    "a key twice": (
        "models: {}\nrepository: a\nmodels: {}\n",
        "3:1",
        "'models' stands twice; it was already given in line 1",
    ),
    "an unknown alias": ("a: *b\n", "1:4", "not valid YAML: found undefined alias 'b'"),
    "a list that holds itself": ("a: &a [*a]\n", "1:4", "anchors of this file expand to too much"),
    "half a list": ("a: [1,\n", "2:1", "not valid YAML: expected the node content, but found '<stream end>'"),
    "a mapping in a line of text": ("a: b: c\n", "1:5", "not valid YAML: mapping values are not allowed here"),
    "a tab": ("a:\n\tb: 1\n", "2:1", "not valid YAML: found character '\\t' that cannot start any token"),
    "two documents": (
        "models: {}\n---\nmodels: {}\n",
        "2:1",
        "expected a single document in the stream but found another",
    ),
    "another YAML": ("%YAML 3.0\n---\na: 1\n", "1:1", "found incompatible YAML document"),
    "an unprintable character": ("models: {}\n# \x01\n", "2:3", "not valid YAML: the character '\\x01' is not allowed"),
    "a character beyond Unicode": (
        'models: {}\na: "\\UFFFFFFFF"\n',
        "2:7",
        "not valid YAML: an escape that is no character",
    ),
    "half a character": ('a: "\\ud800"', "1:4", "'\\ud800' is no valid value"),
    "lists too deep": ("[" * 100, f"1:{MAX_DEPTH + 1}", f"nested deeper than {MAX_DEPTH} levels"),
    "mappings too deep": ("{a: " * 100_000, f"1:{MAX_DEPTH * 4 + 1}", f"nested deeper than {MAX_DEPTH} levels"),
    "not UTF-8": (b"models: {}\n# caf\xe9\n", "2:6", "not UTF-8 text: byte 0xe9"),
    "UTF-16": ("models: {}".encode("utf-16"), "1:1", "not UTF-8 text: byte 0xff"),
}


@pytest.mark.parametrize("case", COMPLAINTS)
def test_a_complaint_is_one_sentence_with_its_place(folder: Path, case: str) -> None:
    content, place, words = COMPLAINTS[case]
    message = complaint(folder, content)
    assert message.startswith(f"trtkit.yaml:{place}: ")
    assert words in message
    assert is_one_sentence(message)


def test_the_first_line_of_a_file_with_a_byte_order_mark_keeps_its_columns(folder: Path) -> None:
    assert load(folder, "\ufeffmodels: {}\n".encode()).models == {}
    assert complaint(folder, "\ufeffmodles: {}\n".encode()).startswith("trtkit.yaml:1:1: modles:")


def test_anchors_that_expand_to_too_much_are_refused(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    message = complaint(folder, "\n".join(lines))
    assert re.match(r"trtkit\.yaml:\d+:\d+: the anchors of this file expand to too much", message)


def test_anchors_that_expand_to_little_are_fine() -> None:
    value, _ = read_yaml("a: &a [1, 2]\nb: *a\n", "f.yaml")
    assert value == {"a": [1, 2], "b": [1, 2]}


def test_many_values_are_refused_at_the_budget_and_not_before() -> None:
    # a list and its items, and the mapping around it
    assert len(read_yaml(f"a: [{'1,' * (MAX_NODES - 2)}]", "f.yaml")[0]["a"]) == MAX_NODES - 2
    with pytest.raises(ProjectError, match="expand to too much"):
        read_yaml(f"a: [{'1,' * (MAX_NODES - 1)}]", "f.yaml")


def test_a_file_over_the_size_is_refused_without_reading_all_of_it(folder: Path, tmp_path: Path) -> None:
    assert load(folder, b"#" * (MAX_BYTES - 12) + b"\nmodels: {}\n").models == {}
    message = complaint(folder, b"#" * MAX_BYTES + b"\nmodels: {}\n")
    assert message == f"trtkit.yaml: larger than {MAX_BYTES} bytes, the most a project file may have"
    with (tmp_path / "trtkit.yaml").open("wb") as sparse:
        sparse.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(ProjectError, match="larger than"):
        load_project(tmp_path / "trtkit.yaml")


def test_a_folder_and_a_missing_file_are_no_project(tmp_path: Path) -> None:
    (tmp_path / "trtkit.yaml").mkdir()
    with pytest.raises(ProjectError, match=r"trtkit\.yaml: cannot be read: Is a directory$"):
        load_project(tmp_path / "trtkit.yaml")
    with pytest.raises(ProjectError, match=r"no\.yaml: cannot be read: No such file or directory$"):
        load_project(tmp_path / "no.yaml")
    with pytest.raises(ProjectError, match=r"no trtkit\.yaml in .*; run `trtkit init`"):
        find_project(tmp_path)


def test_loops_of_symbolic_links_are_no_path(folder: Path) -> None:
    (folder / "loop").unlink(missing_ok=True)
    (folder / "loop").symlink_to("loop")
    message = complaint(folder, "models: {m: {source: {onnx: loop}}}")
    assert message.startswith("trtkit.yaml:1:23: 'loop' is no usable path: ")
    assert complaint(folder, "repository: loop/r").startswith(
        "trtkit.yaml:1:1: repository: 'loop/r' is no usable path: "
    )


def test_find_project_looks_in_the_parents_only_from_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder, MODEL)
    monkeypatch.chdir(folder / "scripts")
    assert find_project().file == folder / "trtkit.yaml"
    assert find_project(folder) == find_project(folder / "trtkit.yaml") == find_project()
    with pytest.raises(ProjectError, match=r"no trtkit\.yaml in"):
        find_project(folder / "scripts")


# -- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+1", -25.0),
        (".5e3", 500.0),
        ("1.e2", 100.0),
        ("1.5e-3", 0.0015),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("2024-01-31", "2024-01-31"),
        ("no", False),
        ("0x10", 16),
        ("~", None),
        ("", None),
        ("é", "é"),
    ],
)
def test_a_plain_value_is_what_it_looks_like(text: str, value: Any) -> None:
    read, _ = read_yaml(f"a: {text}\n", "f.yaml")
    assert read == {"a": value}
    assert type(read["a"]) is type(value)


def test_an_exponent_without_a_dot_is_a_number_in_the_project_file(folder: Path) -> None:
    tolerance = load(folder, with_model("tolerance: {rtol: 1e-3, atol: 5}")).models["m"].tolerance
    assert (tolerance.rtol, tolerance.atol) == (0.001, 5)


def test_names_that_blocks_define_are_found(folder: Path) -> None:
    for name in ("f", "Net", "x", "y", "z", "in_if", "in_elif", "in_for", "in_except", "turn", "js"):
        check_reference(f"scripts/data.py:{name}", folder, "here")


def test_a_long_chain_of_elifs_is_read(tmp_path: Path) -> None:
    lines = [f"elif x == {i}:\n    y = {i}" for i in range(60)]
    (tmp_path / "long.py").write_text("x = 1\nif x:\n    pass\n" + "\n".join(lines) + "\nelse:\n    last = 1\n")
    check_reference("long.py:last", tmp_path, "here")


def test_a_star_import_may_define_anything(tmp_path: Path) -> None:
    (tmp_path / "star.py").write_text("from os.path import *\n")
    check_reference("star.py:join", tmp_path, "here")


def test_python_that_nests_too_deep_is_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text("x = " + "-" * 200_000 + "1\n")
    with pytest.raises(ProjectError, match=r"^here: deep\.py is not valid Python: .+"):
        check_reference("deep.py:x", tmp_path, "here")


def test_the_warnings_of_the_users_python_wait_until_it_runs(tmp_path: Path) -> None:
    (tmp_path / "warns.py").write_text("pattern = '\\d'\n")
    check_reference("warns.py:pattern", tmp_path, "here")  # warnings are errors in these tests


def test_an_error_of_the_users_code_names_the_users_line(tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text("import json\n\ndef f():\n    g()\n\ndef g():\n    json.loads('{')\n")
    (tmp_path / "import_raises.py").write_text("\n\n1 / 0\n")
    with pytest.raises(ExportError, match=r"^w: 'raises\.py:f' raised JSONDecodeError: .* \(raises\.py:7\)$"):
        call("raises.py:f", tmp_path, "w")
    with pytest.raises(ExportError, match=r"^w: importing 'import_raises\.py:f' raised ZeroDivisionError: .*:3\)$"):
        call("import_raises.py:f", tmp_path, "w")


# -- Project


def test_where_points_at_the_key_or_the_nearest_parent_in_the_file(folder: Path) -> None:
    project = load(
        folder, "# first\nmodels:\n  m:\n    source: {onnx: m.onnx}\n    config:\n      input: [{name: x}, {name: y}]\n"
    )
    assert project.where("models") == "trtkit.yaml:2:1"
    assert project.where("models", "m", "source", "onnx") == "trtkit.yaml:4:14"
    assert project.where("models", "m", "config", "input", 1) == "trtkit.yaml:6:26"
    assert project.where("models", "m", "config", "input", 1, "name") == "trtkit.yaml:6:27"
    assert project.where("models", "m", "config", "input", 7, "name") == "trtkit.yaml:6:7"
    assert project.where("models", "m", "evaluate", "data") == "trtkit.yaml:3:3"
    assert project.where("nothing") == "trtkit.yaml:1:1"


def test_select_keeps_the_files_order_and_refuses_unknown_names(folder: Path) -> None:
    source = "{source: {onnx: m.onnx}}"
    project = load(folder, f"models: {{c: {source}, a: {source}, b: {source}}}")
    assert project.select([]) == ["c", "a", "b"]
    assert project.select(["b", "c"]) == ["c", "b"]
    with pytest.raises(ProjectError, match=r"^model 'd' is not in trtkit\.yaml; available: a, b, c$"):
        project.select(["a", "d"])
    with pytest.raises(ProjectError, match=r"^trtkit\.yaml has no models; add one under `models:`"):
        load(folder, "models: {}").select([])


def test_paths_are_relative_to_the_project_file(folder: Path) -> None:
    project = load(folder, f"repository: ../elsewhere\n{MODEL}")
    assert project.root == folder
    assert project.repository == folder.parent / "elsewhere"
    assert project.state == folder / ".trtkit"


def test_a_link_to_a_project_file_is_the_project_it_points_to(folder: Path, tmp_path: Path) -> None:
    load(folder, MODEL)
    (folder / "trtkit.yaml").rename(folder / "real.yaml")
    (tmp_path / "trtkit.yaml").symlink_to(folder / "real.yaml")
    project = load_project(tmp_path / "trtkit.yaml")
    assert project.file == folder / "real.yaml"
    assert project.root == folder
    assert project.where("models") == "real.yaml:1:1"


def test_a_project_cannot_be_changed(folder: Path) -> None:
    project = load(folder, MODEL)
    with pytest.raises(AttributeError):
        project.file = folder  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        project.models["m"].precision = "fp32"  # type: ignore[misc]


# -- JSON Schema


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """The places where a value breaks a schema, for the keywords that ours uses; unknown keywords are an error."""
    if "$ref" in schema:
        return violations(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    found: list[str] = []
    for keyword, wanted in schema.items():
        if keyword in ("description", "title", "default", "$schema", "$defs"):
            continue
        found += KEYWORDS[keyword](value, wanted, schema, root, path)
    return found


_KINDS = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool}


def _has_type(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, _KINDS[kind])


def _any_of(value: Any, options: Any, _: Any, root: Any, path: str) -> list[str]:
    return [] if any(not violations(value, option, root, path) for option in options) else [f"{path}: no option fits"]


def _properties(value: Any, known: Any, schema: Any, root: Any, path: str) -> list[str]:
    found = []
    patterns = schema.get("patternProperties", {})
    for key, item in value.items() if isinstance(value, dict) else ():
        inner = known.get(key) or next((patterns[p] for p in patterns if re.search(p, key)), None)
        if inner is not None:
            found += violations(item, inner, root, f"{path}.{key}")
        elif schema.get("additionalProperties") is False:
            found.append(f"{path}.{key}: unknown key")
    return found


def _additional(value: Any, wanted: Any, _: Any, root: Any, path: str) -> list[str]:
    if not isinstance(wanted, dict):
        return []
    return [v for key, item in value.items() for v in violations(item, wanted, root, f"{path}.{key}")]


KEYWORDS: dict[str, Any] = {
    "type": lambda v, w, s, r, p: [] if _has_type(v, w) else [f"{p}: no {w}"],
    "const": lambda v, w, s, r, p: [] if v == w else [f"{p}: not {w}"],
    "enum": lambda v, w, s, r, p: [] if v in w else [f"{p}: not one of {w}"],
    "minimum": lambda v, w, s, r, p: [] if not _has_type(v, "number") or v >= w else [f"{p}: below {w}"],
    "exclusiveMinimum": lambda v, w, s, r, p: [] if not _has_type(v, "number") or v > w else [f"{p}: not above {w}"],
    "exclusiveMaximum": lambda v, w, s, r, p: [] if not _has_type(v, "number") or v < w else [f"{p}: not below {w}"],
    "minLength": lambda v, w, s, r, p: [] if not isinstance(v, str) or len(v) >= w else [f"{p}: too short"],
    "maxLength": lambda v, w, s, r, p: [] if not isinstance(v, str) or len(v) <= w else [f"{p}: too long"],
    "minItems": lambda v, w, s, r, p: [] if len(v) >= w else [f"{p}: too few"],
    "pattern": lambda v, w, s, r, p: [] if not isinstance(v, str) or re.search(w, v) else [f"{p}: not {w}"],
    "required": lambda v, w, s, r, p: [f"{p}.{key}: missing" for key in w if key not in v],
    "items": lambda v, w, s, r, p: [x for i, item in enumerate(v) for x in violations(item, w, r, f"{p}[{i}]")],
    "propertyNames": lambda v, w, s, r, p: [x for key in v for x in violations(key, w, r, f"{p}.{key}")],
    "additionalProperties": _additional,
    "properties": _properties,
    "patternProperties": lambda v, w, s, r, p: [] if "properties" in s else _properties(v, {}, s, r, p),
    "anyOf": _any_of,
}


def test_the_schema_takes_the_sample_project() -> None:
    schema = json.loads(json.dumps(json_schema()))
    sample = yaml.safe_load((ROOT / "trtkit.yaml").read_text())
    assert violations(sample, schema, schema) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"modles": {}}, ".modles: unknown key"),
        ({"repository": 5}, ".repository: no string"),
        ({"models": {"a b": {}}}, ".models.a b: unknown key"),
        ({"models": {"m": {"precision": "fp64"}}}, ".models.m.precision: not one of ['fp32', 'fp16',"),
        ({"models": {"m": {"source": {"onx": "a"}}}}, ".models.m.source: no option fits"),
        ({"models": {"m": {"inputs": {"x": {}}}}}, ".models.m.inputs.x.shape: missing"),
        ({"models": {"m": {"inputs": {"x": {"shape": [0]}}}}}, ".models.m.inputs.x.shape[0]: no option fits"),
        ({"models": {"m": {"tolerance": {"rtol": -1}}}}, ".models.m.tolerance.rtol: no option fits"),
    ],
)
def test_the_schema_refuses_what_the_project_refuses(folder: Path, change: dict[str, Any], place: str) -> None:
    schema = json_schema()
    found = violations(change, schema, schema)
    assert len(found) == 1
    assert found[0].startswith(place)
    complaint(folder, json.dumps(change))


def test_every_key_of_the_schema_has_a_description() -> None:
    schema = json_schema()
    undescribed = {
        f"{name}.{key}"
        for name, definition in {"": schema, **schema["$defs"]}.items()
        for key, value in definition["properties"].items()
        if "description" not in value
    }
    # what these are stands in the description of their own keys
    model = {"ModelSpec.source", "ModelSpec.ensemble", "ModelSpec.evaluate"}
    assert undescribed <= {*model, "Tolerance.rtol", "Tolerance.atol", "EnsembleStep.model"}


# -- anything at all

SAMPLE = (ROOT / "trtkit.yaml").read_text()
PIECES = [
    *("&a ", "*a", "!!int ", "!x ", "? ", "- ", ": ", "{", "}", "[", "]", "'", '"', "|\n", ">-\n", "#", "\n", "  "),
    *("<<: ", "%", "---\n", "~", "1e400", ".nan", "0x", "\\", '"\\u', "\t", "=", "null", "\u2028", "\x00"),
]


@st.composite
def damaged_samples(draw: st.DrawFn) -> str:
    """The sample project with pieces of YAML put into it, or parts taken out."""
    text = SAMPLE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 0, 1, 2, 10, 200]))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=4)) + text[start + length :]
    return text


def json_values() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(
        ["repository", "models", "m", "source", "onnx", "config", "ensemble", "model", "inputs", "outputs", "shape",
         "evaluate", "data", "metric", "tolerance", "rtol", "requires", "x", "", "\n"]
    )  # fmt: skip
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | keys
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def gives_a_project_or_one_sentence(folder: Path, content: bytes) -> None:
    try:
        sentence = ""
        load(folder, content)
    except ProjectError as exc:
        sentence = str(exc)
    assert not sentence or (is_one_sentence(sentence) and sentence.startswith("trtkit.yaml:"))


@settings(deadline=None, max_examples=300)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(utf8))
@example(content=b"%TAG ! tag:a,b:\n---\n!x y")
@example(content=b'"\\x00": [1]')
@example(content=b"? |\n a\n: b")
def test_any_bytes_give_a_project_or_one_sentence(folder: Path, content: bytes) -> None:
    gives_a_project_or_one_sentence(folder, content)


@settings(deadline=None, max_examples=150)
@given(text=damaged_samples())
def test_a_damaged_sample_gives_a_project_or_one_sentence(folder: Path, text: str) -> None:
    gives_a_project_or_one_sentence(folder, utf8(text))


@settings(deadline=None, max_examples=200)
@given(value=json_values())
def test_any_value_gives_a_project_or_one_sentence(folder: Path, value: Any) -> None:
    gives_a_project_or_one_sentence(folder, json.dumps(value).encode())


# YAML 1.1 folds these three line breaks into spaces where PyYAML's writer puts them unquoted
# 0E0 is text to the writer (YAML 1.1) and a number to us (YAML 1.2)
PLAIN_TEXT = st.text(st.characters(exclude_characters="\x85\u2028\u2029", exclude_categories=["Cs"])).filter(
    lambda text: not re.fullmatch(r"[-+.\d]+[eE][-+\d]*", text)
)


@settings(deadline=None, max_examples=200)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | PLAIN_TEXT | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc:- #é", max_size=4), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_yaml_writes_is_read_back(value: Any) -> None:
    read, positions = read_yaml(yaml.safe_dump({"root": value}, allow_unicode=True), "f.yaml")
    assert read == {"root": value}
    assert positions["root",] == (1, 1)
