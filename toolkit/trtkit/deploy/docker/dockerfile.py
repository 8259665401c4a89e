# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Dockerfile: the server, the backends that the repository uses, and their libraries, for a user without rights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from trtkit.deploy.docker.ignored import dockerignore
from trtkit.deploy.docker.requirements import requirements
from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT, METRICS_PORT, MODELS_PATH, UID, Plan
from trtkit.errors import ProjectError
from trtkit.images import image_facts
from trtkit.project import Project

_SERVER = "/opt/tritonserver"
# shared libraries of the server and of each backend, as Ubuntu calls them (22.04 and 24.04)
_PACKAGES = ("ca-certificates", "curl", "libb64-0d", "libcurl4", "libgoogle-perftools4", "libjemalloc2", "libnuma1")
_BACKEND_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("libgomp1",),
    "pytorch": ("libgomp1",),
    "python": ("libarchive13", "python3", "python3-pip"),
}
_BACKEND_PATHS: Mapping[str, str] = {"pytorch": "/opt/hpcx/ucc/lib/:/opt/hpcx/ucx/lib/"}


def files(project: Project, plan: Plan, folder: str = "deploy/docker") -> dict[str, str]:
    """The Dockerfile, its ignore file, and the list for pip where Python models need packages.

    The build's context is the project's folder: ``docker build --file FOLDER/Dockerfile .``.

    Args:
        project: its repository is read.
        plan: what is served.
        folder: where the files go, relative to the project's folder, with slashes.
    """
    needed = requirements(project.repository, plan.models)
    inside = repository_inside(project)
    ignored = dockerignore(project.repository, plan, inside, folder, with_requirements=bool(needed))
    found = {
        "Dockerfile": _dockerfile(plan, inside, folder, with_requirements=bool(needed)),
        "Dockerfile.dockerignore": ignored,
    }
    return {**found, "requirements.txt": _list(needed)} if needed else found


def repository_inside(project: Project) -> str:
    """The repository's folder in the build's context, which is the project's folder; see `context_of`."""
    return context_of(project.repository, project.root)


def context_of(path: Path, root: Path) -> str:
    """A path as the builder sees it from the project's folder, with slashes.

    Raises:
        ProjectError: it is outside of it.
    """
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise ProjectError(
            f"{path} is outside of the project's folder {root}, and a builder sees nothing else; move it inside"
        ) from None


def is_slim(plan: Plan) -> bool:
    """Whether the server's image has a small twin to start from: NVIDIA's ``-py3`` has ``-py3-min``."""
    facts = image_facts(plan.image)
    return facts is not None and facts.variant == "py3" and "@" not in plan.image


def _dockerfile(plan: Plan, inside: str, folder: str, *, with_requirements: bool) -> str:
    parts = [
        _head(plan, folder),
        _small_base(plan) if is_slim(plan) else _whole_base(plan),
        *([_python_packages(folder)] if with_requirements else []),
        _entry(plan),
        *([_models(plan, inside)] if plan.baked else []),
        _labels(plan),
    ]
    return "\n".join(parts)


def _head(plan: Plan, folder: str) -> str:
    name = f"{plan.spec.registry or plan.name}:{plan.digest[:12]}"
    return f"""\
# {plan.name}: tritonserver with what its models need, as a user without rights.
# Build it in the project's folder; the tag is the repository's digest, so it is never another image:
#
#     docker build --file {folder}/Dockerfile --tag {name} .
#
# Mirrors: --build-arg APT_MIRROR=https://mirrors.example.com/ubuntu
#          --build-arg PIP_INDEX_URL=https://pypi.example.com/simple
#          --build-arg SERVER_REPOSITORY=registry.example.com/nvidia/tritonserver
# Digests pin the server for good: --build-arg SERVER_TAG=TAG@sha256:... and likewise BASE_TAG
"""


def _small_base(plan: Plan) -> str:
    packages = sorted({*_PACKAGES, *(name for backend in plan.backends for name in _packages_of(plan, backend))})
    name, tag = _parted(plan.image)
    return f"""\
ARG SERVER_REPOSITORY={name}
ARG SERVER_TAG={tag}
ARG BASE_TAG={tag}-min

FROM ${{SERVER_REPOSITORY}}:${{SERVER_TAG}} AS full
# the libraries of DCGM, which the server is linked to, and the Python packages that NVIDIA adds (NumPy)
RUN mkdir /pieces \\
    && find /usr/lib /usr/local/lib -name 'libdcgm*.so*' -exec cp --archive --parents '{{}}' /pieces ';' \\
    && find /usr/local/lib -maxdepth 2 -path '*/python3*' -name dist-packages \\
        -exec cp --archive --parents '{{}}' /pieces ';'

FROM ${{SERVER_REPOSITORY}}:${{BASE_TAG}}
# what changes least comes first, so that an update of the models builds nothing of this again
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
{_apt(packages)}
COPY --from=full /pieces/ /
{_pieces(plan)}
{_environment(plan)}
# a library that is missing shows here and not at the first start; those of the driver come from the host
RUN ldconfig \\
    && {{ find {_SERVER} -name tritonserver -type f -exec ldd '{{}}' + \\
        && find {_SERVER} '(' -name 'libtriton*.so' -o -name triton_python_backend_stub ')' -exec ldd '{{}}' +; }} \\
        | awk '/not found/ && !/libcuda\\.so|libnvidia-ml\\.so/ {{ missing = 1; print }} \\
            END {{ if (missing) print "add what has them: --build-arg EXTRA_PACKAGES=..."; exit missing }}'
"""


