"""An assignment as files: what every server runs, as programs of their own, and who gets what.

A *program* is what a server does from an arrival on: frozen blocks and adapters of one visit, for
batches of any size. Each is exported by ``torch.export`` and, where that works, as ONNX. All of
them are run from their files' bytes on images of noise, output into input, and their outputs are
compared with those of the assembled network, before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from code_opt.checker import check
from code_opt.errors import CodeOptError, InputError
from code_opt.evaluation.flow import Stream, streams_of
from code_opt.evaluation.outcome import refuse_alternatives
from code_opt.evaluation.subject import Subject
from code_opt.evaluation.tuning import PathFits
from code_opt.evaluation.worker import VisitSpec, make_modules
from code_opt.files import write_atomically
from code_opt.networks.compat import torch
from code_opt.result import Result

nn = torch.nn
Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Sequence[Floats]]
"""Runs a program on a batch; returns its outputs."""

SCHEMA = "code-opt/deployment/1"
MANIFEST = "deployment.json"
TOLERANCE = 1e-3
"""Largest difference of an answer from the assembled network's, as a share of the largest."""
_BATCHES = (1, 3)
"""Sizes at which programs are compared; the size while tracing is another one."""
_TRACED = 2


class DeploymentError(CodeOptError):
    """A program does not answer like the assembled network; nothing was written."""


@dataclass(frozen=True)
class Output:
    """One output of a program."""

    name: str
    shape: tuple[int, ...]
    """Of one inference."""
    to: tuple[str, ...] = ()
    """Programs that take it."""
    answers: tuple[str, ...] = ()
    """Tasks whose answer it is: one number for every class, the largest of which counts."""


@dataclass(frozen=True)
class Program:
    """One program of a server."""

    name: str
    server: str
    tasks: tuple[str, ...]
    rate: float
    """Inferences per second."""
    order: int
    """Programs of lower numbers come before it on the way of an inference."""
    input: str
    input_shape: tuple[int, ...]
    outputs: tuple[Output, ...]
    adapters: tuple[str, ...]
    """Kinds of those in it, in order."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by file."""
    without_onnx: str | None = None
    """Why there is no ONNX file; None: there is one."""


