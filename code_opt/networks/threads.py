"""The machine below torch: threads, device, versions."""

from __future__ import annotations

from code_opt.networks.compat import torch, torchvision


def use_threads(count: int) -> None:
    """Run torch's operators on so many threads of the CPU.

    Small networks gain little from more than one, and threads that compete for cores cost
    far more than they bring.
    """
    torch.set_num_threads(count)


def device_name(device: str) -> str:
    """Return what a device is called, for tables."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu"


def library_versions() -> dict[str, str]:
    """Return the versions of torch and torchvision."""
    return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
