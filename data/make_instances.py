"""Make the instances of this folder: ``python data/make_instances.py [--check]``.

Work, parameters and sizes of blocks come from real torchvision networks at 224 x 224, cut by
:mod:`code_opt.networks` (meta device, no weights); adapters are counted from the shapes that
they join. Accuracies, drops, demands, capacities and limits are illustrative: the formulas and
figures below. The textbook instances are round numbers altogether.

``alexnet-mobilenet/instance.json`` is measured (by ``code-opt profile``); the instances beside
it are the same services under other loads.

``--check`` writes nothing and exits with 1 if a file is missing or differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import yaml

from code_opt import load_instance, parse_instance, save_instance
from code_opt.files import write_atomically
from code_opt.generate.day import DayOptions, draw_day
from code_opt.networks.blocks import cut
from code_opt.networks.compat import torch, torchvision
from code_opt.networks.cost import FLOAT_BYTES, BlockCost, adapter_cost, block_costs

HERE = Path(__file__).resolve().parent
IMAGE = (3, 224, 224)
IMAGE_BYTES = 30_000
"""Of an image as it is sent: 0.6 bytes a pixel, as the JPEG files of ImageNet have."""
GIGA = 10**9
LINE = 90

Record = dict[str, Any]


# --- Services: real networks with illustrative accuracies ------------------------------------


@dataclass(frozen=True)
class Service:
    """One provider's network: which one, where it runs, what its task looks like."""

    dnn: str
    architecture: str
    classes: int
    server: str
    task: str
    accuracy: float
    costs: tuple[BlockCost, ...]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.costs)

    def block(self, number: int) -> str:
        """Return a block's id."""
        return f"{self.dnn}/{number}"

    def input_shape(self, number: int) -> tuple[int, ...]:
        """Return the shape that a block takes."""
        return self.costs[number - 1].output_shape if number else IMAGE

    def share(self, number: int) -> float:
        """Return a block's share of the network's FLOPs."""
        return self.costs[number].flops / sum(cost.flops for cost in self.costs)

    def record(self) -> Record:
        """Return the network as it stands in a file."""
        return {
            "id": self.dnn,
            "server": self.server,
            "blocks": [
                {
                    "id": self.block(number),
                    "flops": cost.flops,
                    "params": cost.params,
                    "output_bytes": cost.output_bytes,
                }
                for number, cost in enumerate(self.costs)
            ],
        }


def service(
    dnn: str, architecture: str, classes: int, server: str, task: str, accuracy: float
) -> Service:
    """Build a torchvision network without weights and cut it into four blocks of equal work."""
    with torch.device("meta"):
        network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    costs = tuple(block_costs(cut(network, IMAGE, 4), IMAGE))
    return Service(dnn, architecture, classes, server, task, accuracy, costs)


# Illustrative drops. `unlike` says how much a task loses by features made for another task, if
# the rest of the network is the host's; `left` is the share of the depth that is still to come.


def exit_drop(left: float) -> float:
    """Return the drop of a head that reads features before the last block."""
    return round(0.30 * left**1.5, 3)


def host_exit_drop(left: float, unlike: float) -> float:
    """Return the drop of a head on a host's features: later ones are more the host's own."""
    return round(0.20 * left**1.5 + 0.5 * unlike * (1.0 - left), 3)


def borrow_drop(left: float, unlike: float) -> float:
    """Return the drop of entering a host's trunk; early features are alike in all networks."""
    return round(0.004 + 0.5 * unlike * (1.0 - left), 3)


def entry_drop(unlike: float) -> float:
    """Return the drop of starting in a host's trunk instead of the own one."""
    return round(0.02 + 0.7 * unlike, 3)


def return_drop(left: float, unlike: float) -> float:
    """Return the drop of coming back from a host: the less of the own network is left, the more."""
    return round(0.002 + 0.35 * unlike * (1.0 - left), 3)


def skip_drop(share: float) -> float:
    """Return the drop of jumping over a block with this share of the network's work."""
    return round(0.32 * share, 3)


