"""What a page is made of: sections of paragraphs, tables and figures, without any HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from code_opt.report.drawing import Drawing


@dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    text: str
    note: bool = False
    """Set smaller: how to read what stands near."""


@dataclass(frozen=True)
class Facts:
    """Named values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tile:
    """One large figure with what it is."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    """The figures that a reader in a hurry should see."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Callout:
    """Something that must not be overlooked."""

    heading: str
    texts: tuple[str, ...]
    level: Literal["good", "bad", "risk", "note"] = "bad"


@dataclass(frozen=True)
class Run:
    """Blocks of a path that follow each other on one server; no server: input or output."""

    text: str
    server: str | None
    learned: bool = False
    """The step into it is a learned connection."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str = ""
    tone: Literal["", "good", "bad", "strong", "muted"] = ""
    span: int = 1
    """Rows that it stands for; 0: a cell above stands here, too."""
    share: float | None = None
    """Drawn as a bar of this share (0 to 1) beside the text."""
    full: float = 1.0
    """Share that may be used: the bar has a mark there, and another colour from there on."""
    runs: tuple[Run, ...] = ()
    """A path in place of a text."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    heading: str
    unit: str = ""
    figures: bool = False
    """Aligned to the right, digits of equal width."""


@dataclass(frozen=True)
class Row:
    """A row of a table; the first cell names it."""

    cells: tuple[Cell, ...]
    task: int | None = None
    """Task of the page that the row is about."""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table with what it shows in one line."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    keys: int = 1
    """Columns from the left that name a row."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption and a name for the file that ``--plots`` makes of it."""

    name: str
    drawing: Drawing
    caption: str
    detail: str = ""


@dataclass(frozen=True)
class Pair:
    """Blocks beside each other where there is room for them, else below each other."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Side:
    """Figures side by side to be compared, on a narrow screen too."""

    blocks: tuple[Block, ...]
    label: str


@dataclass(frozen=True)
class More:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: tuple[Block, ...]
    task: int | None = None
    aside: bool = False
    """Stays closed on paper."""


@dataclass(frozen=True)
class Listing:
    """Many blocks in a box of limited height."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Chooser:
    """Chooses a task of the page: shown in figures and tables, and told in a line."""

    tasks: tuple[Choice, ...]
    summary: tuple[str, ...] = ()
    """Told where none is chosen."""
    filters: bool = False
    """So many tasks that they are searched for by name."""


@dataclass(frozen=True)
class Choice:
    """One task to choose."""

    index: int
    name: str
    lines: tuple[str, ...]
    """What each method does with it."""


Block = (
    Paragraph
    | Facts
    | Tiles
    | Items
    | Callout
    | Table
    | Figure
    | Side
    | Pair
    | More
    | Listing
    | Chooser
)


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading; left out where it has no blocks."""

    id: str
    heading: str
    blocks: tuple[Block, ...]
    settings: str = ""
    """What was asked: growth, limits, what may fail."""


@dataclass(frozen=True)
class Chapter:
    """Sections under a common heading, which begin a new sheet of paper."""

    heading: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    """What it is about, above the headline."""
    headline: str
    """What it says, in one line."""
    introduction: tuple[Block, ...]
    """The first screen."""
    chapters: tuple[Chapter, ...]
    sources: tuple[str, ...]
    """Names of the files that it was made from."""
    version: str

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections of all chapters."""
        return tuple(section for chapter in self.chapters for section in chapter.sections)


def figures(page: Page, single_tasks: bool = True) -> list[Figure]:
    """Return all figures of a page in order, those of single tasks among them or not."""
    found: list[Figure] = []

    def visit(blocks: Sequence[Block]) -> None:
        for block in blocks:
            if isinstance(block, Figure):
                found.append(block)
            elif isinstance(block, More) and block.task is not None and not single_tasks:
                continue
            elif isinstance(block, Side | Pair | More | Listing):
                visit(block.blocks)

    visit(page.introduction)
    for section in page.sections:
        visit(section.blocks)
    return found


def text_cells(*texts: str) -> tuple[Cell, ...]:
    """Return plain cells."""
    return tuple(Cell(text) for text in texts)
