"""Adapters: what a connection runs between two frozen activations.

An adapter brings an activation to the shape that a later block expects. Its linear part is
first fitted in *closed form*, by ridge regression onto the activations that the later block
knows from its own network (as stitching layers are: Lenc and Vedaldi, CVPR 2015; Bansal,
Nakkiran and Barak, NeurIPS 2021; Pan, Cai and Zhuang, "Stitchable Neural Networks", CVPR
2023), and only then trained.

Kinds:

========================  ==========================================================
``resize``                no parameters: the same channels at another size
``pointwise``             1 x 1 convolution (tokens: one linear layer for all of them)
``pointwise-relu``        the same, then ReLU
``pointwise-norm-relu``   1 x 1 convolution, batch normalisation, ReLU
``conv3``                 3 x 3 convolution
``separable``             depthwise 3 x 3, then 1 x 1 convolution
``low-rank``              1 x 1 convolution of a quarter of the rank
``linear``                averaged over positions, then one linear layer (heads)
``linear-grid``           averaged over a 2 x 2 grid, then one linear layer (heads)
========================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from code_opt.errors import InputError
from code_opt.networks.compat import torch
from code_opt.networks.cost import AdapterCost, block_costs

nn = torch.nn
functional = torch.nn.functional

KINDS = (
    "resize",
    "pointwise",
    "pointwise-relu",
    "pointwise-norm-relu",
    "conv3",
    "separable",
    "low-rank",
    "linear",
    "linear-grid",
)
_GRID = 2
_RANK_SHARE = 4
_MOST_NUMBERS = 2**25
"""Numbers of a regression that are in memory at once: 256 MiB in float64."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter without its weights; shapes are without the batch dimension."""

    kind: str
    source: Shape
    target: Shape


def adapter_kinds(source: Sequence[int], target: Sequence[int]) -> tuple[str, ...]:
    """Return the kinds of adapter that lead from one shape to another (maybe none).

    Maps (channels, height, width) lead to maps and vectors, tokens (length, features) to tokens
    and vectors, vectors to vectors. Nothing leads from vectors or tokens back to maps.
    """
    source, target = tuple(source), tuple(target)
    if len(target) == 1:
        if len(source) == 3 and source[1] >= _GRID and source[2] >= _GRID:
            return ("linear", "linear-grid")
        return ("linear",) if len(source) in (1, 2, 3) else ()
    if len(source) == len(target) == 3:
        plain = ("resize",) if source[0] == target[0] else ()
        return (*plain, *KINDS[1:7])
    if len(source) == len(target) == 2:
        plain = ("resize",) if source[1] == target[1] else ()
        return (*plain, "pointwise", "low-rank")
    return ()


