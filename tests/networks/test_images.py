"""Images: every source, what is done to them, what is refused."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from code_opt.errors import InputError
from code_opt.networks.images import Images, ImageSource, Normalization, load_images

DIGITS = ImageSource("digits")
RED, GREY = (250, 10, 10), 128


def png(colour: tuple[int, ...] | int, size: tuple[int, int] = (6, 4)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB" if isinstance(colour, tuple) else "L", size, colour).save(stream, "PNG")
    return stream.getvalue()


def few(count: int = 60, classes: int = 3) -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return Images(pixels, np.arange(count) % classes, tuple("abc"[:classes]))


# --- Digits -------------------------------------------------------------------------------


def test_digits_are_parted_without_overlap():
    train, test = load_images(DIGITS, "train", (1, 8, 8)), load_images(DIGITS, "test", (1, 8, 8))
    assert (len(train), len(test)) == (1437, 360)
    assert train.classes == tuple("0123456789")
    from sklearn.datasets import load_digits

    truth = load_digits()
    levels = np.concatenate((train.pixels, test.pixels))[:, 0] / 255.0 * 16.0
    labels = np.concatenate((train.labels, test.labels))

    def ordered(images, numbers):
        rows = np.column_stack((np.rint(images).reshape(len(images), -1), numbers))
        return rows[np.lexsort(rows.T)]

    assert np.array_equal(ordered(levels, labels), ordered(truth.images, truth.target))
    assert np.bincount(test.labels).min() > 20  # no class is missing from either part


def test_digits_grow_and_become_colour():
    images = load_images(DIGITS, "test", (3, 16, 12))
    assert images.pixels.shape == (360, 3, 16, 12)
    assert np.array_equal(images.pixels[:, 0], images.pixels[:, 2])


def test_no_validation_split_is_invented():
    with pytest.raises(InputError, match="no validation split"):
        load_images(DIGITS, "validation", (1, 8, 8))


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 0, 8), (8, 8)])
def test_impossible_shapes_are_refused(shape):
    with pytest.raises(InputError, match="images have the shape"):
        load_images(DIGITS, "test", shape)


# --- Folders ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 1)):
        for name, colour in (("zebra", GREY), ("apple", RED)):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(count):
                (tmp_path / split / name / f"{k}.png").write_bytes(png(colour))
    (tmp_path / "train" / "apple" / "notes.txt").write_text("no image")
    return tmp_path


def test_folders_are_classes_in_alphabetical_order(folder):
    images = load_images(ImageSource("folder", folder), "train", (3, 4, 6))
    assert images.classes == ("apple", "zebra")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.pixels[0, :, 0, 0].tolist() == list(RED)
    assert (images.pixels[5] == GREY).all()


@pytest.mark.parametrize(("split", "count"), [("validation", 2), ("test", 2)])
def test_other_splits_of_a_folder(folder, split, count):
    assert len(load_images(ImageSource("folder", folder), split, (1, 4, 6))) == count


def test_colour_becomes_grey_by_its_luma(folder):
    images = load_images(ImageSource("folder", folder), "test", (1, 4, 6))
    luma = 0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]
    assert abs(int(images.pixels[0, 0, 0, 0]) - luma) <= 1


def test_what_a_folder_may_lack(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_images(ImageSource("folder", tmp_path / "gone"), "train", (1, 4, 4))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="one per class"):
        load_images(ImageSource("folder", tmp_path / "empty"), "train", (1, 4, 4))
    (tmp_path / "empty" / "train" / "a").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        load_images(ImageSource("folder", tmp_path / "empty"), "train", (1, 4, 4))
    with pytest.raises(InputError, match="no folder test or testing"):
        load_images(ImageSource("folder", tmp_path / "empty"), "test", (1, 4, 4))


@pytest.mark.parametrize("content", [b"", b"GIF89a", png(GREY)[:40], b"\x89PNG\r\n" + b"\0" * 99])
def test_damaged_images_are_named(folder, content):
    (folder / "train" / "apple" / "1.png").write_bytes(content)
    with pytest.raises(InputError, match=r"not an image|is damaged"):
        load_images(ImageSource("folder", folder), "train", (3, 4, 4))


def test_a_small_file_that_claims_a_huge_image_is_not_decoded(folder):
    whole = bytearray(png(GREY))
    whole[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    whole[29:33] = struct.pack(">I", zlib.crc32(bytes(whole[12:29])))
    (folder / "train" / "apple" / "1.png").write_bytes(bytes(whole))
    with pytest.raises(InputError, match=r"60000 x 60000|not an image"):
        load_images(ImageSource("folder", folder), "train", (3, 4, 4))


# --- Parquet ------------------------------------------------------------------------------


def parquet(
    folder: Path,
    *,
    file: str = "train-00000-of-00001.parquet",
    image: str = "image",
    label: str = "label",
    names: list[str] | None = None,
    cells: list | None = None,
) -> ImageSource:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    cells = cells or [{"bytes": png(RED), "path": None}, {"bytes": png(GREY), "path": "x"}]
    table = pa.table({image: cells, label: list(range(len(cells)))})
    if names is not None:
        info = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / file)
    return ImageSource("parquet", folder)


@pytest.mark.parametrize("names", [["cat", "dog"], None])
@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label")])
def test_parquet_in_the_hugging_face_layout(tmp_path, names, image, label):
    source = parquet(tmp_path, image=image, label=label, names=names)
    images = load_images(source, "train", (3, 4, 6))
    assert images.classes == (tuple(names) if names else ("0", "1"))
    assert images.labels.tolist() == [0, 1]
    assert images.pixels[0, :, 0, 0].tolist() == list(RED)


def test_parquet_in_the_data_folder_and_in_parts(tmp_path):
    parquet(tmp_path / "data", file="test-00000-of-00002.parquet")
    parquet(tmp_path / "data", file="test-00001-of-00002.parquet")
    assert len(load_images(ImageSource("parquet", tmp_path), "test", (1, 4, 4))) == 4


def test_what_parquet_may_lack(tmp_path):
    with pytest.raises(InputError, match=r"no train\*.parquet"):
        load_images(ImageSource("parquet", tmp_path), "train", (1, 4, 4))
    with pytest.raises(InputError, match="no column 'image'"):
        load_images(parquet(tmp_path / "a", image="picture"), "train", (1, 4, 4))
    more = parquet(tmp_path / "b", names=["x", "y"], cells=[png(GREY)] * 3)
    with pytest.raises(InputError, match="row 2: label 2 is none of the classes 'x', 'y'"):
        load_images(more, "train", (1, 4, 4))
    cells = [{"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": "b"}]
    elsewhere = parquet(tmp_path / "c", cells=cells)
    with pytest.raises(InputError, match="not held as bytes"):
        load_images(elsewhere, "train", (1, 4, 4))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(InputError, match="not readable as parquet"):
        load_images(ImageSource("parquet", tmp_path / "d"), "train", (1, 4, 4))


# --- torchvision --------------------------------------------------------------------------


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_torchvision_data_sets_by_name(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 5), ("t10k", 2)):
        pictures = np.full((count, 28, 28), 77)
        idx(raw / f"{part}-images-idx3-ubyte", pictures)
        idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count))
    source = ImageSource("torchvision", tmp_path, "MNIST")
    images = load_images(source, "train", (3, 14, 14))
    assert images.pixels.shape == (5, 3, 14, 14)
    assert (images.pixels == 77).all()
    assert images.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(images.classes) == 10
    assert len(load_images(source, "test", (1, 28, 28))) == 2
    with pytest.raises(InputError, match="no validation split"):
        load_images(source, "validation", (1, 28, 28))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoSuchSet", "no data set 'NoSuchSet'"),
        ("os", "no data set"),
        (None, "no data set None"),
        ("FakeData", "has no splits"),
        ("CIFAR10", "CIFAR10: .*not found"),
    ],
)
def test_torchvision_data_sets_that_do_not_work(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        load_images(ImageSource("torchvision", tmp_path, name), "train", (3, 8, 8))


# --- What is done with them ---------------------------------------------------------------


def test_splits_are_disjoint_complete_and_the_same_for_a_seed():
    images = few()
    rest, held_out = images.split(20, seed=3)
    assert (len(rest), len(held_out)) == (40, 20)
    together = np.concatenate((rest.pixels, held_out.pixels)).reshape(60, -1)
    assert len(np.unique(together, axis=0)) == 60
    again = images.split(20, seed=3)[1]
    assert np.array_equal(again.pixels, held_out.pixels)
    assert not np.array_equal(images.split(20, seed=4)[1].pixels, held_out.pixels)


@pytest.mark.parametrize("count", [0, 60, 61])
def test_splits_that_leave_nothing_are_refused(count):
    with pytest.raises(InputError, match="cannot hold out"):
        few().split(count, seed=0)


def test_groups_relabel_and_leave_others_out():
    images = few()
    coarse = images.relabelled({"y": ["c"], "x": ["a"]})
    assert coarse.classes == ("y", "x")
    assert len(coarse) == 40
    assert np.array_equal(coarse.pixels[coarse.labels == 0], images.pixels[images.labels == 2])
    assert images.relabelled(None) is images


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"x": ["a", "nope"], "y": ["b"]}, "no class 'nope'; it has a, b, c"),
        ({"x": ["a"], "y": ["a"]}, "in two groups"),
    ],
)
def test_wrong_groups_are_refused(groups, message):
    with pytest.raises(InputError, match=message):
        few().relabelled(groups)


def test_normalised_images_have_mean_zero_and_deviation_one():
    images = few()
    mean, deviation = images.statistics
    levels = images.pixels / 255.0
    assert mean == pytest.approx(levels.mean(axis=(0, 2, 3)))
    assert deviation == pytest.approx(levels.std(axis=(0, 2, 3)))
    values = Normalization(mean, deviation)(torch.from_numpy(images.pixels))
    assert values.dtype == torch.float32
    assert values.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (values.std(dim=(0, 2, 3), correction=0) - 1.0).abs().max() < 1e-5


def test_a_constant_channel_is_not_divided_by_zero():
    flat = Images(np.full((2, 1, 2, 2), 9, np.uint8), np.array([0, 1]), ("a", "b"))
    values = Normalization(*flat.statistics)(torch.from_numpy(flat.pixels))
    assert torch.isfinite(values).all()


# --- Classes by name ----------------------------------------------------------------------


def folders(root: Path, **splits: list[str]) -> ImageSource:
    for split, names in splits.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            (root / split / name / "0.png").write_bytes(png(RED if name == "red" else GREY))
    return ImageSource("folder", root)


@pytest.mark.parametrize("litter", ["__MACOSX", ".ipynb_checkpoints", ".git", "@eaDir"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_folders_of_archivers_and_hidden_ones_are_no_classes(tmp_path, litter, split):
    source = folders(tmp_path, train=["grey", "red"], test=["grey", "red"])
    (tmp_path / split / litter).mkdir()
    (tmp_path / split / litter / "0.png").write_bytes(png(RED))
    (tmp_path / split / "red" / "._0.png").write_bytes(b"a resource fork, no image")
    for asked in ("train", "test"):
        images = load_images(source, asked, (3, 4, 6))
        assert images.classes == ("grey", "red")
        assert images.labels.tolist() == [0, 1]
        assert images.pixels[1, :, 0, 0].tolist() == list(RED)


@pytest.mark.parametrize(
    ("test", "named"),
    [
        (["red"], "test/grey"),
        (["blue", "grey", "red"], "test/blue"),
        (["Grey", "red"], "test/Grey"),
    ],
)
def test_other_classes_than_those_of_training_are_named(tmp_path, test, named):
    source = folders(tmp_path, train=["grey", "red"], test=test)
    with pytest.raises(InputError, match=f"{named}: no (such folder|class of the training)"):
        load_images(source, "test", (3, 4, 6))


def test_a_class_without_images_is_named(tmp_path):
    source = folders(tmp_path, train=["grey", "red"])
    (tmp_path / "train" / "red" / "0.png").rename(tmp_path / "train" / "red" / "0.txt")
    with pytest.raises(InputError, match="train/red: holds no image"):
        load_images(source, "train", (3, 4, 6))


def test_labels_follow_names_not_the_order_of_folders(tmp_path):
    source = folders(tmp_path, test=["grey", "red"])
    images = load_images(source, "test", (3, 4, 6))  # no training split is there
    assert images.numbered(("red", "grey")).labels.tolist() == [1, 0]
    assert images.numbered(("red", "grey")).classes == ("red", "grey")
    with pytest.raises(InputError, match="only in the data: 'red'; missing there: 'blue'"):
        images.numbered(("blue", "grey"))


def test_labels_of_parquet_follow_the_names_of_training(tmp_path):
    parquet(tmp_path, names=["cat", "dog"])
    source = parquet(tmp_path, file="test.parquet", names=["dog", "cat"])
    images = load_images(source, "test", (3, 4, 6))
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [1, 0]
    parquet(tmp_path, file="test.parquet", names=["dog", "cow"])
    with pytest.raises(InputError, match=r"test\.parquet: row 1: class 'cow' is none of"):
        load_images(source, "test", (3, 4, 6))


def test_parquet_without_names_may_lack_the_last_class(tmp_path):
    parquet(tmp_path, cells=[png(GREY)] * 3)
    source = parquet(tmp_path, file="test.parquet", cells=[png(GREY)] * 2)
    assert load_images(source, "test", (1, 4, 6)).classes == ("0", "1", "2")


@pytest.mark.parametrize("labels", [[0, None], [0, -1], [0.0, 1.0], ["cat", "dog"]])
def test_labels_that_are_no_numbers_of_classes(tmp_path, labels):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"image": [png(GREY)] * 2, "label": labels}), tmp_path / "train.parquet"
    )
    with pytest.raises(InputError, match=r"train\.parquet: column 'label' holds"):
        load_images(ImageSource("parquet", tmp_path), "train", (1, 4, 4))


def test_a_limit_takes_images_of_all_classes(tmp_path):
    images = Images(np.zeros((90, 1, 1, 1), np.uint8), np.repeat(np.arange(3), 30), ("a", "b", "c"))
    train, held_out = images.split(10, seed=0, limit=20)
    assert (len(train), len(held_out)) == (20, 10)
    assert set(train.labels) == {0, 1, 2}
    assert np.array_equal(held_out.labels, images.split(10, seed=0)[1].labels)


def test_a_digest_tells_pixels_labels_and_classes_apart():
    images = few()
    pixels = images.pixels.copy()
    pixels[-1, -1, -1, -1] ^= 1
    others = [
        Images(pixels, images.labels, images.classes),
        Images(images.pixels, images.labels[::-1].copy(), images.classes),
        Images(images.pixels, images.labels, ("a", "b", "d")),
        images.first(59),
    ]
    assert few().digest == images.digest
    assert len({images.digest, *(other.digest for other in others)}) == 5


# --- What lies in a folder ----------------------------------------------------------------


def test_links_that_leave_the_folder_are_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(png(RED))
    apple = folder / "train" / "apple"
    source = ImageSource("folder", folder)
    (apple / "9.png").symlink_to(apple / "0.png")  # inside: fine
    assert len(load_images(source, "train", (3, 4, 6))) == 7
    (apple / "9.png").unlink()
    (apple / "9.png").symlink_to(outside / "secret.png")
    with pytest.raises(InputError, match=r"apple/9\.png: a link that leads out of"):
        load_images(source, "train", (3, 4, 6))
    (apple / "9.png").unlink()
    (apple / "9.png").symlink_to(apple / "9.png")
    with pytest.raises(InputError, match=r"apple/9\.png: a link that leads nowhere"):
        load_images(source, "train", (3, 4, 6))
    (apple / "9.png").unlink()
    (folder / "train" / "pear").symlink_to(outside)
    with pytest.raises(InputError, match="train/pear: a link that leads out of"):
        load_images(source, "train", (3, 4, 6))


def test_links_of_parquet_files_are_held_inside_too(tmp_path):
    parquet(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").symlink_to(next((tmp_path / "elsewhere").iterdir()))
    with pytest.raises(InputError, match=r"train\.parquet: a link that leads out of"):
        load_images(ImageSource("parquet", tmp_path / "set"), "train", (1, 4, 4))


def test_what_would_be_left_out_unnoticed_is_refused(folder):
    source = ImageSource("folder", folder)
    apple = folder / "train" / "apple"
    for path, message in (
        (apple / "9.heic", r"9\.heic: this kind of image is not read"),
        (folder / "train" / "9.png", r"train/9\.png: lies in no class"),
    ):
        path.write_bytes(png(RED))
        with pytest.raises(InputError, match=message):
            load_images(source, "train", (3, 4, 6))
        path.unlink()
    (apple / "more").mkdir()
    with pytest.raises(InputError, match="apple/more: a folder inside of a class"):
        load_images(source, "train", (3, 4, 6))
    (apple / "more").rmdir()
    import os

    os.mkfifo(apple / "9.png")  # reading it would wait for ever
    with pytest.raises(InputError, match=r"9\.png: not a regular file"):
        load_images(source, "train", (3, 4, 6))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tiff", "webp"])
def test_a_cut_file_is_named_whatever_its_mode_and_format(folder, mode, suffix):
    rng = np.random.default_rng(0)
    file = folder / "train" / "apple" / f"9.{suffix}"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).convert(mode).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"apple/9\.{suffix}: (damaged|not an image)"):
        load_images(ImageSource("folder", folder), "train", (1 if mode == "L" else 3, 40, 40))
