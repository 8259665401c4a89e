# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles and .dockerignore."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.dockerfile import Instruction, Stage
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, found_at, rule
from trtkit.deploy.manifests.servers import value_of
from trtkit.lint.model import Found

_DRIVER = re.compile(
    r"\b(nvidia-driver-\d+\S*|nvidia-headless-\S+|cuda-drivers\S*|nvidia-utils-\d+\S*"
    r"|libnvidia-(compute|gl|decode|encode)-\S+|nvidia-kernel-\S+|nvidia-dkms-\S+|NVIDIA-Linux-\S+\.run)"
)
_WITHOUT_CURL = re.compile(
    r"(^|/)(nvidia/cuda|ubuntu|debian|alpine|python:[\w.]*-?(slim|alpine)[\w.-]*)($|:|@)|python:\S*(slim|alpine)"
)
_WITHOUT_PYTHON = re.compile(r"(^|/)(nvidia/cuda|ubuntu|debian|alpine)($|:|@)")
_NESTED = {
    "__pycache__", ".DS_Store", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    "node_modules", "Thumbs.db",
}  # fmt: skip
_KEPT_AT_ROOT = (".md", ".rst", ".txt", ".yml", ".yaml", ".toml", ".cfg", ".ini", ".json", ".sh")
"""Endings of files that lie in a root, so that a pattern without ** is right for them."""
_PYTHON = re.compile(r"(^|[\s;&|/])(python3?|pip3?|uvicorn|gunicorn)(\s|$|[\d.])")
_INSTALLS = re.compile(r"\b(apt-get|apt|apk|yum|dnf|microdnf|conda|mamba|tdnf)\b.*\b(install|add)\b")


@rule("DKR001", "driver-in-the-image")
def driver_in_image(files: FileSet) -> Iterator[Found]:
    """The image installs the NVIDIA driver.

    The driver comes from the host: the container toolkit mounts its libraries. A second one in the image shadows them,
    and "driver/library version mismatch" follows. The image holds the CUDA libraries, no driver.

    Wrong:
        RUN apt-get update && apt-get install -y nvidia-driver-535

    Right:
        FROM nvcr.io/nvidia/tritonserver:25.01-py3
    """
    for build in files.builds:
        for stage in build.stages:
            for each in stage.own:
                match = _DRIVER.search(each.rest) if each.word in ("RUN", "COPY", "ADD") else None
                if match:
                    yield found_at(
                        build.source.file, each.line, f"{match[0]}: the driver comes from the host; leave it out"
                    )


@rule("DKR002", "library-path-replaced", WARNING)
def library_path(files: FileSet) -> Iterator[Found]:
    """LD_LIBRARY_PATH is set and drops what was there.

    The image's own value leads to TensorRT, the backends and CUDA's compatibility libraries; a path such as
    /usr/local/cuda-12.2/lib64 in its place shadows or loses them. Add to it, or leave it.

    Wrong:
        ENV LD_LIBRARY_PATH=/usr/local/cuda-12.2/lib64

    Right:
        ENV LD_LIBRARY_PATH=/opt/own/lib:${LD_LIBRARY_PATH}
    """
    says = "it replaces the image's LD_LIBRARY_PATH; put the new folder before ${LD_LIBRARY_PATH}, or leave it out"
    for build in files.builds:
        for each in (one for stage in build.stages for one in stage.own if one.word == "ENV"):
            value = each.assigned.get("LD_LIBRARY_PATH")
            if value is not None and "LD_LIBRARY_PATH" not in value:
                yield found_at(build.source.file, each.line, says)
    for server in files.servers:
        node = server.env.get("LD_LIBRARY_PATH")
        if node and "LD_LIBRARY_PATH" not in value_of("LD_LIBRARY_PATH", node):
            yield found(node, says)


