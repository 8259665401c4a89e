# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Loading a Hugging Face `tokenizers` file, for the text models of this folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tokenizers import Tokenizer
from trtkit_parts import BadConfig, Parameters, locate


def load_tokenizer(args: Mapping[str, str], parameters: Parameters) -> Tokenizer:
    """The tokenizer that parameter ``tokenizer`` names, working on ``threads`` threads.

    Args:
        args: what Triton hands to ``initialize``.
        parameters: of the model.

    Raises:
        BadConfig: there is no such file, or it is not a tokenizer.
    """
    threads = parameters.integer("threads", 1, least=1)
    # each instance is a process with a pool of its own, as large as the machine unless told otherwise;
    # both are read when the pool starts, with the first batch
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    path = locate(args, parameters.text("tokenizer", "tokenizer.json"))
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more specific
        raise BadConfig(f"model '{args['model_name']}': {path} is not a tokenizer file: {error}") from None
