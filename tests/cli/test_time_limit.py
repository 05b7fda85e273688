"""A time limit of one method is that of the command: what reading takes is taken off."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest

import code_opt
from code_opt.cli.app import main

command = import_module("code_opt.cli.solve")
INSTANCE = str(Path(__file__).resolve().parents[2] / "data" / "two-services.json")


@pytest.mark.parametrize(
    ("methods", "reading", "limits"),
    [
        (["lns"], 4.0, [18.0]),  # 30 s less 4 of reading and 8 of checking
        (["lns"], 100.0, [0.3]),  # what is found at once is still told
        (["lns", "local"], 4.0, [30.0, 30.0]),
        (["lns"], 0.0, [30.0]),
    ],
)
def test_reading_and_checking_are_part_of_the_limit(methods, reading, limits) -> None:
    given, now = [], [100.0]
    solve, load = code_opt.solve, code_opt.load_instance

    def slow_load(path):
        now[0] += reading
        return load(path)

    def told(instance, **options):
        given.append(options["time_limit"])
        return solve(instance, **{**options, "time_limit": None})

    with (
        mock.patch.object(command, "time", mock.Mock(perf_counter=lambda: now[0])),
        mock.patch.object(code_opt, "load_instance", slow_load),
        mock.patch.object(code_opt, "solve", told),
    ):
        options = [option for name in methods for option in ("-m", name)]
        assert main(["solve", INSTANCE, *options, "--time-limit", "30", "--json"]) == 0
    assert given == pytest.approx(limits)
