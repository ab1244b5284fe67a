"""How numbers are written."""

import pytest

from paper_figures import words
from paper_figures.statistics import Estimate

pytestmark = pytest.mark.any_backend

NAN = float("nan")


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(74.25, 73.06, 75.44, 3), "74.2 [73.1, 75.4]"),
        (Estimate(74.25, NAN, NAN, 1), "74.2"),
        (Estimate(-0.04, -0.2, 0.04, 3), "0.0 [-0.2, 0.0]"),
        (Estimate(NAN, NAN, NAN, 0), "not measured"),
    ],
)
def test_an_estimate_has_its_interval_in_brackets_where_there_is_one(estimate, text):
    assert words.show(estimate) == text


def test_digits_are_as_asked_for():
    assert words.show(Estimate(1.0, 0.5, 1.5, 3), 2) == "1.00 [0.50, 1.50]"


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([], "no run has ended"),
        ([1, 0], "n = 1, a single seed: no interval"),
        ([3, 3], "mean of n = 3 seeds, band: 95 % t interval"),
        ([3, 5, 0], "mean of n = 3 to 5 seeds, band: 95 % t interval"),
    ],
)
def test_n_is_said_with_what_the_band_is(counts, text):
    assert words.describe_n(counts) == text
