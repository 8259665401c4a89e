# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit repo graph``: what is drawn, and that nothing of it lies on top of something else."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.drawing import Graph, graph_of, to_mermaid, to_svg
from trtkit.drawing.boxes import Box
from trtkit.drawing.graph import Step, Tensor
from trtkit.drawing.layout import Line, layout
from trtkit.errors import ConfigError, ProjectError

ROOT = Path(__file__).resolve().parents[1]
SVG = "{http://www.w3.org/2000/svg}"
STRANGE = 'a<b>&"c"'


def write(repository: Path, name: str, config: str) -> None:
    (repository / name).mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def row(side: str, name: str, dtype: str = "FP32", dims: str = "[3, -1]") -> str:
    return f"{side} {{ name: {quoted(name)} data_type: TYPE_{dtype} dims: {dims} }}\n"


def step(model: str, inputs: dict[str, str], outputs: dict[str, str], version: int = -1) -> str:
    maps = [
        f"{side}_map {{ key: {quoted(own)} value: {quoted(tensor)} }}"
        for side, mapping in (("input", inputs), ("output", outputs))
        for own, tensor in mapping.items()
    ]
    return f"step {{ model_name: {quoted(model)} model_version: {version} {' '.join(maps)} }}\n"


def ensemble(rows: str, *steps: str) -> str:
    return f'platform: "ensemble" max_batch_size: 4 {rows} ensemble_scheduling {{ {"".join(steps)} }}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An ensemble of a model, an ensemble, a model that is not there, and one with a strange name."""
    repository = tmp_path / "repository"
    resize = row("input", "raw", "UINT8") + row("output", "image") + row("output", "size", "INT64", "[2]")
    write(repository, "resize", f'backend: "python" max_batch_size: 8 {resize}')
    inner = ensemble(row("input", "x") + row("output", "y", dims="[10]"), step("resize", {"raw": "x"}, {"image": "y"}))
    write(repository, "inner", inner)
    write(repository, STRANGE, f'platform: "onnxruntime_onnx" {row("input", "<&>")}{row("output", STRANGE)}')
    steps = (
        step("inner", {"x": "image"}, {"y": "scores"}, version=3),
        step("gone", {"in": "scores", "size": "size"}, {"out": STRANGE}),
        step("resize", {"raw": "RAW"}, {"image": "image", "size": "size"}),
        step(STRANGE, {"<&>": STRANGE}, {STRANGE: "OUT"}),
    )
    write(repository, "e", ensemble(row("input", "RAW", "UINT8") + row("output", "OUT"), *steps))
    return repository


# -- what is drawn


def test_an_ensemble(repository: Path) -> None:
    graph = graph_of(repository, "e")
    assert [step.model for step in graph.steps] == ["resize", "inner", "gone", STRANGE], "in the order of the data"
    assert [step.facts for step in graph.steps] == [
        ("python", "version latest", "max_batch_size 8"),
        ("ensemble", "version 3", "max_batch_size 4"),
        ("?", "version latest", "max_batch_size ?"),
        ("onnxruntime_onnx", "version latest", "max_batch_size 0"),
    ]
    assert {tensor.name: (tensor.type_text, tensor.role) for tensor in graph.tensors.values()} == {
        "RAW": ("TYPE_UINT8 [3, -1]", "input"),
        "OUT": ("TYPE_FP32 [3, -1]", "output"),
        "image": ("TYPE_FP32 [3, -1]", "inner"),
        "scores": ("TYPE_FP32 [10]", "inner"),
        "size": ("TYPE_INT64 [2]", "inner"),
        STRANGE: ("TYPE_FP32 [3, -1]", "inner"),
    }
    (note,) = graph.notes
    assert note.startswith(f"step 'gone' is drawn with question marks: it is not in {repository}; available: ")


def test_a_single_model_whose_input_and_output_have_one_name(tmp_path: Path) -> None:
    write(tmp_path, "m", f'backend: "b" {row("input", "x")}{row("output", "x", "FP16")}')
    graph = graph_of(tmp_path, "m")
    assert [(t.name, t.role, t.data_type) for t in graph.tensors.values()] == [
        ("x", "input", "TYPE_FP32"), ("x", "output", "TYPE_FP16"),
    ]  # fmt: skip
    assert len(texts(to_svg(graph))) == 1 + 4 + 2 + 4, "the heading, the model, its names, the tensors"


def test_a_tensor_that_nobody_declares_and_one_that_nobody_writes(tmp_path: Path) -> None:
    write(tmp_path, "e", ensemble(row("output", "Y"), step("gone", {"x": "T"}, {"y": "Z"})))
    graph = graph_of(tmp_path, "e")
    assert {t.name: t.type_text for t in graph.tensors.values()} == {
        "Y": "TYPE_FP32 [3, -1]", "T": "? ?", "Z": "? ?",
    }  # fmt: skip
    to_svg(graph), to_mermaid(graph)


