# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A function of the user's module as a model; see README.md beside this file."""

from __future__ import annotations

import json
import traceback
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_callable import BadFunction, check_signature, described, load
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_each, answer_together, numpy_type, texts
from trtkit_results import BadResult, Output, named_results

_LONGEST_LOG = 10_000  # characters: a message may hold a whole tensor


class FunctionError(Exception):
    """The function raised, or returned what the outputs cannot be."""


class _Item(NamedTuple):
    """One request, read: its arrays by input, and the outputs it asks for."""

    arrays: dict[str, np.ndarray]
    outputs: list[str]

    @property
    def rows(self) -> int:
        """Of a batch."""
        return len(next(iter(self.arrays.values())))


class TritonPythonModel:
    """Calls the function with the inputs by name; what it returns are the outputs."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Import the function, and hold its parameters to the config's inputs."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self._name = config["name"]
        self._function = parameters.text("function")
        arguments = _arguments(parameters)
        factory = parameters.flag("factory", False)
        self._whole = parameters.choice("batch", ("request", "whole"), "request") == "whole"
        self._decode = parameters.choice("strings", ("bytes", "str"), "bytes") == "str"
        parameters.done()
        self._batching = config["max_batch_size"] > 0
        self._inputs = {entry["name"]: numpy_type(config, entry).kind == "O" for entry in config["input"]}
        self._outputs = [_output(config, entry) for entry in config["output"]]
        if self._whole and not self._batching:
            raise parameters.wrong("batch", "request where max_batch_size is 0")
        if config.get("model_transaction_policy", {}).get("decoupled"):
            raise BadConfig(f"model '{self._name}': it is decoupled, but a function answers each request once")
        optional = {entry["name"]: bool(entry.get("optional")) for entry in config["input"]}
        try:
            self._call = load(self._function, pb_utils.get_model_dir(), arguments, factory=factory)
            check_signature(self._function, self._call, optional)
        except BadFunction as error:
            raise BadConfig(f"model '{self._name}': {error}") from error.__cause__

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request, in order."""
        if self._whole:
            return answer_together(self._name, requests, self._read, self._answer)
        return answer_each(self._name, requests, lambda request: self._answer([self._read(request)[1]])[0])

    def _read(self, request: Any) -> tuple[Hashable, _Item]:
        """A request and its group: requests whose arrays can be put after each other."""
        arrays = {}
        for name, is_text in self._inputs.items():
            given = pb_utils.get_input_tensor_by_name(request, name)
            if given is None:
                continue  # it is optional, or the server would have refused the request
            array = given.as_numpy()
            if is_text and self._decode:
                array = np.array(texts(array, name), np.object_).reshape(array.shape)
            arrays[name] = array
        requested = request.requested_output_names()
        outputs = [output.name for output in self._outputs if output.name in requested]
        return tuple((name, array.shape[1:]) for name, array in arrays.items()), _Item(arrays, outputs)

    def _answer(self, items: list[_Item]) -> list[Any]:
        if len(items) == 1:
            arrays = items[0].arrays
        else:
            arrays = {name: np.concatenate([item.arrays[name] for item in items]) for name in items[0].arrays}
        results = self._results(arrays, alone=len(items) == 1)
        if not self._batching:
            return [_response(items[0], results)]
        ends = np.cumsum([item.rows for item in items]).tolist()
        return [
            _response(item, {name: array[end - item.rows : end] for name, array in results.items()})
            for item, end in zip(items, ends, strict=True)
        ]

    def _results(self, arrays: Mapping[str, np.ndarray], *, alone: bool) -> dict[str, np.ndarray]:
        """Call the function and check what it returns.

        Raises:
            BadRequest: it raised a ValueError: a wrong value, by Python's convention.
            FunctionError: it raised anything else, or what it returned does not fit.
        """
        rows = (len(next(iter(arrays.values()))),) if self._batching else ()
        outputs = [output._replace(dims=(*rows, *output.dims)) for output in self._outputs]
        try:
            return named_results(self._call(**arrays), outputs)
        except BadResult as error:
            self._log(str(error), alone=alone)
            raise FunctionError(f"'{self._function}': {error}") from None
        except (Exception, SystemExit) as error:
            self._log(traceback.format_exc(), alone=alone)
            kind = BadRequest if isinstance(error, ValueError) else FunctionError
            raise kind(f"'{self._function}' raised {described(error)}") from None

    def _log(self, what: str, *, alone: bool) -> None:
        text = f"model '{self._name}': '{self._function}': {what[-_LONGEST_LOG:]}"
        if alone:
            pb_utils.Logger.log_error(text)
        else:
            pb_utils.Logger.log_warn(f"{text}; the requests of this batch are answered one by one")


def _arguments(parameters: Parameters) -> dict[str, Any]:
    try:
        arguments = json.loads(parameters.text("arguments", "{}"))
    except ValueError as error:
        raise parameters.wrong("arguments", f"an object of JSON ({error})") from None
    if not isinstance(arguments, dict):
        raise parameters.wrong("arguments", "an object of JSON")
    return arguments


def _output(config: Mapping[str, Any], entry: Mapping[str, Any]) -> Output:
    dims = entry.get("reshape", {}).get("shape", entry["dims"])  # the server reshapes what the model returns
    return Output(entry["name"], numpy_type(config, entry), tuple(int(dim) for dim in dims))


def _response(item: _Item, results: Mapping[str, np.ndarray]) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name]) for name in item.outputs])
