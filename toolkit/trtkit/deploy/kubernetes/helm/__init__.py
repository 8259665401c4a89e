# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The same objects as a Helm chart."""

from __future__ import annotations
