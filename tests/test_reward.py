"""xi and zeta: values, slopes and the tangents that bound them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_opt.exact.method import tangent_points
from code_opt.instance import Exponential, Logistic, Power
from code_opt.reward import is_log_linear, log_slope, log_value

SHAPES = [
    Power(kind="power", exponent=4.0),
    Power(kind="power", exponent=0.3),
    Power(kind="power", exponent=0.0),
    Logistic(kind="logistic", steepness=12.0, midpoint=0.7),
    Logistic(kind="logistic", steepness=0.0, midpoint=0.7),
    Exponential(kind="exponential", rate=2.5),
]


def plain(shape, x):
    """The definitions of the format, written without logarithms."""
    match shape:
        case Power():
            return x**shape.exponent
        case Logistic():
            return 1.0 / (1.0 + math.exp(-shape.steepness * (x - shape.midpoint)))
        case Exponential():
            return math.exp(shape.rate * x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("x", [0.05, 0.4, 0.7, 1.0, 3.0])
def test_values_follow_the_definition(shape, x):
    assert math.exp(log_value(shape, x)) == pytest.approx(plain(shape, x), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("x", [0.05, 0.4, 0.7, 1.0, 3.0])
def test_slopes_are_derivatives(shape, x):
    step = 1e-6
    difference = (log_value(shape, x + step) - log_value(shape, x - step)) / (2 * step)
    assert log_slope(shape, x) == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_extreme_logistics_do_not_overflow():
    steep = Logistic(kind="logistic", steepness=1e6, midpoint=0.5)
    assert log_value(steep, 0.0) == pytest.approx(-5e5)
    assert log_value(steep, 1.0) == pytest.approx(0.0)
    assert log_slope(steep, 1.0) == 0.0
    assert log_slope(steep, 0.0) == pytest.approx(1e6)


def test_a_power_of_zero_is_zero():
    assert log_value(Power(kind="power", exponent=2.0), 0.0) == -math.inf
    assert log_value(Power(kind="power", exponent=0.0), 0.0) == 0.0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@given(
    low=st.floats(0.0, 5.0),
    width=st.floats(1e-3, 5.0),
    where=st.floats(0.0, 1.0),
    error=st.sampled_from([1e-3, 1e-5]),
)
def test_tangents_bound_from_above_and_are_near_the_guess(shape, low, width, where, error):
    high = low + width
    guess = max(low + where * width, 1e-5 * high)
    low = max(low, 1e-6 * high)
    points = tangent_points(shape, low, high, guess, error)
    assert all(0.0 <= p <= high for p in points)
    assert is_log_linear(shape) == (len(points) == 1) or len(points) > 1
    x = np.linspace(low, high, 101)
    envelope = np.min([log_value(shape, p) + log_slope(shape, p) * (x - p) for p in points], axis=0)
    assert (envelope >= log_value(shape, x) - 1e-9 * (1 + np.abs(log_value(shape, x)))).all()
    at_guess = min(log_value(shape, p) + log_slope(shape, p) * (guess - p) for p in points)
    assert at_guess - log_value(shape, guess) <= error
