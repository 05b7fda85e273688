"""What a shell can do to the program: full and closed streams, odd widths, empty arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import code_opt
from code_opt.batch import find_instances, run_batch
from code_opt.cli.app import main
from code_opt.errors import InputError
from code_opt.executors import executor_of
from tests.cli.examples import make_instance, make_result

ROOT = Path(__file__).resolve().parents[2]
TWO = str(ROOT / "data" / "two-services.json")
FULL = "/dev/full"

needs_full = pytest.mark.skipif(not Path(FULL).exists(), reason="a system without /dev/full")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of bash, in which $C is the program."""
    return subprocess.run(
        ["bash", "-c", f'C="{sys.executable} -m code_opt"; {command}'],
        cwd=ROOT,
        env={**os.environ, "CODE_OPT_DEBUG": "", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def is_one_message(text: str) -> bool:
    """Tell whether there is one message, at the end; a slow machine also shows progress."""
    *progress, message = text.splitlines()
    return message.startswith("code-opt: ") and not any(s.startswith("code-") for s in progress)


@needs_full
@pytest.mark.parametrize(
    "command",
    [
        f"$C solve {TWO} -m local --json",
        f"$C validate {TWO}",
        "$C solve --help",
        "$C --version",
        "PYTHONUNBUFFERED=1 $C --version",
    ],
)
def test_a_full_output_is_the_users(command: str) -> None:
    done = shell(f"{command} > {FULL}")
    assert done.returncode == 2
    assert is_one_message(done.stderr)
    assert "standard output cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("arguments", ["--help", "--version", f"validate {TWO}"])
def test_a_reader_that_has_left_is_no_error(arguments: str) -> None:
    # The pipe's reader is gone before anything is written: it never reads at all.
    code = (
        "import os, subprocess, sys\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "command = [sys.executable, '-m', 'code_opt', *sys.argv[1:]]\n"
        "sys.exit(subprocess.run(command, stdout=writer).returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_output_is_told_before_anything_is_done(tmp_path: Path) -> None:
    done = shell(f"$C solve {TWO} -m local --out {tmp_path}/out >&-")
    assert done.returncode == 2
    assert is_one_message(done.stderr)
    assert "standard output is closed" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", ["2>&-", pytest.param(f"2>{FULL}", marks=needs_full)])
def test_messages_that_nobody_can_read_change_nothing(lost: str) -> None:
    done = shell(
        f"$C solve {TWO} {ROOT}/data/infeasible.json -m local --json --executor serial {lost}"
    )
    assert done.returncode == 4
    assert [one["method"] for one in json.loads(done.stdout)] == ["local", "local"]
    missing = shell(f"$C validate missing.json {lost}")
    assert (missing.returncode, missing.stdout, missing.stderr) == (2, "", "")


def test_files_are_utf_8_wherever_the_terminal_is_not(tmp_path: Path) -> None:
    path = tmp_path / "größe.json"
    data = json.loads(Path(TWO).read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "name": "größe"}, ensure_ascii=False), encoding="utf-8")
    done = shell(
        f"$C solve '{path}' -m local --out {tmp_path}/out && $C validate '{path}'"
        f" && $C solve '{path}' {TWO} -m local --out {tmp_path}/batch --executor serial",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    assert done.returncode == 0, done.stderr
    assert "größe" in (tmp_path / "batch" / "batch.csv").read_text(encoding="utf-8")
    (written,) = (tmp_path / "out").iterdir()
    assert json.loads(written.read_text(encoding="utf-8"))["instance"] == "größe"


@pytest.mark.parametrize("columns", ["0", "1", "19", "-5", "²", "9" * 30, "x", ""])
def test_a_width_that_is_none_counts_as_not_given(columns: str, answer, capsys, monkeypatch):
    answer({"local": make_result("local")})
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["solve", "x.json", "-m", "local"]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["solve", "x.json", "-m", "local"]) == 0
    assert capsys.readouterr().out == expected
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["--help"]) == 0
    assert "validate" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", ""],
        ["check", "", TWO],
        ["solve", TWO, "--out", ""],
        ["solve", TWO, "--out="],
        ["solve", " "],
        ["solve", TWO, "--out=\t"],
        ["report", TWO, "--instance", "", "--out", "x.html"],
    ],
)
def test_an_empty_argument_is_refused(arguments: list[str], capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["solve", "plan"])
@pytest.mark.parametrize("gap", ["1", "-0.1", "nan", "1e300"])
def test_a_gap_lies_below_1(command: str, gap: str, capsys) -> None:
    assert main([command, TWO, f"--gap={gap}"]) == 2
    message = capsys.readouterr().err
    assert "from 0 to below 1" in message
    assert "<=x<=" not in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(13, "Permission denied", "a/b.json"), "a/b.json: Permission denied"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
        (OSError("Timed out\x1b[2J"), "Timed out\\x1b[2J"),
    ],
)
def test_what_the_system_refuses_is_told_in_one_message(
    answer, capsys, monkeypatch, error: OSError, message: str
) -> None:
    monkeypatch.delenv("CODE_OPT_DEBUG", raising=False)
    answer({"local": error}, make_instance())
    assert main(["solve", "x.json", "-m", "local"]) == 2
    assert capsys.readouterr().err == f"code-opt: {message}\n"


# --- Executors ------------------------------------------------------------------------


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from code_opt.batch import find_instances, run_batch\n"
        "from code_opt.errors import InputError\n"
        "try:\n"
        f"    run_batch(find_instances([Path({TWO!r})]), ['local'], {{}}, executor='processes:1')\n"
        "except InputError as error:\n"
        "    print('told:', error)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "told: the worker processes end before they begin" in done.stdout
    assert 'if __name__ == "__main__":\'' in done.stdout
    assert "out of memory" not in done.stdout


def die() -> None:
    os._exit(3)


def test_a_worker_that_dies_later_is_told_as_that() -> None:
    def broken() -> None:
        with executor_of("processes:1") as pool:
            assert pool is not None
            pool.submit(die).result()

    with pytest.raises(code_opt.CodeOptError, match="a worker process died") as caught:
        broken()
    assert not isinstance(caught.value, InputError)


def test_a_dask_scheduler_that_does_not_answer(monkeypatch, capsys) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("code_opt.executors.ANSWER_SECONDS", 1)
    address = "dask:tcp://127.0.0.1:1"
    assert main(["solve", TWO, "-m", "local", "--executor", address]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"code-opt: --executor '{address}': no Dask scheduler answers")
    assert main(["solve", TWO, "-m", "local", "--executor", "dask:nonsense"]) == 2


def test_a_cluster_without_workers_is_waited_for_and_then_told(monkeypatch, capsys) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("code_opt.executors.WORKER_SECONDS", 0.2)
    with distributed.LocalCluster(
        n_workers=0, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        name = f"dask:{cluster.scheduler_address}"
        with pytest.raises(InputError, match="has no worker after"):
            run_batch(find_instances([Path(TWO)]), ["local"], {}, executor=name)
    assert f"--executor {name}: waiting for a worker" in capsys.readouterr().err


# --- Python without docstrings and assertions -----------------------------------------


@pytest.mark.long
def test_everything_runs_without_docstrings_and_assertions(tmp_path: Path) -> None:
    # In one process: Pyomo is compiled anew at every start under -OO.
    commands = [
        ["solve", TWO, "--out", str(tmp_path), "--formulation", "colgen"],
        ["check", f"{tmp_path}/two-services.exact.json", TWO],
        f"plan {TWO} --demand 5 --unit-flops 1e9 --least-cost --front --out {tmp_path}".split(),
        ["report", str(tmp_path), "--instance", TWO, "--out", f"{tmp_path}/page.html"],
        ["solve", TWO, "-m", "local", "--executor", "processes:1"],
        ["export", TWO, "--to", f"{tmp_path}/model.mps"],
    ]
    script = "import sys; from code_opt.cli.app import main; sys.exit(max(map(main, {!r})))"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", script.format(commands)],
        cwd=ROOT,
        env={**os.environ, "CODE_OPT_DEBUG": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "confirmed (exact, optimal; every figure and requirement)" in done.stdout
