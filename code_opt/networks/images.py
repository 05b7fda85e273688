"""Labelled images from the usual places, ready for a network.

A data set is read once into one array of bytes (uint8) and normalised when a batch is
taken: decoding, resizing and grey-to-RGB are part of the service that profiles with them,
so that every number afterwards speaks of the same inputs. How one picture is decoded is in
:mod:`code_opt.networks.pictures`.

Sources: ``torchvision`` (a data set of ``torchvision.datasets`` by name), ``parquet`` (a
folder in the Hugging Face image layout), ``folder`` (one sub-folder per class), ``digits``
(scikit-learn's 8 x 8 digits, always there).

Classes are those of the training split. Every other split is numbered by their names; a
class that training does not know is an error.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from code_opt.errors import InputError
from code_opt.networks.compat import torch, torchvision
from code_opt.networks.pictures import SUFFIXES, UNREADABLE_SUFFIXES, ByteArray, decoded, opened

Split = Literal["train", "validation", "test"]

_DIGITS_TEST = 360
"""Of scikit-learn's 1,797 digits so many are the test split, drawn once for all: they are
ordered by writer, and the last ones alone would be another distribution."""
_DIGITS_SEED = 0
_ENCODED_EVERY = 10
"""Of images without a file of their own each so many-th is encoded to learn their mean size."""
_NAMED = 5
"""Names in a message at most."""
_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "validation"),
}
_NO_CLASSES = {
    "#recycle",
    "$recycle.bin",
    "@eadir",
    "__macosx",
    "__pycache__",
    "lost+found",
    "system volume information",
}
"""Folders that archivers, file systems and tools leave behind, in lower case; hidden folders
(``.ipynb_checkpoints``, ``.git``, ...) are no classes either."""


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

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, labels and names of classes: what a measurement on them rests on."""
        digest = hashlib.sha256(json.dumps([self.classes, self.pixels.shape]).encode())
        for image in self.pixels:  # one by one: a copy of all might not fit into memory
            digest.update(image.tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

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

    def is_in(self, groups: Mapping[str, Sequence[str]] | None) -> npt.NDArray[np.bool_]:
        """Return which images :meth:`relabelled` keeps, shape (n,)."""
        if groups is None:
            return np.ones(len(self), dtype=np.bool_)
        members = {member for group in groups.values() for member in group}
        return np.array([name in members for name in self.classes], dtype=np.bool_)[self.labels]

    def numbered(self, classes: Sequence[str]) -> Images:
        """Return the same images with the classes in this order.

        Raises:
            InputError: the names of the classes are not these.
        """
        if set(classes) != set(self.classes):
            unknown = sorted(set(self.classes) - set(classes))
            missing = sorted(set(classes) - set(self.classes))
            raise InputError(
                "the classes of the data set are not those that the network was trained for: "
                + "; ".join(
                    f"{what}: {_listed(names)}"
                    for what, names in (("only in the data", unknown), ("missing there", missing))
                    if names
                )
            )
        order = np.array([classes.index(name) for name in self.classes], dtype=np.int64)
        return Images(self.pixels, order[self.labels], tuple(classes))

    def split(self, held_out: int, seed: int, limit: int | None = None) -> tuple[Images, Images]:
        """Part at random into the rest and ``held_out`` images, the same for a seed.

        Args:
            held_out: images of the second part.
            seed: of the choice.
            limit: images of the first part at most (None: all), chosen at random, too: a
                folder lists its images class by class.

        Raises:
            InputError: not more than ``held_out`` images are there.
        """
        if not 0 < held_out < len(self):
            raise InputError(
                f"cannot hold out {held_out} of {len(self)} images: 1 to {len(self) - 1} can be"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        end = len(self) if limit is None else held_out + limit
        return self.subset(np.sort(order[held_out:end])), self.subset(np.sort(order[:held_out]))


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
        InputError: the data is not there, not readable, has no such split, or has a class
            that the training split does not have.
    """
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise InputError(f"images have the shape (1 or 3, height, width), not {tuple(shape)}")
    found = _READERS[source.kind](source, split)
    pixels: list[ByteArray] = []
    labels: list[int] = []
    for picture in found.pictures:
        if not 0 <= picture.label < len(found.classes):
            raise InputError(
                f"{picture.place}: label {picture.label} of {len(found.classes)} classes"
            )
        pixels.append(decoded(picture.image, shape, picture.place))
        labels.append(picture.label)
    if not pixels:
        raise InputError(f"{source.kind}: the {split} split holds no image")
    return Images(np.stack(pixels), np.asarray(labels, dtype=np.int64), found.classes)


def mean_encoded_size(source: ImageSource) -> float:
    """Return the mean size of the encoded images of a training split [bytes], a whole number.

    Images are counted as the data set holds them (JPEG, PNG, ...). Where it holds pixels alone,
    every tenth one is encoded as PNG, without loss.

    Raises:
        InputError: see :func:`load_images`.
    """
    sizes = []
    for number, picture in enumerate(_READERS[source.kind](source, "train").pictures):
        if picture.encoded is not None:
            sizes.append(picture.encoded)
        elif number % _ENCODED_EVERY == 0:
            file = io.BytesIO()
            picture.image.save(file, format="PNG", optimize=True)
            sizes.append(file.tell())
    if not sizes:
        raise InputError(f"{source.kind}: the train split holds no image")
    return float(round(sum(sizes) / len(sizes)))


@dataclass(frozen=True)
class _Picture:
    """One image that has not been decoded."""

    place: str
    """Where it is, for messages: the file, and the row in it."""
    image: Any
    """A PIL image; open while it is the reader's turn."""
    label: int
    encoded: int | None = None
    """Size of the encoded image [bytes], where the data set holds it encoded."""


@dataclass(frozen=True)
class _Split:
    """One split of a data set."""

    pictures: Iterator[_Picture]
    classes: tuple[str, ...]
    """Those of the training split, where there is one; labels are numbers in this list."""


Reader = Callable[[ImageSource, Split], _Split]


def _digits(_: ImageSource, split: Split) -> _Split:
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    if split == "validation":
        raise _no_validation("digits")
    digits = load_digits()
    order = np.random.default_rng(_DIGITS_SEED).permutation(len(digits.target))
    rows = np.sort(order[:-_DIGITS_TEST] if split == "train" else order[-_DIGITS_TEST:])
    # 17 levels (0 to 16) become 0 to 255.
    scaled = np.rint(digits.images[rows] * (255.0 / 16.0)).astype(np.uint8)
    pictures = (
        _Picture(f"digits: image {row}", Image.fromarray(image), int(digits.target[row]))
        for row, image in zip(rows, scaled, strict=True)
    )
    return _Split(pictures, tuple(str(name) for name in digits.target_names))


def _torchvision(source: ImageSource, split: Split) -> _Split:
    place = f"torchvision.datasets.{source.name}"
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
        raise InputError(f"{place} has no splits; use a folder instead")
    if "download" in known:
        arguments["download"] = source.download
    try:
        data = kind(str(source.path or Path()), **arguments)
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{place}: {error}") from None
    classes = getattr(data, "classes", None)
    numbers: dict[int, int] | None = None
    if classes is None:  # SVHN and others know only numbers
        labels = getattr(data, "labels", getattr(data, "targets", None))
        if labels is None:
            raise InputError(f"{place} is no classification data set")
        classes = sorted({int(label) for label in labels})
        numbers = {label: number for number, label in enumerate(classes)}

    def pictures() -> Iterator[_Picture]:
        for i in range(len(data)):
            here = f"{place}: {_torchvision_file(data, i) or f'image {i} of the {split} split'}"
            try:
                image, label = data[i]
            except Exception as error:  # noqa: BLE001 - it decodes here, see `pictures.decoded`
                raise InputError(f"{here}: damaged ({error})") from None
            if not isinstance(label, int | np.integer) or not isinstance(image, Image.Image):
                raise InputError(f"{place} is no classification data set")
            file = _torchvision_file(data, i)
            yield _Picture(
                here,
                image,
                int(label) if numbers is None else numbers[int(label)],
                Path(file).stat().st_size if file and Path(file).is_file() else None,
            )

    return _Split(pictures(), tuple(str(name) for name in classes))


def _torchvision_file(data: Any, number: int) -> str | None:
    """Return the file of an image where the data set is one of files."""
    for name in ("samples", "_samples", "_image_files", "images", "_images"):
        entries = getattr(data, name, None)
        if isinstance(entries, list | tuple) and number < len(entries):
            entry = entries[number][0] if isinstance(entries[number], tuple) else entries[number]
            if isinstance(entry, str | Path):
                return str(entry)
    return None


def _folder(source: ImageSource, split: Split) -> _Split:
    root = _existing(source)
    names = ("validation", "val") if split == "validation" else _FOLDERS[split]
    base = _split_folder(root, names)
    if base is None:
        raise InputError(f"{root}: no folder {' or '.join(names)} for the {split} split")
    training = base if split == "train" else _split_folder(root, _FOLDERS["train"])
    classes = _class_folders(training or base, root)
    if training not in (None, base):
        here = _class_folders(base, root)
        for name in here:
            if name not in classes:
                raise InputError(
                    f"{base / name}: no class of the training split, which has "
                    f"{_listed(classes)} ({training})"
                )
        for name in classes:
            if name not in here:
                raise InputError(f"{base / name}: no such folder, though {training} has this class")

    def pictures() -> Iterator[_Picture]:
        for number, name in enumerate(classes):
            files = _image_files(base / name, root)
            if not files:
                raise InputError(f"{base / name}: holds no image of its class")
            for file in files:
                with opened(file, str(file)) as image:
                    yield _Picture(str(file), image, number, file.stat().st_size)

    return _Split(pictures(), classes)


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _entries(folder: Path, root: Path) -> list[Path]:
    """Return what a folder holds, sorted, without what is hidden or left behind by tools.

    Raises:
        InputError: it cannot be read, or leads out of the data set.
    """
    _inside(folder, root)
    try:
        return sorted(
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and entry.name.lower() not in _NO_CLASSES
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _class_folders(base: Path, root: Path) -> tuple[str, ...]:
    """Return the names of the classes of a split: its folders, in alphabetical order."""
    entries = _entries(base, root)
    for entry in entries:
        if entry.suffix.lower() in SUFFIXES and not entry.is_dir():
            raise InputError(f"{entry}: lies in no class; {base} has one sub-folder per class")
    classes = tuple(entry.name for entry in entries if entry.is_dir())
    if not classes:
        raise InputError(f"{base}: no sub-folders (one per class)")
    for name in classes:
        if not _is_text(name):
            raise InputError(f"{base / name}: the name of a class must be UTF-8 text")
    return classes


def _image_files(folder: Path, root: Path) -> list[Path]:
    """Return the images of a class: the files with an image's ending; others are left out."""
    files = []
    for entry in _entries(folder, root):
        suffix = entry.suffix.lower()
        if entry.is_dir():
            raise InputError(f"{entry}: a folder inside of a class; images lie in {folder} itself")
        if suffix in UNREADABLE_SUFFIXES:
            raise InputError(
                f"{entry}: this kind of image is not read; {', '.join(sorted(SUFFIXES))} are"
            )
        if suffix in SUFFIXES:
            _inside(entry, root)
            if not entry.is_file():
                raise InputError(f"{entry}: not a regular file")
            files.append(entry)
    return files


def _inside(path: Path, root: Path) -> None:
    """Check that a path leads to somewhere inside of a data set.

    Raises:
        InputError: a link leads out of it, or nowhere.
    """
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise InputError(f"{path}: a link that leads nowhere") from None
    if not real.is_relative_to(root.resolve()):
        raise InputError(f"{path}: a link that leads out of {root}")


def _parquet(source: ImageSource, split: Split) -> _Split:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = _existing(source)
    files = _parquet_files(root, split)
    if not files:
        raise InputError(f"{root}: no {split}*.parquet")
    training = (files if split == "train" else _parquet_files(root, "train")) or files
    columns = _parquet_columns(files[0])
    trained = _parquet_names(training)
    names = _parquet_names(files) or trained
    if names is None:
        values = _parquet_labels(training)
        names_of = {value: str(value) for value in values}
    else:
        names_of = dict(enumerate(names))
    classes = trained or tuple(names_of.values())
    numbers = {name: number for number, name in enumerate(classes)}

    def number(label: Any, place: str) -> int:
        # A label is a place in its own file's names; what counts is the name.
        name = names_of.get(label) if isinstance(label, int) else None
        if name not in numbers:
            what = f"label {label!r}" if name is None else f"class {name!r}"
            raise InputError(f"{place}: {what} is none of the classes {_listed(classes)}")
        return numbers[name]

    def pictures() -> Iterator[_Picture]:
        for file in files:
            row = 0
            try:
                table = pq.ParquetFile(file)
                for batch in table.iter_batches(1024, columns=list(columns)):
                    cells = batch.column(columns[0]).to_pylist()
                    labels = batch.column(columns[1]).to_pylist()
                    for cell, label in zip(cells, labels, strict=True):
                        place = f"{file}: row {row}"
                        row += 1
                        data = cell.get("bytes") if isinstance(cell, dict) else cell
                        if not isinstance(data, bytes):
                            raise InputError(f"{place}: images are not held as bytes in the file")
                        with opened(data, place) as image:
                            yield _Picture(place, image, number(label, place), len(data))
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file}: not readable as parquet ({error})") from None

    return _Split(pictures(), classes)


def _parquet_files(root: Path, split: Split) -> list[Path]:
    pattern = f"{split}*.parquet"
    files = sorted(root.glob(pattern)) or sorted((root / "data").glob(pattern))
    for file in files:
        _inside(file, root)
    return files


def _parquet_columns(file: Path) -> tuple[str, str]:
    """Return the names of the columns of images and labels.

    Raises:
        InputError: the file cannot be read, or has no such column.
    """
    schema = _parquet_schema(file)
    found = []
    for wanted, others in (("image", ("img",)), ("label", ("labels", "fine_label"))):
        name = next((n for n in (wanted, *others) if n in schema.names), None)
        if name is None:
            raise InputError(f"{file}: no column {wanted!r}; has {', '.join(schema.names)}")
        found.append(name)
    return found[0], found[1]


def _parquet_schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: not readable as parquet ({error})") from None


def _parquet_labels(files: Sequence[Path]) -> list[int]:
    """Return the labels that files hold, in ascending order.

    Raises:
        InputError: a file cannot be read, or a label is no whole number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    seen: set[int] = set()
    for file in files:
        label = _parquet_columns(file)[1]
        try:
            values = pq.read_table(file, columns=[label]).column(0).unique().to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: not readable as parquet ({error})") from None
        for value in values:
            if not isinstance(value, int) or value < 0:
                raise InputError(
                    f"{file}: column {label!r} holds {value!r}; labels are whole numbers from 0 on"
                )
            seen.add(value)
    return sorted(seen)


def _parquet_names(files: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the class names that the Hugging Face metadata of files hold, or None.

    Raises:
        InputError: a file cannot be read, files disagree, or a name stands there twice.
    """
    found: tuple[str, ...] | None = None
    for file in files:
        schema, label = _parquet_schema(file), _parquet_columns(file)[1]
        try:
            stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
            names = stored["info"]["features"][label]["names"]
        except (ValueError, KeyError, TypeError):
            names = None
        mine = tuple(map(str, names)) if isinstance(names, list) and names else None
        if file != files[0] and mine != found:
            raise InputError(f"{file}: names other classes than {files[0]}")
        if mine is not None and len(set(mine)) < len(mine):
            raise InputError(f"{file}: names a class twice")
        found = mine
    return found


def _listed(names: Sequence[str]) -> str:
    """Return names for a message, many of them shortened."""
    return ", ".join(map(repr, names[:_NAMED])) + ", ..." * (len(names) > _NAMED)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
