# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""kustomize: the block itself as a base, and each environment as what differs from it.

A patch is the list of JSON Patch operations (RFC 6902) that turn the base's object into the environment's. It says
exactly what differs, needs no knowledge of how lists merge, and works for every kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.kubernetes.meta import Object
from trtkit.deploy.kubernetes.objects import groups, objects
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump, dump_all

Key = tuple[str, str, str]

_HEAD = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def files(base: Plan, environments: Mapping[str, Plan]) -> dict[str, str]:
    """The files of a kustomize folder: ``base/``, and ``overlays/ENVIRONMENT/`` for each environment.

    ``kubectl kustomize overlays/ENVIRONMENT`` gives exactly `objects` of that environment's plan.

    Args:
        base: the plan of the block itself.
        environments: the plans of the environments, by name.
    """
    found = {f"base/{name}": text for name, text in _standalone(base).items()}
    for environment, plan in environments.items():
        overlay = _overlay(base, plan) if plan.name == base.name else _standalone(plan)
        found |= {f"overlays/{environment}/{name}": text for name, text in overlay.items()}
    return found


def _standalone(plan: Plan) -> dict[str, str]:
    """A folder with all objects; also for an environment whose objects have other names, which shares none."""
    found = _resources(groups(plan))
    return {**found, "kustomization.yaml": dump({**_HEAD, "resources": list(found)})}


def _resources(grouped: Mapping[str, list[Object]]) -> dict[str, str]:
    return {f"{name}.yaml": dump_all(items) for name, items in grouped.items() if items}


def _overlay(base: Plan, plan: Plan) -> dict[str, str]:
    """The base, with what differs."""
    moves = plan.namespace != base.namespace and _in_one_namespace(base) and _in_one_namespace(plan)
    # the base's objects by the key that the environment's have
    before = {_moved(_key(item), base, plan, moves): item for item in objects(base)}
    after = {_key(item): item for item in objects(plan)}
    found = _resources(
        {name: [item for item in items if _key(item) not in before] for name, items in groups(plan).items()}
    )
    kustomization = {**_HEAD, **({"namespace": plan.namespace} if moves else {}), "resources": ["../../base", *found]}
    patches: list[dict[str, Any]] = []
    for key, item in before.items():
        operations = _differences(item, after[key], moves) if key in after else []
        if key not in after:
            patches.append({"patch": dump({"$patch": "delete", **_reference(item)})})
        elif operations:
            name = f"{item['kind'].lower()}-{item['metadata']['name']}.patch.yaml"
            what = f"What {plan.environment} has otherwise in {item['kind']} {item['metadata']['name']}."
            found[name] = dump(operations, comment=what)
            patches.append({"path": name, "target": _target(item)})
    return {**found, "kustomization.yaml": dump({**kustomization, **({"patches": patches} if patches else {})})}


def _in_one_namespace(plan: Plan) -> bool:
    """Whether kustomize's own `namespace:`, which moves everything, is right."""
    return all(item["metadata"].get("namespace", plan.namespace) == plan.namespace for item in objects(plan))


def _differences(old: Object, new: Object, moves: bool) -> list[dict[str, Any]]:
    """The operations for one object, without those that `namespace:` does."""
    done = ["/metadata/namespace", *(["/metadata/name"] if old["kind"] == "Namespace" else [])] if moves else []
    return [operation for operation in _operations("", old, new) if operation["path"] not in done]


def _key(item: Object) -> Key:
    meta = item["metadata"]
    return f"{item['apiVersion']} {item['kind']}", meta.get("namespace", ""), meta["name"]


def _moved(key: Key, base: Plan, plan: Plan, moves: bool) -> Key:
    """A base's object as the environment's namespace has it."""
    kind, namespace, name = key
    if moves and kind == "v1 Namespace":
        return kind, namespace, plan.namespace
    return kind, plan.namespace if namespace == base.namespace else namespace, name


def _reference(item: Object) -> dict[str, Any]:
    """The least that names an object of the base."""
    meta = {key: item["metadata"][key] for key in ("name", "namespace") if key in item["metadata"]}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": meta}


def _target(item: Object) -> dict[str, str]:
    """How a patch finds its object."""
    group, _, version = item["apiVersion"].rpartition("/")
    return {
        **({"group": group} if group else {}),
        "version": version,
        "kind": item["kind"],
        **_reference(item)["metadata"],
    }


def _operations(path: str, old: Any, new: Any) -> Iterator[dict[str, Any]]:
    """The operations that turn one value into another; lists of another length are replaced whole."""
    if _text(old) == _text(new):
        return
    before, after = _bare(old), _bare(new)
    if isinstance(before, dict) and isinstance(after, dict) and before and after:
        for key in [key for key in before if key not in after]:
            yield {"op": "remove", "path": _below(path, key)}
        for key, value in after.items():
            if key in before:
                yield from _operations(_below(path, key), before[key], value)
            else:
                yield {"op": "add", "path": _below(path, key), "value": value}
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _operations(f"{path}/{index}", one, other)
    else:
        yield {"op": "replace", "path": path, "value": new}


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Noted) else value


def _text(value: Any) -> str:
    """For comparison: True and 1 are equal in Python, and not in YAML."""
    return json.dumps(plain(value), sort_keys=True)


def _below(path: str, key: str) -> str:
    """A JSON Pointer (RFC 6901)."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
