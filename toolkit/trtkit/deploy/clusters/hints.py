# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How to install what a cluster lacks: NVIDIA's own charts, as their documents give them."""

from __future__ import annotations

DEVICE_PLUGIN = (
    "helm repo add nvdp https://nvidia.github.io/k8s-device-plugin && helm repo update && "
    "helm upgrade --install nvdp nvdp/nvidia-device-plugin --namespace nvidia-device-plugin --create-namespace "
    "--version 0.17.1 --set gfd.enabled=true"
)
"""The device plugin with GPU feature discovery; nodes need the driver and NVIDIA's container toolkit."""

DCGM_EXPORTER = (
    "helm repo add gpu-helm-charts https://nvidia.github.io/dcgm-exporter/helm-charts && helm repo update && "
    "helm upgrade --install dcgm-exporter gpu-helm-charts/dcgm-exporter --namespace monitoring --create-namespace"
)
"""GPU utilization, memory, temperature and XID errors for Prometheus."""

PLUGIN_OF_CLOUD = {
    "EKS": DEVICE_PLUGIN,
    "AKS": DEVICE_PLUGIN,
    "GKE": "GKE brings its own plugin; the driver is what is missing: recreate the node pool with "
    "--accelerator type=TYPE,count=N,gpu-driver-version=default",
}
"""By the cloud that a node's labels tell of."""

LABELS_OF_CLOUD = {
    "GKE": "GKE's plugin puts no such labels on: leave gpu.product out, and choose nodes by "
    "cluster.node_selector {cloud.google.com/gke-accelerator: TYPE}",
}
"""Instead of GPU feature discovery, which would need another plugin."""


def mig(profile: str) -> str:
    """How nodes with the operator's MIG manager are sliced evenly."""
    return f"kubectl label node NODE nvidia.com/mig.config=all-{profile} --overwrite   # drain it first"
