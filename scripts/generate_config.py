# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config stage alone: python scripts/generate_config.py MODEL prints the config.pbtxt of an exported model."""

import argparse
import tempfile
from pathlib import Path

from trtkit import explained_config, export_model, find_project, to_text

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a model of trtkit.yaml with a source")
arguments = parser.parse_args()

project = find_project()
with tempfile.TemporaryDirectory() as folder:
    exported = export_model(project, arguments.model, Path(folder))
explained = explained_config(
    project, arguments.model, exported.signature, exported.max_batch_size, exported.facts["warmup"],
    batch=exported.facts["batch"],
)  # fmt: skip
print(to_text(explained.config, explained.reasons), end="")
