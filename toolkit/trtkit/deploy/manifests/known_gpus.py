# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many slices of each MIG profile one GPU gives (NVIDIA's mig-parted), over all GPUs that have the profile."""

from __future__ import annotations

import re

MOST = {
    "1g.5gb": 7, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1,  # A100-40
    "1g.10gb": 7, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1,  # A100, H100-80
    "1g.6gb": 4, "2g.12gb": 2, "4g.24gb": 1,  # A30
    "1g.12gb": 7, "1g.24gb": 4, "2g.24gb": 3, "3g.47gb": 2, "3g.48gb": 2, "4g.47gb": 1, "4g.48gb": 1,
    "7g.94gb": 1, "7g.96gb": 1,  # H100-94 and -96
}  # fmt: skip
PROFILE = re.compile(r"\d+g\.\d+gb")