class Adapter(nn.Module):
    """One adapter: pooling, a linear map, maybe normalisation and ReLU, and resizing.

    The linear map runs at the smaller of both sizes. For 1 x 1 convolutions this changes
    nothing but the work, since averaging and interpolating commute with them.
    """

    def __init__(self, spec: AdapterSpec) -> None:
        super().__init__()
        if spec.kind not in adapter_kinds(spec.source, spec.target):
            raise InputError(
                f"no adapter of kind {spec.kind!r} from shape {spec.source} to {spec.target}"
            )
        self.spec = spec
        source, target, kind = spec.source, spec.target, spec.kind
        self.linear: nn.Module
        self.after: nn.Module = nn.Identity()
        if len(target) == 1:
            cells = _GRID**2 if kind == "linear-grid" else 1
            features = source[1] if len(source) == 2 else source[0]
            self.linear = nn.Linear(features * cells, target[0])
        elif len(target) == 2:
            self.linear = _token_map(kind, source[1], target[1])
        else:
            self.linear = _map_map(kind, source[0], target[0])
            if kind.endswith("-relu"):
                norm = [nn.BatchNorm2d(target[0])] if "-norm-" in kind else []
                self.after = nn.Sequential(*norm, nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation in the target's shape; ``x`` has the batch first."""
        return _resized(self.after(self.linear(self.pooled(x))), self.spec.target)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the linear map sees."""
        target = self.spec.target
        if len(target) == 1:
            if x.ndim == 4:
                cells = _GRID if self.spec.kind == "linear-grid" else 1
                return functional.adaptive_avg_pool2d(x, cells).flatten(1)
            return x.mean(dim=1) if x.ndim == 3 else x
        return _resized(x, self._size())

    def _size(self) -> Shape:
        """Return the source's shape at the size where the linear map runs."""
        source, target = self.spec.source, self.spec.target
        if len(target) == 2:
            return (min(source[0], target[0]), source[1])
        return (source[0], min(source[1], target[1]), min(source[2], target[2]))

    @torch.no_grad()
    def fit(self, x: torch.Tensor, y: torch.Tensor, ridge: float) -> float:
        """Set the weights in closed form so that the output comes near ``y``.

        Ridge regression on centred data, in float64: W = (X'X + ridge * mean(diag X'X) I)^-1 X'Y.
        ``low-rank`` keeps the leading directions of the fitted values (reduced-rank regression,
        Izenman 1975); ``separable`` starts from the identity in its depthwise part; batch
        normalisation starts as the identity.

        Args:
            x: activations, shape (n, *source).
            y: what is wanted, shape (n, *target).
            ridge: penalty relative to the mean square of the features.

        Returns:
            The share of the variance of ``y`` that the linear map explains (R squared).
        """
        rows = _InParts(self, x, y)
        if self.spec.kind == "resize":
            return 1.0 - rows.left_over() / rows.spread if rows.spread > 0.0 else 0.0
        gram, cross = rows.products()
        before = gram.clone()
        gram.diagonal().add_(ridge * float(gram.diagonal().mean()) + 1e-12)
        weight = torch.linalg.solve(gram, cross)
        mean_x, mean_y = rows.mean_x, rows.mean_y
        if self.spec.kind == "low-rank":
            # Leading directions of the fitted values: eigenvectors of their second moments.
            _, directions = torch.linalg.eigh(weight.T @ before @ weight)
            kept = directions.flip(1)[:, : self._rank()]
            self._set_low_rank(weight @ kept, kept, mean_y - mean_x @ weight @ kept @ kept.T)
            weight = weight @ kept @ kept.T
        else:
            self._set_linear(weight, mean_y - mean_x @ weight)
        return 1.0 - rows.left_over(weight) / rows.spread if rows.spread > 0.0 else 0.0

    def _wanted_size(self) -> Shape:
        """Return the shape that the linear map gives, where it runs."""
        target = self.spec.target
        if len(target) == 3:
            return (target[0], *self._size()[1:])
        return (self._size()[0], target[1]) if len(target) == 2 else target

    def design(self, x: torch.Tensor) -> torch.Tensor:
        """Return the regression's features in float64, one row per image and position."""
        if self.spec.kind == "resize":
            return _resized(x, self.spec.target).flatten(1).double()
        pooled = self.pooled(x)
        if self.spec.kind == "conv3":
            patches = functional.unfold(pooled.float(), 3, padding=1)  # (n, 9 channels, positions)
            return _rows(patches.transpose(1, 2)).double()
        return _rows(pooled).double()

    def wanted(self, y: torch.Tensor) -> torch.Tensor:
        """Return what the regression should give in float64, one row per image and position."""
        if self.spec.kind == "resize":
            return y.flatten(1).double()
        return _rows(_resized(y, self._wanted_size())).double()

    def _layers(self) -> list[Any]:
        """Return the layers of the linear map, in order."""
        return list(self.linear) if isinstance(self.linear, nn.Sequential) else [self.linear]

    def _rank(self) -> int:
        source, target = self.spec.source, self.spec.target
        features = (source[1], target[1]) if len(target) == 2 else (source[0], target[0])
        return max(1, min(features) // _RANK_SHARE)

    def _set_linear(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        *before, last = self._layers()
        for depthwise in before:  # of ``separable``
            depthwise.weight.zero_()
            depthwise.weight[:, 0, 1, 1] = 1.0
        last.weight.copy_(weight.T.reshape(last.weight.shape))
        last.bias.copy_(bias)
        for module in self.after.modules():
            if isinstance(module, nn.BatchNorm2d):
                # The identity: statistics 0 and 1 up to eps, until training takes over.
                module.reset_parameters()
                module.weight.fill_((1.0 + module.eps) ** 0.5)

    def _set_low_rank(self, into: torch.Tensor, out_of: torch.Tensor, bias: torch.Tensor) -> None:
        first, second = self._layers()
        first.weight.copy_(into.T.reshape(first.weight.shape))
        second.weight.copy_(out_of.reshape(second.weight.shape))
        second.bias.copy_(bias)


def adapter_costs(spec: AdapterSpec) -> AdapterCost:
    """Return FLOPs of one inference and parameters of an adapter, counted on the module."""
    cost = block_costs([Adapter(spec)], spec.source)[0]
    return AdapterCost(flops=cost.flops, params=cost.params)


def _map_map(kind: str, source: int, target: int) -> nn.Module:
    if kind == "resize":
        return nn.Identity()
    if kind == "conv3":
        return nn.Conv2d(source, target, 3, padding=1)
    if kind == "separable":
        return nn.Sequential(
            nn.Conv2d(source, source, 3, padding=1, groups=source, bias=False),
            nn.Conv2d(source, target, 1),
        )
    if kind == "low-rank":
        rank = max(1, min(source, target) // _RANK_SHARE)
        return nn.Sequential(nn.Conv2d(source, rank, 1, bias=False), nn.Conv2d(rank, target, 1))
    return nn.Conv2d(source, target, 1)


def _token_map(kind: str, source: int, target: int) -> nn.Module:
    if kind == "resize":
        return nn.Identity()
    if kind == "low-rank":
        rank = max(1, min(source, target) // _RANK_SHARE)
        return nn.Sequential(nn.Linear(source, rank, bias=False), nn.Linear(rank, target))
    return nn.Linear(source, target)


def _resized(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Bring maps or tokens to the positions of ``shape``: averaged down or interpolated up."""
    if x.is_cuda and x.requires_grad:
        return _resized_by_products(x, shape)
    if x.ndim == 4 and tuple(x.shape[2:]) != tuple(shape[1:]):
        height, width = min(x.shape[2], shape[1]), min(x.shape[3], shape[2])
        x = functional.adaptive_avg_pool2d(x, (height, width))
        if (height, width) != tuple(shape[1:]):
            x = functional.interpolate(
                x, size=tuple(shape[1:]), mode="bilinear", align_corners=False
            )
    elif x.ndim == 3 and x.shape[1] != shape[0]:
        x = functional.interpolate(
            x.transpose(1, 2), size=shape[0], mode="linear", align_corners=False
        ).transpose(1, 2)
    return x


def _resized_by_products(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Do the same as products of matrices, one per dimension of positions.

    On a GPU, torch adds up the gradients of averaging and interpolating in whatever order its
    threads come; those of a product it adds up the same every time.
    """
    if x.ndim == 4:
        if x.shape[2] != shape[1]:
            x = torch.einsum("oi,ncix->ncox", _resizing(x, x.shape[2], shape[1]), x)
        if x.shape[3] != shape[2]:
            x = torch.einsum("oi,ncxi->ncxo", _resizing(x, x.shape[3], shape[2]), x)
    elif x.ndim == 3 and x.shape[1] != shape[0]:
        # Tokens are interpolated in both directions.
        x = torch.einsum("oi,nif->nof", _interpolation(x, x.shape[1], shape[0]), x)
    return x


def _resizing(like: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Return the matrix (target, source) that averages down or interpolates up."""
    if target > source:
        return _interpolation(like, source, target)
    identity = torch.eye(source, device=like.device)
    return functional.adaptive_avg_pool1d(identity[None], target)[0].T.to(like.dtype)


def _interpolation(like: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Return the matrix (target, source) of linear interpolation."""
    identity = torch.eye(source, device=like.device)
    return functional.interpolate(identity[None], size=target, mode="linear", align_corners=False)[
        0
    ].T.to(like.dtype)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return maps, tokens or vectors as a matrix of features in columns."""
    if x.ndim == 4:
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    if x.ndim == 3:
        return x.reshape(-1, x.shape[2])
    return x


class _InParts:
    """Rows of a regression, made part by part: all of them in float64 might not fit into memory.

    Args:
        adapter: that is fitted.
        x: activations, shape (n, *source), on any device.
        y: what is wanted, shape (n, *target).
    """

    def __init__(self, adapter: Adapter, x: torch.Tensor, y: torch.Tensor) -> None:
        self._adapter, self._x, self._y = adapter, x, y
        parameter = next(adapter.parameters(), None)
        self._device = x.device if parameter is None else parameter.device
        # conv3 has nine features for every channel and position.
        numbers = 9 * prod(adapter.spec.source) + prod(adapter.spec.target)
        self._images = max(1, _MOST_NUMBERS // numbers)
        self._only: tuple[torch.Tensor, torch.Tensor] | None = None
        count = 0
        sums: list[Any] = [0.0, 0.0]
        for part in self._parts():
            count += len(part[0])
            sums = [s + rows.sum(dim=0) for s, rows in zip(sums, part, strict=True)]
        self.mean_x, self.mean_y = (s / count for s in sums)
        self.spread = sum(float((y - self.mean_y).square().sum()) for _, y in self._parts())
        """Sum of squares of what is wanted about its mean."""

    def _parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self._only is not None:
            yield self._only
            return
        for x, y in zip(self._x.split(self._images), self._y.split(self._images), strict=True):
            part = (
                self._adapter.design(x.to(self._device)),
                self._adapter.wanted(y.to(self._device)),
            )
            if len(x) == len(self._x):
                self._only = part
            yield part

    def products(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return X'X and X'Y of the centred rows."""
        gram: Any = 0.0
        cross: Any = 0.0
        for x, y in self._parts():
            centred = x - self.mean_x
            gram = gram + centred.T @ centred
            cross = cross + centred.T @ (y - self.mean_y)
        return gram, cross

    def left_over(self, weight: torch.Tensor | None = None) -> float:
        """Return the sum of squares that a linear map leaves (None: the features as they are)."""
        total = 0.0
        for x, y in self._parts():
            got = x if weight is None else (x - self.mean_x) @ weight + self.mean_y
            total += float((y - got).square().sum())
        return total
