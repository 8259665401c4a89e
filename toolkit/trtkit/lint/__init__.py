# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Say everything about a model repository that the server would say one error at a time."""
