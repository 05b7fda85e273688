"""The graph of a network's operations, of one input, with sizes as numbers.

``torch.fx`` runs the forward pass with stand-ins for tensors, so it stops where ordinary code looks
at a value. ``torch.export`` follows ordinary code, with the batch as a symbol, and gives a graph of
primitive operations.
"""

from __future__ import annotations

import inspect
import logging
import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from code_opt.networks.compat import torch

fx = torch.fx
nn = torch.nn
_SIZE = "code_opt_size"
"""Key in ``meta`` of operations that read or scale the size of the batch."""


class GraphError(Exception):
    """A network cannot be traced so; the message says why."""


def needed_inputs(network: nn.Module) -> list[str]:
    """Return the names of a network's inputs that have no default."""
    return [
        p.name
        for p in inspect.signature(network.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]


def traced_by_fx(network: nn.Module, shape: Sequence[int]) -> fx.GraphModule:  # noqa: ARG001
    """Return the graph that ``torch.fx`` traces; arguments with defaults are bound to these.

    Raises:
        GraphError: it cannot.
    """
    known = list(inspect.signature(network.forward).parameters.values())
    extra = {
        p.name: p.default
        for p in known[1:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is not p.empty
    }
    try:
        traced = fx.symbolic_trace(network, concrete_args=extra or None)
    except Exception as error:  # noqa: BLE001  whatever a stand-in makes of ordinary code
        raise GraphError(_first_line(error)) from None
    graph = traced.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    # torch.fx leaves bound arguments as inputs that are only compared with what they are bound to.
    for node in inputs[1:]:
        _erase(graph, node)
    _take_any_layout(graph)
    graph.lint()
    traced.recompile()
    return traced


def traced_by_export(network: nn.Module, shape: Sequence[int]) -> fx.GraphModule:
    """Return the graph that ``torch.export`` makes, for batches of any size.

    Raises:
        GraphError: it cannot, or only for one size of batch.
    """
    example = next((p for p in network.parameters()), torch.empty(0))
    inputs = (torch.zeros((2, *shape), device=example.device),)
    try:
        with torch.no_grad(), _silence():
            batch = torch.export.Dim("batch", min=1, max=2**16)
            program = torch.export.export(network, inputs, dynamic_shapes=({0: batch},))
            module: Any = program.module()
    except Exception as error:  # noqa: BLE001  whatever it meets in ordinary code
        raise GraphError(_first_line(error)) from None
    graph = module.graph
    for node in list(graph.nodes):
        # Checks of the input's shape, and tensors that nothing reads.
        if node.op in ("call_module", "get_attr") and not node.users:
            graph.erase_node(node)
        elif node.op == "output" and isinstance(node.args[0], (tuple, list)):
            if len(node.args[0]) != 1:
                raise GraphError(f"it has {len(node.args[0])} outputs")
            node.args = (node.args[0][0],)
    graph.set_codegen(fx.graph.CodeGen())  # takes and gives tensors, no trees of them
    _keep_constants(module)
    _take_any_layout(graph)
    graph.lint()
    return fx.GraphModule(module, graph, type(network).__name__)


def _take_any_layout(graph: fx.Graph) -> None:
    """Let views reshape: a view refuses activations that lie channels last, as ours do.

    Where a view is possible, ``reshape`` gives that very view.
    """
    aten = torch.ops.aten
    for node in graph.nodes:
        shape = (*node.args[1:], *node.kwargs.values())
        if node.op == "call_method" and node.target == "view":
            if not any(isinstance(one, torch.dtype) for one in shape):
                node.target = "reshape"
                node.kwargs = {}
                node.args = (node.args[0], *shape)
        elif node.op == "call_function" and node.target is aten.view.default:
            node.target = aten.reshape.default


def _keep_constants(module: nn.Module) -> None:
    """Compute once what rests on numbers alone, so that no operation names a device."""
    graph: fx.Graph = module.graph  # type: ignore[assignment]
    known: dict[fx.Node, torch.Tensor] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or any(one not in known for one in node.all_input_nodes):
            continue
        arguments = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        value = node.target(*arguments[0], **arguments[1])
        if isinstance(value, torch.Tensor):
            known[node] = value
    for number, (node, value) in enumerate(known.items()):
        module.register_buffer(f"constant_{number}", value, persistent=False)
        with graph.inserting_before(node):
            kept = graph.get_attr(f"constant_{number}")
        node.replace_all_uses_with(kept)
    for node in reversed(list(graph.nodes)):
        if (node in known or node.op == "get_attr") and not node.users:
            graph.erase_node(node)


def with_sizes_folded(
    graph: fx.GraphModule, values: Sequence[Any], others: Sequence[Any], batch: int
) -> fx.GraphModule:
    """Replace sizes by numbers, and those that grow with the batch by multiples of its size.

    A size that is read early and used late would otherwise cross every cut between.

    Args:
        graph: traced; it is changed.
        values: result of every operation for a batch of ``batch``.
        others: the same for a batch of one more.
        batch: at least 2.
    """
    nodes = list(graph.graph.nodes)
    first = next(node for node in nodes if node.op == "placeholder")
    multiples: dict[int, fx.Node] = {}

    def size(times: int) -> fx.Node:
        """Return the operation that gives so many times the size of the batch."""
        if 1 not in multiples:
            with graph.graph.inserting_after(first):
                multiples[1] = graph.graph.call_method("size", (first, 0))
        if times not in multiples:
            with graph.graph.inserting_after(multiples[1]):
                multiples[times] = graph.graph.call_function(operator.mul, (multiples[1], times))
        return multiples[times]

    folded = []
    for node, value, other in zip(nodes, values, others, strict=True):
        plain = _folded(value, other, batch)
        if plain is _UNKNOWN or node.op not in ("call_function", "call_method"):
            continue
        found = _with(plain, size)
        for user in list(node.users):
            user.args = _replaced(user.args, node, found)
            user.kwargs = _replaced(user.kwargs, node, found)
        folded.append(node)
    for node in multiples.values():
        node.meta[_SIZE] = True
    for node in reversed(folded):
        if not node.is_impure():
            graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()
    return graph


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the graph so far, which torch.export prints when it fails, off the terminal."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def is_size(node: fx.Node) -> bool:
    """Return whether an operation reads the size of the batch from the input."""
    return _SIZE in node.meta


def modules_of(node: fx.Node) -> Iterator[str]:
    """Yield the modules that an operation belongs to, the outermost first."""
    for key, entry in (node.meta.get("nn_module_stack") or {}).items():
        name = entry[0] if isinstance(entry, tuple) else key
        if name:
            yield str(name).partition("@")[0]


class _Unknown:
    """No size."""


class _Times:
    """So many times the size of the batch."""

    def __init__(self, times: int) -> None:
        self.times = times


_UNKNOWN = _Unknown()


def _folded(value: Any, other: Any, batch: int) -> Any:
    """Return a size as numbers and multiples of the batch, or that it is none."""
    if isinstance(value, (bool, int, float)) and type(value) is type(other):
        if value == other:
            return value
        times, rest = divmod(value, batch) if isinstance(value, int) else (0, 1)
        return _Times(int(times)) if not rest and other == times * (batch + 1) else _UNKNOWN
    if (
        isinstance(value, (tuple, list))
        and type(value) is type(other)
        and len(value) == len(other)
        and value
    ):
        found = [_folded(a, b, batch) for a, b in zip(value, other, strict=True)]
        if _UNKNOWN not in found:
            return tuple(found)
    return _UNKNOWN


def _with(plain: Any, size: Any) -> Any:
    """Return a folded size as an argument of operations."""
    if isinstance(plain, tuple):
        return tuple(_with(one, size) for one in plain)
    return size(plain.times) if isinstance(plain, _Times) else plain


def _replaced(arguments: Any, node: fx.Node, found: Any) -> Any:
    return fx.node.map_arg(arguments, lambda one: found if one is node else one)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Erase a node with everything that uses it."""
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
