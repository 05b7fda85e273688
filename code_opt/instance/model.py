"""Typed, immutable instances: what a file holds, in memory.

Loading never repairs: a value is taken as it stands or refused. To change an instance, make
another one (:meth:`Instance.with_`, :meth:`Instance.replace`). The names of the records and
constants are those of :mod:`code_opt.instance.records`, offered here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from code_opt.instance.places import changed
from code_opt.instance.records import (
    BYTES_PER_PARAMETER,
    IDENTITY,
    INPUT,
    OUTPUT,
    SCHEMA,
    Alternative,
    Block,
    Connection,
    Dnn,
    Exponential,
    GivenPath,
    Identifier,
    Link,
    Logistic,
    MeasuredPath,
    Power,
    Record,
    Reward,
    Server,
    Shape,
    Task,
)
from code_opt.instance.rules import parse
from code_opt.instance.tables import from_tables, to_tables
from code_opt.text import html_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BYTES_PER_PARAMETER",
    "IDENTITY",
    "INPUT",
    "OUTPUT",
    "SCHEMA",
    "Alternative",
    "Block",
    "Connection",
    "Dnn",
    "Exponential",
    "GivenPath",
    "Identifier",
    "Instance",
    "Link",
    "Logistic",
    "MeasuredPath",
    "Power",
    "Record",
    "Reward",
    "Server",
    "Shape",
    "Task",
    "parse_instance",
]


class Instance(Record):
    """One problem: servers, links, DNNs, tasks and the reward.

    Built by :func:`code_opt.load_instance`, :meth:`from_tables` or
    :meth:`model_validate`; the first two also check all cross-references.
    """

    schema_: Literal["code-opt/instance/1"] = Field(alias="schema")
    name: str = Field("", max_length=200)
    description: str = ""
    bundle: str | None = Field(
        None, description="folder of networks and adapters, relative to the file"
    )
    currency: str | None = Field(
        None, max_length=20, description="currency of all prices, shown beside them"
    )
    servers: tuple[Server, ...] = Field(min_length=1, strict=False)
    links: tuple[Link, ...] = Field((), strict=False)
    dnns: tuple[Dnn, ...] = Field(min_length=1, strict=False)
    tasks: tuple[Task, ...] = Field(min_length=1, strict=False)
    reward: Reward = Field(default_factory=Reward)

    def replace(self, **changes: Any) -> Instance:
        """Return a checked copy with the given fields replaced.

        Raises:
            InstanceError: something is wrong; its ``problems`` lists everything at once.
        """
        return parse_instance(self.to_dict() | changes)

    def with_max_utilization(self, share: float | None) -> Instance:
        """Return a copy in which servers that say nothing sell this share of their time.

        Args:
            share: in (0, 1]; None changes nothing.
        """
        if share is None:
            return self
        servers = tuple(
            server.model_copy(update={"max_utilization": share})
            if server.max_utilization is None
            else server
            for server in self.servers
        )
        return self.model_copy(update={"servers": servers})

    @property
    def has_guesses(self) -> bool:
        """Whether any drop is a guess."""
        return any(c.is_guessed for task in self.tasks for c in task.connections)

    def with_drops(self, end: Literal["low", "high"]) -> Instance:
        """Return a copy in which every guessed drop is at one end of its range."""
        key = f"drop_{end}"
        tasks = tuple(
            task.model_copy(
                update={
                    "connections": tuple(
                        c.model_copy(update={"drop": getattr(c, key)}) if c.is_guessed else c
                        for c in task.connections
                    )
                }
            )
            for task in self.tasks
        )
        return self.model_copy(update={"tasks": tasks})

    def with_(self, changes: Mapping[str, Any], source: str = "instance") -> Instance:
        """Return a checked copy with values changed at any depth.

        Args:
            changes: values by place: ``{"reward.accuracy.exponent": 4, "tasks[faces].floor": 2,
                "servers[*].flops": 1e10}``. Brackets hold an id, the ends of a link or connection
                (``links[a->b]``), an index from 0, or ``*`` for all entries; an id that looks
                like an index is taken as an id.
            source: what is changed, for messages.

        Raises:
            InstanceError: something is wrong; its ``problems`` lists everything at once.
        """
        data = self.to_dict()
        return parse(Instance, data, source, earlier=changed(data, changes))

    def __repr__(self) -> str:
        return f"<Instance {self.name!r}: {', '.join(self._counts())}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the tasks and servers as HTML, for notebooks."""
        native = {dnn.id: dnn.server for dnn in self.dnns}
        columns = ["task", "network", "server", "accuracy", "demand [1/s]", "floor [1/s]"]
        rows = [[t.id, t.dnn, native.get(t.dnn), t.accuracy, t.demand, t.floor] for t in self.tasks]
        title = f"Instance {self.name or 'without a name'}: {', '.join(self._counts())}"
        return html_table(title, columns, rows)

    def _counts(self) -> list[str]:
        """Return how many servers, links, networks, tasks and connections there are."""
        connections = sum(len(task.connections) for task in self.tasks)
        return [
            f"{n:,} {word if n == 1 else word + 's'}"
            for n, word in (
                (len(self.servers), "server"),
                (len(self.links), "link"),
                (len(self.dnns), "network"),
                (len(self.tasks), "task"),
                (connections, "connection"),
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; :func:`parse_instance` turns it back into an equal instance."""
        return self.model_dump(mode="json", by_alias=True)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the instance as pandas tables, one per CSV file of the folder format."""
        return to_tables(self.to_dict())

    @staticmethod
    def from_tables(tables: Mapping[str, pd.DataFrame]) -> Instance:
        """Build an instance from tables shaped like those of :meth:`tables`.

        Missing values (None, NaN, NA) and missing columns stand for defaults; so do missing
        tables other than ``servers``, ``dnns``, ``blocks`` and ``tasks``.

        Raises:
            InstanceError: something is wrong; its ``problems`` lists everything at once.
        """
        return from_tables(Instance, tables)


def parse_instance(data: Mapping[str, Any], source: str = "instance") -> Instance:
    """Build an instance from plain data, as in a file, and check all its rules.

    Args:
        data: the fields of an instance (`docs/format.md`); lists or tuples of objects.
        source: what the data came from, for messages.

    Raises:
        InstanceError: something is wrong; its ``problems`` lists everything at once.
    """
    return parse(Instance, data, source)
