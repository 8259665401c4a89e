# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Serve ONNX's own backend cases with the real tritonserver; as a program, all of them, with a table.

A case is a small model with inputs and the outputs it must give; there is one or more for each operator. Each one
that ONNX Runtime can run becomes a model of its own and is asked with NVIDIA's client library. Of every three, two
have a complete config.pbtxt, in a server that completes none, and one has a config.pbtxt that the backend completes.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import onnx
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from onnx_backend_oracle import (
    CannotBeServedError,
    Case,
    Plan,
    Spec,
    Tensors,
    collect,
    difference,
    networks,
    plan_of,
)
from trtkit.errors import ServerStartError, ServerUnavailableError
from trtkit.server import RunningServer, serve
from trtkit.server.process import load_failures

PROTOCOLS = ("http", "grpc")
REQUIRED = 1300  # of single operators
RIGHT = "right"
_APIS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}
_MODELS_PER_SERVER = 25  # each is a process
_SERVERS = 3  # a server completes one configuration after the other, and waits more than it computes
_READY_SECONDS = 180.0
_TRIES = 3
_OPTIONS = ("--exit-on-error=false", "--strict-readiness=false", "--model-load-thread-count=8")
_CONFIG = 'backend: "onnxruntime"\nmax_batch_size: 0\ninstance_group { count: 1 kind: KIND_CPU }\n'


class Row(NamedTuple):
    """A case in the table.

    Attributes:
        kind: see `Case`.
        answers: by protocol `RIGHT`, or what is wrong; none when the case cannot be served.
        config: ``complete`` or ``completed``.
        truth: see `Plan`.
        notes: see `Plan`; or why the case cannot be served.
        reason: the notes' kind, of one that cannot be served.
    """

    case: str
    kind: str
    answers: dict[str, str]
    config: str = ""
    truth: str = ""
    notes: str = ""
    reason: str = ""

    @property
    def verdict(self) -> str:
        """One of ``right``, ``wrong``, ``cannot be served``."""
        if not self.answers:
            return "cannot be served"
        return RIGHT if {*self.answers.values()} == {RIGHT} else "wrong"


def planned(cases: Iterable[Case]) -> tuple[list[Plan], list[Row]]:
    """The cases that can be served, and the rows of those that cannot."""
    plans, rows = [], []
    for case in cases:
        try:
            plans.append(plan_of(case))
        except CannotBeServedError as error:
            rows.append(Row(case.name, case.kind, {}, notes=str(error), reason=error.reason))
    return plans, rows


def served(plans: Sequence[Plan], protocols: Sequence[str] = PROTOCOLS) -> Iterator[Row]:
    """Serve each case and compare its answers, several servers at a time."""
    groups = [[plan for plan in plans if _is_completed(plan) is completed] for completed in (True, False)]
    chunks = [chunk for group in groups for chunk in _chunks(group)]
    # in processes, for gRPC calls of one thread can kill what another forks
    with ProcessPoolExecutor(_SERVERS, get_context("spawn")) as pool:
        for rows in pool.map(_serve, chunks, repeat(protocols)):
            yield from rows


def _chunks(plans: Sequence[Plan]) -> list[Sequence[Plan]]:
    """What one server takes: not too much, and when there is little, equal shares."""
    size = min(_MODELS_PER_SERVER, math.ceil(len(plans) / _SERVERS))
    return [plans[start : start + size] for start in range(0, len(plans), size or 1)]


def _is_completed(plan: Plan) -> bool:
    """Whether the backend completes the configuration; it would not list an optional input, and would batch."""
    optional = any(spec.optional for spec in plan.inputs)
    return not optional and not plan.batches and zlib.crc32(plan.case.name.encode()) % 3 == 0


def _serve(plans: Sequence[Plan], protocols: Sequence[str]) -> list[Row]:
    """Of new servers until one comes up: of some hundred that load so many models at once, one aborts or hangs."""
    completed = _is_completed(plans[0])
    for _ in range(_TRIES):
        try:
            answers = _answers(plans, protocols, completed=completed)
            break
        except (ServerStartError, ServerUnavailableError) as error:
            print(f"a server is replaced: {error}", file=sys.stderr)
            answers = dict.fromkeys(protocols, [f"no server: {error}"] * len(plans))
    return [
        Row(
            plan.case.name,
            plan.case.kind,
            {protocol: answers[protocol][index] for protocol in protocols},
            "completed" if completed else "complete",
            plan.truth,
            plan.notes,
        )
        for index, plan in enumerate(plans)
    ]


