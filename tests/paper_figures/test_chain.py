"""From the runs to the pages: what is committed is what the runs say."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from paper_figures import pages
from paper_figures.__main__ import main

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "paper_figures" / "output"
REMEDY = "Run `make figures` and commit what it changes."


@pytest.fixture(scope="module")
def drawn(collected, tmp_path_factory):
    """All that is drawn from all runs, without the formats that are not committed."""
    output = tmp_path_factory.mktemp("output")
    assert main(["--results", str(collected), "--output", str(output), "--formats", "png"]) == 0
    return output


def committed(folder, ending):
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob(f"*.{ending}"))}


def test_every_committed_text_is_what_the_runs_say(drawn):
    here, there = committed(drawn, "md"), committed(OUTPUT, "md")
    assert list(here) == list(there), REMEDY
    for name, path in here.items():
        assert path.read_text() == there[name].read_text(), f"{name} differs. {REMEDY}"


def test_every_committed_picture_is_what_the_runs_say(drawn):
    """Other versions of fonts and libraries may draw edges otherwise, and nothing more."""
    here, there = committed(drawn, "png"), committed(OUTPUT, "png")
    assert list(here) == list(there), REMEDY
    for name, path in here.items():
        new, old = path.read_bytes(), there[name].read_bytes()
        if new != old:
            assert alike(imread(io.BytesIO(new)), imread(io.BytesIO(old))), f"{name}. {REMEDY}"


def alike(first, second):
    """Whether less than 2 % of the pixels differ by more than a tenth of the range."""
    if first.shape != second.shape:
        return False
    return (np.abs(first - second).max(axis=-1) > 0.1).mean() < 0.02


def test_pictures_are_alike_if_few_pixels_differ():
    white, grey = np.ones((100, 100, 4)), np.full((100, 100, 4), 0.95)
    line = white.copy()
    line[50:53] = 0
    assert alike(white, grey)
    assert not alike(white, line)
    assert not alike(white, white[1:])


@pytest.mark.parametrize("name", ["README.md", "docs/test-time-statistics.md"])
def test_the_pages_have_the_committed_texts(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("<!-- file ") >= 4
    assert pages.with_files(text, OUTPUT) == text
