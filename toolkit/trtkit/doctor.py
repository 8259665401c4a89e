# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is installed here, and whether it fits together and to the GPU.

Libraries are tried in processes of their own (`trtkit.doctor_probes`), all at the same time: some end the process
when there is no GPU, and none of them belongs into this one.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtkit.compat import installed, onnxruntime_problem
from trtkit.doctor_probes import Found, probe
from trtkit.errors import MissingDependencyError
from trtkit.gpu import Gpu, GpuState, gpu_state, kernel_problem
from trtkit.server.launch import embedded_launch, hides_gpus

_SHM_NEEDED_BYTES = 64 << 20  # one Python-backend instance maps 1 MB at first and grows from there
_EXTRAS = {
    "sklearn": ("scikit-learn", "skl2onnx"),
    "torch": ("torch", "onnxscript"),
    "huggingface": ("transformers", "torch"),
    "modelopt": ("nvidia-modelopt", "onnx-graphsurgeon", "polygraphy"),
    "rtx": ("tensorrt-rtx",),
    "gpu": ("tensorrt",),
    "remote": ("fsspec",),
}
# measured on x86-64 with scikit-learn 1.9, torch 2.13 for CPUs, TensorRT-RTX 1.7.1 and onnxruntime-gpu 1.31
_COST = {
    "sklearn": "models from scikit-learn; about 200 MB on disk",
    "torch": "models from PyTorch; about 720 MB on disk for CPUs, several GB with CUDA",
    "huggingface": "models from transformers directories; about 60 MB on disk beside torch",
    "modelopt": "NVIDIA's own quantizer; about 180 MB on disk beside torch",
    "rtx": "proof on a CPU that TensorRT takes a graph; 96 MB to download, 233 MB on disk",
    "gpu": "plans built here, with an NVIDIA GPU; 256 MB to download for onnxruntime-gpu, more for TensorRT",
    "remote": "repositories read where they are, in S3 and other stores; 1 MB on disk and the store's own package",
}
# shared libraries, by what a program would ask the loader for
_LIBRARIES = {
    "CUDA runtime": "libcudart.so.*",
    "cuBLAS": "libcublas.so.*",
    "cuDNN": "libcudnn.so.*",
    "TensorRT": "libnvinfer.so.*",
}


@dataclass(frozen=True)
class Check:
    """One part of the installation.

    Attributes:
        part: what was looked at.
        state: ``ok``, ``absent`` (not installed, and not needed by everyone) or ``problem``.
        details: versions, or what to do, or what a missing part would give and cost; one line.
    """

    part: str
    state: str
    details: str

    def to_json(self) -> dict[str, Any]:
        """part, state, details."""
        return asdict(self)


def examine() -> list[Check]:
    """Every check, in the order in which one would mend things."""
    gpu = gpu_state()
    names = ["onnxruntime", "tensorrt", "tensorrt_rtx", *(["torch"] if gpu.gpus else [])]
    asked = [name for name in names if _distribution(name)]
    if onnxruntime_problem() and "onnxruntime" in asked:
        asked.remove("onnxruntime")
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = dict(zip(asked, pool.map(probe, asked), strict=True))
    return [
        _python(),
        _onnxruntime(),
        *_providers(found.get("onnxruntime"), gpu),
        _server(),
        _tritonserver(),
        *(_extra(name) for name in _EXTRAS),
        *_builders(found, gpu),
        *_torch(found.get("torch"), gpu),
        _gpu(gpu),
        _libraries(gpu),
        _shared_memory(),
        _program("docker", "`trtkit serve --image` and building plans in the target's image"),
        _program("kubectl", "building plans on a cluster's GPUs"),
    ]


def _distribution(module: str) -> str | None:
    """The installed version behind a module; both builds of ONNX Runtime count."""
    names = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "tensorrt_rtx": ("tensorrt-rtx",)}
    return next(filter(None, map(installed, names.get(module, (module,)))), None)


def _python() -> Check:
    version = platform.python_version()
    fits = (3, 10) <= sys.version_info[:2] <= (3, 12)
    details = f"{version}, {os.cpu_count()} cores" if fits else f"{version}; trtkit needs 3.10 to 3.12"
    return Check("Python", "ok" if fits else "problem", details)


def _onnxruntime() -> Check:
    problem = onnxruntime_problem()
    if problem:
        return Check("ONNX Runtime", "problem", problem)
    gpu = installed("onnxruntime-gpu")
    return Check("ONNX Runtime", "ok", f"onnxruntime-gpu {gpu}" if gpu else f"onnxruntime {installed('onnxruntime')}")


def _providers(found: Found | None, gpu: GpuState) -> list[Check]:
    """What a session really gets: the list of available providers names those that cannot start here, too."""
    part = "ONNX Runtime providers"
    if found is None:
        return []
    if found.error:
        return [Check(part, "problem", found.error)]
    works = [name for name, error in found.facts.items() if error is None]
    fails = {name: error for name, error in found.facts.items() if error is not None}
    details = f"a session runs on {', '.join(works) or 'none'}"
    if fails:
        details += "; not on " + "; not on ".join(f"{name}: {error}" for name, error in fails.items())
    broken = "CPUExecutionProvider" not in works or (fails and gpu.gpus)
    return [Check(part, "problem" if broken else "ok", details)]


def _server() -> Check:
    try:
        launch = embedded_launch()
    except MissingDependencyError as exc:
        absent = installed("nvidia-pytriton") is None
        return Check("embedded tritonserver", "absent" if absent else "problem", str(exc))
    return Check(
        "embedded tritonserver", "ok", f"nvidia-pytriton {installed('nvidia-pytriton')}: {Path(launch.command[0]).name}"
    )


