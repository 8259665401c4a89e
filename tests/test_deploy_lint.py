# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The deployment's linter: which files it judges, comments, what is known beside the files, reports, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from test_deploy_lint_golden import CASES
from trtkit.cli.deploy_lint import lint as command
from trtkit.deploy.manifests.commands import flags, split
from trtkit.deploy.manifests.dockerfile import replaced, stages
from trtkit.deploy.manifests.fileset import Known
from trtkit.deploy.manifests.known import known_of
from trtkit.deploy.manifests.nodes import documents
from trtkit.deploy.manifests.run import lint_files
from trtkit.deploy.manifests.values import quantity, seconds, share
from trtkit.errors import ProjectError
from trtkit.lint.finding import Finding

DEPLOYMENT = (CASES / "DRN001_grace_of_30" / "right" / "deployment.yaml").read_text()
TRITON = "nvcr.io/nvidia/tritonserver:25.01-py3"


def found(folder: Path, known: Known | None = None, **files: str) -> list[Finding]:
    """Lint files by name, with `__` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(lint_files([str(folder)], known=known).outcome.findings)


def codes(folder: Path, known: Known | None = None, **files: str) -> list[str]:
    return [finding.code for finding in found(folder, known, **files)]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], standalone_mode=False)


# which files


def test_objects_of_a_list_are_judged_where_they_stand(tmp_path: Path) -> None:
    service = "  - apiVersion: v1\n    kind: Service\n    metadata: {name: a}\n    spec: {selector: {app: a}}\n"
    (finding,) = found(tmp_path, all__yaml=f"apiVersion: v1\nkind: List\nitems:\n{service}")
    assert (finding.code, finding.model, finding.place) == ("KUB003", "Service/a", "all.yaml:7:5")


def test_json_manifests_are_judged(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}}}
    assert codes(tmp_path, a__json=json.dumps(service, indent=2)) == ["KUB003"]


def test_a_package_json_is_none_of_our_business(tmp_path: Path) -> None:
    assert codes(tmp_path, package__json='{"name": "x", "scripts": {"start": "node ."}}') == []
    assert codes(tmp_path, tsconfig__json="{ /* a comment */ }") == []


def test_helm_templates_and_patches_are_left_out_and_said_so(tmp_path: Path) -> None:
    patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 3}\n"
    (tmp_path / "patch.yaml").write_text(patch)
    (tmp_path / "kustomization.yaml").write_text("patches: [{path: patch.yaml}]\n")
    (tmp_path / "template.yaml").write_text("replicas: {{ .Values.replicas }}\n")
    linted = lint_files([str(tmp_path)])
    assert linted.outcome.findings == ()
    template, patch = linted.skipped
    assert "template.yaml is left out" in template
    assert "helm template" in template
    assert "patch.yaml is left out" in patch
    assert "kubectl kustomize" in patch
    (tmp_path / "kustomization.yaml").unlink()
    assert [finding.code for finding in lint_files([str(tmp_path)]).outcome.findings] == ["KUB001", "KUB001"]


def test_templates_of_prometheus_are_no_templates_of_helm(tmp_path: Path) -> None:
    rules = (
        "groups:\n  - rules:\n      - {alert: A, expr: nv_nothing > 1, annotations: {summary: '{{ $labels.pod }}'}}\n"
    )
    assert codes(tmp_path, rules__yaml=rules) == ["PQL003"]


def test_files_inside_a_config_map_keep_their_places(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: rules}\ndata:\n  rules.yaml: |\n"
        "    groups:\n      - rules:\n          - record: a\n            expr: nv_nothing\n"
    )
    (finding,) = found(tmp_path, map__yaml=text)
    assert (finding.code, finding.line, finding.column) == ("PQL003", 9, 19)


def test_an_expression_of_several_lines_has_the_line_of_the_metric(tmp_path: Path) -> None:
    rules = (
        "groups:\n  - rules:\n      - record: a\n        expr: |\n          sum(\n            nv_nothing\n          )\n"
    )
    (finding,) = found(tmp_path, rules__yaml=rules)
    assert finding.line == 6


def test_merge_keys_of_compose_are_followed(tmp_path: Path) -> None:
    text = (
        f"x-triton: &triton\n  shm_size: 1gb\n  stop_grace_period: 60s\nservices:\n"
        f"  triton:\n    <<: *triton\n    image: {TRITON}\n    healthcheck: {{start_period: 60s}}\n"
    )
    assert codes(tmp_path, compose__yaml=text) == []
    assert codes(tmp_path, compose__yaml=text.replace("60s\nservices", "5s\nservices")) == ["CMP003"]


def test_other_workloads_are_left_in_peace(tmp_path: Path) -> None:
    other = DEPLOYMENT.replace("nvcr.io/nvidia/tritonserver:25.01-py3", "redis").replace("tritonserver", "redis-server")
    other = re.sub(r"          ports:\n(            - .*\n)+", "", other)
    other = re.sub(r"          (startup|liveness|readiness)Probe:\n(            .*\n)+", "", other)
    assert (
        codes(tmp_path, a__yaml=other.replace("terminationGracePeriodSeconds: 90", "terminationGracePeriodSeconds: 5"))
        == []
    )


def test_a_server_in_an_image_of_ones_own_is_known_by_its_ports(tmp_path: Path) -> None:
    text = DEPLOYMENT.replace(TRITON, "registry.example.com/digits:1").replace("            - tritonserver\n", "")
    assert codes(tmp_path / "same", a__yaml=text) == []
    assert codes(tmp_path / "less", a__yaml=text.replace("terminationGracePeriodSeconds: 90", "")) == ["DRN001"]


PORTS = {
    "each": '["8000:8000", "8001:8001", "127.0.0.1:8002:8002/tcp"]',
    "a range": '["8000-8002:8000-8002"]',
    "other ports outside": '["9000-9002:8000-8002"]',
    "mappings": "[{target: 8000}, {target: 8001}, {target: 8002, published: 80}]",
}


@pytest.mark.parametrize("ports", PORTS.values(), ids=PORTS)
def test_a_compose_service_that_is_built_here_is_known_by_its_ports(tmp_path: Path, ports: str) -> None:
    service = "services:\n  server:\n    build: .\n    shm_size: 1gb\n    healthcheck: {test: [CMD, a]}\n"
    text = f"{service}    ports: {ports}\n"
    assert codes(tmp_path, compose__yaml=text) == ["CMP003"]
    assert codes(tmp_path, compose__yaml=text.replace("8002", "8001")) == []
    assert codes(tmp_path, compose__yaml=text.replace("build: .", "image: registry.example.com/web:1")) == []


def test_the_options_of_kserves_runtimes_are_judged(tmp_path: Path) -> None:
    text = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: ClusterServingRuntime\nmetadata: {name: triton}\n"
        f"spec:\n  containers:\n    - image: {TRITON}\n      args: [tritonserver, --model-store=/mnt/models]\n"
    )
    assert codes(tmp_path, runtime__yaml=text) == ["SRV002"]


def test_a_budget_for_one_replica_that_lets_no_node_be_drained(tmp_path: Path) -> None:
    budget = (
        "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: a}\n"
        "spec: {minAvailable: 1, selector: {matchLabels: {app: a}}}\n"
    )
    pod = "metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: 'a:1'}]}"
    work = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"
        f"spec: {{replicas: 1, selector: {{matchLabels: {{app: a}}}}, template: {{{pod}}}}}\n"
    )
    (finding,) = found(tmp_path, a__yaml=work + budget)
    assert (finding.code, finding.message) == ("ROL003", "minAvailable 1 of 1 replica lets no node be drained")
    assert codes(tmp_path, a__yaml=work.replace("replicas: 1", "replicas: 2") + budget) == []
    # Kubernetes takes no such number, and neither is it one here
    assert codes(tmp_path, a__yaml=work.replace("replicas: 1", "replicas: .inf") + budget) == ["ROL003"]


def test_the_nearest_server_counts(tmp_path: Path) -> None:
    query = "groups: [{rules: [{record: a, expr: nv_model_load_duration_secs}]}]\n"
    old, new = (
        f"#!/bin/sh\ndocker run {TRITON.replace('25.01', release)} tritonserver\n" for release in ("23.10", "25.01")
    )
    for folder, script in (("old", old), ("new", new)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.sh").write_text(script)
        (tmp_path / folder / "rules.yaml").write_text(query)
    assert [(f.code, f.file) for f in found(tmp_path)] == [("PQL005", "old/rules.yaml")]


def test_metrics_of_other_programs_are_left_in_peace(tmp_path: Path) -> None:
    rules = "groups:\n  - rules:\n      - record: a\n        expr: rate(http_requests_total[5m])\n"
    assert codes(tmp_path, rules__yaml=rules) == []


def test_what_a_recording_rule_made_is_no_unknown_metric(tmp_path: Path) -> None:
    rules = "groups:\n  - rules:\n      - {alert: A, expr: 'nv_inference_queue_duration_us:mean5m > 10'}\n"
    assert codes(tmp_path, rules__yaml=rules) == []
    assert codes(tmp_path, rules__yaml=rules.replace(":mean5m", "_mean5m")) == ["PQL003"]


_FAILED, _DONE = "rate(nv_inference_request_failure[5m])", "rate(nv_inference_request_success[5m])"
PAIRED = {
    "a failure of nothing": (f"{_FAILED} > 0", []),
    "one that is added up": (f"sum({_FAILED}) / sum({_DONE})", []),
    "by a reason that is left out": (f"{_FAILED} / ignoring(reason) group_left {_DONE}", []),
    "the raw counters": ("nv_inference_request_failure / nv_inference_request_success", ["PQL012"]),
    "inside a sum": (f"sum(increase(nv_inference_count{{model='a'}}[5m]) + {_FAILED})", ["PQL012"]),
    "against a division by zero": (f"{_FAILED} / clamp_min({_DONE}, 1)", ["PQL011", "PQL012"]),
}


@pytest.mark.parametrize(("query", "wanted"), PAIRED.values(), ids=PAIRED)
def test_failures_have_a_reason_that_no_other_counter_has(tmp_path: Path, query: str, wanted: list[str]) -> None:
    rules = f'groups:\n  - rules:\n      - record: a\n        expr: "{query}"\n'
    assert codes(tmp_path / "a", rules__yaml=rules) == wanted
    assert "PQL012" not in codes(tmp_path / "b", known_of(None, "24.07", None, None, None), rules__yaml=rules)


# comments


def test_a_comment_at_the_end_of_a_line_is_for_that_line(tmp_path: Path) -> None:
    wrong = DEPLOYMENT.replace("terminationGracePeriodSeconds: 90", "terminationGracePeriodSeconds: 30")
    assert codes(tmp_path, a__yaml=wrong) == ["DRN001"]
    assert codes(tmp_path, a__yaml=wrong.replace("Seconds: 30", "Seconds: 30  # trtkit: ignore=DRN001")) == []


def test_a_comment_alone_is_for_the_whole_value_below(tmp_path: Path) -> None:
    wrong = DEPLOYMENT.replace("path: /v2/health/live", "path: /health")
    assert codes(tmp_path, a__yaml=wrong) == ["PRB007", "PRB007"]
    commented = wrong.replace(
        "      containers:\n", "      # trtkit: ignore=probe-asks-what-is-not-there\n      containers:\n"
    )
    assert codes(tmp_path, a__yaml=commented) == []


def test_a_comment_above_everything_is_for_the_file(tmp_path: Path) -> None:
    assert codes(tmp_path, Dockerfile=f"# trtkit: ignore-file=DKR\nFROM {TRITON}\nUSER root\n") == []
    assert codes(tmp_path, Dockerfile=f"FROM {TRITON}\n# trtkit: ignore=DKR005\nUSER root\n") == []
    assert codes(tmp_path, Dockerfile=f"FROM {TRITON}\nUSER root\n") == ["DKR005"]


def test_a_comment_about_what_is_not_known_is_not_called_unused(tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("          startupProbe:", "          # trtkit: ignore=PRB002\n          startupProbe:")
    assert codes(tmp_path, a__yaml=text) == []
    assert codes(tmp_path, Known("1.30", "25.01", 1, 1), a__yaml=text) == ["CMT002"]


# the arithmetic


@pytest.mark.parametrize(
    ("grace", "wait", "leave", "enough"),
    [(85, 15, 60, True), (84, 15, 60, False), (50, 10, 30, True), (49, 10, 30, False)],
)
def test_the_drain_s_sum(grace: int, wait: int, leave: int, enough: bool, tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("PeriodSeconds: 90", f"PeriodSeconds: {grace}").replace('"15"', f'"{wait}"')
    text = text.replace("exit-timeout-secs=60", f"exit-timeout-secs={leave}")
    assert codes(tmp_path, a__yaml=text) == ([] if enough else ["DRN001"])


@pytest.mark.parametrize(
    ("load", "expected"),
    [(59, []), (60, []), (61, ["PRB003"]), (120, ["PRB003"]), (121, ["PRB002"]), (1200, ["PRB002"])],
)
def test_the_start_up_budget_of_120_seconds(load: int, expected: list[str], tmp_path: Path) -> None:
    assert codes(tmp_path, Known(load_seconds=load), a__yaml=DEPLOYMENT) == expected


@pytest.mark.parametrize(
    ("replicas", "strategy", "gpus", "free", "expected"),
    [
        (2, "maxSurge: 1, maxUnavailable: 0", 1, 1, []),
        (2, "maxSurge: 1, maxUnavailable: 0", 1, 0, ["ROL002"]),
        (2, "maxSurge: 1, maxUnavailable: 0", 2, 1, ["ROL002"]),
        (2, "maxSurge: 1, maxUnavailable: 0", 1, None, ["ROL001"]),
        (3, "maxSurge: 25%, maxUnavailable: 25%", 1, 0, ["ROL002"]),  # up to 1, down to 0
        (4, "maxSurge: 25%, maxUnavailable: 25%", 1, 0, []),  # down to 1: one may end first
        (10, "maxSurge: 25%, maxUnavailable: 0", 1, 2, ["ROL002"]),  # up to 3
        (2, "maxSurge: 0, maxUnavailable: 1", 1, 0, []),
    ],
)
def test_surge(replicas: int, strategy: str, gpus: int, free: int | None, expected: list[str], tmp_path: Path) -> None:
    text = DEPLOYMENT.replace("replicas: 2", f"replicas: {replicas}").replace(
        "maxSurge: 0, maxUnavailable: 1", strategy
    )
    text = text.replace("nvidia.com/gpu: 1", f"nvidia.com/gpu: {gpus}")
    assert codes(tmp_path, Known(free_gpus=free), a__yaml=text) == expected


def test_values() -> None:
    assert (quantity("500m"), quantity("2Gi"), quantity("80"), quantity("x"), quantity("1e999")) == (
        0.5,
        2**31,
        80,
        None,
        None,
    )
    assert (seconds("1m30s"), seconds("90"), seconds("300ms"), seconds("soon")) == (90, 90, 0.3, None)
    assert (share("25%", 3, up=True), share("25%", 3, up=False), share("2", 9, up=True), share("x", 9, up=True)) == (
        1,
        0,
        2,
        None,
    )


@pytest.mark.parametrize(
    ("version", "expected"), [(None, ["KUB005"]), ("1.26", ["KUB005"]), ("v1.30.2", ["KUB005"]), ("1.25", [])]
)
def test_api_versions_by_the_cluster_s(version: str | None, expected: list[str], tmp_path: Path) -> None:
    hpa = (CASES / "KUB005_hpa_v2beta2" / "wrong" / "hpa.yaml").read_text()
    assert codes(tmp_path, known_of(kube_version=version), hpa__yaml=hpa) == expected


# pieces


def test_flags_of_a_shell_s_command(tmp_path: Path) -> None:
    text = "set -e\nexec tritonserver \\\n  --load-model=a \\\n  --model-repository /models && echo --done\n"
    (finding,) = found(tmp_path, start__sh=text)
    assert (finding.code, finding.place) == ("SRV001", "start.sh:3:3")


def test_flags_take_their_values_either_way() -> None:
    given = flags(split('--w=1 --x 2 --y --z "x y"', "f", 1))
    assert [(each.name, each.value) for each in given] == [("w", "1"), ("x", "2"), ("y", ""), ("z", "x y")]


def test_the_beginning_of_an_option_is_the_option() -> None:
    """As tritonserver takes it: getopt_long."""
    given = flags(split("--exit-timeout=0 --model-repo /m --trace=1 --model-path=x", "f", 1))
    assert [each.name for each in given] == ["exit-timeout-secs", "model-repository", "trace", "model-path"]


def test_a_command_in_quotes_is_read(tmp_path: Path) -> None:
    command = 'bash -c "ulimit -n 9999 && tritonserver --model-store=/models & tail -f /dev/null --bad"'
    text = (
        f"services:\n  triton:\n    image: x:1\n    shm_size: 1gb\n    stop_grace_period: 60s\n    command: {command}\n"
    )
    assert [f.place for f in found(tmp_path, compose__yaml=text) if f.code == "SRV002"] == ["compose.yaml:6:54"]


def test_stages_and_build_arguments() -> None:
    (build, final) = stages('ARG T=25.01\nFROM base:${T}-py3 AS build\nRUN a \\\n  b\nFROM build\nCMD ["x", "y"]\n')
    assert (build.base, build.own[0].rest, build.own[0].last_line) == ("base:25.01-py3", "a b", 4)
    assert (final.image, final.last("CMD").words) == ("base:25.01-py3", ["x", "y"])
    assert replaced("${A:-x:${B:-1}}", {}) == "x:1"


# robustness


PIECES = st.sampled_from(
    [
        "apiVersion: apps/v1\n", "kind: Deployment\n", "spec:\n", "  template: &a\n", "    spec: *a\n", "- ",
        "  containers: [", "]\n", "{", "}", "services:\n", "  triton: {image: tritonserver, command: 3}\n",
        "groups: [{rules: [{expr: 'rate(nv_x[5m'}]}]\n",
        "<<: ", "*a", "\t", "\x00", "é", "---\n", "kind: List\nitems: [1, {}]\n", "|\n  x\n",
        "rules: {custom: 1}\n", "static_resources: []\n",
        "FROM x\n", "RUN <<EOF\n", "HEALTHCHECK CMD [1]\n", "\\\n", "nvidia-smi -mig",
        "tritonserver --", "'", '"', "# trtkit: ignore=\n",
    ]
)  # fmt: skip
NAMES = st.sampled_from(["a.yaml", "Dockerfile", ".dockerignore", "a.sh", "a.py", "a.json", "a.md", "anything"])


@settings(max_examples=150, deadline=None)
@given(name=NAMES, text=st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=60)))
def test_any_text_gives_findings_and_no_traceback(
    name: str, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("any") / name
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    other = file.parent / "z.yaml"  # so that there is always something to judge
    other.write_text("a: 1\n")
    for finding in lint_files([str(file), str(other)], known=Known("1.30", "25.01", 60, 0)).outcome.findings:
        assert finding.message.isprintable()
        assert finding.line is not None
        assert finding.line >= 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_a_manifest_gives_findings_and_no_traceback(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = sorted(CASES.glob("*/wrong/*"))
    original = data.draw(st.sampled_from([file for file in files if file.is_file()]))
    text = original.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    file = tmp_path_factory.mktemp("changed") / original.name
    file.write_text(text[:start] + data.draw(PIECES) + text[end:])
    lint_files([str(file)], known=Known("1.30", "25.01", 60, 0))


def test_aliases_without_end_and_deep_nesting(tmp_path: Path) -> None:
    assert codes(tmp_path / "a", a__yaml="a: &a [*a, *a]\nservices: &s {x: *s}\n") == []
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert codes(tmp_path / "b", a__yaml=f"{laughs}panels: *a59\n") == []
    assert set(codes(tmp_path / "c", a__yaml="[" * 5000)) == {"REA001"}
    (root,) = documents("a: {<<: {b: 1}}", "f")
    assert root["a"]["b"].number == 1


def test_no_utf_8_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nb: \xff\n")
    (finding,) = lint_files([str(tmp_path)]).outcome.findings
    assert (finding.code, finding.place, finding.message) == ("REA001", "a.yaml:2:1", "it is no UTF-8")
    with pytest.raises(ProjectError, match="there is no file or folder .*nowhere; name manifests"):
        lint_files([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProjectError, match="there is nothing in .*empty that lint can judge"):
        lint_files([str(tmp_path / "empty")])


# the command


WRONG = CASES / "DRN001_grace_of_30" / "wrong"


def test_the_command_prints_and_fails() -> None:
    done = run(WRONG)
    assert done.return_value == 1
    assert "error DRN001 terminationGracePeriodSeconds is 30 s" in done.output
    assert "   18 |       terminationGracePeriodSeconds: 30\n" in done.output
    assert done.output.endswith("1 error in 1 file\n")
    assert run(CASES / "DRN001_grace_of_30" / "right").return_value == 0
    assert run(WRONG, "--ignore", "DRN").return_value == 0
    assert run(CASES / "PRB001_liveness_alone" / "wrong").return_value == 0
    assert run(CASES / "PRB001_liveness_alone" / "wrong", "--fail-on", "warning").return_value == 1


def test_the_formats() -> None:
    document = json.loads(run(WRONG, "--json").output)
    assert document["summary"] == {
        "files": 1, "error": 1, "warning": 0, "advice": 0, "fixable": 0, "rules": {"DRN001": 1},
    }  # fmt: skip
    assert document["findings"][0]["object"] == "Deployment/digits"
    sarif = json.loads(run(WRONG, "--format", "sarif").output)["runs"][0]
    assert sarif["tool"]["driver"]["name"] == "trtkit deploy lint"
    assert sarif["results"][0]["properties"] == {"object": "Deployment/digits"}
    assert run(WRONG, "--format", "github").output.startswith(
        "::error file=tests/deploy_lint/DRN001_grace_of_30/wrong/"
    )


def test_what_is_left_out_stands_in_both_reports(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {{ .Values.a }}\n")
    (tmp_path / "b.yaml").write_text("a: 1\n")
    assert "a.yaml is left out: Helm has to fill it in" in run(tmp_path).output
    assert "a.yaml is left out" in json.loads(run(tmp_path, "--json").output)["skipped"][0]
    assert run(tmp_path).output.endswith("nothing found in 1 file\n")


def test_where_nothing_was_judged_nothing_is_well(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: {{ .Values.a }}\n")
    with pytest.raises(ProjectError, match=r"nothing was judged: .*a\.yaml is left out: Helm has to fill it in"):
        lint_files([str(tmp_path)])
    (tmp_path / "Jenkinsfile").write_text("pipeline {\n// Agents: `docker` with: b\n}\n")
    with pytest.raises(ProjectError, match="Jenkinsfile is left out: neither its name nor its content says what it is"):
        lint_files([str(tmp_path / "Jenkinsfile")])


def test_pages_and_the_list() -> None:
    assert run("--explain", "drn001").output.startswith("DRN001 grace-too-short (error)\n\nThe pod is killed before")
    assert "(error: the API server refuses it)" in run("--explain", "gpu001").output
    assert "ROL002  error" in run("--rules").output


def test_a_measurement_says_the_load_time(tmp_path: Path) -> None:
    report = tmp_path / "measured.json"
    report.write_text('{"load_s": 500, "host_mib": 1, "shm_mib": 1, "models": {}, "digest": "x"}')
    assert "loading takes 500 s" in run(CASES / "DRN001_grace_of_30" / "right", "--measurement", report).output
    report.write_text('{"load": 1}')
    for arguments, sentence in (
        (("--measurement", report), "it has no load_s"),
        (("--measurement", report, "--load-seconds", "3"), "give one"),
        (("--measurement", tmp_path / "none.json"), "cannot be read"),
        (("--kube-version", "latest"), "write one such as 1.30"),
        (("--release", "2.51"), "write one such as 25.01"),
        (("--select", "XYZ"), "is no rule"),
        (("--explain", "XYZ001"), "is no rule"),
    ):
        done = run(WRONG, *arguments)
        assert isinstance(done.exception, ProjectError)
        assert sentence in str(done.exception)
