# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A running tritonserver: the embedded one, a binary, or a container; and a client for any server."""

from trtkit.server.client import Client, connect
from trtkit.server.launch import container_command, embedded_launch, tritonserver_launch
from trtkit.server.process import RunningServer, serve, start_server

__all__ = [
    "Client",
    "RunningServer",
    "connect",
    "container_command",
    "embedded_launch",
    "serve",
    "start_server",
    "tritonserver_launch",
]
