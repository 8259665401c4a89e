# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Projects with a built repository and a `deploy:` block, one for each kind of target: what renderers are tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from conftest import ECHO_MODEL
from trtkit.project import Project, load_project

CONFIGS = {
    "encoder": """
name: "encoder"
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
dynamic_batching { max_queue_delay_microseconds: 500 }
instance_group { count: 2 kind: %(kind)s }
""",
    "echo": """
name: "echo"
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
instance_group { count: 1 kind: KIND_CPU }
""",
    "pipeline": """
name: "pipeline"
platform: "ensemble"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step { model_name: "echo" model_version: -1 input_map { key: "x" value: "x" } output_map { key: "y" value: "z" } }
  step { model_name: "encoder" model_version: -1 input_map { key: "x" value: "z" } output_map { key: "y" value: "y" } }
}
""",
    "tracker": """
name: "tracker"
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
sequence_batching { max_sequence_idle_microseconds: 60000000 }
instance_group { count: 1 kind: KIND_CPU }
""",
    "cached": """
name: "cached"
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
response_cache { enable: true }
instance_group { count: 1 kind: KIND_CPU }
""",
}
ONE = ("encoder",)

TARGETS = {
    "cpu": {"backend": "onnxruntime", "image": "nvcr.io/nvidia/tritonserver:25.01-py3"},
    "gpu": {
        "backend": "onnxruntime", "execution_provider": "cuda", "image": "nvcr.io/nvidia/tritonserver:25.01-py3",
        "compute_capability": "8.9",
    },
    "old": {"backend": "onnxruntime", "image": "nvcr.io/nvidia/tritonserver:24.10-py3"},
}  # fmt: skip

_BUCKET = {"kind": "s3", "uri": "s3://models/digits", "region": "eu-central-1"}
_L40S = {"product": "NVIDIA-L40S"}

MATRIX: dict[str, dict[str, Any]] = {
    "cpu": {"target": "cpu"},
    "cpu_old_server": {"target": "old"},
    "one_gpu": {"target": "gpu", "gpu": _L40S},
    "mig": {"target": "gpu", "gpu": {"product": "NVIDIA-A100-SXM4-80GB", "mig": "1g.10gb"}},
    "several_models": {
        "target": "gpu", "gpu": _L40S,
        "slo": {"latency_p99_ms": 200, "models": {"encoder": {"latency_p99_ms": 50}, "echo": {"queue_ms": 5}}},
    },
    "s3_identity": {
        "target": "cpu", "storage": {**_BUCKET, "identity": "arn:aws:iam::123456789012:role/triton"},
    },
    "s3_keys": {"target": "cpu", "storage": {**_BUCKET, "secret": "bucket-keys"}},
    "gcs": {
        "target": "cpu",
        "storage": {"kind": "gcs", "uri": "gs://models/digits", "identity": "triton@p.iam.gserviceaccount.com"},
    },
    "baked": {"target": "cpu", "storage": {"kind": "baked"}, "registry": "registry.example.com/team/digits"},
    "hpa": {
        "target": "gpu", "gpu": _L40S, "scaling": {"kind": "hpa", "min_replicas": 2, "max_replicas": 8},
        "cluster": {"nodes": 4, "gpus_per_node": 2, "free_gpus": 6, "quota_gpus": 9},
    },
    "hpa_cpu": {"target": "cpu", "scaling": {"kind": "hpa", "metric": "cpu", "vpa": "Off"}},
    "keda": {
        "target": "cpu",
        "scaling": {
            "kind": "keda", "min_replicas": 1, "max_replicas": 20, "metric": "pending",
            "cron": [{"timezone": "Asia/Shanghai", "start": "0 8 * * *", "end": "0 20 * * *", "replicas": 10}],
            "queue": {"name": "inference", "length": 20},
        },
    },
    "ingress": {
        "target": "cpu",
        "exposure": {
            "kind": "ingress", "host": "digits.example.com", "tls_secret": "digits-tls", "requests_per_second": 50,
        },
    },
    "gateway": {
        "target": "cpu", "exposure": {"kind": "gateway", "host": "digits.example.com", "tls_secret": "digits-tls"},
    },
    "gateway_existing": {
        "target": "cpu",
        "exposure": {
            "kind": "gateway", "host": "digits.example.com", "gateway": "public", "gateway_namespace": "infra",
        },
    },
    "time_slicing": {"target": "gpu", "gpu": {"product": "NVIDIA-L40S", "time_slicing": 4}},
    "kserve": {"target": "cpu", "kserve": True, "storage": {**_BUCKET, "secret": "bucket-keys"}},
    "explicit": {"target": "cpu", "models": ["encoder"], "server": {"control_mode": "explicit", "strict": False}},
    "servicemonitor": {"target": "cpu", "monitoring": {"kind": "servicemonitor", "labels": {"release": "kps"}}},
    "environments": {
        "target": "gpu", "gpu": _L40S,
        "environments": {
            "staging": {"namespace": "triton-staging", "scaling": {"min_replicas": 1}, "gpu": {"time_slicing": 2}},
            "production": {
                "scaling": {"kind": "hpa", "min_replicas": 3, "max_replicas": 12}, "cluster": {"free_gpus": 4},
                "exposure": {"kind": "gateway", "host": "digits.example.com"}, "kube_version": "1.33",
            },
        },
    },
}  # fmt: skip
"""A `deploy:` block of each kind; the repository has all models of `CONFIGS` where there are no others in `MODELS`."""

MODELS: dict[str, tuple[str, ...]] = {
    "several_models": ("encoder", "echo", "pipeline", "tracker", "cached"),
    "cpu": ("encoder", "echo", "pipeline", "tracker", "cached"),
    "cpu_old_server": ("encoder", "echo", "cached"),
    "explicit": ("encoder", "echo"),
}


def deploy_project(folder: Path, deploy: Mapping[str, Any], models: tuple[str, ...] = ONE, **further: Any) -> Project:
    """A project in a folder: trtkit.yaml with the block, and a repository of `models` that lints and loads.

    Args:
        folder: empty, or absent.
        deploy: the block.
        models: of `CONFIGS`.
        further: other keys of trtkit.yaml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    repository = folder / "model_repository"
    on_gpu = deploy.get("target") == "gpu"
    for name in models:
        version = repository / name / "1"
        version.mkdir(parents=True)
        config = CONFIGS[name].replace("%(kind)s", "KIND_GPU" if on_gpu else "KIND_CPU")
        (repository / name / "config.pbtxt").write_text(config.lstrip())
        if 'backend: "python"' in config:
            (version / "model.py").write_text(ECHO_MODEL)
        elif 'backend: "onnxruntime"' in config:
            onnx.save(identity(), version / "model.onnx")
    value = {"repository": "model_repository", "targets": TARGETS, "deploy": dict(deploy), **further}
    (folder / "trtkit.yaml").write_text(json.dumps(value, indent=2))
    return load_project(folder / "trtkit.yaml")


def matrix_project(folder: Path, name: str) -> Project:
    """The project of a row of `MATRIX`."""
    return deploy_project(folder, MATRIX[name], MODELS.get(name, ONE))


def identity() -> onnx.ModelProto:
    """FP32 x[batch, 4] to y[batch, 4]."""
    shape = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
