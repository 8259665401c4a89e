# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The perf stage alone: python scripts/perf.py MODEL measures a served model in a closed loop of 8."""

import argparse

from trtkit import connect, find_project, measure, random_inputs, serve

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="a published model of trtkit.yaml")
parser.add_argument("--window", type=float, default=2.0, help="seconds of one of the three or more windows")
arguments = parser.parse_args()

project = find_project()
with serve(project.repository, models=[arguments.model]) as server:
    with connect(server.http_url) as client:
        signature = client.signature(arguments.model)
    requests = [random_inputs(signature.inputs, 1, seed=seed) for seed in range(100)]
    result = measure(
        server.http_url, arguments.model, concurrency=8, inputs=requests, window_s=arguments.window, warmup_s=0.5
    )
latency = result.latency
print(f"{result.throughput_infer_per_s:.0f} infer/s, stable: {result.stable}, errors: {result.error_count}")
print(f"p50 {latency.p50_ns / 1e6:.2f} ms, p99 {latency.p99_ns / 1e6:.2f} ms" if latency else "no request succeeded")
