# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Run bundles: what is written is what is read, secrets stay out, and damage is one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from perf_results import STRANGE, measurement
from trtkit.errors import DataError, ProjectError
from trtkit.perf.loop.records import Records
from trtkit.perf.reports.bundle import FORMAT, VERSION, read_bundle, read_context, write_bundle
from trtkit.perf.reports.context import machine, model_files, run_context, server_command, versions, without_secrets
from trtkit.perf.statistics.runs import run_of

COLUMNS = ("intended_ns", "sent_ns", "first_ns", "last_ns", "outcome", "responses", "response_ns")


def same(left: Records, right: Records) -> bool:
    return left.failures == right.failures and all(
        np.array_equal(getattr(left, name), getattr(right, name)) for name in COLUMNS
    )


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "deep" / "bundle"
    write_bundle(folder, [measurement(error_share=0.1)], run_context(["trtkit", "perf"], seed=3))
    return folder


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    levels = [measurement(concurrency=1, model=STRANGE), measurement(responses=3, error_share=0.1), measurement(seed=2)]
    write_bundle(tmp_path / "new", levels, {"seed": 1})
    one, eight = read_bundle(tmp_path / "new")
    assert (one.label, eight.label) == ("concurrency 1", "concurrency 8")
    for run, level in zip([*one.runs, *eight.runs], levels, strict=True):
        expected = run_of(level)
        assert same(run.records, expected.records)
        assert (run.start_ns, run.end_ns, run.started_at) == (expected.start_ns, expected.end_ns, expected.started_at)
        assert (run.batch_size, run.stable) == (expected.batch_size, expected.stable)


def test_its_json_says_what_was_measured_and_with_what(bundle):
    value = read_context(bundle / "bundle.json")
    assert (value["format"], value["format_version"]) == (FORMAT, VERSION)
    assert value["seed"] == 3
    assert value["measurements"][0]["load"]["concurrency"] == 8
    assert value["measurements"][0]["latency"]["p99_ns"] > 0
    assert value["versions"]["python"] == sys.version.split()[0]
    assert sorted(path.name for path in bundle.iterdir()) == ["bundle.json", "records-1.npz"]
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_bundle_replaces_nothing(bundle, tmp_path):
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(ProjectError, match="exists already and a bundle replaces nothing"):
        write_bundle(bundle, [measurement()], {})
    assert (bundle / "bundle.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", [measurement()], {})
    assert read_bundle(tmp_path / "empty")


def test_a_bundle_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "bundle", [measurement()], {})
    with pytest.raises(TypeError):
        write_bundle(tmp_path / "bundle", [measurement()], {"seed": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def edited(bundle, **changes):
    value = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**value, **changes}))


def test_a_foreign_or_newer_file_is_one_sentence(bundle, tmp_path):
    with pytest.raises(DataError, match="is no bundle: .*does not exist; trtkit perf --bundle"):
        read_bundle(tmp_path / "nowhere")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DataError, match="is no bundle of trtkit perf"):
        read_bundle(tmp_path / "list.json")
    (tmp_path / "text.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="is damaged: it is no JSON"):
        read_bundle(tmp_path / "text.json")
    edited(bundle, format_version=VERSION + 1)
    with pytest.raises(DataError, match="upgrade trtkit"):
        read_bundle(bundle)
    edited(bundle, format="something else")
    with pytest.raises(DataError, match="is no bundle of trtkit perf"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "measurements",
    [None, 3, ["x"], [{}], [{"label": "a"}], [{"label": "a", "records": {}}], [{"label": "a", "records": None}]],
)
def test_measurements_that_are_damaged_are_one_sentence(bundle, measurements):
    edited(bundle, measurements=measurements)
    with pytest.raises(DataError, match="is damaged"):
        read_bundle(bundle)


def test_a_bundle_without_measurements_is_one_sentence(bundle):
    edited(bundle, measurements=[])
    with pytest.raises(DataError, match="holds no measurement"):
        read_bundle(bundle)


def test_records_that_are_damaged_are_one_sentence(bundle):
    file = bundle / "records-1.npz"
    whole = file.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], b"\x80\x04pickle", np.zeros(3).tobytes()):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"records-1.npz is damaged"):
            read_bundle(bundle)
    file.unlink()
    with pytest.raises(DataError, match=r"records-1.npz is missing"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"last_ns": np.zeros(3, np.int64)},
        {"last_ns": np.zeros((2, 2), np.int64)},
        {"last_ns": np.array(["x"])},
        {"last_ns": np.array([None])},
        {"outcome": None},
        {"outcome": 5},
        {"outcome": -1},
        {"response_ns": np.zeros(2, np.int64)},
    ],
)
def test_columns_that_do_not_fit_are_one_sentence(bundle, change):
    with np.load(bundle / "records-1.npz") as archive:
        columns = dict(archive)
    ((name, value),) = change.items()
    if value is None:
        del columns[name]
    else:
        columns[name] = np.full_like(columns[name], value) if isinstance(value, int) else value
    np.savez(bundle / "records-1.npz", **columns)
    with pytest.raises(DataError, match=r"records-1.npz is damaged"):
        read_bundle(bundle)


