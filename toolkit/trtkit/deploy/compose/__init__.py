# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A Compose project for one host: the server, Envoy in front of it, and what watches both."""