def join(
    source: Service, u: int, target: Service, v: int, drop: float, place_adapters: bool
) -> Record:
    """Return a connection between two blocks with its plain adapter.

    The adapter runs on the source's server and hands on what the target's block takes; with
    ``place_adapters`` it runs on the target's server where that sends less.
    """
    shapes = source.costs[u].output_shape, target.input_shape(v)
    cost = adapter_cost(*shapes)
    record: Record = {
        "source": source.block(u),
        "target": target.block(v),
        "drop": drop,
        "flops": cost.flops,
        "params": cost.params,
    }
    sent = FLOAT_BYTES * prod(shapes[1])
    if place_adapters and source.costs[u].output_bytes < sent:
        record["server"] = target.server
    else:
        record["bytes"] = sent
    return record


def leave(source: Service, u: int, classes: int, drop: float) -> Record:
    """Return an exit: a pooled linear head on a block's output."""
    cost = adapter_cost(source.costs[u].output_shape, (classes,))
    return {
        "source": source.block(u),
        "target": "output",
        "drop": drop,
        "flops": cost.flops,
        "params": cost.params,
    }


def connections(
    own: Service, hosts: dict[Service, float], place_adapters: bool = False
) -> list[Record]:
    """Return the connections of a service's task: own skips and exits, and ways through hosts.

    Args:
        own: the service of the task.
        hosts: the other services with how unlike they are.
        place_adapters: put each adapter where it sends less (see :func:`join`).
    """
    last = own.depth - 1
    records = [join(own, k - 1, own, k + 1, skip_drop(own.share(k)), False) for k in range(1, last)]
    records += [
        leave(own, k, own.classes, exit_drop(1 - (k + 1) / own.depth)) for k in range(1, last)
    ]
    for host, unlike in hosts.items():
        left = [1 - (k + 1) / own.depth for k in range(last)]
        records.append({"source": "input", "target": host.block(0), "drop": entry_drop(unlike)})
        for k in range(last):
            drop = borrow_drop(left[k], unlike)
            records.append(join(own, k, host, k + 1, drop, place_adapters))
        for k in range(last):
            drop = return_drop(left[k], unlike)
            records.append(join(host, k, own, k + 1, drop, place_adapters))
        for k in range(1, last):
            drop = host_exit_drop(left[k], unlike)
            records.append(leave(host, k, own.classes, drop))
    return records


def task(own: Service, **fields: Any) -> Record:
    """Return the task of a service as it stands in a file."""
    start = {"id": own.task, "dnn": own.dnn, "accuracy": own.accuracy}
    return {**start, "input_bytes": IMAGE_BYTES, **fields}


def power(accuracy: float, throughput: float) -> Record:
    """Return a reward with these two exponents."""
    return {
        "accuracy": {"kind": "power", "exponent": accuracy},
        "throughput": {"kind": "power", "exponent": throughput},
    }


# --- Instances ----------------------------------------------------------------------------


def two_services() -> Record:
    """Return the textbook instance that docs/worked-example.md works by hand."""
    return {
        "schema": "code-opt/instance/1",
        "name": "two-services",
        "description": (
            "Textbook instance, worked by hand in docs/worked-example.md: two services, each "
            "with a DNN on a server of its own. All numbers are illustrative and round."
        ),
        "servers": [
            {"id": "edge-a", "flops": 120 * GIGA},
            {"id": "edge-b", "flops": 120 * GIGA},
        ],
        "dnns": [
            {
                "id": "large",
                "server": "edge-a",
                "blocks": [
                    {"id": "large/0", "flops": 2_000_000_000, "output_bytes": 400_000},
                    {"id": "large/1", "flops": 3_400_000_000, "output_bytes": 100_000},
                    {"id": "large/2", "flops": 600_000_000, "output_bytes": 40},
                ],
            },
            {
                "id": "small",
                "server": "edge-b",
                "blocks": [
                    {"id": "small/0", "flops": 1_000_000_000, "output_bytes": 200_000},
                    {"id": "small/1", "flops": 1_000_000_000, "output_bytes": 40},
                ],
            },
        ],
        "tasks": [
            {
                "id": "faces",
                "dnn": "large",
                "accuracy": 0.90,
                "floor": "standalone",
                "connections": [
                    _plain("large/0", "large/2", 0.12, 400_000_000),
                    _plain("large/0", "small/1", 0.04, 400_000_000),
                    _plain("small/1", "large/2", 0.01, 250_000_000),
                    _plain("small/1", "output", 0.02, 0),
                ],
            },
            {
                "id": "plates",
                "dnn": "small",
                "accuracy": 0.80,
                "demand": 50,
                "floor": "standalone",
                "connections": [_plain("small/0", "output", 0.03, 0)],
            },
        ],
        "reward": power(4.0, 1.0),
    }


