"""Every recipe runs, the longer ones on one backend; what it shows, it asserts itself."""

import pathlib
import runpy

import keras
import pytest
from harness import BACKEND

RECIPES = sorted(pathlib.Path(__file__).parents[1].glob("docs/recipes/*.py"))
NEEDS = {
    "fine_tuning": "sklearn",
    "metric_learning": "sklearn",
    "microbatches": "sklearn",
    "momentum": "torch",
    "new_model": "sklearn",
}
"""What a recipe imports that the layers do not need."""
LONG = {
    "fine_tuning": "tensorflow",
    "metric_learning": "jax",
    "microbatches": "torch",
    "reinforcement_learning": "jax",
}
"""What takes many seconds, and the backend that it is tried on."""
SAYS = {
    # From 1 to 3 and from 0 to 5, three quarters of the way.
    "own_schedule": """\
after 20 steps: r_max 2.5, d_max 3.75
loaded: ByHalves(start=1.0, end=3.0, half=10) at step 20
""",
}
"""What a recipe prints, where that is the same on every machine."""


@pytest.fixture
def as_before():
    """Undo what a recipe sets for the whole process."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_shows_what_it_says(path, capsys):
    name = path.stem
    if name.startswith("custom_loop_") and name != f"custom_loop_{BACKEND}":
        pytest.skip("a loop of another backend")
    if LONG.get(name, BACKEND) != BACKEND:
        pytest.skip(f"takes long, and is tried on {LONG[name]}")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert said.strip()
    assert said == SAYS.get(name, said)


def test_they_are_found():
    assert {"new_model", f"custom_loop_{BACKEND}"} <= {path.stem for path in RECIPES}
