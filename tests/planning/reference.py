"""Plans by trying everything, and plans checked from data: nothing shared with the package.

Paths come from :mod:`tests.reference`, which walks the graphs by itself; capacities, units and
loads are worked out here in FLOP and bytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from code_opt.instance import Instance, parse_instance
from tests.reference import ReferencePath, reference_pool, together
from tests.strategies import random_data

Array = NDArray[np.float64]
SLACK = 1e-6
NOISE = 1e-12
"""Rounding of loads, relative."""


class Run:
    """What the run at hand can use."""

    is_long = True
    """Whether it selects long tests: to collect thousands and leave them out takes its time."""


def seeds(few: int, many: int) -> list[Any]:
    """Return seeds: a few for every run, many more for the long one."""
    more = range(few, many if Run.is_long else few)
    return [*range(few), *(pytest.param(s, marks=pytest.mark.long) for s in more)]


def planning_instance(seed: int, **options: Any) -> Instance:
    """Return a random instance with demands, units, prices and limits on what is sold.

    With ``groups`` some tasks have no demand of their own, but that of their input group. With
    ``empty`` (and ``devices``) some servers have no device yet.
    """
    options = {"max_combinations": 300, **options}
    empty = options.pop("empty", False)
    data = random_data(seed, **options)
    trunks = {dnn["id"]: [block["id"] for block in dnn["blocks"]] for dnn in data["dnns"]}
    for task in data["tasks"] if options.get("alternatives") else ():
        # Tables name paths by their blocks: no connections lead along those of an alternative.
        ends = {(c["source"], c["target"]) for c in task["connections"]}
        task["alternatives"] = [
            a
            for a in task["alternatives"]
            if ("input", trunks[a["dnn"]][0]) not in ends
            or (trunks[a["dnn"]][-1], "output") not in ends
        ]
    rng = np.random.default_rng(seed + 1_000_000)
    for server in data["servers"]:
        server["cost"] = float(rng.choice([0.0, 1.0, 1.0, 2.0, 3.5, 7.0]))
        none_sold, share = rng.random() < 0.1, float(rng.choice([0.1, 0.3, 0.5, 1.0]))
        if options.get("devices"):
            server["devices"] = server["devices"] or 1
        if server["flops"] is None or (options.get("devices") and rng.random() < 0.5):
            server["unit_devices"] = None if none_sold else server["devices"] * share
        else:
            server["unit_flops"] = None if none_sold else server["flops"] * share
        server["max_units"] = float(rng.integers(0, 12)) if rng.random() < 0.3 else None
    for link in data["links"]:
        link["cost"] = float(rng.choice([0.5, 1.0, 2.0]))
        if link["bandwidth"] is not None and rng.random() < 0.7:
            link["unit_bandwidth"] = link["bandwidth"] * float(rng.choice([0.5, 1.0]))
            link["max_units"] = float(rng.integers(0, 8)) if rng.random() < 0.3 else None
    servers = {server["id"]: server for server in data["servers"]}
    for task in data["tasks"]:
        if task["demand"] is None:
            (dnn,) = (d for d in data["dnns"] if d["id"] == task["dnn"])
            most = native_rate(dnn["blocks"], servers[dnn["server"]])
            # The largest floor of an input group is that of all its tasks.
            name = task.get("input_group")
            like = [t for t in data["tasks"] if name and t.get("input_group") == name]
            floors = [t["floor"] for t in like or [task]]
            floor = max((f for f in floors if isinstance(f, float)), default=0.0)
            task["demand"] = max(most * float(rng.uniform(0.2, 2.0)), floor)
    for server in data["servers"] if empty else ():
        if server["flops"] is None and rng.random() < 0.6:
            share = float(rng.choice([1.0, 2.0]))
            server |= {"devices": 0, "unit_devices": share if server["unit_devices"] else None}
    if options.get("groups"):
        for group in groups_of(parse_instance(data)):
            if len(group) > 1 and rng.random() < 0.3:
                data["tasks"][group[0]]["demand"] = None
    return parse_instance(data)


def native_rate(blocks: list[dict[str, Any]], server: dict[str, Any]) -> float:
    """Return the rate that fills a server with some blocks [inferences/s]."""
    if all(block.get("seconds") is None for block in blocks):
        return float(server["flops"] / (sum(block["flops"] for block in blocks) or 1e6))
    busy = 0.0
    for block in blocks:
        times, batch = block["seconds"], server["batch"]
        if times is None:
            busy += block["flops"] * server["devices"] / (server["flops"] or math.inf)
        else:
            busy += (times[str(batch)] if isinstance(times, dict) else times) / batch
    return float(server["devices"] / busy)


def edge_instance(seed: int, factor: float = 1.0, **options: Any) -> Instance:
    """Return a random instance at the edges of planning.

    Loads are up to 1e4 times the capacities, and of one choice of paths the units that most
    servers and links need are whole numbers, or a hair more or less: between 4e-12 and 1e-6 of
    the load.

    Args:
        seed: of everything.
        factor: on the demands, that the units are made for.
        options: of :func:`planning_instance`.
    """
    instance = planning_instance(seed, **options)
    rng = np.random.default_rng(seed + 2_000_000)
    data = instance.to_dict()
    scale = 10.0 ** rng.uniform(-1.0, 4.0)
    for server in data["servers"]:
        size = server["unit_flops"]
        server |= {
            "flops": server["flops"] / scale,
            "unit_flops": None if size is None else size / scale,
            "max_units": None,
        }
    for link in data["links"]:
        if link["bandwidth"] is not None:
            link["bandwidth"] /= scale
            if link["unit_bandwidth"] is not None:
                link |= {"unit_bandwidth": link["unit_bandwidth"] / scale, "max_units": None}
    for task in data["tasks"]:
        # At such capacities no path would meet them.
        task["max_latency"] = None
        task["floor"] = 0.0 if isinstance(task["floor"], float) else task["floor"]
    instance = parse_instance(data)
    tables = Tables(instance)
    choices = [chosen for chosen, _ in assignments(instance, None)]
    if not choices:
        return instance
    sizes = {}
    demand = factor * demands_of(instance)
    # Of half of the instances one choice for all: the cheapest with fractions of units.
    price = np.where(tables.unit > 0.0, tables.price / np.maximum(tables.unit, 1e-300), 1e9)
    over = [np.maximum(tables.load(c, demand) - tables.capacity, 0.0) @ price for c in choices]
    cheap = choices[int(np.argmin(over))] if rng.random() < 0.5 else None
    for i, name in enumerate(tables.names):
        chosen = cheap or choices[int(rng.integers(len(choices)))]
        load = tables.load(chosen, demand)[i]
        if tables.unit[i] <= 0.0 or load <= 1.1 * tables.capacity[i]:
            continue
        whole = int(rng.integers(1, (10, 1000)[seed % 2]))
        hair = float(rng.choice([-1.0, 0.0, 1.0])) * 10.0 ** rng.uniform(-11.4, -6.0)
        sizes[name] = (load * (1.0 + hair) - tables.capacity[i]) / whole
    for server in data["servers"]:
        server["unit_flops"] = sizes.get((server["id"],), server["unit_flops"])
    for link in data["links"]:
        size = sizes.get((link["source"], link["target"]), link["unit_bandwidth"])
        link["unit_bandwidth"] = size
    return parse_instance(data)


def groups_of(instance: Instance) -> list[list[int]]:
    """Return the tasks that have one rate: those of an input group, or a single one."""
    groups: dict[Any, list[int]] = {}
    for t, task in enumerate(instance.tasks):
        key = ("task", task.id) if task.input_group is None else ("group", task.input_group)
        groups.setdefault(key, []).append(t)
    return list(groups.values())


def demands_of(instance: Instance) -> Array:
    """Return the demand of every task [inferences/s]; the least of an input group is its own."""
    demands = np.zeros(len(instance.tasks))
    for group in groups_of(instance):
        asked = [instance.tasks[t].demand for t in group]
        demands[group] = min(d for d in asked if d is not None)
    return demands


def with_units(instance: Instance, unit: float) -> Instance:
    """Return an instance whose servers sell units of one size [FLOP/s]."""
    servers = [{**s.model_dump(mode="json"), "unit_flops": unit} for s in instance.servers]
    return instance.replace(servers=servers)


@dataclass(frozen=True)
class Tables:
    """Capacities and prices of an instance: servers first, then the links with a bandwidth."""

    instance: Instance

    @property
    def links(self) -> list[int]:
        return [i for i, link in enumerate(self.instance.links) if link.bandwidth is not None]

    @property
    def names(self) -> list[tuple[str, ...]]:
        links = self.instance.links
        servers: list[tuple[str, ...]] = [(s.id,) for s in self.instance.servers]
        return servers + [(links[i].source, links[i].target) for i in self.links]

    @property
    def capacity(self) -> Array:
        links = self.instance.links
        return np.array(
            [
                (s.devices if s.flops is None else s.flops) * (s.max_utilization or 1.0)
                for s in self.instance.servers
            ]
            + [links[i].bandwidth for i in self.links]
        )

    @property
    def unit(self) -> Array:
        links = self.instance.links
        return np.array(
            [
                (
                    s.unit_flops
                    or (s.unit_devices or 0.0) * (1.0 if s.flops is None else s.flops / s.devices)
                )
                * (s.max_utilization or 1.0)
                for s in self.instance.servers
            ]
            + [links[i].unit_bandwidth or 0.0 for i in self.links]
        )

    @property
    def yearly(self) -> Array:
        links = self.instance.links
        return np.array(
            [s.yearly_cost for s in self.instance.servers]
            + [links[i].yearly_cost for i in self.links]
        )

    @property
    def price(self) -> Array:
        links = self.instance.links
        return np.array(
            [s.cost for s in self.instance.servers] + [links[i].cost for i in self.links]
        )

    @property
    def sold(self) -> Array:
        records = [*self.instance.servers, *(self.instance.links[i] for i in self.links)]
        most = [math.inf if r.max_units is None else r.max_units for r in records]
        return np.where(self.unit > 0.0, most, 0.0)

    @property
    def memory(self) -> Array:
        return np.array([math.inf if s.memory is None else s.memory for s in self.instance.servers])

    def use(self, path: ReferencePath) -> Array:
        """FLOP and bytes of one inference."""
        return np.concatenate((path.work, path.traffic[self.links]))

    def use_of_groups(self, chosen: Sequence[ReferencePath | None]) -> tuple[Array, Array]:
        """FLOP and bytes of one inference of each group, and the bytes that its adapters fill.

        Args:
            chosen: the path of each task; None for a task that does not run.
        """
        use, memory = [], []
        for group in groups_of(self.instance):
            running = [(self.instance.tasks[t], chosen[t]) for t in group if chosen[t] is not None]
            work, traffic, filled = (
                np.zeros_like(self.memory),
                np.zeros(len(self.instance.links)),
                0,
            )
            if running:
                work, traffic, filled = together(
                    [task for task, _ in running], [path for _, path in running if path is not None]
                )
            use.append(np.concatenate((work, traffic[self.links])))
            memory.append(np.zeros_like(self.memory) + filled)
        return np.array(use), np.sum(memory, axis=0)

    def load(self, chosen: Sequence[ReferencePath | None], rates: Array) -> Array:
        """FLOP/s and bytes/s of paths at rates, which are one in each group; None: no path."""
        use, _ = self.use_of_groups(chosen)
        first = [
            next((rates[t] for t in group if chosen[t] is not None), 0.0)
            for group in groups_of(self.instance)
        ]
        load = np.asarray(np.array(first) @ use)
        # A path on a server that is not there needs a device, even at a rate of 0.
        return np.where((self.capacity <= 0.0) & (use > 0.0).any(axis=0), load + 1e-300, load)

    def units(self, load: Array) -> Array | None:
        """Least units that carry a load, None where they are not sold.

        Exact but for the rounding of sums.
        """
        over = np.maximum(load - self.capacity - NOISE * np.maximum(load, self.capacity), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.where(over > 0.0, np.ceil(over / self.unit), 0.0)
        return None if (units > self.sold).any() else units


def with_first_devices(instance: Instance) -> Instance:
    """Return an instance in which servers that have no device yet, but sell some, have one."""
    servers = [
        s.model_copy(update={"devices": 1.0}) if s.devices == 0 and s.unit_devices else s
        for s in instance.servers
    ]
    return instance.model_copy(update={"servers": tuple(servers)})


def assignments(
    instance: Instance, min_accuracy: float | None, allowed: Any = lambda task, path: True
) -> Iterator[tuple[list[ReferencePath], float]]:
    """Yield every admissible assignment that fits the memories, with its average accuracy."""
    tables, equipped = Tables(instance), with_first_devices(instance)
    pool = [
        [p for p in paths if allowed(task, p)]
        for task, paths in zip(instance.tasks, reference_pool(equipped).values(), strict=True)
    ]
    weights = np.array([task.weight for task in instance.tasks])
    for chosen in itertools.product(*pool):
        accuracy = float(weights @ [p.accuracy for p in chosen]) / weights.sum()
        if min_accuracy is not None and accuracy < min_accuracy * (1 - 1e-9):
            continue
        if (tables.use_of_groups(chosen)[1] > tables.memory * (1 + 1e-9)).any():
            continue
        yield list(chosen), accuracy


def cheapest(
    instance: Instance, demands: Sequence[Array], min_accuracy: float | None, allowed: Any = None
) -> float:
    """Return the least cost that serves every one of some demands, inf where there is none."""
    tables = Tables(instance)
    best = math.inf
    options = {} if allowed is None else {"allowed": allowed}
    for chosen, _ in assignments(instance, min_accuracy, **options):
        units = tables.units(np.max([tables.load(chosen, d) for d in demands], axis=0))
        if units is not None:
            best = min(best, float(units @ tables.price))
    return best


def unit_vectors(
    instance: Instance, demand: Array, min_accuracy: float | None
) -> list[tuple[float, ...]]:
    """Return the undominated vectors of units that serve a demand."""
    tables = Tables(instance)
    found = set()
    for chosen, _ in assignments(instance, min_accuracy):
        units = tables.units(tables.load(chosen, demand))
        if units is not None:
            found.add(tuple(units.tolist()))
    return undominated(found)


def undominated(vectors: set[tuple[float, ...]]) -> list[tuple[float, ...]]:
    return [
        v
        for v in vectors
        if not any(w != v and all(a <= b for a, b in zip(w, v, strict=True)) for w in vectors)
    ]


def cheapest_growth(
    instance: Instance, demands: Sequence[Array], min_accuracy: float | None, value: Sequence[float]
) -> float:
    """Return the least present value of a growth path, inf where there is none."""
    options = [unit_vectors(instance, d, min_accuracy) for d in demands]
    return cheapest_chain(Tables(instance), options, value)


def paid_by_year(instance: Instance, seed: int) -> Instance:
    """Return an instance whose units cost something in each year that they stand, too."""
    return instance.with_(
        {
            f"{kind}[{i}].yearly_cost": 0.5 * record.cost * ((i + seed) % 3)
            for kind in ("servers", "links")
            for i, record in enumerate(getattr(instance, kind))
        }
    )


def cheapest_chain(
    tables: Tables, options: Sequence[Sequence[tuple[float, ...]]], value: Sequence[float]
) -> float:
    """Return the least present value of units, of which each period has one of some vectors."""
    best = math.inf
    for chain in itertools.product(*options):
        standing = np.maximum.accumulate(np.array(chain), axis=0)
        bought = np.diff(standing, axis=0, prepend=0.0)
        spent = bought @ tables.price + standing @ tables.yearly
        best = min(best, float(np.asarray(value) @ spent))
    return best


def cheapest_adapting(
    instance: Instance,
    demands: Array,
    probability: Array,
    floors: Array,
    min_accuracy: float | None,
    *,
    expected: float | None = None,
    worst: float | None = None,
) -> float:
    """Return the least cost of serving shares of uncertain demands, inf where there is none."""
    tables = Tables(instance)
    groups = groups_of(instance)
    first = [group[0] for group in groups]
    sizes = np.array([len(group) for group in groups], dtype=float)
    demands, floors = demands[:, first], floors[:, first]
    resources, (scenarios, tasks) = len(tables.capacity), demands.shape
    most = np.minimum(tables.sold, 1e4)
    best = math.inf
    columns = resources + scenarios * tasks
    for chosen, _ in assignments(instance, min_accuracy):
        use = tables.use_of_groups(chosen)[0] / tables.capacity
        rows, low, high = [], [], []
        for k in range(scenarios):
            block = slice(resources + k * tasks, resources + (k + 1) * tasks)
            for i in range(resources):
                row = np.zeros(columns)
                row[block] = use[:, i]
                row[i] = -tables.unit[i] / tables.capacity[i]
                rows.append(row)
                low.append(-np.inf)
                high.append(1.0)
            if worst is not None:
                row = np.zeros(columns)
                row[block] = sizes
                rows.append(row)
                low.append(worst * demands[k] @ sizes)
                high.append(np.inf)
        if expected is not None:
            row = np.zeros(columns)
            for k in range(scenarios):
                row[resources + k * tasks : resources + (k + 1) * tasks] = probability[k] * sizes
            rows.append(row)
            low.append(expected * float(probability @ demands @ sizes))
            high.append(np.inf)
        answer = milp(
            np.concatenate((tables.price, np.zeros(scenarios * tasks))),
            integrality=np.concatenate((np.ones(resources), np.zeros(scenarios * tasks))),
            bounds=Bounds(
                np.concatenate((np.zeros(resources), floors.ravel())),
                np.concatenate((most, demands.ravel())),
            ),
            constraints=LinearConstraint(np.array(rows), low, high),
            options={"mip_rel_gap": 1e-9},
        )
        if answer.status == 0:
            best = min(best, float(answer.fun))
    return best


def visited(instance: Instance, task: Any, path: ReferencePath) -> set[str]:
    """Return the servers that a path visits: of its blocks and adapters, and the input's origin."""
    home = {b.id: d.server for d in instance.dnns for b in d.blocks}
    servers = {home[block] for block in path.blocks}
    nodes = ["input", *path.blocks, "output"]
    # A path whose accuracy is given runs one network alone.
    used = () if path.source == "given" else task.connections
    connections = {(c.source, c.target): c for c in used}
    for pair in itertools.pairwise(nodes):
        connection = connections.get(pair)
        if connection is not None and connection.server is not None:
            servers.add(connection.server)
    return servers if task.origin is None else servers | {task.origin}


