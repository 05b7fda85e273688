"""Results on a simulated clock: rates, queues and latencies, without networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from code_opt.errors import InputError
from code_opt.evaluation.flow import streams_of
from code_opt.evaluation.outcome import Evaluation, Options, refusals
from code_opt.evaluation.simulation import simulate
from code_opt.evaluation.verdict import Evaluated, judge, ranking
from code_opt.instance import Instance
from code_opt.instance.digest import changed_parts
from code_opt.result import Result

ARRIVALS = 100_000
"""Inputs of all tasks together that a simulation lasts for, about, where nobody says otherwise."""


def simulate_results(
    instance: Instance,
    results: Mapping[str, Result],
    options: Options,
    seconds: float | None = None,
) -> Evaluation:
    """Run results on a simulated clock and compare with what they promise.

    Args:
        instance: what was solved.
        results: by name.
        options: arrivals (None: Poisson), feeds and seed.
        seconds: of the instance that are measured; None: as many as bring :data:`ARRIVALS`.

    Raises:
        InputError: a result of another instance, or without an assignment or a rate.
    """
    found = []
    for name, result in results.items():
        refused = refusals(instance, name, result)
        flows = {}
        if not refused:
            streams = streams_of(instance, result)
            if not streams:
                raise InputError(f"{name}: no task has a rate: there is nothing to simulate")
            total = sum(stream.route.rate for stream in streams)
            for feed in options.feeds:
                flows[feed] = simulate(
                    instance,
                    result,
                    seconds=ARRIVALS / total if seconds is None else seconds,
                    feed=feed,
                    arrivals=options.arrivals or "poisson",
                    seed=options.seed,
                )
        verdict = judge(
            result,
            refused,
            (),
            flows.get("rates"),
            changed_parts(result.instance_digest, instance) or (),
        )
        verdict = replace(verdict, text=f"{verdict.text}, on a simulated clock")
        found.append(Evaluated(name, result, refused, (), tuple(flows.values()), None, verdict))
    text, holds = ranking(instance, found)
    return Evaluation(instance, tuple(found), text, holds, None)
