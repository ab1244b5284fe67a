"""The repository's own results, collected anew from its runs."""

import shutil
from pathlib import Path

import pytest

from experiments.grid.runs import select_runs
from experiments.records.collect import collect
from experiments.records.store import Store

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """A folder with all results as `make figures` collects them."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "runs").symlink_to(RESULTS / "runs")
    for pattern in ("paper*.csv", "benchmark-*", "monitor-*", "processes.csv"):
        for path in RESULTS.glob(pattern):
            shutil.copy(path, folder)
    store = Store(folder)
    for name in store.protocols():
        collect(store, select_runs(name))
    return folder
