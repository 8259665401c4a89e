# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How requests get to the server: HTTP/1.1, gRPC over HTTP/2, streams."""
