# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What people say beside the files, checked."""

from __future__ import annotations

import re
from pathlib import Path

from trtkit.deploy.manifests.fileset import Known
from trtkit.deploy.measured import read_json
from trtkit.errors import ProjectError


def known_of(
    kube_version: str | None = None, release: str | None = None, load_seconds: float | None = None,
    measurement: Path | None = None, free_gpus: int | None = None,
) -> Known:  # fmt: skip
    """What is known, from the values of options.

    Args:
        kube_version: e.g. ``1.30``, or ``v1.30.4``.
        release: e.g. ``25.01``.
        load_seconds: from the container's start until all models are loaded, s.
        measurement: a report of `trtkit deploy measure`, which says the same.
        free_gpus: how many more GPUs pods can get.

    Raises:
        ProjectError: a version is none, the report cannot be read, or the load time is given twice.
    """
    if kube_version is not None and not re.fullmatch(r"v?1\.\d+(\.\d+.*)?", kube_version):
        raise ProjectError(f"--kube-version {kube_version!r} is no version of Kubernetes; write one such as 1.30")
    if release is not None and not re.fullmatch(r"\d\d\.\d\d", release):
        raise ProjectError(f"--release {release!r} is no release of tritonserver; write one such as 25.01")
    if measurement is not None:
        if load_seconds is not None:
            raise ProjectError("--load-seconds and --measurement both say how long loading takes; give one")
        load_seconds = _load_of(measurement)
    return Known(kube_version.lstrip("v") if kube_version else None, release, load_seconds, free_gpus)


def _load_of(file: Path) -> float:
    value = read_json(file, "--measurement")
    load = value.get("load_s") if isinstance(value, dict) else None
    if isinstance(load, bool) or not isinstance(load, int | float) or not 0 <= load < 1e7:
        raise ProjectError(f"--measurement {file} is no report of `trtkit deploy measure`: it has no load_s")
    return float(load)
