# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The validate stage alone: python scripts/validate.py MODEL compares what is served with its reference."""

import argparse
import sys

from trtkit import connect, find_project, serve, validate_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a published model of trtkit.yaml")
arguments = parser.parse_args()

project = find_project()
with (
    serve(project.repository, models=[arguments.model]) as server,
    connect(server.http_url) as http,
    connect(server.grpc_url, "grpc") as grpc,
):
    report = validate_model(project, arguments.model, [http, grpc])
for result in report.outputs:
    print(f"{result.protocol} {result.output}: largest error {result.difference.max_abs:.3g} in {report.rows} rows")
sys.exit("\n".join(report.problems()) or 0)
