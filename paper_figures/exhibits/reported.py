"""What the paper reports: its numbers, with where they stand in it."""

from collections.abc import Iterator

from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Results

PLACE = 9


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the paper's own table."""
    table = results.paper.table
    shown = table[["row", "section", "figure", "value_percent", "step", "note"]]
    shown = shown.rename(columns={"value_percent": "top-1, %"})
    shown["step"] = [f"{step / 1000:.0f}k" if step > 0 else "" for step in shown["step"]]
    source = (
        f"Source: {'; '.join(table['source'].unique())}. Its curves were read off the vector "
        "graphics of its figures."
    )
    section = Section("paper", "What the paper reports", introduction=source)
    tables = {"reported": (Part(table=shown.fillna("").astype(str)),)}
    yield Exhibit(section, "reported", "Every value the paper reports", tables=tables)
