# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Precision in the graph: FP16 and BF16 by conversion, INT8 and FP8 by explicit Q/DQ, with calibration and proof."""
