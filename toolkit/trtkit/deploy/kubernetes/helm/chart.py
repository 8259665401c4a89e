# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A Helm chart that renders exactly the objects of each environment's plan, with values-ENVIRONMENT.yaml.

The templates are made from the same objects as the kustomization: what the environments share is written out, what they
differ in is a value, and so are the fields that people look for in a chart. The namespace is the release's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.helm.collected import Hole, Values, difference, file_of
from trtkit.deploy.kubernetes.helm.merging import Merging, merge
from trtkit.deploy.kubernetes.helm.names import camel, has_switch, object_name
from trtkit.deploy.kubernetes.helm.notes import notes
from trtkit.deploy.kubernetes.helm.schema import schema_of
from trtkit.deploy.kubernetes.helm.text import template
from trtkit.deploy.kubernetes.meta import Object
from trtkit.deploy.kubernetes.objects import objects
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump
from trtkit.images import parse_version

BEFORE = frozenset({"Namespace", "PersistentVolumeClaim"})
"""Kinds that are not in the chart: they are there before it, and Helm takes nothing over that it did not make.

Helm keeps the release in the namespace, and the script that uploads the models makes the claim that it fills.
"""
Key = tuple[str, str]
"""An object's kind and role, which is its name without the plan's."""


def files(base: Plan, environments: Mapping[str, Plan]) -> dict[str, str]:
    """The chart's files by relative path.

    Args:
        base: the plan of the block itself, which values.yaml has.
        environments: the plans of the environments, by name.
    """
    plans = [base, *environments.values()]
    values = Values(len(plans))
    values.add(("repository", "digest"), [Noted(plan.digest, "another one is a rollout") for plan in plans])
    variants = [_by_key(plan) for plan in plans]
    keys = list(dict.fromkeys(key for variant in variants for key in variant))
    names = ["", *environments]
    rendered: dict[str, str] = {}
    for key in keys:
        rendered |= _template(key, plans, [variant.get(key) for variant in variants], values, names)
    return {
        "Chart.yaml": _chart(base, plans, rendered),
        ".helmignore": _IGNORED,
        **_values_files(base, environments, values),
        "values.schema.json": json.dumps(schema_of(values, base.name), indent=2) + "\n",
        **rendered,
        "templates/NOTES.txt": notes(base),
    }


def _by_key(plan: Plan) -> dict[Key, Object]:
    found: dict[Key, Object] = {}
    for item in objects(plan):
        name = item["metadata"]["name"]
        role = name.removeprefix(f"{plan.namespace}-").removeprefix(plan.name).strip("-")
        if item["kind"] not in BEFORE:
            found[item["kind"], role] = item
    return found


def _template(
    key: Key, plans: list[Plan], row: list[Object | None], values: Values, names: list[str]
) -> dict[str, str]:
    """The template of an object, and the long texts that it gets from files."""
    kind, role = key
    there = [index for index, item in enumerate(row) if item is not None]
    switch = None
    if has_switch(kind, role) or len(there) < len(row):
        hole = values.add((object_name(kind, role), "enabled"), [item is not None for item in row])
        switch = hole.expression
    texts: dict[str, str] = {}

    def spread(present: list[Any]) -> list[Any]:
        known = dict(zip(there, present, strict=True))
        return [known.get(index, present[0]) for index in range(len(row))]

    def to_files(name: str, contents: list[str]) -> Hole:
        paths = []
        for index, text in zip(there, contents, strict=True):
            same = next((path for path, known in texts.items() if known == text), None)
            path = same or f"files/{'-'.join(part for part in (names[index], name) if part)}"
            texts[path] = text
            paths.append(path)
        if len(set(paths)) == 1:
            return Hole(f'.Files.Get "{paths[0]}"')
        return Hole(f".Files.Get {values.add((object_name(kind, role), 'file'), spread(paths)).expression}")

    merging = Merging(kind, role, values, spread, _shared([plans[index] for index in there]), to_files)
    tree = merge(merging, [row[index] for index in there])
    file = "-".join(part for part in (kind.lower(), role) if part)
    return {f"templates/{file}.yaml": template(tree, values.holes, switch), **texts}


def _shared(plans: list[Plan]) -> dict[tuple[str, ...], str]:
    digests = tuple(plan.digest for plan in plans)
    found = {
        tuple(plan.namespace for plan in plans): ".Release.Namespace",
        digests: ".Values.repository.digest",
        tuple(digest[:12] for digest in digests): ".Values.repository.digest | trunc 12",
    }
    if len({plan.name for plan in plans}) == 1:  # of objects that belong to no namespace
        unique = tuple(f"{plan.namespace}-{plan.name}" for plan in plans)
        found[unique] = f'printf "%s-{plans[0].name}" .Release.Namespace'
    return found


def _values_files(base: Plan, environments: Mapping[str, Plan], values: Values) -> dict[str, str]:
    default = file_of(values, 0)
    use = f"helm upgrade --install {base.name} . --namespace {base.namespace} --create-namespace"
    each = " -f values-ENVIRONMENT.yaml, which says what that environment has instead" if environments else ""
    found = {"values.yaml": dump(default, comment=f"{use}{each}\n{_VALUES}")}
    for index, (name, plan) in enumerate(environments.items(), start=1):
        use = f"helm upgrade --install {plan.name} . -n {plan.namespace} -f values-{name}.yaml"
        comment = f"What environment {name} has instead of values.yaml; null takes a key away.\n{use}"
        found[f"values-{name}.yaml"] = dump(difference(default, file_of(values, index)), comment=comment)
    return found


def _chart(base: Plan, plans: list[Plan], templates: Mapping[str, str]) -> str:
    oldest = min((plan.kube_version for plan in plans), key=parse_version)
    content = sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()[:12]
    return dump(
        {
            "apiVersion": "v2",
            "name": base.name,
            "description": f"Triton Inference Server with {', '.join(model.name for model in base.models)}"[:200],
            "type": "application",
            # the part after + is of the templates: charts of one version are not to differ
            "version": f"0.1.0+{camel('t-' + content)}",
            "appVersion": base.release,
            "kubeVersion": f">={oldest}.0-0",
        }
    )


_IGNORED = """\
.git/
.trtkit-rendered.json
*.swp
*~
*.tgz
.DS_Store
"""
_VALUES = """\
values.schema.json says which values there are. Names of objects do not depend on the release's name."""
