"""Redraw the paper's figures and table from the collected results.

`python -m paper_figures [--results DIR] [--scale NAME ...] [--output DIR]` writes, per scale,
`<output>/<scale>/figure_<1|2|3>.<pdf|svg|png>`, `captions.md`, `table.csv` and `table.md`, and
`<output>/report.html`. It takes seconds. It exits with 1, having written nothing, if a run is
missing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_figures import captions, figures, report, tables
from paper_figures.load import Paper, ResultsError, Scale, find_scales, load_paper, load_scale


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures", description="Redraw the paper's figures from our results."
    )
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder with <scale>.csv and .json")
    add("--scale", nargs="+", action="extend", metavar="NAME", help="default: every collected one")
    add("--output", type=Path, default=Path("paper_figures/output"), help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        paper = load_paper(options.results)
        scales = _load_scales(options.results, options.scale or find_scales(options.results))
    except ResultsError as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 1
    sections = [write_scale(scale, paper, options.output / scale.name) for scale in scales]
    _write(options.output / "report.html", report.build(sections, paper).encode())
    return 0


def write_scale(scale: Scale, paper: Paper, folder: Path) -> report.Section:
    """Write the figures, captions and tables of one scale, say so, and return its section.

    A figure that cannot be drawn is left out with its reason, and its former files are removed.
    """
    drawings, reasons = [], []
    for number, draw in figures.FIGURES.items():
        paths = {kind: folder / f"figure_{number}.{kind}" for kind in figures.FORMATS}
        if reason := captions.left_out(number, scale):
            reasons.append(reason)
            for path in paths.values():
                path.unlink(missing_ok=True)
            continue
        figure = draw(scale, paper)
        pictures = {kind: figures.render(figure, kind) for kind in figures.FORMATS}
        for kind, path in paths.items():
            _write(path, pictures[kind])
        drawings.append(
            report.Drawing(
                number=number,
                wide=pictures["svg"],
                stacked=figures.render(draw(scale, paper, stacked=True), "svg"),
                caption=captions.caption(number, scale),
                finding=captions.finding(number, scale, paper),
            )
        )
    table = tables.comparison(scale, paper)
    shown = tables.show_comparison(table)
    words = [f"{drawing.caption}\n\n{drawing.finding}\n" for drawing in drawings]
    _write(folder / "captions.md", "\n".join([*words, *(f"{r}\n" for r in reasons)]).encode())
    _write(folder / "table.csv", tables.to_csv(table).encode())
    _write(folder / "table.md", tables.to_markdown(shown).encode())
    for sentence in [*(drawing.finding for drawing in drawings), *reasons]:
        print(sentence)
    return report.Section(scale, drawings, reasons, shown)


def _load_scales(results, names):
    """Load every scale, so that one message names whatever is wrong with any of them."""
    scales, errors = [], []
    for name in dict.fromkeys(names):
        try:
            scales.append(load_scale(results, name))
        except ResultsError as error:
            errors.append(str(error))
    if errors:
        raise ResultsError("\n".join(errors))
    return scales


def _write(path, data):
    """Write a file in one step, so that an interrupted run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
