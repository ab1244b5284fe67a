"""Files that are written whole or not at all, by the experiments and by the figures.

A write goes to a hidden file beside its target, `.<name>.<random>.partial`, which then takes the
target's place. Only a killed process leaves such a file behind: git ignores them, and `tidy`
removes those of a target that nobody else can be writing.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd

_ENDING = ".partial"


def write(path: str | Path, content: str | bytes) -> None:
    """Writes a file, whole or not at all; text in UTF-8."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_csv(path: str | Path, table: pd.DataFrame, number: str | None = None) -> None:
    """Writes a table without its index, whole or not at all.

    Args:
        path: where to.
        table: the rows.
        number: format of numbers that are not whole, such as "%.2f"; by default all digits.
    """
    write(path, table.to_csv(index=False, float_format=number, lineterminator="\n"))


def put_row(path: str | Path, row: dict, key: Iterable[str]) -> None:
    """Puts a row into a CSV, in the place of the one with the same key, else at the end.

    Args:
        path: where the table is, or will be.
        row: what it says, by column.
        key: columns of which no two rows have the same values.
    """
    row, rows = {name: str(value) for name, value in row.items()}, []
    if Path(path).exists():
        rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    same = [all(other[name] == row[name] for name in key) for other in rows]
    place = same.index(True) if any(same) else len(rows)
    rows[place : place + 1] = [row]
    write_csv(path, pd.DataFrame(rows))


def tidy(path: str | Path) -> None:
    """Removes what killed writes of this file left; nobody else may be writing it."""
    path = Path(path)
    for left in path.parent.glob(f".{path.name}.*{_ENDING}"):
        left.unlink(missing_ok=True)


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Gives a file to write into, which takes the place of `path` if nothing is raised."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(_ENDING, f".{path.name}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