class VisitModule(nn.Module):
    """What a server does with one activation that arrives: a tree of pieces.

    Args:
        visit: how the pieces hang together.
        pieces: their modules.
    """

    def __init__(self, visit: VisitSpec, pieces: Sequence[nn.Module]) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(pieces)
        self.parents = [piece.parent for piece in visit.pieces]
        self.given = [bool(piece.next or piece.answers) for piece in visit.pieces]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs that somebody outside needs, in order."""
        outputs: list[torch.Tensor] = []
        for parent, piece in zip(self.parents, self.pieces, strict=True):
            outputs.append(piece(x if parent < 0 else outputs[parent]))
        # A program may not hand its input out as an output.
        return tuple(
            output.clone() if output is x else output
            for output, is_given in zip(outputs, self.given, strict=True)
            if is_given
        )


def deploy(
    subject: Subject, result: Result, out: Path, *, onnx: bool | None = None
) -> list[Program]:
    """Write what every server of an assignment runs.

    Args:
        subject: instance and bundle.
        result: the assignment.
        out: folder; ``deployment.json`` comes last.
        onnx: as ONNX, too; None: where its packages are installed.

    Raises:
        InputError: a result that does not pass the check, an instance without a bundle, no ONNX
            packages though they are asked for, or files that are there already.
        DeploymentError: a program answers differently.
    """
    if subject.bundle is None:
        raise InputError("the instance has no bundle: there are no networks to deploy")
    if (out / MANIFEST).exists():
        raise InputError(f"{out / MANIFEST}: is there already; choose another folder")
    refuse_alternatives(subject.instance, "result", result)
    violations = check(result, subject.instance)
    if violations:
        raise InputError(f"the result does not pass the check: {violations[0]}")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if onnx and missing:
        raise InputError(
            f"ONNX needs {', '.join(missing)}: pip install 'code-opt[deploy]', or leave out --onnx"
        )
    with_onnx = not missing if onnx is None else onnx
    fits = PathFits(subject, "cpu", fine_tune=False)
    streams = [
        replace(
            stream,
            inputs={
                k: _noise(subject, stream.route.tasks[segment.tasks[0]], number)
                for k, segment in enumerate(stream.route.segments)
                if segment.parent < 0
            },
        )
        for number, stream in enumerate(streams_of(subject.instance, result))
    ]
    contents: dict[str, bytes] = {}
    programs: list[Program] = []
    runs: dict[str, dict[str, Run]] = {"torch.export": {}, "ONNX": {}}
    for server, visit in _visits(subject, fits, streams):
        program, module = _program(subject, streams, server, visit)
        files, runs["torch.export"][program.name] = _exported(program, module)
        if with_onnx:
            more, run, reason = _as_onnx(program, module)
            files |= more
            program = replace(program, without_onnx=reason)
            if run is not None:
                runs["ONNX"][program.name] = run
        else:
            program = replace(program, without_onnx=f"not installed: {', '.join(missing)}")
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        programs.append(replace(program, files=sums))
        contents |= files
    network = fits.network(result).eval()
    for kind, known in runs.items():
        if known:
            _compare(kind, subject, network, streams, programs, {**runs["torch.export"], **known})
    for name, content in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, content)
    write_atomically(
        out / MANIFEST, json.dumps(_manifest(subject, result, programs), indent=1) + "\n"
    )
    return programs


def _noise(subject: Subject, task: str, seed: int) -> Floats:
    """Return images of noise as a task's network takes them; of one size and seed the same ones."""
    bundle = subject.bundle
    assert bundle is not None
    shape = next(d.input for d in bundle.manifest.dnns if d.id == bundle.tasks[task].dnn)
    pixels = np.random.default_rng(seed).integers(0, 256, (max(_BATCHES), *shape), dtype=np.uint8)
    found: Floats = bundle.normalization(task)(torch.from_numpy(pixels)).contiguous().numpy()
    return found


def _visits(
    subject: Subject, fits: PathFits, streams: Sequence[Stream]
) -> list[tuple[str, VisitSpec]]:
    """Return what servers do, in the order in which an inference comes by."""
    workers = subject.workers(
        [list(streams)],
        device="cpu",
        threads=1,
        largest_batch=1,
        adapters=fits.adapters,
        paced=False,
    )
    found = [(name, visit) for name, spec in workers.items() for visit in spec.visits]
    return sorted(found, key=lambda one: (one[1].route, one[1].visit))


def _name(visit: tuple[int, int]) -> str:
    return f"route{visit[0]}-step{visit[1]}"


def _program(
    subject: Subject, streams: Sequence[Stream], server: str, visit: VisitSpec
) -> tuple[Program, VisitModule]:
    """Return what a visit is, without files, and its module."""
    route = streams[visit.route].route
    module = VisitModule(visit, make_modules(visit, subject.bundle, "cpu")).eval()
    with torch.inference_mode():
        shapes = [tuple(o.shape[1:]) for o in module(torch.zeros(1, *visit.shape))]
    given = [piece for piece in visit.pieces if piece.next or piece.answers]
    outputs = tuple(
        Output(
            name=f"output{k}",
            shape=shape,
            to=tuple(_name((visit.route, to)) for _, to, _, _ in piece.next),
            answers=tuple(route.tasks[place] for place in piece.answers),
        )
        for k, (piece, shape) in enumerate(zip(given, shapes, strict=True))
    )
    kinds = tuple(
        part.adapter.kind
        for piece in visit.pieces
        for part in piece.parts
        if part.adapter is not None
    )
    program = Program(
        name=_name((visit.route, visit.visit)),
        server=server,
        tasks=tuple(route.tasks[place] for place in route.segments[visit.visit].tasks),
        rate=route.rate,
        order=visit.visit,
        input="input",
        input_shape=tuple(visit.shape),
        outputs=outputs,
        adapters=kinds,
    )
    return program, module


