"""The experiment that watches a run, and its figure."""

import pandas as pd
import pytest

from brn.callbacks import QUANTITIES
from experiments.__main__ import main
from experiments.studies import clipping
from paper_figures.exhibits import clipping as drawing

pytestmark = pytest.mark.any_backend


def test_the_price_by_mental_arithmetic():
    """Of 2 ms a step, 8 ms once in a hundred is 4 %; the first three steps compile."""
    seconds = [1.0, 0.5, 0.5] + [0.010, 0.002, 0.002] * 2
    price = clipping.cost(seconds, every=3, default=100)
    assert price["cost_percent"] == pytest.approx(4.0)
    assert (price["step_ms"], price["probed_step_ms"]) == (2.0, 10.0)
    assert (price["steps"], price["probes"], price["every"]) == (6, 2, 100)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run of six steps, looked at before steps 0, 2 and 4 and after the last."""
    folder = tmp_path_factory.mktemp("results")
    options = ("--protocol", "smoke", "--arm", "brn-4", "--every", "2", "--results", str(folder))
    assert main(["monitor", *options]) == 0
    return folder


@pytest.mark.filterwarnings("ignore:Layers .*r clipped")  # six steps are no training
def test_a_run_is_watched(watched):
    rows = pd.read_csv(watched / "monitor-smoke-brn-4-s0.csv")
    assert list(rows) == ["run", "step", "layer", *QUANTITIES]
    assert sorted(rows["step"].unique()) == [0, 2, 4, 6]
    assert rows.groupby("layer").size().eq(4).all()
    (costs,) = watched.glob("monitor-cost-*.csv")
    assert pd.read_csv(costs)["probes"].tolist() == [2]


def test_the_figure_shows_what_was_seen(watched):
    """The bounds of the ramp, and the median layer's fractions."""
    rows = pd.read_csv(watched / "monitor-smoke-brn-4-s0.csv")
    figure = drawing.draw_watched(rows)
    corrections, clipped = figure.axes
    bounds = next(line for line in corrections.lines if line.get_label() == "r_max, 1 / r_max")
    assert list(bounds.get_ydata()) == list(rows.groupby("step")["r_max"].first())
    fraction = next(line for line in clipped.lines if line.get_label() == "r, median layer")
    assert list(fraction.get_ydata()) == list(100 * rows.groupby("step")["r_clipped"].median())


def test_without_a_watched_run_there_is_no_figure(tmp_path):
    assert drawing.find_watched(tmp_path) is None
