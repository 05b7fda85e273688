"""One solve in a process of its own: ``python -m benchmarks.worker NAME FILE LIMIT MEBIBYTES``.

Prints one line of JSON. What is timed begins with reading the instance and ends with the
checked result; a warm-up on a tiny instance before it takes imports and first-use costs out.
The peak of resident memory is that of the whole process, its modules included.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from benchmarks.contenders import GAPS, Trace, contenders
from code_opt import load_instance
from code_opt.generate import generate
from code_opt.paths import build_pool

LABELLING = "labelling"
"""Only read the instance and find its nondominated paths."""


def peak() -> float:
    """Return the greatest resident memory so far [MiB].

    Linux counts in ``ru_maxrss`` what the process was before ``exec``: its parent's memory.
    ``VmHWM`` is that of the program itself.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def main(name: str, path: str, limit: float, memory: int) -> dict[str, object]:
    """Solve and return what is to be known."""
    resource.setrlimit(resource.RLIMIT_AS, (memory * 2**20, memory * 2**20))
    run = None if name == LABELLING else contenders()[name]
    tiny = generate(2, seed=0)
    if run is None:
        build_pool(tiny)
    else:
        run(tiny, 10.0, Trace())
    base = peak()
    trace = Trace()
    instance = load_instance(path)
    answer: dict[str, object] = {}
    if run is None:
        pool = build_pool(instance)
        answer |= {"status": "done", "paths": pool.size, "labels": pool.labels}
    else:
        result = run(instance, limit, trace)
        trace.see(result.gap)
        counts = {k: v for k, v in result.details.items() if isinstance(v, int)}
        answer |= {
            "status": result.status,
            "reward": result.reward,
            "bound": result.bound,
            "gap": result.gap,
            **{key: counts.get(key) for key in ("nodes", "paths_in_pool")},
        }
    cpu, wall = trace.now
    reached = {f"cpu to {gap:g}": trace.reached.get(gap, (None, None))[0] for gap in GAPS}
    return {**answer, "cpu": cpu, "wall": wall, **reached, "peak": peak(), "base": base}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))))
