"""Certificates: what duals prove is never less than the optimum, whatever the duals are."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from code_opt import certificate as module
from code_opt.certificate import (
    Certificate,
    LinkDual,
    ServerDual,
    certified_bound,
    load_certificate,
    save_certificate,
)
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.instance import load_instance
from code_opt.instance.model import Exponential, Logistic, Power
from code_opt.result import load_result
from code_opt.reward import log_value
from code_opt.solving import certify, solve
from tests.reference import solve_reference
from tests.strategies import random_instance

ROOT = Path(__file__).resolve().parents[1]
OPTIONS: tuple[dict[str, bool], ...] = (
    {},
    {"groups": True, "inputs": True},
    {"devices": True, "alternatives": True},
)


def certifies_no_less_than_brute_force(seed: int) -> float | None:
    """Compare good, forged and random duals on one instance; return the gap of the good ones."""
    rng = np.random.default_rng(seed)
    options = OPTIONS[seed % len(OPTIONS)]
    instance = random_instance(seed, max_combinations=1500, **options)
    objective = ("reward", "throughput", "accuracy")[int(rng.integers(3))]
    floor = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.3 else None
    share = 0.7 if rng.random() < 0.3 else None
    sold = instance.with_max_utilization(share)
    reference = solve_reference(sold, objective=objective, min_accuracy=floor)
    if reference is None:
        return None
    asked = {"objective": objective, "min_accuracy": floor, "max_utilization": share}
    result = solve(instance, "exact", **asked)
    good = certify(instance, result)
    assert good is not None
    found = certified_bound(good, result, instance)
    assert found.bound is not None
    assert found.bound >= reference.value, seed
    assert not found.is_contradicted
    for _ in range(3):
        forged = good.model_copy(
            update={
                "accuracy": good.accuracy * float(rng.choice([0.0, 0.5, 1.0, 3.0])),
                "throughput": good.throughput * float(rng.choice([0.0, 0.5, 1.0, 3.0])),
                "servers": tuple(
                    ServerDual(
                        server=s.id,
                        time=float(rng.choice([0.0, 1e-3, 1.0, 1e3]) * rng.random()),
                        memory=0.0 if s.memory is None else float(rng.random() * 1e-6),
                    )
                    for s in instance.servers
                ),
            }
        )
        bound = certified_bound(forged, result, instance).bound
        assert bound is None or bound >= reference.value, seed
    # Labels that are merged make the bound wider, never wrong.
    with mock.patch.object(module, "MOST_LABELS", 1):
        merged = certified_bound(good, result, instance)
    assert merged.bound is None or merged.bound >= found.bound * (1.0 - 1e-12)
    return found.gap if "groups" not in options else None


def test_no_bound_is_below_the_optimum_of_brute_force() -> None:
    gaps = [certifies_no_less_than_brute_force(seed) for seed in range(24)]
    known = [gap for gap in gaps if gap is not None]
    # The relaxation is tight on most of these: a verifier that gives too much away is seen, too.
    assert len(known) >= 8
    assert float(np.median(known)) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("block", range(20))
def test_thousands_of_bounds(block: int) -> None:
    for seed in range(1000 + block * 100, 1000 + (block + 1) * 100):
        certifies_no_less_than_brute_force(seed)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Write a result and its certificate by the command line; return them and the instance."""
    folder = tmp_path_factory.mktemp("certificate")
    instance, file = ROOT / "data" / "metro-links.json", folder / "duals.json"
    command = ["solve", str(instance), "-m", "exact", "--out", str(folder), "--json"]
    assert main([*command, "--certificate", str(file)]) == 0
    return next(folder.glob("*.exact.json")), instance, file


def test_check_shows_the_certified_gap_beside_the_claimed_one(solved, capsys) -> None:
    result, instance, file = map(str, solved)
    assert main(["check", result, instance, "--certificate", file]) == 0
    text = capsys.readouterr().out
    assert "certifies the bound 111.886" in text
    assert "a gap of 0.169 % (claimed: the bound 111.69858, a gap of 0" in text
    assert "bandwidths of links, memories of servers" in text
    assert "does without cuts and branching" in text


