"""Make ``sn-net/`` and ``sn-netv2/``: ``python data/published/make_sn_net.py [--check]``.

Networks stitched from two DeiT, as published by SN-Net (Pan, Cai, Zhuang: Stitchable Neural
Networks, CVPR 2023) and SN-Netv2: accuracy on ImageNet, multiply-adds. The files do not name the
networks. Multiply-adds do: an embedding has 196 x 768 x d of them, a block 12 N d^2 + 2 N^2 d +
10 N d (N = 197 tokens, its two norms counted), the head 1000 d, a stitch N d1 d2, and only one
pair of (last block of the first, first block of the second network) adds up to each row's number.
Rows of SN-Netv2 with two stitches are left out: their sums do not tell where the stitches are.

``--source FOLDER`` reads the published files anew (of a checkout of both repositories, with
``sn-net/stitching_deit/results/stitches_res.txt`` and ``sn-netv2/stitches_res_s_l.txt``).
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from tools import IMAGE_BYTES, REWARD, Record, main

TOKENS = 197
SAMPLES = 50000.0
"""Images of ImageNet's validation set, behind an accuracy."""
FLOP = 2.0
"""FLOP of one multiply-add."""


@dataclass(frozen=True)
class Network:
    """A DeiT: its width and its number of blocks."""

    name: str
    width: int
    depth: int

    @property
    def block(self) -> int:
        """Multiply-adds of one block."""
        return 12 * TOKENS * self.width**2 + 2 * TOKENS**2 * self.width + 10 * TOKENS * self.width

    @property
    def embedding(self) -> int:
        """Multiply-adds of the embedding."""
        return 196 * 768 * self.width

    @property
    def head(self) -> int:
        """Multiply-adds of the head, without the last norm."""
        return 1000 * self.width

    @property
    def norm(self) -> int:
        """Multiply-adds of the last norm, which the files count for whole networks only."""
        return 5 * TOKENS * self.width

    @property
    def whole(self) -> int:
        """Multiply-adds of the network."""
        return self.embedding + self.depth * self.block + self.head + self.norm


@dataclass(frozen=True)
class Service:
    """A service: its own network, the pair of networks that its paths consist of, its demand."""

    task: str
    own: str
    first: str
    second: str
    demand: float


@dataclass(frozen=True)
class Family:
    """Published networks of one repository, and an edge made up for them."""

    file: str
    origin: str
    networks: tuple[Network, ...]
    services: tuple[Service, ...]
    flops: tuple[float, ...]
    """Capacity of the server of each network [FLOP/s]."""


FAMILIES = {
    "sn-net": Family(
        "sn-net/stitching_deit/results/stitches_res.txt",
        "SN-Net (github.com/ziplab/SN-Net, commit c2dcf306, Apache-2.0)",
        (Network("deit-ti", 192, 12), Network("deit-s", 384, 12), Network("deit-b", 768, 12)),
        (
            Service("thumbnails", "deit-ti", "deit-ti", "deit-s", 150.0),
            Service("shop", "deit-s", "deit-ti", "deit-s", 120.0),
            Service("archive", "deit-b", "deit-s", "deit-b", 60.0),
        ),
        (1e12, 1e12, 1e12),
    ),
    "sn-netv2": Family(
        "sn-netv2/stitches_res_s_l.txt",
        "SN-Netv2 (github.com/ziplab/SN-Netv2, commit dd17607f, Apache-2.0)",
        (Network("deit3-s", 384, 12), Network("deit3-l", 1024, 24)),
        (
            Service("shop", "deit3-s", "deit3-s", "deit3-l", 150.0),
            Service("archive", "deit3-l", "deit3-l", "deit3-s", 60.0),
        ),
        (2e12, 4e12),
    ),
}


