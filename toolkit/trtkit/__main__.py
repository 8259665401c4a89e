# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m trtkit``."""

from trtkit.cli import main

if __name__ == "__main__":
    main()