def test_the_records_file_is_always_one_of_the_bundle(bundle, tmp_path):
    (bundle / "records-1.npz").rename(tmp_path / "outside.npz")
    value = json.loads((bundle / "bundle.json").read_text())
    value["measurements"][0]["records"]["file"] = "../../outside.npz"
    edited(bundle, measurements=value["measurements"])
    with pytest.raises(DataError, match=r"outside.npz is missing in the bundle"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    "words",
    [
        ["--header", "Authorization: Bearer SECRET"],
        ["--header=Authorization: Bearer SECRET"],
        ["-H", "Authorization:SECRET"],
        ["-HAuthorization:SECRET"],
        ["-H", "SECRET"],
        ["--url", "https://me:SECRET@host:8000"],
        ["--url=https://SECRET@host:8000"],
        ["-H", "-H", "-H", "X: SECRET"],
    ],
)
def test_secrets_of_a_command_line_are_taken_out(words):
    shown = without_secrets(["trtkit", "perf", "digits", *words, "-c", "8"])
    assert "SECRET" not in " ".join(shown)
    assert shown[:3] == ["trtkit", "perf", "digits"]
    assert shown[-2:] == ["-c", "8"]


def test_what_is_no_secret_stays():
    words = ["trtkit", "perf", "digits", "--url", "https://host:8000", "--input-data", "a=b/@c"]
    assert without_secrets(words) == words
    assert without_secrets(["-H", "X-Id: 7"]) == ["-H", "X-Id: …"]


def test_the_machine_and_the_versions_are_known():
    found = machine()
    assert found["cores"] == os.cpu_count()
    assert found["memory_bytes"] is None or found["memory_bytes"] > 2**20
    assert json.loads(json.dumps(found)) == found
    assert {"trtkit", "python", "numpy"} <= versions().keys()


def test_the_command_of_a_process_of_this_machine_is_read():
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", script, "--header=X: SECRET"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        shown = server_command(process.pid)
        process.stdin.close()
    assert shown == [*words[:-1], "--header=X: …"]
    assert server_command(2**30) is None


def test_the_files_of_a_model_are_hashed(tmp_path):
    (tmp_path / "digits" / "1").mkdir(parents=True)
    (tmp_path / "digits" / "1" / "model.onnx").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert model_files(tmp_path / "digits") == {"1/model.onnx": digest}
    context = run_context([], seed=0, repository=tmp_path, model="digits", config={"name": "digits"})
    assert context["model"] == {"name": "digits", "config": {"name": "digits"}, "files": {"1/model.onnx": digest}}
    assert run_context([], seed=0, repository=tmp_path, model="../digits")["model"]["files"] is None
    assert model_files(tmp_path / "nowhere") is None
