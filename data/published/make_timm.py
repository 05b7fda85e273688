"""Make ``timm/``: ``python data/published/make_timm.py [--check]``.

Networks of timm (Wightman: PyTorch Image Models), as its ``results/`` folder has them: samples per
second on two graphics cards (batches) and one processor (batch 1), and accuracy on ImageNet at
the same image size, of the most accurate weights of each network.

``--source FOLDER`` reads the published files anew (``FOLDER/timm/*.csv``).
"""

from __future__ import annotations

import csv
from pathlib import Path

from tools import Hosted, Record, Service, hosted_instance, main, nondominated

DEVICES = {
    "rtx-4090": "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv",
    "rtx-3090": "benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv",
    "i9-10940x": "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv",
}
SERVICES = (
    Service("quality", "convnext_large 288 px", "rtx-4090", 1500.0),
    Service("search", "swin_base_patch4_window7_224 224 px", "rtx-3090", 1500.0),
    Service("kiosk", "resnet50 224 px", "i9-10940x", 150.0),
)
SAMPLES = 50000.0
"""Images of ImageNet's validation set, behind an accuracy."""
ORIGIN = "timm (github.com/huggingface/pytorch-image-models, results/, Apache-2.0)"


def extract(source: Path) -> dict[str, list[dict[str, object]]]:
    """Return what of the figures the instance needs: networks that none is better than."""
    best: dict[tuple[str, str], float] = {}
    for row in _read(source / "timm" / "results-imagenet.csv"):
        key = row["model"].partition(".")[0], row["img_size"]
        best[key] = max(best.get(key, 0.0), float(row["top1"]))
    known = []
    for device, file in DEVICES.items():
        for row in _read(source / "timm" / file):
            accuracy = best.get((row["model"], row["infer_img_size"]))
            if accuracy is not None:
                seconds = 1.0 / float(row["infer_samples_per_sec"])
                name = f"{row['model']} {row['infer_img_size']} px"
                known.append((Hosted(name, device, seconds, accuracy), row))
    rows = {(h.network, h.device): row for h, row in known}
    networks = {row["model"] for _, row in known}
    print(f"{len(known)} figures of {len(networks)} networks with speed and accuracy")
    keep = [(s.network, s.device) for s in SERVICES]
    return {
        "timm": [
            {
                "network": h.network,
                "device": h.device,
                "samples_per_second": rows[h.network, h.device]["infer_samples_per_sec"],
                "top1_percent": h.accuracy,
            }
            for h in nondominated((h for h, _ in known), keep)
        ]
    }


def build(folder: str, figures: list[dict[str, str]]) -> Record:
    """Return the instance of the figures."""
    hosted = [
        Hosted(
            row["network"],
            row["device"],
            1.0 / float(row["samples_per_second"]),
            round(float(row["top1_percent"]) / 100.0, 7),
        )
        for row in figures
    ]
    return hosted_instance(
        folder,
        f"Published: samples/s and top-1 accuracy on ImageNet of networks on three devices, by "
        f"{ORIGIN}. A time is one over the samples/s; on the graphics cards it is the share of one "
        "image in a large batch, so latencies are not those of single images. "
        "Of each device the networks are listed that no other one there is as fast and as accurate "
        "as. Made up: services, demands, reward, and that images reach every device at no cost.",
        hosted,
        SERVICES,
        SAMPLES,
    )


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main(__doc__ or "", extract, build, ["timm"])