def _plain(source: str, target: str, drop: float, flops: int) -> Record:
    return {"source": source, "target": target, "drop": drop, "flops": flops}


def infeasible() -> Record:
    """Return the textbook instance with a floor that no assignment reaches."""
    data = two_services()
    faces = data["tasks"][0]
    faces["floor"] = 60
    return data | {
        "name": "infeasible",
        "description": (
            "The textbook instance (two-services) with one requirement that cannot be met: faces "
            "asks for at least 60 inferences/s. Its path with the least work on edge-a (large/0, "
            "small/1 and the head there) takes 2.4 GFLOP of the server's 120 GFLOP/s, so no "
            "assignment gives it more than 50/s. Least change: a floor of 50/s; or, with the "
            "floor of 60/s, 144 GFLOP/s on edge-a. All numbers are illustrative."
        ),
    }


def shared_input() -> Record:
    """Return the instance of one camera that docs/shared-inputs.md works by hand."""
    return {
        "schema": "code-opt/instance/1",
        "name": "shared-input",
        "description": (
            "Textbook instance, worked by hand in docs/shared-inputs.md: two tasks look at the "
            "pictures of one camera, each has a DNN on the same server. All numbers are "
            "illustrative and round."
        ),
        "servers": [{"id": "edge", "flops": 120 * GIGA}],
        "dnns": [
            {
                "id": "large",
                "server": "edge",
                "blocks": [
                    {"id": "large/0", "flops": 6_000_000_000, "output_bytes": 400_000},
                    {"id": "large/1", "flops": 2_000_000_000, "output_bytes": 40},
                ],
            },
            {
                "id": "small",
                "server": "edge",
                "blocks": [
                    {"id": "small/0", "flops": 3_000_000_000, "output_bytes": 200_000},
                    {"id": "small/1", "flops": 1_000_000_000, "output_bytes": 40},
                ],
            },
        ],
        "tasks": [
            {
                "id": "faces",
                "dnn": "large",
                "accuracy": 0.90,
                "floor": "standalone",
                "input_group": "camera",
                "connections": [_plain("large/0", "output", 0.10, 500_000_000)],
            },
            {
                "id": "counts",
                "dnn": "small",
                "accuracy": 0.80,
                "floor": "standalone",
                "input_group": "camera",
                "connections": [
                    _plain("small/0", "output", 0.03, 0),
                    _plain("input", "large/0", 0.0, 0) | {"share": "identity"},
                    _plain("large/0", "output", 0.02, 500_000_000),
                    _plain("large/1", "output", 0.05, 250_000_000),
                ],
            },
        ],
        "reward": power(4.0, 1.0),
    }


