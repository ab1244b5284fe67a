"""Tables of strings in Markdown."""

import pandas as pd


def to_markdown(shown: pd.DataFrame) -> str:
    """Write a table of strings as a Markdown table."""
    lines = [list(shown.columns), ["---"] * shown.shape[1], *shown.to_numpy().tolist()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
