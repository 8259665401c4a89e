# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Prometheus rules and their tests, Grafana's dashboard, and what makes both find the server."""