def _packages_of(plan: Plan, backend: str) -> tuple[str, ...]:
    """Of a backend; the Python backend's stub is linked to the library of one version of Python."""
    packages = _BACKEND_PACKAGES.get(backend, ())
    facts = image_facts(plan.image)
    version = facts.sure("python") if facts else None
    return (*packages, f"libpython{version}" if version else "libpython3-dev") if backend == "python" else packages


def _whole_base(plan: Plan) -> str:
    name, tag = _parted(plan.image)
    return f"""\
ARG SERVER_REPOSITORY={name}
ARG SERVER_TAG={tag}
# no small twin of this image is known, so all of it is used; curl, python3 and pip have to be in it
FROM ${{SERVER_REPOSITORY}}:${{SERVER_TAG}}
"""


def _parted(image: str) -> tuple[str, str]:
    """What stands before and after the colon of a tag or digest; the registry's port has a colon too."""
    folder, _, last = image.rpartition("/")
    name, _, tag = last.partition(":")
    return (f"{folder}/{name}" if folder else name), tag or "latest"


def _apt(packages: Sequence[str]) -> str:
    listed = " ".join(packages)
    return f"""\
ARG APT_MIRROR=""
ARG EXTRA_PACKAGES=""
# DL3008: the versions are those of the base image's Ubuntu, which its tag or digest names; SC2086: a list of words
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${{APT_MIRROR}}" ]; then \\
        find /etc/apt '(' -name '*.list' -o -name '*.sources' ')' -exec sed --in-place --regexp-extended \\
            's#https?://(archive|security)[.]ubuntu[.]com/ubuntu#'"${{APT_MIRROR}}"'#g' '{{}}' +; \\
    fi \\
    && apt-get update \\
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \\
        {listed} ${{EXTRA_PACKAGES}} \\
    && rm -rf /var/lib/apt/lists/*"""


def _pieces(plan: Plan) -> str:
    """The server and the backends of the repository; the other backends are most of the whole image."""
    caches = ["local"] if plan.has_cache else []
    caches += ["redis"] if plan.spec.compose.redis else []
    places = [
        *("LICENSE", "TRITON_VERSION", "bin", "lib"),
        *(f"backends/{backend}" for backend in plan.backends),
        *(f"caches/{cache}" for cache in caches),
    ]
    return "\n".join(f"COPY --from=full {_SERVER}/{place} {_SERVER}/{place}" for place in places)


def _environment(plan: Plan) -> str:
    paths = "".join(f"{_BACKEND_PATHS[backend]}:" for backend in plan.backends if backend in _BACKEND_PATHS)
    libraries = f' \\\n    LD_LIBRARY_PATH="{paths}${{LD_LIBRARY_PATH}}"' if paths else ""
    return f"""\
ENV PATH="{_SERVER}/bin:${{PATH}}" \\
    TCMALLOC_RELEASE_RATE=200 \\
    UCX_MEM_EVENTS=no{libraries}"""


def _python_packages(folder: str) -> str:
    return f"""\
# for the Python models
ARG PIP_INDEX_URL=""
COPY {folder}/requirements.txt /tmp/requirements.txt
# an address of an index has no blanks
# hadolint ignore=SC2086
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir \\
        ${{PIP_INDEX_URL:+--index-url ${{PIP_INDEX_URL}}}} --requirement /tmp/requirements.txt \\
    && rm /tmp/requirements.txt
"""


def _entry(plan: Plan) -> str:
    path = "/v2/health/ready" if plan.spec.server.strict else "/v2/health/live"
    probe = json.dumps(["curl", "-fsS", "-o", "/dev/null", "--max-time", "4", f"http://127.0.0.1:{HTTP_PORT}{path}"])
    command = ", \\\n     ".join(json.dumps(argument) for argument in plan.arguments)
    return f"""\
# the root file system may be read-only: libraries write to /tmp
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
# numbers and not a name: Kubernetes sees that it is not root
USER {UID}:{UID}
WORKDIR {_SERVER}
EXPOSE {HTTP_PORT} {GRPC_PORT} {METRICS_PORT}
STOPSIGNAL SIGTERM
# {plan.startup.budget.why}. Kubernetes has probes of its own and ignores this
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period={plan.startup.budget.whole}s CMD {probe}
CMD [{command}]
"""


def _models(plan: Plan, inside: str) -> str:
    """A layer for each model: those that did not change are not pushed again."""
    lines = [
        f"COPY --chown={UID}:{UID} {inside}/{model.name} {MODELS_PATH}/{model.name}"
        for model in sorted(plan.models, key=lambda model: (-model.weight_bytes, model.name))
    ]
    return "\n".join(["# the models, the largest first, each a layer of its own", *lines, ""])


def _labels(plan: Plan) -> str:
    labels = {
        "org.opencontainers.image.title": plan.name,
        "org.opencontainers.image.base.name": f"{plan.image}{'-min' if is_slim(plan) else ''}",
        **(
            {"org.opencontainers.image.version": plan.digest[:12], "trtkit.io/repo-digest": plan.digest}
            if plan.baked
            else {}
        ),
    }
    return "LABEL " + " \\\n      ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "\n"


def _list(needed: Mapping[str, Sequence[str]]) -> str:
    lines = ["# what the Python models import; a version is that of the environment in which it was rendered"]
    lines += [f"{package}  # {', '.join(models)}" for package, models in needed.items()]
    return "\n".join(lines) + "\n"
