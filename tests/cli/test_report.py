"""``code-opt report``: what it writes, what it says, its exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra `report`")

import code_opt
from code_opt import save_instance, save_result, solve
from code_opt.cli.app import main
from code_opt.instance import load_instance
from code_opt.planning import save_plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-report")
    instance = load_instance(ROOT / "data" / "two-services.json")
    for method in ("exact", "local"):
        save_result(solve(instance, method=method), folder / f"two-services.{method}.json")
    save_instance(instance, folder / "instance.json")
    return folder


def test_a_page_is_written(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "report.html"
    arguments = ["report", str(folder), "--instance", str(folder / "instance.json")]
    assert main([*arguments, "--out", str(out), "--title", "Two & more"]) == 0
    text = out.read_text(encoding="utf-8")
    assert '<p class="brand">Two &amp; more</p>' in text
    assert capsys.readouterr() == (f"Written: {out}\n", "")


def test_a_folder_gives_its_instance_where_no_other_is_named(
    folder: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    profiled = tmp_path / "profiled"
    profiled.mkdir()
    (profiled / "instance.json").write_bytes((folder / "instance.json").read_bytes())
    (profiled / "about.json").write_text('{"name": "two-services"}')
    result = folder / "two-services.local.json"
    assert main(["report", str(result), str(profiled), "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""


def test_figures_are_written_as_files_that_stay_the_same(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["report", str(folder), str(folder / "instance.json"), "--plots"]
    for name in ("one", "two"):
        assert main([*arguments, str(tmp_path / name)]) == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}
    second = {p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()}
    assert first == second
    names = ["edge-exact", "edge-local", "methods", "rates", "servers"]
    assert sorted(first) == sorted(f"{n}.{suffix}" for n in names for suffix in ("svg", "png"))
    assert all(first[f"{n}.png"].startswith(b"\x89PNG") for n in names)
    for name in names:
        assert b"http" not in first[f"{name}.svg"].replace(b"http://www.w3.org/2000/svg", b"")


def test_a_result_that_fails_the_check_gives_status_1(folder: Path, tmp_path: Path, capsys) -> None:
    data = json.loads((folder / "two-services.exact.json").read_text())
    data["throughput"] *= 2
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(data))
    out = tmp_path / "report.html"
    assert main(["report", str(bad), str(folder / "instance.json"), "--out", str(out)]) == 1
    assert "does not pass the independent check" in out.read_text(encoding="utf-8")
    told = capsys.readouterr().err
    assert told.startswith("code-opt: exact (bad.json) does not pass the independent check: do not")
    assert "\n  throughput: " in told


def test_what_is_stale_is_named_on_stderr(folder: Path, tmp_path: Path, capsys) -> None:
    instance = load_instance(folder / "instance.json")
    plan = code_opt.plan_marginal(instance)
    save_plan(plan, tmp_path / "two-services.plan-marginal.json")
    changed = tmp_path / "changed.json"
    save_instance(instance.with_({"tasks[faces].demand": 50}), changed)
    arguments = ["report", str(folder / "two-services.local.json"), str(tmp_path)]
    out = tmp_path / "report.html"
    assert main([*arguments, "--instance", str(changed), "--out", str(out)]) == 1
    shown, told = capsys.readouterr()
    assert shown == f"Written: {out}\n"
    result, still, lost, plans, nothing = told.splitlines()
    assert result == (
        "code-opt: local (two-services.local.json) was found before the instance changed (tasks)"
    )
    assert still.startswith("  Still holds: ")
    assert lost.startswith("  Not confirmed: ")
    assert plans == (
        "code-opt: The plan two-services.plan-marginal.json was made before the instance changed "
        "(tasks)"
    )
    assert nothing.startswith("  Nothing in it is confirmed for the instance as it is now")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FOLDER", "--instance", "INSTANCE"], "nothing to write"),
        (["RESULT", "--out", "OUT"], "no instance"),
        (
            ["INSTANCE", "--instance", "RESULT", "--out", "OUT"],
            "a result, not an instance; the order",
        ),
        (["missing.json", "--out", "OUT"], "missing.json: no such file"),
        (["FOLDER", "--instance", "missing.json", "--out", "OUT"], "missing.json"),
        (["FOLDER", "INSTANCE", "--out", "nowhere/x.html"], "cannot be written"),
        (["--out", "OUT"], "Missing argument"),
    ],
)
def test_bad_input_gives_one_message_and_status_2(
    folder: Path, tmp_path: Path, capsys, arguments: list[str], message: str
) -> None:
    out = tmp_path / "report.html"
    result = folder / "two-services.exact.json"
    known = {"FOLDER": folder, "INSTANCE": folder / "instance.json", "OUT": out, "RESULT": result}
    assert main(["report", *(str(known.get(a, a)) for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("library", "option", "target"),
    [("jinja2", "--out", "report.html"), ("matplotlib.figure", "--plots", "plots")],
)
def test_a_library_that_is_not_installed_is_named(
    folder: Path, tmp_path: Path, capsys, monkeypatch, library: str, option: str, target: str
) -> None:
    from code_opt.report import page

    page._environment.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    path = tmp_path / target
    arguments = ["report", str(folder), str(folder / "instance.json"), option, str(path)]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert library.split(".")[0] in err
    assert "code-opt[report]" in err
    assert not path.exists()


def test_plan_and_report_are_about_the_changed_instance(
    folder: Path, tmp_path: Path, capsys
) -> None:
    instance = str(folder / "instance.json")
    change = ["--set", "tasks[*].demand=5", "--set", "servers[*].unit_flops=1e9"]
    assert main(["plan", instance, *change, "--max-loss", "1", "--out", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert "least cost" in out
    shown = ["report", str(tmp_path), "--instance", instance, "--out", str(tmp_path / "page.html")]
    assert main([*shown, *change]) == 0
    assert main(shown) == 1
    assert "changed" in capsys.readouterr().err