def test_a_step_with_a_config_that_cannot_be_read_is_drawn_and_told(repository: Path) -> None:
    (repository / "resize" / "config.pbtxt").write_text("nonsense: 1")
    (repository / "inner" / "config.pbtxt").unlink()
    graph = graph_of(repository, "e")
    assert [step.known for step in graph.steps] == [False, False, False, True]
    assert "resize/config.pbtxt:1:1" in graph.notes[2]
    assert f"it has no config.pbtxt in {repository}" in graph.notes[0]


@pytest.mark.parametrize(
    ("model", "config", "error", "words"),
    [
        ("ee", "", ProjectError, "model 'ee' is not in "),
        ("m", None, ProjectError, "model 'm' has no config.pbtxt in "),
        ("m", "nonsense: 1", ConfigError, "m/config.pbtxt:1:1"),
        ("m", ensemble("", step("a", {"x": "T"}, {"y": "T"})), ConfigError, "the steps 'a' of ensemble 'm' wait for"),
    ],
    ids=["no model", "no config", "no ModelConfig", "a cycle"],
)
def test_what_cannot_be_drawn(tmp_path: Path, model: str, config: str | None, error: type, words: str) -> None:
    (tmp_path / "m").mkdir()
    if config is not None:
        (tmp_path / "m" / "config.pbtxt").write_text(config)
    with pytest.raises(error, match=re.escape(words)):
        graph_of(tmp_path, model)


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="there is no model repository at"):
        graph_of(tmp_path / "no", "m")


# -- SVG


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_an_svg_says_it_all_and_reads_strange_names_back(repository: Path) -> None:
    svg = to_svg(graph_of(repository, "e"))
    shown = texts(svg)
    for text in ("e: an ensemble, max_batch_size 4", "resize", "version 3", "TYPE_INT64 [2]", STRANGE, "<&>", "?"):
        assert text in shown
    assert shown.count(STRANGE) == 3, "a model, a tensor, an output's own name"
    assert "<b>" not in svg


def test_names_that_no_xml_can_hold(tmp_path: Path) -> None:
    write(tmp_path, "m", 'backend: "b" input { name: "x\\001\\ny" data_type: TYPE_FP32 dims: 1 }')
    graph = graph_of(tmp_path, "m")
    assert "x\ufffd\ufffdy" in texts(to_svg(graph))
    assert "x#65533;#65533;y" in to_mermaid(graph)


