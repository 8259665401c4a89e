# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Cases for text_detokenize: a short and a long text, and a batch."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from harness import Case, write_part
from tokenizers import Tokenizer

from text_models import descriptions, tokenizer_json


def benchmark(repository: Path) -> list[Case]:
    """See the module's words."""
    content = tokenizer_json("byte_level_bpe")
    write_part(repository, "text", "text_detokenize", files={"tokenizer.json": content})
    tokenizer = Tokenizer.from_buffer(content)
    ids = np.array(tokenizer.encode(" ".join(descriptions())).ids, np.int64)

    def case(rows: int, tokens: int) -> Case:
        given = ids[: rows * tokens].reshape(rows, tokens)
        compute = functools.partial(tokenizer.decode_batch, given.tolist())
        return Case("text", f"{rows} times {tokens} tokens", {"ids": given}, compute, rows)

    return [case(1, 16), case(1, 512), case(32, 16)]
