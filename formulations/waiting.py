"""Wait scales in the path formulation: each station chooses one level of a menu.

A level is an interval of wait scales g, at a prefactor C. Effective times fall with g and waits
grow with it, so with (1) and (3) at the upper end of the chosen level, and (2) and the scales of
earlier stations in (3) at the lower end, the program is a relaxation of the choice of any g
whatever: its bound holds for all of them (MODEL.md, *Waiting*).

Levels are nested: what fits at a small scale fits at every larger one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyomo.core as pyo

from formulations.data import LimitedPath, PathData, StationLevels, WaitingData
from formulations.parts import weighted

MOST_TIMES = 30.0
"""A path that counts more than so many times its device time at a level has its rate bounded by
a row of its own there, and counts that much in the station's: so no big-M is larger."""

Terms = Callable[[int], list[tuple[float, Any]]]
"""The rate r[p] as pairs of coefficient and variable."""


def waiting(model: pyo.ConcreteModel, data: PathData, levels: WaitingData, rate: Terms) -> None:
    """Add levels, the load at each, and the limits of percentiles."""
    level_variables(model, levels)
    one_level_per_station(model, levels)
    load_at_level(model, data, levels, rate)
    level_suits_paths(model, data.task_of, levels)
    waits_fit_limit(model, levels)
    level_suits_later_jobs(model, levels)
    bursts_at_level(model, levels, rate)
    if data.goal.objective == "latency":
        wait_at_level(model, data, levels)
    model.loops = pyo.ConstraintList()


def level_variables(model: pyo.ConcreteModel, levels: WaitingData) -> None:
    """z[s,k] in {0, 1}: station s has a scale of level k."""
    model.level = pyo.Var(
        [(s, k) for s, station in enumerate(levels.stations) for k in range(len(station.lower))],
        domain=pyo.Binary,
    )


def one_level_per_station(model: pyo.ConcreteModel, levels: WaitingData) -> None:
    """sum over k: z[s,k] = 1."""
    model.one_level_per_station = pyo.Constraint(
        range(len(levels.stations)),
        rule=lambda m, s: (
            1.0,
            weighted(
                [1.0] * len(levels.stations[s].lower),
                [m.level[s, k] for k in range(len(levels.stations[s].lower))],
            ),
            1.0,
        ),
    )


def load_at_level(
    model: pyo.ConcreteModel, data: PathData, levels: WaitingData, rate: Terms
) -> None:
    """sum over p: e[p,k] r[p] <= sum over j up to k: z[j] + sum over j beyond: M[k,j] z[j].

    For every upper end but the last, e being the effective times there; j is up to k where its
    upper end is no larger. Where a level j beyond is chosen, the load at j bounds that at k by
    M[k,j], the largest e[p,k] / e[p,j]; paths whose limit rules j out are 0 then and do not count.
    Paths whose limit rules out all levels beyond k need no M:

        sum over these p: e[p,k] r[p] <= sum over j up to k: z[j]

    A path whose e[p,k] is more than ``MOST_TIMES`` its device time has a row of its own,
    r[p] <= R[p] (1 - Z) + Z / e[p,k] with Z that sum, and counts ``MOST_TIMES`` its time above.
    Where its rate is given (R = f > 0), more than 1 / f is what the row of its own rules out.
    """
    model.load_at_level = pyo.ConstraintList()
    model.limited_load_at_level = pyo.ConstraintList()
    model.rate_at_level = pyo.ConstraintList()
    allowed = allowed_levels(levels)
    for s, station in enumerate(levels.stations):
        last = len(station.lower) - 1
        z = [model.level[s, k] for k in range(last + 1)]
        for k, upto in upper_ends(station):
            pairs: list[tuple[float, Any]] = []
            limited: list[tuple[float, Any]] = []
            ratio = [1.0] * (last + 1)
            for path, counts in station.loads:
                most = _largest_count(data, path, counts[last])
                count = min(counts[k], most)
                terms = [(count * c, v) for c, v in rate(path)]
                pairs += terms
                beyond = [j for j in allowed.get((s, path), range(last + 1)) if j > upto]
                if not beyond:
                    limited += terms
                for j in beyond:
                    ratio[j] = max(ratio[j], count / min(counts[j], most))
                if counts[k] > most:
                    reach = data.most_rate[path]
                    share = 1.0 / (reach * counts[k]) if reach > 0.0 else 1.0
                    if share < 1.0:
                        own = [(c / reach, v) for c, v in rate(path)]
                        own += [(1.0 - share, z[j]) for j in range(upto + 1)]
                        model.rate_at_level.add(at_most(own, 1.0))
            if pairs:
                right = [(-(1.0 if j <= upto else ratio[j]), z[j]) for j in range(last + 1)]
                model.load_at_level.add(at_most(pairs + right, 0.0))
            if limited and len(limited) < len(pairs):
                right = [(-1.0, z[j]) for j in range(upto + 1)]
                model.limited_load_at_level.add(at_most(limited + right, 0.0))


