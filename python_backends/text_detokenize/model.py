# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Token ids to texts, with a Hugging Face `tokenizers` file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_together, bytes_array, tensor
from trtkit_tokenizer import load_tokenizer


class TritonPythonModel:
    """Integers ``ids`` [batch, tokens] to BYTES ``text`` [batch, 1]; see README.md."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the tokenizer and read the parameters."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self.name = args["model_name"]
        self.tokenizer = load_tokenizer(args, parameters)
        self.skip_special_tokens = parameters.flag("skip_special_tokens", True)
        self.skip_unknown_ids = parameters.choice("unknown_ids", ("error", "skip"), "error") == "skip"
        self.max_tokens = parameters.integer("max_tokens", 131072, least=1)
        parameters.done()
        _check_types(config, self.name)
        vocabulary = np.fromiter(self.tokenizer.get_vocab(with_added_tokens=True).values(), np.int64)
        self.known = np.zeros(vocabulary.max(initial=0) + 1, dtype=bool)  # ids may leave gaps
        self.known[vocabulary] = True

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request; the ids of all are decoded together."""
        return answer_together(self.name, requests, self._read, self._answer)

    def _read(self, request: Any) -> tuple[None, tuple[list[list[int]], Sequence[int]]]:
        """The ids to decode, row by row, and the shape of their texts."""
        ids = tensor(request, "ids")
        tokens = ids.shape[-1]
        if tokens > self.max_tokens:
            raise BadRequest(
                f"input 'ids' has {tokens} tokens in a row, at most {self.max_tokens} are taken; "
                "send less, or raise parameter 'max_tokens'"
            )
        flat = math.prod(ids.shape[:-1]), tokens
        taken = self._taken(request, ids).reshape(flat)
        rows = [row[keep].tolist() for row, keep in zip(ids.reshape(flat), taken, strict=True)]
        return None, (rows, (*ids.shape[:-1], 1))

    def _taken(self, request: Any, ids: np.ndarray) -> np.ndarray:
        """Where there is a token to decode: not padding, and in the vocabulary."""
        taken = ids >= 0
        if pb_utils.get_input_tensor_by_name(request, "attention_mask") is not None:
            mask = tensor(request, "attention_mask")
            if mask.shape != ids.shape:
                raise BadRequest(
                    f"input 'attention_mask' has the shape {list(mask.shape)}, and 'ids' {list(ids.shape)}"
                )
            taken &= mask != 0
        known = taken & (ids < len(self.known))
        known[known] = self.known[ids[known]]
        if not self.skip_unknown_ids and (known != taken).any():
            raise BadRequest(
                f"input 'ids' has {ids[known != taken][0]}, and the tokenizer's ids end at {len(self.known) - 1}; "
                "send ids that it has, or set parameter 'unknown_ids' to skip"
            )
        return known

    def _answer(self, items: list[tuple[list[list[int]], Sequence[int]]]) -> list[Any]:
        decoded = iter(
            self.tokenizer.decode_batch(
                [row for rows, _ in items for row in rows], skip_special_tokens=self.skip_special_tokens
            )
        )
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("text", bytes_array([next(decoded) for _ in rows], shape))])
            for rows, shape in items
        ]


def _check_types(config: Mapping[str, Any], model: str) -> None:
    for entry in config["input"]:
        if entry["name"] == "ids" and entry["data_type"] not in ("TYPE_INT64", "TYPE_INT32", "TYPE_UINT32"):
            raise BadConfig(
                f"model '{model}': input 'ids' is {entry['data_type']}, expected TYPE_INT64, TYPE_INT32 or TYPE_UINT32"
            )
