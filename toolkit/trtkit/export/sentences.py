# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Other libraries' messages, made to fit into one sentence of ours."""

from __future__ import annotations

import re

_LONGEST = 600
# e.g. "/project/onnx/version_converter/BaseConverter.h:66: adapter_lookup: Assertion `false` failed: "
_ASSERTION = re.compile(r"\S+\.(?:h|cc|cpp):\d+: .*?Assertion `.*?` failed: ")


def one_line(exc: BaseException) -> str:
    """An exception's text without line breaks and C++ source places, no longer than a screen takes."""
    text = _ASSERTION.sub("", " ".join(str(exc).split()))
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or type(exc).__name__
