# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where models run, and how their engines are built."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trtkit.project.spec_values import ComputeCapability, PythonVersion, Reference, Strict


class Engine(Strict):
    """How a TensorRT engine is built."""

    workspace_bytes: Annotated[int, Field(ge=1)] = Field(1 << 30, description="the most scratch memory a layer may use")
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = Field(
        None, description="0 builds fastest, 5 searches longest; default: TensorRT's own (3)"
    )
    timing_cache: bool = Field(True, description="keep measured kernel times for the next build")
    version_compatible: bool = Field(
        False, description="the plan also loads in newer TensorRT versions; larger, and the server needs a flag for it"
    )
    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none", description="the plan also loads on other GPUs; slower, because kernels of one GPU are left out"
    )
    strip_plan: bool = Field(False, description="leave the weights out of the plan; it has to be refitted to be used")
    refit: bool = Field(False, description="the plan's weights can be replaced later")
    plugins: list[Reference] = Field(default=[], description="shared libraries with TensorRT plugins")
    overlapping_profiles: bool = Field(
        False, description="accept profiles that overlap, although the server's choice between them is undefined"
    )


class Target(Strict):
    """Where models will run."""

    backend: Literal["onnxruntime", "tensorrt"] = Field("onnxruntime", description="Triton's backend")
    execution_provider: Literal["cpu", "cuda", "tensorrt"] = Field(
        "cpu", description="for backend onnxruntime: what runs the graph"
    )
    image: Reference | None = Field(
        None, description="the tritonserver image, e.g. nvcr.io/nvidia/tritonserver:25.10-py3"
    )
    compute_capability: ComputeCapability | Annotated[list[ComputeCapability], Field(min_length=1)] | None = Field(
        None, description='of the GPUs, e.g. "8.9"; a list where there are several, each gets a plan of its own'
    )
    tensorrt_version: Reference | None = Field(
        None, description="of the target, instead of what the image's table says"
    )
    onnxruntime_version: Reference | None = Field(
        None, description="of the target, instead of what the image's table says"
    )
    python_version: PythonVersion | None = Field(
        None, description='of the target, e.g. "3.12", instead of what the image\'s table says'
    )
    fallback: Literal["onnxruntime"] | None = Field(
        None, description="what serves the graph while no plan can be built, on a machine without the GPU"
    )

    @model_validator(mode="after")
    def _fields_of_the_backend(self) -> Target:
        if self.backend == "tensorrt" and "execution_provider" in self.model_fields_set:
            raise ValueError("execution_provider belongs to backend onnxruntime; leave it out")
        if self.backend == "onnxruntime" and self.fallback is not None:
            raise ValueError("fallback belongs to backend tensorrt; leave it out")
        return self

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """All that were given, in order."""
        given = self.compute_capability
        return () if given is None else (given,) if isinstance(given, str) else tuple(given)

    @property
    def on_gpu(self) -> bool:
        """Whether models run on a GPU there."""
        return self.backend == "tensorrt" or self.execution_provider != "cpu"
