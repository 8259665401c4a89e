# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit serve``."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import (
    check_models,
    console,
    json_option,
    optional_project,
    print_json,
    project_option,
    repository_of,
    repository_option,
)

if TYPE_CHECKING:
    from trtkit.server import RunningServer


@click.command(
    help="""Serve the model repository with a real tritonserver until ctrl-C.

    The server is the embedded one of the nvidia-pytriton wheel, a tritonserver binary (--tritonserver), or a
    container (--image). ctrl-C lets requests in flight finish and ends it; a second one kills it. Options
    after -- go to tritonserver as they are:

    \b
        trtkit serve -- --log-verbose=1 --rate-limit=execution_count""",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- TRITONSERVER_OPTIONS]")
@project_option
@repository_option
@click.option("--model", "models", multiple=True, help="Serve only this model; may be given several times.")
@click.option(
    "--model-config-name",
    metavar="NAME",
    help="Serve each model by its configs/NAME.pbtxt; those without one by their config.pbtxt.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="The interface to listen on.")
@click.option("--http-port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--grpc-port", type=click.IntRange(1, 65535), default=8001, show_default=True)
@click.option("--metrics-port", type=click.IntRange(1, 65535), default=8002, show_default=True)
@click.option(
    "--tritonserver", type=click.Path(path_type=Path), help="A tritonserver binary instead of the embedded one."
)
@click.option("--image", help="A tritonserver container image instead; needs docker.")
@click.option("--gpus", help="With --image: docker's --gpus value, e.g. all.")
@click.option("--dry-run", is_flag=True, help="Print the command line and do not run it.")
@click.option(
    "--ready-timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Seconds to wait until it is ready.",
)
@json_option
def command(project_path: Path | None, repository: Path | None, as_json: bool, **given: Any) -> int:
    """Start the server, say where it is, wait."""
    from trtkit.errors import ProjectError

    folder = repository_of(optional_project(project_path) if repository is None else None, repository)
    check_models(folder, given["models"])
    _check_config_name(folder, given["model_config_name"])
    given["options"] = [*given["options"], *_needed(folder, given)]
    if given["image"] and given["tritonserver"]:
        raise ProjectError("--image and --tritonserver exclude each other; give one")
    if given["image"]:
        return _run_image(folder, given)
    return _run_process(folder, given, as_json)


def _check_config_name(folder: Path, name: str | None) -> None:
    """The server says nothing of a name that no model has, and serves config.pbtxt."""
    from trtkit.errors import ProjectError, nearest
    from trtkit.repository import models, variants

    known = {variant for model in models(folder) for variant in variants(folder, model)}
    if name is not None and name not in known:
        raise ProjectError(f"--model-config-name {name}: no model has configs/{name}.pbtxt; {nearest(name, known)}")


def _needed(folder: Path, given: dict[str, Any]) -> list[str]:
    """The flags without which a field of a config does nothing, such as the cache's; each is said."""
    from trtkit.lint.flags import flags_for
    from trtkit.lint.run import open_repository
    from trtkit.lint.server_facts import ServerFacts
    from trtkit.lint.tree import LocalTree

    repository = open_repository(LocalTree(folder), ServerFacts())
    added = flags_for(repository, _options(given), given["models"])
    for flag, model in added.items():
        console(stderr=True).print(f"added {flag}, which {model.name}'s {model.config_file} needs", markup=False)
    return list(added)


def _options(given: dict[str, Any]) -> list[str]:
    control = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in given["models"])]
    name = given["model_config_name"]
    variant = [f"--model-config-name={name}"] if name is not None else []
    return [*(control if given["models"] else []), *variant, *given["options"]]


def _run_image(folder: Path, given: dict[str, Any]) -> int:
    from trtkit.errors import MissingDependencyError
    from trtkit.server.launch import container_command, shown

    ports = (given["http_port"], given["grpc_port"], given["metrics_port"])
    line = container_command(
        given["image"], folder, _options(given), gpus=given["gpus"], address=given["address"], ports=ports
    )
    if given["dry_run"]:
        sys.stdout.write(f"{shown(line)}\n")
        return 0
    try:
        return subprocess.call(line)  # docker forwards ctrl-C; --init passes it on to tritonserver
    except FileNotFoundError as exc:
        raise MissingDependencyError(
            "docker is not installed; --dry-run prints the command line to run elsewhere"
        ) from exc


def _run_process(folder: Path, given: dict[str, Any], as_json: bool) -> int:
    from trtkit.server import embedded_launch, start_server, tritonserver_launch
    from trtkit.server.launch import shown
    from trtkit.server.process import Ports, server_command

    ports = Ports(given["http_port"], given["grpc_port"], given["metrics_port"])
    launch = tritonserver_launch(given["tritonserver"]) if given["tritonserver"] else embedded_launch()
    if given["dry_run"]:
        sys.stdout.write(
            f"{shown(server_command(launch, None, folder, _options(given), ports, given['address'], ''))}\n"
        )
        return 0
    _treat_sigterm_as_ctrl_c()
    with ExitStack() as stack:
        started = time.perf_counter()
        server = start_server(
            stack, folder, _options(given), launch=launch, ports=ports, address=given["address"],
            ready_timeout_s=given["ready_timeout"],
        )  # fmt: skip
        _serve(server, time.perf_counter() - started, as_json)
    return 0


def _treat_sigterm_as_ctrl_c() -> None:
    """A process manager's SIGTERM drains as well."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _say_ready(server: RunningServer, seconds: float, as_json: bool) -> None:
    from trtkit.server import connect

    with connect(server.http_url) as client:
        models = client.ready_models()
    where = {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    if as_json:
        print_json({**where, "models": models, "pid": server.process.pid})
    else:
        names = ", ".join(f"{name} {'/'.join(versions)}" for name, versions in models.items())
        out = console()
        out.print(f"Ready after {seconds:.1f} s: {names or 'no model is loaded'}", markup=False)
        out.print(
            f"HTTP {where['http']}   gRPC {where['grpc']}   metrics {where['metrics']}/metrics   ctrl-C stops",
            markup=False,
        )
    sys.stdout.flush()


def _serve(server: RunningServer, seconds: float, as_json: bool) -> None:
    """Say where it is and wait until ctrl-C; then drain, and on a second ctrl-C kill."""
    try:
        _say_ready(server, seconds, as_json)  # whoever reads this may already ask for the end
        while True:
            server.check_alive()
            time.sleep(0.2)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopping: requests in flight may finish; ctrl-C again kills\n")
    try:
        server.stop()
    except KeyboardInterrupt:
        server.kill()
        sys.stderr.write("killed\n")
