# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What to execute: the command line and environment of each kind of tritonserver."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trtkit.compat import installed, python_backends_folder
from trtkit.errors import MissingDependencyError, ProjectError

# the container's ports, which Triton's own documentation uses
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002


@dataclass(frozen=True)
class Launch:
    """How to start a server, before repository and ports are added.

    Attributes:
        command: the program and its first arguments.
        env: the whole environment.
        backends: files and folders of the backend directory, by path inside it; empty when the server has
            its own backends.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]
    backends: Mapping[str, Path]


def embedded_launch() -> Launch:
    """The tritonserver that the nvidia-pytriton wheel carries, with our Python-based backends.

    Raises:
        MissingDependencyError: the wheel is absent, has no stub for this Python, or the stub cannot find
            libpython, each with what to install.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the embedded tritonserver is not installed; run: pip install 'trtkit[server]' "
            "(or pass --url, --tritonserver PATH or --image IMAGE)"
        )
    root = Path(spec.origin).parent / "tritonserver"
    _check_numpy()
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / minor / "triton_python_backend_stub"
    if not stub.is_file():
        have = ", ".join(sorted(p.name for p in (root / "python_backend_stubs").iterdir()))
        raise MissingDependencyError(
            f"the embedded tritonserver has no Python backend for Python {minor}, only for {have}"
        )
    site_packages = Path(spec.origin).parents[1]
    library_path = [str(site_packages / "nvidia_pytriton.libs"), *_libpython_folder(minor)]
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": _joined(library_path, os.environ.get("LD_LIBRARY_PATH")),
        # the stub's Python runs isolated: it ignores PYTHONPATH and takes the environment of PATH's python3
        "PATH": _joined([str(Path(sys.executable).parent)], os.environ.get("PATH")),
        "PYTHONPATH": _joined([str(site_packages)], os.environ.get("PYTHONPATH")),
    }
    if hides_gpus():
        env["CUDA_VISIBLE_DEVICES"] = ""
    backends = {f"python/{file.name}": file for file in (root / "backends" / "python").iterdir() if file.is_file()}
    backends["python/triton_python_backend_stub"] = stub
    for folder in python_backends_folder().iterdir():
        if (folder / "model.py").is_file() and not (folder / "config.pbtxt").is_file():  # with one it is a model
            backends[folder.name] = folder
    caches = f"--cache-directory={root / 'caches'}"
    return Launch((str(root / "bin" / "tritonserver"), caches), env, backends)


def hides_gpus() -> bool:
    """Whether the embedded server is kept from the GPUs: with the cpu extra, unless the user says which to use.

    The server would place KIND_AUTO instances on a GPU, where onnxruntime without CUDA cannot run them.
    """
    return installed("onnxruntime-gpu") is None and "CUDA_VISIBLE_DEVICES" not in os.environ


def _check_numpy() -> None:
    """The stub is compiled against numpy 1: with numpy 2 every output has no bytes, and no error says so."""
    version = installed("numpy") or ""
    if version and int(version.partition(".")[0]) >= 2:
        raise MissingDependencyError(
            f"numpy {version} is installed, and the embedded tritonserver's Python backend needs numpy 1; "
            "run: pip install 'numpy<2'"
        )


def _libpython_folder(minor: str) -> list[str]:
    """The folder to add so that the stub finds its libpython; empty when the system's loader finds it.

    Raises:
        MissingDependencyError: there is no shared libpython for this interpreter.
    """
    name = f"libpython{minor}.so.1.0"
    for folder in filter(None, (sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib")):
        if (Path(folder) / name).is_file():
            return [str(folder)]
    try:
        ctypes.CDLL(name)
    except OSError as exc:
        raise MissingDependencyError(
            f"the embedded tritonserver's Python backend needs {name}, which this Python was built without; "
            f"install it (Debian and Ubuntu: apt-get install libpython{minor})"
        ) from exc
    return []


def _joined(first: Sequence[str], rest: str | None) -> str:
    return os.pathsep.join([*dict.fromkeys(first), *filter(None, [rest])])


def tritonserver_launch(program: Path) -> Launch:
    """A tritonserver binary of this machine, with the backends it was installed with.

    Raises:
        ProjectError: there is no such program.
    """
    if not (program.is_file() and os.access(program, os.X_OK)):
        raise ProjectError(
            f"--tritonserver {program}: there is no program of that name; give the path of a tritonserver binary"
        )
    return Launch((str(program),), dict(os.environ), {})


def container_command(
    image: str,
    repository: Path,
    options: Sequence[str] = (),
    *,
    gpus: str | None = None,
    address: str = "127.0.0.1",
    ports: tuple[int, int, int] = (HTTP_PORT, GRPC_PORT, METRICS_PORT),
    name: str | None = None,
) -> list[str]:
    """The ``docker run`` command line that serves a repository from a tritonserver image.

    Args:
        image: e.g. ``nvcr.io/nvidia/tritonserver:25.10-py3``.
        repository: mounted read-only at ``/models``.
        options: further tritonserver options.
        gpus: docker's ``--gpus`` value; None for none.
        address: where to publish the ports.
        ports: HTTP, gRPC and metrics on this machine.
        name: of the container, so that it can be stopped.
    """
    inside = (HTTP_PORT, GRPC_PORT, METRICS_PORT)
    publish = [f"--publish={address}:{outer}:{inner}" for outer, inner in zip(ports, inside, strict=True)]
    return [
        "docker", "run", "--rm", "--init", "--shm-size=1g", "--ulimit=memlock=-1", "--ulimit=stack=67108864",
        *([f"--name={name}"] if name else []),
        *([f"--gpus={gpus}"] if gpus else []),
        *publish,
        f"--volume={repository.resolve()}:/models:ro",
        image,
        "tritonserver", "--model-repository=/models", *options,
    ]  # fmt: skip


def shown(command: Sequence[str]) -> str:
    """A command line as one would type it."""
    return " ".join(map(shlex.quote, command))