@dataclass(frozen=True)
class Asked:
    """What one state asks for [inferences/s], and what of it is kept under failures."""

    demand: Array
    kept: Array | None = None
    """When a server fails; None: nothing is asked."""
    kept_by_devices: Array | None = None
    """When one device of a server fails."""


def surviving_units(
    instance: Instance, states: Sequence[Asked], min_accuracy: float | None, below: float = math.inf
) -> list[tuple[float, ...]]:
    """Return the undominated vectors of units that serve states by one choice of paths and backups.

    Args:
        instance: what is planned for.
        states: that all have the same paths, and the same backups under each failure.
        min_accuracy: floor on the average accuracy.
        below: choices of paths that cost as much by themselves are left out.
    """
    tables = Tables(instance)
    pool = list(reference_pool(with_first_devices(instance)).values())
    tasks = range(len(pool))
    places = [{p.blocks: visited(instance, instance.tasks[t], p) for p in pool[t]} for t in tasks]
    device = {
        s.id: (1.0 if s.flops is None else s.flops / s.devices) * (s.max_utilization or 1.0)
        for s in instance.servers
    }
    largest = tables.capacity + np.where(tables.unit > 0.0, tables.unit * tables.sold, 0.0)
    events = []
    for number, server in enumerate(device):
        if states[0].kept is not None:
            events.append((number, server, 0.0, [s.kept for s in states]))
        if states[0].kept_by_devices is not None:
            has_more = largest[number] > device[server] * (1.0 + 1e-9)
            lost = device[server] if has_more else 0.0
            events.append((number, server, lost, [s.kept_by_devices for s in states]))
    total: set[tuple[float, ...]] = set()
    for chosen, _ in assignments(instance, min_accuracy):
        units = tables.units(np.max([tables.load(chosen, s.demand) for s in states], axis=0))
        if units is None or float(units @ tables.price) >= below:
            continue
        vectors = {tuple(units.tolist())}
        for number, server, lost, kept in events:
            hit = [t for t in tasks if server in places[t][chosen[t].blocks]]
            options = []
            for t in hit:
                other = [p for p in pool[t] if server not in places[t][p.blocks]]
                options.append([chosen[t], *other] if lost else other or [None])
            found = set()
            for backups in itertools.product(*options):
                then = [chosen[t] if t not in hit else backups[hit.index(t)] for t in tasks]
                if (tables.use_of_groups(then)[1] > tables.memory * (1 + 1e-9)).any():
                    continue
                loads = np.array([tables.load(then, rates) for rates in kept])
                loads[:, number] += np.where(loads[:, number] > 1e-200, lost, 0.0)
                needed = tables.units(loads.max(axis=0))
                if needed is not None:
                    found.add(tuple(needed.tolist()))
            vectors = merged(vectors, found)
        total |= vectors
    return undominated(total)