@rule("DKR003", "healthcheck-without-its-program")
def healthcheck_tool(files: FileSet) -> Iterator[Found]:
    """HEALTHCHECK calls curl or wget, and the image has none.

    The check fails with "not found", and the container is unhealthy for ever. Install it in the stage that becomes the
    image, or ask with Python. Kubernetes ignores HEALTHCHECK altogether.

    Wrong:
        FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04
        HEALTHCHECK CMD curl -f http://localhost:8000/v2/health/ready

    Right:
        FROM nvcr.io/nvidia/tritonserver:25.01-py3
        HEALTHCHECK CMD curl -sf http://localhost:8000/v2/health/ready
    """
    for build in files.builds:
        check = build.final.last("HEALTHCHECK")
        tool = re.search(r"\b(curl|wget)\b", check.rest) if check else None
        if check and tool and _WITHOUT_CURL.search(build.final.image) and not _has(build.final, tool[1]):
            says = f"{build.final.image} has no {tool[1]}, and no stage of the image installs it"
            yield found_at(build.source.file, check.line, f"{says}; the check always fails")


def _has(stage: Stage, tool: str) -> bool:
    installs = re.compile(rf"\b{tool}\b")
    return any(
        (each.word == "RUN" and _INSTALLS.search(each.rest) and installs.search(each.rest))
        or (each.word in ("COPY", "ADD") and installs.search(each.rest))
        for each in stage.all
    )


@rule("DKR004", "user-is-no-number", WARNING)
def user_no_number(files: FileSet) -> Iterator[Found]:
    """USER is a name.

    With runAsNonRoot Kubernetes says "image has non-numeric user, cannot verify user is non-root" and does not start
    the container (hadolint DL3066 says the same). Use the number.

    Wrong:
        USER aiservice

    Right:
        USER 1000:1000
    """
    for build in files.builds:
        user = build.final.last("USER")
        name = user.rest.split(":")[0].strip() if user else ""
        if user and name and not name.isdigit() and "$" not in name and name != "root":
            yield found_at(
                build.source.file, user.line, f"USER {name}: runAsNonRoot cannot verify a name; write its number"
            )


@rule("DKR005", "image-runs-as-root", WARNING)
def runs_as_root(files: FileSet) -> Iterator[Found]:
    """The image of a server runs as root.

    A Python model that is loaded, or a hole in a backend, is then root in the container. The tritonserver images have
    the user triton-server, 1000.

    Wrong:
        FROM nvcr.io/nvidia/tritonserver:25.01-py3

    Right:
        FROM nvcr.io/nvidia/tritonserver:25.01-py3
        USER 1000:1000
    """
    for build in files.builds:
        user = build.final.last("USER")
        if build.is_triton and (user is None or user.rest.split(":")[0].strip() in ("root", "0")):
            line = user.line if user else build.final.start.line
            yield found_at(build.source.file, line, "the server runs as root; end with USER 1000:1000")


@rule("DKR006", "ignored-only-at-the-root", WARNING)
def ignored_only_at_root(files: FileSet) -> Iterator[Found]:
    """A pattern of .dockerignore is meant for every folder, and matches only in the root.

    Other than .gitignore's, its patterns start at the context's root: *.pyc leaves src/a.pyc in the image (run with
    buildah).

    Wrong:
        *.pyc
        __pycache__

    Right:
        **/*.pyc
        **/__pycache__
    """
    for source in files.of_type("dockerignore"):
        patterns = {line.strip() for line in source.lines}
        for number, line in enumerate(source.lines, 1):
            pattern = line.strip().rstrip("/")
            nested = (pattern.startswith("*.") and not pattern.endswith(_KEPT_AT_ROOT)) or pattern in _NESTED
            if nested and f"**/{pattern}" not in patterns and f"**/{pattern}/" not in patterns:
                yield found_at(source.file, number, f"{pattern} matches only in the context's root; write **/{pattern}")


