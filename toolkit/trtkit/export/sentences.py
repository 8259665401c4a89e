# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Other libraries' messages, made to fit into one sentence of ours."""

from __future__ import annotations

import re

_LONGEST = 600
# what says where in C++ something was noticed, or what to read about it, and not what is wrong
_NOISE = re.compile(
    r"\S+\.(?:h|cc|cpp):\d+:? .*?Assertion `.*?` failed: "
    r"|/onnxruntime_src/\S+:\d+ .*? was false\. ?|/onnxruntime_src/\S+:\d+ \w+ (?=\S+ \S)"
    r"|Load model from .*? failed: ?|\[ONNXRuntimeError\] : \d+ : \w+ : |Non-zero status code returned while "
)
_ADVICE = re.compile(
    r" (?:For more (?:information|debugging)|For extended logs|The error above occurred|Caused by:|==> Context:).*"
)


def one_line(exc: BaseException) -> str:
    """An exception's text without line breaks, C++ source places and advice, no longer than a screen takes."""
    plain = " ".join(str(exc).split())
    text = _ADVICE.sub("", _NOISE.sub("", plain)).strip() or plain
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or type(exc).__name__
