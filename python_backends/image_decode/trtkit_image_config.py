# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a config.pbtxt asks of `image_decode`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from trtkit_image import CHANNELS, FILTERS, Decoder, Geometry, Size, Values
from trtkit_parts import BadConfig, Parameters

_RESIZE = ("none", "exact", "letterbox", "shortest", "longest")
_TYPES = ("TYPE_UINT8", "TYPE_FP16", "TYPE_FP32")
_MOST_PIXELS = 89478485  # Pillow's own limit: 256 MiB in RGB
_LONGEST_EDGE = 65535


def decoder_of(parameters: Parameters, dtype: Any) -> Decoder:
    """What the parameters ask for.

    Args:
        parameters: of the model.
        dtype: numpy's type of the output ``pixels``.

    Raises:
        BadConfig: a parameter is wrong, or they contradict each other.
    """
    values = _values(parameters, dtype)
    return Decoder(
        geometry=_geometry(parameters, values.channels),
        values=values,
        formats=_formats(parameters),
        max_pixels=parameters.integer("max_pixels", _MOST_PIXELS, least=1),
        exif_orientation=parameters.flag("exif_orientation", True),
        background=_colour(parameters, "background", "", (0, 3)) or None,
    )


def dims_of_an_image(config: Mapping[str, Any], decoder: Decoder) -> tuple[int, ...]:
    """The shape of ``pixels`` for one image as config.pbtxt has it, -1 where it depends on the image.

    Raises:
        BadConfig: the parameters make another one.
    """
    model, batches = config["name"], int(config["max_batch_size"]) > 0
    taken = [int(dim) for dim in config["input"][0]["dims"]]
    if batches and taken != [1]:
        raise BadConfig(f"model '{model}': input 'image' has dims {taken}, expected [ 1 ]: an image in each row")
    output = next((entry for entry in config["output"] if entry["name"] == "pixels"), None)
    if output is None:
        raise BadConfig(f"model '{model}': config.pbtxt has no output 'pixels'")
    if output["data_type"] not in _TYPES:
        raise BadConfig(f"model '{model}': output 'pixels' is {output['data_type']}, expected {' or '.join(_TYPES)}")
    dims = [int(dim) for dim in output.get("reshape", {}).get("shape", output["dims"])]
    dims = dims if batches or taken == [1] else dims[1:]
    size = decoder.geometry.fixed_size()
    made = decoder.values.shape(size or (-1, -1))
    same_elements = size is not None and -1 not in dims and math.prod(dims) == math.prod(made)
    if not fits(dims, made) and not same_elements:
        raise BadConfig(f"model '{model}': output 'pixels' has dims {dims}, but the parameters make {list(made)}")
    return made if size and fits(dims, made) else tuple(dims)


def fits(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a shape is one of those that dims mean; -1 is any size, on either side."""
    return len(dims) == len(shape) and all(-1 in pair or pair[0] == pair[1] for pair in zip(dims, shape, strict=True))


def _geometry(parameters: Parameters, channels: int) -> Geometry:
    gap = parameters.number("reducing_gap", 0, least=0)
    if 0 < gap < 1:
        raise parameters.wrong("reducing_gap", "0, or 1 or more")
    bars = _colour(parameters, "pad_value", "114", (1, channels))
    return Geometry(
        resize=parameters.choice("resize", _RESIZE, "exact"),
        width=parameters.integer("width", 224, least=1, most=_LONGEST_EDGE),
        height=parameters.integer("height", 224, least=1, most=_LONGEST_EDGE),
        edge=parameters.integer("edge", 256, least=1, most=_LONGEST_EDGE),
        filter=FILTERS[parameters.choice("filter", FILTERS, "bilinear")],
        crop=_crop(parameters),
        bars=bars * channels if len(bars) == 1 else bars,
        reducing_gap=gap,
    )


def _crop(parameters: Parameters) -> Size | None:
    width = parameters.integer("crop_width", 0, least=0, most=_LONGEST_EDGE)
    height = parameters.integer("crop_height", 0, least=0, most=_LONGEST_EDGE)
    if bool(width) != bool(height):
        raise parameters.wrong("crop_height", "above 0 with crop_width, 0 without it")
    return (width, height) if width else None


def _values(parameters: Parameters, dtype: Any) -> Values:
    colour = parameters.choice("colour", CHANNELS, "RGB")
    values = Values(
        colour=colour,
        layout=parameters.choice("layout", ("NCHW", "NHWC"), "NCHW"),
        dtype=dtype,
        divide_by=parameters.number("divide_by", 255),
        mean=_per_channel(parameters, "mean", "0", CHANNELS[colour]),
        std=_per_channel(parameters, "std", "1", CHANNELS[colour]),
    )
    if not values.divide_by:
        raise parameters.wrong("divide_by", "a number that is not 0")
    if not all(values.std):
        raise parameters.wrong("std", "numbers that are not 0")
    if dtype == np.uint8:
        _refuse_normalisation(parameters, values)
    return values


def _refuse_normalisation(parameters: Parameters, values: Values) -> None:
    """BadConfig for values that TYPE_UINT8 cannot hold."""
    given = {"divide_by": (values.divide_by,), "mean": values.mean, "std": values.std}
    for name, neutral in (("divide_by", 1), ("mean", 0), ("std", 1)):
        if set(given[name]) != {neutral}:
            raise parameters.wrong(name, f"{neutral}: 'pixels' is TYPE_UINT8, which is not normalised")


def _per_channel(parameters: Parameters, name: str, default: str, channels: int) -> tuple[float, ...]:
    values = parameters.numbers(name, default)
    if len(values) not in (1, channels):
        raise parameters.wrong(name, f"1 or {channels} numbers" if channels > 1 else "1 number")
    return tuple(values) if len(values) == channels else tuple(values) * channels


def _colour(parameters: Parameters, name: str, default: str, lengths: Collection[int]) -> tuple[int, ...]:
    """Values of 0 to 255."""
    values = parameters.numbers(name, default)
    if len(values) not in lengths or any(value not in range(256) for value in values):
        raise parameters.wrong(name, f"{' or '.join(map(str, lengths))} whole numbers of 0 to 255")
    return tuple(int(value) for value in values)


def _formats(parameters: Parameters) -> tuple[str, ...]:
    formats = tuple(parameters.items("formats", "JPEG,PNG,WEBP"))
    Image.init()
    if not formats or not set(formats) <= set(Image.OPEN):
        raise parameters.wrong("formats", f"some of {', '.join(sorted(Image.OPEN))}")
    return formats
