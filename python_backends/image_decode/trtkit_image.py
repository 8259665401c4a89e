# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the bytes of an image to an array of a fixed layout. Knows nothing of Triton."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CHANNELS = {"RGB": 3, "BGR": 3, "GREY": 1}
_ORIENTATION = 0x0112  # EXIF
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = {_ORIENTATIONS[value] for value in (5, 6, 7, 8)}

# what Pillow's readers raise for broken files
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    ArithmeticError,
    TypeError,
    struct.error,
    MemoryError,
)

Size = tuple[int, int]  # width and height, as Pillow has it

Image.MAX_IMAGE_PIXELS = None  # `decode` has its own limit, which is exact


class BadImage(Exception):  # noqa: N818 - what is bad is the image
    """The bytes are not an image that can be decoded within the limits."""


@dataclass(frozen=True)
class Geometry:
    """Which size an image gets.

    Attributes:
        resize: ``none``; ``exact`` (to width × height); ``letterbox`` (into width × height, with bars);
            ``shortest`` or ``longest`` (that edge gets the length ``edge``).
        width: in pixels.
        height: in pixels.
        edge: in pixels.
        filter: how pixels are interpolated.
        crop: the size of what is cut out of the middle, afterwards; an image smaller than it gets bars. None: all.
        bars: the colour of bars, a value for each channel.
        reducing_gap: 0, or how many times larger than its target a quickly reduced image must still be before it
            is resampled: faster, and not exact.
    """

    resize: str
    width: int
    height: int
    edge: int
    filter: Image.Resampling
    crop: Size | None
    bars: tuple[int, ...]
    reducing_gap: float

    def fixed_size(self) -> Size | None:
        """The size of every result, or None when it depends on the image."""
        if self.crop:
            return self.crop
        return (self.width, self.height) if self.resize in ("exact", "letterbox") else None

    def resized(self, size: Size) -> Size:
        """The size of an image of the given one after resizing, before bars and cropping."""
        if self.resize == "none":
            return size
        if self.resize == "exact":
            return self.width, self.height
        if self.resize == "letterbox":
            factor = min(self.width / size[0], self.height / size[1])
            return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        scaled_by = min(size) if self.resize == "shortest" else max(size)
        return max(1, size[0] * self.edge // scaled_by), max(1, size[1] * self.edge // scaled_by)

    def apply(self, image: Image.Image, size: Size) -> Image.Image:
        """Resize to the size, add bars, crop."""
        if size != image.size:
            image = image.resize(size, self.filter, reducing_gap=self.reducing_gap or None)
        if self.resize == "letterbox":
            image = self._centred(image, (self.width, self.height))
        return self._centred(image, self.crop) if self.crop else image

    def _centred(self, image: Image.Image, size: Size) -> Image.Image:
        """The middle of the image, or the image in the middle of bars."""
        if image.size == size:
            return image
        left, top = (_offset(*pair) for pair in zip(image.size, size, strict=True))
        if left >= 0 and top >= 0:
            return image.crop((left, top, left + size[0], top + size[1]))
        canvas = Image.new(image.mode, size, self.bars if image.mode == "RGB" else self.bars[0])
        canvas.paste(image, (-left, -top))
        return canvas


def _offset(has: int, wanted: int) -> int:
    """Where the middle begins; below 0 where bars are needed. Of an odd rest, the left and upper bar is smaller."""
    return round((has - wanted) / 2) if has >= wanted else -((wanted - has) // 2)


@dataclass(frozen=True)
class Values:
    """What becomes of a pixel: (value of 0 to 255 / divide_by - mean) / std, in that order and in FP32.

    Attributes:
        colour: ``RGB``, ``BGR`` or ``GREY``.
        layout: ``NCHW`` or ``NHWC``.
        dtype: of the result; uint8 leaves the pixels as they are.
        divide_by: not 0.
        mean: a value for each channel, in the order of ``colour``.
        std: a value for each channel, none of them 0.
    """

    colour: str
    layout: str
    dtype: Any
    divide_by: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """3 or 1."""
        return CHANNELS[self.colour]

    def shape(self, size: Size) -> tuple[int, int, int]:
        """The shape of the result for an image of this size."""
        width, height = size
        return (self.channels, height, width) if self.layout == "NCHW" else (height, width, self.channels)

    def apply(self, image: Image.Image) -> np.ndarray:
        """The array of an image of mode RGB or L."""
        pixels = np.asarray(image).reshape(image.height, image.width, self.channels)
        if self.colour == "BGR":
            pixels = pixels[..., ::-1]
        if self.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        if self.dtype == np.uint8:
            return np.ascontiguousarray(pixels)
        return self._normalised(pixels).astype(self.dtype, copy=False)

    def _normalised(self, pixels: np.ndarray) -> np.ndarray:
        values = np.array(pixels, np.float32, order="C")
        per_channel = (self.channels, 1, 1) if self.layout == "NCHW" else (self.channels,)
        if self.divide_by != 1:
            values /= np.float32(self.divide_by)
        if any(self.mean):
            values -= np.array(self.mean, np.float32).reshape(per_channel)
        if any(value != 1 for value in self.std):
            values /= np.array(self.std, np.float32).reshape(per_channel)
        return values


@dataclass(frozen=True)
class Decoder:
    """Everything that is fixed about a model that decodes images.

    Attributes:
        geometry: the size of results.
        values: their pixels.
        formats: Pillow's names of the file formats that are taken.
        max_pixels: an image with more, by its header, is refused before it is decoded.
        exif_orientation: turn an image as its EXIF data says.
        background: what a transparent image lies on, as RGB; None: its transparency is dropped.
    """

    geometry: Geometry
    values: Values
    formats: tuple[str, ...]
    max_pixels: int
    exif_orientation: bool
    background: tuple[int, ...] | None

    def decode(self, data: bytes) -> tuple[np.ndarray, Size]:
        """The array of an image, and the image's own width and height (turned as EXIF says).

        Raises:
            BadImage: it is none, it is of another format, truncated, broken or too large.
        """
        try:
            image, own, target = self._read(data)
        except UnidentifiedImageError:
            raise BadImage(f"{len(data)} bytes are not a whole {' or '.join(self.formats)} image") from None
        except _BROKEN as error:
            raise BadImage(f"it is broken: {error or type(error).__name__}") from error
        return self.values.apply(self.geometry.apply(image, target)), own

    def _read(self, data: bytes) -> tuple[Image.Image, Size, Size]:
        """The image in mode RGB or L and upright, its own size, and the size to give it."""
        with Image.open(io.BytesIO(data), formats=self.formats) as file:
            _limit(file.size, self.max_pixels, "")
            turn = _ORIENTATIONS.get(_orientation(file)) if self.exif_orientation else None
            own = file.size[::-1] if turn in _QUARTER_TURNS else file.size
            target = self.geometry.resized(own)
            _limit(target, self.max_pixels, " after resizing")
            if self.geometry.reducing_gap:
                enough = [math.ceil(edge * self.geometry.reducing_gap) for edge in target]
                file.draft(None, tuple(enough[::-1] if turn in _QUARTER_TURNS else enough))
            image = self._in_colour(file)
        return image.transpose(turn) if turn is not None else image, own, target

    def _in_colour(self, image: Image.Image) -> Image.Image:
        """The image in mode RGB, or L for grey; on its background where it is transparent."""
        mode = "L" if self.values.channels == 1 else "RGB"
        if image.mode.startswith("I"):  # 16 bits of grey, of which Pillow would keep the lower half
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
        if self.background is not None and image.has_transparency_data:
            canvas = Image.new("RGBA", image.size, (*self.background, 255))
            return Image.alpha_composite(canvas, image.convert("RGBA")).convert(mode)
        image.load()
        image.info.pop("transparency", None)
        return image.convert(mode)


def _limit(size: Size, most: int, when: str) -> None:
    if size[0] * size[1] > most:
        raise BadImage(f"{size[0]}×{size[1]} pixels{when} are more than max_pixels, {most}")


def _orientation(file: Image.Image) -> int | None:
    """What EXIF says that is to be done; broken EXIF data says nothing."""
    if file.format == "TIFF":  # Pillow turns those itself when it reads them
        return None
    try:
        return file.getexif().get(_ORIENTATION)
    except _BROKEN:
        return None
