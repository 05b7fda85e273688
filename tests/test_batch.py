"""Many instances: found, solved apart, kept, continued; one that fails fails alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import code_opt
from code_opt import batch
from code_opt.batch import Job, Outcome, Source, batch_table, find_instances, is_batch, run_batch
from code_opt.errors import InputError
from code_opt.executors import executor_of
from code_opt.generate import EdgeOptions, generate, generate_edge
from code_opt.instance import save_instance
from code_opt.result import load_result

ROOT = Path(__file__).resolve().parents[1]
METHODS = ["lns", "local"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small instances in three formats, and files that are none."""
    place = tmp_path / "edges"
    place.mkdir()
    save_instance(generate(2, seed=1), place / "b.json")
    save_instance(generate_edge(EdgeOptions("metro-ring", 3, seed=1)), place / "a.yaml")
    save_instance(generate_edge(EdgeOptions("hierarchy", 4, seed=1)), place / "c")
    (place / "notes.txt").write_text("nothing")
    (place / ".hidden.json").write_text("{}")
    (place / "empty").mkdir()
    (place / "old.local.json").write_text('{\n  "schema": "code-opt/result/1"}')
    (place / "config.yaml").write_text("# a comment\nschema: code-opt/profile/1\n")
    return place


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is really solved (in this process)."""
    seen: list[tuple[str, str]] = []

    def solve(instance, method, **options):
        seen.append((instance.name, method))
        return original(instance, method=method, **options)

    original = code_opt.solve
    monkeypatch.setattr(code_opt, "solve", solve)
    return seen


def serial(folder: Path, out: Path | None, overwrite: bool = False, **settings) -> list[Outcome]:
    return run_batch(
        find_instances([folder]),
        METHODS,
        settings,
        executor="serial",
        out=out,
        overwrite=overwrite,
    )


# --- Finding instances ----------------------------------------------------------------


def test_a_folder_gives_its_instances_by_name(folder):
    assert is_batch([folder])
    assert [(s.label, s.path.name, s.stem) for s in find_instances([folder])] == [
        ("a", "a.yaml", "a"),
        ("b", "b.json", "b"),
        ("c", "c", "c"),
    ]


def test_a_folder_of_tables_stays_one_instance(folder):
    assert not is_batch([folder / "c"])
    assert not is_batch([folder / "b.json"])
    (folder / "c" / "blocks.csv").unlink()  # incomplete: its own message will say so
    assert not is_batch([folder / "c"])
    assert [s.path for s in find_instances([folder / "c"])] == [folder / "c"]


def test_a_folder_with_instance_json_is_that_instance(folder, tmp_path):
    profiled = folder / "profiled"
    (profiled / "tables").mkdir(parents=True)
    (profiled / "about.json").write_text('{"name": "x"}')
    (profiled / "config.yaml").write_text("images: {}")
    save_instance(generate(2, seed=1), profiled / "instance.json")
    assert not is_batch([profiled])
    assert code_opt.load_instance(profiled) == generate(2, seed=1)
    assert batch.fingerprint(profiled) == batch.fingerprint(profiled / "instance.json")
    assert batch.fingerprint(profiled) is not None
    assert [s.label for s in find_instances([folder])] == ["a", "b", "c", "profiled"]
    sources = find_instances([profiled, profiled / "instance.json"])
    assert [s.path for s in sources] == [profiled]
    # Tables go before it: they are what saving into the folder replaces.
    save_instance(generate(3, seed=1), profiled)
    assert code_opt.load_instance(profiled) == generate(3, seed=1)


def test_labels_tell_files_of_one_name_apart(tmp_path):
    paths = [tmp_path / "x" / "instance.json", tmp_path / "y" / "instance.json"]
    paths += [tmp_path / "y" / "other.json", tmp_path / "y" / "other.yaml"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    sources = find_instances([*paths, paths[0]])
    assert [s.path for s in sources] == paths
    labels = [s.label for s in sources]
    assert labels == ["x/instance", "y/instance", "other.json", "other.yaml"]
    assert [s.stem for s in sources] == ["x-instance", "y-instance", "other.json", "other.yaml"]


def test_stems_are_unique_where_labels_are_not_harmless(tmp_path):
    paths = [tmp_path / "a?.json", tmp_path / "a!.json"]
    for path in paths:
        path.write_text("{}")
    assert [s.stem for s in find_instances(paths)] == ["a", "a-2"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_solve_is_an_error(folder, name):
    with pytest.raises(InputError, match=r"no such file or folder|neither an instance"):
        find_instances([folder / name])


# --- Solving --------------------------------------------------------------------------


def test_every_pair_is_solved_and_kept(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    told = []
    sources = find_instances([folder])
    outcomes = run_batch(
        sources,
        METHODS,
        {"gap": 1e-3},
        executor="processes:2",
        out=out,
        report=lambda outcome, done, jobs: told.append((outcome.job, done, jobs)),
    )
    jobs = [(o.job.source.label, o.job.method) for o in outcomes]
    assert jobs == [(label, method) for label in "abc" for method in METHODS]
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 5, 6]
    for outcome in outcomes:
        result = load_result(out / f"{outcome.job.source.stem}.{outcome.job.method}.json")
        assert result == outcome.result
        instance = code_opt.load_instance(outcome.job.source.path)
        assert code_opt.check(result, instance) == []
    table = pd.read_csv(out / "batch.csv")
    assert list(table.instance + " " + table.method) == [f"{i} {m}" for i, m in jobs]
    assert list(table.reward) == pytest.approx([o.result.reward for o in outcomes])
    assert [(out / name).is_file() for name in table.file] == [True] * 6


def test_a_second_run_solves_nothing_again(folder, tmp_path, calls):
    first = serial(folder, tmp_path)
    assert len(calls) == 6
    again = serial(folder, tmp_path)
    assert len(calls) == 6
    assert all(outcome.kept for outcome in again)
    assert [o.result for o in again] == [o.result for o in first]
    serial(folder, None)  # without a folder nothing is kept
    assert len(calls) == 12


def test_what_changed_is_solved_again(folder, tmp_path, calls):
    serial(folder, tmp_path, seed=1)
    del calls[:]
    changed = generate(2, seed=2)
    save_instance(changed, folder / "b.json")
    with pytest.raises(InputError, match=r"b\.lns\.json \(and 1 more\): is the result of another"):
        serial(folder, tmp_path, seed=1)
    assert calls == []
    outcomes = serial(folder, tmp_path, overwrite=True, seed=1)
    assert calls == [(changed.name, "lns"), (changed.name, "local")]
    assert [o.kept for o in outcomes] == [True, True, False, False, True, True]
    del calls[:]
    serial(folder, tmp_path, seed=2)
    assert len(calls) == 6
    del calls[:]
    tables = folder / "c" / "tasks.csv"
    tables.write_text(tables.read_text().replace("standalone", "0"))
    serial(folder, tmp_path, overwrite=True, seed=2)
    assert [method for _, method in calls] == METHODS


@pytest.mark.parametrize("damage", ["remove", "edit", "journal"])
def test_a_result_that_is_not_what_was_kept_is_solved_again(folder, tmp_path, calls, damage):
    serial(folder, tmp_path)
    del calls[:]
    if damage == "remove":
        (tmp_path / "b.local.json").unlink()
    elif damage == "edit":
        text = (tmp_path / "b.local.json").read_text()
        (tmp_path / "b.local.json").write_text(text.replace('"seconds"', ' "seconds"'))
    else:
        lines = (tmp_path / "batch.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in lines if '"b"' not in line or '"local"' not in line]
        (tmp_path / "batch.jsonl").write_text("".join(kept))
    serial(folder, tmp_path)
    assert calls == [(generate(2, seed=1).name, "local")]


def test_one_that_fails_fails_alone_and_is_tried_again(folder, tmp_path, calls):
    (folder / "b.json").write_text('{"schema": "code-opt/instance/1", "servers": 3}')
    outcomes = serial(folder, tmp_path)
    assert [o.fault for o in outcomes] == [None, None, "bad input", "bad input", None, None]
    assert "servers" in outcomes[2].message
    assert "b.json" in outcomes[2].message
    assert not (tmp_path / "b.local.json").exists()
    table = pd.read_csv(tmp_path / "batch.csv")
    assert list(table.status[2:4]) == ["bad input"] * 2
    del calls[:]
    save_instance(generate(2, seed=1), folder / "b.json")
    assert [o.fault for o in serial(folder, tmp_path)] == [None] * 6
    assert len(calls) == 2


def test_an_error_inside_is_told_with_its_kind(folder, monkeypatch):
    def solve(instance, method, **options):
        if method == "lns":
            raise ZeroDivisionError("by nought")
        return original(instance, method=method, **options)

    original = code_opt.solve
    monkeypatch.setattr(code_opt, "solve", solve)
    outcomes = serial(folder, None)
    assert [o.fault for o in outcomes] == ["failed", None] * 3
    assert outcomes[0].message == "ZeroDivisionError: by nought"


def test_an_instance_that_changes_while_it_is_solved_is_not_kept(folder, tmp_path, monkeypatch):
    def solve(instance, method, **options):
        result = original(instance, method=method, **options)
        if instance.name == generate(2, seed=1).name:
            (folder / "b.json").write_text((folder / "b.json").read_text() + "\n")
        return result

    original = code_opt.solve
    monkeypatch.setattr(code_opt, "solve", solve)
    serial(folder, tmp_path)
    monkeypatch.setattr(code_opt, "solve", original)
    assert [o.kept for o in serial(folder, tmp_path)] == [True, True, False, False, True, True]


def _deadly(path, method, settings):
    """Stand in for a solve whose process is killed; ``settings`` say which and how."""
    if Path(path).stem in settings["deadly"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"fault": "bad input", "message": "lived"}


@pytest.mark.parametrize("deadly", [["c"], pytest.param(["a", "b", "c"], marks=pytest.mark.long)])
def test_a_process_that_dies_costs_its_own_job_only(folder, monkeypatch, deadly):
    monkeypatch.setattr(batch, "_solve", _deadly)
    outcomes = run_batch(
        find_instances([folder]), ["local"], {"deadly": deadly}, executor="processes:2"
    )
    told = {o.job.source.label: o.message for o in outcomes}
    died = "the process that solved it died (out of memory?)"
    assert told == {label: died if label in deadly else "lived" for label in "abc"}


def test_an_unknown_executor_is_refused(folder):
    with pytest.raises(InputError, match="--executor 'cloud'"):
        run_batch(find_instances([folder]), ["local"], {}, executor="cloud")


@pytest.mark.long
def test_dask_gives_the_same(folder):
    pytest.importorskip("distributed")
    sources = find_instances([folder])
    there = run_batch(sources, ["local"], {}, executor="dask")
    here = run_batch(sources, ["local"], {}, executor="serial")
    assert [o.result.reward for o in there] == [o.result.reward for o in here]


def test_a_table_of_failures_alone():
    job = Job(Source("x", Path("x.json"), "x"), "local")
    table = batch_table([Outcome(job, None, "failed", "why")])
    assert table.status[0] == "failed"
    assert table.message[0] == "why"


# --- The command, killed and continued ------------------------------------------------

MORTAL = """
import os, signal, sys
import code_opt
from code_opt.cli.app import main
original, begun = code_opt.solve, []
def solve(instance, **options):
    begun.append(instance.name)
    if len(begun) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(instance, **options)
