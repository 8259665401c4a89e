# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the cluster's GPU nodes need so that pods share GPUs: time-slicing or MPS of the device plugin, or MIG.

These files change nodes, not a namespace: who runs the cluster applies them, once, beside the kustomization.
"""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.gpus import profiles_of
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

NAMESPACE = "gpu-operator"
"""Where NVIDIA's GPU operator runs; the device plugin's chart alone has nvidia-device-plugin."""
DEVICE_PLUGIN_LABEL = "nvidia.com/device-plugin.config"
MIG_LABEL = "nvidia.com/mig.config"


def files(plan: Plan) -> dict[str, str]:
    """Configuration and a runbook by relative path; none for whole GPUs and CPU targets."""
    gpu = plan.spec.gpu
    if not plan.on_gpu:
        return {}
    if gpu.mig:
        count = profiles_of(gpu.product or "").get(gpu.mig)
        return {"gpu/mig-config.yaml": _mig_config(gpu.mig, count), "gpu/README.md": _mig_runbook(plan, count)}
    if gpu.time_slicing:
        return _shared(plan, "timeSlicing", gpu.time_slicing)
    return _shared(plan, "mps", gpu.mps) if gpu.mps else {}


def plugin_config(way: str, replicas: int) -> dict[str, Any]:
    """A configuration of NVIDIA's device plugin.

    Args:
        way: ``timeSlicing`` or ``mps``; the plugin takes one of them.
        replicas: how many pods a GPU is offered to.
    """
    rules = {
        "renameByDefault": Noted(False, "the resource stays nvidia.com/gpu; the product label gets the suffix -SHARED"),
        "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}],
    }
    if way == "timeSlicing":
        why = "two shares of a GPU are no more than one: a pod that asks for two is refused"
        rules = {"failRequestsGreaterThanOne": Noted(True, why), **rules}
    return {"version": "v1", "sharing": {way: rules}}


def config_name(way: str, replicas: int) -> str:
    """The key in the ConfigMap, which is the value of the node label: ``time-slicing-4``."""
    return f"{'time-slicing' if way == 'timeSlicing' else 'mps'}-{replicas}"


def _shared(plan: Plan, way: str, replicas: int) -> dict[str, str]:
    name = config_name(way, replicas)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "trtkit-device-plugin", "namespace": NAMESPACE},
        "data": {name: dump(plugin_config(way, replicas))},
    }
    return {
        "gpu/device-plugin-config.yaml": dump(
            config_map, comment=f"See README.md. Nodes take it by {DEVICE_PLUGIN_LABEL}."
        ),
        "gpu/README.md": _shared_runbook(plan, way, name, replicas),
    }


def _shared_runbook(plan: Plan, way: str, name: str, replicas: int) -> str:
    title = "MPS (experimental in the device plugin)" if way == "mps" else "time-slicing"
    need = plan.memory.gpu
    memory = f"{replicas} pods of {need.text} ({need.why}) have to fit on one GPU" if need else "their sum has to fit"
    limits = _MPS_LIMITS if way == "mps" else _TIME_LIMITS
    return f"""\
# {replicas} pods on each GPU, by {title}

trtkit has not run this: it needs the cluster's nodes.

1. The configuration, and the device plugin that reads it:

   ```sh
   kubectl apply -f device-plugin-config.yaml
   # with the GPU operator
   kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge \\
     -p '{{"spec": {{"devicePlugin": {{"config": {{"name": "trtkit-device-plugin"}}}}}}}}'
   # or with the device plugin's own chart, in its namespace (put the ConfigMap there too)
   helm upgrade nvdp nvdp/nvidia-device-plugin --reuse-values --set config.name=trtkit-device-plugin
   ```

2. The nodes that share their GPUs. Every GPU of a node is shared, not a single one:

   ```sh
   kubectl label node NODE {DEVICE_PLUGIN_LABEL}={name} --overwrite
   ```

