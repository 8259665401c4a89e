# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Envoy in front of the servers: one address for clients while servers come and go."""
