# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What kubectl makes of the kustomize folder is exactly what the plans say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy_matrix import MATRIX
from deploy_objects import Key, parsed, planned, plans_of
from deploy_tools import program, run, write_all
from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.kubernetes import kustomize
from trtkit.deploy.kubernetes.kustomize import _operations
from trtkit.deploy.planned import Plan


def kustomized(folder: Path) -> dict[Key, dict[str, Any]]:
    return parsed(run(program("kubectl"), "kustomize", folder))


@pytest.mark.parametrize("row", MATRIX)
def test_a_base_and_its_overlays_give_exactly_the_planned_objects(row: str, tmp_path: Path) -> None:
    plans = dict(plans_of(row))
    base = plans.pop("")
    write_all(kustomize.files(base, plans), tmp_path)
    assert kustomized(tmp_path / "base") == planned(base)
    for environment, plan in plans.items():
        assert kustomized(tmp_path / "overlays" / environment) == planned(plan)


def test_any_row_as_the_environment_of_any_other(tmp_path: Path) -> None:
    """Every kind of object is added, removed and changed: a ring over the whole matrix."""
    rows = [row for row in MATRIX if row != "environments"]
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        plan = _as_environment(plans_of(other)[""], "other")
        folder = write_all(kustomize.files(plans_of(row)[""], {"other": plan}), tmp_path / row)
        assert kustomized(folder / "overlays" / "other") == planned(plan), f"{row} with {other}"


@pytest.mark.parametrize("row", ["cpu", "hpa", "keda", "gateway_existing", "s3_identity", "kserve"])
@pytest.mark.parametrize(
    "change", [{"namespace": "elsewhere"}, {"name": "others"}, {"name": "others", "namespace": "o"}]
)
def test_an_environment_with_another_namespace_or_name(row: str, change: dict[str, str], tmp_path: Path) -> None:
    base = plans_of(row)[""]
    spec = base.spec.model_copy(update={key: value for key, value in change.items() if key == "namespace"})
    plan = _as_environment(replace(base, spec=spec, name=change.get("name", base.name)), "other")
    folder = write_all(kustomize.files(base, {"other": plan}), tmp_path)
    assert kustomized(folder / "overlays" / "other") == planned(plan)


def test_another_namespace_is_one_line() -> None:
    base = plans_of("cpu")[""]
    plan = _as_environment(replace(base, spec=base.spec.model_copy(update={"namespace": "elsewhere"})), "other")
    overlay = yaml.safe_load(kustomize.files(base, {"other": plan})["overlays/other/kustomization.yaml"])
    assert overlay["namespace"] == "elsewhere"
    assert not [patch for patch in overlay["patches"] if "kind: Namespace" in patch.get("patch", "")]


def test_an_environment_without_a_difference_is_the_base() -> None:
    base = plans_of("cpu")[""]
    files = kustomize.files(base, {"same": _as_environment(base, "same")})
    assert [name for name in files if name.startswith("overlays/")] == ["overlays/same/kustomization.yaml"]


def test_a_patched_figure_keeps_its_reason(tmp_path: Path) -> None:
    patch = kustomize.files(plans_of("environments")[""], {"staging": plans_of("environments")["staging"]})
    (text,) = [text for name, text in patch.items() if name == "overlays/staging/deployment-digits.patch.yaml"]
    lines = text.splitlines()
    line = lines[lines.index("  path: /spec/replicas") + 1]
    assert line.startswith("  value: 1  # ")
    write_all(patch, tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "~/", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab~/"), inner, max_size=3),
    max_leaves=12,
)


@given(before=st.dictionaries(st.sampled_from("abc"), VALUES), after=st.dictionaries(st.sampled_from("abc"), VALUES))
def test_the_operations_turn_one_object_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Applied by a second implementation of RFC 6902, which knows only what the operations say."""
    # an object is never empty, and only a whole document has no path
    before, after = {**before, "kind": "A"}, {**after, "kind": Noted("A", "noted")}
    result = plain(before)
    for operation in _operations("", before, after):
        result = apply(result, operation)
    assert repr(sorted_deep(result)) == repr(sorted_deep(plain(after)))


def apply(document: Any, operation: dict[str, Any]) -> Any:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key = int(last) if isinstance(place, list) else last
    if operation["op"] != "add":
        assert place[key] is not ...  # it has to be there
    if operation["op"] == "remove":
        del place[key]
    else:
        place[key] = plain(operation["value"])
    return document


def sorted_deep(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, sorted_deep(item)) for key, item in value.items())
    return [sorted_deep(item) for item in value] if isinstance(value, list) else value


def _as_environment(plan: Plan, name: str) -> Plan:
    return replace(plan, environment=name)
