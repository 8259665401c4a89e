# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Token embeddings to sentence embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_each, tensor
from trtkit_sentence_pool import POOLINGS, normalized


class TritonPythonModel:
    """``token_embeddings`` [batch, sequence, hidden] to ``sentence_embedding`` [batch, hidden]; see README.md."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the parameters."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self.name = args["model_name"]
        self.pool = POOLINGS[parameters.choice("pooling", POOLINGS, "mean")]
        self.normalize = parameters.flag("normalize", True)
        parameters.done()
        _type_of(config, "input", "token_embeddings")
        self.type = _type_of(config, "output", "sentence_embedding")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request."""
        with np.errstate(all="ignore"):  # NaN and infinity of a request are its own affair
            return answer_each(self.name, requests, self._answer)

    def _answer(self, request: Any) -> Any:
        tokens = tensor(request, "token_embeddings")
        if tokens.ndim < 2:
            raise BadRequest(
                f"input 'token_embeddings' has the shape {list(tokens.shape)}, expected [..., sequence, hidden]"
            )
        mask = self._mask(request, tokens)
        *rows, sequence, hidden = tokens.shape
        count = int(np.prod(rows))
        flat = tokens.reshape(count, sequence, hidden).astype(np.float32, copy=False)
        pooled = self.pool(flat, mask.reshape(count, sequence))
        if self.normalize:
            pooled = normalized(pooled)
        made = pooled.astype(self.type, copy=False).reshape(*rows, hidden)
        return pb_utils.InferenceResponse([pb_utils.Tensor("sentence_embedding", made)])

    def _mask(self, request: Any, tokens: np.ndarray) -> np.ndarray:
        """Where a token counts; everywhere when the request does not say."""
        if pb_utils.get_input_tensor_by_name(request, "attention_mask") is None:
            return np.ones(tokens.shape[:-1], dtype=bool)
        mask = tensor(request, "attention_mask")
        if mask.shape != tokens.shape[:-1]:
            raise BadRequest(
                f"input 'attention_mask' has the shape {list(mask.shape)}, and 'token_embeddings' {list(tokens.shape)}"
            )
        return mask != 0


def _type_of(config: Mapping[str, Any], kind: str, name: str) -> Any:
    """The numpy type of a tensor, one of the floating-point types that numpy has."""
    types = {entry["name"]: entry["data_type"] for entry in config[kind]}
    if types.get(name) not in ("TYPE_FP32", "TYPE_FP16"):
        raise BadConfig(
            f"model '{config['name']}': {kind} '{name}' is {types.get(name)}, expected TYPE_FP32 or TYPE_FP16"
        )
    return pb_utils.triton_string_to_numpy(types[name])
