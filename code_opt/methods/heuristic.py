"""Large neighbourhood search from a Lagrangian dive (method ``lns``), for any number of services.

In two phases:

* the services first answer *prices* of the servers, links and memories that they share,
  until no answer improves (:mod:`code_opt.methods.prices`); a dive through the answers
  gives one path to each;
* then, in each iteration, a few services are re-optimised together over all of their paths by
  LP-based branch and bound, everybody else's paths as they are
  (:mod:`code_opt.methods.neighbourhood`; Shaw 1998, doi:10.1007/3-540-49481-2_30). First comes
  the service that has most to gain at those prices, together with some of those around it. Only
  what it would take is measured, and kept if it is better.

The prices bound the objective, too (Lagrangian duality): they say who has most to gain, which
paths cannot pay, and the search ends when the bound is met. Where no answer is better any more
and the bound is still far, larger neighbourhoods are searched.

Accuracies are predicted from the drops of connections, corrected by what was measured, and a
path is measured only when it is about to be taken: that much is the idea of CoDE (Maleki,
Shah-Mansouri and Khalaj, arXiv 2401.00631).
"""

from __future__ import annotations

import numpy as np

from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import (
    FIT_TOLERANCE,
    VIOLATION_WEIGHT,
    Searcher,
    SearchOutcome,
    State,
)
from code_opt.methods.neighbourhood import Neighbourhood
from code_opt.methods.prices import PriceMaster, Prices
from code_opt.methods.settings import Clock
from code_opt.paths.graph import IntArray

_JOINT_ROUNDS = 12
"""Most rounds in which input groups find new options at the prices of the last one."""
_CLOSE = 5e-4
"""Distance of the objective (log reward) from its bound within which the search is content."""
_TURNS_PER_SERVICE, _LEAST_TURNS, _MOST_TURNS = 2, 20, 250
"""Turns by default: with many services the most promising ones alone."""
_LEAST_PATIENCE, _SERVICES_PER_PATIENCE = 4, 4
"""Turns in vain, one after the other, that end the search: at least, and one more for so many."""
_FREED, _FEWEST_FREED, _MOST_FREED, _MORE_FREED = 6, 5, 10, 2
"""Services that answer anew together: at first, at least, at most; so many more for each time
that their leader led in vain."""
_NODES = 150
"""Linear programs solved in a turn, at most."""
_NEAR = 0.02
"""Distance of the objective from its bound beyond which the search goes deeper at its end:"""
_DEEPER = 2
"""so many more services answer together, ..."""
_NODES_DEEPER = 200
"""... with so many programs, ..."""
_PATIENCE_DEEPER = 12
"""... until so many turns in a row were in vain."""


def search(
    judge: Judge,
    clock: Clock,
    *,
    seed: int = 0,
    turns: int | None = None,
    is_deep: bool = True,
) -> SearchOutcome:
    """Run the search; deterministic for a seed (unless the clock ends it).

    Args:
        judge: pool, objective and floors.
        clock: ends the search early.
        seed: seed of the choice of who answers anew together.
        turns: most turns after the dive (default by the number of services).
        is_deep: whether larger neighbourhoods are searched where the bound is far; not needed
            for a start only.
    """
    work = Searcher(judge)
    market = PriceMaster(judge, work)
    tasks = len(work.units)
    market.converge(clock)
    for _ in range(_JOINT_ROUNDS):
        if clock.is_over or not market.answer_jointly():
            break
        work = Searcher(judge)
        market = PriceMaster(judge, work)
        market.converge(clock)
    bound, prices = market.bound()[0], market.prices
    # The dive runs to its end whatever the clock says: without it there is no answer.
    best = work.evaluate(market.dive(Clock(None, to_its_end=True)))
    agenda = _Agenda(work, prices, np.random.default_rng(seed))
    if turns is None:
        turns = min(max(_TURNS_PER_SERVICE * tasks, _LEAST_TURNS), _MOST_TURNS)
    there: Neighbourhood | None = None
    in_vain, patience = 0, _LEAST_PATIENCE + tasks // _SERVICES_PER_PATIENCE
    nodes = _NODES
    for _ in range(turns):
        if clock.is_over or bound - best.merit <= _CLOSE:
            break
        if in_vain >= patience:
            if not is_deep or bound - best.merit <= _NEAR:
                break
            is_deep = False  # it goes deeper once
            nodes, patience, in_vain = _NODES_DEEPER, _PATIENCE_DEEPER, 0
            agenda.deepen()
        work.stages += 1
        freed = agenda.next(best)
        there = Neighbourhood(work, best, freed, prices, instead_of=there)
        found = there.search(nodes)
        agenda.adapt(there)
        if found is not None:
            work.ask(found.choice)
            end = work.state(found.choice, found.rates)
            if work.is_better(end, best):
                best = end
                work.moves += 1
                agenda.reopen()
                in_vain = 0
                continue
        elif there.is_exhausted and len(freed) == tasks:
            break
        agenda.close()
        in_vain += 1
    return work.outcome(best)


