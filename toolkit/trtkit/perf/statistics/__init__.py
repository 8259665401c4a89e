# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the rows say: percentiles, windows, intervals, comparisons."""