def test_a_long_name_is_cut_and_whole_in_the_tooltip(tmp_path: Path) -> None:
    long = "a_name_" * 12
    write(tmp_path, long, f'backend: "b" {row("input", "x")}')
    svg = to_svg(graph_of(tmp_path, long))
    titles = [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert any(long in title for title in titles[1:])
    assert long not in texts(svg)
    assert "a_name_a_name_a_name…" in "".join(texts(svg))


# -- where everything stands

NAMES = st.sampled_from(["x", "probabilities", "ö日本語", "a_rather_long_name_of_a_tensor"])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Steps that read any tensors before them; some that nobody reads, some that nobody writes."""
    tensors = {f"t{i}": f"{draw(NAMES)}_{i}" for i in range(draw(st.integers(1, 3)))}
    inputs = set(tensors)
    steps, written = [], set()
    for index in range(draw(st.integers(0, 7))):
        read = draw(st.lists(st.sampled_from(sorted(tensors)), max_size=4, unique=True))
        made = [f"s{index}_{i}" for i in range(draw(st.integers(0, 3)))]
        tensors |= {key: f"{draw(NAMES)}_{key}" for key in made}
        written |= set(made)
        names = {f"{draw(NAMES)}{i}": key for i, key in enumerate(read)}
        steps.append(Step(f"model_{index}", "latest", "b", 1, names, {f"out{i}": key for i, key in enumerate(made)}))
    outputs = draw(st.sets(st.sampled_from(sorted(written)))) if written else set()
    roles = {key: "input" if key in inputs else "output" if key in outputs else "inner" for key in tensors}
    return Graph("g", "g", tuple(steps), {k: Tensor(k, n, "TYPE_FP32", (1,), roles[k]) for k, n in tensors.items()})


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x, box.y, box.x + box.width, box.y + box.height


def is_apart(one: Box, other: Box) -> bool:
    a, b = corners(one), corners(other)
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def drawn(line: Line) -> list[tuple[float, float]]:
    """Points of a line as the SVG bends it."""
    found = []
    for (x, y), (to_x, to_y) in pairwise(line.points):
        for part in range(21):
            t = part / 20
            middle = (x + to_x) / 2
            curve = [(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3]
            found.append((
                sum(c * p for c, p in zip(curve, (x, middle, middle, to_x), strict=True)),
                sum(c * p for c, p in zip(curve, (y, y, to_y, to_y), strict=True)),
            ))  # fmt: skip
    return found


@given(graphs())
def test_boxes_are_apart_and_no_line_runs_through_one(graph: Graph) -> None:
    placed = layout(graph)
    assert len(placed.boxes) == len(graph.steps) + len(graph.tensors)
    for one, other in combinations(placed.boxes, 2):
        assert is_apart(one, other), (one, other)
    for box in placed.boxes:
        left, top, right, bottom = corners(box)
        assert left >= -0.01
        assert top >= -0.01
        assert right <= placed.width + 0.01
        assert bottom <= placed.height + 0.01
        for line in placed.lines:
            inside = [(x, y) for x, y in drawn(line) if left + 0.5 < x < right - 0.5 and top - 1 < y < bottom + 1]
            assert not inside, (box.tooltip, line)
    ends = sum(len(step.inputs) + len(step.outputs) for step in graph.steps)
    assert len(placed.lines) == ends
    for line in placed.lines:
        xs = [x for x, _ in line.points]
        assert xs == sorted(xs), "from left to right"


@given(graphs())
def test_texts_are_inside_their_boxes_and_apart(graph: Graph) -> None:
    for box in layout(graph).boxes:
        areas = []
        for text in box.texts:
            left = text.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[text.anchor] * text.width
            area = (left, text.y - text.size * 0.75, left + text.width, text.y + text.size * 0.2)
            assert area[0] >= 4
            assert area[2] <= box.width - 4
            assert area[1] >= 2
            assert area[3] <= box.height - 2
            areas.append(area)
        for a, b in combinations(areas, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], box.tooltip


@given(graphs())
def test_any_graph_is_an_svg_and_a_flowchart(graph: Graph) -> None:
    assert ElementTree.fromstring(to_svg(graph)).tag == f"{SVG}svg"
    check_mermaid(to_mermaid(graph))


def test_a_graph_of_chained_steps_is_one_level_line() -> None:
    tensors = {str(i): Tensor(str(i), str(i), "TYPE_FP32", (1,), "inner") for i in range(4)}
    steps = tuple(Step(f"m{i}", "latest", "b", 1, {"x": str(i)}, {"y": str(i + 1)}) for i in range(3))
    heights = {round(y, 3) for line in layout(Graph("g", "g", steps, tensors)).lines for _, y in line.points}
    assert len(heights) == 1


# -- Mermaid

TEXT = r"(?:[\w ./:,()=?-]|#\d+;|<br/>)*"
LINES = (
    r"flowchart LR",
    rf'  [ts]\d+\(?\["{TEXT}"\]\)?:::(?:input|output|step|unknown)',
    rf'  [ts]\d+ -->\|"{TEXT}"\| [ts]\d+',
    r"  classDef \w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}(?:,stroke-dasharray:5 3)?",
)


def check_mermaid(text: str) -> None:
    """Each line is one of the four that Mermaid was seen to read (its own parser needs Node.js)."""
    for line in text.splitlines():
        assert any(re.fullmatch(form, line, flags=re.ASCII) for form in LINES), line


def labels(text: str) -> list[str]:
    """The texts between quotes, as Mermaid shows them."""
    return [html.unescape(re.sub(r"#(\d+);", r"&#\1;", found)) for found in re.findall(r'"([^"]*)"', text)]


def test_a_flowchart_has_tensors_on_its_arrows(repository: Path) -> None:
    text = to_mermaid(graph_of(repository, "e"))
    check_mermaid(text)
    shown = labels(text)
    assert f"{STRANGE} as <&><br/>TYPE_FP32 [3, -1]" in shown
    assert "image as x<br/>TYPE_FP32 [3, -1]" in shown
    assert "gone<br/>?<br/>version latest<br/>max_batch_size ?" in shown
    assert text.count("-->") == 6


@pytest.mark.parametrize("name", ["a`b`", "#35;", "[x](y)", "1. x", "- x", "a|b", "%% c", "end", "ä", '"', "*b* _i_"])
def test_names_that_mean_something_to_mermaid(tmp_path: Path, name: str) -> None:
    write(tmp_path, "m", f'backend: "b" {row("input", name)}')
    text = to_mermaid(graph_of(tmp_path, "m"))
    check_mermaid(text)
    assert f"{name}<br/>TYPE_FP32 [3, -1]" in labels(text)


# -- the command


def graph(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", "repo", "graph", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def test_the_command(repository: Path, tmp_path: Path) -> None:
    result = graph("e", "--repository", repository)
    assert result.returncode == 0
    assert result.stdout == to_svg(graph_of(repository, "e"))
    assert result.stderr.startswith("step 'gone' is drawn with question marks: ")
    result = graph("e", "--repository", repository, "--format", "mermaid", "--output", tmp_path / "new" / "e.mmd")
    assert (result.returncode, result.stdout) == (0, "")
    assert (tmp_path / "new" / "e.mmd").read_text() == to_mermaid(graph_of(repository, "e"))
    rows = json.loads(graph("e", "--repository", repository, "--json").stdout)
    assert rows["steps"][0]["model"] == "resize"


def test_mistakes(repository: Path) -> None:
    result = graph("inne", "--repository", repository)
    assert (result.returncode, "did you mean 'inner'?" in result.stderr) == (2, True)
    result = graph("e", "--repository", repository, "--output", repository)
    assert (result.returncode, f"--output {repository} cannot be written" in result.stderr) == (2, True)


def test_the_sample_is_the_project_s() -> None:
    result = graph("digits_pipeline", "--format", "mermaid", cwd=ROOT)
    assert result.returncode == 0
    assert 'probabilities as scores<br/>TYPE_FP32 #91;10#93;"| s2' in result.stdout
