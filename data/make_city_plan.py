"""Make the planner's example: ``python data/make_city_plan.py [--check]``.

Twelve services at six sites of a city, 24 hours, three years: ``data/city-plan.xlsx``, and the same
sheets as CSV files in ``data/city-plan/``. All numbers are made up; half of the drops are left
empty, as most planners do not know them. ``--check`` writes nothing and exits with 1 if a file
differs.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from pathlib import Path

from code_opt.desk import write_sheets
from code_opt.desk.sheets import SETTINGS, by_name

HERE = Path(__file__).resolve().parent
NAMES = ("city-plan.xlsx", "city-plan")
TYPES = {"T4": (2200, 310, 70, 1.0), "L4": (3400, 330, 72, 0.5), "Orin": (1100, 150, 40, 1.9)}
"""Price, price per year, power, and time in shares of that of a T4."""
SITES = {
    "north": {"T4": (2, None), "L4": (0, None)},
    "south": {"T4": (1, None), "L4": (0, None)},
    "harbour": {"Orin": (2, 4), "T4": (0, None)},
    "stadium": {"T4": (1, None), "L4": (0, None)},
    "mall": {"Orin": (2, 4), "L4": (0, None)},
    "hub": {"L4": (2, None)},
}
"""Devices now, and most to buy, by type."""
SERVICES = {
    "cars": ("north", "traffic", 0.94, 4, 9.0, 90),
    "plates": ("north", "traffic", 0.97, 3, 6.0, 90),
    "bikes": ("south", "traffic", 0.91, 3, 7.0, 60),
    "road-damage": ("south", "traffic", 0.88, 4, 8.0, 30),
    "ships": ("harbour", "night", 0.93, 3, 8.0, 40),
    "containers": ("harbour", "office", 0.96, 3, 6.0, 50),
    "crowd": ("stadium", "evening", 0.9, 4, 10.0, 120),
    "fire": ("stadium", "night", 0.98, 3, 5.0, 40),
    "theft": ("mall", "shop", 0.89, 3, 7.0, 80),
    "shelves": ("mall", "shop", 0.92, 3, 5.0, 70),
    "faces": ("hub", "office", 0.97, 4, 9.0, 90),
    "objects": ("hub", "shop", 0.93, 4, 11.0, 100),
}
"""Site, kind of day, accuracy, blocks, milliseconds on a T4, largest demand [1/s]."""
PEAKS = {
    "traffic": ((8, 2.0), (17, 2.5)),
    "office": ((11, 3.5), (15, 3.0)),
    "shop": ((13, 2.5), (18, 3.0)),
    "evening": ((20, 2.0), (20, 2.0)),
    "night": ((2, 4.0), (22, 3.0)),
}
"""Hours of the peaks of a day, and their widths."""
GROWTH = (("2027", 1), ("2028", 1.35), ("2029", 1.8))


def demand(kind: str, most: float, hour: int, luck: random.Random) -> float:
    """Return the demand of an hour [1/s]."""
    share = 0.15
    for peak, width in PEAKS[kind]:
        distance = min(abs(hour - peak), 24 - abs(hour - peak))
        share = max(share, math.exp(-((distance / width) ** 2)))
    return round(most * min(share * luck.uniform(0.93, 1.0), 1.0), 1)


def sheets() -> dict[str, list[list[object]]]:
    """Return the sheets of the example."""
    luck = random.Random(2027)
    found: dict[str, list[list[object]]] = {}

    def begin(name: str, *more: str) -> list[list[object]]:
        found[name] = [[*(item.heading for item in by_name(name).fields), *more]]
        return found[name]

    settings = begin("Settings")
    values = ("city", "EUR", 1.5, 0.2, 0.6, None, 0.05)
    settings += [[item.heading, value] for item, value in zip(SETTINGS, values, strict=True)]
    begin("Sites").extend([site] for site in SITES)
    types = begin("Device types")
    types += [
        [name, price, yearly, power, 1, None] for name, (price, yearly, power, _) in TYPES.items()
    ]
    devices = begin("Devices")
    devices += [[s, name, *counts] for s, own in SITES.items() for name, counts in own.items()]
    networks = begin("Networks")
    networks += [[f"{name}-net", site] for name, (site, *_) in SERVICES.items()]
    times = [f"ms on {name}" for name in TYPES]
    blocks = begin("Blocks", *times)
    services = begin("Services")
    connections = begin("Connections", *times)
    demands = begin("Demand", *(f"{hour:02d}:00" for hour in range(24)))
    for name, (site, kind, accuracy, count, total, most) in SERVICES.items():
        shares = [luck.uniform(0.7, 1.3) for _ in range(count)]
        for i, share in enumerate(shares):
            time = total * share / sum(shares)
            size = round(400 / 2**i) if i < count - 1 else 0.04
            row = [round(time * TYPES[k][3], 2) if k in SITES[site] else None for k in TYPES]
            blocks.append([f"{name}-net", f"{name}/{i}", size, *row])
        limit = round(total * 2.5 + 10)
        floor = accuracy - 0.08
        services.append(
            [
                name,
                f"{name}-net",
                accuracy,
                None,
                None,
                round(floor, 2),
                limit,
                *[None] * 2,
                30,
                None,
            ]
        )
        connections += ways(name, site, count, luck)
        demands.append([name, *(demand(kind, most, hour, luck) for hour in range(24))])
    links = begin("Links")
    links += [
        [s, "hub", "yes", 40, luck.choice((2, 3, 4)), 40, 400, 120, None]
        for s in SITES
        if s != "hub"
    ]
    growth = begin("Growth")
    growth += [list(year) for year in GROWTH]
    return found


def ways(name: str, site: str, count: int, luck: random.Random) -> list[list[object]]:
    """Return the connections of a service; of every second service nobody knows the drops."""
    is_known = luck.random() < 0.5
    hosts = [host for host in ("faces", "objects") if host != name]
    host = luck.choice(hosts)
    last = SERVICES[host][3] - 1

    def drop(value: float) -> float | None:
        return round(value * luck.uniform(0.7, 1.3), 3) if is_known else None

    exits = [[name, f"{name}/{i}", "output", drop(0.05 / (i + 1))] for i in range(count - 1)]
    over = [
        [name, f"{name}/0", f"{host}/{last}", drop(0.02)],
        [name, "input", f"{host}/0", drop(0.02)],
        [name, f"{host}/{last}", "output", drop(0.008)],
    ]
    rows = [*exits, *over]
    return [[*row, None, 0.3, *adapter(site, host, row[1])] for row in rows]


def adapter(site: str, host: str, source: object) -> list[float | None]:
    """Return the milliseconds of an adapter on each type that it can run on."""
    at_host = str(source).startswith(f"{host}/") or source == "input"
    own = SITES["hub"] if at_host else SITES[site]
    return [round(0.1 * TYPES[name][3], 3) if name in own else None for name in TYPES]


def main() -> int:
    """Write the files, or compare them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    if not arguments.parse_args().check:
        for name in NAMES:
            write_sheets(sheets(), HERE / name)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            write_sheets(sheets(), Path(folder) / name)
        made = sorted(p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())
        same = [(Path(folder) / p).read_bytes() == (HERE / p).read_bytes() for p in made]
    return int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
