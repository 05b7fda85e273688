"""An earlier assignment, of which a limited number of tasks may leave their paths.

The limit is a resource like the memory of a server: a path other than the previous one of its
task takes one of the K changes. So every program, search and bound knows it without more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from code_opt.instance.model import Connection, Instance
from code_opt.paths.resources import ResourceKind


@dataclass(frozen=True)
class Previous:
    """The previous paths that can still be taken, and how many of them may be left."""

    paths: Mapping[str, tuple[str, ...]]
    """Block ids in order by task id, of the tasks whose previous path is still one of theirs."""
    max_changes: int | None
    """K: most of these tasks that may leave their path; None for any number."""
    source: Instance
    """Has the connections of the previous paths, whatever a method leaves out."""
    start: Mapping[str, Sequence[str]] | None = None
    """A known assignment with few enough changes, from which searches start, too."""

    @property
    def is_limiting(self) -> bool:
        """Whether fewer tasks may leave their paths than have one."""
        return self.max_changes is not None and self.max_changes < len(self.paths)

    @cached_property
    def _connections(self) -> dict[str, dict[tuple[str, str], Connection]]:
        return {
            task.id: {(c.source, c.target): c for c in task.connections}
            for task in self.source.tasks
        }

    def connections(self, task: str) -> Mapping[tuple[str, str], Connection]:
        """Return the connections of a task by their ends."""
        return self._connections[task]


class PathChanges(ResourceKind):
    """Changes of paths: each task that leaves its previous path takes one."""

    name, unit, records = "limit", "changes", ""
    is_rate = False

    def capacity(self, record: Previous) -> float | None:
        """See :class:`ResourceKind`."""
        return None if record.max_changes is None else float(record.max_changes)

    def key_of(self, record: Previous) -> tuple[str, ...]:  # noqa: ARG002
        """See :class:`ResourceKind`."""
        return ("max_changes",)


PATH_CHANGES = PathChanges()
"""Only there where changes are limited."""
