"""Tests of the layer that needs torch; each module is skipped where torch is missing."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
