"""Networks of services as trunks: cut, costed, stored and read again.

Weights travel as safetensors files: plain arrays, nothing that could run. Half precision
is used for storage alone; everything runs in float32.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from code_opt.errors import InputError
from code_opt.files import write_atomically
from code_opt.networks.blocks import cut
from code_opt.networks.compat import torch
from code_opt.networks.cost import BlockCost, block_costs
from code_opt.networks.heads import ClassMap, Outputs
from code_opt.networks.stitching import Trunk
from code_opt.networks.training import freeze

nn = torch.nn


def make_trunk(
    name: str,
    network: nn.Module,
    input_shape: Sequence[int],
    blocks: int | None,
    cuts: Sequence[str] | None,
    outputs: Outputs | None = None,
) -> tuple[Trunk, list[BlockCost]]:
    """Freeze a network, cut it, and count what its blocks cost.

    Args:
        name: id of the network.
        network: trained.
        input_shape: (channels, height, width).
        blocks: number of blocks of balanced FLOPs, or None.
        cuts: names of the places to cut after, or None.
        outputs: for every class the network's outputs that stand for it; None: one each.

    Raises:
        CutError: the network cannot be cut so.
    """
    freeze(network)
    # One block is the whole network; `cut` would refuse a list of no names.
    parts = (
        cut(network, input_shape, blocks)
        if blocks is not None
        else cut(network, input_shape, at=list(cuts or ()))
    )
    if outputs is not None:
        parts[-1] = nn.Sequential(parts[-1], ClassMap(outputs))
    costs = block_costs(parts, input_shape)
    for part in parts:
        freeze(part)
    shapes = (tuple(input_shape), *(cost.output_shape for cost in costs))
    return Trunk(name, tuple(parts), shapes), costs


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], *, half: bool) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    Args:
        path: the file.
        tensors: by name.
        half: store floating-point tensors in half precision.
    """
    stored = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        .clone()
        for name, tensor in tensors.items()
    }
    write_atomically(path, safetensors.torch.save(stored))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; floating-point tensors come back in float32.

    Raises:
        InputError: the file is missing or no safetensors file.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_state_dict(
    path: Path,
    module: nn.Module,
    *,
    key: str | None = None,
    rename: Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
) -> dict[str, torch.Tensor]:
    """Read the weights of a network as others have stored them.

    Args:
        path: ``.safetensors``, or a state dict that ``torch.save`` has written; of the latter only
            tensors and plain data are read (``weights_only``).
        module: the network; its ``num_batches_tracked`` are taken where the file has none, since
            frozen networks do not use them.
        key: where in the file the state dict is.
        rename: beginnings of names and what they become, the first that fits counts.
        ignore: beginnings of names (as in the file) that are left out.

    Raises:
        InputError: the file is missing, holds anything else, or two tensors get one name.
    """
    if path.suffix == ".safetensors":
        found: Any = load_tensors(path)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about old ways of writing them
                found = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
            raise InputError(
                f"{path}: no state dict of plain tensors; where it was made, write it with "
                "torch.save(network.state_dict(), ...) or as safetensors"
            ) from None
    if key is not None:
        if not isinstance(found, Mapping) or key not in found:
            names = ", ".join(map(str, found)) if isinstance(found, Mapping) else "no names"
            raise InputError(f"{path}: has no {key!r} in it; it has {names[:200]}")
        found = found[key]
    if not isinstance(found, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        inside = (
            [str(k) for k, v in found.items() if isinstance(v, Mapping)]
            if (isinstance(found, Mapping))
            else []
        )
        hint = f"; is it under {', '.join(inside)} (state_dict.key)?" if inside else ""
        raise InputError(f"{path}: is no state dict: names with tensors{hint}")
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in found.items():
        if any(str(name).startswith(beginning) for beginning in ignore):
            continue
        new = str(name)
        for beginning, other in (rename or {}).items():
            if new.startswith(beginning):
                new = other + new.removeprefix(beginning)
                break
        if new in tensors:
            raise InputError(f"{path}: two tensors would be named {new!r}: change rename")
        tensors[new] = tensor.float() if tensor.is_floating_point() else tensor
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, tensor)
    return tensors


def load_weights(module: nn.Module, tensors: Mapping[str, Any], source: str) -> None:
    """Put tensors into a module; names, shapes and kinds must be exactly the module's.

    Raises:
        InputError: a tensor is missing, left over, of another shape, or holds whole numbers
            instead of real ones (or the other way round).
    """
    wanted = module.state_dict()
    for name in sorted(set(wanted) ^ set(tensors)):
        what = "is missing" if name in wanted else "is not part of the network"
        raise InputError(f"{source}: tensor {name!r} {what}")
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            raise InputError(
                f"{source}: tensor {name!r} has the shape {tuple(tensors[name].shape)}, "
                f"the network needs {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() != tensors[name].is_floating_point():
            raise InputError(
                f"{source}: tensor {name!r} has the type {tensors[name].dtype}, "
                f"the network needs {tensor.dtype}"
            )
    # Not load_state_dict: some networks convert what older versions of theirs have saved, by
    # numbers of versions that a file of plain arrays does not hold.
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])
