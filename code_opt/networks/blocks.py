"""Cutting a classification network into a chain of blocks.

A network can be cut where one tensor alone carries everything computed so far. Such
places are found on the graph that ``torch.fx`` traces (Reed et al., "torch.fx", MLSys
2022), or where it cannot, ``torch.export`` with a dynamic batch (:mod:`code_opt.networks.graphs`),
so no architecture is known here by name. The blocks share the network's
parameters and buffers, and their chain runs the same operations in the same order:
its outputs are the network's, bit for bit.

Adapting a network made for large images to small ones is a step of its own, done by
:func:`adapt` and by nothing else.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from code_opt.errors import InputError
from code_opt.networks.compat import FlopCounterMode, torch
from code_opt.networks.graphs import (
    GraphError,
    is_size,
    modules_of,
    needed_inputs,
    traced_by_export,
    traced_by_fx,
    with_sizes_folded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

fx = torch.fx
nn = torch.nn

Network = TypeVar("Network", bound=nn.Module)

PROBE_BATCH = 2
"""Batch of the tracing run: not 1, so that a tensor without a batch dimension stands out."""


_RUNNING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What networks raise for inputs that they cannot work with."""


class CutError(InputError):
    """The network cannot be cut as asked; the message says why and where it could be."""


@dataclass(frozen=True)
class CutPlace:
    """A place where the network can be cut."""

    name: str
    """Module whose output crosses, or name of the traced operation."""
    flops: int
    """Work of one inference up to here [FLOP]."""
    shape: tuple[int, ...]
    """Shape of the tensor that crosses, without the batch dimension."""
    output_bytes: int
    """Size of that tensor in float32 [bytes]."""
    position: int
    """Number of the last operation before the cut, in the traced order."""


def cut(
    network: nn.Module,
    input_shape: Sequence[int],
    blocks: int | None = None,
    *,
    at: Sequence[str] | None = None,
) -> list[nn.Module]:
    """Cut a network into blocks whose chain is the network.

    The network is put into evaluation mode first: blocks are frozen, so dropout and batch
    statistics are those of inference. Without ``at``, cuts are chosen so that the largest block
    is as small as possible in FLOPs; among those, the blocks are as equal as possible (least
    sum of squares), then the crossing tensors as small as possible. All three by dynamic
    programming, exactly.

    Args:
        network: a network with one input and one output tensor, both with the batch first.
        input_shape: shape of one input without the batch dimension, for instance (3, 224, 224).
        blocks: number of blocks; every block has work of its own.
        at: names of the places to cut after, in any order (instead of ``blocks``): a module
            ("layer2": after everything in it), or an operation listed by :func:`cut_places`.

    Returns:
        The blocks in order, sharing the network's parameters (no copies).

    Raises:
        CutError: the network cannot be traced, does not run at this input shape, or has no
            such places.
    """
    if blocks is None and at is not None:
        trace = _Trace(network, input_shape)
        places = trace.named_places(at)
    elif blocks is not None and at is None:
        trace = _Trace(network, input_shape)
        places = _balance(trace, blocks)
    else:
        raise CutError("give either the number of blocks or the names of the places")
    return trace.split([place.position for place in places])


def cut_places(network: nn.Module, input_shape: Sequence[int]) -> list[CutPlace]:
    """List every place where the network can be cut, in order (see :func:`cut`).

    Raises:
        CutError: the network cannot be traced or does not run at this input shape.
    """
    return _Trace(network, input_shape).places


def adapt(network: Network, changes: Mapping[str, Mapping[str, Any] | None]) -> Network:
    """Change layers of a network in place, as listed, and return it.

    Networks made for 224 x 224 shrink a small image to nothing. What is to change is said
    layer by layer, for instance for 32 x 32::

        resnet18      {"conv1": {"kernel_size": 3, "stride": 1, "padding": 1}, "maxpool": None}
        mobilenet_v2  {"features.0.0": {"stride": 1}, "features.2.conv.1.0": {"stride": 1}}

    Args:
        network: the network.
        changes: by module name, the constructor arguments to replace, or None to drop the layer
            (it becomes the identity). A layer whose parameters keep their shapes keeps their
            values; otherwise it is initialised anew from torch's global generator.

    Raises:
        InputError: an unknown layer or argument, or a layer that cannot be rebuilt; nothing
            has been changed then.
    """
    modules = dict(network.named_modules())
    made: dict[str, nn.Module] = {}
    for name, arguments in changes.items():
        if not name or name not in modules:
            close = difflib.get_close_matches(name, [m for m in modules if m], n=3)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise InputError(f"{type(network).__name__} has no layer {name!r}{hint}")
        made[name] = (
            nn.Identity() if arguments is None else _rebuilt(name, modules[name], arguments)
        )
    for name, module in made.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, module.train(modules[name].training))
    return network


