"""Decoding one picture, whatever its file holds: the right pixels, or an error that names it.

Files come from strangers. Only the decoders of :data:`FORMATS` are used (others would run
programs, such as that of PostScript), no more than :data:`MOST_PIXELS` are decoded, and
whatever a decoder raises becomes an :class:`InputError` with the file's name.

What pixels mean:

* The rotation that EXIF asks for is applied.
* Of an animation or a file of several pages the first picture counts.
* 16-bit values (0 to 65535) are scaled to bytes; floating-point ones are 0 to 1.
* Transparency is left out: a pixel keeps the colour that the file gives it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from code_opt.errors import InputError

ByteArray = npt.NDArray[np.uint8]

MOST_PIXELS = 64_000_000
"""Images with more pixels are refused, not decoded: a small file can claim any size."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of Pillow that are read; JPEG covers the MPO that many phones write."""
SUFFIXES = frozenset(
    {
        *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
        *(".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""Endings of the files that are images."""
UNREADABLE_SUFFIXES = frozenset(
    {
        *(".avif", ".dcm", ".dds", ".dng", ".exr", ".hdr", ".heic", ".heif", ".ico", ".j2k"),
        *(".jp2", ".jxl", ".pcx", ".pfm", ".psd", ".svg", ".tga"),
    }
)
"""Endings of images that are not read: to leave them out would change the data unnoticed."""
_SIXTEEN_BITS = 65535


def opened(source: Path | bytes, place: str) -> Any:
    """Open a picture without decoding it; the result is a PIL image and a context manager.

    Args:
        source: its file, or its bytes.
        place: where it is, for messages.

    Raises:
        InputError: it is no image of :data:`FORMATS`, or claims too many pixels.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with _quiet():
        try:
            return Image.open(file, formats=FORMATS)
        except Exception as error:  # noqa: BLE001 - decoders raise nearly anything
            # Pillow's own message names an object in memory where there is no file.
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise InputError(f"{place}: not an image that can be read{reason}") from None


def decoded(image: Any, shape: Sequence[int], place: str) -> ByteArray:
    """Return the pixels of an opened picture.

    Args:
        image: the PIL image.
        shape: (channels, height, width) with 1 or 3 channels; other sizes are resized
            bilinearly.
        place: where it is, for messages.

    Returns:
        Bytes of this shape.

    Raises:
        InputError: it is damaged, too large, or its values have no agreed meaning.
    """
    channels, height, width = shape
    if image.width * image.height > MOST_PIXELS:
        raise InputError(
            f"{place}: {image.width} x {image.height} pixels, more than the {MOST_PIXELS:,} "
            "that are read"
        )
    with _quiet():
        try:
            image.load()
            plain = ImageOps.exif_transpose(image)
            plain = _in_bytes(plain, place).convert("L" if channels == 1 else "RGB")
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise nearly anything
            raise InputError(f"{place}: damaged ({str(error) or type(error).__name__})") from None
    if plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(plain, dtype=np.uint8)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _in_bytes(image: Any, place: str) -> Any:
    """Return a picture of 8 bits per channel that can be converted to grey or colour.

    Raises:
        InputError: values outside of the range that says what they mean.
    """
    mode = image.mode
    if mode == "F":
        values = np.asarray(image, dtype=np.float64)
        _check_range(values, 1.0, "floating-point", place)
        return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))
    if mode == "I" or mode.startswith("I;16"):
        # Pillow reads 16-bit files in either mode, and would cut values off at 255.
        values = np.asarray(image).astype(np.float64)
        _check_range(values, _SIXTEEN_BITS, "integer", place)
        return Image.fromarray(np.rint(values * (255.0 / _SIXTEEN_BITS)).astype(np.uint8))
    if mode in ("P", "PA"):
        return image.convert("RGBA")  # knows every form of transparency in a palette
    if mode in ("HSV", "LAB"):
        return image.convert("RGB")
    return image


def _check_range(values: npt.NDArray[np.float64], most: float, kind: str, place: str) -> None:
    low, high = float(np.min(values)), float(np.max(values))
    if not (low >= 0.0 and high <= most):  # not a number fails, too
        raise InputError(
            f"{place}: {kind} values from {low:g} to {high:g}; they must lie in 0 to {most:g} "
            "(store the image with 8 or 16 bits)"
        )


class _quiet(warnings.catch_warnings):  # noqa: N801 - used as a function
    """Keep Pillow's remarks about odd files off the terminal, and its alarm an error."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