def _exported(program: Program, module: VisitModule) -> tuple[dict[str, bytes], Run]:
    """Export a program by ``torch.export``; return its file and what runs it."""
    example = (torch.randn(_TRACED, *program.input_shape),)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        sizes = ({0: torch.export.Dim("batch", min=1, max=65536)},)
        exported = torch.export.export(module, example, dynamic_shapes=sizes)
        buffer = io.BytesIO()
        torch.export.save(exported, buffer)
        content = buffer.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()

    def run(x: Floats) -> list[Floats]:
        with torch.no_grad():
            return [output.numpy() for output in loaded(torch.from_numpy(x))]

    return {_file(program, "pt2"): content}, run


def _as_onnx(
    program: Program, module: VisitModule
) -> tuple[dict[str, bytes], Run | None, str | None]:
    """Export a program as ONNX; return its file and what runs it, or why there is none."""
    onnxruntime = import_module("onnxruntime")
    example = (torch.randn(_TRACED, *program.input_shape),)
    names = [output.name for output in program.outputs]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.onnx.export(
                module,
                example,
                dynamo=True,
                verbose=False,
                input_names=[program.input],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            )
        assert found is not None
        content = found.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # Exporter and runtime raise errors of many kinds; whatever it is, the other file stands.
    except Exception as error:  # noqa: BLE001
        return {}, None, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"

    def run(x: Floats) -> list[Floats]:
        return list(session.run(names, {program.input: x}))

    return {_file(program, "onnx"): content}, run, None


def _file(program: Program, ending: str) -> str:
    return f"{_folder(program.server)}/{program.name}.{ending}"


def _folder(server: str) -> str:
    """Return a server's id as the name of a folder that leads nowhere else."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in server)
    if safe == server:
        return server
    return f"{safe}-{hashlib.sha256(server.encode()).hexdigest()[:8]}"


def _compare(
    kind: str,
    subject: Subject,
    network: Any,
    streams: Sequence[Stream],
    programs: Sequence[Program],
    runs: Mapping[str, Run],
) -> None:
    """Check that chained programs answer as the assembled network does.

    Raises:
        DeploymentError: they do not.
    """
    numbers = {task: number for number, s in enumerate(streams) for task in s.route.tasks}
    for batch in _BATCHES:
        arrived: dict[str, Floats] = {
            _name((number, segment)): np.ascontiguousarray(inputs[:batch])
            for number, stream in enumerate(streams)
            for segment, inputs in stream.inputs.items()
        }
        for program in programs:
            outputs = runs[program.name](arrived[program.name])
            for output, value in zip(program.outputs, outputs, strict=True):
                for to in output.to:
                    arrived[to] = value
                for task in output.answers:
                    x = torch.from_numpy(_noise(subject, task, numbers[task])[:batch])
                    with torch.no_grad():
                        right = network.path(task)(x).numpy()
                    off = float(np.abs(value - right).max()) / max(1e-9, float(np.abs(right).max()))
                    if value.shape != right.shape or not off <= TOLERANCE:
                        raise DeploymentError(
                            f"task {task!r}: the programs by {kind} answer differently from the "
                            f"assembled network (by {off:.2g} of the largest output, batch of "
                            f"{batch}); nothing was written"
                        )


def _manifest(subject: Subject, result: Result, programs: Sequence[Program]) -> dict[str, Any]:
    bundle = subject.bundle
    assert bundle is not None
    return {
        "schema": SCHEMA,
        "instance": result.instance,
        "instance_digest": result.instance_digest,
        "torch": str(torch.__version__),
        "tasks": {
            row.task: {
                "rate": row.rate,
                "path": list(row.path),
                "classes": list(bundle.tasks[row.task].classes),
                "mean": list(bundle.tasks[row.task].mean),
                "deviation": list(bundle.tasks[row.task].deviation),
            }
            for row in result.tasks
        },
        "servers": {
            server: [asdict(one) for one in programs if one.server == server]
            for server in sorted({one.server for one in programs})
        },
    }
