# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Photographs to 224×224, normalised; exactly, and with `reducing_gap`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, part_module, write_part
from PIL import Image

GAPS = {"exact": "0", "quick": "2"}


def benchmark(repository: Path) -> list[Case]:
    """Two sizes of JPEG, PNG and WebP, and eight images in one request."""
    for name, gap in GAPS.items():
        write_part(repository, name, "image_decode", {"mean": "0.485,0.456,0.406", "reducing_gap": gap})
    small, large = picture(640, 480), picture(3000, 2000)
    files = {
        "JPEG 640×480": saved(small, "JPEG"),
        "PNG 640×480": saved(small, "PNG"),
        "WebP 640×480": saved(small, "WEBP"),
    }
    cases = [case("exact", name, [file]) for name, file in files.items()]
    cases.append(case("exact", "8 × JPEG 640×480", [files["JPEG 640×480"]] * 8))
    cases += [case(name, f"JPEG 3000×2000, {name}", [saved(large, "JPEG")]) for name in GAPS]
    return cases


def case(model: str, request: str, files: list[bytes]) -> Case:
    """A request of these files."""
    decode = decoder(float(GAPS[model])).decode
    images = np.array(files, object).reshape(-1, 1)
    return Case(model, request, {"image": images}, lambda: [decode(file) for file in files], len(files))


def decoder(gap: float) -> Any:
    """What the models do, by the parameters above and the part's defaults."""
    part = part_module("image_decode", "trtkit_image")
    geometry = part.Geometry("exact", 224, 224, 256, part.FILTERS["bilinear"], None, (114, 114, 114), gap)
    values = part.Values("RGB", "NCHW", np.float32, 255, (0.485, 0.456, 0.406), (1, 1, 1))
    return part.Decoder(geometry, values, ("JPEG", "PNG", "WEBP"), 89478485, True, None)


def picture(width: int, height: int) -> Image.Image:
    """As smooth as a photograph out of focus, with its noise."""
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).resize((width, height))
    noise = random.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8))


def saved(image: Image.Image, file_format: str) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    image.save(file, file_format, quality=90)
    return file.getvalue()
