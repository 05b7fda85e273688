"""Runs of the benchmark: each in a fresh process with a wall-clock limit and a memory limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_opt.generate import PLAIN, Edge, EdgeOptions, generate, write_edge
from code_opt.instance import load_instance, save_instance

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data" / "published"
PUBLISHED = ("sn-net", "sn-netv2", "timm", "ai-hub")
"""Instances of published networks: families of one instance each."""
MEMORY = 8192
"""Most virtual memory of a process [MiB]."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Step:
    """Instances of one size."""

    services: int
    instances: int
    limit: float
    """Wall-clock seconds per solve."""


def sizes_and_seeds(text: str, first_seed: int) -> list[tuple[int, range]]:
    """Return the sizes and seeds of ``services:seeds, ...``."""
    pairs = (map(int, pair.split(":")) for pair in text.split(","))
    return [(size, range(first_seed, first_seed + count)) for size, count in pairs]


def steps_of(family: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps of a family: of published data one, with the limit of the first step."""
    if family not in PUBLISHED:
        return steps
    return (Step(len(load_instance(DATA / family).tasks), 1, steps[0].limit),)


def grace(limit: float) -> float:
    """Return after how many seconds a process that ignores its limit is killed."""
    return 2.0 * limit + 60.0


@contextmanager
def instance_file(family: str, services: int, seed: int, **options: Any) -> Iterator[Path]:
    """Write a generated instance to a temporary file; of published data, return their own."""
    if family in PUBLISHED:
        yield DATA / family
        return
    with tempfile.TemporaryDirectory(prefix="code-opt-bench-") as folder:
        path = Path(folder) / "instance.json"
        if family == PLAIN:
            save_instance(generate(services, seed=seed, **options), path)
        else:
            write_edge(Edge(EdgeOptions(family, services, seed=seed, **options)), path)
        yield path


def run_apart(name: str, path: Path, limit: float, memory: int = MEMORY) -> dict[str, Any]:
    """Run ``benchmarks.worker`` and return what it found, or how it ended."""
    command = [sys.executable, "-m", "benchmarks.worker", name, str(path), str(limit), str(memory)]
    environment = {**os.environ, **ONE_THREAD}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=grace(limit),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": "killed"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])  # solvers print, too
    memory_over = done.returncode < 0 or "MemoryError" in done.stderr or "bad_alloc" in done.stderr
    last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return {"status": "out of memory" if memory_over else f"failed: {last[:200]}"}
