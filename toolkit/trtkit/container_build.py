# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What to run where the GPU is: ``trtkit build`` inside the target's image, by docker or as a Kubernetes Job.

Nothing here is run. The commands stand in files under ``.trtkit/container``, to be started by people on a machine,
or a cluster, that has the GPU.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtkit import __version__
from trtkit.artifacts import file_errors, write_atomically
from trtkit.errors import ProjectError
from trtkit.images import image_facts, parse_version
from trtkit.project import Project, Target
from trtkit.project.callables import split_reference

MOUNT = "/project"
REQUIREMENT = "TRTKIT_REQUIREMENT"
_SHELL_NAME = "trtkit"
_SITE = "/tmp/trtkit"
_SOURCE_EXTRAS = {"sklearn": "sklearn", "torch": "torch", "huggingface": "huggingface"}
# labels of NVIDIA's GPU feature discovery: https://github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery
_LABEL = "nvidia.com/gpu"
_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9./_-]*$")
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def docker_command(
    project: Project, models: Sequence[str], target_name: str, target: Target, *, requirement: str | None = None,
    options: Sequence[str] = (),
) -> str:  # fmt: skip
    """The docker command that builds models in the target's image; to be run in the project's folder, on the GPU.

    Args:
        project: with its repository inside its folder, which is all that the container sees.
        models: the names to build; empty for all.
        target_name: of the target in the project file.
        target: of backend tensorrt, with an image.
        requirement: what pip installs as trtkit; default: this version with the extras that the models need.
        options: of ``trtkit build``, besides models, project and target.

    Raises:
        ProjectError: the target has no image, is of another backend, or its TensorRT cannot be installed.
    """
    check_container(project, models, target_name, target)
    command = [
        "docker run --rm --init --gpus=1 --shm-size=1g --ulimit=memlock=-1",
        '--user="$(id -u):$(id -g)"',
        *(f"--env={name}={value}" for name, value in _environment(runs_as_root=False).items()),
        f"--env={REQUIREMENT}",
        f'--mount=type=bind,source="$PWD",target={MOUNT}',
        f"--workdir={MOUNT}",
        shlex.quote(str(target.image)),
        f"bash -ceu {shlex.quote(_script(project, models, target_name, target, requirement, options))}",
    ]
    return " \\\n  ".join(command)


def kubernetes_job(
    project: Project,
    models: Sequence[str],
    target_name: str,
    target: Target,
    *,
    claim: str = "trtkit-project",
    gpu_product: str | None = None,
    requirement: str | None = None,
    options: Sequence[str] = (),
) -> str:
    """The same build as Kubernetes Jobs, one for each compute capability of the target, in YAML.

    Args:
        project: as for `docker_command`; its folder lies in the persistent volume claim.
        models: the names to build; empty for all.
        target_name: of the target in the project file.
        target: of backend tensorrt, with an image.
        claim: the name of the persistent volume claim.
        gpu_product: the label ``nvidia.com/gpu.product`` to select nodes by, instead of the compute capability.
        requirement: what pip installs as trtkit.
        options: of ``trtkit build``, besides models, project and target.

    Raises:
        ProjectError: as `docker_command`.
    """
    check_container(project, models, target_name, target)
    script = _script(project, models, target_name, target, requirement, options)
    capabilities: Sequence[str | None] = target.compute_capabilities or (None,)
    jobs = []
    for capability in capabilities if gpu_product is None else (None,):
        name = _job_name("trtkit-build", target_name, *models, *([capability] if len(capabilities) > 1 else []))
        labels = _node_labels(capability, gpu_product)
        jobs.append("\n".join(_yaml_lines(_job(name, str(target.image), script, claim, labels))))
    return "\n---\n".join(jobs) + "\n"


