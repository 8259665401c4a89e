# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A load trace replayed through the autoscaler's own formula, against pods that queue and start as measured."""
