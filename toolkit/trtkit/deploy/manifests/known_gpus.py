# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many slices of each MIG profile one GPU gives, over all GPUs that have the profile."""

from __future__ import annotations

import re

from trtkit.deploy.gpus import PRODUCTS

PROFILE = re.compile(r"\d+g\.\d+gb")


def _most() -> dict[str, int]:
    found: dict[str, int] = {}
    for product in PRODUCTS.values():
        for profile, count in product.slices.items():
            found[profile] = max(count, found.get(profile, 0))
    return found


MOST = _most()
"""By profile; one that is not here may still be one of a newer GPU's."""
