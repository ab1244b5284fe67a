"""What slow tests measure, printed, and by hand also put into a table."""

import functools

import pytest

from experiments.speed import measured


def pytest_addoption(parser):
    """Adds `--measured CSV`, as in `--measured results/processes.csv`."""
    parser.addoption(
        "--measured", metavar="CSV", help="put what slow tests measure into this table"
    )


@pytest.fixture
def note(request):
    """Notes a number, `measured.note` with the table of the option."""
    return functools.partial(measured.note, request.config.getoption("--measured", None))