def on_meta(module: Network) -> Network:
    """Return a copy whose tensors have shapes but no storage (device "meta"): runs at no cost."""
    tensors = [*module.parameters(), *module.buffers()]
    # deepcopy takes what the memo already holds, so no weight is ever copied.
    memo: dict[int, Any] = {}
    for tensor in tensors:
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(module, memo)


@contextmanager
def counted_attention() -> Iterator[None]:
    """Keep attention out of its fused inference kernel, whose FLOPs torch does not count."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _rebuilt(name: str, module: nn.Module, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a layer of the same class with some constructor arguments replaced."""
    kind = type(module)
    known = {
        key: getattr(module, key)
        for key in inspect.signature(kind).parameters
        if hasattr(module, key) and key not in ("device", "dtype")
    }
    if not known or not kind.__module__.startswith("torch.nn."):
        raise InputError(
            f"layer {name!r} is a {kind.__name__}: only torch.nn's own layers with arguments can "
            "be changed (or any layer be dropped); name the layers inside it"
        )
    if isinstance(known.get("bias"), nn.Parameter) or known.get("bias", 0) is None:
        known["bias"] = known["bias"] is not None
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise InputError(
            f"layer {name!r} ({kind.__name__}) has no argument {unknown[0]!r}; "
            f"it has {', '.join(known)}"
        )
    try:
        made = kind(**{**known, **arguments})
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"layer {name!r} ({kind.__name__}): {error}") from None
    like = next(module.parameters(), None)
    if like is not None:
        made = made.to(device=like.device, dtype=like.dtype)
    state = module.state_dict()
    if {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in made.state_dict().items()}:
        made.load_state_dict(state)
    return made


class _Probe(fx.Interpreter):
    """Runs a graph and notes, operation by operation, FLOPs, values and in-place changes."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.counter = FlopCounterMode(display=False)
        self.flops_until: list[int] = []
        """FLOPs up to and including each operation, for the whole batch."""
        self.values: list[Any] = []
        self._versions: list[int | None] = []

    def run_node(self, n: fx.Node) -> Any:
        """Run one operation and take notes."""
        value = super().run_node(n)
        self.flops_until.append(self.counter.get_total_flops())
        self.values.append(value)
        # torch counts the in-place changes of a tensor together with those of its views.
        self._versions.append(value._version if isinstance(value, torch.Tensor) else None)
        return value

    def changed_later(self, position: int) -> bool:
        """Tell whether an operation has changed this one's result in place, maybe by a view."""
        return bool(self.values[position]._version != self._versions[position])