def _largest_count(data: PathData, path: int, time: float) -> float:
    """Return the most that an inference on a path counts in a row of a station's load."""
    floor = data.floor[data.task_of[path]]
    is_given = floor > 0.0 and data.extra_rate[path] <= 0.0
    return max(MOST_TIMES * time, 1.0 / floor if is_given else 0.0)


def level_suits_paths(
    model: pyo.ConcreteModel, task_of: Sequence[int], levels: WaitingData
) -> None:
    """sum over p of t whose levels at s are all among K: x[p] <= sum over k in K: z[s,k].

    For every set K of levels that the limit of a path of t allows.
    """
    model.level_suits_paths = pyo.ConstraintList()
    of_task: dict[tuple[int, int], dict[frozenset[int], list[int]]] = {}
    for (s, path), some in allowed_levels(levels).items():
        if len(some) < len(levels.stations[s].lower):
            sets = of_task.setdefault((s, task_of[path]), {})
            sets.setdefault(frozenset(some), []).append(path)
    for (s, _), sets in sorted(of_task.items(), key=lambda item: item[0]):
        for those in sets:
            pairs = [(1.0, model.choose[p]) for k, ps in sets.items() if k <= those for p in ps]
            pairs += [(-1.0, model.level[s, j]) for j in sorted(those)]
            model.level_suits_paths.add(at_most(pairs, 0.0))


def waits_fit_limit(model: pyo.ConcreteModel, levels: WaitingData) -> None:
    """sum over s on p: wait at the level of s <= room + M (1 - x[p]).

    For paths with jobs at several stations. Levels that one station alone rules out count as the
    worst that it allows, which makes M the least there is.
    """
    model.waits_fit_limit = pyo.ConstraintList()
    for one in levels.limited:
        if len(one.stations) < 2:
            continue
        pairs, most = [], 0.0
        for s, own in one.stations:
            waits = one.waits(levels.stations[s], own)
            worst = max((w for w in waits if _fits(w, one.room)), default=0.0)
            most += worst / one.room
            pairs += [
                (min(wait, worst) / one.room, model.level[s, k])
                for k, wait in enumerate(waits)
                if min(wait, worst) > 0.0
            ]
        if most > 1.0:
            pairs.append((most - 1.0, model.choose[one.path]))
            model.waits_fit_limit.add(at_most(pairs, most))


