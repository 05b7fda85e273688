"""How long input groups take, and what sharing brings: services in groups of 2 to 4.

    python -m benchmarks.groups --sizes 20,50,100 --plain 6,12,20 --seeds 1000:1003

On the edge families all tasks are in groups as far as neighbours allow (``--groups 1.0``); in
the plain family every group may use the trunk of its first service, servers and tasks are
saturated, and nothing but the groups' own balance decides, which is far harder. Times are processor
seconds of this process (one thread), so that other work on the machine does not count; the
time limit of a run is one of wall time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.__main__ import header
from benchmarks.ablation import table
from code_opt import without_sharing
from code_opt.generate import LAYOUTS, PLAIN, EdgeOptions, generate, generate_edge
from code_opt.instance import Instance
from code_opt.paths import build_pool
from code_opt.result import Result
from code_opt.solving import solve

GROUPS = (2, 4)
GAP = 1e-4


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """Return a result and the processor seconds that it took."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def grouped(family: str, services: int, seed: int) -> Instance:
    """Return an instance whose tasks are in groups of 2 to 4."""
    if family == PLAIN:
        return generate(services, seed=seed, groups=GROUPS)
    return generate_edge(EdgeOptions(family=family, services=services, seed=seed, groups=1.0))


def row_of(family: str, services: int, instances: list[Instance], limit: float) -> dict[str, Any]:
    """Return one row of the table: medians over instances of one size."""
    paths, prefixes, exact, code, gaps = [], [], [], [], []
    losses, gains, proven = [], [], 0
    for instance in instances:
        pool = build_pool(instance)
        paths.append(pool.size)
        prefixes.append(sum(len(s.prefixes) for s in pool.sharing if s is not None))
        best, seconds = timed(lambda: solve(instance, gap=GAP, time_limit=limit))  # noqa: B023
        exact.append(seconds)
        proven += best.status == "optimal"
        gaps.append(best.gap or 0.0)
        found, seconds = timed(lambda: solve(instance, "lns"))  # noqa: B023
        code.append(seconds)
        apart = solve(without_sharing(instance), "lns")
        assert best.reward
        assert found.reward
        assert apart.reward
        losses.append(1.0 - found.reward / best.reward)
        gains.append(found.reward / apart.reward - 1.0)
    return {
        "family": family,
        "services": services,
        "paths in the pool": statistics.median(paths),
        "shared prefixes": statistics.median(prefixes),
        "exact, median [CPU s]": statistics.median(exact),
        "exact, most [CPU s]": max(exact),
        "proven": f"{proven}/{len(instances)}",
        "largest gap [%]": 100.0 * max(gaps),
        "lns, median [CPU s]": statistics.median(code),
        "lns, worst loss [%]": 100.0 * max(losses),
        "reward by sharing, median [%]": 100.0 * statistics.median(gains),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", default="20,50,100", help="services, edge families")
    parser.add_argument("--plain", default="6,12,20", help="services, plain family")
    parser.add_argument("--seeds", default="1000:1003", help="first:last+1")
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split(":"))
    solve(generate(4, groups=GROUPS))  # imports and the like
    rows = []
    cases = [(f, s) for s in arguments.sizes.split(",") for f in LAYOUTS]
    for family, size in [*cases, *((PLAIN, s) for s in arguments.plain.split(","))]:
        instances = [grouped(family, int(size), seed) for seed in range(first, last)]
        rows.append(row_of(family, int(size), instances, arguments.time_limit))
        print(rows[-1], flush=True)
    lines = ["# Input groups: services in groups of 2 to 4", ""]
    lines += header("benchmarks.groups", arguments.time_limit)
    lines += [
        "",
        "Loss: of the reward of lns against the exact method's (proven or not). Reward by sharing:",
        "that of lns on the instance against its own where nothing but the rate is shared.",
        "",
        "",
    ]
    text = "\n".join(lines) + table(rows)
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
