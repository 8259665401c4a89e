# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `route` through the real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient

from part_models import write_part
from routing_models import metric, variants, write_variant
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

TYPES = {"x": 11, "text": 13, "lang": 13, "score": 11}
RULES = """
parameter(tier) = gold -> gold
parameter(id) = 9007199254740993 -> wide
value(lang) = de -> german; bytes(text) <= 8 and characters(text) >= 2 -> short
dimension(x, 0) > 16 -> wide
value(score) < 0.5 -> low
"""


def inputs(config: ModelConfig) -> None:
    """Optional inputs of several types, in a model with batches."""
    del config.input[:]
    for name, data_type in TYPES.items():
        entry = config.input.add()
        entry.name, entry.data_type, entry.optional = name, data_type, name != "x"
        entry.dims.append(-1 if name == "x" else 1)


def wide(config: ModelConfig) -> None:
    """A model without batches, routed by the size of its second dimension."""
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    config.input[0].dims[:] = [-1, -1]
    config.output[0].dims[:] = [-1, -1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("route")
    for factor, name in enumerate(("gold", "german", "short", "wide", "low", "other")):
        write_variant(folder, name, factor)
    parameters = {"rules": RULES, "default": "other", "withheld_inputs": "text, lang, score"}
    write_part(folder, "route", "route", parameters, edit=inputs)
    write_part(
        folder, "by_width", "route", {"rules": "dimension(x, -1) <= 2 -> short", "default": "other/1"}, edit=wide
    )
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serve(repository) as running:
        yield running


def route(server: RunningServer, model: str = "route", **given: Any) -> list[str]:
    """The models that answered; inputs by name, ``parameters`` as such."""
    parameters = given.pop("parameters", None)
    rows = len(next(iter(given.values()))) if given else 1
    given.setdefault("x", np.ones((rows, 4), np.float32))
    tensors = []
    for name, values in given.items():
        array = np.array(values, dtype=np.object_ if TYPES[name] == 13 else np.float32).reshape(len(values), -1)
        tensors.append(httpclient.InferInput(name, list(array.shape), "BYTES" if TYPES[name] == 13 else "FP32"))
        tensors[-1].set_data_from_numpy(array)
    with httpclient.InferenceServerClient(server.http_url, network_timeout=30) as client:
        return variants(client.infer(model, tensors, parameters=parameters))


@pytest.mark.parametrize(
    ("given", "variant"),
    [
        ({}, "other"),
        ({"parameters": {"tier": "gold"}, "lang": [b"de"]}, "gold"),
        ({"parameters": {"tier": "silver"}, "lang": [b"de"]}, "german"),
        ({"parameters": {"tier": 3}}, "other"),
        ({"parameters": {"id": 9007199254740993}}, "wide"),
        ({"parameters": {"id": 9007199254740992}}, "other"),
        ({"parameters": {"id": "9007199254740993.0"}}, "other"),
        ({"text": [b"12345678"]}, "short"),
        ({"text": [b"123456789"]}, "other"),
        ({"text": ["üüüü".encode()]}, "short"),
        ({"text": ["üüüüü".encode()]}, "other"),
        ({"text": [b""]}, "other"),
        ({"text": [b"\xff\xff"]}, "short"),
        ({"x": [[1.0] * 17]}, "wide"),
        ({"x": [[1.0] * 16]}, "other"),
        ({"score": [0.4]}, "low"),
        ({"score": [0.5]}, "other"),
        ({"score": [float("nan")]}, "other"),
    ],
)
def test_the_first_rule_that_holds(server: RunningServer, given: dict[str, Any], variant: str) -> None:
    assert route(server, **given) == [variant]


def test_a_rule_holds_when_it_holds_for_every_row(server: RunningServer) -> None:
    assert route(server, text=[b"short", b"also"]) == ["short", "short"]
    assert route(server, text=[b"short", b"much too long"]) == ["other", "other"]


def test_a_model_without_batches_and_a_version(server: RunningServer) -> None:
    assert route(server, "by_width", x=[[1.0, 2.0]]) == ["short"]
    assert route(server, "by_width", x=[[1.0, 2.0, 3.0]]) == ["other/1"]


def test_a_text_of_100_mb(server: RunningServer) -> None:
    assert route(server, text=[b"x" * 100_000_000]) == ["other"]


def test_each_variant_is_counted(server: RunningServer) -> None:
    before = metric(server, "trtkit_variant_requests_total", model="route", variant="german")
    for _ in range(3):
        route(server, lang=[b"de"])
    assert metric(server, "trtkit_variant_requests_total", model="route", variant="german") == before + 3
    assert metric(server, "trtkit_variant_duration_us_total", model="route", variant="german") > 0


BAD = {
    "no_arrow": ("value(x) < 1", "expected rules as"),
    "no_number": ("value(x) < big -> short", "expected a number in 'value(x) < big'"),
    "no_input": ("value(z) < 1 -> short", "there is no input 'z'; it has x"),
    "no_text": ("bytes(x) < 1 -> short", "counts bytes, but 'x' is TYPE_FP32"),
}


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    for name, (rules, _) in BAD.items():
        write_part(tmp_path, name, "route", {"rules": rules})
    with pytest.raises(ModelUnavailableError) as caught, serve(tmp_path):
        pass
    reasons = dict(re.findall(r"model '(\w+)' failed to load: (.*?)(?= At:|$)", str(caught.value)))
    for name, (_, words) in BAD.items():
        assert words in reasons[name]
