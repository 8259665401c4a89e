# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Label files: one label a line, or the map of ids to labels that a transformers ``config.json`` has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_CLASSES = 1 << 24  # a map with one huge id would otherwise take all memory


class BadLabels(ValueError):  # noqa: N818 - Triton shows the class's name before the sentence
    """A label file cannot be read, or has no label for an index."""


class Labels:
    """The labels of a file by class index, as bytes.

    Args:
        path: text with one label a line, the first for class 0 (empty lines are empty labels), or, when its name ends
            in ``.json``: a list, a map of ids to labels, or an object with such a map as ``id2label``. UTF-8.

    Raises:
        BadLabels: it is not UTF-8, is empty, or its JSON is none of these.
    """

    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                text = file.read()
            labels = _from_json(json.loads(text)) if path.endswith(".json") else _from_lines(text)
            encoded = [label.encode() for label in labels.values()]
        except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, of a label
            raise BadLabels(f"labels file '{path}': {error}") from None
        if not labels:
            raise BadLabels(f"labels file '{path}' has no labels")
        self._labels = np.full(max(labels) + 1, None, np.object_)
        self._labels[list(labels)] = encoded
        self._known = np.zeros(len(self._labels), np.bool_)
        self._known[list(labels)] = True

    def __len__(self) -> int:
        return len(self._labels)

    def find(self, indices: np.ndarray, unknown: bytes | None = None) -> np.ndarray:
        """The label of each index, in the shape of the indices.

        Args:
            indices: of any whole-number type; one below 0 or past the last label is unknown.
            unknown: the label of an unknown index; None: there must be none.

        Raises:
            BadLabels: an index has no label, and there is none for unknown ones.
        """
        inside = (indices >= 0) & (indices < len(self))
        safe = np.where(inside, indices, 0).astype(np.intp)
        known = inside & self._known[safe]
        found = self._labels[safe.reshape(-1)].reshape(safe.shape)
        if known.all():
            return found
        if unknown is None:
            place = tuple(np.argwhere(~known)[0])
            where = ", ".join(map(str, place))
            raise BadLabels(f"no label for index {indices[place]} at [{where}]; there are {self._known.sum()} labels")
        return np.where(known, found, unknown)


def _from_lines(text: str) -> dict[int, str]:
    if not text:
        return {}
    # not `splitlines`: it also splits at form feeds and U+2028, which may stand in a label
    return {index: line.removesuffix("\r") for index, line in enumerate(text.removesuffix("\n").split("\n"))}


def _from_json(content: Any) -> dict[int, str]:
    if isinstance(content, dict):
        content = content.get("id2label", content)
    if isinstance(content, list):
        content = {str(index): label for index, label in enumerate(content)}
    if not isinstance(content, dict):
        raise ValueError("expected a list of labels, or an object with ids and labels")
    return dict(_entry(content, key) for key in content)


def _entry(content: Mapping[str, Any], key: str) -> tuple[int, str]:
    if not (key.isascii() and key.isdigit() and len(key) < 9 and int(key) < _MOST_CLASSES):
        raise ValueError(f"'{key}' is not a class index; expected whole numbers from 0, each with its label")
    if not isinstance(content[key], str):
        raise ValueError(f"the label of {key} is {json.dumps(content[key])[:80]}, expected text")
    return int(key), content[key]
