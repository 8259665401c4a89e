# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Records of JSON to the tensors of a tabular model, by a schema; see README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_features import Features
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_together, locate, numpy_type, tensor
from trtkit_records import BadRecord
from trtkit_schema import read_schema


class _Item(NamedTuple):
    """One request, read: its records, and the outputs it asks for."""

    records: list[Any]
    outputs: list[str]


class TritonPythonModel:
    """``record`` BYTES [batch, 1] to ``features`` FP32 [batch, columns], or to the outputs that the schema names."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the schema, and check that the outputs can hold its features."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self._name = config["name"]
        schema = locate(args, parameters.text("schema", "schema.json"))
        most_bytes = parameters.integer("max_record_bytes", 1 << 20, least=2)
        parameters.done()
        self._outputs = {entry["name"]: numpy_type(config, entry) for entry in config["output"]}
        self._features = Features(read_schema(schema), self._outputs, most_bytes)
        _check_config(config, self._features.widths)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Convert the records of all requests column by column; a wrong record costs its own request only."""
        return answer_together(self._name, requests, self._read, self._answer)

    def _read(self, request: Any) -> tuple[None, _Item]:
        requested = request.requested_output_names()
        try:
            records = [self._features.read(data, row) for row, data in enumerate(tensor(request, "record").ravel())]
        except BadRecord as error:
            raise BadRequest(str(error)) from None
        return None, _Item(records, [name for name in self._outputs if name in requested])

    def _answer(self, items: list[_Item]) -> list[Any]:
        try:
            tensors = self._features.tensors([record for item in items for record in item.records])
        except BadRecord as error:
            raise BadRequest(str(error)) from None
        ends = np.cumsum([len(item.records) for item in items]).tolist()
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, tensors[name][end - len(item.records) : end]) for name in item.outputs]
            )
            for item, end in zip(items, ends, strict=True)
        ]


def _check_config(config: Mapping[str, Any], widths: Mapping[str, int]) -> None:
    """BadConfig for another input than ``record``, and for dims that the schema's columns do not have."""
    where = f"model '{config['name']}'"
    given = [(entry["name"], entry["data_type"]) for entry in config["input"]]
    if given != [("record", "TYPE_STRING")]:
        raise BadConfig(f"{where}: expected one input, 'record' of TYPE_STRING")
    dims = config["input"][0]["dims"]
    if config["max_batch_size"] > 0 and dims != [1]:
        raise BadConfig(f"{where}: input 'record' has dims {dims}, expected [1]: a record for each sample of the batch")
    for entry in config["output"]:
        width = widths[entry["name"]]
        if entry["dims"][-1:] not in ([-1], [width]):
            raise BadConfig(
                f"{where}: output '{entry['name']}' has dims {entry['dims']}, but the schema gives it {width} columns"
            )
