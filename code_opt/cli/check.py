"""The command ``check``: a result or a plan, recomputed from the instance alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import code_opt
from code_opt.cli.exits import ExitStatus
from code_opt.cli.loading import load_changed, load_result, plan_in
from code_opt.cli.options import Changes, InstanceArgument
from code_opt.cli.terminal import Console, print_line
from code_opt.cli.text import percent, plain
from code_opt.errors import InputError

if TYPE_CHECKING:
    from code_opt.instance import Instance
    from code_opt.result import Result


def check(
    result_path: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Result file, or file of a plan.")
    ],
    instance_path: InstanceArgument,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Certificate of solve: say which bound and gap it proves, without any solver.",
        ),
    ] = None,
    changes: Changes = None,
) -> ExitStatus:
    """Recompute everything in a result, or a plan, from the instance alone.

    An instance that changed since is told with what still holds. Exit status: 0 confirmed,
    1 not confirmed (of a changed instance never more than that), 2 bad input.
    """
    from code_opt.checker import CHANGED
    from code_opt.instance.digest import changed_parts
    from code_opt.wording import UNKNOWN_CHANGE, after_change

    found: Any = plan_in(result_path)
    is_plan = found is not None
    found = found if is_plan else load_result(result_path, "check RESULT INSTANCE")
    instance = load_changed(instance_path, changes)
    if is_plan and certificate is not None:
        raise InputError("--certificate: is of a result, not of a plan")
    if is_plan:
        violations = code_opt.check_plan(found.to_dict(), instance)
        kind, has_any, bound = f"plan {found.kind}", found.has_any, None
    else:
        violations = code_opt.check(found, instance)
        kind, has_any, bound = found.method, found.has_solution, found.bound
    # Of another instance everything differs: that is all there is to say.
    violations = [v for v in violations if v.rule == "instance-name"] or violations
    console = Console(highlight=False)
    changed = any(v.rule == CHANGED for v in violations)
    if not violations:
        what = "every figure and requirement" if has_any else "nothing to recompute"
        print_line(
            console,
            f"{plain(result_path)}: confirmed ({plain(kind)}, {found.status}; {what})",
        )
        if changed_parts(found.instance_digest, instance) is None:
            print_line(console, f"  {UNKNOWN_CHANGE}")
        if certificate is not None:
            return _certified(console, certificate, found, instance)
        return ExitStatus.DONE
    for violation in violations:
        print_line(
            console,
            f"{plain(violation.rule)}: {plain(violation.place)}: {plain(violation.message)}",
        )
    print_line(console, f"{plain(result_path)}: not confirmed, {_violations(len(violations))}")
    if changed:
        holds, lost = after_change(
            found.status,
            bound,
            found.gap,
            holds_anything=has_any,
            is_else_confirmed=len(violations) == 1,
        )
        print_line(console, f"  still holds: {holds}\n  not confirmed: {lost}")
    return ExitStatus.NOT_CONFIRMED


def _certified(console: Console, file: Path, result: Result, instance: Instance) -> ExitStatus:
    """Say what a certificate proves of a confirmed result."""
    from code_opt.certificate import certified_bound, load_certificate

    proven = certified_bound(load_certificate(file), result, instance)
    claimed = "no bound" if result.bound is None else _bound(result.bound, result.gap)
    if proven.bound is None:
        print_line(console, f"{plain(file)}: certifies no bound (claimed: {claimed})")
        return ExitStatus.DONE
    certified = _bound(proven.bound, proven.gap)
    print_line(console, f"{plain(file)}: certifies {certified} (claimed: {claimed})")
    print_line(console, f"  it rests on {', '.join(proven.heeded)}")
    without = ", ".join((*proven.left_out, "cuts and branching"))
    print_line(console, f"  it does without {without}")
    if not proven.is_contradicted:
        return ExitStatus.DONE
    print_line(console, f"  the value {result.value:.9g} lies beyond it: not confirmed")
    return ExitStatus.NOT_CONFIRMED


def _bound(bound: float, gap: float | None) -> str:
    told = "" if gap is None else f", a gap of {percent(gap, up=True)}"
    return f"the bound {bound:.9g}{told}"


def _violations(number: int) -> str:
    return "1 violation" if number == 1 else f"{number} violations"
