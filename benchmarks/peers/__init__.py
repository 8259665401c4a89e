# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Other load generators that benchmarks measure against; each is optional."""
