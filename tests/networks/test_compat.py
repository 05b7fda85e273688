from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from code_opt.errors import InputError

compat = pytest.importorskip("code_opt.networks.compat", exc_type=InputError)


torch = compat.torch


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )


def test_scripts_import_torchvision_after_the_package():
    done = python("import code_opt.networks, torchvision; print(torchvision.models.alexnet)")
    assert done.returncode == 0, done.stderr
    assert "alexnet" in done.stdout


def test_the_package_without_networks_does_not_import_torch():
    code = "import sys, code_opt, code_opt.cli.app; sys.exit('torch' in sys.modules)"
    assert python(code).returncode == 0


def test_missing_torch_is_bad_input_with_the_remedy():
    done = python(
        "import sys; sys.modules['torch'] = None\n"
        "from code_opt.errors import InputError\n"
        "try:\n    import code_opt.networks.compat\n"
        "except InputError as error:\n    sys.exit('code-opt[networks]' not in str(error))\n"
        "sys.exit(2)"
    )
    assert done.returncode == 0, done.stderr


def test_networks_work_and_compiled_operators_do_or_raise():
    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    if compat._LIBRARY is None:  # compiled operators have been loaded
        assert compat.torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]
    else:
        with pytest.raises(RuntimeError):
            compat.torchvision.ops.nms(boxes, scores, 0.5)
    network = compat.torchvision.models.resnet18(weights=None).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_declares_nothing_where_the_operators_load(monkeypatch):
    monkeypatch.setattr(compat, "_compiled_operators_load", lambda: True)
    assert compat._declare_missing_operators() is None
