# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Pipelines for a user's project: GitHub Actions, GitLab CI, Jenkins. The steps are the same in all of them."""
