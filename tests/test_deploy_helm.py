# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: rendered by Helm itself, it gives exactly the objects of each environment's plan."""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy_matrix import MATRIX, MODELS, deploy_project
from deploy_objects import keyed, parsed, planned, plans_of
from deploy_tools import write_all
from trtkit.deploy.kubernetes.helm import chart
from trtkit.deploy.kubernetes.helm.collected import Hole, Values, difference, file_of
from trtkit.deploy.kubernetes.helm.lists import identities, union
from trtkit.deploy.kubernetes.helm.merging import Merging, merge
from trtkit.deploy.kubernetes.helm.text import template
from trtkit.deploy.plan import make_plans
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
Objects = dict[tuple[str, str, str], dict[str, Any]]


def files_of(plans: Mapping[str, Plan]) -> dict[str, str]:
    return chart.files(plans[""], {name: plan for name, plan in plans.items() if name})


def rendered(folder: Path, values: dict[str, Any], namespace: str) -> Objects:
    """What `helm template` gives, without the notes."""
    texts = helm.Chart.load(folder).render(values, name="release", namespace=namespace)
    parts = [text for name, text in texts.items() if not name.endswith("NOTES.txt")]
    return keyed(item for text in parts for item in parsed(text).values())


def values_of(folder: Path, environment: str) -> dict[str, Any]:
    text = (folder / f"values-{environment}.yaml").read_text() if environment else ""
    return yaml.safe_load(text) or {}


def wanted(plan: Plan) -> Objects:
    """A plan's objects but for those that are there before: the Namespace, and the claim that upload.sh makes."""
    return {key: item for key, item in planned(plan).items() if key[0] not in chart.BEFORE}


def assert_exact(folder: Path, plans: Mapping[str, Plan]) -> None:
    write_all(files_of(plans), folder)
    report = helm.lint(folder, strict=True, namespace="triton")
    assert not report["errors"]
    assert not [message for message in report["messages"] if message["severity"] > 1]
    for environment, plan in plans.items():
        found, expected = rendered(folder, values_of(folder, environment), plan.namespace), wanted(plan)
        assert found.keys() == expected.keys()
        for key, item in expected.items():
            assert found[key] == item, f"{environment}: {key}"


@pytest.mark.parametrize("row", MATRIX)
def test_each_environment_is_rendered_exactly(tmp_path: Path, row: str) -> None:
    plans = plans_of(row)
    assert_exact(tmp_path / plans[""].name, plans)


DIFFERENT: dict[str, dict[str, Any]] = {
    "places": {
        "a": {"namespace": "other", "labels": {"team": "vision"}},
        "b": {"name": "numbers", "namespace": "triton"},
    },
    "storage": {
        "bucket": {"storage": {"kind": "s3", "uri": "s3://m/d", "region": "eu-west-1", "secret": "keys"}},
        "identity": {
            "storage": {"kind": "gcs", "uri": "gs://m/d", "identity": "triton@p.iam.gserviceaccount.com"}
        },
        "claim": {"storage": {"claim": "shared", "path": "digits"}},
        "baked": {"storage": {"kind": "baked"}, "registry": "registry.example.com:5000/team/digits"},
    },
    "scaling": {
        "hpa": {"scaling": {"kind": "hpa", "max_replicas": 9}},
        "cpu": {"scaling": {"kind": "hpa", "metric": "cpu", "vpa": "Off"}},
        "keda": {"scaling": {"kind": "keda", "queue": {"name": "q"}}},
        "hours": {
            "scaling": {
                "kind": "keda", "max_replicas": 20,
                "cron": [{"start": "0 8 * * *", "end": "0 20 * * *", "replicas": 10}],
            }
        },
    },
    "exposure": {
        "ingress": {"exposure": {"kind": "ingress", "host": "a.example.com", "tls_secret": "tls"}},
        "plain": {"exposure": {"kind": "ingress", "host": "b.example.com", "requests_per_second": 5}},
        "gateway": {"exposure": {"kind": "gateway", "host": "c.example.com", "grpc": False}},
        "existing": {"exposure": {"kind": "gateway", "host": "d.example.com", "gateway": "public"}},
    },
    "versions": {
        "old": {"kube_version": "1.28", "image": "nvcr.io/nvidia/tritonserver:24.10-py3"},
        "new": {"kube_version": "1.36", "server": {"log_verbose": 1, "options": ["--buffer-manager-thread-count=2"]}},
        "few": {"models": ["echo"], "server": {"control_mode": "explicit", "strict": False}},
    },
    "monitoring": {
        "service": {"monitoring": {"kind": "servicemonitor", "labels": {"release": "kps"}, "interval_seconds": 30}},
        "none": {"monitoring": {"kind": "none"}},
        "strict": {"slo": {"latency_p99_ms": 20, "error_ratio": 0.002, "models": {"echo": {"queue_ms": 1}}}},
    },
    "hardware": {
        "gpu": {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}},
        "large": {"resources": {"cpu": "500m", "memory": "32Gi"}, "cluster": {"node_selector": {"pool": "a"}}},
    },
}  # fmt: skip
"""Environments that differ in as much as they can."""


