"""Labelled images from the usual places, ready for a network.

A data set is read once into one array of bytes (uint8) and normalised when a batch is
taken: decoding, resizing and grey-to-RGB are part of the service that profiles with them,
so that every number afterwards speaks of the same inputs.

Sources: ``torchvision`` (a data set of ``torchvision.datasets`` by name), ``parquet`` (a
folder in the Hugging Face image layout), ``folder`` (one sub-folder per class), ``digits``
(scikit-learn's 8 x 8 digits, always there).
"""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from code_opt.errors import InputError
from code_opt.networks.compat import torch, torchvision

Split = Literal["train", "validation", "test"]
ByteArray = npt.NDArray[np.uint8]

_MOST_PIXELS = 64_000_000
"""Images with more pixels are refused, not decoded: a small file can claim any size."""
_DIGITS_TEST = 360
"""Of scikit-learn's 1,797 digits so many are the test split, drawn once for all: they are
ordered by writer, and the last ones alone would be another distribution."""
_DIGITS_SEED = 0
_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "validation"),
}
_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp"}


@dataclass(frozen=True)
class ImageSource:
    """Where a data set comes from."""

    kind: Literal["torchvision", "parquet", "folder", "digits"]
    path: Path | None = None
    """Folder of the data; ``root`` of a torchvision data set."""
    name: str | None = None
    """Class name in ``torchvision.datasets``."""
    download: bool = False
    """Let torchvision download what is missing."""


