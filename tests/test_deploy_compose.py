# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered Compose project: the schema, Compose's own reading of it over the matrix, and what is decided in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy_matrix import MATRIX, MODELS, ONE, deploy_project, matrix_project
from deploy_tools import program, run, write_all
from trtkit.cli import main
from trtkit.deploy.compose.document import document, files
from trtkit.deploy.compose.service import IMAGES
from trtkit.deploy.figure import plain
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan

EVERYTHING = {
    "target": "gpu",
    "gpu": {"product": "NVIDIA-A100-SXM4-80GB", "mig": "1g.10gb"},
    "storage": {"kind": "s3", "uri": "s3://http://s3:5000/models/x", "region": "eu-central-1", "secret": "keys"},
    "compose": {"redis": True, "rabbitmq": True, "s3": True, "http_port": 9000, "address": "0.0.0.0"},
    "monitoring": {"webhook_url_file": "/run/secrets/hook"},
}


def plan_of(folder: Path, **deploy: Any) -> Plan:
    return make_plan(deploy_project(folder, {"target": "cpu", **deploy}, ("encoder", "echo", "cached")))


def services(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = plain(document(plan))["services"]
    return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The project of every row of the matrix, and one with everything, on disk."""
    folder = tmp_path_factory.mktemp("compose")
    found = {}
    for name, deploy in {**MATRIX, "everything": EVERYTHING}.items():
        project = deploy_project(folder / name, deploy, MODELS.get(name, ONE))
        found[name] = write_all(files(make_plan(project)), folder / name / "deploy/compose")
    return found


def test_the_schema_of_compose_holds(rendered: dict[str, Path]) -> None:
    documents = [folder / "compose.yaml" for folder in rendered.values()]
    run(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *documents)


@pytest.mark.parametrize("name", ["cpu", "one_gpu", "mig", "s3_keys", "gcs", "baked", "everything"])
def test_compose_reads_it_without_a_warning(rendered: dict[str, Path], name: str) -> None:
    folder = rendered[name]
    (folder / ".env").write_text((folder / ".env.example").read_text())
    command = [program("docker-compose"), "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    config = json.loads(done.stdout)
    for name, service in config["services"].items():
        # what is mounted from this folder was rendered into it, and Compose makes no empty folders in its place
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["target"] == "/models" or volume.get("read_only"), name
            assert volume["type"] == "volume" or volume["bind"].get("create_host_path") is not True, name
    triton = config["services"]["triton"]
    if name in ("cpu", "one_gpu", "mig"):
        assert Path(triton["volumes"][0]["source"]) == folder.parents[1] / "model_repository"


@pytest.mark.parametrize("name", ["cpu", "everything"])
def test_every_file_that_is_mounted_is_rendered(rendered: dict[str, Path], name: str) -> None:
    folder = rendered[name]
    mounted = re.findall(r'source: "?(\./[^"\n]+)', (folder / "compose.yaml").read_text())
    assert len(mounted) >= 5
    missing = [path for path in mounted if not (folder / path).exists()]
    assert missing == []


def test_every_variable_is_in_the_example_and_no_secret_is_one(rendered: dict[str, Path]) -> None:
    for folder in rendered.values():
        text, example = (folder / "compose.yaml").read_text(), (folder / ".env.example").read_text()
        used = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))
        assert used == set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", example, re.M))
        assert not any(word in variable for variable in used for word in ("PASSWORD", "SECRET", "KEY", "TOKEN"))
        for name in yaml.safe_load(text)["secrets"]:
            assert f"secrets/{name}:" in example


def test_no_service_has_rights_it_does_not_need(rendered: dict[str, Path]) -> None:
    for row, folder in rendered.items():
        value = yaml.safe_load((folder / "compose.yaml").read_text())
        assert "version" not in value
        for name, service in value["services"].items():
            where = f"{row}: {name}"
            assert service["cap_drop"] == ["ALL"], where
            assert service["security_opt"] == ["no-new-privileges:true"], where
            assert service["logging"]["options"]["max-size"], where
            assert service["mem_limit"], where
            assert service["healthcheck"]["test"][0] == "CMD", where
            assert ":latest" not in service["image"], where
            if name != "dcgm-exporter":
                assert service["read_only"] is True, where
                assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), where
                assert "cap_add" not in service, where


def test_only_what_is_asked_for_is_there(tmp_path: Path) -> None:
    usual = {"triton", "triton-canary", "envoy", "prometheus", "alertmanager", "grafana"}
    assert set(services(plan_of(tmp_path / "a"))) == usual
    everything = services(make_plan(deploy_project(tmp_path / "b", EVERYTHING)))
    assert set(everything) == usual | {"dcgm-exporter", "redis", "rabbitmq", "s3"}
    assert set(IMAGES) == set(everything) - {"triton", "triton-canary"}
    assert {name for name, service in everything.items() if "profiles" in service} == {"triton-canary", "s3"}


def test_the_figures_are_the_plan_s(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "p", server={"exit_timeout_seconds": 33, "pre_stop_seconds": 20, "startup_seconds": 77})
    triton = services(plan)["triton"]
    assert triton["healthcheck"]["start_period"] == "77s"
    stop = int(triton["stop_grace_period"].removesuffix("s"))
    assert 33 + 10 <= stop == plan.drain.grace.whole - 20
    assert triton["shm_size"] == f"{plan.memory.shm.whole}m"
    memory = int(triton["mem_limit"].removesuffix("m"))
    assert memory == plan.memory.host.whole + plan.memory.temporary.whole
    assert "--exit-timeout-secs=33" in triton["command"]
    assert triton["labels"]["trtkit.io/repo-digest"] == plan.digest
    assert services(plan)["envoy"]["depends_on"] == {"triton": {"condition": "service_healthy"}}


def test_a_gpu_is_named_and_a_slice_too(tmp_path: Path) -> None:
    def devices(name: str, row: str) -> Any:
        plan = make_plan(matrix_project(tmp_path / f"{name}_{row}", row))
        return services(plan)[name]["deploy"]["resources"]["reservations"]["devices"]

    assert devices("triton", "one_gpu") == [
        {"driver": "nvidia", "device_ids": ["${GPU_DEVICE:-0}"], "capabilities": ["gpu"]}
    ]
    assert devices("triton-canary", "one_gpu")[0]["device_ids"] == ["${CANARY_GPU_DEVICE:-0}"]
    assert devices("triton", "mig")[0]["device_ids"] == ["${GPU_DEVICE:-0:0}"]
    assert "deploy" not in services(plan_of(tmp_path / "cpu"))["triton"]


def test_redis_takes_the_place_of_the_local_cache(tmp_path: Path) -> None:
    local = services(plan_of(tmp_path / "a"))["triton"]["command"]
    assert [flag.partition(",")[0] for flag in local if "cache-config" in flag] == ["--cache-config=local"]
    shared = services(plan_of(tmp_path / "b", compose={"redis": True}))["triton"]["command"]
    assert [flag for flag in shared if "cache-config" in flag] == ["--cache-config=redis,host=redis,port=6379"]


def test_keys_of_a_bucket_are_a_file_and_no_variable(tmp_path: Path) -> None:
    triton = services(make_plan(matrix_project(tmp_path / "p", "s3_keys")))["triton"]
    assert triton["environment"]["TRITON_CLOUD_CREDENTIAL_PATH"] == "/run/secrets/bucket.json"
    assert triton["secrets"] == ["bucket.json"]
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(triton["environment"])
    assert "volumes" not in triton


def test_the_scripts_are_shell(rendered: dict[str, Path]) -> None:
    for script in ("update.sh", "canary.sh"):
        run("sh", "-n", rendered["one_gpu"] / script)


class Docker:
    """A stand-in for docker that answers from files and writes down what is asked of it."""

    def __init__(self, folder: Path, answers: str) -> None:
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        (folder / "docker").write_text(f'#!/bin/sh\necho "$*" >> {folder}/asked\n{answers}')
        (folder / "sleep").write_text("#!/bin/sh\n")
        for name in ("docker", "sleep"):
            (folder / name).chmod(0o755)

    def run(self, *command: str | Path) -> tuple[int, list[str]]:
        (self.folder / "asked").write_text("")
        done = subprocess.run(["sh", *command], env=self.env, check=False, capture_output=True)
        return done.returncode, (self.folder / "asked").read_text().splitlines()


def test_the_update_script_stops_the_old_server_only_when_a_new_one_is_well(
    rendered: dict[str, Path], tmp_path: Path
) -> None:
    docker = Docker(
        tmp_path,
        f"""case "$*" in
"compose ps --quiet triton") cat {tmp_path}/running ;;
"compose ps --all --quiet triton") cat {tmp_path}/running; echo n3w ;;
"compose up"*) exit "$(cat {tmp_path}/up)" ;;
esac
""",
    )

    def update(running: str, up: int) -> tuple[int, list[str]]:
        (tmp_path / "running").write_text(running)
        (tmp_path / "up").write_text(str(up))
        return docker.run(rendered["one_gpu"] / "update.sh")

    first = ["compose rm --force triton", "compose ps --quiet triton"]
    start = "compose up --detach --no-deps --no-recreate --wait --wait-timeout {} --scale triton={} triton"
    plan = make_plan(matrix_project(tmp_path / "p", "one_gpu"))
    wait = plan.startup.budget.whole + 60
    code, asked = update("0ld\n", 0)
    assert code == 0
    assert asked[:5] == [*first, start.format(wait, 2), "stop --time 75 0ld", "rm 0ld"]
    assert asked[5] == "compose kill --signal HUP prometheus alertmanager"  # the rules of the new models
    code, asked = update("0ld\n0lder\n", 1)
    assert code == 1
    ending = ["compose ps --all --quiet triton", "logs --tail 40 n3w", "rm --force n3w"]
    assert asked == [*first, start.format(wait, 3), *ending]
    code, asked = update("", 0)
    assert code == 1
    assert asked == first


def test_the_canary_script_asks_for_the_weights_of_every_cluster(rendered: dict[str, Path], tmp_path: Path) -> None:
    script = rendered["cpu"] / "canary.sh"
    docker = Docker(
        tmp_path,
        f"""case "$*" in
