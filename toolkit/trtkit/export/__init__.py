# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A trained model becomes an ONNX graph that is checked, inferred, proven dynamic, and compared with its source.

`stage` does it; `key` says what decides its result, without importing anything heavy.
"""
