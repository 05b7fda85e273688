"""Parameters of the algorithms, with their defaults.

``solve(..., parameters=Parameters(lns=LnsParameters(iterations=10)))`` changes some of them.
The defaults are what all tables of the project were made with.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from code_opt.errors import InputError


@dataclass(frozen=True)
class ExactParameters:
    """Which formulation ``auto`` takes."""

    most_paths: int = 1000
    """Nondominated paths up to which ``auto`` takes ``path`` (measured: benchmarks.ablation)."""
    most_paths_of_a_task: int = 1_000_000
    """Paths of a task's graph, dominated ones included, up to which all of them are labelled."""


@dataclass(frozen=True)
class JointPathParameters:
    """Joint paths of input groups: which are made, drawn and listed."""

    few: int = 20_000
    """Combinations of paths up to which all are made (and those kept that none dominates)."""
    samples: int = 1_000
    """Random duals whose best joint paths a larger group starts with."""
    rates: int = 12
    """Rates at which joint paths are priced: the best one depends on its rate."""
    draws: int = 30
    """Draws of duals for each of these rates."""
    noise: float = 0.02
    """Size of the noise on paths' costs while drawing, as a share of their spread."""
    kept_of_a_pair: int = 20
    """Joint paths kept of all that an exchange of the paths of two tasks makes."""
    exchanged: int = 600
    """Most paths of a task that an exchange tries."""
    accuracy_factors: tuple[float, ...] = (1.0, 0.5, 2.0)
    """Factors on the dual of A from which exchanges start: they end in different places."""
    shortage: float = 1e3
    """Profit lost for each capacity, or part of it, that a joint path lacks at the floor."""
    most_tasks: int = 6
    """Tasks up to which the dynamic program looks at all subsets (3**tasks splits at a node)."""
    turns: int = 4
    """Turns in which the tasks of larger groups take their best paths."""
    most_comparisons: int = 300_000_000
    """Pairs of partial joint paths compared for one group before its listing is given up."""
    compared_at_once: int = 20_000
    """Partial joint paths compared at once: bounds memory."""
    pricing_rounds: int = 12
    """Most rounds in which duals ask large groups for joint paths."""
    entering: int = 20
    """Most joint paths of a group that enter in one round."""
    least_gain: float = 1e-7
    """Gain of profit below which a joint path does not count as new."""
    share_of_time: float = 0.3
    """Most of the time left that listing may take."""


@dataclass(frozen=True)
class MasterParameters:
    """The restricted master program."""

    columns_per_round: int = 4
    """Most columns of a task that enter in one round of pricing."""
    settled: float = 0.02
    """Pricing ends when bound and value differ by less than this share of the gap asked for."""
    idle_rounds: int = 3
    """A cut whose dual has been 0 for so many solves leaves the master."""


@dataclass(frozen=True)
class DiveParameters:
    """The dive that rounds the master's solution to an assignment."""

    share: float
    """Share of the undecided tasks that is decided at once."""
    pricing_rounds: int
    """Most rounds of pricing after each decision."""
    least_gain: float = 1e-4
    """Reduced cost, over all tasks together, below which a column is not priced in."""


@dataclass(frozen=True)
class LnsParameters:
    """Large neighbourhood search."""

    enumerated: int = 20_000
    """Up to so many assignments each one is looked at, and nothing is searched."""
    joint_rounds: int = 12
    """Most rounds in which input groups find new joint paths at the master's duals."""
    gap: float = 1e-4
    """Gap that the master's duals are good for."""
    close: float = 5e-4
    """Distance of log reward from its bound within which the search ends."""
    iterations_per_task: int = 2
    """Iterations by default, within the next two."""
    least_iterations: int = 20
    most_iterations: int = 250
    patience: int = 4
    """Non-improving iterations in a row that end the search: so many, ..."""
    tasks_per_patience: int = 4
    """... and one more for so many tasks."""
    freed: int = 6
    """Tasks that are re-optimised together at first."""
    fewest_freed: int = 5
    most_freed: int = 10
    more_freed: int = 2
    """So many more for each non-improving iteration that the same task led."""
    nodes: int = 150
    """Most linear programs of an iteration."""
    far: float = 0.02
    """Distance of log reward from its bound beyond which the search is intensified at its end:"""
    intensified_freed: int = 2
    """so many more tasks are freed, ..."""
    intensified_nodes: int = 200
    """... with so many programs, ..."""
    intensified_patience: int = 12
    """... until so many iterations in a row were non-improving."""
    master: MasterParameters = field(
        default_factory=lambda: MasterParameters(columns_per_round=1, settled=0.2)
    )
    dive: DiveParameters = field(default_factory=lambda: DiveParameters(0.5, pricing_rounds=1))