*"exec -T envoy grep"*) shift 5; exec grep "$1" "$2" envoy/envoy.yaml ;;
*"ps --quiet triton-canary") cat {tmp_path}/running ;;
inspect*) cat {tmp_path}/health ;;
*) for last; do :; done; echo "$last" > {tmp_path}/weights ;;
esac
""",
    )

    def share(percent: int, running: str, health: str) -> tuple[int, dict[str, int]]:
        (tmp_path / "weights").write_text("")
        (tmp_path / "running").write_text(running)
        (tmp_path / "health").write_text(health)
        code, _ = docker.run(script, str(percent))
        text = (tmp_path / "weights").read_text().strip()
        return code, {name: int(value) for name, value in (pair.split("=") for pair in text.split("&") if pair)}

    def weights(canary: int) -> dict[str, int]:
        tracks = ("http_{}", "grpc_{}", "http_{}_sequences")
        shares = (("canary", canary), ("stable", 100 - canary))
        return {f"traffic.triton_{track.format(name)}": share for track in tracks for name, share in shares}

    assert share(10, "c4nary", "healthy") == (0, weights(10))
    # its share would be answered with 503
    assert share(10, "", "") == (1, {})
    assert share(10, "c4nary", "starting") == (1, {})
    assert share(0, "", "") == (0, weights(0))
    assert share(101, "c4nary", "healthy") == (2, {})


def test_what_asks_for_no_password_stays_on_the_host(tmp_path: Path) -> None:
    """Prometheus, Alertmanager, which anybody could silence, and the S3 server of trials."""
    found = services(make_plan(deploy_project(tmp_path, EVERYTHING)))  # with the address 0.0.0.0
    published = {name: port for name, service in found.items() for port in service.get("ports", [])}
    open_ones = {name for name, port in published.items() if port.startswith("${BIND_ADDRESS:-0.0.0.0}:")}
    kept = {name for name, port in published.items() if port.startswith("${UNGUARDED_ADDRESS:-127.0.0.1}:")}
    assert open_ones == {"envoy", "grafana"}
    assert kept == {"prometheus", "alertmanager", "s3"}


def test_the_servers_temporary_files_may_be_executed(tmp_path: Path) -> None:
    """A packed Python environment is unpacked there, and Docker mounts a tmpfs noexec by itself."""
    for name in ("triton", "triton-canary"):
        assert "exec" in services(plan_of(tmp_path / name))[name]["tmpfs"][0].split(":")[1].split(",")


@pytest.mark.parametrize("path", ["/etc/alertmanager/hook", "secrets/hook"])
def test_alertmanager_finds_the_address_that_compose_mounts(tmp_path: Path, path: str) -> None:
    """Not below its configuration's folder: no mount point can be made in what is mounted read-only."""
    plan = plan_of(tmp_path, monitoring={"webhook_url_file": path})
    alertmanager = services(plan)["alertmanager"]
    receiver = yaml.safe_load(files(plan)["alertmanager/alertmanager.yml"])["receivers"][0]
    assert alertmanager["secrets"] == ["alert_webhook_url"]
    assert receiver["webhook_configs"][0]["url_file"] == "/run/secrets/alert_webhook_url"
    assert plain(document(plan))["secrets"]["alert_webhook_url"] == {"file": "./secrets/alert_webhook_url"}