@rule("DKR007", "stage-without-python")
def stage_without_python(files: FileSet) -> Iterator[Found]:
    """The last stage calls Python, and its image has none.

    What an earlier stage installed is not there. The CUDA, Ubuntu and Debian images come without Python.

    Wrong:
        FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04
        CMD ["python3", "app.py"]

    Right:
        FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04
        RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
        CMD ["python3", "app.py"]
    """
    for build in files.builds:
        if not _WITHOUT_PYTHON.search(build.final.image):
            continue
        has = False
        for each in build.final.all:
            has = has or bool(_INSTALLS.search(each.rest) and "python" in each.rest) or _brings_python(each)
            calls = _PYTHON.search(" ".join(each.words)) if each.word in ("CMD", "ENTRYPOINT", "RUN") else None
            if calls and not has:
                says = f"{build.final.image} has no Python, and this stage installs none"
                yield found_at(build.source.file, each.line, f"{says}, but calls {calls[2]}")
                break


def _brings_python(each: Instruction) -> bool:
    return each.word in ("COPY", "ADD") and bool(re.search(r"python|venv|conda|/usr/local|/usr(\s|$)|/opt", each.rest))


@rule("DKR008", "sources-before-packages", ADVICE)
def sources_before_packages(files: FileSet) -> Iterator[Found]:
    """All sources are copied before packages are installed.

    Every change of a source then installs all packages anew. What changes seldom comes first: system packages, the list
    of Python packages, then the sources.

    Wrong:
        COPY . /app
        RUN pip install --no-cache-dir -r /app/requirements.txt

    Right:
        COPY requirements.txt /app/
        RUN pip install --no-cache-dir -r /app/requirements.txt
        COPY . /app
    """
    for build in files.builds:
        for stage in build.stages:
            copied: Instruction | None = None
            for each in stage.own:
                if (
                    each.word in ("COPY", "ADD")
                    and "--from" not in each.rest
                    and re.match(r"(--\S+\s+)*\.\/?\s", each.rest)
                ):
                    copied = copied or each
                elif (
                    copied
                    and each.word == "RUN"
                    and re.search(r"\b(pip3? install (?!.*-e?\s*\.)|apt-get install)", each.rest)
                ):
                    yield found_at(
                        build.source.file,
                        copied.line,
                        f"any change of a source runs line {each.line} anew; copy it after that",
                    )
                    break


@rule("DKR009", "package-caches-in-the-image", ADVICE)
def package_caches(files: FileSet) -> Iterator[Found]:
    """A RUN leaves package lists or caches in its layer.

    apt's lists and pip's cache are never used again. Remove them in the same RUN; a cache mount keeps them out too.

    Wrong:
        RUN apt-get update && apt-get install -y curl && pip install numpy

    Right:
        RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
        RUN pip install --no-cache-dir numpy
    """
    for build in files.builds:
        for each in (
            one for stage in build.stages for one in stage.own if one.word == "RUN" and "type=cache" not in one.rest
        ):
            missing = []
            if re.search(r"\bapt-get\b.*\binstall\b", each.rest):
                missing += [] if "--no-install-recommends" in each.rest else ["--no-install-recommends"]
                missing += [] if "/var/lib/apt/lists" in each.rest else ["rm -rf /var/lib/apt/lists/*"]
            if re.search(r"\bpip3? install\b", each.rest) and "--no-cache-dir" not in each.rest:
                missing += [] if _no_cache(build.final, each) else ["pip's --no-cache-dir"]
            if missing:
                yield found_at(
                    build.source.file, each.line, f"the layer keeps what is not used again; add {', '.join(missing)}"
                )


def _no_cache(stage: Stage, run: Instruction) -> bool:
    given = any("PIP_NO_CACHE_DIR" in each.assigned for each in stage.all if each.word in ("ENV", "ARG"))
    return given or "PIP_NO_CACHE_DIR" in run.rest


RULES = (
    driver_in_image,
    library_path,
    healthcheck_tool,
    user_no_number,
    runs_as_root,
    ignored_only_at_root,
    stage_without_python,
    sources_before_packages,
    package_caches,
)
