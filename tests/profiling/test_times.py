"""Measured device time: of every block and adapter, kept, and what the instance counts."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import code_opt
from code_opt.instance import InstanceError
from code_opt.networks import timing
from code_opt.networks.adapters import AdapterSpec
from code_opt.networks.bundle import Bundle
from code_opt.networks.threads import device_type, use_threads
from code_opt.networks.timing import BlockTime
from code_opt.profiling.config import ProfileConfig, TimingConfig, parse_config
from code_opt.profiling.pipeline import Profile, profile
from code_opt.profiling.preparation import Place
from code_opt.profiling.times import TimedPart, adapter_part, part_times, seconds_of, unsteady
from code_opt.store import Store
from tests.profiling.conftest import tone_config, write_tones

TIMING = TimingConfig(batches=(1, 4), seconds=1e-6)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second of the test's own clock pass between two looks at it."""
    use_threads(1)
    seconds = count()
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(timing.time, name, lambda: float(next(seconds)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_tones(tmp_path / "data")
    return Place(tmp_path / "config.yaml", tmp_path / "out", tmp_path / "data", "cpu")


def changed(config: ProfileConfig, **fields: Any) -> ProfileConfig:
    data = config.model_dump(mode="json", by_alias=True)
    for name, value in fields.items():
        data[name] = data[name] | value if isinstance(value, dict) else value
    return parse_config(data)


def in_seconds(**fields: Any) -> ProfileConfig:
    servers = [{"id": "edge", "batch": 4}]
    timed = {"batches": [1, 4], "seconds": 0.001}
    given = {"work": "seconds", "servers": servers, "timing": timed}
    return changed(tone_config(), **{**given, **fields})


def times_in(place: Place) -> list[dict[str, Any]]:
    lines = (place.work / "measurements.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["kind"] == "time"]


def test_an_instance_in_seconds_holds_a_time_of_every_block_and_adapter(place: Place) -> None:
    found = profile(in_seconds(), place)
    (dnn,), (task,) = found.instance.dnns, found.instance.tasks
    assert task.connections
    # One second between two looks at the clock, whatever the batch.
    for part in (*dnn.blocks, *task.connections):
        assert part.seconds == {"1": 1.0, "4": 1.0}
    (row,) = code_opt.solve(found.instance.with_({"tasks[*].demand": None}), method="local").tasks
    assert row.rate == pytest.approx(4.0 / 2)  # batches of 4, a second for each of two blocks
    timed = Bundle(place.out / "bundle").manifest.timed
    assert timed is not None
    assert (timed.device, timed.threads) == (device_type("cpu"), 1)
    about = json.loads((place.out / "about.json").read_text())
    assert (about["device_type"], about["threads"]) == (device_type("cpu"), 1)


def test_an_instance_in_flops_holds_no_time_but_the_tables_do(place: Place) -> None:
    found = profile(tone_config(), place)
    parts = [
        *(block for dnn in found.instance.dnns for block in dnn.blocks),
        *(one for task in found.instance.tasks for one in task.connections),
    ]
    assert {part.seconds for part in parts} == {None}
    assert list(found.tables["blocks"]["seconds_median"]) == [1.0, 1.0]
    assert list(found.tables["adapters"]["seconds_median"]) == [1.0]
    assert Bundle(place.out / "bundle").manifest.timed is None


@pytest.mark.parametrize(
    ("fields", "new"),
    [
        ({"reward": {"accuracy": {"kind": "power", "exponent": 7.0}}}, []),
        ({"name": "another"}, []),
        ({"timing": {"batches": [4, 2, 1], "seconds": 0.001}}, [2, 2, 2]),
        ({"timing": {"batches": [1, 4], "seconds": 0.002}}, [1, 1, 1, 4, 4, 4]),
    ],
)
def test_a_time_is_measured_once(place: Place, fields: dict[str, Any], new: list[int]) -> None:
    first = profile(in_seconds(), place)
    before = len(times_in(place))
    assert before == 2 * 3  # two blocks and one adapter, two batch sizes
    again = profile(in_seconds(**fields), place)
    assert [record["batch"] for record in times_in(place)[before:]] == new
    assert again.instance.dnns[0].id == first.instance.dnns[0].id


def test_equal_adapters_are_timed_once(tmp_path: Path) -> None:
    spec = AdapterSpec("pointwise", (4, 6, 6), (8, 6, 6))
    other = AdapterSpec("pointwise-relu", (4, 6, 6), (8, 6, 6))
    store = Store(tmp_path)
    parts = [adapter_part(spec), adapter_part(spec), adapter_part(other)]
    found = part_times(parts, TIMING, device="cpu", store=store)
    assert list(found) == ["pointwise 4x6x6 to 8x6x6", "pointwise-relu 4x6x6 to 8x6x6"]
    assert len(store.records) == 4
    assert seconds_of(found["pointwise 4x6x6 to 8x6x6"]) == {"1": 1.0, "4": 1.0}


def test_another_number_of_threads_is_another_device(tmp_path: Path) -> None:
    part = adapter_part(AdapterSpec("linear", (4, 6, 6), (3,)))
    store = Store(tmp_path)
    part_times([part], TIMING, device="cpu", store=store)
    use_threads(2)
    try:
        part_times([part], TIMING, device="cpu", store=store)
    finally:
        use_threads(1)
    assert len(store.records) == 4


def test_blocks_of_a_chain_take_turns_and_others_run_alone() -> None:
    seen: list[tuple[str, tuple[int, ...]]] = []

    class Looks(torch.nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((self.name, tuple(x.shape)))
            return x

    shapes = {"a": ("net", (3, 4, 4)), "alone": (None, (6,)), "b": ("net", (5,))}
    parts = [
        TimedPart(name, name, shape, lambda name=name: Looks(name), chain)
        for name, (chain, shape) in shapes.items()
    ]
    part_times(parts, TimingConfig(batches=(2,), seconds=1e-6), device="cpu")
    turns = [name for name, _ in seen]
    assert dict(seen) == {"a": (2, 3, 4, 4), "b": (2, 5), "alone": (2, 6)}
    # Three rounds of at least three runs each; the chain's blocks one after the other.
    assert "".join(turns).count("abab") == 3
    assert turns[-3:] == ["alone"] * 3


def test_times_that_spread_are_named() -> None:
    def of(batch: int, low: float, high: float) -> BlockTime:
        return BlockTime(0, batch, 1.0, low, high, 9)

    times = {
        "quiet": {1: of(1, 0.95, 1.05)},
        "loud": {1: of(1, 0.9, 1.0), 8: of(8, 0.9, 1.2), 32: of(32, 0.8, 1.3)},
    }
    assert unsteady(times) == ["loud (batch 8, 32)"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"servers": [{"id": "edge"}]},
            "servers[0].flops: is required where work is flops",
        ),
        (
            {"servers": [{"id": "edge", "flops": 1e9, "batch": 8}]},
            "servers[0].batch = 8.0: only measured times know batches: set work: seconds",
        ),
        (
            {"work": "seconds", "servers": [{"id": "edge", "batch": 8}]},
            "servers[0].batch = 8.0: must be one of the batch sizes that are timed "
            "(timing.batches: 1)",
        ),
    ],
)
def test_servers_that_no_instance_could_have_are_refused_at_once(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InstanceError) as caught:
        changed(tone_config(), **fields)
    assert message in str(caught.value)


def test_a_profile_tells_of_unsteady_times(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from code_opt.cli.profile_report import show_profile
    from code_opt.cli.terminal import Console

    quiet = profile(tone_config(), place)
    show_profile(quiet, Console(width=200), place.out)
    assert "something else ran" not in capsys.readouterr().out
    loud = Profile(quiet.instance, quiet.search, quiet.tables, 1.0, ("a", "b", "c", "d"))
    show_profile(loud, Console(width=200), place.out)
    assert "spread by more than 20%" in capsys.readouterr().out