def level_suits_later_jobs(model: pyo.ConcreteModel, levels: WaitingData) -> None:
    """sum over p of t later at s: x[p] <= sum over k with C > 1, or the last: z[s,k].

    And sum over p of t from u to s: x[p] <= z[s,last] + 1 - z[u,last]: a later job needs a level
    with a prefactor, and a finite scale at the earlier station.
    """
    model.level_suits_later_jobs = pyo.ConstraintList()
    later: dict[tuple[int, int], set[int]] = {}
    for group, one in enumerate(levels.dependencies):
        station = levels.stations[one.station]
        last = len(station.lower) - 1
        if one.earlier is None:
            later.setdefault((one.station, group), set()).update(one.paths)
            continue
        there = len(levels.stations[one.earlier].lower) - 1
        model.level_suits_later_jobs.add(
            at_most(
                [
                    *((1.0, model.choose[p]) for p in one.paths),
                    (-1.0, model.level[one.station, last]),
                    (1.0, model.level[one.earlier, there]),
                ],
                1.0,
            )
        )
    for (s, _), paths in later.items():
        station = levels.stations[s]
        last = len(station.lower) - 1
        pairs = [(1.0, model.choose[p]) for p in sorted(paths)]
        pairs += [
            (-1.0, model.level[s, k])
            for k, log_c in enumerate(station.log_c)
            if log_c > 0.0 or k == last
        ]
        model.level_suits_later_jobs.add(at_most(pairs, 0.0))


def bursts_at_level(model: pyo.ConcreteModel, levels: WaitingData, rate: Terms) -> None:
    """(3) at s and an upper end k, for paths of a task from u to s, behind m jobs.

        sum over later p: b[p,k] r[p] <= sum over j: min(cap[j], 1 / g[k]) z[u,j]
                                         + (1 - sum of x) / g[k] + M (1 - Z[k])

    b = exp(tau / g[k]) - 1 over the devices, cap[j] = 1 / (2 (m times the lower end of level j +
    what batches may take to fill before));
    by (1) the left side is at most 1 / g[k] where the level is up to k, and M is what the largest
    level beyond k allows. Rows in which no cap is below 1 / g[k] say nothing.
    """
    model.bursts_at_level = pyo.ConstraintList()
    for one in levels.dependencies:
        if one.earlier is None or not one.has_bursts:
            continue
        here, there = levels.stations[one.station], levels.stations[one.earlier]
        last = len(here.lower) - 1
        for k, upto in upper_ends(here):
            full = 1.0 / here.upper[k]
            lengths = [one.jobs * low + one.filling for low in there.lower]
            caps = [min(full, 0.5 / length) if length > 0.0 else full for length in lengths]
            if min(caps) >= full * (1.0 - 1e-9):
                continue
            pairs: list[tuple[float, Any]] = []
            ratio = 1.0
            for path, counts in here.bursts:
                time = here_time(here, path)
                most = MOST_TIMES * time * full
                count = min(counts[k], most)
                pairs += [(count * c / full, v) for c, v in rate(path)]
                ratio = max(ratio, count / (full * time))
            if not pairs:
                continue
            pairs += [(-cap / full, model.level[one.earlier, j]) for j, cap in enumerate(caps)]
            pairs += [(1.0, model.choose[p]) for p in one.paths]
            pairs += [(-ratio, model.level[one.station, j]) for j in range(upto + 1, last + 1)]
            model.bursts_at_level.add(at_most(pairs, 1.0))


def wait_classes(data: PathData, levels: WaitingData) -> list[tuple[LimitedPath, list[int]]]:
    """Return limited paths of one task that wait alike: one of them, and all their numbers."""
    classes: dict[tuple[Any, ...], tuple[LimitedPath, list[int]]] = {}
    for one in levels.limited:
        key = (data.task_of[one.path], one.member, one.share, tuple(one.stations))
        classes.setdefault(key, (one, []))[1].append(one.path)
    return list(classes.values())


