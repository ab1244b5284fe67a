"""What tests measure, printed, and by hand also put into a table."""

import pytest

import files
from experiments.training.environment import environment

KEY = ("what", "arm", "processes", "quantity")


def pytest_addoption(parser):
    """Adds `--measured CSV`, as in `--measured results/processes.csv`."""
    parser.addoption(
        "--measured", metavar="CSV", help="put what slow tests measure into this table"
    )


@pytest.fixture
def note(request):
    """Notes a number: with `--measured` in a row, in the place of an earlier one of its kind."""
    path = request.config.getoption("--measured", None)

    def note(what, quantity, value, unit="", arm="", processes=""):
        number = f"{value:.2g}" if isinstance(value, float) else str(value)
        print(f"{what}, {arm} {processes}: {quantity} {number} {unit}")
        if path:
            made, row = environment(), (what, arm, processes, quantity)
            made_with = "Keras {keras} on {backend} {backend_version}".format(**made)
            commit = f"{str(made['commit'])[:7]}{' and changes' * made['modified']}"
            row = dict(zip(KEY, row, strict=True)) | {"value": number, "unit": unit}
            files.put_row(path, row | {"made with": made_with, "commit": commit}, KEY)

    return note
