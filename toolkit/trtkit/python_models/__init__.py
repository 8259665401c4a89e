# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Models that the Python backend serves: their files, their environments, and one call before they are published."""
