"""Make ``ai-hub/``: ``python data/published/make_ai_hub.py [--check]``.

Networks of Qualcomm AI Hub Models, as its ``perf.yaml`` and ``numerics.yaml`` have them:
milliseconds on a phone, a laptop and an edge kit, in floating point and quantised to 8 bits, and
accuracy on 1,000 images of ImageNet in the same precision by the same runtime on one phone. Of the
runtimes the fastest one counts whose accuracy was published, too.

``--source FOLDER`` reads the published files anew (``FOLDER/ai-hub/*/*.yaml``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tools import Hosted, Record, Service, hosted_instance, main

DEVICES = {
    "galaxy-s24": "Samsung Galaxy S24",
    "x-elite": "Snapdragon X Elite CRD",
    "iq-9075": "Dragonwing IQ-9075 EVK",
}
SERVICES = (
    Service("phone", "mobilenet_v2 float", "galaxy-s24", 200.0),
    Service("laptop", "efficientnet_b4 float", "x-elite", 200.0),
    Service("camera", "vit float", "iq-9075", 700.0),
)
SAMPLES = 1000.0
"""Images of ImageNet behind an accuracy."""
ORIGIN = "Qualcomm AI Hub Models (github.com/quic/ai-hub-models, commit 52c080d2, BSD-3-Clause)"


def extract(source: Path) -> dict[str, list[dict[str, object]]]:
    """Return milliseconds and accuracy of every network and precision on every device."""
    rows: list[dict[str, object]] = []
    for file in sorted((source / "ai-hub").glob("*/perf.yaml")):
        numerics = yaml.safe_load((file.parent / "numerics.yaml").read_text(encoding="utf-8"))
        (metric,) = numerics["metrics"]
        if metric["dataset_name"] != "imagenet":
            continue
        accuracies = _accuracies(metric)
        performance = yaml.safe_load(file.read_text(encoding="utf-8"))["precisions"]
        for precision, component in performance.items():
            (measured,) = component["components"].values()
            for device, title in DEVICES.items():
                times = _times(measured["performance_metrics"].get(title, {}))
                both = [
                    (ms, runtime, accuracies[precision, runtime])
                    for runtime, ms in times.items()
                    if (precision, runtime) in accuracies
                ]
                if both:
                    milliseconds, runtime, accuracy = min(both)
                    rows.append(
                        {
                            "network": file.parent.name,
                            "precision": precision,
                            "device": device,
                            "runtime": runtime,
                            "milliseconds": milliseconds,
                            "accuracy_percent": accuracy,
                        }
                    )
    return {"ai-hub": rows}


def _accuracies(metric: Any) -> dict[tuple[str, str], float]:
    """Return the accuracy [%] of each precision and runtime."""
    (device,) = metric["device_metric"].values()
    return {
        (precision, runtime): float(found["partial_metric"])
        for precision, runtimes in device.items()
        for runtime, found in runtimes.items()
        if found.get("partial_metric") is not None
    }


def _times(runtimes: Any) -> dict[str, float]:
    """Return the milliseconds of each runtime that ran."""
    return {
        runtime: float(found["inference_time_milliseconds"])
        for runtime, found in runtimes.items()
        if found.get("inference_time_milliseconds")
    }


def build(folder: str, figures: list[dict[str, str]]) -> Record:
    """Return the instance of the figures."""
    hosted = [
        Hosted(
            f"{row['network']} {row['precision']}",
            row["device"],
            round(float(row["milliseconds"]) / 1000.0, 9),
            round(float(row["accuracy_percent"]) / 100.0, 7),
        )
        for row in figures
    ]
    return hosted_instance(
        folder,
        f"Published: milliseconds of one inference on three devices and accuracy on 1,000 images "
        f"of ImageNet, of networks in floating point and quantised, by {ORIGIN}. Accuracies were "
        "measured on one phone and are taken for all devices. Made up: services, demands, reward, "
        "and that images reach every device at no cost.",
        hosted,
        SERVICES,
        SAMPLES,
    )


if __name__ == "__main__":
    main(__doc__ or "", extract, build, ["ai-hub"])