def extract(source: Path) -> dict[str, list[dict[str, object]]]:
    """Return the figures of both families, each row with the network that it stands for."""
    found: dict[str, list[dict[str, object]]] = {}
    for folder, family in FAMILIES.items():
        rows = []
        for line in (source / family.file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for first, blocks, second, start in decode(row["flops"], family.networks):
                rows.append(
                    {
                        "cfg_id": row["cfg_id"],
                        "multiply_adds": row["flops"],
                        "top1_percent": row["acc1"],
                        "first": first.name,
                        "blocks_of_first": blocks,
                        "second": "" if second is None else second.name,
                        "start_in_second": "" if second is None else start,
                    }
                )
        found[folder] = rows
    return found


def decode(
    macs: int, networks: tuple[Network, ...]
) -> list[tuple[Network, int, Network | None, int]]:
    """Return what a number of multiply-adds stands for: a network, or two with one stitch.

    Returns:
        First network, number of its blocks, second network, number of its first block in use.

    Raises:
        ValueError: several networks have this number.
    """
    found: list[tuple[Network, int, Network | None, int]] = [
        (n, n.depth, None, 0) for n in networks if n.whole == macs
    ]
    for a, b in itertools.permutations(networks, 2):
        for blocks, start in itertools.product(range(1, a.depth + 1), range(b.depth)):
            # The files of SN-Net leave out the last norm of stitched networks, those of SN-Netv2
            # do not.
            sums = a.embedding + blocks * a.block + TOKENS * a.width * b.width
            sums += (b.depth - start) * b.block + b.head
            if macs in (sums, sums + b.norm):
                found.append((a, blocks, b, start))
    if len(found) > 1:
        raise ValueError(f"{macs} multiply-adds: {len(found)} networks have as many")
    return found


def build(folder: str, figures: list[dict[str, str]]) -> Record:
    """Return the instance of a family."""
    family = FAMILIES[folder]
    network = {n.name: n for n in family.networks}
    whole = {r["first"]: _share(r["top1_percent"]) for r in figures if not r["second"]}
    return {
        "schema": "code-opt/instance/1",
        "name": folder,
        "description": (
            f"Published: accuracy on ImageNet and multiply-adds (2 FLOP each) of networks stitched "
            f"from two DeiT, by {family.origin}. The authors tuned the networks together with the "
            "stitches, so blocks are not frozen as CoDE's are. Every path is a published network: "
            "none has two stitches. Made up: servers, links, demands, services, reward; each "
            "network runs on a server of its own."
        ),
        "servers": [
            {"id": f"edge-{n.name}", "flops": flops}
            for n, flops in zip(family.networks, family.flops, strict=True)
        ],
        "links": [
            {
                "source": f"edge-{a.name}",
                "target": f"edge-{b.name}",
                "bandwidth": 1.25e8,
                "latency": 0.001,
            }
            for a, b in itertools.permutations(family.networks, 2)
        ],
        "dnns": [_dnn(n) for n in family.networks],
        "tasks": [_task(s, network, whole, figures) for s in family.services],
        "reward": REWARD,
    }


def _share(percent: str) -> float:
    return round(float(percent) / 100.0, 7)


def _dnn(network: Network) -> Record:
    """Return a network: embedding, transformer blocks, and the head with the last norm."""
    size = 4.0 * TOKENS * network.width
    macs = [network.embedding, *[network.block] * network.depth, network.head + network.norm]
    blocks = [
        {"id": name, "flops": FLOP * m, "output_bytes": size}
        for name, m in zip(_chain(network), macs, strict=True)
    ]
    blocks[-1]["output_bytes"] = 4000.0
    return {"id": network.name, "server": f"edge-{network.name}", "blocks": blocks}


def _chain(network: Network) -> list[str]:
    """Return the ids of a network's blocks in order."""
    return [f"{network.name}/{part}" for part in ("embedding", *range(network.depth), "head")]


def _task(
    service: Service,
    network: dict[str, Network],
    whole: dict[str, float],
    figures: list[dict[str, str]],
) -> Record:
    """Return a service whose paths are its two networks alone, and all stitches of the first."""
    a, b = network[service.first], network[service.second]
    native = whole[service.own]
    chain = {n.name: _chain(n) for n in (a, b)}
    is_first = service.own == a.name
    other = b if is_first else a
    entry = {"source": "input", "target": chain[other.name][0]}
    exit_ = {"source": chain[other.name][-1], "target": "output"}
    # From the first network on, a stitch leads to the second one: there the loss of the other
    # network alone stands at the step that no stitched path takes.
    alone = round(native - whole[other.name], 9)
    connections = [
        entry | {"drop": alone if is_first else 0.0},
        exit_ | {"drop": 0.0 if is_first else alone},
    ]
    measured = [
        {"blocks": chain[service.own], "accuracy": native, "samples": SAMPLES},
        {"blocks": chain[other.name], "accuracy": whole[other.name], "samples": SAMPLES},
    ]
    for row in figures:
        if (row["first"], row["second"]) != (a.name, b.name):
            continue
        blocks, start = int(row["blocks_of_first"]), int(row["start_in_second"])
        accuracy = _share(row["top1_percent"])
        rest = a.embedding + blocks * a.block + (b.depth - start) * b.block + b.head + b.norm
        connections.append(
            {
                "source": f"{a.name}/{blocks - 1}",
                "target": f"{b.name}/{start}",
                "drop": round(native - accuracy, 9),
                # So that the sum of a path is what was published, norm or not.
                "flops": FLOP * (int(row["multiply_adds"]) - rest),
                "params": float(a.width * b.width + b.width),
                "bytes": 4.0 * TOKENS * b.width,
            }
        )
        path = [*chain[a.name][: blocks + 1], *chain[b.name][start + 1 :]]
        measured.append({"blocks": path, "accuracy": accuracy, "samples": SAMPLES})
    return {
        "id": service.task,
        "dnn": service.own,
        "accuracy": native,
        "demand": service.demand,
        "input_bytes": IMAGE_BYTES,
        "samples": SAMPLES,
        "connections": connections,
        "measured_paths": measured,
    }


if __name__ == "__main__":
    main(__doc__ or "", extract, build, list(FAMILIES))
