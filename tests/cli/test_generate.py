"""The command ``generate``: files, options, messages."""

from __future__ import annotations

import pytest

from code_opt import load_instance
from code_opt.cli.app import main
from code_opt.cli.generate import Family
from code_opt.generate import FAMILIES, EdgeOptions, generate, generate_edge


def test_the_families_are_those_of_the_library():
    assert [family.value for family in Family] == list(FAMILIES)


def test_a_file_with_everything(tmp_path, capsys):
    out = tmp_path / "x.json"
    arguments = (
        "generate --services 12 --family hierarchy --seed 5 --blocks 3:6 --hosts 3 --images mixed "
        "--load 4 --zipf 0.7 --saturated 0.1 --links --latency --memory --measured 2 --groups 0.5"
    )
    assert main([*arguments.split(), "--out", str(out)]) == 0
    options = EdgeOptions(
        family="hierarchy",
        services=12,
        seed=5,
        blocks=(3, 6),
        hosts=3,
        images="mixed",
        load=4.0,
        zipf=0.7,
        saturated=0.1,
        links=True,
        latency=True,
        memory=True,
        measured=2,
        groups=0.5,
    )
    assert load_instance(out) == generate_edge(options)
    told = capsys.readouterr()
    assert told.err == ""
    assert f"{out}: 12 services (hierarchy, seed 5), " in told.out


def test_the_defaults_are_those_of_the_library(tmp_path):
    assert main(["generate", "--services", "3", "--out", str(tmp_path / "x.json")]) == 0
    assert load_instance(tmp_path / "x.json") == generate_edge(EdgeOptions("hub-and-spoke", 3))
    arguments = ["generate", "--services", "3", "--family", "plain"]
    assert main([*arguments, "--out", str(tmp_path / "y.json")]) == 0
    assert load_instance(tmp_path / "y.json") == generate(3)


@pytest.mark.parametrize("name", ["x.yaml", "tables"])
def test_other_formats(name, tmp_path):
    out = tmp_path / name
    assert main(["generate", "--services", "2", "--measured", "1", "--out", str(out)]) == 0
    assert load_instance(out) == generate_edge(EdgeOptions("hub-and-spoke", 2, measured=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--services 0", "--services"),
        ("--services 2 --family star", "--family"),
        ("--services 2 --blocks x", "--blocks: 'x': expected a number, or a range such as 3:6"),
        ("--services 2 --blocks 3:", "--blocks"),
        ("--services 2 --blocks 3:9", "blocks 3 to 9: must lie within 2 to 8"),
        ("--services 2 --load nan", "load nan"),
        ("--services 2 --zipf -1", "zipf -1"),
        ("--services 2 --family plain --load 2 --groups 0", "plain has no --load, --groups"),
        ("--services 2 --family plain --blocks 3:4", "--family plain takes one number"),
        ("--services 2 --family plain --blocks 1", "blocks >= 2"),
    ],
)
def test_wrong_options_are_told(arguments, message, tmp_path, capsys):
    out = tmp_path / "x.json"
    assert main(["generate", *arguments.split(), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert not out.exists()


@pytest.mark.parametrize("name", ["x.txt", "missing/x.json"])
def test_a_place_that_cannot_be_written(name, tmp_path, capsys):
    assert main(["generate", "--services", "2", "--out", str(tmp_path / name)]) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
