# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The places where tritonserver is started: pods, Compose services, images and scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trtkit.deploy.drain import SERVER_EXIT_TIMEOUT_S
from trtkit.deploy.manifests.commands import Flag, Spot, Word, commands, flags, of_node, server_words
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Container, Pod

_IMAGE = re.compile(r"(?:^|/)[\w.-]*tritonserver[\w.-]*(?::|@|$)")
_RELEASE = re.compile(r"tritonserver[\w.-]*:(\d\d\.\d\d)(?=-|$)")
PORTS = {8000, 8001, 8002}
EXIT_TIMEOUT = float(SERVER_EXIT_TIMEOUT_S)
"""tritonserver's --exit-timeout-secs where it is not given."""
_OFF = {"false", "0", "off", "no"}


@dataclass(frozen=True)
class Server:
    """One tritonserver that some file starts.

    Attributes:
        kind: ``pod``, ``compose``, ``dockerfile`` or ``script``.
        spot: where it is.
        image: as it is written; '' where it is not.
        flags: of its command line.
        known: whether all of the command line is there to be read; False for an image's own entrypoint.
        node: the container or the service; None in scripts.
        pod: its pod; None elsewhere.
        env: literal values of variables.
    """

    kind: str
    spot: Spot
    image: str
    flags: tuple[Flag, ...]
    known: bool
    node: Node | None = None
    pod: Pod | None = None
    env: Mapping[str, Node] = field(default_factory=dict)

    def flag(self, name: str) -> Flag | None:
        """The last one of a name."""
        return next((each for each in reversed(self.flags) if each.name == name), None)

    def value(self, name: str, default: str = "") -> str:
        """An option's value, or its default."""
        found = self.flag(name)
        return found.value if found else default

    def is_off(self, name: str) -> bool:
        """Whether a boolean option was switched off."""
        found = self.flag(name)
        return found is not None and found.value.lower() in _OFF

    @property
    def mode(self) -> str:
        """Of the models' control: ``none``, ``poll`` or ``explicit``."""
        return self.value("model-control-mode", "none").lower()

    @property
    def exit_timeout(self) -> float:
        """How long it waits for requests when it is told to stop, s."""
        try:
            return float(self.value("exit-timeout-secs", str(EXIT_TIMEOUT)))
        except ValueError:
            return EXIT_TIMEOUT

    @property
    def release(self) -> str:
        """The NGC release that the image's tag names; '' where it names none."""
        found = _RELEASE.search(self.image)
        return found[1] if found else ""

    def metrics_config(self, name: str) -> str:
        """A value of ``--metrics-config``, in small letters; '' where it is not given."""
        given = [each.value.lower().partition("=") for each in self.flags if each.name == "metrics-config"]
        return next((value for key, _, value in reversed(given) if key.strip() == name), "")


def is_server_image(image: str) -> bool:
    """Whether an image is called tritonserver; NVIDIA's SDK image of clients is not one."""
    return bool(_IMAGE.search(image)) and "py3-sdk" not in image


def of_pod(pod: Pod) -> Iterator[Server]:
    """The containers of a pod that run tritonserver."""
    for container in pod.containers:
        words = [*of_node(container.node["command"]), *of_node(container.node["args"])]
        image, called = container.node["image"].text, server_words(words)
        own = not container.node["command"] and (is_server_image(image) or _has_ports(container))
        if called is not None or (own and not container.first):
            given = words if called is None else called
            known = bool(container.node["command"]) or bool(called)
            yield Server("pod", container.node, image, tuple(flags(given)), known, container.node, pod, container.env)


def _has_ports(container: Container) -> bool:
    """Whether an image that says nothing has Triton's three ports."""
    return {int(port) for port in container.ports.values() if port} >= PORTS


def of_service(service: Node) -> Server | None:
    """What a Compose service runs, if it is tritonserver."""
    words = [*of_node(service["entrypoint"]), *of_node(service["command"])]
    image, called = service["image"].text, server_words(words)
    own = not service["entrypoint"] and (is_server_image(image) or (not image and _published(service) >= PORTS))
    if called is None and not own:
        return None
    given = words if called is None else called
    return Server("compose", service, image, tuple(flags(given)), called is not None, service, None, variables(service))


def _published(service: Node) -> set[int]:
    """The container's ports of a Compose service: of ``8000``, ``HOST:8000``, ``HOST-HOST:8000-8002`` or a mapping."""
    found: set[int] = set()
    for each in service["ports"].items:
        inner = each["target"].text or each.text.rpartition(":")[2].partition("/")[0]
        first, _, last = inner.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found |= PORTS.intersection(range(int(first), int(last or first) + 1))
    return found


def variables(service: Node) -> dict[str, Node]:
    """A Compose service's literal variables: of a mapping, or of a list of NAME=VALUE."""
    found = {name: value for name, value in service["environment"].fields.items() if value}
    for each in service["environment"].items:
        name, equals, _ = each.text.partition("=")
        if equals:
            found[name] = each
    return found


def value_of(name: str, node: Node) -> str:
    """A variable's value, where a list of Compose's holds the name too."""
    return node.text.removeprefix(f"{name}=")


def of_words(words: list[Word], kind: str) -> Iterator[Server]:
    """The servers that some commands start."""
    for command in commands(words):
        called = server_words(command)
        image = next((word.text for word in command if is_server_image(word.text) and ":" in word.text), "")
        if called is not None and (called or image or len(command) == 1):
            yield Server(kind, command[0], image, tuple(flags(called)), True)
