"""Reading what a report shows: files, folders, the instance; clear errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from code_opt import load_instance, save_result, solve
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.report.blocks import Callout
from code_opt.report.material import read_material
from code_opt.report.results import warnings


def test_files_and_folders_are_read_once_and_put_in_order(metro: Path) -> None:
    material = read_material([metro / "local.json", metro, metro / "instance.json"])
    assert [s.label for s in material.results] == ["exact", "lns", "local", "edge-early"]
    assert material.confirmed
    assert material.sources[0] == "instance.json"
    assert len(material.sources) == 5


def test_two_results_of_one_method_are_named_by_their_files(metro: Path, tmp_path: Path) -> None:
    shutil.copy(metro / "exact.json", tmp_path / "metro-links.at-night.json")
    material = read_material([metro / "exact.json", tmp_path], metro / "instance.json")
    assert [s.label for s in material.results] == ["exact", "at-night"]


def test_a_folder_of_tables_or_yaml_serves_as_the_instance(metro: Path, tmp_path: Path) -> None:
    from code_opt import load_instance, save_instance

    instance = load_instance(metro / "instance.json")
    save_instance(instance, tmp_path / "instance.yaml")
    assert read_material([metro / "exact.json", tmp_path / "instance.yaml"]).instance == instance
    (tmp_path / "tables").mkdir()
    save_instance(instance, tmp_path / "tables")
    assert read_material([metro / "exact.json"], tmp_path / "tables").instance == instance


def write(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON (line 1"),
        ("[" * 100_000, "not JSON"),
        ([], "not a result, a plan, an evaluation or an instance"),
        ({"schema": "code-opt/elsewhere/1"}, "not a result, a plan"),
        ({"schema": "code-opt/result/1", "instance": "metro-links"}, "method: Field required"),
        ({"schema": "code-opt/result/9"}, "not a result"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(
    metro: Path, tmp_path: Path, content: object, message: str
) -> None:
    path = write(tmp_path / "x.json", content)
    with pytest.raises(InputError) as error:
        read_material([path], metro / "instance.json")
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_the_instance_must_be_named_and_be_theirs(metro: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no instance: name the file"):
        read_material([metro / "exact.json"])
    other = json.loads((metro / "instance.json").read_text()) | {"name": "another"}
    path = write(tmp_path / "another.json", other)
    with pytest.raises(InputError, match="about the instance 'metro-links', not 'another'"):
        read_material([metro / "exact.json"], path)
    with pytest.raises(InputError, match="several instances"):
        read_material([metro / "exact.json", path, metro / "instance.json"])
    with pytest.raises(InputError, match="nothing to show"):
        read_material([metro / "instance.json"])
    with pytest.raises(InputError, match="holds no result"):
        read_material([tmp_path], metro / "instance.json")
    with pytest.raises(InputError, match="no such file"):
        read_material([tmp_path / "missing.json"], metro / "instance.json")


def test_results_and_plans_from_before_a_change_are_told(planned: Path, tmp_path: Path) -> None:
    data = json.loads((planned / "instance.json").read_text(encoding="utf-8"))
    data["servers"][0]["max_units"] = 7
    write(tmp_path / "instance.json", data)
    results = sorted(planned.glob("*.exact.json"))
    plans = sorted(planned.glob("*.plan-front.json"))
    fresh = read_material([*results, *plans], planned / "instance.json")
    assert fresh.confirmed
    assert [s.changed for s in fresh.results] == [()]
    assert not any("changed" in str(block) for block in warnings(fresh))
    stale = read_material([*results, *plans], tmp_path / "instance.json")
    assert not stale.confirmed
    assert [p.changed for p in stale.plans] == [("servers",)]
    first, second = [block for block in warnings(stale) if isinstance(block, Callout)]
    assert "was found before the instance changed (servers)" in first.heading
    assert first.texts[0].startswith("Still holds: every figure and requirement")
    assert first.texts[1].startswith("Not confirmed: that it is optimal")
    assert second.heading.startswith(f"The plan {plans[0].name} was made before")


def test_what_is_older_than_digests_is_noted(metro: Path, tmp_path: Path) -> None:
    data = json.loads((metro / "exact.json").read_text(encoding="utf-8"))
    data["instance_digest"] = None
    write(tmp_path / "old.json", data)
    material = read_material([tmp_path / "old.json"], metro / "instance.json")
    assert material.confirmed
    (note,) = [b for b in warnings(material) if isinstance(b, Callout)]
    assert note.level == "note"
    assert "old.json" in note.heading


def test_a_planners_workbook_is_an_instance(tmp_path: Path) -> None:
    assert main(["template", "--out", str(tmp_path / "sheets")]) == 0
    instance = load_instance(tmp_path / "sheets")
    save_result(solve(instance, method="local"), tmp_path / "local.json")
    material = read_material([tmp_path / "local.json", tmp_path / "sheets"])
    assert material.instance == instance
    assert material.confirmed
