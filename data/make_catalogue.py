"""Make what ``code-opt generate`` draws from: ``python data/make_catalogue.py [--check]``.

``code_opt/generate/catalogue.json`` holds

* **networks**: work, parameters and output shapes of torchvision networks, cut by
  :mod:`code_opt.networks` into 2 to 8 blocks of about equal work, at 224 x 224 and at 32 x 32
  (there with the strides that keep small images from shrinking to nothing); heads for
  100 classes. Counted on the meta device, no weights.
* **own**: the measured drops of a network's own skips and exits, one record per service of
  ``tables/connections.csv`` of the profiled data sets;
* **pairs**: the measured drops between a service and a host (entry, crossings, crossings back,
  foreign exits), one record per pair, since the drops of a pair belong together: a costly entry
  goes with a return that gives much of it back;
* **errors**: quantiles of measured minus predicted accuracy over all paths of their
  ``tables/paths.csv``.

Depths are shares of the network's blocks that are behind. ``--check`` writes nothing and
exits with 1 if the file differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from code_opt.files import write_atomically
from code_opt.networks.blocks import adapt, cut
from code_opt.networks.compat import torch, torchvision
from code_opt.networks.cost import block_costs

HERE = Path(__file__).resolve().parent
CATALOGUE = HERE.parent / "code_opt" / "generate" / "catalogue.json"
CLASSES = 100
BLOCKS = range(2, 9)
DATA = ("alexnet-mobilenet", "digits", "three-services")
"""Data sets whose measurements are resampled."""
QUANTILES = 41

RESNET = {"conv1": {"kernel_size": 3, "stride": 1, "padding": 1}, "maxpool": None}
VGG = {"avgpool": {"output_size": [1, 1]}, "classifier.0": {"in_features": 512}}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "alexnet": {
        "features.0": {"kernel_size": 5, "stride": 2, "padding": 2},
        "features.2": {"padding": 1},
        "features.5": {"padding": 1},
        "features.12": {"padding": 1},
        "avgpool": {"output_size": [2, 2]},
        "classifier.1": {"in_features": 1024},
    },
    "convnext_tiny": {"features.0.0": {"kernel_size": 2, "stride": 2}},
    "densenet121": {
        "features.conv0": {"kernel_size": 3, "stride": 1, "padding": 1},
        "features.pool0": None,
    },
    "efficientnet_b0": {"features.0.0": {"stride": 1}},
    "mnasnet1_0": {"layers.0": {"stride": 1}},
    "mobilenet_v2": {"features.0.0": {"stride": 1}},
    "mobilenet_v3_large": {"features.0.0": {"stride": 1}},
    "mobilenet_v3_small": {"features.0.0": {"stride": 1}},
    "resnet18": RESNET,
    "resnet34": RESNET,
    "resnet50": RESNET,
    "shufflenet_v2_x1_0": {"conv1.0": {"stride": 1}, "maxpool": None},
    "squeezenet1_1": {},
    "vgg11": VGG,
    "vgg16": VGG,
}
"""Architecture: the changes that adapt it to 32 x 32."""


def networks() -> list[dict[str, Any]]:
    """Return every network at both sizes with its cuts; per block: FLOPs, parameters, shape."""
    found = []
    for size in (224, 32):
        for architecture, changes in ARCHITECTURES.items():
            with torch.device("meta"):
                network = torchvision.models.get_model(
                    architecture, weights=None, num_classes=CLASSES
                )
                if size == 32:
                    adapt(network, changes)
            image = (3, size, size)
            cuts = {}
            for blocks in BLOCKS:
                costs = block_costs(cut(network, image, blocks), image)
                cuts[str(blocks)] = [[c.flops, c.params, list(c.output_shape)] for c in costs]
            found.append({"architecture": architecture, "images": size, "cuts": cuts})
    return found


def tables(name: str) -> dict[str, pd.DataFrame]:
    """Return one table of each data set, by the name of its folder."""
    return {folder: pd.read_csv(HERE / folder / "tables" / f"{name}.csv") for folder in DATA}


def drops() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the measured drops within each service's network, and between it and each host."""
    own, pairs = [], []
    services = tables("services")
    blocks = tables("blocks")
    for folder, table in tables("connections").items():
        native = services[folder].set_index("task")["dnn"]
        names = blocks[folder].block.drop_duplicates().str.rpartition("/")[0]
        depth = {dnn: int(n) for dnn, n in names.value_counts().items()}
        for task, rows in table.groupby("task", sort=False):
            home = native[task]
            inner: dict[str, list[Any]] = {"skip": [], "exit": []}
            between: dict[str, dict[str, Any]] = defaultdict(
                lambda: {"entry": None, "out": [], "back": [], "exit": []}
            )
            for row in rows.itertuples():
                source, _, i = row.source.rpartition("/")
                target, _, j = row.target.rpartition("/")
                drop = round(float(row.drop), 5)
                done = (int(i) + 1) / depth[source] if source else 0.0
                ahead = int(j) / depth[target] if target else 1.0
                if row.sort == "skip":
                    inner["skip"].append([done, ahead, drop])
                elif row.sort == "exit":
                    inner["exit"].append([done, drop])
                elif row.sort == "entry":
                    between[target]["entry"] = drop
                elif row.sort == "foreign exit":
                    between[source]["exit"].append([done, drop])
                elif source == home:
                    between[target]["out"].append([done, drop])
                else:
                    between[source]["back"].append([ahead, drop])
            own.append({"source": f"{folder}: {task}", **inner})
            pairs += [
                {"source": f"{folder}: {task} in {host}", **found}
                for host, found in between.items()
            ]
    return own, pairs


def errors() -> list[float]:
    """Return quantiles of measured minus predicted accuracies, from the least to the greatest."""
    paths = pd.concat(tables("paths").values())
    off = paths["accuracy"] - paths["fitted_accuracy"]
    shares = [k / (QUANTILES - 1) for k in range(QUANTILES)]
    return [round(float(value), 5) + 0.0 for value in off.dropna().quantile(shares)]


def text() -> str:
    """Return the catalogue: one cut of a network, and one record of drops, per line."""
    own, pairs = drops()
    parts = [f'"classes": {CLASSES}']
    entries = []
    for network in networks():
        cuts = ",\n".join(f'      "{n}": {json.dumps(cut)}' for n, cut in network["cuts"].items())
        entries.append(
            f'    {{"architecture": "{network["architecture"]}", "images": {network["images"]}, '
            f'"cuts": {{\n{cuts}}}}}'
        )
    parts.append('"networks": [\n' + ",\n".join(entries) + "\n  ]")
    for name, records in (("own", own), ("pairs", pairs)):
        lines = ",\n".join(f"    {json.dumps(record)}" for record in records)
        parts.append(f'"{name}": [\n{lines}\n  ]')
    parts.append(f'"errors": {json.dumps(errors())}')
    return "{\n  " + ",\n  ".join(parts) + "\n}\n"


def main() -> int:
    """Write the file, or compare it (``--check``)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    if not parser.parse_args().check:
        write_atomically(CATALOGUE, text())
        return 0
    if CATALOGUE.is_file() and CATALOGUE.read_text(encoding="utf-8") == text():
        return 0
    print(f"{CATALOGUE} differs: run python data/make_catalogue.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
