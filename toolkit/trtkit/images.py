# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which TensorRT, ONNX Runtime, CUDA and driver are in which tritonserver image.

The table is ``data/tritonserver_images.json``: each value with the documents it was read from. A value whose only
source is ``unverified`` is shown, and never the ground for a refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

REPOSITORY = "nvcr.io/nvidia/tritonserver"
_TAG = re.compile(r"^(?P<release>\d\d\.\d\d)-(?P<variant>[a-z0-9][a-z0-9-]*)$")
_UNVERIFIED = "unverified"


@dataclass(frozen=True)
class ImageFacts:
    """What is in an image, as far as it is known; None is not known.

    Attributes:
        image: the reference that was asked about.
        release: e.g. ``24.08``; None for an image that is not in the table.
        variant: e.g. ``py3`` or ``trtllm-python-py3``.
        tensorrt: all the numbers that are documented, e.g. ``10.3.0.26``, or only the first ones.
        driver: the oldest NVIDIA driver without CUDA's compatibility package.
        unverified: the fields for which no document was found.
        sources: documents and addresses, by field.
    """

    image: str
    release: str | None = None
    variant: str | None = None
    triton: str | None = None
    tensorrt: str | None = None
    onnxruntime: str | None = None
    cuda: str | None = None
    driver: str | None = None
    python: str | None = None
    unverified: frozenset[str] = frozenset()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)

    def sure(self, name: str) -> str | None:
        """The value of a field when a document says so, else None."""
        return None if name in self.unverified else getattr(self, name)


def image_facts(
    image: str | None, *, tensorrt_version: str | None = None, onnxruntime_version: str | None = None
) -> ImageFacts | None:
    """What is known of an image.

    Args:
        image: any reference: with a registry, a port, a digest; None when only versions are given.
        tensorrt_version: instead of what the table says.
        onnxruntime_version: likewise.

    Returns:
        None when nothing is: no tag of the table (a custom image may hold anything), and no version given.
    """
    known = _known(image) if image else None
    given = {"tensorrt": tensorrt_version, "onnxruntime": onnxruntime_version}
    overrides: dict[str, Any] = {name: version for name, version in given.items() if version}
    if known is None and not overrides:
        return None
    facts = known or ImageFacts(image or "")
    sources = {**facts.sources, **dict.fromkeys(overrides, ("the target's own setting",))}
    return replace(facts, **overrides, unverified=facts.unverified - set(overrides), sources=sources)


def images_with(tensorrt: str, *, variant: str = "py3") -> list[str]:
    """The images, newest first, that are documented to have this TensorRT.

    Args:
        tensorrt: a version, or its first numbers: ``10.3`` finds 10.3.0.26 too.
        variant: the other images have no TensorRT backend.
    """
    wanted = parse_version(tensorrt)
    found = [
        facts
        for tag in _table()["images"]
        if (facts := _known(f"{REPOSITORY}:{tag}")) and facts.variant == variant and facts.sure("tensorrt")
    ]
    matching = [facts.image for facts in found if wanted and _starts_with(facts.tensorrt, wanted)]
    return sorted(matching, reverse=True)


def parse_version(text: str | None) -> tuple[int, ...]:
    """The numbers a version begins with: ``9.3.0.post12`` is (9, 3, 0); () when there are none."""
    found = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def known_images() -> list[str]:
    """Every image of the table, oldest first."""
    return [f"{REPOSITORY}:{tag}" for tag in _table()["images"]]


def _starts_with(version: str | None, start: tuple[int, ...]) -> bool:
    return parse_version(version)[: len(start)] == start


def _known(image: str) -> ImageFacts | None:
    """The table's row of an image; None when it has none."""
    tag = _tag(image)
    row = _table()["images"].get(tag)
    match = _TAG.match(tag) if tag else None
    if row is None or match is None:
        return None
    values = {name: value for name, (value, *_) in row.items()}
    unverified = frozenset(name for name, (_, *sources) in row.items() if sources == [_UNVERIFIED])
    documents = {name: tuple(map(_document, sources)) for name, (_, *sources) in row.items()}
    return ImageFacts(image, **match.groupdict(), **values, unverified=unverified, sources=documents)


def _tag(image: str) -> str | None:
    """The tag of a tritonserver image, mirrors included; None for images of another name."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    return tag if name == "tritonserver" else None


def _document(key: str) -> str:
    source = _table()["sources"][key]
    return f"{source['document']} ({source['url']})" if source["url"] else str(source["document"])


@cache
def _table() -> dict[str, Any]:
    text = resources.files("trtkit").joinpath("data/tritonserver_images.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
