# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The response cache (core: model_config_utils.cc, ValidateModelConfig)."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.edits import set_value
from trtkit.lint.judged import tensors_config
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule


@rule("CCH001", "cache-with-decoupled-responses", server=True, fixable=True)
def cache_with_decoupled(model: Model) -> Iterator[Found]:
    """The responses of a decoupled model are to be cached.

    A decoupled model gives any number of responses to a request; the cache holds one (core: model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        model_transaction_policy { decoupled: true }
        response_cache { enable: true }

    Right:
        model_transaction_policy { decoupled: true }
    """
    if not model.config.response_cache.enable:
        return
    if model.config.model_transaction_policy.decoupled or tensors_config(model).model_transaction_policy.decoupled:
        yield model.found(
            ("response_cache",),
            f"Response Cache does not currently support model {model.config.name} with 'decoupled' transaction policy. "
            "Please disable the response cache.",
            fix=set_value(model.document, ("response_cache", "enable"), "false"),
        )


RULES = (cache_with_decoupled,)
