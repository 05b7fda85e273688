"""What a report shows: results, evaluations and plans of one instance, read and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import code_opt
from code_opt.checker import CHANGED, Violation, check
from code_opt.desk import is_workbook
from code_opt.errors import InputError
from code_opt.instance import Instance
from code_opt.instance.digest import changed_parts
from code_opt.instance.files import is_instance_folder
from code_opt.instance.model import SCHEMA
from code_opt.registry import place_of
from code_opt.report.evaluation_files import EVALUATION_FILE, EvaluationTables, read_evaluation
from code_opt.report.reading import read_json
from code_opt.result import Result, load_result
from code_opt.text import plain
from code_opt.wording import PathWords

if TYPE_CHECKING:
    from code_opt.planning import Plan

_RESULT = "code-opt/result/"
_PLAN = "code-opt/plan/"


@dataclass(frozen=True)
class Shown:
    """One result with what the independent check found wrong with it."""

    label: str
    """Its method, or another name where two results have the same method."""
    file: str
    result: Result
    violations: tuple[Violation, ...]
    changed: tuple[str, ...] | None = ()
    """Parts of the instance that changed since; None where it cannot be told."""

    twins: tuple[str, ...] = ()
    """Labels of other results with the same assignment."""

    @property
    def name(self) -> str:
        """Its label, and those of results with the same assignment."""
        return " = ".join((self.label, *self.twins))

    @property
    def is_stale(self) -> bool:
        """Whether the only thing wrong with it is that the instance changed since."""
        return [violation.rule for violation in self.violations] == [CHANGED]


@dataclass(frozen=True)
class PlanFile:
    """One plan with the file that holds it."""

    path: Path
    plan: Plan
    changed: tuple[str, ...] | None = ()
    """Parts of the instance that changed since; None where it cannot be told."""


@dataclass(frozen=True)
class Material:
    """Everything that a report is made from."""

    instance: Instance
    results: tuple[Shown, ...] = ()
    evaluations: tuple[EvaluationTables, ...] = ()
    plans: tuple[PlanFile, ...] = ()
    sources: tuple[str, ...] = ()
    """Names of the files."""

    @cached_property
    def words(self) -> PathWords:
        """What writes the instance's paths."""
        return PathWords(self.instance)

    @cached_property
    def home(self) -> dict[str, str]:
        """Server of each block."""
        return {block.id: dnn.server for dnn in self.instance.dnns for block in dnn.blocks}

    @property
    def confirmed(self) -> bool:
        """Whether every result passes the independent check, and every plan is of this instance."""
        return not any(s.violations for s in self.results) and not any(
            p.changed for p in self.plans
        )


@dataclass(frozen=True)
class _Found:
    path: Path
    kind: str
    """instance | instance folder | result | plan | evaluation"""


