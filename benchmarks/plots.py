"""Performance profiles: on which share of the instances a method is within a factor of the best.

E. D. Dolan and J. J. More, "Benchmarking optimization software with performance profiles",
Mathematical Programming 91 (2002).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.contenders import GAPS, HEURISTICS
from code_opt.files import write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, apart for the colour-blind; each method has its dashes, too."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def ratios(runs: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Return each prover's time to a gap over the best one's; instances by methods.

    Infinite where the gap was not proven; instances that nobody proved are left out.
    """
    provers = runs[~runs.method.isin(HEURISTICS)]
    times = provers.pivot_table(
        index=["family", "services", "seed"],
        columns="method",
        values=f"cpu to {gap:g}",
        aggfunc="first",
        dropna=False,
        sort=False,
    )
    times = times.reindex(columns=list(dict.fromkeys(provers.method))).dropna(how="all")
    return times.div(times.min(axis=1), axis=0).fillna(np.inf)


def profile(ratio: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of one method's profile: factors, and shares of instances within them."""
    finite = np.sort(ratio[np.isfinite(ratio)].to_numpy())
    return finite, np.arange(1, len(finite) + 1) / len(ratio)


def performance_profiles(runs: pd.DataFrame, stem: Path) -> list[Path]:
    """Draw one panel per gap and write ``stem.svg`` and ``stem.png``."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "code-opt"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(GAPS), figsize=(11, 4.2), sharey=True, layout="constrained"
    )
    tables = {gap: ratios(runs, gap) for gap in GAPS}
    finite = [t.to_numpy()[np.isfinite(t.to_numpy())] for t in tables.values()]
    most = max((float(values.max()) for values in finite if values.size), default=1.0)
    right = max(2.0, most * 1.3)
    for panel, (gap, table) in zip(panels, tables.items(), strict=True):
        for k, method in enumerate(table.columns):
            factors, shares = profile(table[method])
            panel.step(
                [1.0, *factors, right],
                [0.0, *shares, shares[-1] if len(shares) else 0.0],
                where="post",
                color=COLOURS[k % len(COLOURS)],
                linestyle=DASHES[k % len(DASHES)],
                linewidth=1.8,
                label=method,
            )
        panel.set_xscale("log", base=2)
        panel.set_xlim(1.0, right)
        panel.set_ylim(0.0, 1.02)
        panel.set_title(f"gap {gap:g} ({len(table)} instances)", fontsize=10)
        panel.set_xlabel("CPU time over the best one's")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of instances proven")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return save_figure(figure, stem)


def save_figure(figure: Any, stem: Path) -> list[Path]:
    """Write a figure of matplotlib as ``stem.svg`` and ``stem.png``, and close it."""
    from matplotlib import pyplot

    paths = []
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 130})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], **options)
        paths.append(stem.with_suffix(suffix))
        write_atomically(paths[-1], buffer.getvalue())
    pyplot.close(figure)
    return paths