@dataclass(frozen=True)
class CodeParameters:
    """CoDE's procedure as published.

    Raises:
        InputError: a value is out of its range.
    """

    beam: int | None = 8
    """Paths of a stage that the next one extends; None for all of them."""
    tolerance: float = 1e-3
    """A path that promises less than the best measured reward by at most this share is measured,
    too, if it takes less of servers and links: as good a path that takes less leaves more to
    others."""

    def __post_init__(self) -> None:
        """Check the range."""
        if self.beam is not None and self.beam < 1:
            raise InputError(f"beam {self.beam}: must be at least 1, or None for no beam")
        if not 0.0 <= self.tolerance < 1.0:
            raise InputError(f"tolerance {self.tolerance}: must lie in [0, 1)")


@dataclass(frozen=True)
class CutParameters:
    """Cuts from single servers, links and memories."""

    least_capacity: float = 0.01
    """A resource that has less left after what every task must take is not separated."""
    most_points: int = 2000
    """Most points of a separation; the tasks that load the resource most are kept."""
    cells: int = 256
    """Capacities are rounded to so many cells while lifting, always to the weaker side."""
    samples: int = 8
    """Rates of a path that are looked at while lifting it."""
    violation: float = 1e-4
    """Least violation of a cut that is added (its limit is 1)."""
    largest: float = 100.0
    """Largest coefficient of a facet, so that cuts are no numerical trouble."""


@dataclass(frozen=True)
class ColumnGenerationParameters:
    """Column generation with cuts, a dive and restricted programs."""

    passes: int = 3
    """Most passes of cuts, dive and restricted programs; each needs a better assignment."""
    cut_rounds: int = 40
    stalled: float = 0.02
    """Cuts end when ``stalled_rounds`` together gain less than this share of the open gap."""
    stalled_rounds: int = 3
    tasks_at_once: int = 400
    """Most tasks that one restricted program frees together, ..."""
    paths_per_task: int = 4
    """... with so many paths each; ..."""
    worth_restricting: float = 0.7
    """... none is solved that holds more than this share of all paths."""
    tasks_freed: int = 120
    """Tasks of a restricted program that frees a neighbourhood, ..."""
    paths_per_freed_task: int = 8
    """... with so many paths each."""
    share_of_time: float = 0.25
    """Most of the time left that one restricted program may take."""
    share_of_gap: float = 0.1
    """Gap asked of a restricted program, as a share of the present one ..."""
    loosest_gap: float = 0.01
    """... and at most (without an assignment there is no present one)."""
    master: MasterParameters = field(default_factory=MasterParameters)
    dive: DiveParameters = field(default_factory=lambda: DiveParameters(0.125, pricing_rounds=0))
    cuts: CutParameters = field(default_factory=CutParameters)


@dataclass(frozen=True)
class PathPricingParameters:
    """Pricing by shortest paths, where the nondominated paths are too many to list."""

    first_scales: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    """Duals of the first pools, as multiples of a guess."""
    labels: tuple[int, ...] = (8, 64, 512)
    """Labels kept at a node, more when fewer find nothing."""
    labels_within_gap: int = 4000
    """Labels kept at a node when all paths within the gap are wanted."""
    rounds: int = 30
    least_gain: float = 1e-7
    """Least gain of the objective, per task, that a path must bring."""
    loose_gap: float = 1e-3
    """Gap at which a solve over a part of the paths ends, at the latest."""


@dataclass(frozen=True)
class BaselineParameters:
    """Baselines."""

    least_draws: int = 100
    """Assignments that ``random`` draws at least: ``lns`` may end after a single one."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of all algorithms."""

    exact: ExactParameters = field(default_factory=ExactParameters)
    joint_paths: JointPathParameters = field(default_factory=JointPathParameters)
    lns: LnsParameters = field(default_factory=LnsParameters)
    code: CodeParameters = field(default_factory=CodeParameters)
    column_generation: ColumnGenerationParameters = field(
        default_factory=ColumnGenerationParameters
    )
    path_pricing: PathPricingParameters = field(default_factory=PathPricingParameters)
    baselines: BaselineParameters = field(default_factory=BaselineParameters)
