"""Numbers as the page writes them; a dash where there is none."""

from __future__ import annotations

from code_opt.result import TOLERANCE
from code_opt.text import amount, number, percent


def short(value: float) -> str:
    """Return a number to four significant digits, as a headline shows it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else number(value, 4)


def figure(value: float | None) -> str:
    """Return a number to six significant digits, or a dash."""
    return "–" if value is None else number(value)


def gap(value: float | None) -> str:
    """Return a gap in percent, never rounded down."""
    if value is None:
        return "–"
    return "0" if value <= TOLERANCE else percent(value, up=True).removesuffix(" %")


def server_amount(flops: float | None, devices: float | None) -> str:
    """Return a load or capacity of a server: in FLOP/s, or in devices where it has none."""
    if flops is not None:
        return amount(flops, "FLOP/s")
    if devices is None:
        return "–"
    return f"{devices:.4g} {'device' if devices == 1.0 else 'devices'}"


def relative(value: float | None, base: float | None, unit: bool = True) -> str:
    """Return a change in percent."""
    if value is None or base is None or base <= 0.0:
        return "–"
    return signed(100.0 * (value / base - 1.0), 1) + (" %" if unit else "")


def points(value: float | None, base: float | None) -> str:
    """Return a change of a fraction in percentage points."""
    return "–" if value is None or base is None else signed(100.0 * (value - base), 2)


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign; none where it rounds to 0."""
    text = f"{value:+.{decimals}f}"
    if float(text) == 0.0:
        return text[1:]
    return text.replace("-", "−")


def fraction(value: float | None) -> str:
    """Return an accuracy to four decimals."""
    return "–" if value is None else f"{value:.4f}"
