# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The shape of ``trtkit.yaml``.

Only what the protobuf cannot say stands here (sources, precision, evaluation, tolerances); every Triton
field goes through ``config:`` in Triton's own names. The descriptions are the hover texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} holds unprintable characters")
    return text


ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$", max_length=200)]
Reference = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
DimOrAxis = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TritonType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64", "BYTES",
]  # fmt: skip
NumericType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
]  # fmt: skip
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    """Frozen, and an unknown key is an error; types are not guessed (``'8'`` is not 8)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8", "int8+fp16", "fp8+fp16", "auto"]
Size = Annotated[int, Field(ge=0)]  # 0 is refused later, with the input's name
ComputeCapability = Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]$")]


class Source(_Strict):
    """Where the model comes from: exactly one of the six."""

    onnx: Reference | None = Field(None, description="an ONNX file, or FILE.py:NAME giving a ModelProto or a path")
    sklearn: Reference | None = Field(
        None, description="FILE.py:NAME giving a fitted scikit-learn estimator or pipeline"
    )
    torch: Reference | None = Field(
        None,
        description="FILE.py:NAME giving a torch.nn.Module (needs `inputs:`) or a torch.export program, or a .pt2 file",
    )
    huggingface: Reference | None = Field(
        None, description="a transformers directory on disk: config.json, weights, tokenizer"
    )
    callable: Reference | None = Field(None, description="FILE.py:NAME giving any of these; which one, its type tells")
    cast: NumericType | None = Field(
        None, description="no file: each of `inputs:` in this data type, for steps of an ensemble whose types differ"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if len(self.model_fields_set & {k for k, v in self if v is not None}) != 1:
            raise ValueError("give exactly one of onnx, sklearn, torch, huggingface, callable, cast")
        return self

    @property
    def kind(self) -> str:
        """Which of the six was given."""
        return next(name for name, value in self if value is not None)

    @property
    def reference(self) -> str:
        """The path or FILE.py:NAME that was given; ``""`` for a cast, which has none."""
        return "" if self.cast else str(getattr(self, self.kind))


class InputSpec(_Strict):
    """One input of a torch module or an estimator, in the order of its call."""

    data_type: TritonType = Field("FP32", description="Triton's name of the data type, without TYPE_")
    shape: list[DimOrAxis] = Field(
        description="the full shape; a name is a dynamic axis, e.g. [batch, 1, 8, 8]; equal names have equal sizes"
    )


class Tolerance(_Strict):
    """An element passes when ``|served - reference| <= atol + rtol * |reference|``."""

    rtol: NonNegative | None = None
    atol: NonNegative | None = None
    outputs: dict[str, Tolerance] = Field(default={}, description="for one output, by its name")


class Evaluate(_Strict):
    """Real data to prove the model on."""

    data: Reference = Field(
        description="FILE.py:NAME giving (inputs, labels), or an .npz file with one array per input"
    )
    metric: str | None = Field(None, description="top1, top5, mae, rmse, or FILE.py:NAME(outputs, labels) -> float")
    output: str | None = Field(None, description="the output the metric reads; default: the first floating-point one")
    max_drop: NonNegative = Field(0.005, description="how far the metric may fall below the reference's")
    samples: Annotated[int, Field(ge=1)] | None = Field(None, description="use only the first N samples")


class Calibration(_Strict):
    """Real rows that show which values a tensor takes; INT8 and FP8 need them."""

    data: Reference = Field(description="FILE.py:NAME giving the inputs, or an .npz file with one array per input")
    samples: Annotated[int, Field(ge=1)] | None = Field(None, description="use only the first N samples; default: all")
    method: Literal["minmax", "percentile", "entropy"] = Field(
        "minmax", description="how a tensor's range follows from its values"
    )
    percentile: Annotated[float, Field(gt=50, le=100)] = Field(
        99.999, description="for method percentile: the share of values, in percent, that the range keeps"
    )
    quantizer: Literal["trtkit", "modelopt"] = Field(
        "trtkit", description="modelopt: NVIDIA's own, for tensorrt targets, in a process of its own"
    )


class Keep(_Strict):
    """What stays as it is when the graph's precision changes."""

    operators: list[str] = Field(default=[], description="operator types kept in FP32, e.g. [Softmax]")
    nodes: list[str] = Field(default=[], description="node names kept in FP32; * and ? match as in file names")
    io_types: bool = Field(True, description="whether inputs and outputs keep their data types")


