# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""GPUs and slices of them: how pods ask for them, and how nodes divide them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from trtkit.deploy.manifests.commands import Word, in_source
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.known_gpus import MOST, PROFILE
from trtkit.deploy.manifests.objects import is_gpu
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.lint.model import Found

_REFUSED = "the API server refuses it"


@rule("GPU001", "gpu-request-without-limit", refused_by=_REFUSED)
def request_without_limit(files: FileSet) -> Iterator[Found]:
    """A container asks for a GPU in requests and not, or not as many, in limits.

    GPUs cannot be overcommitted: the API server says "Limit must be set for non overcommitable resources" (run),
    which schemas do not know. Give the limit; the request follows.

    Wrong:
        resources: {requests: {nvidia.com/gpu: 1}}

    Right:
        resources: {limits: {nvidia.com/gpu: 1}}
    """
    for pod in files.pods:
        for container in pod.containers:
            resources = container.node["resources"]
            for name, value in resources["requests"].fields.items():
                limit = resources["limits"][name]
                if is_gpu(name) and not limit:
                    yield found(value, f"{name} is requested without a limit; put it in limits, the request follows")
                elif is_gpu(name) and limit.text != value.text:
                    yield found(
                        value, f"{name}: {value.text} requested and {limit.text} as the limit; they have to be equal"
                    )


@rule("GPU002", "part-of-a-gpu", refused_by=_REFUSED)
def part_of_a_gpu(files: FileSet) -> Iterator[Found]:
    """A container asks for a part of a GPU.

    Extended resources are whole numbers. Parts are MIG slices (nvidia.com/mig-1g.10gb), or a GPU that the device
    plugin shares by time-slicing or MPS.

    Wrong:
        resources: {limits: {nvidia.com/gpu: 0.5}}

    Right:
        resources: {limits: {nvidia.com/mig-1g.10gb: 1}}
    """
    for pod in files.pods:
        for container in pod.containers:
            for name, value in container.node.at("resources", "limits").fields.items():
                if is_gpu(name) and not re.fullmatch(r"\d+", value.text):
                    yield found(value, f"{name} is a whole number; got {value.text or 'nothing'}")


@rule("GPU003", "more-slices-than-a-gpu-has")
def too_many_slices(files: FileSet) -> Iterator[Found]:
    """A MIG layout asks one GPU for more slices than it has.

    NVIDIA's mig-parted gives A100-80 and H100-80 seven 1g.10gb, three 2g.20gb, two 3g.40gb; A100-40 seven 1g.5gb,
    three 2g.10gb, two 3g.20gb; A30 four 1g.6gb, two 2g.12gb.

    Wrong:
        nvidia-smi mig -cgi 3g.40gb,3g.40gb,3g.40gb -C

    Right:
        nvidia-smi mig -cgi 3g.40gb,3g.40gb -C
    """
    for _, root in files.inner:
        for layout in root["mig-configs"].fields.values():
            for device in layout.items:
                for profile, count in device["mig-devices"].fields.items():
                    if profile in MOST and (count.number or 0) > MOST[profile]:
                        yield found(count, f"a GPU has at most {MOST[profile]} slices {profile}; got {count.text}")
    for words in _nvidia_smi(files):
        for word in words:
            for profile, number in Counter(PROFILE.findall(word.text)).items():
                if number > MOST.get(profile, number):
                    yield found(word, f"a GPU has at most {MOST[profile]} slices {profile}; got {number}")


def _nvidia_smi(files: FileSet) -> Iterator[list[Word]]:
    for source in files.of_type("script", "markdown"):
        for words in in_source(source):
            if any(word.text.rpartition("/")[2] == "nvidia-smi" for word in words):
                yield words


@rule("GPU004", "mig-command-wrong")
def mig_command(files: FileSet) -> Iterator[Found]:
    """`nvidia-smi -mig` is given a profile.

    -mig takes 0 or 1 and switches the mode; slices are made by `nvidia-smi mig -cgi PROFILE,... -C`.

    Wrong:
        nvidia-smi -i 0 -mig 1g.10gb

    Right:
        nvidia-smi -i 0 -mig 1
        nvidia-smi mig -i 0 -cgi 1g.10gb -C
    """
    for words in _nvidia_smi(files):
        for option, value in pairwise(words):
            if option.text in ("-mig", "--multi-instance-gpu") and value.text not in ("0", "1", "ENABLED", "DISABLED"):
                says = "-mig takes 0 or 1; make slices with `nvidia-smi mig -cgi"
                yield found(value, f"{says} {value.text} -C`")


@rule("GPU005", "two-ways-of-sharing")
def two_ways_of_sharing(files: FileSet) -> Iterator[Found]:
    """The device plugin's configuration has time-slicing and MPS.

    They exclude each other; the plugin refuses to start.

    Wrong:
        sharing: {timeSlicing: {resources: [...]}, mps: {resources: [...]}}

    Right:
        sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}
    """
    for _, root in files.inner:
        sharing = root["sharing"]
        if sharing["timeSlicing"]["resources"] and sharing["mps"]["resources"]:
            yield found(sharing["mps"], "timeSlicing and mps exclude each other; choose one")


@rule("GPU006", "visible-devices-set", WARNING)
def visible_devices(files: FileSet) -> Iterator[Found]:
    """A pod sets NVIDIA_VISIBLE_DEVICES itself.

    The device plugin sets it to the GPUs that the pod was given; a value of one's own, `all` above all, shows the
    container GPUs of other pods, or hides its own.

    Wrong:
        env: [{name: NVIDIA_VISIBLE_DEVICES, value: all}]

    Right:
        resources: {limits: {nvidia.com/gpu: 1}}
    """
    for pod in files.pods:
        for container in pod.containers:
            value = container.env.get("NVIDIA_VISIBLE_DEVICES")
            if value and value.text not in ("none", "void") and pod.gpus:
                yield found(value, f"NVIDIA_VISIBLE_DEVICES={value.text} goes around the device plugin; leave it out")


RULES = (
    request_without_limit,
    part_of_a_gpu,
    too_many_slices,
    mig_command,
    two_ways_of_sharing,
    visible_devices,
)