@dataclass(frozen=True)
class Images:
    """Labelled images of one size: n of them."""

    pixels: ByteArray
    """Shape (n, channels, height, width), 0 to 255."""
    labels: npt.NDArray[np.int64]
    """Number of the class, shape (n,)."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every channel, of values in [0, 1]."""
        mean, deviation = [], []
        for channel in range(self.pixels.shape[1]):
            counts = np.bincount(self.pixels[:, channel].reshape(-1), minlength=256) / (
                self.pixels[:, channel].size
            )
            levels = np.arange(256) / 255.0
            centre = float(counts @ levels)
            mean.append(centre)
            deviation.append(max(float(np.sqrt(counts @ (levels - centre) ** 2)), 1e-3))
        return tuple(mean), tuple(deviation)

    def subset(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return the images of these rows, in their order."""
        return Images(self.pixels[rows], self.labels[rows], self.classes)

    def first(self, count: int | None) -> Images:
        """Return the first ``count`` images (all: None)."""
        return self if count is None else self.subset(np.arange(min(count, len(self))))

    def relabelled(self, groups: Mapping[str, Sequence[str]] | None) -> Images:
        """Return the same images under coarser classes.

        Args:
            groups: new class -> names of the old classes in it; images of other classes
                are left out. None changes nothing.

        Raises:
            InputError: an unknown class, or a class in two groups.
        """
        if groups is None:
            return self
        new = np.full(len(self.classes), -1)
        for number, (group, members) in enumerate(groups.items()):
            for member in members:
                if member not in self.classes:
                    raise InputError(
                        f"group {group!r}: the data set has no class {member!r}; "
                        f"it has {', '.join(self.classes)}"
                    )
                index = self.classes.index(member)
                if new[index] >= 0:
                    raise InputError(f"class {member!r} is in two groups")
                new[index] = number
        labels = new[self.labels]
        rows = np.flatnonzero(labels >= 0)
        return Images(self.pixels[rows], labels[rows].astype(np.int64), tuple(groups))

    def split(self, held_out: int, seed: int) -> tuple[Images, Images]:
        """Part at random into the rest and ``held_out`` images, the same for a seed.

        Raises:
            InputError: not more than ``held_out`` images are there.
        """
        if not 0 < held_out < len(self):
            raise InputError(
                f"cannot hold out {held_out} of {len(self)} images: 1 to {len(self) - 1} can be"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        return self.subset(np.sort(order[held_out:])), self.subset(np.sort(order[:held_out]))


@dataclass(frozen=True)
class Normalization:
    """Turns bytes into the network's input: (x / 255 - mean) / deviation per channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 inputs for uint8 pixels, both of shape (n, channels, height, width)."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)
        scale = torch.tensor(self.deviation, device=pixels.device).view(1, -1, 1, 1)
        value = (pixels.to(torch.float32) / 255.0 - mean) / scale
        return value.contiguous(memory_format=torch.channels_last)


def load_images(source: ImageSource, split: Split, shape: Sequence[int]) -> Images:
    """Read one split of a data set, every image brought to ``shape``.

    Args:
        source: where it comes from. Sources without a validation split raise for it; hold
            images of the training split out instead (:meth:`Images.split`).
        split: "train", "validation" or "test".
        shape: (channels, height, width) with 1 or 3 channels. Grey images are repeated over
            three channels; colour ones are turned to grey (ITU-R 601-2 luma); other sizes are
            resized bilinearly.

    Raises:
        InputError: the data is not there, not readable, or has no such split.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise InputError(f"images have the shape (1 or 3, height, width), not {tuple(shape)}")
    reader = _READERS[source.kind]
    pairs, classes = reader(source, split)
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    pixels: list[ByteArray] = []
    labels: list[int] = []
    for image, label in pairs:
        if not 0 <= label < len(classes):
            raise InputError(f"{source.kind}: label {label} of {len(classes)} classes")
        if image.width * image.height > _MOST_PIXELS:
            raise InputError(f"{source.kind}: an image of {image.width} x {image.height} pixels")
        try:
            plain = image if image.mode == mode else image.convert(mode)
        except (OSError, ValueError) as error:  # decoding happens here
            raise InputError(f"{source.kind}: image {len(labels)} is damaged ({error})") from None
        if plain.size != (width, height):
            plain = plain.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(plain, dtype=np.uint8)
        pixels.append(array[None] if channels == 1 else array.transpose(2, 0, 1))
        labels.append(label)
    if not pixels:
        raise InputError(f"{source.kind}: the {split} split holds no image")
    return Images(np.stack(pixels), np.asarray(labels, dtype=np.int64), tuple(classes))


Reader = Callable[[ImageSource, Split], tuple[Iterable[tuple[Any, int]], Sequence[str]]]


def _digits(_: ImageSource, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str]]:
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    if split == "validation":
        raise _no_validation("digits")
    digits = load_digits()
    order = np.random.default_rng(_DIGITS_SEED).permutation(len(digits.target))
    rows = np.sort(order[:-_DIGITS_TEST] if split == "train" else order[-_DIGITS_TEST:])
    # 17 levels (0 to 16) become 0 to 255.
    scaled = np.rint(digits.images[rows] * (255.0 / 16.0)).astype(np.uint8)
    pairs = zip(scaled, digits.target[rows], strict=True)
    return ((Image.fromarray(image), int(label)) for image, label in pairs), [
        str(name) for name in digits.target_names
    ]


def _torchvision(
    source: ImageSource, split: Split
) -> tuple[Iterator[tuple[Any, int]], Sequence[str]]:
    kind = getattr(torchvision.datasets, source.name or "", None)
    if not (isinstance(kind, type) and issubclass(kind, torchvision.datasets.VisionDataset)):
        raise InputError(f"torchvision.datasets has no data set {source.name!r}")
    arguments: dict[str, Any] = {}
    known = inspect.signature(kind).parameters
    if "split" in known:
        arguments["split"] = {"validation": "val"}.get(split, split)
    elif "train" in known:
        if split == "validation":
            raise _no_validation(str(source.name))
        arguments["train"] = split == "train"
    else:
        raise InputError(f"torchvision.datasets.{source.name} has no splits; use a folder instead")
    if "download" in known:
        arguments["download"] = source.download
    try:
        data = kind(str(source.path or Path()), **arguments)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"torchvision.datasets.{source.name}: {error}") from None
    classes = getattr(data, "classes", None)
    if classes is None:  # SVHN and others know only numbers
        labels = getattr(data, "labels", getattr(data, "targets", None))
        if labels is None:
            raise InputError(f"torchvision.datasets.{source.name} is no classification data set")
        classes = [str(label) for label in sorted({int(label) for label in labels})]

    def pairs() -> Iterator[tuple[Any, int]]:
        for i in range(len(data)):
            image, label = data[i]
            if not isinstance(label, int | np.integer):
                raise InputError(
                    f"torchvision.datasets.{source.name} is no classification data set"
                )
            yield image, int(label)

    return pairs(), [str(name) for name in classes]


def _folder(source: ImageSource, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str]]:
    root = _existing(source)
    names = ("validation", "val") if split == "validation" else _FOLDERS[split]
    base = next((root / name for name in names if (root / name).is_dir()), None)
    if base is None:
        raise InputError(f"{root}: no folder {' or '.join(names)} for the {split} split")
    classes = sorted(entry.name for entry in base.iterdir() if entry.is_dir())
    if not classes:
        raise InputError(f"{base}: no sub-folders (one per class)")

    def pairs() -> Iterator[tuple[Any, int]]:
        for number, name in enumerate(classes):
            for file in sorted((base / name).iterdir()):
                if file.suffix.lower() in _SUFFIXES:
                    with _opened(file, str(file)) as image:
                        yield image, number

    return pairs(), classes


def _parquet(source: ImageSource, split: Split) -> tuple[Iterator[tuple[Any, int]], Sequence[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = _existing(source)
    files = sorted(root.glob(f"{split}*.parquet")) or sorted(
        (root / "data").glob(f"{split}*.parquet")
    )
    if not files:
        raise InputError(f"{root}: no {split}*.parquet")
    try:
        schema = pq.read_schema(files[0])
        columns = {"image": "image", "label": "label"}
        for wanted, others in (("image", ("img",)), ("label", ("labels", "fine_label"))):
            columns[wanted] = next((n for n in (wanted, *others) if n in schema.names), "")
            if not columns[wanted]:
                raise InputError(f"{files[0]}: no column {wanted!r}; has {', '.join(schema.names)}")
        classes = _parquet_classes(schema, columns["label"])
        if classes is None:
            seen: set[int] = set()
            for file in files:
                column = pq.read_table(file, columns=[columns["label"]]).column(0)
                seen |= {int(v) for v in column.unique().to_pylist()}
            classes = [str(number) for number in range(max(seen, default=-1) + 1)]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{root}: not readable as parquet ({error})") from None

    def pairs() -> Iterator[tuple[Any, int]]:
        for file in files:
            try:
                table = pq.ParquetFile(file)
                for batch in table.iter_batches(1024, columns=list(columns.values())):
                    cells = batch.column(columns["image"]).to_pylist()
                    labels = batch.column(columns["label"]).to_pylist()
                    for cell, label in zip(cells, labels, strict=True):
                        data = cell.get("bytes") if isinstance(cell, dict) else cell
                        if not isinstance(data, bytes):
                            raise InputError(f"{file}: images are not held as bytes in the file")
                        with _opened(io.BytesIO(data), str(file)) as image:
                            yield image, int(label)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file}: not readable as parquet ({error})") from None

    return pairs(), classes


def _parquet_classes(schema: Any, label: str) -> list[str] | None:
    """Return the class names that the Hugging Face metadata hold, or None."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = stored["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _opened(file: Path | io.BytesIO, place: str) -> Any:
    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{place}: not an image ({error})") from None


def _existing(source: ImageSource) -> Path:
    if source.path is None or not source.path.is_dir():
        raise InputError(f"{source.path}: no such folder")
    return source.path


def _no_validation(name: str) -> InputError:
    return InputError(f"{name} has no validation split: hold images of the training split out")


_READERS: dict[str, Reader] = {
    "digits": _digits,
    "folder": _folder,
    "parquet": _parquet,
    "torchvision": _torchvision,
}
