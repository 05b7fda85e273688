"""A recommendation in plain sentences, for pages and workbooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from code_opt.planning.columns import as_given, money
from code_opt.planning.plan import Plan
from code_opt.planning.recommendation import Recommendation, ServerFailure
from code_opt.result import TOLERANCE
from code_opt.text import percent, share

MOST_NAMES = 4
"""Services that a sentence names."""
NO_RISK = "no failure, no guess"
"""Heading of a risk that is none."""


class Statement(NamedTuple):
    """A sentence under a short heading."""

    heading: str
    text: str


def price(found: Recommendation, value: float) -> str:
    """Return money with the currency of the instance, where it names one."""
    currency = found.instance.currency
    return f"{money(value)} {currency}" if currency else money(value)


def period_name(found: Recommendation, number: int) -> str:
    """Return the name of a period of the plan, by its number from 1."""
    return name_of_period(found.plan, number)


def name_of_period(plan: Plan, number: int) -> str:
    """Return the name of a growth period of a plan, by its number from 1."""
    names = plan.settings.get("period_names")
    if isinstance(names, tuple) and number <= len(names):
        return str(names[number - 1])
    return f"period {number}"


def some(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Return names in a sentence: all of a few, else the first ones and how many more."""
    shown = list(names) if len(names) <= most + 1 else list(names[:most])
    rest = len(names) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def counted(number: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def headline(found: Recommendation) -> str:
    """Return what is recommended, in one line."""
    if found.cost is None:
        if found.status == "infeasible":
            return "No purchase serves the demand within all limits"
        return "No plan was found in the time that was given"
    less = ""
    if found.saved and found.alone:
        which = "less" if found.saved > 0.0 else "more"
        less = f", {percent(found.saved / found.alone)} {which} than without coordination"
    if not found.units:
        return f"Buy nothing: what is there serves all demand{less}"
    places = len({purchase.place for purchase in found.purchases})
    periods = len({purchase.period for purchase in found.purchases})
    when = f" in {periods} periods" if periods > 1 else ""
    where = found.purchases[0].place if places == 1 else f"{places} places"
    return (
        f"Buy {counted(found.units, 'unit')} at {where}{when} for {price(found, found.cost)}{less}"
    )


def where(found: Recommendation) -> str:
    """Return where and when units are bought, the most expensive places first."""
    units: dict[str, int] = {}
    money_at: dict[str, float] = {}
    when: dict[int, int] = {}
    for purchase in found.purchases:
        units[purchase.place] = units.get(purchase.place, 0) + purchase.units
        money_at[purchase.place] = money_at.get(purchase.place, 0.0) + purchase.cost
        if purchase.period is not None:
            when[purchase.period] = when.get(purchase.period, 0) + purchase.units
    places = sorted(units, key=lambda place: (-money_at[place], place))
    text = f"Where: {some([f'{place} {units[place]:,}' for place in places])}."
    if len(when) == 1:
        text += f" When: {period_name(found, *when)}."
    elif when:
        steps = [f"{number:,} in {period_name(found, n)}" for n, number in sorted(when.items())]
        text += f" When: {some(steps)}."
    return text


def comparison(found: Recommendation) -> str:
    """Return what the same demand costs without coordination."""
    if found.alone is not None:
        more = ", without thought of failures" if found.alone_ignores_failures else ""
        return f"Without coordination: {price(found, found.alone)}{more}."
    if found.alone_status is None:
        return (
            "No plan without coordination is among the files, so nothing says what is saved "
            "(plan --least-cost with the same growth and loss)."
        )
    if found.alone_status == "infeasible":
        return "Without coordination the demand cannot be served, whatever is bought."
    return "No plan without coordination was found in time: what is saved is not known."


def case(found: Recommendation) -> str:
    """Return what was asked: growth, limit of loss, what may fail."""
    growths = [as_given(g) for g in found.growth]
    parts = []
    if len(growths) > 1:
        names = [period_name(found, n) for n in (1, len(growths))]
        parts.append(
            f"growth {growths[0]} ({names[0]}) to {growths[-1]} ({names[1]}), "
            f"{len(growths)} periods"
        )
    elif growths:
        parts.append(f"growth {growths[0]}")
    parts.append(loss_limit(found.max_loss))
    variant = found.case.get("variant")
    if variant is not None:
        parts.append(f"uncertain demand, planned for {VARIANTS.get(variant, variant)}")
    if found.demand_periods > 1:
        parts.append(f"demand by {found.demand_periods} periods")
    if found.survives:
        parts.append(f"any one server may fail ({kept(found)} kept)")
    return ", ".join(parts)


def kept(found: Recommendation) -> str:
    """Return what is kept while a server is down."""
    return "every floor" if found.keep is None else f"{share(found.keep)} of every demand"


VARIANTS = {
    "mean": "the mean demand",
    "expected": "a share of the expected demand",
    "worst": "a share of the demand in every scenario",
    "every": "all demand in every scenario",
}


def loss_limit(points: float | None) -> str:
    """Return a limit of the average accuracy lost in words."""
    if points is None:
        return "no limit on the accuracy lost"
    if points == 0:
        return "no accuracy lost"
    return f"at most {as_given(points)} {'point' if points == 1 else 'points'} of accuracy lost"


def risk(found: Recommendation) -> Statement:
    """Return the main risk: the failure that costs most, else what nobody measured."""
    worst = found.failures[0] if found.failures else None
    covered = worst is None or (not worst.lost and (_served(worst) >= 1.0 or worst.floors_kept))
    if worst is not None and not covered:
        return Statement(f"if {worst.server} fails", failure(found, worst))
    if found.measure_first:
        names = some([one.task for one in found.measure_first])
        return Statement(
            "accuracies that nobody measured",
            f"{names}: the accuracy is {unmeasured(found)}. Measure before buying.",
        )
    return Statement(
        NO_RISK, "No failure of one server stops a service, and every accuracy is measured."
    )


def unmeasured(found: Recommendation) -> str:
    """Return what accuracies are that nobody measured."""
    return "predicted or guessed" if found.guessed else "predicted"


def by_drops(found: Recommendation) -> str:
    """Return what guessed drops decide: the cost, and what is saved, for low to high ones."""
    parts = []
    for one in found.by_drops:
        if one.cost is None:
            parts.append(f"no plan where drops are {one.drops}")
            continue
        saved = "" if one.saved is None else f" ({price(found, one.saved)} saved)"
        parts.append(f"{price(found, one.cost)}{saved} where drops are {one.drops}")
    return f"What the guessed drops decide: {'; '.join(parts)}." if parts else ""


def _served(one: ServerFailure) -> float:
    return one.served_fixed if one.served_rerouted is None else one.served_rerouted


def failure(found: Recommendation, one: ServerFailure) -> str:
    """Return what the failure of a server does, the services by name."""
    if not one.hit and not one.lost:
        return "No service notices."
    parts = []
    if one.lost:
        stop = "stops" if len(one.lost) == 1 else "stop"
        parts.append(f"{some(one.lost)} {stop}, whatever is bought: no path avoids it.")
    others = [task for task in one.hit if task not in one.lost]
    if one.served_rerouted is not None:
        parts.append(f"{share(one.served_rerouted)} of the demand is served after re-routing.")
    elif others and one.floors_kept:
        move = "moves to a backup path" if len(others) == 1 else "move to backup paths"
        parts.append(f"{some(others)} {move}; {kept(found)} is kept.")
    elif others:
        stop = "stops" if len(others) == 1 else "stop"
        what = "" if one.lost else f" ({share(1.0 - one.served_fixed)} of the demand)"
        parts.append(f"{some(others)} {'also ' if one.lost else ''}{stop} until re-routed{what}.")
        if found.failures_growth is None:
            parts.append("Whether others can take over was not planned for.")
        else:
            growth = as_given(found.failures_growth)
            parts.append(f"Re-routing was planned for at growth {growth} alone.")
    return " ".join(parts)


def accuracy(found: Recommendation) -> list[str]:
    """Return what the recommendation costs in accuracy."""
    if found.lost_points is None:
        return ["The plan does not tell its average accuracy."]
    texts = []
    lost = round(found.lost_points, 2)
    limit = loss_limit(found.max_loss)
    if lost > 0.0:
        texts.append(f"The average accuracy falls by {lost:.2f} points ({limit}).")
    elif lost < 0.0:
        texts.append(f"The average accuracy rises by {-lost:.2f} points ({limit}).")
    else:
        texts.append(f"The average accuracy stays as it is ({limit}).")
    worst = sorted((s for s in found.services if s.lost_points > 0.0), key=lambda s: -s.lost_points)
    if worst:
        names = some([f"{s.task} ({s.lost_points:.2f} points)" for s in worst])
        texts.append(f"Most is lost by {names}.")
    number = len(found.predicted)
    if number:
        texts.append(
            f"{number} of {counted(len(found.services), 'accuracy', 'accuracies')} in use "
            f"{'is' if number == 1 else 'are'} {unmeasured(found)}, not measured."
        )
    return texts


def limits(found: Recommendation) -> list[str]:
    """Return which limits are kept."""
    texts = []
    limited = found.limited
    if limited and not found.late:
        nearest = limited[0]
        near = 100.0 * (nearest.limited_time or 0.0) / (nearest.latency_limit or 1.0)
        loaded = sum(s.percentile is not None for s in limited)
        texts.append(
            f"Latency: {len(limited)} of {counted(len(limited), 'limit')} kept, {loaded} of them "
            f"under load; nearest {nearest.task}, at {near:.0f} % of its limit."
        )
        if loaded < len(limited):
            texts.append("Limits without a percentile hold without waits (--latency-percentile).")
    elif limited:
        texts.append(f"Limits of latency are missed by {some([s.task for s in found.late])}.")
    else:
        texts.append("No service has a limit of latency.")
    floors = [s for s in found.services if s.least_accuracy > 0.0]
    if floors:
        number = len(floors)
        texts.append(f"Least accuracies of single services: {number} of {number} kept.")
    if found.utilizations:
        fullest = found.utilizations[0]
        texts.append(
            f"Fullest under load: {fullest.place}, {share(fullest.share)} in use; up to "
            f"{share(fullest.sold)} may be."
        )
    return texts


def assumptions(found: Recommendation) -> list[Statement]:
    """Return what the recommendation takes for granted."""
    instance, settings = found.instance, found.plan.settings
    known = sum(task.demand is not None for task in instance.tasks)
    demand = f"{known} of {counted(len(instance.tasks), 'service')} state one"
    filled = settings.get("demand")
    if known < len(instance.tasks) and isinstance(filled, int | float):
        demand += f"; the others, or their groups, {as_given(filled)}/s"
    hours = "one demand for all hours: it must be that of the busiest hour"
    if found.plan.kind == "scenarios":
        hours = "by scenario, each with its probability"
    elif found.demand_periods > 1:
        hours = f"demand by {found.demand_periods} periods, all of them served"
    headroom = found.headroom
    spare = "differs by server" if headroom is None else share(headroom) if headroom else "none"
    predicted = len(found.predicted)
    return [
        Statement("Date of the data", "not stated"),
        Statement("Demand", demand),
        Statement("Hours", hours),
        Statement("Growth", ", ".join(map(as_given, found.growth)) or "not stated"),
        Statement("Accuracy", loss_limit(found.max_loss)),
        Statement(
            "Predicted accuracies",
            f"{predicted} of {len(found.services)} in use" if predicted else "none in use",
        ),
        Statement("Guessed drops", "none" if not instance.has_guesses else
                  f"typical ones where nobody knows, for {counted(len(found.guessed), 'service')}"),
        Statement("Headroom", f"{spare} of the servers' time stays unsold on purpose"
                  if headroom else f"{spare}: servers may be used in full"
                  if headroom is not None else spare),
        Statement("Failures", f"any one server may fail: {kept(found)} is kept" if found.survives
                  else "not planned for"),
        Statement("Currency", instance.currency or "not stated: amounts are in that of the prices"),
        Statement("Proof", proof(found)),
    ]  # fmt: skip


def proof(found: Recommendation) -> str:
    """Return what is proven of the cost."""
    if found.cost is None:
        return "proven: cannot be met at any size" if found.status == "infeasible" else "none"
    if found.gap is None:
        return "the cost is not proven"
    if found.gap <= TOLERANCE:
        return "proven: no plan costs less"
    return f"proven: no plan costs less by more than {percent(found.gap, up=True)}"
