# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.images import _table, image_facts, images_with, known_images, parse_version

IMAGE = "nvcr.io/nvidia/tritonserver"
NUMBERS = re.compile(r"^\d+(\.\d+)*$")


def test_a_release_of_the_table() -> None:
    facts = image_facts(f"{IMAGE}:24.08-py3")
    assert facts is not None
    assert (facts.release, facts.variant) == ("24.08", "py3")
    assert (facts.tensorrt, facts.onnxruntime, facts.python) == ("10.3.0.26", "1.18.1", "3.10")
    assert facts.cuda == "12.6"
    assert facts.driver == "560.28"
    assert any("release_note.md" in source for source in facts.sources["tensorrt"])


def test_the_images_of_one_month_differ() -> None:
    plain, trtllm = (image_facts(f"{IMAGE}:25.10-{variant}") for variant in ("py3", "trtllm-python-py3"))
    assert plain is not None
    assert trtllm is not None
    assert (plain.tensorrt, trtllm.tensorrt) == ("10.13.3.9", "10.11.0.33")


@pytest.mark.parametrize(
    "image",
    [
        f"{IMAGE}:24.08-py3",
        "tritonserver:24.08-py3",
        "localhost:5000/tritonserver:24.08-py3",
        "registry.example.com:443/mirror/nvidia/tritonserver:24.08-py3@sha256:" + "0" * 64,
    ],
)
def test_a_reference_is_read_wherever_the_image_lies(image: str) -> None:
    facts = image_facts(image)
    assert facts is not None
    assert facts.tensorrt == "10.3.0.26"
    assert facts.image == image


@pytest.mark.parametrize(
    "image",
    [
        "", ":", "@", "/", IMAGE, f"{IMAGE}:latest", f"{IMAGE}@sha256:" + "0" * 64, f"{IMAGE}:24.08-py3-ours",
        f"{IMAGE}:24.08-py3-sdk", f"{IMAGE}:99.01-py3", "ours/triton:24.08-py3", "tritonserver/ours:24.08-py3",
        "tritonserver:5000/ours",
    ],
)  # fmt: skip
def test_an_image_that_may_hold_anything_is_not_known(image: str) -> None:
    assert image_facts(image) is None


@given(st.text())
def test_any_text_is_an_image_or_is_not(image: str) -> None:
    assert image_facts(image) is None


def test_the_targets_own_versions_win() -> None:
    facts = image_facts(f"{IMAGE}:24.08-py3", tensorrt_version="10.99.0")
    assert facts is not None
    assert (facts.tensorrt, facts.onnxruntime, facts.release) == ("10.99.0", "1.18.1", "24.08")
    assert facts.sources["tensorrt"] == ("the target's own setting",)
    custom = image_facts("ours/triton:7", onnxruntime_version="1.20")
    assert custom is not None
    assert (custom.onnxruntime, custom.tensorrt, custom.release) == ("1.20", None, None)
    without = image_facts(None, tensorrt_version="8.6.1")
    assert without is not None
    assert without.sure("tensorrt") == "8.6.1"
    assert image_facts(None) is None


def test_what_rests_on_memory_says_so_until_it_is_overridden() -> None:
    image = f"{IMAGE}:23.10-py3"
    facts, given_ = image_facts(image), image_facts(image, tensorrt_version="8.6.1.6")
    assert facts is not None
    assert given_ is not None
    assert facts.tensorrt == "8.6.1.6"
    assert facts.sure("tensorrt") is None
    assert given_.sure("tensorrt") == "8.6.1.6"


def test_which_image_loads_a_version() -> None:
    assert images_with(tensorrt="10.3") == [f"{IMAGE}:24.08-py3"]
    assert images_with(tensorrt="10.13.3") == [f"{IMAGE}:25.10-py3", f"{IMAGE}:25.09-py3"]
    assert images_with(tensorrt="10.1") == [f"{IMAGE}:24.06-py3"]  # not 10.10 to 10.16
    assert images_with(tensorrt="8.6.1") == [f"{IMAGE}:23.05-py3"]  # the others are unverified
    assert images_with(tensorrt="10.99") == images_with(tensorrt="") == images_with(tensorrt="new") == []
    assert images_with(tensorrt="10.11", variant="trtllm-python-py3")[0] == f"{IMAGE}:25.10-trtllm-python-py3"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.3.0.26", (10, 3, 0, 26)), ("9.3.0.post12.dev1", (9, 3, 0)), ("v1", ()), ("", ()), (None, ())],
)
def test_a_version_is_the_numbers_it_begins_with(text: str | None, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_every_value_has_a_source_that_exists() -> None:
    sources = _table()["sources"]
    used = set()
    for tag, row in _table()["images"].items():
        assert row, f"{tag} says nothing"
        for name, (value, *keys) in row.items():
            assert name in {"triton", "tensorrt", "onnxruntime", "cuda", "driver", "python"}
            assert NUMBERS.match(value), f"{tag} {name}: {value}"
            assert keys, f"{tag} {name} has no source"
            assert keys == ["unverified"] or "unverified" not in keys
            used.update(keys)
    assert used == set(sources)
    assert all(source["url"].startswith("https://") for key, source in sources.items() if key != "unverified")


def test_the_table_reaches_from_tensorrt_8_to_11_and_is_in_order() -> None:
    assert known_images() == sorted(known_images())
    majors = {parse_version(facts.tensorrt)[:1] for image in known_images() if (facts := image_facts(image))}
    assert {(8,), (9,), (10,), (11,)} <= majors
