# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered Dockerfile is really built, by buildah, and run: as a user without rights, on a read-only file system.

There is no NVIDIA image here. The two base images are stand-ins: a few programs of this machine, an ``apt-get`` that
installs nothing, and the real tritonserver of the nvidia-pytriton wheel where NVIDIA's image has it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy_matrix import deploy_project
from deploy_tools import program, write_all
from trtkit.deploy.docker.dockerfile import files
from trtkit.deploy.plan import make_plan

pytestmark = pytest.mark.triton

_PROGRAMS = (
    "bash", "sh", "curl", "awk", "find", "sed", "grep", "cp", "mkdir", "rm", "ls", "id", "cat", "env", "touch", "ldd",
    "ldconfig", "stat", "sleep",
)  # fmt: skip
_LINK = re.compile(r"(?:=> )?(/\S+) \(0x")
# what runs in the image, with its own command and its own health check as arguments; the last lines are the evidence
_RUN = """
"${@}" & server=$!
for _ in {1..150}; do if $HEALTH; then healthy=1; break; fi; sleep 0.2; done
echo "healthy=${healthy:-0} uid=$(id -u) gid=$(id -g)"
touch /opt/tritonserver/written /models/written 2>/dev/null && echo "written=1"
touch /tmp/written && echo "tmp=1"
curl -fsS -X POST http://127.0.0.1:8000/v2/repository/index; echo
kill -TERM $server; wait $server; echo "rc=$?"
"""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command with a storage of its own."""
    path = program("buildah")
    if os.geteuid() != 0:
        pytest.skip("buildah's chroot isolation, and a read-only mount to run the image in, need root here")
    folder = tmp_path_factory.mktemp("storage")
    yield [path, "--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    shutil.rmtree(folder, ignore_errors=True)


def test_the_image_builds_and_runs_without_rights(tmp_path: Path, buildah: list[str]) -> None:
    context = _context(tmp_path / "project")
    _base_images(buildah, tmp_path)
    ignored = str(context / "deploy/docker/Dockerfile.dockerignore")
    build = [
        *buildah, "bud", "--format", "docker", "--isolation", "chroot", "--pull-never", "--ignorefile", ignored,
        "--file", str(context / "deploy/docker/Dockerfile"), "--build-arg", "SERVER_REPOSITORY=localhost/server",
        "--build-arg", "SERVER_TAG=whole",
    ]  # fmt: skip
    # a base image without a library that the server is linked to is found when it is built
    bare = [*build, "--build-arg", "BASE_TAG=bare", str(context)]
    failed = subprocess.run(bare, capture_output=True, text=True, timeout=300, check=False)
    assert failed.returncode != 0
    assert "libstdc++.so.6 => not found" in failed.stdout + failed.stderr
    _run(*build, "--build-arg", "BASE_TAG=small", "--tag", "localhost/built:1", str(context))
    container = _run(*buildah, "from", "--pull-never", "localhost/built:1").strip()
    root = Path(_run(*buildah, "mount", container).strip())
    _check_files(root)
    config = json.loads(_run(*buildah, "inspect", "--type", "image", "localhost/built:1"))["Docker"]["config"]
    assert config["User"] == "1000:1000"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "curl"]
    printed = _run_read_only(root, config)
    assert "healthy=1 uid=1000 gid=1000" in printed, printed
    assert "tmp=1" in printed
    assert "written=1" not in printed
    assert re.search(r"^rc=0$", printed, re.M), printed
    index = re.search(r"^\[\{.*\}\]$", printed, re.M)
    assert index is not None, printed
    assert {model["name"] for model in json.loads(index[0])} == {"encoder", "echo"}


def _context(folder: Path) -> Path:
    """A project with a baked repository, and much that has no place in an image."""
    deploy = {"target": "cpu", "storage": {"kind": "baked"}, "registry": "registry.example.com/digits"}
    project = deploy_project(folder, deploy, ("encoder", "echo"))
    shutil.copytree(project.repository / "encoder/1", project.repository / "encoder/2")
    write_all(files(project, make_plan(project)), folder / "deploy/docker")
    for junk in (
        ".env", ".git/config", "notes.pem", "model_repository/echo/1/__pycache__/model.pyc",
        "model_repository/echo/.env",
        "model_repository/left/config.pbtxt", "deploy/compose/secrets/password", "model_repository/echo/1/a/b.pyc",
    ):  # fmt: skip
        path = folder / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    return folder


def _check_files(root: Path) -> None:
    """Only what is served, owned by the user; only the backends that are used, and what the server is linked to."""
    models = {path.relative_to(root / "models").as_posix() for path in (root / "models").rglob("*") if path.is_file()}
    assert models == {"encoder/config.pbtxt", "encoder/2/model.onnx", "echo/config.pbtxt", "echo/1/model.py"}
    assert {(root / "models/encoder/2/model.onnx").stat().st_uid, (root / "models/echo").stat().st_uid} == {1000}
    assert {path.name for path in (root / "opt/tritonserver/backends").iterdir()} == {"onnxruntime", "python"}
    assert (root / "usr/lib/libdcgm.so.4").is_file()
    assert (root / "usr/local/lib/python3.12/dist-packages/numpy/__init__.py").is_file()
    assert not any(path.read_bytes() == b"secret" for path in root.glob("*") if path.is_file())


def _base_images(buildah: list[str], folder: Path) -> None:
    small = folder / "min"
    _programs(small)
    _image(buildah, small, "localhost/server:bare")
    _system_libraries(small)
    _image(buildah, small, "localhost/server:small")
    _server(small)
    _image(buildah, small, "localhost/server:whole")


def _programs(root: Path) -> None:
    for name in ("usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc/apt", "etc/ld.so.conf.d", "tmp", "proc", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in _PROGRAMS:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
        assert found is not None, name
        shutil.copy(os.path.realpath(found), root / "usr/bin" / name)
        linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)  # fails for a script
        for library in _LINK.findall(linked.stdout):
            _copy_library(root, Path(library))
    nothing = root / "usr/bin/apt-get"
    nothing.write_text("#!/bin/sh\nmkdir -p /var/lib/apt/lists\n")
    nothing.chmod(0o755)
    (root / "usr/sbin/ldconfig").symlink_to("../bin/ldconfig")
    (root / "usr/bin/python3").symlink_to("true")  # the models are not loaded, so no Python has to run
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n/usr/lib/x86_64-linux-gnu\n")
    (root / "etc/ld.so.conf.d/triton.conf").write_text("/opt/tritonserver/lib\n")


def _copy_library(root: Path, library: Path) -> None:
    target = root / str(library).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(os.path.realpath(library), target)


def _wheel() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        pytest.skip("the tritonserver of the nvidia-pytriton wheel is not installed")
    return Path(spec.origin).parent / "tritonserver"


def _system_libraries(root: Path) -> None:
    """What the server needs of the system, which NVIDIA's small image has."""
    own = _wheel().parents[1] / "nvidia_pytriton.libs"
    env = {**os.environ, "LD_LIBRARY_PATH": str(own)}
    for library in _LINK.findall(_run("ldd", str(_wheel() / "bin/tritonserver"), env=env)):
        if own.name not in library:
            _copy_library(root, Path(library))


