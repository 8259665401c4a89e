# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np


def rows():
    return np.ones((8, 1, 8, 8), np.float32)