def test_every_forged_number_is_refused_or_certifies_no_less(solved, tmp_path, capsys) -> None:
    result, instance = load_result(solved[0]), load_instance(solved[1])
    text = json.loads(solved[2].read_text())
    places = [("accuracy",), ("throughput",)]
    places += [("servers", i, "time") for i in range(len(text["servers"]))]
    places += [("links", i, "bandwidth") for i in range(len(text["links"]))]
    assert len(places) > 4
    for place, value in product(places, (0.0, 1e-300, 1e6, 1e300, -1e-9, "much", None)):
        forged = json.loads(solved[2].read_text())
        record = forged
        for key in place[:-1]:
            record = record[key]
        record[place[-1]] = value
        file = tmp_path / "forged.json"
        file.write_text(json.dumps(forged))
        if not isinstance(value, float) or value < 0.0:
            with pytest.raises(InputError, match="not a certificate"):
                load_certificate(file)
            continue
        bound = certified_bound(load_certificate(file), result, instance).bound
        assert bound is None or bound >= result.value
    # A result whose value is beyond what is proven is not confirmed.
    boasting = result.model_copy(update={"reward": result.reward * 2})
    assert certified_bound(load_certificate(solved[2]), boasting, instance).is_contradicted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instance": "other"}, "for the instance 'other', not 'metro-links'"),
        ({"objective": "accuracy"}, "for the objective 'accuracy', not 'reward'"),
        ({"servers": [{"server": "nowhere"}]}, "'nowhere': the instance has no such server"),
        ({"servers": [{"server": "metro-a"}] * 2}, r"servers\[1\]: .* is there twice"),
        ({"links": [{"source": "x", "target": "y"}]}, "'x' -> 'y': the instance has no such link"),
    ],
)
def test_certificates_of_something_else_are_refused(solved, tmp_path, change, message) -> None:
    instance = load_instance(solved[1])
    if "servers" in change and change["servers"][0]["server"] == "metro-a":
        change = {"servers": [{"server": instance.servers[0].id}] * 2}
    file = tmp_path / "other.json"
    file.write_text(json.dumps(json.loads(solved[2].read_text()) | change))
    with pytest.raises(InputError, match=message):
        certified_bound(load_certificate(file), load_result(solved[0]), instance)


def test_a_certificate_is_written_for_an_assignment_of_one_instance(tmp_path, capsys) -> None:
    file = tmp_path / "duals.json"
    infeasible = str(ROOT / "data" / "infeasible.json")
    assert main(["solve", infeasible, "-m", "exact", "--certificate", str(file)]) == 3
    assert "is not written: no assignment to bound" in capsys.readouterr().err
    assert not file.exists()
    several = [infeasible, str(ROOT / "data" / "two-services.json")]
    assert main(["solve", *several, "--certificate", str(file)]) == 2
    assert "--certificate: for one instance only" in capsys.readouterr().err


def test_what_is_left_out_is_said_and_still_valid() -> None:
    instance = load_instance(ROOT / "data" / "one-camera")
    result = solve(instance, "exact", latency_percentile=0.9)
    if not result.has_solution:
        result = solve(instance, "exact")
    certificate = certify(instance, result)
    assert certificate is not None
    found = certified_bound(certificate, result, instance)
    assert found.bound is not None
    assert found.bound >= result.value
    assert "that an input group pays" in " ".join(found.left_out)


def test_a_time_is_bounded_from_below() -> None:
    instance = load_instance(ROOT / "data" / "metro-links.json").with_({"tasks[*].demand": 1.0})
    result = solve(instance, "exact", objective="latency")
    certificate = certify(instance, result)
    assert certificate is not None
    found = certified_bound(certificate, result, instance)
    assert found.bound is not None
    assert result.latency is not None
    assert 0.0 < found.bound <= result.latency
    assert found.gap == pytest.approx(1.0 - found.bound / result.latency)


@pytest.mark.parametrize(
    "shape",
    [
        Power(kind="power", exponent=0.0),
        Power(kind="power", exponent=2.5),
        Logistic(kind="logistic", steepness=12.0, midpoint=0.7),
        Logistic(kind="logistic", steepness=1e9, midpoint=0.2),
        Exponential(kind="exponential", rate=3.0),
    ],
)
def test_totals_bring_no_more_than_is_counted(shape) -> None:
    for low, high in ((0.0, 1.0), (0.3, 0.9), (0.0, 1e4)):
        x = np.linspace(low, high, 2001)
        for dual in (0.0, 1e-4, 0.3, 2.0, 50.0, 1e10):
            most = float(module._most_beyond(shape, Fraction(low), Fraction(high), dual))
            true = float(np.max(log_value(shape, x) - dual * x))
            assert most >= true - 1e-9 * abs(true)
            if shape.kind != "logistic" or shape.steepness < 1e3:
                assert most <= true + 2e-2 * (1.0 + abs(true)) or low == 0.0


def test_files_hold_what_was_written(tmp_path) -> None:
    certificate = Certificate(
        instance="x",
        objective="reward",
        accuracy=math.pi,
        throughput=1e-300,
        servers=(ServerDual(server="s", time=0.1),),
        links=(LinkDual(source="a", target="b", bandwidth=1 / 3),),
    )
    save_certificate(certificate, tmp_path / "c.json")
    assert load_certificate(tmp_path / "c.json") == certificate
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InputError, match="not a certificate"):
        load_certificate(tmp_path / "r.json")
