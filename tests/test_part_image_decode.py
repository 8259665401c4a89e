# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `image_decode` on a real server, against Pillow and numpy in this process."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.utils import InferenceServerException

from part_models import write_part
from trtkit.config import ModelConfig
from trtkit.server import RunningServer, serve

APIS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}
IMAGENET = {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"}
AS_IT_IS = {"resize": "none", "layout": "NHWC", "divide_by": "1"}
UINT8, FP16 = 2, 10


def pixels(
    *dims: int, data_type: int = 0, batch: int | None = None, taken: int | None = None
) -> Callable[[ModelConfig], None]:
    """An edit of the config: what `pixels` is, and how many images there are."""

    def edit(config: ModelConfig) -> None:
        config.output[0].dims[:] = dims
        if data_type:
            config.output[0].data_type = data_type
        if batch is not None:
            config.max_batch_size = batch
            config.ClearField("dynamic_batching")
        if taken is not None:
            config.input[0].dims[:] = [taken]

    return edit


def four_together(config: ModelConfig) -> None:
    config.output[0].dims[:] = [8, 8, 1]
    config.max_batch_size = 4
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000


def one_output(config: ModelConfig) -> None:
    pixels(64)(config)
    del config.output[1]


MODELS: dict[str, tuple[dict[str, str], Callable[[ModelConfig], object] | None]] = {
    "default": ({}, None),
    "digits": ({"colour": "GREY", "width": "8", "height": "8", "divide_by": "15"}, one_output),
    "as_it_is": (AS_IT_IS, pixels(-1, -1, 3, data_type=UINT8)),
    "tiff": ({**AS_IT_IS, "formats": "TIFF"}, pixels(-1, -1, 3, data_type=UINT8)),
    "grey": ({**AS_IT_IS, "colour": "GREY"}, pixels(-1, -1, 1, data_type=UINT8)),
    "on_paper": ({**AS_IT_IS, "background": "250,240,230"}, pixels(-1, -1, 3, data_type=UINT8)),
    "imagenet": ({"resize": "shortest", "edge": "32", "crop_width": "28", "crop_height": "24", **IMAGENET},
                 pixels(3, 24, 28)),
    "letterbox": ({"resize": "letterbox", "width": "32", "height": "24", "colour": "BGR", "layout": "NHWC",
                   "pad_value": "10,20,30", "divide_by": "1"}, pixels(24, 32, 3, data_type=UINT8)),
    "framed": ({**AS_IT_IS, "crop_width": "20", "crop_height": "10", "pad_value": "7"},
               pixels(10, 20, 3, data_type=UINT8)),
    "longest": ({"resize": "longest", "edge": "16", "filter": "lanczos"}, pixels(3, -1, -1, data_type=FP16)),
    "single": ({"width": "8", "height": "6"}, pixels(3, 6, 8, batch=0, taken=1)),
    "stacked": ({"width": "8", "height": "6"}, pixels(-1, 3, 6, 8, batch=0, taken=-1)),
    "together": ({"colour": "GREY", "width": "8", "height": "8", "layout": "NHWC", "threads": "3"}, four_together),
    "limited": ({**AS_IT_IS, "resize": "shortest", "edge": "100", "max_pixels": "20000", "exif_orientation": "false"},
                pixels(-1, -1, 3, data_type=UINT8)),
    "quick": ({**AS_IT_IS, "resize": "exact", "width": "60", "height": "40", "reducing_gap": "2"},
              pixels(40, 60, 3, data_type=UINT8)),
}  # fmt: skip
REFUSED: dict[str, tuple[dict[str, str], Callable[[ModelConfig], object] | None, str]] = {
    "other_dims": ({"width": "100"}, None, r"has dims \[3, 224, 224\], but the parameters make \[3, 224, 100\]"),
    "normalised_bytes": (
        {},
        pixels(3, 224, 224, data_type=UINT8),
        "'divide_by' is '255', expected 1: 'pixels' is",
    ),
    "two_means": ({"mean": "0.5,0.5"}, None, "parameter 'mean' is '0.5,0.5', expected 1 or 3 numbers"),
    "misspelt": ({"color": "RGB"}, None, "unknown parameter 'color'; did you mean 'colour'?"),
}


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One model each of MODELS, and those of REFUSED not yet loaded."""
    repository = tmp_path_factory.mktemp("image_decode")
    for name, (parameters, edit, *_) in {**MODELS, **REFUSED}.items():
        write_part(repository, name, "image_decode", parameters, edit=edit)
    with serve(repository, models=list(MODELS)) as server:
        yield server


def ask(
    server: RunningServer,
    model: str,
    images: list[bytes],
    protocol: str = "grpc",
    outputs: tuple[str, ...] = ("pixels",),
) -> list[np.ndarray]:
    """The outputs for one request of these images."""
    api = APIS[protocol]
    shape = [len(images)] if model in ("single", "stacked") else [len(images), 1]
    tensor = api.InferInput("image", shape, "BYTES")
    tensor.set_data_from_numpy(np.array(images, object).reshape(shape))
    with api.InferenceServerClient(server.grpc_url if protocol == "grpc" else server.http_url) as client:
        result = client.infer(model, [tensor], outputs=[api.InferRequestedOutput(name) for name in outputs])
        return [result.as_numpy(name) for name in outputs]


def decoded(server: RunningServer, model: str, image: bytes) -> np.ndarray:
    """The pixels of one image."""
    return ask(server, model, [image])[0][0]


def refusal(server: RunningServer, model: str, *images: bytes) -> str:
    with pytest.raises(InferenceServerException) as error:
        ask(server, model, list(images))
    return str(error.value.message())


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth, without symmetry."""
    shape = (4, 5) if mode == "L" else (4, 5, len(mode))
    small = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


PICTURE = picture(60, 40)
PNG = saved(PICTURE)


# -- what comes out


@pytest.mark.parametrize("protocol", list(APIS))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_resized_scaled_and_laid_out(decoders: RunningServer, file_format: str, protocol: str) -> None:
    files = [saved(picture(300, 200, seed=seed), file_format) for seed in range(3)]
    (values, sizes) = ask(decoders, "default", files, protocol, ("pixels", "original_size"))
    assert values.shape == (3, 3, 224, 224)
    assert sizes.tolist() == [[200, 300]] * 3
    for value, file in zip(values, files, strict=True):
        expected = np.asarray(opened(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        assert np.array_equal(value, (np.float32(expected) / np.float32(255)).transpose(2, 0, 1))


def test_grey_pixels_in_one_row_as_the_digits_want_them(decoders: RunningServer) -> None:
    expected = np.float32(opened(PNG).convert("L").resize((8, 8), Image.Resampling.BILINEAR)) / np.float32(15)
    assert np.array_equal(decoded(decoders, "digits", PNG), expected.ravel())


def test_the_usual_preparation_for_imagenet(decoders: RunningServer) -> None:
    resized = PICTURE.resize((48, 32), Image.Resampling.BILINEAR).crop((10, 4, 38, 28))
    mean, std = (np.float32(IMAGENET[name].split(",")) for name in ("mean", "std"))
    expected = (np.float32(resized) / np.float32(255) - mean) / std
    assert np.array_equal(decoded(decoders, "imagenet", PNG), expected.transpose(2, 0, 1))


def test_a_letterbox_keeps_the_shape_of_the_image_between_bars(decoders: RunningServer) -> None:
    values = decoded(decoders, "letterbox", PNG)
    assert np.array_equal(values[1:22, :, ::-1], np.asarray(PICTURE.resize((32, 21), Image.Resampling.BILINEAR)))
    assert (values[[0, 22, 23]] == [30, 20, 10]).all()


def test_a_frame_larger_than_the_image_gets_bars_and_a_smaller_one_cuts(decoders: RunningServer) -> None:
    file = saved(picture(9, 30))
    values = decoded(decoders, "framed", file)
    assert np.array_equal(values[:, 5:14], np.asarray(opened(file))[10:20])
    assert (values[:, [*range(5), *range(14, 20)]] == 7).all()


def test_the_longest_edge_in_half_precision(decoders: RunningServer) -> None:
    values = decoded(decoders, "longest", PNG)
    expected = np.float32(PICTURE.resize((16, 10), Image.Resampling.LANCZOS)) / np.float32(255)
    assert values.dtype == np.float16
    assert np.array_equal(values, expected.transpose(2, 0, 1).astype(np.float16))


@pytest.mark.parametrize("orientation", [1, 6])
def test_reducing_first_is_close_and_not_exact(decoders: RunningServer, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(picture(1200, 800), "JPEG", quality=95, exif=exif)
    upright = opened(file).transpose(Image.Transpose.ROTATE_270) if orientation == 6 else opened(file)
    exact = np.int32(upright.resize((60, 40), Image.Resampling.BILINEAR))
    off = np.abs(decoded(decoders, "quick", file) - exact)
    assert 0 < off.max() <= 4


def test_models_without_batching_take_one_image_or_a_row_of_them(decoders: RunningServer) -> None:
    (one,) = ask(decoders, "single", [PNG])
    (many,) = ask(decoders, "stacked", [PNG, PNG])
    (none,) = ask(decoders, "stacked", [])
    assert one.shape == (3, 6, 8)
    assert np.array_equal(many, [one, one])
    assert none.shape == (0, 3, 6, 8)


# -- kinds of files


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_as_exif_says(decoders: RunningServer, file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if file_format == "WEBP" else {"quality": 95} if file_format == "JPEG" else {}
    file = saved(PICTURE, file_format, exif=exif, **lossless)
    pixels = np.asarray(opened(file))
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    values, size = ask(decoders, "as_it_is", [file], outputs=("pixels", "original_size"))
    assert np.array_equal(values[0], pixels)
    assert size.tolist() == [list(pixels.shape[:2])]


def test_tiff_is_turned_once(decoders: RunningServer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(decoded(decoders, "tiff", saved(PICTURE, "TIFF", exif=exif)), upright)


def test_broken_exif_and_switched_off_exif_turn_nothing(decoders: RunningServer) -> None:
    broken = saved(PICTURE, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decoded(decoders, "as_it_is", broken).shape == (40, 60, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(decoders, "limited", saved(PICTURE, exif=exif)).shape == (100, 150, 3)


def test_transparency_is_dropped_or_lies_on_a_background(decoders: RunningServer) -> None:
    clear = saved(picture(60, 40, "RGBA"))
    expected = np.asarray(opened(clear))
    assert np.array_equal(decoded(decoders, "as_it_is", clear), expected[..., :3])
    alpha = expected[..., 3:] / 255
    mixed = expected[..., :3] * alpha + np.array([250, 240, 230]) * (1 - alpha)
    assert np.abs(decoded(decoders, "on_paper", clear) - mixed).max() <= 1


def test_a_transparent_entry_of_a_palette(decoders: RunningServer) -> None:
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for transparency in (1, bytes([255, 0, 255])):
        file = saved(palette, transparency=transparency)
        green = [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
        assert decoded(decoders, "as_it_is", file).tolist() == green
        assert decoded(decoders, "on_paper", file)[:, 1].tolist() == [[250, 240, 230]] * 2


def test_sixteen_bits_are_reduced_to_eight(decoders: RunningServer) -> None:
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    file = saved(Image.fromarray(ramp))
    assert opened(file).mode.startswith("I")
    assert np.array_equal(decoded(decoders, "grey", file)[..., 0], ramp >> 8)
    assert np.array_equal(decoded(decoders, "as_it_is", file), np.stack([ramp >> 8] * 3, axis=-1))


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "1", "P"])
def test_other_colour_spaces_become_rgb(decoders: RunningServer, mode: str) -> None:
    file = saved(PICTURE.convert(mode), "JPEG" if mode == "CMYK" else "PNG")
    assert opened(file).mode == mode
    assert np.array_equal(decoded(decoders, "as_it_is", file), np.asarray(opened(file).convert("RGB")))
    assert np.array_equal(decoded(decoders, "grey", file)[..., 0], np.asarray(opened(file).convert("L")))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(decoders: RunningServer, file_format: str) -> None:
    first, second = Image.new("RGB", (9, 7), (200, 0, 0)), Image.new("RGB", (9, 7), (0, 0, 200))
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    file = saved(first, file_format, save_all=True, append_images=[second], duration=50, **lossless)
    assert opened(file).n_frames == 2
    assert np.array_equal(decoded(decoders, "as_it_is", file), np.asarray(first))


# -- what is refused


JPEG = saved(PICTURE, "JPEG")
WEBP = saved(PICTURE, "WEBP")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are not a whole JPEG or PNG or WEBP image"),
        (b"not an image", "12 bytes are not a whole JPEG or PNG or WEBP image"),
        (saved(PICTURE, "GIF"), "are not a whole JPEG or PNG or WEBP image"),
        (JPEG[:100], "it is broken: "),
        (JPEG[:-20], "it is broken: image file is truncated"),
        (PNG[: len(PNG) // 2], "it is broken: image file is truncated"),
        (PNG[:20], "it is broken: "),
        (WEBP[: len(WEBP) // 2], "it is broken: "),
    ],
)
def test_what_is_no_whole_image_is_refused(decoders: RunningServer, data: bytes, message: str) -> None:
    text = refusal(decoders, "default", PNG, data)
    assert text.startswith("model 'default': image 1 of input 'image': ")
    assert message in text


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that promises this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_an_image_larger_than_the_limit_is_not_even_decoded(decoders: RunningServer) -> None:
    assert "100000×100000 pixels are more than max_pixels, 89478485" in refusal(
        decoders, "default", bomb(100_000, 100_000)
    )
    assert "201×100 pixels are more than max_pixels, 20000" in refusal(decoders, "limited", bomb(201, 100))
    assert decoded(decoders, "limited", saved(picture(200, 100))).shape == (100, 200, 3)


def test_a_thin_image_does_not_grow_beyond_the_limit(decoders: RunningServer) -> None:
    text = refusal(decoders, "limited", saved(picture(5000, 1)))
    assert "500000×100 pixels after resizing are more than max_pixels, 20000" in text


def test_a_hundred_megabytes_that_are_no_image_are_refused(decoders: RunningServer) -> None:
    assert "104857600 bytes are not a whole" in refusal(decoders, "default", bytes(100 << 20))
    assert decoded(decoders, "default", PNG).shape == (3, 224, 224)


def test_images_of_different_shapes_do_not_fit_into_one_answer(decoders: RunningServer) -> None:
    text = refusal(decoders, "as_it_is", PNG, saved(picture(10, 20)))
    assert "its images get different shapes, [20, 10, 3], [40, 60, 3]" in text


def test_a_bad_image_fails_its_request_and_not_its_batch(decoders: RunningServer) -> None:
    """The model waits until four images are there: all requests below are in one execute."""

    def answer(images: list[bytes]) -> Any:
        try:
            return ask(decoders, "together", images)[0]
        except InferenceServerException as error:
            return error.message()

    dark, light = (saved(Image.new("L", (9, 9), value)) for value in (51, 204))
    for _ in range(10):
        with ThreadPoolExecutor(3) as pool:
            one, bad, two = pool.map(answer, [[dark], [b"nonsense"], [light, dark]])
        assert (one == np.float32(0.2)).all()
        assert bad == "model 'together': image 0 of input 'image': 8 bytes are not a whole JPEG or PNG or WEBP image"
        assert (two[0] == np.float32(0.8)).all()
        assert (two[1] == np.float32(0.2)).all()


@pytest.mark.parametrize("model", list(REFUSED))
def test_a_config_that_contradicts_itself_is_refused_at_load(decoders: RunningServer, model: str) -> None:
    with (
        grpcclient.InferenceServerClient(decoders.grpc_url) as client,
        pytest.raises(InferenceServerException, match=REFUSED[model][2]),
    ):
        client.load_model(model)