class _Trace:
    """A traced network: its operations in order, and where it can be cut."""

    def __init__(self, network: nn.Module, input_shape: Sequence[int]) -> None:
        self.title = type(network).__name__
        self.network = network.eval()
        shape = tuple(input_shape)
        self.graph, self._probe = self._traced(shape)
        self.nodes = list(self.graph.graph.nodes)
        self._index = {node: i for i, node in enumerate(self.nodes)}
        self._last_user = {
            node: max((self._index[user] for user in node.users), default=-1) for node in self.nodes
        }
        self._end_of = {name: i for i, node in enumerate(self.nodes) for name in modules_of(node)}
        """Position of the last operation of every module."""
        self.total = self._probe.flops_until[-1] // PROBE_BATCH
        self.places: list[CutPlace] = []
        self._obstacle: dict[int, str] = {}
        for position in range(len(self.nodes)):
            place = self._place(position)
            if isinstance(place, CutPlace):
                self.places.append(place)
            else:
                self._obstacle[position] = place

    def _traced(self, shape: tuple[int, ...]) -> tuple[fx.GraphModule, _Probe]:
        """Return the network's graph, sizes folded, and a run of it."""
        if isinstance(self.network, torch.jit.ScriptModule):
            raise CutError(
                f"{self.title} cannot be cut: TorchScript hides its operations; build the network "
                "from its Python class"
            )
        inputs = needed_inputs(self.network)
        if len(inputs) > 1:
            raise CutError(
                f"{self.title} cannot be cut: it has {len(inputs)} inputs ({', '.join(inputs)}), "
                "a chain has 1"
            )
        reasons = []
        for tracer, way in ((traced_by_fx, "torch.fx"), (traced_by_export, "torch.export")):
            try:
                graph = tracer(self.network, shape)
                probe = self._run(graph, (PROBE_BATCH, *shape), counts_flops=True)
                # Another batch tells which sizes grow with it, and that none is written down.
                larger = self._run(graph, (PROBE_BATCH + 1, *shape)).values
                if all(isinstance(value, torch.Tensor) for value in probe.values):
                    return graph, probe  # without sizes
                folded = with_sizes_folded(graph, probe.values, larger, PROBE_BATCH)
                return folded, self._run(folded, (PROBE_BATCH, *shape), counts_flops=True)
            except GraphError as error:
                reasons.append(f"{way}: {error}")
        self._check_runs(shape)
        raise CutError(
            f"{self.title} cannot be cut: its forward pass cannot be traced ({'; '.join(reasons)})"
        )

    def _check_runs(self, shape: tuple[int, ...]) -> None:
        """Find out whether the network itself runs on such inputs."""
        like = next(self.network.parameters(), torch.empty(0))
        try:
            with torch.no_grad():
                result = self.network(torch.zeros((PROBE_BATCH, *shape), device=like.device))
        except _RUNNING_ERRORS as error:
            if like.is_meta and "meta" in str(error):
                return  # values are asked for, and there are none
            raise CutError(
                f"{self.title} does not run on inputs of shape {shape} "
                f"({_first_line(error)}); take larger inputs, or adapt the network"
            ) from None
        self._check_output(result)

    def _check_output(self, result: Any) -> None:
        if not isinstance(result, torch.Tensor):
            raise CutError(
                f"{self.title} cannot be cut: its output is a {type(result).__name__}, "
                "not one tensor"
            )

    def _run(
        self, graph: fx.GraphModule, shape: tuple[int, ...], *, counts_flops: bool = False
    ) -> _Probe:
        probe = _Probe(on_meta(graph))
        # Counting takes most of the time of a run that computes nothing.
        counting = probe.counter if counts_flops else nullcontext()
        try:
            with torch.no_grad(), counted_attention(), counting:
                result = probe.run(torch.empty(shape, device="meta"))
        except _RUNNING_ERRORS as error:
            raise GraphError(
                f"what is traced does not run on batches of {shape[0]}: {_first_line(error)}"
            ) from None
        self._check_output(result)
        return probe

    def _place(self, position: int) -> CutPlace | str:
        """Return the place after one operation, or why the network cannot be cut there."""
        node = self.nodes[position]
        crossing = [
            earlier
            for earlier in self.nodes[: position + 1]
            # Parameters do not cross: each block holds those that it uses. Neither do sizes of the
            # batch: each block reads them from what it gets.
            if earlier.op != "get_attr"
            and not is_size(earlier)
            and self._last_user[earlier] > position
        ]
        if node.op in ("placeholder", "get_attr", "output") or is_size(node):
            return "nothing is computed there"
        if self.nodes[position + 1].op == "output":
            return "it is the end of the network"
        if len(crossing) != 1:
            names = ", ".join(self.name(n) for n in crossing[:4])
            return f"{len(crossing)} values cross there ({names}{', ...' * (len(crossing) > 4)})"
        source = crossing[0]
        if source is not node:
            return f"its result is not what crosses there ({self.name(source)} does)"
        value = self._probe.values[position]
        if not isinstance(value, torch.Tensor):
            return "what crosses there is not a tensor"
        if value.ndim < 2 or value.shape[0] != PROBE_BATCH:
            return f"the tensor that crosses there has no batch dimension (shape {value.shape})"
        if self._probe.changed_later(position):
            return "the tensor that crosses there is changed in place afterwards"
        shape = tuple(value.shape[1:])
        return CutPlace(
            name=self.name(source),
            flops=self._probe.flops_until[position] // PROBE_BATCH,
            shape=shape,
            output_bytes=4 * int(torch.Size(shape).numel()),
            position=position,
        )

    def name(self, node: fx.Node) -> str:
        """Return the module of a module call, or that ends there, else the operation's name."""
        if node.op == "call_module":
            return str(node.target)
        if isinstance(node.target, torch._ops.OpOverload):  # no module is called in such graphs
            for name in modules_of(node):
                if self._end_of[name] == self._index[node]:
                    return name
        return str(node.name)

    def named_places(self, names: Sequence[str]) -> list[CutPlace]:
        """Return the places of these names, in the network's order."""
        ends = {place.position: place for place in self.places}
        last_in: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            for name in modules_of(node):
                last_in[name] = position
            if node.op not in ("placeholder", "get_attr", "output"):
                last_in[self.name(node)] = position
                last_in.setdefault(node.name, position)
        found: dict[int, CutPlace] = {}
        for name in names:
            if name not in last_in:
                close = difflib.get_close_matches(name, last_in, n=3)
                raise CutError(
                    f"{self.title} has no place {name!r}"
                    + (f"; close: {', '.join(close)}" if close else "")
                )
            position = last_in[name]
            if position not in ends:
                raise CutError(
                    f"{self.title} cannot be cut after {name!r}: {self._obstacle[position]}; "
                    f"possible: {', '.join(place.name for place in self.places) or 'no place'}"
                )
            if position in found:
                raise CutError(f"{self.title}: {name!r} names a place that is named already")
            found[position] = ends[position]
        if not found:
            raise CutError("no place is named")
        return [found[position] for position in sorted(found)]

    def split(self, positions: Sequence[int]) -> list[nn.Module]:
        """Return the blocks between these positions, sharing the network's tensors."""
        starts = [0, *(position + 1 for position in positions)]
        ends = [*(position + 1 for position in positions), len(self.nodes)]
        return [
            self._block(start, end, number)
            for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]

    def _block(self, start: int, end: int, number: int) -> fx.GraphModule:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}

        first = next(node for node in self.nodes if node.op == "placeholder")

        def copied(node: fx.Node) -> fx.Node:
            if node not in copies and (node.op == "get_attr" or is_size(node)):
                copies[node] = graph.node_copy(node, copied)
            return copies[node]

        if start:
            copies[self.nodes[start - 1]] = copies[first] = graph.placeholder("x")
        for node in self.nodes[start:end]:
            # Copied where they are used, maybe in a later block.
            if node.op != "get_attr" and not is_size(node):
                copies[node] = graph.node_copy(node, copied)
        if end < len(self.nodes):
            graph.output(copies[self.nodes[end - 1]])
        graph.lint()
        block = fx.GraphModule(self.graph, graph, f"{self.title}Block{number}")
        return block.eval()


