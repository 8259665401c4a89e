# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the Python models of this folder share: reading their parameters and files, and errors of single requests.

It stands beside a model's ``model.py`` in the version directory; `trtkit build` puts it there.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# of the Python backend itself, or of trtkit
_COMMON = frozenset({"EXECUTION_ENV_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS", "TRITON_BATCH_STRATEGY_PATH"})


class BadConfig(Exception):  # noqa: N818 - Triton shows the class's name before the sentence
    """The model cannot be loaded as configured."""


class BadRequest(Exception):  # noqa: N818 - see above
    """One request cannot be answered; the message is its error."""


class Parameters:
    """The ``parameters`` of a config.pbtxt, each read by its name and type; `done` refuses those nobody asked for.

    Args:
        config: the model configuration as Triton hands it to ``initialize``, read from its JSON.

    Every method raises BadConfig, naming the model, the parameter, what was given and what it can be. A ``default``
    of None makes the parameter required.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._model = config["name"]
        self._given = {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str, default: str | None = None) -> str:
        """The value as it stands."""
        self._asked.add(name)
        value = self._given.get(name, default)
        if value is None:
            raise BadConfig(f"model '{self._model}': parameter '{name}' is missing; add it to config.pbtxt")
        return value

    def integer(
        self, name: str, default: int | None = None, *, least: int | None = None, most: int | None = None
    ) -> int:
        """A whole number from ``least`` to ``most``, both included."""
        return self._number(name, default, int, "a whole number", least, most)

    def number(
        self, name: str, default: float | None = None, *, least: float | None = None, most: float | None = None
    ) -> float:
        """A finite number from ``least`` to ``most``, both included."""
        return self._number(name, default, float, "a number", least, most)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """``true`` or ``false``."""
        return self.choice(name, ("true", "false"), None if default is None else str(default).lower()) == "true"

    def choice(self, name: str, options: Collection[str], default: str | None = None) -> str:
        """One of the options."""
        value = self.text(name, default)
        if value not in options:
            raise self.wrong(name, f"one of {', '.join(options)}")
        return value

    def items(self, name: str, default: str | None = None) -> list[str]:
        """The pieces between commas, without the spaces around them; empty for an empty text."""
        value = self.text(name, default)
        return [piece.strip() for piece in value.split(",")] if value.strip() else []

    def numbers(self, name: str, default: str | None = None) -> list[float]:
        """Finite numbers between commas."""
        try:
            values = [float(piece) for piece in self.items(name, default)]
        except ValueError:
            raise self.wrong(name, "numbers with commas between them") from None
        if not np.isfinite(values).all():
            raise self.wrong(name, "finite numbers with commas between them")
        return values

    def done(self) -> None:
        """Refuse a parameter that was not asked for: a misspelt one would otherwise change nothing, silently."""
        for name in sorted(self._given.keys() - self._asked - _COMMON):
            near = difflib.get_close_matches(name, self._asked, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(sorted(self._asked)) or 'none'}"
            raise BadConfig(f"model '{self._model}': unknown parameter '{name}'; {hint}")

    def wrong(self, name: str, expected: str) -> BadConfig:
        """The error for a parameter whose value is not what is expected."""
        return BadConfig(f"model '{self._model}': parameter '{name}' is '{self._given.get(name)}', expected {expected}")

    def _number(self, name: str, default: Any, convert: Callable[[str], Any], kind: str, least: Any, most: Any) -> Any:
        given = self.text(name, None if default is None else str(default))
        limits = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
        expected = ", ".join([kind, *limits])
        try:
            value = convert(given)
        except ValueError:
            raise self.wrong(name, expected) from None
        finite = isinstance(value, int) or math.isfinite(value)
        if not finite or (least is not None and value < least) or (most is not None and value > most):
            raise self.wrong(name, expected)
        return value


def locate(args: Mapping[str, str], name: str) -> str:
    """The path of a file that a parameter names: in the version directory, else in the model's folder.

    Args:
        args: what Triton hands to ``initialize``.
        name: a path relative to either.

    Raises:
        BadConfig: neither has it, or the path leads out of them.
    """
    if os.path.isabs(name) or ".." in name.split("/"):
        raise BadConfig(f"model '{args['model_name']}': file '{name}': expected a path inside the model's folder")
    folders = [os.path.join(args["model_repository"], args["model_version"]), args["model_repository"]]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise BadConfig(f"model '{args['model_name']}': there is no file '{name}' in {' or '.join(folders)}")


def output_type(config: Mapping[str, Any], name: str) -> Any:
    """The numpy type of an output, as the configuration says; KeyError when there is no such output."""
    types = {entry["name"]: entry["data_type"] for entry in config["output"]}
    return pb_utils.triton_string_to_numpy(types[name])


def numpy_type(config: Mapping[str, Any], entry: Mapping[str, Any]) -> Any:
    """The numpy type of an entry of ``config["input"]`` or ``config["output"]``; BadConfig for one without (BF16)."""
    try:
        return np.dtype(pb_utils.triton_string_to_numpy(entry["data_type"]))
    except KeyError:
        raise BadConfig(
            f"model '{config['name']}': '{entry['name']}' is {entry['data_type']}, which numpy lacks; use TYPE_FP32"
        ) from None


def answer_each(model: str, requests: Sequence[Any], answer: Callable[[Any], Any]) -> list[Any]:
    """One response per request; what ``answer`` raises is that request's error and nobody else's.

    Args:
        model: its name, which the errors begin with.
        requests: as ``execute`` gets them.
        answer: from a request to its response, or raising BadRequest.
    """
    responses = []
    for request in requests:
        try:
            responses.append(answer(request))
        except Exception as error:  # whatever is wrong with it, the others must be served
            responses.append(refusal(model, error))
    return responses


def answer_together(
    model: str,
    requests: Sequence[Any],
    read: Callable[[Any], tuple[Hashable, Any]],
    answer: Callable[[list[Any]], Sequence[Any]],
) -> list[Any]:
    """One response per request, computed for all requests of a group at once.

    When a group cannot be answered as a whole, each of its requests is answered alone: the wrong one gets its error.

    Args:
        model: its name, which the errors begin with.
        requests: as ``execute`` gets them.
        read: from a request to its group (requests of equal groups fit together) and what ``answer`` needs of it.
        answer: from what was read of some requests to their responses, in order.
    """
    responses: list[Any] = [None] * len(requests)
    groups: dict[Hashable, list[tuple[int, Any]]] = {}
    for position, request in enumerate(requests):
        try:
            group, item = read(request)
            groups.setdefault(group, []).append((position, item))
        except Exception as error:  # whatever is wrong with it, the others must be served
            responses[position] = refusal(model, error)
    for members in groups.values():
        positions, items = zip(*members, strict=True)
        for position, response in zip(positions, _together(model, list(items), answer), strict=True):
            responses[position] = response
    return responses


def _together(model: str, items: list[Any], answer: Callable[[list[Any]], Sequence[Any]]) -> Sequence[Any]:
    try:
        return answer(items)
    except Exception as error:
        if len(items) == 1:
            return [refusal(model, error)]
        return [response for item in items for response in _together(model, [item], answer)]


def refusal(model: str, error: Exception) -> Any:
    """The response that says what is wrong with a request: INVALID_ARG for a BadRequest, else INTERNAL."""
    if isinstance(error, BadRequest):
        return pb_utils.InferenceResponse(
            error=pb_utils.TritonError(f"model '{model}': {error}", pb_utils.TritonError.INVALID_ARG)
        )
    text = f"model '{model}': {type(error).__name__}: {error}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INTERNAL))


def tensor(request: Any, name: str) -> np.ndarray:
    """An input of a request; BadRequest when it has none of that name."""
    found = pb_utils.get_input_tensor_by_name(request, name)
    if found is None:
        given = ", ".join(f"'{each.name()}'" for each in request.inputs()) or "none"
        raise BadRequest(f"input '{name}' is missing; the request has {given}")
    return found.as_numpy()


def texts(values: np.ndarray, name: str) -> list[str]:
    """The strings of a BYTES tensor, row by row; BadRequest for one that is not UTF-8.

    Args:
        values: bytes objects, of any shape.
        name: of the input, for the message.
    """
    decoded = []
    for index, value in enumerate(values.ravel()):
        try:
            decoded.append(value.decode())
        except UnicodeDecodeError as error:
            raise BadRequest(f"element {index} of input '{name}' is not UTF-8: {error}") from None
    return decoded


def bytes_array(values: Iterable[str | bytes], shape: Sequence[int]) -> np.ndarray:
    """Strings as Triton's Python backend takes them: an array of bytes objects of the given shape."""
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    array = np.empty(len(encoded), dtype=np.object_)
    array[:] = encoded
    return array.reshape(shape)
