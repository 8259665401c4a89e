# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From a built repository and a target to everything that runs it: files, each figure in them with its reason."""
