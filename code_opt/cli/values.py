"""Numbers that options take, beyond what a closed range says."""

from __future__ import annotations

import math

import typer


def finite(value: float | None) -> float | None:
    """Refuse numbers that are infinite or none."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value + 0.0  # -0.0, which would be shown as -0, becomes 0.0


def positive(value: float | None) -> float | None:
    """Refuse all but finite numbers above 0."""
    if value is not None and not (math.isfinite(value) and value > 0.0):
        raise typer.BadParameter(f"{value} is not a number above 0.")
    return value


def share(value: float | None) -> float | None:
    """Refuse all but numbers above 0 and below 1."""
    if value is not None and not 0.0 < value < 1.0:
        raise typer.BadParameter(f"{value} is not a number above 0 and below 1.")
    return value


def below_1(value: float) -> float:
    """Refuse all but numbers from 0 to below 1."""
    if not 0.0 <= value < 1.0:
        raise typer.BadParameter(f"{value} is not a number from 0 to below 1.")
    return value