def wait_at_level(model: pyo.ConcreteModel, data: PathData, levels: WaitingData) -> None:
    """y[c,s,k] in [0, 1]: a path of class c is chosen, and s on it has a scale of level k.

        sum over k that some path of c allows: y[c,s,k] = sum over p of c: x[p]
        sum over classes c of one task: y[c,s,k] <= z[s,k]

    At binary x and z, y is binary by itself.
    """
    allowed = allowed_levels(levels)
    classes = wait_classes(data, levels)
    index: dict[tuple[int, int], list[int]] = {}
    for c, (one, paths) in enumerate(classes):
        for s, _ in one.stations:
            index[c, s] = sorted({k for p in paths for k in allowed[s, p]})
    model.wait = pyo.Var([(c, s, k) for (c, s), ks in index.items() for k in ks], bounds=(0.0, 1.0))
    model.wait_needs_path = pyo.ConstraintList()
    model.wait_needs_level = pyo.ConstraintList()
    of_task: dict[tuple[int, int, int, int], list[int]] = {}
    for (c, s), ks in index.items():
        one, paths = classes[c]
        pairs = [(1.0, model.wait[c, s, k]) for k in ks]
        pairs += [(-1.0, model.choose[p]) for p in paths]
        model.wait_needs_path.add(
            (0.0, weighted([a for a, _ in pairs], [v for _, v in pairs]), 0.0)
        )
        for k in ks:
            of_task.setdefault((data.task_of[one.path], one.member, s, k), []).append(c)
    for (_, _, s, k), cs in of_task.items():
        pairs = [(1.0, model.wait[c, s, k]) for c in cs] + [(-1.0, model.level[s, k])]
        model.wait_needs_level.add(at_most(pairs, 0.0))


def average_wait(
    model: pyo.ConcreteModel, data: PathData, levels: WaitingData
) -> list[tuple[float, Any]]:
    """sum over c, s, k: w[t(c)] lower[k] (ln(m / (1 - q)) + ln C) y[c,s,k]."""
    classes = wait_classes(data, levels)
    terms = []
    for (c, s, k), variable in model.wait.items():
        one = classes[c][0]
        own = next(log_c for station, log_c in one.stations if station == s)
        wait = one.waits(levels.stations[s], own)[k]
        if one.weight * wait > 0.0:
            terms.append((one.weight * wait, variable))
    return terms


def here_time(station: StationLevels, path: int) -> float:
    """Return the device time of a path at a station, as a share."""
    return next(counts[-1] for p, counts in station.loads if p == path)


def exclude_loop(
    model: pyo.ConcreteModel, groups: Sequence[Sequence[int]], station: int, last: int
) -> Any:
    """sum over groups of x[p] <= number of groups - 1 + z[station,last].

    Paths, one of each group, that together close a loop of dependencies through a station leave
    it without a finite scale. The paths of a group are of one task.
    """
    pairs = [(1.0, model.choose[p]) for paths in groups for p in paths]
    pairs.append((-1.0, model.level[station, last]))
    return model.loops.add(at_most(pairs, len(groups) - 1.0))


def upper_ends(station: StationLevels) -> list[tuple[int, int]]:
    """Return for each upper end but the last the first and the last level that has it."""
    ends: dict[float, tuple[int, int]] = {}
    for k, upper in enumerate(station.upper):
        if math.isfinite(upper):
            ends[upper] = (ends[upper][0] if upper in ends else k, k)
    return list(ends.values())


def _fits(wait: float, room: float) -> bool:
    """Tell whether scales above a lower end leave some room."""
    return wait < room * (1.0 - 1e-12)


def allowed_levels(levels: WaitingData) -> dict[tuple[int, int], list[int]]:
    """Return for (station, limited path) the levels that the path's own limit allows."""
    found: dict[tuple[int, int], list[int]] = {}
    for one in levels.limited:
        for s, own in one.stations:
            waits = one.waits(levels.stations[s], own)
            mine = [k for k, wait in enumerate(waits) if _fits(wait, one.room)]
            earlier = found.get((s, one.path))
            found[s, one.path] = mine if earlier is None else [k for k in earlier if k in mine]
    return found


def at_most(pairs: list[tuple[float, Any]], most: float) -> tuple[None, Any, float]:
    """Return sum of coefficient * variable <= most, divided by the largest coefficient above 1."""
    unit = max(1.0, *(abs(c) for c, _ in pairs))
    return (None, weighted([c / unit for c, _ in pairs], [v for _, v in pairs]), most / unit)