def read_material(
    paths: Sequence[Path],
    instance_path: Path | None = None,
    changes: Mapping[str, object] | None = None,
) -> Material:
    """Read files and folders, and check every result against the instance.

    Args:
        paths: result files, plan files, evaluation folders (or their ``evaluation.json``),
            or folders that hold such files; an instance may stand among them. One that a
            folder holds is used where no other is named.
        instance_path: the instance, where it is not among ``paths``.
        changes: values of the instance by place, as in :meth:`code_opt.Instance.with_`.

    Raises:
        InputError: a file cannot be read or is none of these, there is not exactly one
            instance, or something is about another instance.
    """
    found = _find(paths)
    instances = [f.path for f in found if f.kind == "instance"]
    if not instances and instance_path is None:
        instances = [f.path for f in found if f.kind == "instance folder"]
    if instance_path is not None:
        instances = [p for p in instances if p.resolve() != instance_path.resolve()]
        if instance_path.suffix.lower() == ".json" and _kind(instance_path) == "result":
            raise InputError(
                f"--instance: {instance_path}: a result, not an instance; "
                "the order is: code-opt report RESULT... --instance INSTANCE"
            )
        instances.insert(0, instance_path)
    if not instances:
        raise InputError(
            "no instance: name the file of the instance that the results belong to with "
            "--instance, or among the files"
        )
    if len(instances) > 1:
        names = ", ".join(map(str, instances))
        raise InputError(f"several instances ({names}): a report is about one")
    instance = code_opt.load_instance(instances[0])
    if changes:
        instance = instance.with_(changes, source=f"{instances[0]} with changes")
    results = [(f.path, load_result(f.path)) for f in found if f.kind == "result"]
    evaluations = tuple(read_evaluation(f.path) for f in found if f.kind == "evaluation")
    plans = tuple(_load_plan(f.path, instance) for f in found if f.kind == "plan")
    about = [(path, result.instance) for path, result in results]
    about += [(e.path, e.instance) for e in evaluations]
    about += [(p.path, p.plan.instance) for p in plans]
    for path, name in about:
        if name != instance.name:
            raise InputError(
                f"{path}: about the instance {name!r}, not {instance.name!r} ({instances[0]})"
            )
    others = [f.path for f in found if f.kind not in ("instance", "instance folder")]
    if not others:
        raise InputError("nothing to show: name result files, evaluation folders or plan files")
    return Material(
        instance=instance,
        results=tuple(_label(results, instance)),
        evaluations=evaluations,
        plans=plans,
        sources=tuple(plain(p.name) for p in [instances[0], *others]),
    )


def _load_plan(path: Path, instance: Instance) -> PlanFile:
    from code_opt.planning import load_plan  # loads Pyomo: only where there is a plan

    plan = load_plan(path)
    return PlanFile(path, plan, _changed(plan.instance_digest, instance))


def _changed(digest: dict[str, str] | None, instance: Instance) -> tuple[str, ...] | None:
    parts = changed_parts(digest, instance)
    return None if parts is None else tuple(parts)


def _find(paths: Sequence[Path]) -> list[_Found]:
    """Return the files to read, each once, with what they hold."""
    found: dict[Path, _Found] = {}
    for path in paths:
        if path.is_dir():
            inside = [
                _Found(p, kind)
                for p in sorted(path.glob("*.json"))
                if (kind := _kind(p)) is not None and kind != "instance"
            ]
            if is_instance_folder(path) or is_workbook(path):
                inside.append(_Found(path, "instance folder"))
            if not inside:
                raise InputError(f"{path}: holds no result, evaluation or plan")
        else:
            kind = _kind(path)
            if kind is None:
                raise InputError(
                    f"{path}: not a result, a plan, an evaluation or an instance "
                    f"(a JSON file with a schema of code-opt)"
                )
            inside = [_Found(path, kind)]
        for one in inside:
            found.setdefault(one.path.resolve(), one)
    return list(found.values())


def _kind(path: Path) -> str | None:
    """Return what a file holds, None where it is none of ours.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    if path.suffix.lower() in {".yaml", ".yml"} or is_workbook(path):
        return "instance"
    data = read_json(path)
    if path.name == EVALUATION_FILE:
        return "evaluation"
    if not isinstance(data, dict):
        return None
    schema = data.get("schema")
    if schema == SCHEMA:
        return "instance"
    if isinstance(schema, str) and schema.startswith(_RESULT):
        return "result"
    if isinstance(schema, str) and schema.startswith(_PLAN):
        return "plan"
    return None


def _label(results: Sequence[tuple[Path, Result]], instance: Instance) -> list[Shown]:
    """Name the results, put them in order, and check each."""
    methods = Counter(result.method for _, result in results)
    taken: Counter[str] = Counter()
    named = []
    for path, result in results:
        label = result.method
        if methods[label] > 1:
            label = path.stem.removeprefix(f"{instance.name}.")
        taken[label] += 1
        if taken[label] > 1:
            label += f" ({taken[label]})"
        violations = tuple(check(result, instance))
        changed = _changed(result.instance_digest, instance)
        named.append(Shown(plain(label), plain(path.name), result, violations, changed))
    return sorted(named, key=lambda shown: place_of(shown.result.method))