def merged(some: set[tuple[float, ...]], others: set[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Return the undominated vectors of units that are enough for one of each of two sets."""
    both = {tuple(np.maximum(v, w).tolist()) for v in some for w in undominated(others)}
    return set(undominated(both))


def cheapest_survivable(
    instance: Instance, demand: Array, keep: Array, min_accuracy: float | None
) -> float:
    """Return the least cost of a plan that keeps rates under every failure of one server."""
    price = Tables(instance).price
    vectors = surviving_units(instance, [Asked(demand, keep)], min_accuracy)
    return min((float(np.asarray(v) @ price) for v in vectors), default=math.inf)


def cheapest_combined(
    instance: Instance,
    periods: Sequence[Sequence[Sequence[Asked]]],
    min_accuracy: float | None,
    value: Sequence[float],
) -> float:
    """Return the least present value of a combined plan, inf where there is none.

    Args:
        instance: what is planned for.
        periods: of the growth path; of each the choices of paths, of each of these the states.
        min_accuracy: floor on the average accuracy.
        value: what money of each period counts.
    """
    options = []
    for choices in periods:
        vectors = set(surviving_units(instance, choices[0], min_accuracy))
        for states in choices[1:]:
            vectors = merged(vectors, set(surviving_units(instance, states, min_accuracy)))
        options.append(undominated(vectors))
    return cheapest_chain(Tables(instance), options, value)


def exhaustive_front(instance: Instance) -> list[tuple[float, float]]:
    """Return all undominated (throughput, accuracy), from most throughput on."""
    tables = Tables(instance)
    floors = _floors(instance)
    demand = [task.demand for task in instance.tasks]
    values = []
    for chosen, accuracy in assignments(instance, None):
        use = np.array([tables.use(p) for p in chosen]) / tables.capacity
        answer = linprog(
            -np.ones(len(chosen)),
            A_ub=use.T,
            b_ub=np.ones(use.shape[1]),
            bounds=list(zip(floors, demand, strict=True)),
            method="highs",
        )
        if answer.status == 0:
            values.append((-float(answer.fun), accuracy))
    front: list[tuple[float, float]] = []
    for throughput, accuracy in sorted(values, reverse=True):
        if not front or accuracy > front[-1][1] + 1e-9:
            front.append((throughput, accuracy))
    return front


def _floors(instance: Instance) -> list[float]:
    from tests.reference import _Tables

    tables = _Tables(instance)
    floors = [0.0] * len(instance.tasks)
    for group in groups_of(instance):
        for t in group:
            floors[t] = tables.floor([instance.tasks[k] for k in group])
    return floors


floors_of = _floors


def path_of(instance: Instance, task: str, blocks: str) -> ReferencePath:
    """Return a path that a table names."""
    (found,) = (
        p
        for p in reference_pool(with_first_devices(instance))[task]
        if p.blocks == tuple(blocks.split(" > "))
    )
    return found


def loads(instance: Instance, paths: dict[str, str], rates: dict[str, float]) -> dict[Any, float]:
    """Return the load of every server and limited link [FLOP/s, bytes/s] by its key.

    Tasks without a path do not run; those of a group have to have one rate.
    """
    tables = Tables(instance)
    tasks = [task.id for task in instance.tasks]
    for group in groups_of(instance):
        have = [rates[tasks[t]] for t in group if tasks[t] in paths]
        assert max(have, default=0.0) == pytest.approx(min(have, default=0.0), rel=1e-6)
    chosen = [path_of(instance, t, paths[t]) if t in paths else None for t in tasks]
    total = tables.load(chosen, np.array([rates.get(t, 0.0) for t in tasks]))
    return dict(zip(tables.names, total.tolist(), strict=True))


def fits(
    instance: Instance, units: dict[Any, float], load: dict[Any, float], slack: float = SLACK
) -> bool:
    """Tell whether loads stay within the capacities with the units bought."""
    tables = Tables(instance)
    for name, capacity, unit in zip(tables.names, tables.capacity, tables.unit, strict=True):
        if load[name] > (capacity + units.get(name, 0.0) * unit) * (1.0 + slack):
            return False
    return True


def average(instance: Instance, paths: dict[str, str]) -> float:
    """Return the average accuracy of paths that a table names."""
    weights = np.array([task.weight for task in instance.tasks])
    values = [path_of(instance, t.id, paths[t.id]).accuracy for t in instance.tasks]
    return float(weights @ values) / float(weights.sum())


def native_average(instance: Instance) -> float:
    """Return the average accuracy of the native paths."""
    weights = np.array([task.weight for task in instance.tasks])
    values = [native_accuracy(instance, task) for task in instance.tasks]
    return float(weights @ values) / float(weights.sum())


def native_accuracy(instance: Instance, task: Any) -> float:
    (dnn,) = (d for d in instance.dnns if d.id == task.dnn)
    blocks = tuple(block.id for block in dnn.blocks)
    for path in task.measured_paths:
        if path.blocks == blocks:
            return path.accuracy
    steps = set(zip(("input", *blocks), (*blocks, "output"), strict=True))
    drops = sum(c.drop for c in task.connections if (c.source, c.target) in steps)
    return max(min(1.0, task.accuracy - drops), 0.0)
