"""Which networks can be cut: ``python -m benchmarks.cuts [--only torchvision timm ...]``.

Every network is built with random weights, cut into three blocks, and their chain compared
with it, bit for bit, for batches of 1 and 3. Writes ``cuts.md``. Inputs have the size that a
network is made for; those of torchvision 64 x 64, where they run on that. timm and Hugging Face's
transformers are tried where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from code_opt.errors import InputError
from code_opt.files import write_atomically
from code_opt.networks import graphs
from code_opt.networks.blocks import cut
from code_opt.networks.compat import torch, torchvision
from code_opt.networks.threads import library_versions, use_threads
from code_opt.networks.training import seeded
from tests.profiling.own import Patches

nn = torch.nn
BLOCKS = 3
UNFINISHED = "\nThe run was interrupted here: networks that are not listed were not tried.\n"
Made = Callable[[], tuple[Any, tuple[int, int, int]]]
SIDES = {"inception_v3": 299, "maxvit_t": 224, "vit_h_14": 56}
TIMM = (
    "convnext_atto",
    "crossvit_tiny_240",
    "deit_tiny_patch16_224",
    "edgenext_xx_small",
    "efficientnet_lite0",
    "efficientvit_b0",
    "efficientvit_m0",
    "fastvit_t8",
    "ghostnet_100",
    "hardcorenas_a",
    "lcnet_050",
    "levit_128s",
    "mixnet_s",
    "mobilenetv3_small_050",
    "mobileone_s0",
    "mobilevit_xxs",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnetx_002",
    "repvgg_a0",
    "resmlp_12_224",
    "resnet18",
    "semnasnet_075",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "tinynet_e",
    "vit_tiny_patch16_224",
    "xcit_nano_12_p16_224",
)


class Logits(nn.Module):
    """A classifier of transformers, of one tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        """Return the logits."""
        return self.network(pixel_values=x).logits


class Looks(nn.Module):
    """What is computed depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        """Return one of two things."""
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def torchvision_networks() -> Iterator[tuple[str, Made]]:
    """Yield the classification networks of torchvision."""
    models = torchvision.models
    for name in models.list_models(module=models):
        size = SIDES.get(name, 64)
        options: dict[str, Any] = {"num_classes": 10}
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": False}
        if name.startswith("vit"):
            options["image_size"] = size
        yield (
            name,
            lambda name=name, size=size, options=options: (
                models.get_model(name, weights=None, **options),
                (3, size, size),
            ),
        )


def timm_networks() -> Iterator[tuple[str, Made]]:
    """Yield networks of timm."""
    import timm

    def made(name: str) -> tuple[Any, tuple[int, int, int]]:
        network = timm.create_model(name, pretrained=False, num_classes=10)
        return network, network.default_cfg["input_size"]

    for name in TIMM:
        yield name, lambda name=name: made(name)


def hugging_face_networks() -> Iterator[tuple[str, Made]]:
    """Yield networks of transformers, by their configurations."""
    import transformers

    for name, side, options in (
        ("ResNet", 224, {}),
        ("MobileNetV2", 224, {}),
        ("ViT", 224, {"num_hidden_layers": 4}),
        ("ConvNext", 224, {}),
        ("Swin", 224, {}),
        ("Segformer", 224, {}),
    ):
        config = getattr(transformers, f"{name}Config")(num_labels=10, **options)
        kind = getattr(transformers, f"{name}ForImageClassification")
        yield (
            f"{name}ForImageClassification",
            lambda kind=kind, config=config, side=side: (Logits(kind(config)), (3, side, side)),
        )


def own_networks() -> Iterator[tuple[str, Made]]:
    """Yield networks of ordinary code, two of which nothing can cut."""
    yield "sizes read early, defaults", lambda: (Patches(10), (3, 32, 32))
    yield "values decide", lambda: (Looks(), (3, 32, 32))
    yield "TorchScript", lambda: (torch.jit.script(nn.Conv2d(3, 4, 3)), (3, 32, 32))


SOURCES = {
    "torchvision": torchvision_networks,
    "timm": timm_networks,
    "transformers": hugging_face_networks,
    "own": own_networks,
}


def tried(made: Made) -> tuple[str, str]:
    """Return by what a network is traced, and "ok" or why it is not cut."""
    exported: list[int] = []
    original = graphs.traced_by_export

    def counted(*arguments: Any) -> Any:
        exported.append(1)
        return original(*arguments)

    from code_opt.networks import blocks

    blocks.traced_by_export = counted
    try:
        with seeded(0):
            network, shape = made()
        network.eval()
        chain = cut(network, shape, BLOCKS)
    except InputError as error:
        return "", str(error)
    except Exception as error:  # noqa: BLE001  a crash belongs into the table
        return "", f"crash: {type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        blocks.traced_by_export = original
    way = "torch.export" if exported else "torch.fx"
    for batch in (1, 3):
        x = torch.rand(batch, *shape)
        with torch.no_grad():
            value = x
            for block in chain:
                value = block(value)
            if not torch.equal(value, network(x)):
                return way, f"other outputs at a batch of {batch}"
    return way, "ok"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuts", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    asked = parser.parse_args()
    use_threads(1)
    warnings.simplefilter("ignore")
    pages: dict[str, str] = {}
    for source in asked.only:
        try:
            networks = SOURCES[source]()
            rows: list[tuple[str, str, str]] = []
            for name, made in networks:
                started = time.perf_counter()
                way, outcome = tried(made)
                rows.append((name, way, outcome))
                said = f"{source} {name}: {way} {outcome}"
                print(f"{said} ({time.perf_counter() - started:.0f} s)", file=sys.stderr)
                pages[source] = table(source, rows)
                # Kept at once: trying all of them takes a while.
                write_atomically(asked.out / "cuts.md", page(asked.only, pages) + UNFINISHED)
        except ImportError as error:
            pages[source] = f"## {source}\n\nNot tried: {error}.\n"
    write_atomically(asked.out / "cuts.md", page(asked.only, pages))


def table(source: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """Return the networks of one source in Markdown."""
    right = sum(outcome == "ok" for *_, outcome in rows)
    lines = [f"| {name} | {way} | {outcome.replace('|', '/')} |" for name, way, outcome in rows]
    head = ["| network | traced by | outcome |", "|---|---|---|"]
    return "\n".join([f"## {source}: {right} of {len(rows)}\n", *head, *lines, ""])


def page(only: Sequence[str], tables: Mapping[str, str]) -> str:
    """Return the whole page."""
    versions = library_versions()
    for source in ("timm", "transformers"):
        if source in tables:
            with suppress(importlib.metadata.PackageNotFoundError):
                versions[source] = importlib.metadata.version(source)
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    command = "python -m benchmarks.cuts"
    if list(only) != list(SOURCES):
        command += f" --only {' '.join(only)}"
    first = (
        f"`{command}`, {said}. Random weights; inputs of torchvision's "
        "networks are 64 x 64 where they run on that, all others of the size that they are made "
        "for. *ok*: the chain of blocks gives the network's outputs bit for bit, for batches of 1 "
        "and 3.\n"
    )
    return "\n".join(["# Which networks can be cut\n", first, *tables.values()])


if __name__ == "__main__":
    main()
