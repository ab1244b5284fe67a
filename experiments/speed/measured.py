"""Numbers that are measured now and then, in parts: a table with a row for each.

`results/processes.csv` has the columns `COLUMNS`; no two rows have the same `KEY`.
"""

from pathlib import Path

import files
from experiments.training.environment import environment

KEY = ("what", "arm", "processes", "quantity")
COLUMNS = (*KEY, "value", "unit", "made with", "commit")


def note(
    path: str | Path | None,
    what: str,
    quantity: str,
    value: float | int | str,
    unit: str = "",
    arm: str = "",
    processes: int | str = "",
) -> None:
    """Prints a number, and puts it into a table, in the place of an earlier one of its kind.

    Args:
        path: of the table; `None` for no table.
        what, arm, processes, quantity: what the number is of.
        value: the number; two digits are kept of one that is not whole.
        unit: of the number.
    """
    number = f"{value:.2g}" if isinstance(value, float) else str(value)
    name = ", ".join(filter(None, (what, arm, processes and f"{processes} process(es)", quantity)))
    print(f"{name}: {number} {unit}", flush=True)
    if path:
        made = environment()
        made_with = "Keras {keras} on {backend} {backend_version}".format(**made)
        commit = f"{str(made['commit'])[:7]}{', modified' * made['modified']}"
        row = (what, arm, processes, quantity, number, unit, made_with, commit)
        files.put_row(path, dict(zip(COLUMNS, row, strict=True)), KEY)