def in_container_files(
    project: Project, models: Sequence[str], target_name: str, target: Target, options: Sequence[str] = ()
) -> list[Path]:
    """Write the docker command and the Jobs to ``.trtkit/container``.

    Returns:
        The shell script and the YAML file.

    Raises:
        ProjectError: as `docker_command`.
        RepositoryError: the file system refused.
    """
    first, *others = target.compute_capabilities or ("",)
    gpu = f"a GPU of compute capability {first}" if target.compute_capabilities else "the target's GPU"
    again = "".join(f", then on one of {other}" for other in others)
    note = f"# Builds the plan for target {target_name}. trtkit has not run this: run it on {gpu}{again}.\n"
    note += (
        f"# pip installs {_requirement(project, models)}; where no index has it, set {REQUIREMENT} to what pip can\n"
    )
    note += "# install, e.g. './trtkit.whl[cpu]' for a wheel in the project's folder.\n"
    docker = docker_command(project, models, target_name, target, options=options)
    script = f'#!/bin/sh\n{note}set -eu\ncd "$(dirname "$0")/../.."\nexec {docker}\n'
    job = f"{note}# The project's folder has to lie in the claim 'trtkit-project'; apply the Jobs one by one.\n"
    job += kubernetes_job(project, models, target_name, target, options=options)
    folder = project.state / "container"
    stem = "-".join(["build", target_name, *(models if len(models) == 1 else [])])[:200]
    files = [folder / f"{stem}.sh", folder / f"{stem}.yaml"]
    with file_errors(f"writing the container build to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (script, job), strict=True):
            write_atomically(file, text.encode())
        files[0].chmod(0o755)
    return files


def check_container(project: Project, models: Sequence[str], target_name: str, target: Target) -> None:
    """Raise when the target's plans cannot be built in a container.

    Raises:
        ProjectError: the target is of another backend, has no image or none whose TensorRT can be installed, or
            something that the models are made from is outside the project's folder.
    """
    where = f"{project.where('targets', target_name)}: target '{target_name}'"
    if target.backend != "tensorrt":
        others = [name for name, one in project.targets.items() if one.backend == "tensorrt"]
        raise ProjectError(
            f"{where} is of backend {target.backend}; only TensorRT plans are built in a container: choose a target of "
            f"backend tensorrt (available: {', '.join(others) or 'none'})"
        )
    if target.image is None:
        raise ProjectError(f"{where} names no image to build in; add `image: nvcr.io/nvidia/tritonserver:…-py3`")
    if not project.repository.is_relative_to(project.root):
        raise ProjectError(
            f"{project.where('repository')}: the repository {project.repository} lies outside the project's folder, "
            "which is all that the container sees; put it inside"
        )
    for where_given, file in _files(project, models):
        if not file.resolve().is_relative_to(project.root.resolve()):
            raise ProjectError(
                f"{where_given}: {file} lies outside the project's folder, which is all that the container sees; "
                "put it inside"
            )
    version = parse_version(target.tensorrt_version or _tensorrt_version(target))
    if version and len(version) < 3:
        raise ProjectError(
            f"{where}: of its TensorRT only {'.'.join(map(str, version))} is known; give all numbers as "
            "`tensorrt_version:` (dpkg -l libnvinfer-bin, in the image, says them)"
        )
    # what PyPI holds of the project tensorrt: 8.6.1, and everything from 10.0.1
    if version and version < (10, 0, 1) and version[:3] != (8, 6, 1):
        raise ProjectError(
            f"{where}: TensorRT {'.'.join(map(str, version))} of {target.image} is not on PyPI; "
            "take an image from 24.05-py3 on"
        )


def _files(project: Project, models: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """What the models are made from, and where the project file says so."""
    for name, model in project.models.items():
        if models and name not in models:
            continue
        source = model.source if model.source and model.source.reference else None
        named = {("source", source.kind): source.reference} if source else {}
        named |= {("evaluate", "data"): model.evaluate.data} if model.evaluate else {}
        named |= {("calibration", "data"): model.calibration.data} if model.calibration else {}
        for key, reference in named.items():
            yield project.where("models", name, *key), split_reference(reference, project.root)[0]


def _script(
    project: Project, models: Sequence[str], target_name: str, target: Target, requirement: str | None,
    options: Sequence[str],
) -> str:  # fmt: skip
    """The commands inside the container: install beside the image's packages, then build."""
    version = parse_version(target.tensorrt_version or _tensorrt_version(target))[:3]
    packages = []
    lines = [f"{_SHELL_NAME}={shlex.quote(requirement or _requirement(project, models))}"]
    if version:  # the image's own Python package may be absent, or of another version than its library
        packages.append(f"tensorrt=={'.'.join(map(str, version))}.*")
    else:
        lines.append(
            "python3 -c 'import tensorrt' || { echo 'this image has no Python package tensorrt' >&2; exit 3; }"
        )
    install = shlex.join(["python3", "-m", "pip", "install", "--quiet", "--target", _SITE])
    install += f' "${{{REQUIREMENT}:-${_SHELL_NAME}}}" {shlex.join(packages)}'
    build = ["python3", "-m", "trtkit", "build", *models, "--project", project.file.name, "--target", target_name]
    build += options
    return "\n".join([*lines, install.rstrip(), f"PYTHONPATH={_SITE} {shlex.join(build)}"])


def _environment(*, runs_as_root: bool) -> dict[str, str]:
    # an image's Python may be marked as managed by its distribution; older pips do not know the option for it
    environment = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}
    return environment if runs_as_root else {**environment, "HOME": "/tmp"}


def _tensorrt_version(target: Target) -> str | None:
    facts = image_facts(target.image)
    return facts.tensorrt if facts else None


def _requirement(project: Project, models: Sequence[str]) -> str:
    return f"trtkit[{','.join(_extras(project, models))}]=={__version__}"


def _extras(project: Project, models: Sequence[str]) -> list[str]:
    """cpu, and what the models' sources need."""
    sources = [model.source for name, model in project.models.items() if not models or name in models]
    needed = {_SOURCE_EXTRAS[source.kind] for source in sources if source and source.kind in _SOURCE_EXTRAS}
    return ["cpu", *sorted(needed)]


def _node_labels(capability: str | None, gpu_product: str | None) -> dict[str, str]:
    if gpu_product:
        return {f"{_LABEL}.product": gpu_product}
    if capability is None:
        return {}
    major, _, minor = capability.partition(".")
    return {f"{_LABEL}.compute.major": major, f"{_LABEL}.compute.minor": minor}


def _job(name: str, image: str, script: str, claim: str, labels: Mapping[str, str]) -> dict[str, Any]:
    container = {
        "name": "build",
        "image": image,
        "command": ["bash", "-ceu", script],
        "workingDir": MOUNT,
        "env": [
            {"name": key, "value": value} for key, value in {**_environment(runs_as_root=True), REQUIREMENT: ""}.items()
        ],
        "resources": {"limits": {_LABEL: 1}},
        "volumeMounts": [{"name": "project", "mountPath": MOUNT}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    pod = {
        "restartPolicy": "Never",
        **({"nodeSelector": dict(labels)} if labels else {}),
        "tolerations": [{"key": _LABEL, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": [
            {"name": "project", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "trtkit-build"}},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 86400, "template": {"spec": pod}},
    }


def _job_name(*parts: str | None) -> str:
    """A DNS label of at most 63 characters; a digest keeps names apart that differ only in what a label cannot hold."""
    whole = "-".join(part for part in parts if part)
    label = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if label == whole and len(label) <= 63:
        return label
    return f"{label[:54].rstrip('-')}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _yaml_lines(value: Any) -> Iterator[str]:
    """A mapping as block YAML; strings that could be anything else are quoted as in JSON, which YAML reads."""
    for key, item in value.items():
        yield from _entry(f"{_scalar(key)}:", item)


def _entry(head: str, item: Any) -> Iterator[str]:
    if isinstance(item, Mapping):
        yield head
        yield from (f"  {line}" for line in _yaml_lines(item))
    elif isinstance(item, list):
        yield head
        for element in item:
            first, *rest = _yaml_lines(element) if isinstance(element, Mapping) else _entry("", element)
            yield f"- {first.strip()}"
            yield from (f"  {line}" for line in rest)
    elif isinstance(item, str) and "\n" in item:
        yield f"{head} |-"
        yield from (f"  {line}" for line in item.split("\n"))
    else:
        yield f"{head} {_scalar(item)}"


def _scalar(value: str | int) -> str:
    plain = isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _YAML_WORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
