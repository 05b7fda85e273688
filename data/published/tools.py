"""What the makers of this folder share: figures in tables, instances of them, ``--check``."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_opt import parse_instance
from code_opt.files import write_atomically

HERE = Path(__file__).resolve().parent
REWARD = {
    "accuracy": {"kind": "power", "exponent": 4.0},
    "throughput": {"kind": "power", "exponent": 1.0},
}
IMAGE_BYTES = 30_000.0
"""Of an image as it is sent: 0.6 bytes a pixel, as the JPEG files of ImageNet have."""

Record = dict[str, Any]
Row = Mapping[str, str]


@dataclass(frozen=True)
class Hosted:
    """A whole network on a device, with what was published of it."""

    network: str
    device: str
    seconds: float
    """Of the device for one inference; where batches were timed, the share of one."""
    accuracy: float


@dataclass(frozen=True)
class Service:
    """An operator's service: the network that it runs and what is asked of it."""

    task: str
    network: str
    device: str
    demand: float


def hosted_instance(
    name: str,
    description: str,
    hosted: Sequence[Hosted],
    services: Sequence[Service],
    samples: float,
) -> Record:
    """Return an instance in which all other networks on all devices are alternatives of a task.

    Args:
        name: of the instance.
        description: where the figures come from.
        hosted: the networks; each is one block with its time.
        services: the tasks.
        samples: images behind every accuracy.
    """
    block = {h: f"{h.network}@{h.device}" for h in hosted}
    tasks = []
    for service in services:
        (own,) = (h for h in hosted if (h.network, h.device) == (service.network, service.device))
        tasks.append(
            {
                "id": service.task,
                "dnn": block[own],
                "accuracy": own.accuracy,
                "demand": service.demand,
                "input_bytes": IMAGE_BYTES,
                "samples": samples,
                "alternatives": [
                    {"dnn": block[h], "accuracy": h.accuracy, "samples": samples}
                    for h in hosted
                    if h != own
                ],
            }
        )
    devices = dict.fromkeys(h.device for h in hosted)
    return {
        "schema": "code-opt/instance/1",
        "name": name,
        "description": description,
        "servers": [{"id": device} for device in devices],
        "dnns": [
            {
                "id": block[h],
                "server": h.device,
                "blocks": [{"id": block[h], "flops": 0.0, "seconds": h.seconds}],
            }
            for h in hosted
        ],
        "tasks": tasks,
        "reward": REWARD,
    }


def nondominated(hosted: Iterable[Hosted], keep: Iterable[tuple[str, str]] = ()) -> list[Hosted]:
    """Return of each device the networks that none there is as fast and as accurate as.

    Args:
        hosted: all networks.
        keep: network and device of some that stay in any case.
    """
    kept, found = set(keep), []
    best: dict[str, float] = {}
    for h in sorted(hosted, key=lambda h: (h.device, h.seconds, -h.accuracy)):
        if h.accuracy > best.get(h.device, -1.0) or (h.network, h.device) in kept:
            found.append(h)
        best[h.device] = max(best.get(h.device, -1.0), h.accuracy)
    return found


def read_figures(folder: str) -> list[dict[str, str]]:
    """Return the rows of a folder's ``figures.csv``."""
    text = (HERE / folder / "figures.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def figures_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def instance_text(data: Record) -> str:
    """Return an instance as JSON, checked, one connection a line."""
    checked = parse_instance(data).to_dict()
    used = {key: _without_defaults(value) for key, value in checked.items() if value is not None}
    return "{\n" + ",\n".join(f'"{k}": {_lines(v)}' for k, v in used.items()) + "\n}\n"


def _without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_defaults(v) for k, v in value.items() if v is not None}
    return [_without_defaults(v) for v in value] if isinstance(value, list) else value


def _lines(value: Any, depth: int = 1) -> str:
    """Return JSON with a line for each entry of a list, down to those of tasks and networks."""
    if isinstance(value, list) and depth < 4 and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(_lines(v, depth + 1) for v in value) + "\n]"
    if isinstance(value, dict) and any(isinstance(v, list) for v in value.values()):
        fields = (f'"{k}": {_lines(v, depth + 1)}' for k, v in value.items())
        return "{" + ", ".join(fields) + "}"
    return json.dumps(value, ensure_ascii=False)


def main(
    about: str,
    extract: Callable[[Path], dict[str, list[dict[str, object]]]],
    build: Callable[[str, list[dict[str, str]]], Record],
    folders: Sequence[str],
) -> None:
    """Run a maker: ``[--source FOLDER] [--check]``.

    Args:
        about: its docstring.
        extract: reads the published files of a folder; returns the rows of figures by folder.
        build: makes an instance of a folder's figures.
        folders: what it makes.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="read the published files anew from there")
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    options = parser.parse_args()
    texts: dict[Path, str] = {}
    fresh = extract(options.source) if options.source else {}
    for folder in folders:
        if fresh:
            texts[HERE / folder / "figures.csv"] = figures_text(fresh[folder])
            rows = list(csv.DictReader(io.StringIO(texts[HERE / folder / "figures.csv"])))
        else:
            rows = read_figures(folder)
        texts[HERE / folder / "instance.json"] = instance_text(build(folder, rows))
    differs = [p for p, t in texts.items() if not p.exists() or p.read_text("utf-8") != t]
    if options.check:
        for path in differs:
            print(f"{path}: differs from what {Path(sys.argv[0]).name} makes")
        sys.exit(bool(differs))
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text)
        print(f"Written: {path}")