@pytest.mark.parametrize("what", DIFFERENT)
def test_whatever_differs_becomes_a_value(tmp_path: Path, what: str) -> None:
    block = {"target": "cpu", "environments": DIFFERENT[what]}
    base, environments = make_plans(deploy_project(tmp_path / "project", block, MODELS["several_models"]))
    assert_exact(tmp_path / base.name, {"": base, **environments})


def test_the_namespace_is_the_releases(tmp_path: Path) -> None:
    plans = plans_of("keda")
    folder = write_all(files_of(plans), tmp_path / "digits")
    moved = rendered(folder, {}, "elsewhere")
    assert {namespace for kind, namespace, _ in moved if kind != "PriorityClass"} == {"elsewhere"}
    assert {name for kind, _, name in moved if kind == "PriorityClass"} == {"elsewhere-digits"}
    query = moved["ScaledObject", "elsewhere", "digits"]["spec"]["triggers"][0]["metadata"]["query"]
    assert 'namespace="elsewhere"' in query
    rules = json.dumps(moved["PrometheusRule", "elsewhere", "digits"])
    assert "elsewhere" in rules
    assert 'namespace=\\"triton' not in rules


@pytest.fixture(scope="module")
def hpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(files_of(plans_of("hpa")), tmp_path_factory.mktemp("chart") / "digits")


