"""Which validation images measured paths answer right: kept in the bundle, one bit each.

``answers.json`` lies in the bundle that an instance names; the SHA-256 of the file stands in the
bundle's manifest. Reading it takes neither PyTorch nor images. Tasks whose validation images are
the same ones share a *draw*, so that they can be split together.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from code_opt.errors import InputError
from code_opt.files import read_text
from code_opt.instance import Instance
from code_opt.instance.files import bundle_folder
from code_opt.instance.model import Record

ANSWERS = "answers.json"
"""Name of the file in the bundle."""
MANIFEST = "manifest.json"
_MOST_IMAGES = 10**7
_ROUNDING = 1e-9

BoolArray = npt.NDArray[np.bool_]
Blocks = tuple[str, ...]


def packed(answers: BoolArray) -> str:
    """Return right (1) and wrong (0) answers, eight to a byte, in base64."""
    return base64.b64encode(np.packbits(answers).tobytes()).decode("ascii")


def unpacked(text: str, images: int) -> BoolArray:
    """Return the answers to so many images from :func:`packed`, shape (images,).

    Raises:
        ValueError: the text holds another number of images.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from None
    if len(data) != (images + 7) // 8:
        raise ValueError(f"{len(data)} bytes, {images} images need {(images + 7) // 8}")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=images).astype(np.bool_)


@dataclass(frozen=True)
class TaskAnswers:
    """What is known of one task."""

    draw: str
    """Tasks with the same name of the draw were measured on the same images."""
    is_asked: BoolArray
    """Which images of the draw the task answers (others are of none of its classes), shape (n,)."""
    native: BoolArray
    """Right answers of the native path, of the images that the task answers."""
    paths: Mapping[Blocks, BoolArray]
    """The same of every measured path."""


Answers = Mapping[str, TaskAnswers]
"""By the task's id."""


class _PathRecord(Record):
    blocks: tuple[str, ...] = Field(min_length=1, strict=False)
    right: str


class _TaskRecord(Record):
    id: str
    draw: str
    images: Annotated[int, Field(ge=1, le=_MOST_IMAGES)]
    """Of the draw."""
    asked: str
    native: str
    paths: tuple[_PathRecord, ...] = Field(strict=False)


class _File(Record):
    schema_: Literal["code-opt/answers/1"] = Field(alias="schema")
    tasks: tuple[_TaskRecord, ...] = Field(strict=False)


def answers_text(answers: Answers) -> str:
    """Return the text of the file."""
    data = {
        "schema": "code-opt/answers/1",
        "tasks": [
            {
                "id": task,
                "draw": one.draw,
                "images": len(one.is_asked),
                "asked": packed(one.is_asked),
                "native": packed(one.native),
                "paths": [
                    {"blocks": list(blocks), "right": packed(right)}
                    for blocks, right in sorted(one.paths.items())
                ],
            }
            for task, one in answers.items()
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def read_answers(folder: Path) -> Answers | None:
    """Return the answers that a bundle holds, None where it holds none.

    Raises:
        InputError: a file is missing, damaged or not what the manifest's checksum says.
    """
    try:
        sums = json.loads(read_text(folder / MANIFEST))["sha256"]
        wanted = sums.get(ANSWERS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{folder / MANIFEST}: is no manifest of a bundle") from None
    if wanted is None:
        return None
    path = folder / ANSWERS
    text = read_text(path)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != wanted:
        raise InputError(
            f"{path}: damaged or replaced: its SHA-256 is {found}, that in {MANIFEST} is {wanted}"
        )
    try:
        return {task.id: _task(task) for task in _File.model_validate(json.loads(text)).tasks}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {place}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None


def _task(record: _TaskRecord) -> TaskAnswers:
    try:
        is_asked = unpacked(record.asked, record.images)
        count = int(is_asked.sum())
        return TaskAnswers(
            record.draw,
            is_asked,
            unpacked(record.native, count),
            {path.blocks: unpacked(path.right, count) for path in record.paths},
        )
    except ValueError as error:
        raise ValueError(f"task {record.id!r}: {error}") from None


def load_answers(instance: Instance, path: Path) -> Answers:
    """Return the answers behind the accuracies of an instance.

    Args:
        instance: the instance.
        path: its file or folder, which the bundle lies beside.

    Raises:
        InputError: there are none, or they are not those of the instance's measured paths.
    """
    folder = bundle_folder(instance, path)
    if folder is None:
        raise InputError(
            f"{path}: names no bundle, and nothing else tells which validation images its paths "
            "answer right"
        )
    answers = read_answers(folder)
    if answers is None:
        raise InputError(
            f"{folder}: holds no {ANSWERS} (right and wrong answers of measured paths): profile "
            "once more, since an older version made it"
        )
    for task in instance.tasks:
        _compare(task, answers.get(task.id), folder / ANSWERS)
    return answers


def _compare(task: Any, answers: TaskAnswers | None, path: Path) -> None:
    """Refuse answers that are not those behind a task's accuracies."""
    if answers is None:
        raise InputError(f"{path}: no answers of task {task.id!r}")
    rows: Sequence[tuple[str, float, BoolArray | None]] = [
        ("the native path", task.accuracy, answers.native),
        *(
            (" > ".join(one.blocks), one.accuracy, answers.paths.get(one.blocks))
            for one in task.measured_paths
        ),
    ]
    for name, accuracy, right in rows:
        if right is None:
            raise InputError(f"{path}: task {task.id!r}: no answers of {name}")
        if abs(float(right.mean()) - accuracy) > _ROUNDING:
            raise InputError(
                f"{path}: task {task.id!r}: {name} answers {float(right.mean()):.9g} of the images "
                f"right, the instance says {accuracy:.9g}"
            )
