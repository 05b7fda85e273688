from __future__ import annotations

import pytest

from code_opt.text import count, duration, number, percent, plain, plain_lines, product, share, si


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alexnet/0", "alexnet/0"),
        ("Straße 東京", "Straße 東京"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r", "a\\nb\\r"),
        ("\u202egnp", "\\u202egnp"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_plain_escapes_what_acts_on_a_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


def test_plain_lines_keeps_line_breaks_only() -> None:
    assert plain_lines("a\n\tb\x1b") == "a\n\\tb\\x1b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00000"), (120.01, "120.010"), (123456.4, "123456"), (1.5e9, "1.50000e+09")],
)
def test_number(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (12.0, "12.00"), (999.96, "1.000 k"), (1.9e9, "1.900 G"), (3e16, "30.00 P")],
)
def test_si(value: float, shown: str) -> None:
    assert si(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000 ms"), (0.0123, "12.30 ms"), (2e-6, "2.000 us"), (2, "2.000 s")],
)
def test_duration(value: float, shown: str) -> None:
    assert duration(value) == shown


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0.0, "0 %"),
        (-0.25, "25 %"),
        (0.000123456, "0.0123 %"),
        (0.99999, "100 %"),
        (12.3456, "1,235 %"),
        (1e-9, "0.0000001 %"),
    ],
)
def test_percent(fraction: float, shown: str) -> None:
    assert percent(fraction) == shown


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (1.0, "100 %"),
        (0.9996, "99.9 %"),
        (0.998, "99.8 %"),
        (0.62, "62 %"),
        (2e-4, "below 0.1 %"),
        (0.0, "0 %"),
    ],
)
def test_only_all_is_100_percent(part: float, shown: str) -> None:
    assert share(part) == shown


@pytest.mark.parametrize("fraction", [1e-7, 9.8123e-5, 0.0123401, 0.5551, 3.0])
def test_percent_rounded_up_is_never_too_small(fraction: float) -> None:
    shown = float(percent(fraction, up=True).removesuffix(" %").replace(",", "")) / 100
    assert fraction * (1 - 1e-9) <= shown <= fraction * 1.011


def test_counts_of_any_size() -> None:
    assert count(1_234_567) == "1,234,567"
    assert count(10**400 * 3) == "about 1e400"
    assert product([7, 11]) == "77"
    assert product([10**200, 10**201, 0]) == "0"
    assert product([10**3000] * 1000) == "about 1e3000000"
    assert product([]) == "1"