code_opt.solve = solve
sys.exit(main(sys.argv[1:]))
"""


def finished(out: Path) -> int:
    journal = out / "batch.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def test_killed_and_continued(folder, tmp_path):
    """SIGKILL in the middle; the second run solves what is missing and nothing else."""
    out = tmp_path / "out"
    arguments = ["solve", str(folder), "-m", "local", "-m", "lns", "--out", str(out)]
    first = subprocess.run(
        [sys.executable, "-c", MORTAL, *arguments, "--executor", "serial"], cwd=ROOT, check=False
    )
    assert first.returncode == -signal.SIGKILL
    before = finished(out)
    assert before == 3
    assert not (out / "batch.csv").exists()
    second = subprocess.run(
        [sys.executable, "-m", "code_opt", *arguments, "--executor", "serial"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert second.stderr.count("found finished") == before
    assert finished(out) == 6
    assert len(pd.read_csv(out / "batch.csv")) == 6


def test_workers_end_with_a_parent_that_is_killed(folder, tmp_path):
    code = (
        "import sys\n"
        "from code_opt.executors import executor_of\n"
        "if __name__ == '__main__':\n"
        "    import os\n"
        "    with executor_of('processes:1') as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        sys.stdin.read()\n"  # until it is killed
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    while _lives(worker):  # until this test's own limit
        time.sleep(0.05)


def test_workers_are_ended_by_an_interrupt():
    """What they compute can take hours; nobody waits for it, or this test meets its limit."""
    workers = []

    def interrupted():
        with executor_of("processes:1") as pool:
            workers.append(pool.submit(os.getpid).result())
            pool.submit(time.sleep, 1e6)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not _lives(workers[0])


def test_workers_leave_sigterm_to_their_parent_but_can_be_ended():
    """A batch system sends it to every process; what it means is for the parent to say."""
    with executor_of("processes:1") as pool:
        pid = pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGTERM)
        assert pool.submit(os.getpid).result() == pid
        (worker,) = pool._processes.values()
        worker.terminate()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.exists() and "State:\tZ" in status.read_text(encoding="ascii"))


def test_the_journal_names_what_it_answers(folder, tmp_path):
    serial(folder, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text().splitlines()]
    assert {(line["instance"], line["method"]) for line in lines} == {
        (label, method) for label in "abc" for method in METHODS
    }