def one_provider() -> Record:
    """Return one provider with three DNNs on one server (the paper's Fig. 1)."""
    alexnet = service("alexnet", "alexnet", 20, "edge", "objects", 0.80)
    mobilenet = service("mobilenet", "mobilenet_v2", 67, "edge", "scenes", 0.78)
    resnet = service("resnet", "resnet18", 196, "edge", "vehicles", 0.88)
    return {
        "schema": "code-opt/instance/1",
        "name": "one-provider",
        "description": (
            "One provider hosts three DNNs on one server, as in Fig. 1 of the CoDE paper (arXiv "
            "2401.00631): AlexNet for objects, MobileNetV2 for scenes, ResNet-18 for vehicles. "
            "Natively, the server can do about 60 % of the work that is asked for. Computed: "
            "FLOPs, parameters and sizes of the blocks (torchvision networks at 224 x 224, heads "
            "for 20, 67 and 196 classes, four blocks of about equal work each) and of the adapters "
            "(resize, 1x1 convolution; exits: pooling and a linear head). Illustrative: "
            "accuracies, drops (formulas in data/make_instances.py), demands, capacity and "
            "reward. Nothing is measured."
        ),
        "servers": [{"id": "edge", "flops": 100 * GIGA}],
        "dnns": [s.record() for s in (alexnet, mobilenet, resnet)],
        "tasks": [
            task(
                alexnet,
                demand=30,
                floor="standalone",
                min_accuracy=0.75,
                connections=connections(alexnet, {mobilenet: 0.05, resnet: 0.04}),
            ),
            task(
                mobilenet,
                demand=80,
                floor="standalone",
                min_accuracy=0.70,
                connections=connections(mobilenet, {alexnet: 0.09, resnet: 0.06}),
            ),
            task(
                resnet,
                demand=20,
                floor="standalone",
                min_accuracy=0.80,
                connections=connections(resnet, {alexnet: 0.16, mobilenet: 0.08}),
            ),
        ],
        "reward": power(4.0, 1.0),
    }


def metro_links() -> Record:
    """Return four services on four servers of a ring, with every kind of limit."""
    resnet = service("resnet", "resnet18", 196, "north", "vehicles", 0.88)
    alexnet = service("alexnet", "alexnet", 20, "east", "objects", 0.80)
    mobilenet = service("mobilenet", "mobilenet_v2", 67, "south", "scenes", 0.78)
    squeezenet = service("squeezenet", "squeezenet1_1", 43, "west", "signs", 0.91)
    ring = ["north", "east", "south", "west", "north"]
    pairs = [pair for a, b in zip(ring[:-1], ring[1:], strict=True) for pair in ((a, b), (b, a))]
    return {
        "schema": "code-opt/instance/1",
        "name": "metro-links",
        "description": (
            "Four services on four servers of a metropolitan ring; only neighbours are linked. "
            "In the optimum links, adapter memory and latency all bind: without any one of the "
            "three the reward would be higher. Computed: FLOPs, parameters and sizes of the "
            "blocks (torchvision's ResNet-18, AlexNet, MobileNetV2 and SqueezeNet 1.1 at 224 x "
            "224, four blocks of about equal work each) and of the adapters (resize, 1x1 "
            "convolution, placed where less has to be sent; exits: pooling and a linear head). "
            "Illustrative: "
            "accuracies, drops (formulas in data/make_instances.py), demands, capacities, "
            "bandwidths, delays, memories, latency limits and reward. Nothing is measured."
        ),
        "servers": [
            {"id": "north", "flops": 60 * GIGA, "memory": 50_000},
            {"id": "east", "flops": 60 * GIGA, "memory": 50_000},
            {"id": "south", "flops": 40 * GIGA, "memory": 100_000},
            {"id": "west", "flops": 80 * GIGA, "memory": 200_000},
        ],
        "links": [
            {"source": a, "target": b, "bandwidth": 25_000_000, "latency": 0.002} for a, b in pairs
        ],
        "dnns": [s.record() for s in (resnet, alexnet, mobilenet, squeezenet)],
        "tasks": [
            task(
                resnet,
                demand=30,
                floor="standalone",
                min_accuracy=0.80,
                max_latency=0.1,
                connections=connections(
                    resnet, {alexnet: 0.12, squeezenet: 0.10}, place_adapters=True
                ),
            ),
            task(
                alexnet,
                demand=60,
                floor="standalone",
                min_accuracy=0.70,
                max_latency=0.033,
                connections=connections(
                    alexnet, {resnet: 0.04, mobilenet: 0.05}, place_adapters=True
                ),
            ),
            task(
                mobilenet,
                demand=150,
                floor="standalone",
                min_accuracy=0.70,
                connections=connections(
                    mobilenet, {alexnet: 0.09, squeezenet: 0.07}, place_adapters=True
                ),
            ),
            task(
                squeezenet,
                demand=50,
                floor="standalone",
                min_accuracy=0.85,
                max_latency=0.05,
                connections=connections(
                    squeezenet, {mobilenet: 0.06, resnet: 0.06}, place_adapters=True
                ),
            ),
        ],
        "reward": power(4.0, 1.0),
    }


