# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Lint of anyone's manifests, Dockerfiles, Compose files, Prometheus rules and scripts for Triton."""