def _tritonserver() -> Check:
    """A server of this machine: NVIDIA's containers put it on PATH, with its version in a file above it."""
    path = shutil.which("tritonserver")
    if path is None:
        return Check("tritonserver on PATH", "absent", "gives the C++ backends; comes with NVIDIA's images, several GB")
    versions = (folder / "TRITON_VERSION" for folder in Path(path).resolve().parents)
    file = next((file for file in versions if file.is_file()), None)
    version = file.read_text(errors="replace").strip() if file else os.environ.get("TRITON_SERVER_VERSION")
    return Check("tritonserver on PATH", "ok", f"{path}, version {version or 'not known'}")


def _extra(name: str) -> Check:
    versions = {distribution: installed(distribution) for distribution in _EXTRAS[name]}
    missing = [distribution for distribution, version in versions.items() if version is None]
    if not missing:
        return Check(f"extra {name}", "ok", ", ".join(f"{d} {v}" for d, v in versions.items()))
    advice = f"no {', no '.join(missing)}; pip install 'trtkit[{name}]'"
    if len(missing) < len(versions):
        return Check(f"extra {name}", "problem", advice)
    return Check(f"extra {name}", "absent", f"{advice} gives {_COST[name]}")


def _builders(found: dict[str, Found], gpu: GpuState) -> list[Check]:
    """Whether the TensorRT libraries that are installed can really make a builder here."""
    checks = []
    for module, part in (("tensorrt", "TensorRT builder"), ("tensorrt_rtx", "TensorRT-RTX builder")):
        answer = found.get(module)
        if answer is None:
            continue
        if not answer.error:
            checks.append(Check(part, "ok", f"{answer.facts['version']} makes a builder here"))
        elif module == "tensorrt" and not gpu.gpus:
            checks.append(Check(part, "absent", f"makes no builder without a GPU: {answer.error}"))
        else:
            checks.append(Check(part, "problem", answer.error))
    return checks


def _torch(found: Found | None, gpu: GpuState) -> list[Check]:
    """Torch's kernels against the GPUs: "no kernel image is available" before a user meets it."""
    if found is None:
        return []
    if found.error:
        return [Check("torch on the GPU", "problem", found.error)]
    if found.facts["cuda"] is None:
        return [Check("torch on the GPU", "absent", f"torch {found.facts['version']} is a build for CPUs")]
    lacking = _lacking(found.facts["arch_list"], gpu.gpus)
    problem = lacking or found.facts["kernel_error"]
    if problem:
        how = f"torch {found.facts['version']}: {problem}; install a torch built for this GPU"
        return [Check("torch on the GPU", "problem", how)]
    return [Check("torch on the GPU", "ok", f"torch {found.facts['version']} with CUDA {found.facts['cuda']}")]


def _lacking(arch_list: list[str], gpus: Sequence[Gpu]) -> str | None:
    for gpu in gpus:
        if problem := kernel_problem(arch_list, gpu.compute_capability):
            return f"{gpu.name}: {problem}"
    return None


def _gpu(state: GpuState) -> Check:
    if state.cuda is None:
        return Check(
            "GPU", "absent", "no CUDA driver (libcuda.so.1) on this machine; plans are built where there is one"
        )
    driver = f"driver {state.driver or 'of unknown version'} for CUDA up to {state.cuda}"
    if state.problem:
        return Check("GPU", "problem", f"{state.problem}; {driver}")
    names = ", ".join(
        f"{gpu.name} (compute capability {gpu.compute_capability}, {gpu.memory_bytes / 2**30:.0f} GiB)"
        for gpu in state.gpus
    )
    hidden = "; not used by the embedded server: the extra gpu is not installed" if hides_gpus() else ""
    return Check("GPU", "ok", f"{len(state.gpus)} device(s): {names}; {driver}{hidden}")


def _libraries(gpu: GpuState) -> Check:
    """Which versions of NVIDIA's libraries the loader, or pip's nvidia packages, hold; none is loaded."""
    folders = _library_folders()
    found = {}
    for name, pattern in _LIBRARIES.items():
        files = [file.name for folder in folders for file in folder.glob(pattern)]
        versions = sorted({file.partition(".so.")[2].split(".")[0] for file in files}, key=lambda text: text.zfill(4))
        if versions:
            found[name] = "/".join(versions)
    if not found:
        what = "none of " + ", ".join(_LIBRARIES) + "; onnxruntime-gpu and TensorRT bring theirs"
        return Check("CUDA libraries", "absent", what if gpu.gpus else f"{what}; of no use without a GPU")
    return Check("CUDA libraries", "ok", ", ".join(f"{name} {versions}" for name, versions in found.items()))


def _library_folders() -> list[Path]:
    given = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    usual = ["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
    sites = [Path(path) for path in sys.path if path.endswith("-packages")]
    packages = [folder for site in sites for folder in (*site.glob("nvidia/*/lib"), *site.glob("tensorrt*_libs"))]
    return list(dict.fromkeys([*(Path(path) for path in (*filter(None, given), *usual)), *packages]))


def _shared_memory() -> Check:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("/dev/shm", "problem", "there is none; the Python backend exchanges tensors through it")
    free = shutil.disk_usage(shm).free
    if free < _SHM_NEEDED_BYTES:
        return Check(
            "/dev/shm", "problem", f"{free >> 20} MiB free; the Python backend needs some per instance (--shm-size)"
        )
    return Check("/dev/shm", "ok", f"{free >> 20} MiB free")


def _program(name: str, use: str) -> Check:
    path = shutil.which(name)
    return Check(name, "ok" if path else "absent", path or f"only needed for {use}")
