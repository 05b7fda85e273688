"""Pictures: the right pixels of every mode and format, or an error with the name."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("torch")  # the package is imported together with it

from code_opt.errors import InputError
from code_opt.networks import pictures
from code_opt.networks.pictures import decoded, opened

LEVELS = (np.arange(48, dtype=np.uint8) * 5).reshape(8, 6)
"""A picture in which all pixels differ, higher than it is wide."""
RGB = np.stack((LEVELS, 255 - LEVELS, LEVELS // 2), axis=2)


def file_of(image: Any, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def pixels(data: bytes, channels: int = 1, size: tuple[int, int] = (8, 6)) -> np.ndarray:
    with opened(data, "that.png") as image:
        return decoded(image, (channels, *size), "that.png")


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("PNG", mode) for mode in ("L", "RGB", "RGBA", "LA", "P", "I;16")),
        *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "LA", "P", "I;16", "CMYK", "I", "F")),
    ],
)
def test_grey_values_are_kept_in_every_mode(form, mode):
    if mode == "I;16":
        image = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(LEVELS.astype(np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray((LEVELS / 255.0).astype(np.float32))
    elif mode == "P":
        image = Image.fromarray(LEVELS).convert(mode)
    else:
        image = Image.fromarray(LEVELS).convert("RGB").convert(mode)
    for channels in (1, 3):
        found = pixels(file_of(image, form), channels)
        assert np.abs(found.astype(int) - LEVELS).max() <= 1


def test_sixteen_bits_are_scaled_not_cut_off():
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(8, 6)
    found = pixels(file_of(Image.fromarray(values)))
    assert np.abs(found[0] - values / 257.0).max() <= 0.51
    # Portable grey maps may say their largest value.
    plain = b"P5 6 8 65535\n" + values.astype(">u2").tobytes()
    assert np.array_equal(pixels(plain), found)


@pytest.mark.parametrize("transparency", [0, bytes(range(256))])
def test_transparency_of_a_palette_changes_no_colour(transparency):
    image = Image.fromarray(RGB).quantize(48)
    plain = pixels(file_of(image), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(file_of(image, transparency=transparency), 3)
    assert np.array_equal(found, plain)


def turned(orientation: int) -> np.ndarray:
    """Return the upright picture for an EXIF orientation (TIFF 6.0, page 36)."""
    return {
        1: LEVELS,
        2: LEVELS[:, ::-1],
        3: LEVELS[::-1, ::-1],
        4: LEVELS[::-1],
        5: LEVELS.T,
        6: np.rot90(LEVELS, -1),
        7: LEVELS[::-1, ::-1].T,
        8: np.rot90(LEVELS),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_the_rotation_of_exif_is_applied_once(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    expected = turned(orientation)
    # WebP has no grey.
    image = Image.fromarray(LEVELS).convert("RGB")
    found = pixels(file_of(image, form, exif=exif, **options), 3, expected.shape)
    assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP", "MPO"])
def test_of_several_pictures_the_first_counts(form):
    first, second = Image.new("RGB", (6, 8), (200, 0, 0)), Image.new("RGB", (6, 8), (0, 0, 200))
    found = pixels(file_of(first, form, save_all=True, append_images=[second]), 3)
    assert found[0].min() > 190
    assert found[2].max() < 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((8, 6), 70000, np.int32), "70000; they must lie in 0 to 65535"),
        (np.full((8, 6), -1, np.int32), "-1 to -1; they must lie in 0 to 65535"),
        (np.full((8, 6), 255.0, np.float32), "255; they must lie in 0 to 1"),
        (np.full((8, 6), np.nan, np.float32), "nan; they must lie in 0 to 1"),
    ],
)
def test_values_without_an_agreed_meaning_are_refused(values, message):
    with pytest.raises(InputError, match=rf"that\.png: .*{message}"):
        pixels(file_of(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        # Pillow would run another program for this one.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",
    ],
)
def test_what_is_no_image_is_named(data):
    with pytest.raises(InputError, match=r"that\.png: not an image that can be read$"):
        pixels(data)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    data = file_of(Image.fromarray(LEVELS))
    monkeypatch.setattr(pictures, "MOST_PIXELS", 47)
    with pytest.raises(InputError, match=r"that\.png: 6 x 8 pixels, more than the 47"):
        pixels(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # Pillow's own alarm
    with pytest.raises(InputError, match=r"that\.png: not an image .*decompression bomb"):
        pixels(data)


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_damage_of_any_kind_is_an_input_error(form):
    rng = np.random.default_rng(0)
    whole = file_of(Image.fromarray(RGB), form)
    refused = []
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        try:
            assert pixels(bytes(data), 3).shape == (3, 8, 6)
        except InputError as error:
            refused.append(str(error))
    assert refused
    assert all(message.startswith("that.png: ") for message in refused)
