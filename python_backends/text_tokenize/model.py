# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts to token ids, with a Hugging Face `tokenizers` file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer
from trtkit_parts import BadConfig, BadRequest, Parameters, answer_together, tensor, texts
from trtkit_text_tokenize import OUTPUTS, Padding, arrays
from trtkit_tokenizer import load_tokenizer

_BUCKETS = "16,32,64,128,256,512"
_PAD_TOKENS = ("[PAD]", "<pad>")  # asked for where neither the parameter nor the file names one


class _Job(NamedTuple):
    """What a request asks for: its texts (or pairs of texts), and the names of the outputs."""

    texts: list[Any]
    outputs: list[str]


class TritonPythonModel:
    """BYTES ``text`` [batch, 1] (and ``text_pair``) to integers [batch, sequence]; see README.md."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the tokenizer and read the parameters."""
        config = json.loads(args["model_config"])
        parameters = Parameters(config)
        self.name = args["model_name"]
        self.tokenizer = load_tokenizer(args, parameters)
        self.add_special_tokens = parameters.flag("add_special_tokens", True)
        self.max_bytes = parameters.integer("max_bytes", 131072, least=1)
        self.padding = _padding(self.tokenizer, parameters, self.name)
        self._truncate(parameters)
        self.tokenizer.no_padding()
        parameters.done()
        self.types = _types(config, self.name)

    def _truncate(self, parameters: Parameters) -> None:
        given = self.tokenizer.truncation or {"strategy": "longest_first", "direction": "right"}
        strategies = ("longest_first", "only_first", "only_second", "none")
        strategy = parameters.choice("truncation", strategies, given["strategy"])
        side = parameters.choice("truncation_side", ("right", "left"), given["direction"])
        if self._special_tokens(pair=False) >= self.padding.max_length:
            raise parameters.wrong("max_length", f"more than the {self._special_tokens(pair=False)} special tokens")
        self.tokenizer.no_truncation()
        if strategy != "none":
            self.tokenizer.enable_truncation(self.padding.max_length, strategy=strategy, direction=side)

    def _special_tokens(self, *, pair: bool) -> int:
        return self.tokenizer.num_special_tokens_to_add(pair) if self.add_special_tokens else 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response per request; the texts of all are encoded together."""
        return answer_together(self.name, requests, self._read, self._answer)

    def _read(self, request: Any) -> tuple[None, _Job]:
        rows: list[Any] = self._texts(request, "text")
        if pb_utils.get_input_tensor_by_name(request, "text_pair") is not None:
            rows = self._pairs(rows, self._texts(request, "text_pair"))
        return None, _Job(rows, [name for name in request.requested_output_names() if name in self.types])

    def _texts(self, request: Any, name: str) -> list[str]:
        values = tensor(request, name)
        if values.size != len(values):
            raise BadRequest(f"input '{name}' has the shape {list(values.shape)}, expected one text in each row")
        for index, value in enumerate(values.ravel()):
            if len(value) > self.max_bytes:
                raise BadRequest(
                    f"element {index} of input '{name}' has {len(value)} bytes, at most {self.max_bytes} are taken; "
                    "send less, or raise parameter 'max_bytes'"
                )
        return texts(values, name)

    def _pairs(self, first: list[str], second: list[str]) -> list[tuple[str, str]]:
        if len(first) != len(second):
            raise BadRequest(f"there are {len(first)} rows of input 'text' and {len(second)} of 'text_pair'")
        if self._special_tokens(pair=True) >= self.padding.max_length:
            raise BadRequest(f"the special tokens of a pair leave no room in a max_length of {self.padding.max_length}")
        return list(zip(first, second, strict=True))

    def _answer(self, jobs: list[_Job]) -> list[Any]:
        """The arrays of all are made at once, and each request gets its part of them."""
        wanted = {name for job in jobs for name in job.outputs}
        encodings = self._encode([text for job in jobs for text in job.texts], with_offsets="offsets" in wanted)
        counts = list(map(len, encodings))
        rows = [0, *itertools.accumulate(len(job.texts) for job in jobs)]
        lengths = self.padding.lengths([max(counts[start:end], default=0) for start, end in itertools.pairwise(rows)])
        width = max(lengths)
        made = arrays(encodings, width, self.padding, self.types, wanted)
        responses = []
        for job, start, end, length in zip(jobs, rows, rows[1:], lengths, strict=False):
            part = slice(start, end), self.padding.columns(width, length)
            tensors = [pb_utils.Tensor(name, np.ascontiguousarray(made[name][part])) for name in job.outputs]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses

    def _encode(self, rows: list[Any], *, with_offsets: bool) -> list[Any]:
        # the fast one leaves the offsets out
        encode = self.tokenizer.encode_batch if with_offsets else self.tokenizer.encode_batch_fast
        try:
            encodings = encode(rows, add_special_tokens=self.add_special_tokens)
        except Exception as error:  # the library raises nothing more specific
            raise BadRequest(f"the text cannot be encoded: {error}") from None
        longest = max(map(len, encodings), default=0)
        if longest > self.padding.max_length:
            raise BadRequest(
                f"a text has {longest} tokens, at most {self.padding.max_length} are taken; "
                "send less, or set parameter 'truncation' or 'max_length'"
            )
        return encodings


def _padding(tokenizer: Tokenizer, parameters: Parameters, model: str) -> Padding:
    """How the parameters, and where they are silent the file, want rows padded."""
    given = tokenizer.padding or {}
    token_id, type_id = given.get("pad_id"), given.get("pad_type_id", 0)
    named = parameters.text("pad_token", "")
    if named or token_id is None:
        names = (named,) if named else _PAD_TOKENS
        known = [found for name in names if (found := tokenizer.token_to_id(name)) is not None]
        if not known:
            raise BadConfig(
                f"model '{model}': the tokenizer has no token {' or '.join(names)} to pad with; "
                "set parameter 'pad_token' to a token it has"
            )
        token_id = known[0]
    max_length = parameters.integer("max_length", (tokenizer.truncation or {}).get("max_length", 512), least=1)
    buckets, multiple_of = _lengths(parameters, max_length)
    return Padding(
        to=parameters.choice("padding", ("longest_in_request", "longest", "max_length"), "longest_in_request"),
        buckets=buckets,
        multiple_of=multiple_of,
        max_length=max_length,
        side=parameters.choice("padding_side", ("right", "left"), given.get("direction", "right")),
        token_id=token_id,
        type_id=type_id,
    )


def _lengths(parameters: Parameters, max_length: int) -> tuple[list[int], int]:
    """The buckets, or none and what lengths are a multiple of."""
    multiple = parameters.integer("pad_to_multiple_of", 1, least=1)
    buckets = parameters.numbers("buckets", _BUCKETS if multiple == 1 else "")
    if not all(each.is_integer() and each >= 1 for each in buckets):
        raise parameters.wrong("buckets", "whole numbers from 1 with commas between them")
    if buckets and multiple > 1:
        raise parameters.wrong("pad_to_multiple_of", "1 where there are buckets; leave one of the two out")
    return sorted({max_length, *(int(each) for each in buckets if each < max_length)}) if buckets else [], multiple


def _types(config: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The numpy type of each output that the configuration has."""
    types = {entry["name"]: entry["data_type"] for entry in config["output"]}
    for name, data_type in types.items():
        if name not in OUTPUTS:
            raise BadConfig(f"model '{model}': there is no output '{name}'; it has {', '.join(OUTPUTS)}")
        if data_type not in ("TYPE_INT64", "TYPE_INT32"):
            raise BadConfig(f"model '{model}': output '{name}' is {data_type}, expected TYPE_INT64 or TYPE_INT32")
    return {name: pb_utils.triton_string_to_numpy(data_type) for name, data_type in types.items()}
