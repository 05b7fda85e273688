"""Examples at the end of every ``--help``."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "solve": (
        "code-opt solve data/digits",
        "code-opt solve edge.yaml -m exact -m lns --min-accuracy 0.8 --out results",
        "code-opt solve edge.yaml -m exact --set reward.accuracy.exponent=4 --json",
        "code-opt solve data/digits -m exact --winners-curse 20",
        "code-opt solve instances/ --time-limit 60 --out results",
        "code-opt solve edge.yaml -m exact --previous results/edge.exact.json --max-changes 3",
        "code-opt solve edge.yaml --previous results/edge.exact.json --changes-front",
        "code-opt solve edge-today.yaml -m exact --out results --tag 2026-11-28",
        "code-opt solve edge.yaml -m exact --metrics edge.prom",
        "code-opt solve edge.yaml -m exact --out results --certificate edge.duals.json",
    ),
    "validate": ("code-opt validate data/digits",),
    "check": (
        "code-opt check results/edge.exact.json edge.yaml",
        "code-opt check results/edge.exact.json edge.yaml --certificate edge.duals.json",
    ),
    "profile": ("code-opt profile data/digits/config.yaml --out profiled",),
    "time": ("code-opt time data/digits --out timed --batch 1 --batch 8",),
    "evaluate": (
        "code-opt evaluate data/digits results/digits.exact.json --seconds 3",
        "code-opt evaluate edge.yaml results/edge.exact.json --simulate",
    ),
    "deploy": ("code-opt deploy data/digits results/digits.exact.json --out deployed",),
    "report": (
        "code-opt report results/*.json --instance edge.yaml --out report.html --plots figures",
    ),
    "export": ("code-opt export data/digits --to model.mps",),
    "import-solution": ("code-opt import-solution data/digits model.sol --out imported.json",),
    "import-measurements": (
        "code-opt import-measurements edge.yaml blocks.csv --out measured.yaml",
        "code-opt import-measurements edge.yaml timm.csv --alternatives-of faces --server edge-b "
        "--accuracies results.csv --out zoo.yaml",
    ),
    "generate": ("code-opt generate --services 20 --seed 1 --out edge.json",),
    "template": ("code-opt template --out plan.xlsx",),
    "rerate": ("code-opt rerate results/edge.exact.json edge-today.yaml --out rerated.json",),
    "diff": (
        "code-opt diff results/edge.exact.json results/edge.exact.2026-11-28.json edge-today.yaml",
    ),
    "schedule": (
        "code-opt schedule data/four-sites-csv --periods data/four-sites-day.csv --max-changes 1 "
        "--out day",
        "code-opt schedule edge.yaml --periods demands.csv --previous results/edge.exact.json",
    ),
    "observe": (
        "code-opt observe edge.yaml observations.csv --result results/edge.exact.json "
        "--out edge-observed.yaml",
    ),
    "plan": (
        "code-opt plan data/four-sites-csv --growth 1,1.5,2 --max-loss 0,2 --out plans",
        "code-opt plan data/digits --front",
        "code-opt plan plan.xlsx --out plans --xlsx",
        "code-opt plan data/four-sites-csv --periods data/four-sites-day.csv --failures "
        "--keep 0.8 --max-loss 1",
    ),
}
"""Commands as they are typed, by the name of the command that they belong to."""


def epilog_of(command: str) -> str | None:
    """Return what stands at the end of a command's help, None where there is no example."""
    examples = EXAMPLES.get(command)
    # Paragraphs, since single line breaks of an epilog become spaces.
    return "\n\n".join(["Examples:", *examples]) if examples else None
