"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# The same cases in every run: a red test is about the change at hand, not about luck.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