def test_what_is_mounted_is_readable_for_the_containers_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = matrix_project(tmp_path / "p", "cpu")
    monkeypatch.setattr("sys.argv", ["trtkit", "deploy", "compose", "--project", str(project.root)])
    before = os.umask(0o077)
    try:
        with pytest.raises(SystemExit):
            main()
    finally:
        os.umask(before)
    folder = project.root / "deploy/compose"
    mounted = [path for top in ("envoy", "prometheus", "alertmanager", "grafana") for path in (folder / top).rglob("*")]
    assert len(mounted) > 8
    assert {oct(path.stat().st_mode & 0o777) for path in mounted if path.is_file()} == {"0o644"}
    assert {oct(path.stat().st_mode & 0o777) for path in [*mounted, folder / "grafana"] if path.is_dir()} == {"0o755"}


def test_the_command_writes_it_and_leaves_edited_files_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = matrix_project(tmp_path / "p", "cpu")
    words = ["trtkit", "deploy", "compose", "--project", str(project.root)]

    def trtkit(*further: str) -> int:
        monkeypatch.setattr("sys.argv", [*words, *further])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert trtkit() == 0
    folder = project.root / "deploy/compose"
    assert "MODELS_DIR=../../model_repository" in (folder / ".env.example").read_text()
    assert os.access(folder / "update.sh", os.X_OK)
    assert trtkit("--check") == 0
    (folder / "envoy/envoy.yaml").write_text("mine")
    assert trtkit() != 0
    assert (folder / "envoy/envoy.yaml").read_text() == "mine"
    assert "envoy/envoy.yaml" in capsys.readouterr().err
