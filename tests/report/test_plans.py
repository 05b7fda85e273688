"""Plans on the page: every kind has its section, its figures, and the numbers of its file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

html5lib = pytest.importorskip("html5lib")

from code_opt.errors import InputError
from code_opt.instance import load_instance, save_instance
from code_opt.planning import PlanSettings, plan_least_cost, save_plan
from code_opt.report.assemble import assemble
from code_opt.report.blocks import figures
from code_opt.report.material import read_material
from code_opt.report.page import render
from code_opt.report.plans import HEADINGS, money


def tables_of(folder: Path, kind: str) -> dict[str, list[dict[str, object]]]:
    """Return the tables of a plan file, read without the package."""
    (path,) = folder.glob(f"*.plan-{kind}.json")
    found = {}
    for table in json.loads(path.read_text())["tables"]:
        names = [column["name"] for column in table["columns"]]
        found[table["name"]] = [dict(zip(names, row, strict=True)) for row in table["rows"]]
    return found


def section(text: str, name: str) -> str:
    """Return what a section says, without markup."""
    (body,) = re.findall(rf'<section id="{name}".*?</section>', text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module")
def page(planned: Path) -> str:
    return render(assemble(read_material([planned], planned / "instance.json")))


def test_every_kind_has_its_section_and_figure(planned: Path, page: str) -> None:
    html5lib.HTMLParser(strict=True).parse(page)
    material = read_material([planned], planned / "instance.json")
    whole = assemble(material)
    ids = [s.id for s in whole.sections]
    decision = ["buy", "accuracy", "limits", "losses", "measure", "assumptions"]
    results = ["edge", "paths", "load"]
    assert ids == [*decision, *HEADINGS, *results, "methods", "certificates", "about"]
    assert [c.heading for c in whole.chapters] == ["Decision", "Analyses", "Appendix"]
    # Every section says what was asked.
    assert all(s.settings for s in whole.chapters[1].sections)
    names = {figure.name for figure in figures(whole)}
    assert {
        "least-cost",
        "savings",
        "growth",
        "scenarios",
        "failures",
        "combined-fixed",
        "front",
        "marginal",
        "sweep-1-reward",
        "sweep-1-throughput",
    } <= names
    assert all(figure.drawing.description for figure in figures(whole))
    assert render(assemble(material)) == page


def test_only_sections_with_data_appear(planned: Path) -> None:
    (front,) = planned.glob("*.plan-front.json")
    whole = assemble(read_material([front], planned / "instance.json"))
    assert [s.id for s in whole.sections] == ["front", "certificates", "about"]


def test_the_least_cost_and_what_is_saved_are_told(planned: Path, page: str) -> None:
    told = section(page, "least-cost")
    rows = tables_of(planned, "least-cost")["summary"]
    full = [r for r in rows if r["coordination"] == "full" and r["method"] == "exact"]
    assert len(full) == 4
    for row in full:
        cost, saved = float(row["cost"]), float(row["saved_cost"])
        share = 100 * saved / (cost + saved)
        assert f" {money(saved)} ({share:.1f} %) ".replace(".0 %", " %") in told


def test_growth_scenarios_and_failures_show_their_files(planned: Path, page: str) -> None:
    told = section(page, "growth")
    for row in tables_of(planned, "growth")["summary"]:
        assert f"{money(row['cost'])} over all periods" in told
    told = section(page, "scenarios")
    for row in tables_of(planned, "scenarios")["summary"]:
        assert f" {100 * row['worst_served_share']:.1f} " in told
    told = section(page, "combined")
    for row in tables_of(planned, "combined")["periods"]:
        assert f" {money(row['total_cost'])} " in told
    told = section(page, "failures")
    for row in tables_of(planned, "failures")["failures"]:
        assert f" {100 * row['served_rerouted_share']:.1f} " in told


def test_the_front_and_the_methods_share_a_chart(planned: Path, page: str) -> None:
    material = read_material([planned], planned / "instance.json")
    (front,) = [f for f in figures(assemble(material)) if f.name == "front"]
    points = tables_of(planned, "front")["points"]
    for row in points:
        assert f"point {row['point']}: " in front.drawing.description
    labels = [getattr(s, "text", "") for s in front.drawing.shapes]
    assert {"exact", "local", "front"} <= set(labels)


def test_a_plan_of_another_instance_is_refused(planned: Path, tmp_path: Path) -> None:
    (front,) = planned.glob("*.plan-front.json")
    data = json.loads(front.read_text()) | {"instance": "another"}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="about the instance 'another'"):
        read_material([path], planned / "instance.json")


@pytest.mark.parametrize("kind", list(HEADINGS))
def test_a_plan_without_its_tables_is_refused(planned: Path, tmp_path: Path, kind: str) -> None:
    (source,) = planned.glob(f"*.plan-{kind}.json")
    data = json.loads(source.read_text())
    path = tmp_path / "x.json"
    first = data["tables"][0]
    broken = [
        data | {"tables": []},
        data | {"tables": [first | {"columns": first["columns"][:1], "rows": []}]},
    ]
    for content in broken:
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"x\.json: .*(without|lacks)"):
            assemble(read_material([path], planned / "instance.json"))


def test_empty_tables_and_missing_plans_do_not_stop_the_page(planned: Path, tmp_path: Path) -> None:
    for kind in HEADINGS:
        (source,) = planned.glob(f"*.plan-{kind}.json")
        data = json.loads(source.read_text())
        for table in data["tables"]:
            table["rows"] = []
        data |= {"status": "infeasible", "message": "floor of <task>\n  forbids it"}
        (tmp_path / source.name).write_text(json.dumps(data))
    text = render(assemble(read_material([tmp_path], planned / "instance.json")))
    html5lib.HTMLParser(strict=True).parse(text)
    # Each section gives its reason, and the first screen that of the recommended plan.
    assert text.count("floor of &lt;task&gt;<br>  forbids it") == len(HEADINGS) + 1


def _least_cost(planned: Path, tmp_path: Path, growth: tuple[float, ...], sold: int) -> str:
    """Return the page of a least-cost plan of the example with so many units for sale."""
    instance = load_instance(planned / "instance.json")
    scarce = [s.model_dump() | {"unit_flops": 1.0, "max_units": sold} for s in instance.servers]
    instance = instance.replace(servers=scarce)
    plan = plan_least_cost(
        instance, PlanSettings(demand=1e12, time_limit=None), growth=growth, max_loss=(0.0,)
    )
    save_instance(instance, tmp_path / "instance.json")
    save_plan(plan, tmp_path / "x.plan-least-cost.json")
    return render(assemble(read_material([tmp_path], tmp_path / "instance.json")))


def test_many_reasons_open_with_three(planned: Path, tmp_path: Path) -> None:
    text = _least_cost(planned, tmp_path, (1.0, 2.0, 3.0, 4.0, 5.0), sold=1)
    assert "No purchase serves the demand within all limits</h1>" in text
    opening, rest = text[text.index('id="least-cost"') :].split("2 more reasons")
    assert opening.count("the demand is too large for what can be bought") == 3
    assert rest.count("the demand is too large for what can be bought") >= 2
    assert "Warning: cannot be met at any size" in opening
    # Nothing can be compared: no empty chart of savings.
    assert "What coordination saves" not in text
    assert "Saved is empty: native paths alone cannot serve the demand" in text


def test_cells_that_hold_no_value_are_dashes(planned: Path, tmp_path: Path) -> None:
    """Only the names of rows stay: every figure of every plan may be missing."""
    keys = {"text", "boolean"}
    for kind in HEADINGS:
        (source,) = planned.glob(f"*.plan-{kind}.json")
        data = json.loads(source.read_text())
        for table in data["tables"]:
            gone = [
                c["type"] not in keys and c["name"] not in ("growth", "period", "point", "value")
                for c in table["columns"]
            ]
            table["rows"] = [
                [None if g else cell for g, cell in zip(gone, row, strict=True)]
                for row in table["rows"]
            ]
        (tmp_path / source.name).write_text(json.dumps(data))
    text = render(assemble(read_material([tmp_path], planned / "instance.json")))
    html5lib.HTMLParser(strict=True).parse(text)


def test_links_that_are_bought_stand_with_the_servers(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "data" / "four-sites-csv"
    plan = plan_least_cost(load_instance(source), growth=(2.0,), max_loss=(2.0,))
    (link,) = [
        row
        for row in plan.table("links").records()
        if (row["coordination"], row["method"]) == ("full", "exact") and row["units"]
    ]
    save_plan(plan, tmp_path / "x.plan-least-cost.json")
    text = section(render(assemble(read_material([tmp_path], source))), "least-cost")
    assert f"{link['source']} → {link['target']} {link['units']} (" in text


def test_columns_are_shown_by_the_type_and_unit_that_the_file_says(
    planned: Path, tmp_path: Path
) -> None:
    """Names alone say nothing: the file may come from somebody else."""
    (source,) = planned.glob("*.plan-front.json")
    data = json.loads(source.read_text())
    points = next(t for t in data["tables"] if t["name"] == "points")
    for column in points["columns"]:
        if column["name"] == "throughput_per_s":
            column["unit"] = "inferences/min"
    more = [
        ("power_per_s", "number", "J/s", 12.5, "Power per s [J/s]", "12.5000"),
        ("green_share", "number", None, 0.25, "Green share", "0.250000"),
        ("fuel_cost", "number", None, 3.0, "Fuel cost", "3.00000"),
        ("fees", "number", "currency", 12345.5, "Fees", "12,345.50"),
        ("drive_bytes_per_s", "number", "FLOP/s", 2e9, "Drive bytes per s [FLOP/s]", "2.000 G"),
        ("path", "integer", None, 1234, "Path", "1,234"),
        ("caption", "boolean", None, True, "Caption", "yes"),
    ]
    points["columns"] += [{"name": n, "type": t, "unit": u} for n, t, u, *_ in more]
    points["rows"] = [row + [value for _, _, _, value, _, _ in more] for row in points["rows"]]
    (tmp_path / "x.json").write_text(json.dumps(data))
    told = section(
        render(assemble(read_material([tmp_path / "x.json"], planned / "instance.json"))), "front"
    )
    whole = told[told.index("Points of the front and their paths") :]
    heads, body = whole[: whole.index("Caption")], whole[whole.index("Caption") :]
    assert "throughput [inferences/min]" in told
    assert re.search(r"From [\d.]+ inferences/min at accuracy", told)
    assert "Throughput [inferences/min]" in heads
    for *_, heading, text in more:
        assert heading in heads + "Caption"
        assert f" {text} " in body


@pytest.mark.parametrize("type_", ["text", "boolean"])
def test_a_column_that_holds_something_else_is_refused(
    planned: Path, tmp_path: Path, type_: str
) -> None:
    (source,) = planned.glob("*.plan-least-cost.json")
    data = json.loads(source.read_text())
    summary = data["tables"][0]
    place = next(i for i, c in enumerate(summary["columns"]) if c["name"] == "cost")
    summary["columns"][place]["type"] = type_
    for row in summary["rows"]:
        row[place] = "much" if type_ == "text" else True
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        assemble(read_material([tmp_path / "x.json"], planned / "instance.json"))
    message = f"table 'summary' column cost: type {type_}, must be number"
    assert str(caught.value).endswith(message)


def test_a_share_in_percent_is_refused(planned: Path, tmp_path: Path) -> None:
    (source,) = planned.glob("*.plan-failures.json")
    data = json.loads(source.read_text())
    failures = next(t for t in data["tables"] if t["name"] == "failures")
    for column in failures["columns"]:
        if column["name"] == "served_fixed_share":
            column["unit"] = "%"
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"column served_fixed_share: unit %, must be none"):
        assemble(read_material([tmp_path / "x.json"], planned / "instance.json"))
