# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A cluster as Kubernetes describes it: what its nodes have, what is missing on them, whether a plan fits."""