def test_the_usual_values_do_what_they_say(hpa: Path) -> None:
    values = {
        "image": {"repository": "registry.example.com/triton", "tag": "25.02-py3"},
        "autoscaling": {"minReplicas": 3, "maxReplicas": 30, "targetAverageValue": "5"},
        "resources": {"limits": {"memory": "9Gi"}},
        "networkPolicy": {"enabled": False},
    }
    found = rendered(hpa, values, "triton")
    pod = found["Deployment", "triton", "digits"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.com/triton:25.02-py3"
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "9Gi"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1  # of the chart's own values
    spec = found["HorizontalPodAutoscaler", "triton", "digits"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 30)
    assert spec["metrics"][0]["pods"]["target"]["averageValue"] == "5"
    assert not [key for key in found if key[0] == "NetworkPolicy"]


def test_what_the_plan_does_without_can_be_given_by_hand(tmp_path: Path) -> None:
    folder = write_all(files_of(plans_of("hpa_cpu")), tmp_path / "digits")
    offered = {
        "nodeSelector": {"pool": "a"}, "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "imagePullSecrets": [{"name": "registry"}],
    }  # fmt: skip
    plain = rendered(folder, {}, "triton")["Deployment", "triton", "digits"]["spec"]
    assert not (offered.keys() | {"replicas"}) & (plain.keys() | plain["template"]["spec"].keys())
    values = {**offered, "replicaCount": 4, "autoscaling": {"enabled": False}}
    found = rendered(folder, values, "triton")
    assert not [key for key in found if key[0] == "HorizontalPodAutoscaler"]
    spec = found["Deployment", "triton", "digits"]["spec"]
    assert spec["replicas"] == 4
    assert {key: spec["template"]["spec"][key] for key in offered} == offered


def test_the_claim_that_the_upload_makes_is_not_the_releases(tmp_path: Path) -> None:
    """Helm refuses to install over an object that kubectl made, and the models have to be there before the pods."""
    folder = write_all(files_of(plans_of("cpu")), tmp_path / "digits")
    assert ("PersistentVolumeClaim", "triton", "digits-models") in planned(plans_of("cpu")[""])
    texts = helm.Chart.load(folder).render({}, name="release", namespace="triton")
    objects = {name: text for name, text in texts.items() if not name.endswith("NOTES.txt")}
    assert not [name for name, text in objects.items() if "kind: PersistentVolumeClaim" in text]
    (notes,) = [text for name, text in texts.items() if name.endswith("NOTES.txt")]
    assert "PersistentVolumeClaim digits-models, which is not part of the release" in notes
    assert "upload.sh" in notes


WRONG: dict[str, dict[str, Any]] = {
    "a word for a number": {"autoscaling": {"minReplicas": "three"}},
    "a negative number": {"autoscaling": {"maxReplicas": -1}},
    "no pods at all": {"autoscaling": {"minReplicas": 0}},
    "a number for a switch": {"networkPolicy": {"enabled": 1}},
    "an unknown key": {"replicas": 3},
    "an unknown key further in": {"autoscaling": {"min": 3}},
    "no quantity": {"resources": {"limits": {"memory": "9 GB"}}},
    "an unknown part of resources": {"resources": {"limit": {"memory": "9Gi"}}},
    "an unknown pull policy": {"image": {"pullPolicy": "Sometimes"}},
    "no digest": {"repository": {"digest": "latest"}},
    "an unknown effect": {"tolerations": [{"key": "a", "effect": "Never"}]},
    "a mapping for a list": {"tolerations": {"key": "a"}},
    "a list for a mapping": {"strategy": ["Recreate"]},
    "an unknown strategy": {"strategy": {"type": "BlueGreen"}},
    "half a pod": {"strategy": {"rollingUpdate": {"maxSurge": 0.5}}},
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused(hpa: Path, values: dict[str, Any]) -> None:
    loaded = helm.Chart.load(hpa)
    with pytest.raises(helm.HelmValuesError):
        loaded.validate_schema(values)
    assert helm.lint(hpa, values, namespace="triton")["errors"]


def test_right_values_are_taken(hpa: Path) -> None:
    loaded = helm.Chart.load(hpa)
    loaded.validate_schema({})
    loaded.validate_schema({"global": {"anything": 1}})
    loaded.validate_schema({"strategy": {"rollingUpdate": {"maxSurge": "25%"}}, "tolerations": []})


def test_the_schema_is_one(hpa: Path) -> None:
    jsonschema.Draft7Validator.check_schema(json.loads((hpa / "values.schema.json").read_text()))


def test_what_an_environment_does_not_change_is_not_in_its_file(tmp_path: Path) -> None:
    folder = write_all(files_of(plans_of("environments")), tmp_path / "digits")
    production = values_of(folder, "production")
    assert production["autoscaling"] == {"enabled": True}
    assert production["replicaCount"] is None
    assert "resources" not in production
    assert "image" not in production


def test_the_reasons_stand_beside_the_values(hpa: Path) -> None:
    text = (hpa / "values.yaml").read_text()
    plan = plans_of("hpa")[""]
    assert f'memory: "{plan.memory.host.whole}Mi"  # {plan.memory.host.why}' in text
    assert plan.rollout.max_surge.why in text


def test_the_chart_says_what_it_is(hpa: Path) -> None:
    metadata = helm.Chart.load(hpa).metadata
    assert (metadata["name"], metadata["apiVersion"], metadata["type"]) == ("digits", "v2", "application")
    assert metadata["kubeVersion"] == ">=1.30.0-0"
    assert Path(helm.Chart.load(hpa).save(hpa.parent)).is_file()  # Helm takes the version for one


def test_another_template_is_another_version(hpa: Path) -> None:
    one = helm.Chart.load(hpa).metadata["version"]
    other = yaml.safe_load(files_of(plans_of("cpu"))["Chart.yaml"])["version"]
    assert one != other


def test_the_notes_name_what_can_be_tried(hpa: Path) -> None:
    texts = helm.Chart.load(hpa).render({}, name="release", namespace="elsewhere")
    (notes,) = [text for name, text in texts.items() if name.endswith("NOTES.txt")]
    assert "kubectl -n elsewhere rollout status deployment/digits" in notes
    assert plans_of("hpa")[""].digest[:12] in notes
    assert "{{" not in notes


# any objects

_WORDS = [
    "", "a", "2048Mi", "yes", "1", "0.5", "{{ $labels.model }}", "a: b", "# no", "--flag=3", "x y", 'q"q', "'", "é",
    'namespace="one"', "one", "a\nb: c\n", "- x", "{{", "}}", "tab\there", "http://a:1/b", "null", "~", "<a>&",
]  # fmt: skip
_PRINTABLE = "".join(sorted(set(string.printable) - set("\r\x0b\x0c")))
# = and << alone mean something in YAML 1.1, to PyYAML at least; Helm writes them without quotes
_TEXT = st.one_of(
    st.sampled_from(_WORDS), st.text(_PRINTABLE, max_size=12).filter(lambda text: text not in ("=", "<<"))
)
_SCALAR = st.one_of(_TEXT, st.integers(-5, 2**40), st.booleans(), st.sampled_from([0.5, 67108864.5]))
_KEY = st.sampled_from(["alpha", "beta", "gamma", "delta.io/x", "name", "enabled"])


def _deeper(child: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.builds(lambda name, rest: {**rest, "name": name}, st.sampled_from("abc"), st.dictionaries(_KEY, child))
    return st.one_of(st.dictionaries(_KEY, child, max_size=4), st.lists(child, max_size=3), st.lists(named, max_size=3))


_OBJECT = st.dictionaries(_KEY, st.recursive(_SCALAR, _deeper, max_leaves=8), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_OBJECT, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_any_objects_are_rendered_exactly(variants: list[dict[str, Any]], random: Any) -> None:
    if len(variants) == 3:  # variants of real life are much alike
        variants[2] = {**variants[0], **{key: variants[1][key] for key in variants[1] if random.random() < 0.5}}
    values = Values(len(variants))
    merging = Merging("Thing", "", values, list, {}, lambda name, texts: Hole(""))
    tree = merge(merging, [{"body": variant} for variant in variants])
    base = file_of(values, 0)
    with tempfile.TemporaryDirectory() as folder:
        chart_files = {
            "Chart.yaml": "apiVersion: v2\nname: thing\nversion: 0.1.0\n",
            "values.yaml": dump(base),
            "templates/thing.yaml": template(tree, values.holes, None),
        }
        loaded = helm.Chart.load(write_all(chart_files, Path(folder) / "thing"))
        for index, variant in enumerate(variants):
            overrides = yaml.safe_load(dump(difference(base, file_of(values, index)))) or {}
            (text,) = loaded.render(overrides, namespace="one").values()
            assert yaml.safe_load(text) == {"body": variant}, text


_NAMES = st.lists(st.sampled_from("abcdef"), max_size=6, unique=True)


@given(st.lists(_NAMES, min_size=1, max_size=3))
def test_a_union_has_every_row_in_its_order_or_there_is_none(rows: list[list[str]]) -> None:
    found = union(rows)
    if found is not None:
        assert set(found) == {name for row in rows for name in row}
        assert len(set(found)) == len(found)
        assert all([name for name in found if name in row] == row for row in rows)
    elif len(rows) == 1:
        pytest.fail("one row cannot contradict itself")


def test_items_are_told_apart_by_name_else_by_place() -> None:
    assert identities([{"name": "a"}, {"name": "b"}, {"name": "a"}]) == ["[a]", "[b]", "[a 2]"]
    assert identities([{"alert": "A"}, {"record": "r"}]) == ["[A]", "[r]"]
    assert identities([{"name": "a"}, {}]) == ["[0]", "[1]"]
    assert union([["a", "b"], ["b", "a"]]) is None
    assert union([["a", "c"], ["a", "b", "c"]]) == ["a", "b", "c"]
