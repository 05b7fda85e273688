"""``code-opt plan``: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from code_opt.cli.app import main
from code_opt.instance import parse_instance, save_instance
from code_opt.planning import load_plan
from tests.planning.conftest import PLENTY

SCENARIOS = "scenario,probability,factor\nlow,0.5,0.5\nhigh,0.5,2\n"


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("CODE_OPT_DEBUG", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "plenty.json"
    save_instance(parse_instance(PLENTY), file)
    return str(file)


def test_the_least_cost_is_shown(path: str, capsys) -> None:
    status = main(["plan", path, "--unit-flops", "20", "--growth", "1,2", "--max-loss", "0,10"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert "plenty: least cost to serve all demand" in out
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows] == [["1", "0"], ["1", "10"], ["2", "0"], ["2", "10"]]
    # At growth 2 server a needs 200 of 100: five units of 20; with the exit 120: one.
    assert rows[2][2:5] == ["5", "5", "5"]
    assert rows[3][2:5] == ["5", "1", "1"]
    assert "80.0" in rows[3]
    assert "Every cost is proven: none is lower by more than 0.01 %." in out
    # What to buy where, for every growth and limit of loss: no cell is left to the reader.
    for loss, units in (("0", ["0", "5"]), ("10", ["0", "1"])):
        _, part = out.split(f"Units by growth, at most {loss} points lost (full)\n")
        lines = [line.split() for line in part.splitlines()]
        assert lines[1] == ["server", "or", "link", "1", "2"]
        assert lines[3:5] == [["a", *units], ["cost", *units]]
    assert "\x1b" not in out


def test_check_takes_a_plan(path: str, tmp_path: Path, capsys) -> None:
    asked = ["--unit-flops", "20", "--growth", "2"]
    assert main(["plan", path, *asked, "--out", str(tmp_path / "out")]) == 0
    file = tmp_path / "out" / "plenty.plan-least-cost.json"
    capsys.readouterr()
    assert main(["check", str(file), path]) == 0
    confirmed = "confirmed (plan least-cost, optimal; every figure and requirement)"
    assert " ".join(capsys.readouterr().out.split()).endswith(confirmed)
    data = json.loads(file.read_text(encoding="utf-8"))
    data["status"] = "nothing"
    file.write_text(json.dumps(data), encoding="utf-8")
    assert main(["check", str(file), path]) == 2
    assert "not a plan" in capsys.readouterr().err
    servers = next(t for t in data["tables"] if t["name"] == "servers")
    data["status"], servers["rows"][0][5] = "optimal", -1
    file.write_text(json.dumps(data), encoding="utf-8")
    assert main(["check", str(file), path]) == 1
    out = capsys.readouterr().out
    assert out.startswith("units: servers[0].units: ")
    assert "not confirmed, 1 violation" in out


@pytest.mark.parametrize("width", ["80", "160"])
def test_nothing_is_cut_at_the_width_of_a_terminal(
    width: str, path: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    asked = "--unit-flops 2e-3 --growth 1,1.5,2,2.5,3,3.5,4,4.5,5,5.5,6,7 --max-loss 0,10"
    assert main(["plan", path, *asked.split(), "--time-limit", "5"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= int(width)
    assert "…" not in out
    for heading in ("loss up to", "[points]", "native", "exits", "full", "saved", "units"):
        assert heading in out
    # Growths that do not fit beside each other go below.
    cost_rows = [line.split()[1:] for line in out.splitlines() if line.startswith("cost ")]
    assert sum(map(len, cost_rows)) == 2 * 12


def test_infeasible_cells_are_whole_words(path: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asked = ["--growth", "1,5,6,7,8,9", "--max-loss", "0"]
    assert main(["plan", path, *asked]) == 0
    out, err = capsys.readouterr()
    assert out.count("infeasible") == 3 * 5 + 1
    assert "Every cost is proven" in out
    assert "infeasible: no paths serve the demand within all limits, and no units are sold" in out
    assert "(unit_flops, unit_bandwidth; option --unit-flops)." in out
    assert err.startswith("least-cost: in part infeasible at any size: growth 5, at most 0 points")
    assert err.endswith("... and 2 more (--json, --out)\n")


def test_a_table_without_a_cost_proves_none(tmp_path: Path, capsys) -> None:
    data = json.loads(json.dumps(PLENTY))
    data["servers"][0] |= {"unit_flops": 20.0, "max_units": 1}
    file = tmp_path / "x.json"
    save_instance(parse_instance(data), file)
    assert main(["plan", str(file), "--growth", "9", "--max-loss", "0"]) == 3
    out = capsys.readouterr().out
    assert "proven" not in out
    whatever = "infeasible: no paths serve the demand within all limits, whatever is bought."
    assert whatever in out
    # Units that nobody can buy any of are not sold.
    data["servers"][0]["max_units"] = 0
    save_instance(parse_instance(data), file)
    assert main(["plan", str(file), "--growth", "9", "--max-loss", "0"]) == 3
    out = capsys.readouterr().out
    assert "within all limits, and no units are sold (unit_flops" in out
    assert whatever not in out


def test_a_plan_that_fails_says_nothing_of_enough_capacity(path: str, capsys) -> None:
    assert main(["plan", path, "--growth", "5", "--failures", "--growth-path"]) == 3
    out = capsys.readouterr().out
    assert "infeasible" in out
    assert "enough" not in out
    assert "period" not in out
    assert "failed server" not in out


def test_tasks_that_a_failure_ends_are_named(path: str, capsys) -> None:
    assert main(["plan", path, "--failures"]) == 0
    out = capsys.readouterr().out
    lost = out.split("Lost at any size, since no path of theirs avoids the server:\n")[1]
    assert lost.splitlines()[0] == "  a: ta"
    assert "but for the lost ones, gets its own floor when" in " ".join(out.split())


def test_floors_kept_are_told_apart_by_plan(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sites = str(Path(__file__).resolve().parents[2] / "data" / "four-sites-csv")
    assert main(["plan", sites, "--failures", "--keep", "0.8", "--max-loss", "1"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    part = out.split("Served when a server fails")[1]
    names, headings = part.splitlines()[1:3]
    assert names.split() == ["tasks", *["normal:"] * 3, *["survivable:"] * 2]
    assert headings.endswith("fixed re-routed floors kept   re-routed floors kept")
    rows = {line.split()[0]: line.split() for line in part.splitlines()[4:8]}
    # Re-routing all tasks serves everything without north; moving only those hit keeps no floors.
    assert rows["north"][4:] == ["100.0", "no", "100.0", "yes"]
    assert {rows[name][-1] for name in ("north", "south", "hub", "mall")} == {"yes"}
    assert "gets 80 % of its demand when those hit" in " ".join(out.split())


def test_the_front_fits_80_columns(path: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", path, "--front", "--points", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [
        "plenty: throughput against average accuracy",
        "points at even steps of accuracy; --points all for each",
    ]
    assert lines[3].split()[-3:] == ["on", "hull", "status"]


def test_capacity_that_gains_nothing_is_counted_not_listed(path: str, capsys) -> None:
    assert main(["plan", path, "--marginal"]) == 0
    out = capsys.readouterr().out
    # All demand is served already: no capacity is worth anything.
    assert "nothing gains from more of any one capacity" in out
    assert "server or link" not in out


def test_capacity_that_gains_is_listed_alone(tmp_path: Path, capsys) -> None:
    data = json.loads(json.dumps(PLENTY))
    data["tasks"][0]["demand"] = 1000.0
    file = tmp_path / "x.json"
    save_instance(parse_instance(data), file)
    assert main(["plan", str(file), "--marginal"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[4:]] == ["a", "Nothing"]
    assert "Nothing else gains (1 more)." in out


def test_all_analyses_in_one_run(path: str, tmp_path: Path, capsys) -> None:
    table = tmp_path / "s.csv"
    table.write_text(SCENARIOS, encoding="utf-8")
    out_dir = tmp_path / "out"
    status = main(
        f"plan {path} --unit-flops 20 --least-cost --growth-path --scenarios {table} --failures "
        f"--front --points 3 --marginal --vary servers[a].flops=50:100:2 --out {out_dir}".split()
    )
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    for heading in (
        "least cost to serve all demand",
        "growth path",
        "uncertain demand",
        "failure of any one server",
        "throughput against average accuracy",
        "reward gained by 5 % more",
        "what if servers[a].flops changes",
    ):
        assert heading in out
    kinds = ["failures", "front", "growth", "least-cost", "marginal", "scenarios", "sweep"]
    files = sorted(out_dir.glob("*.json"))
    assert [f.name for f in files] == [f"plenty.plan-{kind}.json" for kind in kinds]
    for file, kind in zip(files, kinds, strict=True):
        plan = load_plan(file)
        assert plan.kind == kind
        for name in plan.tables():
            assert (out_dir / f"plenty.plan-{kind}.{name}.csv").is_file()


def test_one_plan_for_all(path: str, tmp_path: Path, capsys) -> None:
    """Growth, hours and failures make one plan where they are asked for together."""
    table = tmp_path / "day.csv"
    table.write_text("task,night,day\n,14,10\nta,4,12\n", encoding="utf-8")
    command = f"plan {path} --unit-flops 20 --periods {table} --growth 1,2 --device-failures"
    command += f" --failures --keep 0.5 --routing by-period --out {tmp_path / 'plans'}"
    status = main(command.split())
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert "one plan for growth, hours, any failure of a server, any failure of a device" in out
    assert "2 of 4 states ask for no more than another one" in out
    assert "What a failure moves (by-period)" in out
    assert "growth path" not in out
    assert "failure of any one server\n" not in out
    # The same without coordination is a plan of its own, told in a line.
    (alone,) = (tmp_path / "plans").glob("*.plan-combined-none.json")
    (row,) = load_plan(alone).table("summary").records()
    assert f"Without coordination: {row['cost']:,.0f}\n" in out
    assert out.count("one plan for growth") == 1


def test_json_is_all_there_is_on_stdout(path: str, capsys) -> None:
    assert main(["plan", path, "--marginal", "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["kind"] == "marginal"
    assert plan["schema"] == "code-opt/plan/1"


def test_a_workbook_is_written(path: str, tmp_path: Path, capsys) -> None:
    pytest.importorskip("xlsxwriter")
    assert main(["plan", path, "--out", str(tmp_path), "--xlsx"]) == 0
    assert (tmp_path / "plenty.plan-least-cost.xlsx").read_bytes()[:2] == b"PK"


def test_an_executor_runs_a_sweep(path: str, capsys) -> None:
    arguments = ["plan", path, "--vary", "servers[a].flops=50,80", "--sweep-method", "exact"]
    assert main([*arguments, "--executor", "processes:1"]) == 0
    assert capsys.readouterr().out.count("optimal") == 2


def test_infeasible_at_any_size_is_told(path: str, capsys) -> None:
    assert main(["plan", path, "--growth", "5"]) == 3
    out, err = capsys.readouterr()
    assert "infeasible" in out
    assert err.startswith(
        "least-cost: infeasible at any size: growth 5: the demand is too large for what can be"
    )
    assert "server a: 300.0 FLOP/s are needed, present 100.0 FLOP/s, no units are sold" in err


def test_part_of_a_grid_may_be_infeasible(path: str, capsys) -> None:
    assert main(["plan", path, "--growth", "1,5"]) == 0
    out, err = capsys.readouterr()
    assert "infeasible" in out
    assert "growth 5" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--growth", "1,x"], "--growth '1,x': 'x' is no number of at least 0"),
        (["--growth", "-1"], "--growth '-1'"),
        (["--max-loss", "nan"], "--max-loss 'nan'"),
        (["--max-loss", "101"], "max loss 101"),
        (["--failures", "--growth", "1,2"], "--failures: takes one --growth, 2 are given"),
        (["--growth-path", "--max-loss", "1,2"], "--growth-path: takes one --max-loss"),
        (["--together", "--max-loss", "1,2"], "--together: takes one --max-loss"),
        (["--device-failures", "--keep-devices", "2"], "keep-devices"),
        (["--periods", "missing.csv"], "missing.csv: no such file"),
        (["--front", "--points", "1"], "--points '1': expected all, or a number from 2"),
        (["--vary", "servers[c].flops=1"], "there is no 'c'"),
        (["--vary", "servers.a.flops=1"], "did you mean [a]?"),
        (["--vary", "ta.demand=1"], "did you mean tasks[ta]?"),
        (["--vary", "servers[a].flops"], "expected FIELD=START:STOP:COUNT"),
        (["--xlsx"], "--xlsx: names no folder: add --out DIR"),
        (["--unit-flops", "0"], "unit_flops 0.0: must be a number above 0"),
        (["--time-limit", "0"], "--time-limit 0.0"),
        (["--scenarios", "missing.csv"], "missing.csv: no such file"),
        (["--executor", "cloud", "--front"], "--executor 'cloud'"),
        (["--marginal", "--step", "0"], "step 0"),
        (["--sweep-method", "magic"], "'magic' is not one of"),
        (["--solver", "magic"], "solver 'magic'"),
    ],
)
def test_bad_arguments_end_with_one_message(
    path: str, arguments: list[str], expected: str, capsys
) -> None:
    assert main(["plan", path, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert "Traceback" not in err


def test_an_instance_without_demands_is_refused(tmp_path: Path, capsys) -> None:
    data = json.loads(json.dumps(PLENTY))
    del data["tasks"][0]["demand"]
    file = tmp_path / "x.json"
    save_instance(parse_instance(data), file)
    assert main(["plan", str(file)]) == 2
    assert "there is none for task 'ta'" in capsys.readouterr().err
    assert main(["plan", str(file), "--demand", "5"]) == 0


def test_names_from_files_cannot_act_on_the_terminal(tmp_path: Path, capsys) -> None:
    data = json.loads(json.dumps(PLENTY))
    data["servers"][0]["id"] = data["dnns"][0]["server"] = "[bold]a[/bold]"
    data["name"] = "[red]x"
    file = tmp_path / "x.json"
    save_instance(parse_instance(data), file)
    assert main(["plan", str(file), "--unit-flops", "50", "--growth", "2", "--max-loss", "0"]) == 0
    out = capsys.readouterr().out
    assert "[red]x: least cost" in out
    assert "[bold]a[/bold]" in out


def test_the_help_shows_how_a_field_is_named(capsys) -> None:
    assert main(["plan", "--help"]) == 0
    assert "servers[edge-a].flops" in capsys.readouterr().out


def test_what_each_variant_buys_stands_side_by_side(
    path: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = tmp_path / "s.csv"
    table.write_text(SCENARIOS, encoding="utf-8")
    out_dir = tmp_path / "out"
    asked = ["plan", path, "--unit-flops", "20", "--scenarios", str(table), "--out", str(out_dir)]
    assert main(asked) == 0
    out = capsys.readouterr().out
    plan = load_plan(out_dir / "plenty.plan-scenarios.json")
    cost = {r["variant"]: f"{r['cost']:,.10g}" for r in plan.table("summary").records()}
    part = out.split("Units by what is planned for\n")[1].splitlines()
    assert part[0].split() == ["server", "or", "link", *cost]
    assert ["cost", *cost.values()] in [line.split() for line in part]
    assert "expected: 95 % of the expected demand\n" in out
    assert "worst: 95 % of the demand in every scenario\n" in out


def test_growths_of_one_heading_are_not_mixed_up(path: str, capsys) -> None:
    asked = ["plan", path, "--unit-flops", "20", "--growth", "2,2.0000001", "--max-loss", "0"]
    assert main(asked) == 0
    part = capsys.readouterr().out.split("Units by growth, at most 0 points lost (full)\n")[1]
    lines = [line.split() for line in part.splitlines()]
    assert lines[1] == ["server", "or", "link", "2", "2"]
    assert lines[3:6] == [["a", "5", "6"], ["b", "0", "1"], ["cost", "5", "7"]]


def test_the_terminal_and_the_page_show_the_same(path: str, tmp_path: Path, capsys) -> None:
    """One schema says how a value is shown: a price and a gap read alike on both."""
    from code_opt.report.material import PlanFile
    from code_opt.report.plans.reading import PlanTables

    asked = ["plan", path, "--unit-flops", "20", "--growth", "1e3", "--max-loss", "0"]
    assert main([*asked, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    file = tmp_path / "plenty.plan-least-cost.json"
    found = PlanTables(PlanFile(file, load_plan(file)), None)("summary", "cost", "gap", "units")
    row = next(r for r in found if (r["coordination"], r["method"]) == ("full", "exact"))
    assert row["units"] > 1000
    for name in ("cost", "units"):
        text = found.text(name, row)
        assert "," in text
        assert f" {text} " in out


def test_validate_says_what_a_plan_would_find(tmp_path: Path, capsys) -> None:
    data = json.loads(json.dumps(PLENTY))
    data["servers"][0]["unit_flops"] = 5.0
    data["servers"].append({"id": "Total", "flops": 400.0})
    file = tmp_path / "x.json"
    save_instance(parse_instance(data), file)
    assert main(["validate", str(file)]) == 0
    out = capsys.readouterr().out
    assert "  planning: a demand for 2 of 2 tasks, 20.0000/s in all\n" in out
    assert "  for sale: units of 1 of 3 servers\n" in out
    assert "servers without a network: Total" in out


def test_normalised_probabilities_are_told(path: str, tmp_path: Path, capsys) -> None:
    table = tmp_path / "scenarios.csv"
    table.write_text(SCENARIOS.replace("high,0.5", "high,0.502"))
    assert main(["plan", path, "--unit-flops", "20", "--scenarios", str(table)]) == 0
    told = f"{table}: the probabilities sum to 1.002; each is divided by this sum\n"
    assert told in capsys.readouterr().err
    table.write_text(SCENARIOS)
    assert main(["plan", path, "--unit-flops", "20", "--scenarios", str(table)]) == 0
    assert "probabilities sum" not in capsys.readouterr().err


def test_every_state_of_a_plan_can_be_checked_and_simulated(
    path: str, tmp_path: Path, capsys
) -> None:
    asked = ["--unit-flops", "100", "--growth", "1,2", "--out", str(tmp_path / "out")]
    assert main(["plan", path, *asked]) == 0
    folder = tmp_path / "out" / "plenty.plan-least-cost.states"
    names = sorted(file.name.removesuffix(".result.json") for file in folder.glob("*.result.json"))
    assert {f"{name}.instance.json" for name in names} == {
        file.name for file in folder.glob("*.instance.json")
    }
    assert "growth-2-full-exact" in names
    assert len(names) == 12  # growth, coordination, method
    state = str(folder / "growth-2-full-exact.instance.json")
    result = str(folder / "growth-2-full-exact.result.json")
    capsys.readouterr()
    assert main(["check", result, state]) == 0
    # Its servers are full, so Poisson arrivals would queue without end.
    asked = ["--simulate", "--seconds", "20", "--arrivals", "constant"]
    assert main(["evaluate", state, result, *asked]) == 0
    assert "confirmed" in capsys.readouterr().out
    # What is promised takes what was bought: the edge as it is does not carry it.
    data = json.loads(Path(result).read_text(encoding="utf-8"))
    planned = load_plan(tmp_path / "out" / "plenty.plan-least-cost.json").table("summary")
    (row,) = [
        row
        for row in planned.records()
        if (row["growth"], row["coordination"], row["method"]) == (2.0, "full", "exact")
    ]
    assert data["throughput"] == pytest.approx(row["throughput_per_s"])
    assert data["accuracy"] == pytest.approx(row["accuracy"])
    assert main(["check", result, path]) == 1
