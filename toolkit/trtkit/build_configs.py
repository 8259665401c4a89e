# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config stage: config.pbtxt and configs/NAME.pbtxt of a model, made again when what they follow from changes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtkit.artifacts import StageRun, fingerprint
from trtkit.build_plan import Served
from trtkit.build_stages import StageReport, Stages
from trtkit.errors import ConfigError, nearest
from trtkit.parts import part_config, part_file_parameters
from trtkit.precision.key import flavour_of
from trtkit.preflight import graph_problem
from trtkit.project import Target
from trtkit.repository import CONFIG_FILE, config_file, config_text, models, variants

if TYPE_CHECKING:
    from trtkit.config import ModelConfig

CONFIG = "config"
_STAGE_VERSION = 4
Texts = Mapping[str, str]  # by the name in `configs:`; config.pbtxt is ""


class ConfigStage:
    """Makes the configs of a build's models, and knows those it made: ensembles follow from them."""

    def __init__(self, stages: Stages) -> None:
        self.stages, self.project = stages, stages.project
        self.made: dict[str, Texts] = {}

    def source(self, name: str, served: Served) -> tuple[Texts, StageReport]:
        """The configs of a model with a source.

        Raises:
            ConfigError: a block of the project file is wrong.
        """
        spec, facts, options = self.project.models[name], served.facts, self.stages.options
        serving = {"": facts.get("serving", {}), **self._variants(name, served)}
        about = ("signature", "max_batch_size", "warmup", "batch")
        inputs = {
            "config": fingerprint([spec.config, spec.configs]),
            "exported model": fingerprint([facts.get(key) for key in about]),
            "target": fingerprint([options.target.model_dump(), serving]),
        }

        def generate() -> Texts:
            from trtkit.config import explained_config, to_text
            from trtkit.signature import Signature

            signature, texts = Signature.from_json(facts["signature"]), {}
            for variant, asked in serving.items():
                explained = explained_config(
                    self.project, name, signature, facts["max_batch_size"], facts["warmup"],
                    serving=asked, batch=facts.get("batch"), variant=variant,
                )  # fmt: skip
                texts[variant] = to_text(explained.config, explained.reasons)
            return texts

        return self._texts(name, inputs, generate)

    def python(self, name: str, served: Served) -> tuple[Texts, StageReport]:
        """The configs of a Python model; one that passes requests on has the tensors of those models.

        Raises:
            ConfigError: a block is wrong, or a model that requests are passed on to has no config.
        """
        spec = self.project.models[name]
        others = {model: self._other("model", model, "models", name, "models") for model in spec.models}
        parameters = {**served.facts.get("known", {}).get("parameters", {}), **_environment(served)}
        tensors = [
            {key: value.model_dump() for key, value in side.items()} for side in (spec.inputs, spec.output_specs)
        ]
        inputs = {
            "config": fingerprint([spec.config, spec.configs, spec.parameters, tensors, parameters]),
            "part": fingerprint(part_config(served.facts["part"])),
            "files": fingerprint(self._files(name, served)),
            **{f"config.pbtxt of {model}": fingerprint(texts) for model, texts in others.items()},
        }

        def generate() -> Texts:
            from trtkit.config import explained_part, routed_tensors, to_text

            made = {}
            for variant in ("", *spec.configs):
                configs = {model: _read(model, texts, variant) for model, texts in others.items()}
                derived = configs and not (spec.inputs and spec.output_specs)
                known, why = routed_tensors(self.project, name, configs) if derived else ({}, {})
                why |= {("parameters", "EXECUTION_ENV_PATH"): "the packages of `environment:`"}
                explained = explained_part(self.project, name, {**known, "parameters": parameters}, why, variant)
                self._check_files(name, served, explained.config)
                self._check_models(name, explained.config)
                made[variant] = to_text(explained.config, explained.reasons)
            return made

        return self._texts(name, inputs, generate)

    def _check_models(self, name: str, config: ModelConfig) -> None:
        """Each of ``models:`` is one that the parameters speak of."""
        said = " ".join(entry.string_value for entry in config.parameters.values())
        for model in self.project.models[name].models:
            if not re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w.-])", said):
                where = self.project.where("models", name, "models")
                raise ConfigError(
                    f"{where}: no parameter speaks of '{model}'; name it in `parameters:`, or leave it out"
                )

    def _files(self, name: str, served: Served) -> list[str]:
        """The files that a part may look for, where it does: its version's, and those beside config.pbtxt."""
        if not part_file_parameters(served.facts["part"]):
            return []
        version, beside = self.project.state / "objects" / served.run.artifact, self.project.repository / name
        inside = [file.relative_to(version).as_posix() for file in version.rglob("*") if file.is_file()]
        others = [file.name for file in beside.glob("*") if file.is_file() and file.name != CONFIG_FILE]
        return sorted(name for name in (*inside, *others) if not name.endswith(".py"))

    def _check_files(self, name: str, served: Served, config: ModelConfig) -> None:
        """Raise when a parameter names a file that will not be there."""
        part, files = served.facts["part"], self._files(name, served)
        for key in sorted(part_file_parameters(part) & set(config.parameters)):
            value = config.parameters[key].string_value
            if value and value not in files:
                where = self.project.where("models", name, "parameters", key)
                raise ConfigError(
                    f"{where}: parameter '{key}' of the part '{part}' is '{value}', which the model has not: give "
                    f"`files: {{{value}: PATH}}`; {nearest(value, files)}"
                )

    def left_out(self, name: str, served: Served) -> list[str]:
        """Why some of a model's ``configs:`` are not made, in sentences."""
        made = self._variants(name, served)
        return [
            f"configs/{variant}.pbtxt is left out: target '{variant}' needs other files than this build for "
            f"'{self.stages.options.target_name}' makes; build with --target {variant}"
            for variant in self.project.models[name].configs
            if variant not in made
        ]

    def _variants(self, name: str, served: Served) -> dict[str, Any]:
        """What the target asks for, by the name in ``configs:``; without those that these files do not serve."""
        own = served.facts.get("serving", {})
        found = {}
        for variant in self.project.models[name].configs:
            target = self.project.targets.get(variant)
            if target is None or variant == self.stages.options.target_name:
                found[variant] = own
            elif self._serves(target, served):
                found[variant] = self._serving(name, served, variant, target)
        return found

    def _serves(self, target: Target, served: Served) -> bool:
        """Whether the files made for this build's target are also what another one runs."""
        own = served.facts.get("serving", {}).get("backend", "onnxruntime")
        same = served.precision == "fp32" or flavour_of(target) == flavour_of(self.stages.options.target)
        problem = graph_problem(served.facts["opset"], served.precision, target)
        return own == target.backend == "onnxruntime" and same and not problem

    def _serving(self, name: str, served: Served, variant: str, target: Target) -> dict[str, Any]:
        """What another onnxruntime target asks for."""
        if not target.on_gpu:
            return {}
        from trtkit.build_gpu import EngineStages

        options = replace(self.stages.options, target_name=variant, target=target, check_engine=False)
        stages = Stages(self.project, options, self.stages.on_event)
        copy = replace(served, facts=dict(served.facts))
        serving: dict[str, Any] = EngineStages(stages, name, served.export).on_provider(copy).facts["serving"]
        return serving

    def ensemble(self, name: str) -> tuple[Texts, StageReport]:
        """The configs of an ensemble: a variant of its own, and one for each that a step has.

        Raises:
            ConfigError: a block or a step is wrong, or a step has no config.
        """
        spec = self.project.models[name]
        steps = spec.ensemble or []
        texts = [
            self._other("step", step.model, "models", name, "ensemble", n, "model") for n, step in enumerate(steps)
        ]
        inputs = {
            "config": fingerprint([spec.config, spec.configs]),
            "ensemble": fingerprint([step.model_dump() for step in steps]),
            **{f"config.pbtxt of {step.model}": fingerprint(text) for step, text in zip(steps, texts, strict=True)},
        }

        def generate() -> Texts:
            from trtkit.config import Explained, explained_ensemble, to_text

            made: dict[str, Explained] = {}
            for variant in dict.fromkeys(["", *spec.configs, *sorted({of for text in texts for of in text})]):
                configs = [_read(step.model, text, variant) for step, text in zip(steps, texts, strict=True)]
                explained = explained_ensemble(self.project, name, configs, variant)
                if variant in ("", *spec.configs) or explained.config != made[""].config:
                    made[variant] = explained
            return {variant: to_text(one.config, one.reasons) for variant, one in made.items()}

        return self._texts(name, inputs, generate)

    def _other(self, what: str, model: str, *path: str | int) -> Texts:
        """The configs of a model that another one is made of: those made in this build, or those in the repository.

        Args:
            what: a word for it.
            model: its name.
            path: where the project file names it.
        """
        if model in self.made:
            return self.made[model]
        repository = self.project.repository
        text = config_text(repository, model)
        if text is None:
            raise ConfigError(
                f"{self.project.where(*path)}: {what} '{model}' has no {CONFIG_FILE} in {repository.name}; "
                f"{nearest(model, {*models(repository), *self.made})}"
            )
        more = {variant: config_text(repository, model, variant) for variant in variants(repository, model)}
        return {"": text, **{variant: one for variant, one in more.items() if one is not None}}

    def _texts(self, name: str, inputs: dict[str, str], generate: Callable[[], Texts]) -> tuple[Texts, StageReport]:
        inputs = {**inputs, "trtkit's config stage": str(_STAGE_VERSION)}
        stages = self.stages
        run = None if stages.options.force else stages.cache.matching(name, CONFIG, inputs, self.project.root)
        if run:
            self.made[name] = dict(run.facts["texts"])
            return self.made[name], StageReport(CONFIG, False, "up to date")
        why, started = stages.reason(name, CONFIG, inputs), time.perf_counter()
        self.made[name] = generate()
        stages.cache.remember(name, CONFIG, StageRun(inputs, {}, "", {"texts": self.made[name]}))
        return self.made[name], StageReport(CONFIG, True, why, time.perf_counter() - started)


def _environment(served: Served) -> dict[str, Any]:
    """The parameter with which the Python backend finds a packed environment."""
    packed = served.facts.get("environment")
    return {"EXECUTION_ENV_PATH": {"string_value": f"$$TRITON_MODEL_DIRECTORY/{packed['file']}"}} if packed else {}


def _read(model: str, texts: Texts, variant: str) -> ModelConfig:
    """A model's config of that name, or else its config.pbtxt: the server falls back the same way."""
    from trtkit.config import read_config

    variant = variant if variant in texts else ""
    return read_config(texts[variant], f"{model}/{config_file(variant)}")
