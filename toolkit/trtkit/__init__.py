# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""trtkit: from a trained model to a Triton Inference Server deployment that can be trusted."""

__version__ = "0.1.0.dev0"