3. What came of it: nvidia.com/gpu is {replicas} times the number of GPUs.

   ```sh
   kubectl get node NODE -o jsonpath='{{.status.allocatable.nvidia\\.com/gpu}}'
   ```

What to know:

- The memory is not divided: {memory}, and one pod can take what another needs.
{limits}"""


_TIME_LIMITS = """\
- Pods take turns: each is slower while another computes, and latency is not promised to any of them.
- nv_gpu_utilization and DCGM_FI_DEV_GPU_UTIL are of the whole GPU, for all its pods: do not scale on them.
- With failRequestsGreaterThanOne a pod that asks for two shares is refused: they would be of the same GPU.
"""
_MPS_LIMITS = """\
- The plugin gives each pod an equal part of the memory and of the multiprocessors as a limit.
- An error of one process can end the others on the same GPU.
- Not together with MIG, and not together with time-slicing.
"""


def _mig_config(profile: str, count: int | None) -> str:
    fits = Noted(count or 1, "slices of one GPU" if count else "set it: how many fit is not known for this product")
    devices = {"devices": "all", "mig-enabled": True, "mig-devices": {profile: fits}}
    config = {"version": "v1", "mig-configs": {f"trtkit-{profile}": [devices], "trtkit-whole": [_WHOLE]}}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "trtkit-mig", "namespace": NAMESPACE},
        "data": {"config.yaml": dump(config)},
    }
    return dump(config_map, comment=f"For the GPU operator's MIG manager; see README.md. Nodes take it by {MIG_LABEL}.")


_WHOLE = {"devices": "all", "mig-enabled": False}


def _mig_runbook(plan: Plan, count: int | None) -> str:
    gpu = plan.spec.gpu
    profile, number = str(gpu.mig), count or 1
    slices = ",".join([profile] * number)
    resource = plan.gpu.resource if plan.gpu else ""
    fits = f"{number} of them fit on one {gpu.product}." if count else "`nvidia-smi mig -lgip` says how many fit."
    return f"""\
# MIG slices {profile}

trtkit has not run this: it needs the cluster's nodes. A slice has its own memory, cache and multiprocessors; a process
sees one slice only, so a pod asks for one. Drain a node before its slices change: pods on them would lose their GPU.

{fits}

## With the GPU operator

```sh
kubectl apply -f mig-config.yaml
kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge \\
  -p '{{"spec": {{"mig": {{"strategy": "{gpu.mig_strategy}"}}, "migManager": {{"config": {{"name": "trtkit-mig"}}}}}}}}'
kubectl drain NODE --ignore-daemonsets --delete-emptydir-data
kubectl label node NODE {MIG_LABEL}=trtkit-{profile} --overwrite
kubectl get node NODE -o jsonpath='{{.metadata.labels.nvidia\\.com/mig\\.config\\.state}}'    # success
kubectl uncordon NODE
```

Back to whole GPUs: the label `{MIG_LABEL}=trtkit-whole`.

## By hand, on the node

```sh
sudo nvidia-smi -i 0 -mig 1                # MIG mode of GPU 0; A100 also needs a reset: nvidia-smi -i 0 --gpu-reset
sudo nvidia-smi mig -i 0 -lgip             # the profiles there are
sudo nvidia-smi mig -i 0 -cgi {slices} -C
sudo nvidia-smi mig -i 0 -lgi              # the slices; nvidia-smi -L names them with their UUIDs
```

Back: `nvidia-smi mig -i 0 -dci`, `nvidia-smi mig -i 0 -dgi`, `nvidia-smi -i 0 -mig 0`. Slices made by hand are gone
after a restart of the node; the MIG manager makes them again.

## What pods ask for

Strategy `{gpu.mig_strategy}`: `{resource}: 1` in the limits. The node shows how many there are:

```sh
kubectl get node NODE -o jsonpath='{{.status.allocatable}}'
```

nv_gpu_utilization does not exist on slices; DCGM_FI_PROF_GR_ENGINE_ACTIVE (0 to 1) takes its place.
"""
