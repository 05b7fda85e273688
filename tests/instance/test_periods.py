"""Demands by period: what a table says, what is refused and how, and a random day of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from code_opt import (
    InputError,
    Instance,
    load_instance,
    load_periods,
    parse_instance,
    parse_periods,
)
from code_opt.generate import DayOptions, draw_day
from tests.instance.examples import small

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def sites() -> Instance:
    return load_instance(DATA / "four-sites-csv")


def test_a_table_of_a_spreadsheet_sets_the_demands_of_its_tasks(
    sites: Instance, tmp_path: Path
) -> None:
    table = tmp_path / "demands.csv"
    table.write_bytes(
        "\ufefftask;night;day\r\ncars;2,5;1e2\r\n;14;10\r\n shelf ;0;45\r\n;;\r\n".encode()
    )
    periods = load_periods(table)
    assert (periods.names, periods.hours) == (("night", "day"), (14.0, 10.0))
    assert periods.demands == {"cars": (2.5, 100.0), "shelf": (0.0, 45.0)}
    night = {task.id: task for task in periods.at(sites, 0).tasks}
    before = {task.id: task for task in sites.tasks}
    assert (night["cars"].demand, night["shelf"].demand) == (2.5, 0.0)
    # No rate is larger than the demand, so no floor is; others stay as they are.
    assert (before["cars"].floor, night["cars"].floor, night["shelf"].floor) == (20.0, 2.5, 0.0)
    assert night["plates"] == before["plates"]
    assert parse_periods(periods.to_csv()).demands == periods.demands
    assert parse_periods("task,a\ncars,1\n").hours == (1.0,)
    parse_instance(periods.at(sites, 0).to_dict())


def test_floors_of_an_input_group_fall_to_its_least_demand() -> None:
    data = small()
    (task,) = data["tasks"]
    grouped = {"input_group": "camera", "floor": 5.0, "demand": 9.0}
    data["tasks"] = [task | grouped, task | grouped | {"id": "faces"}]
    instance = parse_periods("task,night\nfaces,3\n").at(parse_instance(data), 0)
    assert [task.floor for task in instance.tasks] == [3.0, 3.0]
    parse_instance(instance.to_dict())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t: no demands by period: expected a column 'task', and one column for each"),
        ("id,a\ncars,1\n", "t: no demands by period"),
        ("task\ncars\n", "t:1: no period: every column but 'task' is one"),
        ("task,a\n", "t: no demands: expected a row for each task whose demand changes"),
        ("task,a\n,3\n", "t: no demands: expected a row for each task"),
        ("task,a,,b\ncars,1,2,3\n", "t:1: column 3 has no name"),
        ("task,a,a\ncars,1,2\n", "t:1: the column 'a' stands there 2 times; give each period"),
        ("task,a\ncars,1\ncars,2\n", "t:3 task = 'cars': has a row at t:2 already"),
        ("task,a\n,1\ncars,2\n,3\n", "t:4 hours (no task): has a row at t:2 already"),
        ("task,a,b\ncars,1\n", "t:2: 2 cells, but there are 3 columns"),
        ("task,a,b\ncars,1,\n", "t:2 b: is required; write 0 for no demand, or leave the whole"),
        ("task,a,b\n,1,\ncars,1,1\n", "t:2 b: is required: the hours of each period stand in"),
        ("task,a\ncars,-1\n", "t:2 a = '-1': must be a number of at least 0"),
        ("task,a\n,0\ncars,1\n", "t:2 a = '0': must be a number above 0"),
        ("task,a\ncars,1/s\n", "t:2 a = '1/s': must be a number of at least 0; write the number"),
        ("task;a\ncars;1.250\n", "t:2 a = '1.250': must be a number of at least 0; write 1250"),
        ("task,a\ncars,1e999\n", "t:2 a = '1e999': must be a number"),
        ("task,a\ncars,1e19\n", "t:2 a = '1e19': must be 0 or between 1e-12 and 1e+18"),
        ('task,a\ncars,"1\n', "t:2: not CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_periods(text, "t")


def test_all_unknown_tasks_are_told(sites: Instance) -> None:
    periods = parse_periods("task,a\ncar,1\ncars,1\nx,1\n", "t")
    with pytest.raises(InputError) as found:
        periods.at(sites, 0)
    first, second = str(found.value).splitlines()
    assert first == ("t:2 task = 'car': the instance has no such task; did you mean 'cars'?")
    assert second.startswith("t:4 task = 'x': the instance has no such task; known: 'cars', ")


def test_the_shipped_day_is_what_its_maker_draws(sites: Instance) -> None:
    drawn = draw_day(sites, DayOptions(minutes=60, mean=0.6, seed=24))
    shipped = load_periods(DATA / "four-sites-day.csv")
    assert (shipped.names, shipped.hours) == (drawn.names, drawn.hours)
    assert shipped.demands == drawn.demands
    assert len(shipped.names) == 24


def test_a_random_day_has_the_mean_swing_and_bursts_asked_for(sites: Instance) -> None:
    quiet = DayOptions(noise=0.0, bursts=0.0, mean=0.5, swing=3.0, seed=1)
    day = draw_day(sites, quiet).demands
    for task in sites.tasks:
        row = np.array(day[task.id])
        assert task.demand is not None
        assert row.mean() == pytest.approx(0.5 * task.demand, rel=1e-3)
        assert row.max() / row.min() == pytest.approx(3.0, rel=1e-2)
        assert 8 * 12 <= row.argmax() <= 22 * 12
    bursty = draw_day(sites, DayOptions(noise=0.0, mean=0.5, swing=3.0, seed=1)).demands
    added = np.array([bursty[t.id] for t in sites.tasks]) / np.array(
        [day[t.id] for t in sites.tasks]
    )
    assert added.min() >= 1.0 - 1e-3
    # 3 bursts a day, each of 0.8 x 15 minutes on average, add 0.025 of the day's mean factor.
    assert 1.0 + 0.2 * 0.025 < added.mean() < 1.0 + 5 * 0.025
    assert (
        draw_day(sites, DayOptions(seed=2)).demands != draw_day(sites, DayOptions(seed=3)).demands
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DayOptions(minutes=7), "minutes 7: must divide the 1440 minutes of a day"),
        (DayOptions(swing=0.5), "swing 0.5: must be a number of at least 1"),
    ],
)
def test_a_wrong_option_of_a_day_is_refused(
    sites: Instance, options: DayOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw_day(sites, options)


def test_a_day_needs_demands() -> None:
    with pytest.raises(InputError, match="no task of the instance has a demand"):
        draw_day(parse_instance(small()))