def measured_overturn() -> Record:
    """Return two services with measured paths that overturn what the drops predict."""
    resnet = service("resnet", "resnet18", 196, "edge-a", "vehicles", 0.88)
    mobilenet = service("mobilenet", "mobilenet_v2", 67, "edge-b", "scenes", 0.78)
    return {
        "schema": "code-opt/instance/1",
        "name": "measured-overturn",
        "description": (
            "Two services on two servers, with measured paths of vehicles that overturn the "
            "prediction. By the drops alone, the best path of vehicles is resnet/0, mobilenet/1, "
            "mobilenet/2 (predicted 0.811); it is measured at 0.752. The path mobilenet/0, "
            "resnet/1, mobilenet/2 is predicted at 0.716, below the least accuracy of 0.75; it is "
            "measured at 0.815 and is in the optimum. Two further measurements are close to their "
            "predictions. Computed: FLOPs, parameters and sizes of the blocks (torchvision's "
            "ResNet-18 and MobileNetV2 at 224 x 224, four blocks of about equal work each) and of "
            "the adapters (resize, 1x1 convolution; exits: pooling and a linear head). "
            "Illustrative: everything else, the measured accuracies too: they stand in for "
            "measurements."
        ),
        "servers": [
            {"id": "edge-a", "flops": 80 * GIGA},
            {"id": "edge-b", "flops": 80 * GIGA},
        ],
        "dnns": [s.record() for s in (resnet, mobilenet)],
        "tasks": [
            task(
                resnet,
                demand=60,
                floor="standalone",
                min_accuracy=0.75,
                connections=connections(resnet, {mobilenet: 0.08}),
                measured_paths=[
                    {
                        "blocks": ["resnet/0", "mobilenet/1", "resnet/2", "resnet/3"],
                        "accuracy": 0.846,
                    },
                    {"blocks": ["resnet/0", "mobilenet/1", "mobilenet/2"], "accuracy": 0.752},
                    {"blocks": ["resnet/0", "resnet/2"], "accuracy": 0.79},
                    {"blocks": ["mobilenet/0", "resnet/1", "mobilenet/2"], "accuracy": 0.815},
                ],
            ),
            task(
                mobilenet,
                demand=80,
                floor="standalone",
                min_accuracy=0.65,
                connections=connections(mobilenet, {resnet: 0.06}),
            ),
        ],
        "reward": power(4.0, 1.0),
    }


# --- The measured pair under other loads -----------------------------------------------------

PAIR = "alexnet-mobilenet"


def under_load(name: str, description: str, servers: Record, demands: Record) -> Record:
    """Return the measured pair with other capacities and demands."""
    data = load_instance(HERE / PAIR / "instance.json").to_dict()
    return data | {
        "name": f"{PAIR}-{name}",
        "description": f"The services of instance.json, measured as said there. {description}",
        "servers": [s | {"flops": servers.get(s["id"], s["flops"])} for s in data["servers"]],
        "tasks": [t | {"demand": demands[t["id"]]} for t in data["tasks"]],
    }