def _answers(plans: Sequence[Plan], protocols: Sequence[str], *, completed: bool) -> dict[str, list[str]]:
    options = [*_OPTIONS, *([] if completed else ["--disable-auto-complete-config"])]
    with TemporaryDirectory(prefix="trtkit-onnx-cases-") as folder:
        for plan in plans:
            _write(Path(folder), plan, completed=completed)
        with serve(Path(folder), options=options, ready_timeout_s=_READY_SECONDS) as server:
            answers = {protocol: _ask(server, protocol, plans) for protocol in protocols}
            server.kill()  # to unload them takes seconds
    return answers


def _write(repository: Path, plan: Plan, *, completed: bool) -> None:
    version = repository / plan.case.name / "1"
    version.mkdir(parents=True)
    onnx.save(plan.model, version / "model.onnx")
    tensors = [] if completed else [("input", spec) for spec in plan.inputs] + [("output", s) for s in plan.outputs]
    text = _CONFIG + "".join(f"{kind} {{ {_fields(spec)} }}\n" for kind, spec in tensors)
    (version.parent / "config.pbtxt").write_text(text)


def _fields(spec: Spec) -> str:
    optional = " optional: true" if spec.optional else ""
    return f'name: "{spec.name}" data_type: {spec.data_type} dims: {[*spec.dims]}{optional}'


def _ask(server: RunningServer, protocol: str, plans: Sequence[Plan]) -> list[str]:
    """For each case `RIGHT`, or what is wrong."""
    refused = load_failures(server.log.read_text(errors="replace"))
    url = server.http_url if protocol == "http" else server.grpc_url
    with closing(_APIS[protocol].InferenceServerClient(url)) as client:
        return [refused.get(plan.case.name) or _judged(client, _APIS[protocol], plan) for plan in plans]


def _judged(client: Any, api: Any, plan: Plan) -> str:
    for inputs, wanted in plan.requests:
        try:
            got = client.infer(plan.case.name, _tensors(api, inputs))
        except (InferenceServerException, OSError) as error:
            return f"error: {error}"
        for name, value in wanted.items():
            array = got.as_numpy(name)
            how = "is missing" if array is None else difference(array, value, plan.case)
            if how:
                return f"output '{name}' {how}"
    return RIGHT


def _tensors(api: Any, inputs: Tensors) -> list[Any]:
    tensors = []
    for name, value in inputs.items():
        tensor = api.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    return tensors


def print_table(rows: Sequence[Row], protocols: Sequence[str]) -> None:
    """A line for each case."""
    width = max(len(row.case) for row in rows)
    print(f"{'case':{width}} {' '.join(f'{protocol:6}' for protocol in protocols)} config    compared with  notes")
    for row in sorted(rows):
        answers = [row.answers.get(protocol, "-") for protocol in protocols]
        marks = " ".join(f"{answer if answer in (RIGHT, '-') else 'WRONG':6}" for answer in answers)
        wrong = dict.fromkeys(answer for answer in answers if answer not in (RIGHT, "-"))
        notes = " ".join("; ".join(filter(None, [row.notes, *wrong])).split())
        print(f"{row.case:{width}} {marks} {row.config:9} {row.truth:14} {notes[:400]}".rstrip())


def print_totals(rows: Sequence[Row]) -> None:
    """How many there are of each kind."""
    asked = [row for row in rows if row.answers]
    _print_counts(f"{len(rows)} cases", [row.verdict for row in rows])
    _print_counts(f"{len(asked)} served, by ONNX's kind of case", [row.kind for row in asked])
    _print_counts("by config.pbtxt", [row.config for row in asked])
    _print_counts("compared with the outputs of", [row.truth for row in asked])
    _print_counts("changed", [row.notes for row in asked if row.notes])
    _print_counts(f"{len(rows) - len(asked)} not served", [row.reason for row in rows if row.reason])


def _print_counts(title: str, words: Sequence[str]) -> None:
    print(f"\n{title}")
    for word, count in Counter(words).most_common():
        print(f"{count:6} {word}")


def main() -> int:
    """Print the table; 1 when an answer is wrong or too few cases were served."""
    parser = argparse.ArgumentParser(description="Serve ONNX's backend cases and print what comes back.")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="default: both")
    protocols = parser.parse_args().protocol or PROTOCOLS
    plans, rows = planned([*collect(), *networks()])
    rows += served(plans, protocols)
    print_table(rows, protocols)
    print_totals(rows)
    right = [row for row in rows if row.verdict == RIGHT and row.kind == "node"]
    return int(any(row.verdict == "wrong" for row in rows) or len(right) < REQUIRED)


if __name__ == "__main__":
    sys.exit(main())