class _Agenda:
    """Who answers anew: the service that loses most at the prices, with some around it.

    At any prices, the bound exceeds what an assignment is worth by a sum of losses: of the
    services, whose paths are not their best answers, and of the resources, which are paid for
    and idle. A service leads whose resources see most of them; its standing halves each
    time that it leads in vain.
    """

    def __init__(self, work: Searcher, prices: Prices, rng: np.random.Generator) -> None:
        self._work, self._prices, self._rng = work, prices, rng
        tasks = work.units
        width = max(1, *(len(t.resources) for t in tasks))
        none = len(work.pool.resources)
        self._reach = np.full((len(tasks), width), none)
        """Resources that each service can load, then a number that stands for none."""
        for t, task in enumerate(tasks):
            self._reach[t, : len(task.resources)] = task.resources
        self._best = np.maximum.reduceat(prices.worth(work), work.first[:-1])
        self._in_vain = np.zeros(len(tasks), dtype=np.int64)
        self._freed: IntArray = np.empty(0, dtype=np.int64)
        self._leader = 0
        self._size, self._most = _FREED, _MOST_FREED

    def next(self, state: State) -> IntArray:
        """Return the services that answer anew, ascending."""
        work, reach = self._work, self._reach
        gain_a, gain_th = self._prices.gains
        now = state.choice
        paid = (self._prices.resource[work.index[:, now]] * work.loads_of(now, state.rates)).sum(
            axis=0
        )
        have = gain_a * work.weight[now] * work.estimate[now] + gain_th * state.rates - paid
        loss = np.maximum(self._best - have, 0.0)
        idle = np.zeros(len(state.load) + 1)
        idle[:-1] = self._prices.resource * np.maximum(1.0 - state.load, 0.0)
        idle[:-1] += VIOLATION_WEIGHT * np.maximum(state.load - 1.0 - FIT_TOLERANCE, 0.0)
        heat = idle.copy()
        np.add.at(heat, reach, loss[:, None])
        heat[-1] = 0.0
        standing = heat[reach].sum(axis=1) * 0.5**self._in_vain
        self._leader = int(np.argmax(standing))
        size = self._size + _MORE_FREED * int(self._in_vain[self._leader])
        size = min(size, self._most, len(now))
        loss += 0.5 * idle[reach].sum(axis=1)
        loss += loss.mean()
        chosen = [self._leader]
        common = np.zeros(len(heat))
        while len(chosen) < size:
            common[reach[chosen[-1]]] += 1.0
            common[-1] = 0.0
            # Those who share nothing with the leader still meet it in the objective.
            for chance in (common[reach].sum(axis=1) * loss, loss.copy(), np.ones(len(loss))):
                chance[chosen] = 0.0
                if chance.any():
                    break
            total = np.cumsum(chance)
            chosen.append(int(np.searchsorted(total, self._rng.random() * total[-1], "right")))
        self._freed = np.sort(np.array(chosen))
        return self._freed

    def adapt(self, last: Neighbourhood) -> None:
        """Free fewer services from here on where the last search did not come to its end."""
        if not last.is_exhausted:
            least = max(min(_FEWEST_FREED, len(self._in_vain) - 1), 1)
            self._size = max(min(self._size, len(self._freed)) - 1, least)

    def deepen(self) -> None:
        """Free more services from here on, and let everybody lead again."""
        self._size, self._most = _FREED + _DEEPER, _MOST_FREED + _DEEPER
        self._in_vain[:] = 0

    def close(self) -> None:
        """The last answer brought nothing: others lead first."""
        self._in_vain[self._leader] += 1

    def reopen(self) -> None:
        """The last answer changed something: all around it may lead again."""
        changed = np.zeros(len(self._work.pool.resources) + 1, dtype=bool)
        changed[self._reach[self._freed]] = True
        changed[-1] = False
        self._in_vain[changed[self._reach].any(axis=1)] = 0