def balanced() -> Record:
    """Return both services asked for half as much again as they can do alone."""
    data = load_instance(HERE / PAIR / "instance.json").to_dict()
    capacity = {server["id"]: server["flops"] for server in data["servers"]}
    work = {d["id"]: sum(b["flops"] for b in d["blocks"]) for d in data["dnns"]}
    home = {d["id"]: d["server"] for d in data["dnns"]}
    demands = {
        t["id"]: round(1.5 * capacity[home[t["dnn"]]] / work[t["dnn"]]) for t in data["tasks"]
    }
    text = "Balanced load: each is asked for half as much again as it can do alone."
    return under_load("balanced", text, {}, demands)


def uneven() -> Record:
    """Return one service asked for more than its weak server can do, beside one with room."""
    text = (
        "Uneven load: edge-a has a quarter of the capacity and is asked for about nine times what "
        "it can do alone, edge-b could do more than it is asked for."
    )
    return under_load("uneven", text, {"edge-a": GIGA}, {"objects": 300, "groups": 150})


LOADS = {"balanced": balanced, "uneven": uneven}


# --- A day of demand ---------------------------------------------------------------------------


def four_sites_day() -> str:
    """Return demands of 24 hours for the four sites, drawn at random, as CSV text."""
    options = DayOptions(minutes=60, mean=0.6, seed=24)
    return draw_day(load_instance(HERE / "four-sites-csv"), options).to_csv()


# --- Files ---------------------------------------------------------------------------------

INSTANCES = (
    two_services,
    infeasible,
    shared_input,
    one_provider,
    metro_links,
    measured_overturn,
)


def pretty(value: Any, indent: str = "") -> str:
    """Return JSON with one record or list of plain values per line."""
    if not isinstance(value, dict | list):
        billions = isinstance(value, int) and value >= GIGA and value % (GIGA // 100) == 0
        return f"{value / GIGA:g}e9" if billions else json.dumps(value, ensure_ascii=False)
    inside = f"{indent}  "
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {pretty(item, inside)}" for key, item in value.items()]
        plain = not any(isinstance(item, dict | list) for item in value.values())
        opening, closing = "{}"
    else:
        items = [pretty(item, inside) for item in value]
        plain = not any(isinstance(item, dict | list) for item in value)
        opening, closing = "[]"
    if plain or (len("".join(items)) < LINE and indent):
        return f"{opening}{', '.join(items)}{closing}"
    body = f",\n{inside}".join(items)
    return f"{opening}\n{inside}{body}\n{indent}{closing}"


def write(folder: Path) -> list[str]:
    """Write all files into a folder and return their names, relative to it."""
    written = []
    for make in INSTANCES:
        data = make()
        parse_instance(data)
        written.append(folder / f"{data['name']}.json")
        write_atomically(written[-1], pretty(data) + "\n")
    (folder / PAIR).mkdir(exist_ok=True)
    for name, make in LOADS.items():
        written.append(folder / PAIR / f"{name}.json")
        save_instance(parse_instance(make()), written[-1])
    textbook = two_services()
    text = yaml.safe_dump(textbook, sort_keys=False, default_flow_style=None, width=LINE)
    written += [folder / "two-services.yaml", folder / "two-services-csv"]
    write_atomically(written[-2], text)
    save_instance(parse_instance(textbook), written[-1])
    for path in written[-2:]:
        if load_instance(path) != parse_instance(textbook):
            raise AssertionError(f"{path} does not hold what two-services.json holds")
    written.append(folder / "four-sites-day.csv")
    write_atomically(written[-1], four_sites_day())
    files = [p for path in written for p in ([path] if path.is_file() else sorted(path.iterdir()))]
    return [path.relative_to(folder).as_posix() for path in files]


def main() -> int:
    """Write the files, or compare them (``--check``)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    if not parser.parse_args().check:
        print("\n".join(write(HERE)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        differing = [
            name
            for name in write(Path(folder))
            if not (HERE / name).is_file()
            or (HERE / name).read_bytes() != (Path(folder) / name).read_bytes()
        ]
    for name in differing:
        print(f"data/{name} differs: run python data/make_instances.py", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
