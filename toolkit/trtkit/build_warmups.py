# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up requests for a model's optimization profiles, each run once before a server is asked to take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtkit.artifacts import fingerprint
from trtkit.build_plan import WARMUP, Served
from trtkit.engine import Profile
from trtkit.engine.profiles import to_json
from trtkit.errors import ExportError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.export.warmup import profile_requests, write_profile_requests
from trtkit.samples import convert
from trtkit.signature import Signature

if TYPE_CHECKING:
    from trtkit.build_stages import StageReport, Stages


def with_warmups(
    stages: Stages, name: str, served: Served, profiles: Sequence[Profile], reports: list[StageReport]
) -> Served:
    """The same model with a warm-up request per profile, in the shapes that its kernels are chosen for.

    Data of shapes that the export did not run are run here, on the exported graph: the server refuses a model when
    one of its warm-up requests fails, so that a request the graph does not take is left out.

    Args:
        stages: of the build.
        name: the model.
        served: with what its target asks for.
        profiles: of the target; without any, nothing changes.
        reports: receives one where data had to be made.
    """
    facts = served.facts
    signature, row = Signature.from_json(facts["signature"]), facts["warmup"]
    requests = profile_requests(signature, row, profiles, batching=facts["max_batch_size"] > 0)
    if any(tensor["file"] != row[of]["file"] for one in requests for of, tensor in one["inputs"].items()):
        objects = stages.cache.state / "objects"

        def make(folder: Path) -> dict[str, Any]:
            write_profile_requests(objects / served.run.artifact, folder, signature, row, requests)
            exported = Signature.from_json(served.export.facts["signature"])
            session = Session(objects / served.export.artifact / MODEL_FILE)
            batching = facts["max_batch_size"] > 0
            return {"taken": [_takes(session, folder, signature, exported, one, batching) for one in requests]}

        inputs = {"warm-up data": served.run.artifact, "profiles": fingerprint(to_json(profiles))}
        run = stages.here(name, WARMUP, inputs, make, reports)
        requests = [
            one if taken else {**one, "inputs": {}} for one, taken in zip(requests, run.facts["taken"], strict=True)
        ]
        served = replace(served, warmup=run.artifact)
    return replace(served, facts={**facts, "serving": {**facts.get("serving", {}), "warmups": requests}})


def _takes(
    session: Session,
    folder: Path,
    signature: Signature,
    exported: Signature,
    request: Mapping[str, Any],
    batching: bool,
) -> bool:
    """Whether the exported graph takes the data of one request, as one row."""
    values = {}
    for spec, before in zip(signature.inputs, exported.inputs, strict=True):
        tensor = request["inputs"][spec.name]
        array = np.frombuffer((folder / WARMUP / tensor["file"]).read_bytes(), spec.dtype.numpy)
        dims = [] if len(spec.shape) == int(batching) else tensor["dims"]
        values[spec.name] = convert(array, before.dtype, spec.name).reshape([1, *dims] if batching else dims)
    try:
        session.run(values)
    except ExportError:
        return False
    return True
