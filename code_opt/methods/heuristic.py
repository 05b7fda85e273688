"""CoDE's heuristic, for any number of services.

After Maleki, Shah-Mansouri and Khalaj, *Edge AI as a Service with Coordinated Deep Neural
Networks* (arXiv 2401.00631): in every stage predict the accuracy of all paths from the
drops of their connections, rank them by the reward that they promise under the present
loads, measure only the most promising, correct the predictions with what was measured,
and keep the best. What the paper does for two services is done here for any number:

* the services first answer *prices* of the servers, links and memories that they share,
  until no answer improves (:mod:`code_opt.methods.prices`); a dive through the answers
  gives one path to each;
* then they move in turns, the most promising move first, until no promise holds
  (:mod:`code_opt.methods.local_search`);
* since such an equilibrium can be poor, new turns start in three ways: from it with a few
  services displaced, from answers to prices that are off by random factors, and from it
  with the services around one server answering anew; the walk goes on from ends that are
  little worse, and the best end is kept.
"""

from __future__ import annotations

import numpy as np

from code_opt.methods.assignment import Judge
from code_opt.methods.local_search import Searcher, SearchOutcome
from code_opt.methods.prices import PriceMaster
from code_opt.methods.settings import Clock

RESTARTS = 8
_WALK = 0.02
"""Loss of merit (log reward) up to which the walk goes on from a new equilibrium."""


def search(judge: Judge, clock: Clock, *, seed: int = 0, restarts: int = RESTARTS) -> SearchOutcome:
    """Run CoDE's heuristic; deterministic for a seed (unless the clock ends it).

    Args:
        judge: pool, objective and floors.
        clock: ends the search early.
        seed: seed of the displacements.
        restarts: new turns after the first equilibrium.
    """
    work = Searcher(judge)
    market = PriceMaster(judge, work)
    rng = np.random.default_rng(seed)
    market.converge(clock)
    best = work.settle(work.evaluate(market.dive()), clock)
    present = best
    for turn in range(restarts):
        if clock.is_over:
            break
        if turn % 3 == 0:
            start = work.displaced(present, rng)
        elif turn % 3 == 1:
            start = market.answers(rng)
        else:
            start = market.dive(present.choice, market.neighbourhood(rng))
        end = work.settle(work.evaluate(start), clock)
        if work.is_better(end, best):
            best = end
        # Walk on from an equilibrium that is little worse, else return to the best one.
        present = end if end.merit > best.merit - _WALK else best
    return work.outcome(best)
