# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is known of the server that a repository is for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from trtkit.images import ImageFacts, image_facts, parse_version


@dataclass(frozen=True)
class ServerFacts:
    """The server that is to load the models.

    Attributes:
        flags: tritonserver's options as they will be given; None when nobody said.
        image: the container image, e.g. ``nvcr.io/nvidia/tritonserver:24.10-py3``; None for any.
        triton: the server's own version, e.g. ``2.51``; from the image when not given.
        gpus: how many GPUs it has; None when not known.
        backends: the backends it has; None when not known.
    """

    flags: tuple[str, ...] | None = None
    image: str | None = None
    triton: str | None = None
    gpus: int | None = None
    backends: frozenset[str] | None = None

    @property
    def facts(self) -> ImageFacts | None:
        """What is known of the image."""
        return image_facts(self.image) if self.image else None

    @property
    def version(self) -> tuple[int, ...]:
        """Triton's version, e.g. (2, 51); () for any, and then the newest is assumed."""
        known = self.facts
        return parse_version(self.triton or (known.sure("triton") if known else None))

    @property
    def version_text(self) -> str:
        """``2.51``; '' for any."""
        return ".".join(map(str, self.version))

    def is_from(self, version: tuple[int, ...]) -> bool:
        """Whether it is of this version of Triton or newer; the newest where nobody said."""
        return not self.version or self.version >= version

    @property
    def complete(self) -> bool:
        """Whether its flags, its version and its GPUs are known."""
        return self.flags is not None and self.version != () and self.gpus is not None

    def option(self, name: str) -> list[str]:
        """The values given for ``--NAME``, in order; '' for one without a value."""
        found, flags = [], self.flags or ()
        for index, flag in enumerate(flags):
            key, equals, value = flag.partition("=")
            if key == f"--{name}":
                following = flags[index + 1] if index + 1 < len(flags) else ""
                found.append(value if equals else "" if following.startswith("--") else following)
        return found

    @cached_property
    def strict(self) -> bool:
        """Whether auto-completion is off: every model's config has to be whole."""
        off = self.option("disable-auto-complete-config")
        old = self.option("strict-model-config")
        return any(value.lower() not in ("false", "0") for value in off) or any(
            value.lower() in ("", "true", "1") for value in old
        )

    @property
    def config_name(self) -> str | None:
        """``--model-config-name``: the file of configs/ that each model is served with, if it has it."""
        given = self.option("model-config-name")
        return given[-1] if given else None
