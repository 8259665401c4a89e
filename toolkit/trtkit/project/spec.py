# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The shape of ``trtkit.yaml``.

Only what the protobuf cannot say stands here (sources, precision, evaluation, tolerances); every Triton
field goes through ``config:`` in Triton's own names. The descriptions are the hover texts of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


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
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    """Frozen, and an unknown key is an error; types are not guessed (``'8'`` is not 8)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Strict):
    """Where the model comes from: exactly one of the four."""

    onnx: Reference | None = Field(None, description="an ONNX file, or FILE.py:NAME giving a ModelProto or a path")
    sklearn: Reference | None = Field(
        None, description="FILE.py:NAME giving a fitted scikit-learn estimator or pipeline"
    )
    torch: Reference | None = Field(None, description="FILE.py:NAME giving a torch.nn.Module; needs `inputs:`")
    callable: Reference | None = Field(None, description="FILE.py:NAME giving any of these; which one, its type tells")

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        if len(self.model_fields_set & {k for k, v in self if v is not None}) != 1:
            raise ValueError("give exactly one of onnx, sklearn, torch, callable")
        return self

    @property
    def kind(self) -> str:
        """Which of the four was given."""
        return next(name for name, value in self if value is not None)

    @property
    def reference(self) -> str:
        """The path or FILE.py:NAME that was given."""
        return str(getattr(self, self.kind))


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


class EnsembleStep(_Strict):
    """One step; maps are ``model's tensor: ensemble's tensor``."""

    model: ModelName
    model_version: int = Field(-1, description="-1 is the latest")
    inputs: dict[str, str] = Field(description="the model's input: the ensemble's tensor")
    outputs: dict[str, str] = Field(description="the model's output: the ensemble's tensor")

    @field_validator("inputs", "outputs")
    @classmethod
    def _not_empty(cls, value: dict[str, str]) -> dict[str, str]:
        if not value:
            raise ValueError("at least one tensor has to be mapped")
        return value


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
    precision: Literal["fp32"] = Field("fp32", description="the precision of the served graph")
    evaluate: Evaluate | None = None
    tolerance: Tolerance = Field(Tolerance(), description="instead of the table's, by precision and data type")
    config: dict[str, Any] = Field(default={}, description="any ModelConfig field, as in config.pbtxt")

    @model_validator(mode="after")
    def _source_or_ensemble(self) -> ModelSpec:
        if (self.source is None) == (self.ensemble is None):
            raise ValueError("give exactly one of source and ensemble")
        if self.ensemble is not None and (self.inputs or self.outputs):
            raise ValueError("an ensemble's inputs and outputs follow from its steps; leave inputs and outputs out")
        return self


class ProjectSpec(_Strict):
    """The whole of ``trtkit.yaml``."""

    repository: Reference = Field(
        "model_repository", description="the model repository to publish to, relative to this file"
    )
    models: dict[ModelName, ModelSpec] = Field(default={}, description="the models to build, by name")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``trtkit.yaml``, for editors."""
    schema = ProjectSpec.model_json_schema()
    schema["properties"]["models"]["additionalProperties"] = False  # names that do not match the pattern
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "trtkit.yaml"}
