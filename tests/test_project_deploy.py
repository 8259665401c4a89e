# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The `deploy:` block: environments on top of it, and what contradicts itself is one sentence with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy_matrix import MATRIX, matrix_project
from trtkit.errors import ProjectError
from trtkit.project import load_project
from trtkit.project.spec_deploy import merged


def complaint(folder: Path, text: str) -> str:
    (folder / "trtkit.yaml").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_project(folder / "trtkit.yaml")
    return str(caught.value)


WRONG = {
    "deploy: {gpus: 2}": "1:10: deploy.gpus: unknown key; did you mean 'gpu'?",
    "deploy: {slo: {models: {a: {p99: 3}}}}": "1:29: deploy.slo.models.a.p99: unknown key; available: error_ratio",
    "deploy: {scaling: {kind: keda, cron: [{begin: x}]}}": "deploy.scaling.cron.0.begin: unknown key; available: end",
    "deploy: {name: Digits}": "1:10: deploy.name: has to match pattern",
    "deploy: {name: a-name-that-is-longer-than-kubernetes-lets-a-name-with-a-suffix-be}": "1:10: deploy.name: has to",
    "deploy: {resources: {memory: 12GB}}": "deploy.resources.memory: has to match pattern",
    "deploy: {kube_version: 1.30}": "deploy.kube_version: ",
    "deploy: {gpu: {mig: 1g}}": "deploy.gpu.mig: has to match pattern",
    "deploy: {gpu: {mig: 1g.10gb, time_slicing: 2}}": "deploy.gpu: mig and time_slicing exclude each other",
    "deploy: {gpu: {mps: 2, time_slicing: 2}}": "deploy.gpu: time_slicing and mps exclude each other",
    "deploy: {storage: {kind: s3}}": "deploy.storage: storage s3 needs `uri: s3://…`, got none",
    "deploy: {storage: {kind: s3, uri: 'gs://a/b', region: x}}": "needs `uri: s3://…`, got gs://a/b",
    "deploy: {storage: {kind: s3, uri: 's3://a/b'}}": "storage s3 needs `region:`",
    "deploy: {storage: {kind: gcs, uri: 'gs://a/b', secret: k, identity: i}}": "secret and identity exclude each other",
    "deploy: {storage: {kind: pvc, uri: 's3://a/b'}}": "uri, secret and identity belong to buckets; storage is pvc",
    "deploy: {storage: {kind: baked, claim: x}}": "belong to storage pvc; storage is baked",
    "deploy: {storage: {access_mode: ReadOnlyMany}}": "could never be filled; name an existing `claim:`",
    "deploy: {exposure: {kind: gateway}}": "exposure by gateway needs a `host:`",
    "deploy: {scaling: {kind: keda, hpa: true}}": "hpa and keda exclude each other",
    "deploy: {scaling: {kind: hpa, cron: [{start: '0 8 * * *', end: '0 9 * * *', replicas: 2}]}}": "triggers of KEDA",
    "deploy: {scaling: {kind: hpa, min_replicas: 5}}": "min_replicas 5 is more than max_replicas 4",
    "deploy: {scaling: {kind: keda, min_replicas: 0}}": "min_replicas 0 cannot wake up again",
    "deploy: {rollout: {max_surge: 0, max_unavailable: 0}}": "no pod could ever be replaced",
    "deploy: {slo: {error_ratio: 1.5}}": "deploy.slo.error_ratio: ",
    "deploy: {server: {control_mode: polling}}": "deploy.server.control_mode: ",
    "deploy: 3": "1:1: deploy: takes the keys name, target, image",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_contradicts_itself_is_one_sentence_with_its_place(tmp_path: Path, text: str) -> None:
    sentence = complaint(tmp_path, text)
    assert WRONG[text] in sentence
    assert sentence.startswith("trtkit.yaml:1:")
    assert "\n" not in sentence


def test_a_mistake_in_an_environment_is_told_where_it_stands(tmp_path: Path) -> None:
    text = "deploy:\n  scaling: {kind: hpa}\n  environments:\n    prod:\n      scaling: {kind: keda, hpa: true}\n"
    assert complaint(tmp_path, text) == (
        "trtkit.yaml:5:7: deploy.scaling: hpa and keda exclude each other: KEDA makes an HPA of its own; leave hpa out "
        "(in environment 'prod')"
    )


def test_a_mistake_that_an_environment_only_completes_is_told_where_the_block_stands(tmp_path: Path) -> None:
    over = "  environments:\n    prod:\n      scaling: {kind: hpa, max_replicas: 2}\n"
    text = f"deploy:\n  scaling: {{min_replicas: 3}}\n{over}"
    assert complaint(tmp_path, text).startswith("trtkit.yaml:5:7: deploy.scaling: min_replicas 3 is more than")


def test_environments_do_not_nest(tmp_path: Path) -> None:
    text = "deploy:\n  environments:\n    prod:\n      environments: {a: {}}\n"
    assert complaint(tmp_path, text) == "trtkit.yaml:3:5: deploy.environments.prod: environments do not nest"


def test_an_environment_has_the_keys_of_the_block_and_its_own(tmp_path: Path) -> None:
    project = matrix_project(tmp_path, "environments")
    staging, production = project.environments["staging"], project.environments["production"]
    assert (staging.gpu.product, staging.gpu.time_slicing, project.deploy.gpu.time_slicing) == ("NVIDIA-L40S", 2, None)
    assert (production.scaling.kind, project.deploy.scaling.kind) == ("hpa", "none")
    assert (staging.namespace, production.namespace) == ("triton-staging", "triton")
    assert staging.environments == {}


def test_null_takes_a_key_of_the_block_away(tmp_path: Path) -> None:
    text = "deploy:\n  gpu: {product: NVIDIA-L40S, count: 2}\n  environments: {prod: {gpu: {product: null}}}\n"
    (tmp_path / "trtkit.yaml").write_text(text)
    gpu = load_project(tmp_path / "trtkit.yaml").environments["prod"].gpu
    assert (gpu.product, gpu.count) == (None, 2)


@pytest.mark.parametrize("name", MATRIX)
def test_every_row_of_the_matrix_is_a_project(tmp_path: Path, name: str) -> None:
    assert matrix_project(tmp_path, name).deploy.target == MATRIX[name]["target"]


BLOCKS = st.recursive(
    st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4)
).filter(lambda value: isinstance(value, dict))


@given(BLOCKS, BLOCKS)
def test_merging_keeps_what_is_not_named_and_is_idempotent(base: dict[str, object], over: dict[str, object]) -> None:
    once = merged(base, over)
    assert merged(once, over) == once
    assert {key: once[key] for key in base if key not in over} == {k: v for k, v in base.items() if k not in over}
    assert merged(base, {}) == base
