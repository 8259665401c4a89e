# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules about TensorRT plans: what is read of them, hostile engine.json files, and what must not be said."""

from __future__ import annotations

import copy
import io
import json
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lint_repositories import findings
from trtkit.lint.finding import Finding
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Entry, LocalTree

OWN = [each for each in RULES if each.category == "PLN"]
CASES = Path(__file__).parent / "lint"
GOOD = CASES / "PLN010_larger_batches_than_the_profile" / "right" / "m"
MANIFEST: dict[str, Any] = json.loads((GOOD / "1" / "engine.json").read_text())
CONFIG = (GOOD / "config.pbtxt").read_text()


def lint(repository: Path, **facts: Any) -> list[Finding]:
    return findings(repository, OWN, ServerFacts(**facts))


def write(repository: Path, config: str = CONFIG, manifest: Any = MANIFEST) -> Path:
    """A model `m` with a plan of TensorRT 10.13.3.9 for batches of 1 to 8."""
    shutil.copytree(GOOD, repository / "m", dirs_exist_ok=True)
    (repository / "m" / "config.pbtxt").write_text(config)
    (repository / "m" / "1" / "engine.json").write_text(json.dumps(manifest))
    return repository


class HugePlan(LocalTree):
    """Plans of 2 GB, of which a reader may ask for what it likes, and what was asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0

    def entries(self, folder: str) -> list[Entry]:
        return [
            Entry(e.name, e.kind, 2 * 10**9 if e.name.endswith(".plan") else e.size) for e in super().entries(folder)
        ]

    def open(self, file: str) -> BinaryIO:
        if not file.endswith(".plan"):
            return super().open(file)
        with super().open(file) as stream:
            tree, content = self, stream.read()

        class Counting(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                tree.asked += 2 * 10**9 if size is None or size < 0 else size
                return super().read(size)

        return Counting(content)


def test_only_the_header_of_a_plan_is_read(tmp_path: Path) -> None:
    manifest = copy.deepcopy(MANIFEST)
    manifest["plan"]["byte_size"] = 2 * 10**9
    tree = HugePlan(write(tmp_path, manifest=manifest))
    assert findings_of(open_repository(tree, ServerFacts()), OWN) == []
    assert 0 < tree.asked <= 64


def test_the_servers_words_and_the_place(tmp_path: Path) -> None:
    text = CONFIG.replace("max_batch_size: 8", "max_batch_size: 16").replace(
        '"y" data_type: TYPE_FP32', '"y" data_type: TYPE_FP16'
    )
    found = lint(write(tmp_path, text))
    assert [(f.code, f.line, f.column) for f in found] == [("PLN010", 2, 1), ("PLN014", 4, 20)]
    assert found[0].message.startswith(
        "configuration specified max-batch 16 but TensorRT engine only supports max-batch 8"
    )
    assert found[1].message.startswith(
        "unexpected datatype TYPE_FP32 for inference output 'y', expecting TYPE_FP16 for m"
    )
    assert [f.fix.description for f in found if f.fix] == ["set max_batch_size: 8", "set data_type: TYPE_FP32"]


@pytest.mark.parametrize(
    "block",
    [
        'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "z" data_type: TYPE_FP32 source_input: "x" }',
        'sequence_batching { control_input { name: "z" control { kind: CONTROL_SEQUENCE_START } } }',
        'sequence_batching { state { input_name: "z" output_name: "w" data_type: TYPE_FP32 dims: [ 4 ] } }',
    ],
)
def test_tensors_that_the_server_fills_need_no_input(block: str, tmp_path: Path) -> None:
    manifest = copy.deepcopy(MANIFEST)
    manifest["io"].append({"name": "z", "dtype": "FP32", "shape": [-1, 4], "mode": "input", "sizes": False})
    assert [f.code for f in lint(write(tmp_path, manifest=manifest))] == ["PLN013"]
    assert lint(write(tmp_path, f"{CONFIG}{block}\n", manifest)) == []


def test_a_config_without_tensors_is_completed_from_the_engine(tmp_path: Path) -> None:
    write(tmp_path, 'backend: "tensorrt"\nmax_batch_size: 8\n')
    assert lint(tmp_path) == []
    strict = lint(tmp_path, flags=("--disable-auto-complete-config",))
    assert [f.code for f in strict] == ["PLN013", "PLN013"]


def test_what_is_in_an_unknown_image_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path)
    assert lint(tmp_path) == []
    assert lint(tmp_path, image="registry.example/my-triton:latest") == []
    assert [f.code for f in lint(tmp_path, image="nvcr.io/nvidia/tritonserver:24.08-py3")] == ["PLN003"]


def test_a_version_compatible_plan_and_the_flags(tmp_path: Path) -> None:
    manifest = {**MANIFEST, "options": {"version_compatible": True}}
    write(tmp_path, manifest=manifest)
    newer = {"image": "nvcr.io/nvidia/tritonserver:25.11-py3"}
    assert lint(tmp_path, **newer) == []
    assert [f.code for f in lint(tmp_path, flags=(), **newer)] == ["PLN005"]
    assert lint(tmp_path, flags=("--backend-config=tensorrt,version-compatible=true",), **newer) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROW = st.fixed_dictionaries(
    {"name": JSON | st.just("x"), "dtype": JSON | st.just("FP32"), "shape": JSON | st.lists(st.integers(), max_size=3)},
    optional={"mode": JSON | st.sampled_from(["input", "output"]), "sizes": JSON},
)
SIZES = st.lists(st.integers(-2, 2**70), max_size=3)
PROFILE = st.dictionaries(
    st.sampled_from(["x", "q"]), JSON | st.fixed_dictionaries({"min": SIZES, "opt": SIZES, "max": SIZES}), max_size=2
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(changes={"tensorrt_version": ""})
@example(changes={"plan": {"byte_size": True}})
@example(changes={"profiles": [{"x": {"min": [], "opt": [], "max": []}}]})
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(MANIFEST, JSON),
            "io": JSON | st.lists(ROW | JSON, max_size=3),
            "profiles": JSON | st.lists(PROFILE | JSON, max_size=3),
            "plan": JSON | st.fixed_dictionaries({"byte_size": JSON}),
        },
    )
)
def test_a_hostile_engine_json_is_a_finding_at_most(changes: dict[str, Any], tmp_path: Path) -> None:
    config = CONFIG + 'optimization { cuda { graph_spec { batch_size: 4 input { key: "x" value { dim: 4 } } } } }\n'
    grouped = 'instance_group { profile: [ "0", "1", "٣", "99999999999999999999" ] }\n'
    batching = "dynamic_batching { preferred_batch_size: [ 4 ] }\n"
    write(tmp_path, config + grouped + batching, {**MANIFEST, **changes})
    lint(tmp_path, image="nvcr.io/nvidia/tritonserver:25.10-py3", flags=())


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), start=st.sampled_from([b"", b"ftrt", b"vtrt", b"ftrt" + bytes(20)]))
def test_any_bytes_as_a_plan(content: bytes, start: bytes, tmp_path: Path) -> None:
    (write(tmp_path) / "m" / "1" / "model.plan").write_bytes(start + content)
    lint(tmp_path, image="nvcr.io/nvidia/tritonserver:25.10-py3", flags=())