class ShapeRangeSpec(_Strict):
    """The shapes of one input in one optimization profile: full shapes, batch first."""

    min: list[Size] = Field(description="the smallest shape")
    opt: list[Size] = Field(description="the shape the kernels are chosen for")
    max: list[Size] = Field(description="the largest shape")


class Engine(_Strict):
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


class Target(_Strict):
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


class EnsembleStep(_Strict):
    """One step; maps are ``model's tensor: ensemble's tensor``, and what they leave out goes by its own name."""

    model: ModelName
    model_version: int = Field(-1, description="-1 is the latest")
    inputs: dict[str, str] = Field(
        default={}, description="the model's input: the ensemble's tensor; default: the tensor of the input's name"
    )
    outputs: dict[str, str] = Field(
        default={},
        description="the model's output: the ensemble's tensor; of those left out, the ones that another step reads "
        "by their name; without any, all outputs, each under its own name",
    )


class ModelSpec(_Strict):
    """One served model: exported from a source, or an ensemble of models of the repository."""

    source: Source | None = None
    ensemble: Annotated[list[EnsembleStep], Field(min_length=1)] | None = None
    requires: list[ModuleName] = Field(
        default=[],
        description="modules that must be installed; without them `trtkit build` leaves the model out",
    )
    inputs: dict[str, InputSpec] = Field(default={}, description="names, types and shapes, where the source has none")
    outputs: list[str] = Field(default=[], description="names for the outputs, in order, where the source has none")
    precision: Precision = Field("fp32", description="the precision of the served graph; auto: the race decides")
    keep: Keep = Field(Keep(), description="what stays in FP32")
    calibration: Calibration | None = Field(None, description="real rows for the ranges of INT8 and FP8")
    profiles: list[dict[str, ShapeRangeSpec]] = Field(
        default=[], description="TensorRT optimization profiles: shapes by input name, disjoint"
    )
    engine: Engine = Field(Engine(), description="how a TensorRT engine is built")
    evaluate: Evaluate | None = None
    tolerance: Tolerance = Field(Tolerance(), description="instead of the table's, by precision and data type")
    config: dict[str, Any] = Field(
        default={}, description="any ModelConfig field, as in config.pbtxt; null takes away what trtkit fills in"
    )
    configs: dict[ModelName, dict[str, Any]] = Field(
        default={},
        description="configs/NAME.pbtxt, served with --model-config-name=NAME: fields on top of config; the name of a "
        "target makes it for that target",
    )

    @model_validator(mode="after")
    def _source_or_ensemble(self) -> ModelSpec:
        if (self.source is None) == (self.ensemble is None):
            raise ValueError("give exactly one of source and ensemble")
        if self.ensemble is not None and (self.inputs or self.outputs):
            raise ValueError("an ensemble's inputs and outputs follow from its steps; leave inputs and outputs out")
        of_a_graph = {"precision", "keep", "calibration", "profiles", "engine"} & self.model_fields_set
        if self.ensemble is not None and of_a_graph:
            raise ValueError(f"an ensemble has no {min(of_a_graph)} of its own; give it to the models of its steps")
        if self.source is not None and self.source.kind == "cast":
            self._check_cast()
        return self

    def _check_cast(self) -> None:
        if not self.inputs:
            raise ValueError("a cast needs `inputs:`, the name, data type and shape of each tensor it casts")
        if texts := [name for name, spec in self.inputs.items() if spec.data_type == "BYTES"]:
            raise ValueError(f"a cast is one of numbers, and input '{texts[0]}' is BYTES; a Python model can read text")


class ProjectSpec(_Strict):
    """The whole of ``trtkit.yaml``."""

    repository: Reference = Field(
        "model_repository", description="the model repository to publish to, relative to this file"
    )
    targets: dict[ModelName, Target] = Field(
        default={}, description="where models will run, by name; picked with --target, default: what this machine has"
    )
    models: dict[ModelName, ModelSpec] = Field(default={}, description="the models to build, by name")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``trtkit.yaml``, for editors."""
    schema = ProjectSpec.model_json_schema()
    schema["properties"]["models"]["additionalProperties"] = False  # names that do not match the pattern
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "trtkit.yaml"}
