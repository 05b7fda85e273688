"""The machine below torch: threads, device, precision, versions."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from code_opt.networks.compat import torch, torchvision


def use_threads(count: int) -> None:
    """Run torch's operators on so many threads of the CPU.

    Small networks gain little from more than one, and threads that compete for cores cost
    far more than they bring.
    """
    torch.set_num_threads(count)


def use_exact_cuda() -> None:
    """Let a GPU compute as its types say, and the same every time; before its first operation.

    TensorFloat-32, which cuDNN takes for float32 by default, keeps 10 of 23 bits. cuBLAS gives
    the same sums again only with a workspace of a fixed size.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Train with deterministic algorithms on a GPU (a CPU has no others).

    Some operations of networks (adaptive pooling to sizes that do not divide) have none; torch
    warns of these by name.
    """
    if device == "cpu":
        yield
        return
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            yield
    finally:
        torch.set_deterministic_debug_mode(before)


def device_name(device: str) -> str:
    """Return what a device is called, for tables."""
    return str(torch.cuda.get_device_name()) if device == "cuda" else "cpu"


def device_type(device: str) -> str:
    """Return the type of a device that times hold for: the name of the GPU or the processor."""
    if device != "cpu":
        return device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def library_versions() -> dict[str, str]:
    """Return the versions of torch and torchvision."""
    return {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}