def _balance(trace: _Trace, blocks: int) -> list[CutPlace]:
    """Choose the cuts that balance FLOPs (see :func:`cut`)."""
    # Places with the same work before them differ only in what crosses: keep the smallest
    # tensor, the latest such place. A cut before or after all work would leave a block idle.
    best: dict[int, CutPlace] = {}
    for place in trace.places:
        known = best.get(place.flops)
        if 0 < place.flops < trace.total and (
            known is None or place.output_bytes <= known.output_bytes
        ):
            best[place.flops] = place
    places = [best[flops] for flops in sorted(best)]
    if not 1 <= blocks <= len(places) + 1:
        raise CutError(
            f"{trace.title} cannot be cut into {blocks} blocks: it has {len(places)} places that "
            f"part its work, so 1 to {len(places) + 1} blocks; places: "
            f"{', '.join(place.name for place in places) or 'none'}"
        )
    done = [0, *(place.flops for place in places), trace.total]
    crossing = [0, *(place.output_bytes for place in places), 0]
    end = len(done) - 1

    # largest[j]: least possible largest block when the first j stretches make k blocks.
    largest: list[float] = [0.0] + [float("inf")] * end
    for _ in range(blocks):
        largest = [float("inf")] + [
            min(max(largest[i], done[j] - done[i]) for i in range(j)) for j in range(1, end + 1)
        ]
    limit = largest[end]

    # Then the least (sum of squares, bytes crossing) within that limit. Later cuts win ties.
    nowhere = (float("inf"), 0)
    score: list[tuple[float, int]] = [(0, 0)] + [nowhere] * end
    choices: list[list[int]] = []
    for _ in range(blocks):
        chosen, following = [0] * (end + 1), [nowhere] * (end + 1)
        for j in range(1, end + 1):
            for i in range(j):
                size = done[j] - done[i]
                candidate = (score[i][0] + size * size, score[i][1] + crossing[i])
                if size <= limit and candidate <= following[j]:
                    chosen[j], following[j] = i, candidate
        score = following
        choices.append(chosen)
    cuts: list[CutPlace] = []
    j = end
    for chosen in reversed(choices):
        j = chosen[j]
        if j:
            cuts.append(places[j - 1])
    return cuts[::-1]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