def _server(root: Path) -> None:
    wheel = _wheel()
    server = root / "opt/tritonserver"
    (server / "bin").mkdir(parents=True)
    shutil.copy(wheel / "bin/tritonserver", server / "bin")
    shutil.copytree(wheel.parents[1] / "nvidia_pytriton.libs", server / "lib")
    for text in (
        "LICENSE", "TRITON_VERSION", "backends/onnxruntime/here", "backends/python/here", "backends/tensorrt/here",
        "caches/local/here",
    ):  # fmt: skip
        (server / text).parent.mkdir(parents=True, exist_ok=True)
        (server / text).write_text("x")
    (root / "usr/lib/libdcgm.so.4").write_text("x")
    numpy = root / "usr/local/lib/python3.12/dist-packages/numpy"
    numpy.mkdir(parents=True)
    (numpy / "__init__.py").write_text("")


def _image(buildah: list[str], root: Path, name: str) -> None:
    container = _run(*buildah, "from", "scratch").strip()
    _run(*buildah, "copy", "--quiet", container, str(root), "/")
    _run(*buildah, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/usr/sbin", container)
    _run(*buildah, "commit", "--quiet", "--rm", container, name)


def _run_read_only(root: Path, config: dict[str, list[str]]) -> str:
    """Run the image's command as its user: no network but its own, root read-only, no rights to gain."""
    health = " ".join(config["Healthcheck"]["Test"][1:])  # type: ignore[call-overload]
    # without a stub for its Python, the server loads no models; it lists what it found
    command = [*config["Cmd"], "--model-control-mode=explicit", "--exit-timeout-secs=5"]
    inside = [
        "setpriv", "--no-new-privs", "chroot", "--userspec=1000:1000", "--groups=", str(root), "/usr/bin/env", "-i",
        *config["Env"], f"HEALTH={health}", "/bin/bash", "-c", _RUN, "run", *command,
    ]  # fmt: skip
    outside = (
        'set -e; ip link set lo up; mount --bind "$0" "$0"; mount --bind /proc "$0/proc"; mount --bind /dev "$0/dev"; '
        'mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"; mount -o remount,bind,ro "$0"; exec "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", outside, str(root), *inside],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout
