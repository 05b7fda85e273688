"""CI accepts no skipped test: everything that the tests can use is installed there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.documents import read

TESTS = {
    "in a test": "import pytest\ndef test_it():\n    pytest.skip('no browser')\n",
    "by a mark": "import pytest\n@pytest.mark.skipif(True, reason='no browser')\ndef test_it():\n"
    "    pass\n",
    "of a module": "import pytest\npytest.importorskip('nowhere_to_be_found', "
    "reason='no browser')\n",
}


@pytest.mark.parametrize("where", TESTS)
@pytest.mark.parametrize("ci", ["true", ""])
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, where: str, ci: str):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    tmp_path.joinpath("test_it.py").write_text(TESTS[where], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", str(tmp_path)],
        cwd=tmp_path,
        env={"CI": ci, "PATH": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "no browser" in run.stdout
    assert ("skipped in CI" in run.stdout) is bool(ci)
    assert (run.returncode in (0, 5)) is not bool(ci)


def test_the_longest_files_are_handed_out_first():
    folder = Path(__file__).parent
    assert [name for name in LONGEST if not (folder / name).is_file()] == []
    # By itself xdist would put files of many tests first, however short these are.
    assert "--dist loadfile \\\n\t\t--no-loadscope-reorder" in read("Makefile")
