# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble's own config: its platform, what it must not hold, and what each step has to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trtkit.lint.edits import removed, set_value
from trtkit.lint.ensemble_facts import is_ensemble
from trtkit.lint.ensemble_graph import SCHEDULING, step_path
from trtkit.lint.finding import Fix
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import Rule, rule
from trtkit.pbtxt import Path


@rule("ENS001", "ensemble-without-its-platform", server=True, fixable=True)
def ensemble_platform(model: Model) -> Iterator[Found]:
    """A model has ensemble_scheduling, but its platform is not "ensemble".

    The server takes a model for an ensemble by its platform alone; ``backend: "ensemble"`` is none.
    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        backend: "ensemble"
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }

    Right:
        platform: "ensemble"
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }
    """
    if is_ensemble(model) and model.config.platform != "ensemble":
        given = f"platform is '{model.written.platform}'" if model.written.platform else "no platform is written"
        words = f"ensemble scheduling cannot be set for model '{model.config.name}' whose platform is not ensemble"
        fix = _as_ensemble(model) if model.config.backend in ("", "ensemble") else None
        path: Path = ("platform",) if model.written.platform else (SCHEDULING,)
        yield model.found(path, f'{words}; {given}, write platform: "ensemble" and no backend', fix=fix)


def _as_ensemble(model: Model) -> Fix | None:
    platform, backend = set_value(model.document, ("platform",), '"ensemble"'), removed(model.document, ("backend",))
    return replace(platform, edits=(*platform.edits, *backend.edits)) if platform and backend else platform


@rule("ENS002", "ensemble-with-a-backend", server=True, fixable=True)
def ensemble_backend(model: Model) -> Iterator[Found]:
    """A model of platform "ensemble" has a backend too.

    Also a default_model_filename that belongs to a backend, as model.onnx, gives it that backend.
    Source: core, model_config_utils.cc, ValidateModelConfig.

    Wrong:
        platform: "ensemble"
        backend: "python"

    Right:
        platform: "ensemble"
    """
    if model.config.platform == "ensemble" and model.config.backend:
        path = ("backend",) if model.written.backend else ("default_model_filename",)
        words = f"Ensemble model '{model.config.name}' must have platform type 'ensemble' and empty backend type"
        given = f"{path[0]} is '{getattr(model.written, path[0])}'"
        fix = removed(model.document, path) if is_ensemble(model) else None
        yield model.found(path, f"{words}; {given}, leave it out", fix=fix)


@rule("ENS003", "ensemble-without-scheduling", server=True)
def ensemble_without_scheduling(model: Model) -> Iterator[Found]:
    """A model of platform "ensemble" has no ensemble_scheduling.

    Source: core, model_config_utils.cc, ValidateModelConfig.

    Wrong:
        platform: "ensemble"

    Right:
        platform: "ensemble"
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }
    """
    if model.config.platform == "ensemble" and not is_ensemble(model):
        words = f"ensemble scheduling must be set for ensemble {model.config.name} whose platform is ensemble"
        yield model.found(("platform",), f"{words}; write its steps, or the platform of the model's backend")


def _forbidden(model: Model, field: str, words: str) -> Iterator[Found]:
    """A field that an ensemble must not have."""
    if is_ensemble(model) and field in {descriptor.name for descriptor, _ in model.config.ListFields()}:
        fix = removed(model.document, (field,))
        told = f"for ensemble '{model.config.name}'; the configs of its steps' models may hold it"
        yield model.found((field,), f"{words} {told}", fix=fix)


@rule("ENS004", "ensemble-with-instance-group", server=True, fixable=True)
def ensemble_instances(model: Model) -> Iterator[Found]:
    """An ensemble has an instance_group.

    It has no instances: its steps run in those of their models.
    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        platform: "ensemble"
        instance_group { count: 2 }

    Right:
        platform: "ensemble"
    """
    yield from _forbidden(model, "instance_group", "instance group should not be specified")


@rule("ENS005", "ensemble-with-optimization", server=True, fixable=True)
def ensemble_optimization(model: Model) -> Iterator[Found]:
    """An ensemble has an optimization block.

    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        platform: "ensemble"
        optimization { input_pinned_memory { enable: true } }

    Right:
        platform: "ensemble"
    """
    yield from _forbidden(model, "optimization", "optimization should not be specified")


@rule("ENS006", "ensemble-with-warmup", server=True, fixable=True)
def ensemble_warmup(model: Model) -> Iterator[Found]:
    """An ensemble has model_warmup.

    Warm up the models of its steps instead.
    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        platform: "ensemble"
        model_warmup { name: "w" batch_size: 1 }

    Right:
        platform: "ensemble"
    """
    yield from _forbidden(model, "model_warmup", "model_warmup can not be specified")


@rule("ENS007", "ensemble-without-step", server=True)
def ensemble_without_step(model: Model) -> Iterator[Found]:
    """ensemble_scheduling has no step.

    Source: core, model_config_utils.cc, ValidateEnsembleSchedulingConfig.

    Wrong:
        ensemble_scheduling { }

    Right:
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }
    """
    if is_ensemble(model) and not model.config.ensemble_scheduling.step:
        yield model.found((SCHEDULING,), f"must specify 'step' for ensemble '{model.config.name}'")


def _incomplete(model: Model, field: str, what: str) -> Iterator[Found]:
    """Steps without a field."""
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        if not getattr(step, field):
            words = f"must specify '{field}' in step {index} of ensemble '{model.config.name}'"
            yield model.found(step_path(index), f"{words}; {what}")


@rule("ENS008", "step-without-model-name", server=True)
def step_without_model(model: Model) -> Iterator[Found]:
    """A step does not say which model it runs.

    Source: core, model_config_utils.cc, BuildEnsembleGraph.

    Wrong:
        ensemble_scheduling { step { model_version: -1 } }

    Right:
        ensemble_scheduling { step { model_name: "m" model_version: -1 } }
    """
    yield from _incomplete(model, "model_name", "it names a model of this repository")


@rule("ENS009", "step-without-input-map", server=True)
def step_without_inputs(model: Model) -> Iterator[Found]:
    """A step has no input_map.

    A model without inputs cannot be a step.
    Source: core, model_config_utils.cc, BuildEnsembleGraph.

    Wrong:
        ensemble_scheduling { step { model_name: "m" output_map { key: "y" value: "y" } } }

    Right:
        ensemble_scheduling {
          step { model_name: "m" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }
        }
    """
    yield from _incomplete(model, "input_map", "key is the model's input, value the ensemble's tensor")


@rule("ENS010", "step-without-output-map", server=True)
def step_without_outputs(model: Model) -> Iterator[Found]:
    """A step has no output_map.

    Source: core, model_config_utils.cc, BuildEnsembleGraph.

    Wrong:
        ensemble_scheduling { step { model_name: "m" input_map { key: "x" value: "x" } } }

    Right:
        ensemble_scheduling {
          step { model_name: "m" input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } }
        }
    """
    yield from _incomplete(model, "output_map", "key is the model's output, value the ensemble's tensor")


RULES: tuple[Rule, ...] = (
    ensemble_platform, ensemble_backend, ensemble_without_scheduling, ensemble_instances, ensemble_optimization,
    ensemble_warmup, ensemble_without_step, step_without_model, step_without_inputs, step_without_outputs,
)  # fmt: skip
