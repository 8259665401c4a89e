# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The shape of ``trtkit.yaml``.

Only what the protobuf cannot say stands here (sources, precision, evaluation, tolerances); every Triton
field goes through ``config:`` in Triton's own names. The descriptions are the hover texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trtkit.project.spec_deploy import Deploy
from trtkit.project.spec_target import Engine, Target
from trtkit.project.spec_values import (
    DimOrAxis,
    FileName,
    ModelName,
    ModuleName,
    NonNegative,
    NumericType,
    Precision,
    Reference,
    Size,
    Strict,
    TritonType,
)


class Source(Strict):
    """Where the model comes from: exactly one of the eight."""

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
    part: ModelName | None = Field(None, description="no graph: one of trtkit's ready Python models, by its name")
    python: Reference | None = Field(
        None, description="no graph: FILE.py:NAME, a function of arrays that the Python backend calls for each request"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if len(self.model_fields_set & {k for k, v in self if v is not None}) != 1:
            raise ValueError(f"give exactly one of {', '.join(Source.model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """Which of the eight was given."""
        return next(name for name, value in self if value is not None)

    @property
    def reference(self) -> str:
        """The path or FILE.py:NAME that was given; ``""`` for a cast and a part, which have none."""
        return "" if self.cast or self.part else str(getattr(self, self.kind))

    @property
    def is_graph(self) -> bool:
        """Whether it becomes an ONNX graph, and not a Python model."""
        return not (self.part or self.python)


class InputSpec(Strict):
    """One input, in the order of the call; or one output of a Python model."""

    data_type: TritonType = Field("FP32", description="Triton's name of the data type, without TYPE_")
    shape: list[DimOrAxis] = Field(
        description="the full shape; a name is a dynamic axis, e.g. [batch, 1, 8, 8]; equal names have equal sizes"
    )


class Tolerance(Strict):
    """An element passes when ``|served - reference| <= atol + rtol * |reference|``."""

    rtol: NonNegative | None = None
    atol: NonNegative | None = None
    outputs: dict[str, Tolerance] = Field(default={}, description="for one output, by its name")


class Evaluate(Strict):
    """Real data to prove the model on."""

    data: Reference = Field(
        description="FILE.py:NAME giving (inputs, labels), or an .npz file with one array per input"
    )
    metric: str | None = Field(None, description="top1, top5, mae, rmse, or FILE.py:NAME(outputs, labels) -> float")
    output: str | None = Field(None, description="the output the metric reads; default: the first floating-point one")
    max_drop: NonNegative = Field(0.005, description="how far the metric may fall below the reference's")
    samples: Annotated[int, Field(ge=1)] | None = Field(None, description="use only the first N samples")


class Calibration(Strict):
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


class Keep(Strict):
    """What stays as it is when the graph's precision changes."""

    operators: list[str] = Field(default=[], description="operator types kept in FP32, e.g. [Softmax]")
    nodes: list[str] = Field(default=[], description="node names kept in FP32; * and ? match as in file names")
    io_types: bool = Field(True, description="whether inputs and outputs keep their data types")


class ShapeRangeSpec(Strict):
    """The shapes of one input in one optimization profile: full shapes, batch first."""

    min: list[Size] = Field(description="the smallest shape")
    opt: list[Size] = Field(description="the shape the kernels are chosen for")
    max: list[Size] = Field(description="the largest shape")


class EnsembleStep(Strict):
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


class ModelSpec(Strict):
    """One served model: made from a source, or an ensemble of models of the repository."""

    source: Source | None = None
    ensemble: Annotated[list[EnsembleStep], Field(min_length=1)] | None = None
    requires: list[ModuleName] = Field(
        default=[],
        description="modules that must be installed; without them `trtkit build` leaves the model out",
    )
    inputs: dict[str, InputSpec] = Field(default={}, description="names, types and shapes, where the source has none")
    outputs: list[str] | dict[str, InputSpec] = Field(
        default=[],
        description="names for the outputs, in order, where the source has none; of a Python model with data types and "
        "shapes",
    )
    parameters: dict[str, Any] = Field(
        default={}, description="of a part or a Python function: its parameters, as plain values; null takes one away"
    )
    models: list[ModelName] = Field(
        default=[],
        description="of a part that passes requests on: the models that its parameters name; they are built first, and "
        "its tensors follow from theirs",
    )
    files: dict[FileName, Reference] = Field(
        default={},
        description="of a part or a Python function: further files of its version folder, by name; a path, or "
        "FILE.py:NAME giving bytes or text",
    )
    environment: Reference | list[str] | None = Field(
        None,
        description="of a Python function: its packages; a requirements file, a list of requirements, or a packed "
        "environment (.tar.gz)",
    )
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

    @property
    def output_specs(self) -> dict[str, InputSpec]:
        """``outputs:`` with types and shapes; empty where only names are given."""
        return self.outputs if isinstance(self.outputs, dict) else {}

    @property
    def output_names(self) -> list[str]:
        """The names of ``outputs:``, in order."""
        return list(self.outputs)

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
        self._check_python(of_a_graph)
        return self

    def _check_python(self, of_a_graph: set[str]) -> None:
        """Keys that only Python models have, and those that they have not."""
        if self.source is None or self.source.is_graph:
            if given := {"parameters", "models", "files", "environment"} & self.model_fields_set:
                raise ValueError(f"{min(given)} belongs to models with `source: {{part: NAME}}` or `{{python: …}}`")
            if isinstance(self.outputs, dict):
                raise ValueError(
                    "the outputs' types and shapes follow from the graph; give `outputs` as a list of names"
                )
            return
        if of_a_graph:
            raise ValueError(f"a Python model has no graph, and so no {min(of_a_graph)}; leave it out")
        if isinstance(self.outputs, list) and self.outputs:
            raise ValueError("the outputs of a Python model need types: `outputs: {NAME: {data_type: …, shape: […]}}`")
        if self.source.part and self.environment is not None:
            raise ValueError("a part runs in the server's own environment; leave environment out")
        if self.source.part and self.evaluate is not None:
            raise ValueError("a part is its own reference; give evaluate to an ensemble that it is a step of")

    def _check_cast(self) -> None:
        if not self.inputs:
            raise ValueError("a cast needs `inputs:`, the name, data type and shape of each tensor it casts")
        if texts := [name for name, spec in self.inputs.items() if spec.data_type == "BYTES"]:
            raise ValueError(f"a cast is one of numbers, and input '{texts[0]}' is BYTES; a Python model can read text")


class ProjectSpec(Strict):
    """The whole of ``trtkit.yaml``."""

    repository: Reference = Field(
        "model_repository", description="the model repository to publish to, relative to this file"
    )
    targets: dict[ModelName, Target] = Field(
        default={}, description="where models will run, by name; picked with --target, default: what this machine has"
    )
    models: dict[ModelName, ModelSpec] = Field(default={}, description="the models to build, by name")
    deploy: Deploy = Field(Deploy(), description="where and how the repository is served")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``trtkit.yaml``, for editors."""
    schema = ProjectSpec.model_json_schema()
    schema["properties"]["models"]["additionalProperties"] = False  # names that do not match the pattern
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "trtkit.yaml"}
