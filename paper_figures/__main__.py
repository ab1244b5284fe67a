"""Redraw the paper's figures and tables from the collected results.

`python -m paper_figures [--results DIR] [--protocol NAME ...] [--output DIR] [--figure NAME ...]`
writes all exhibits (see `exhibits/`), each into the folder of what it is about, as
`<output>/<section>/<name>.<png|svg|pdf>` and tables in Markdown and CSV; for each section its
`captions.md` and `findings.md`; the index of it all, `<output>/index.json`; and the report,
`<output>/report.html`. With `--figure` it draws only the exhibits of these names, such as
`group_size` or `tiny_imagenet/group_size`, and leaves index and report as they are. `--pages FILE
...` brings these files up to date in pages that name them.

It takes seconds. Runs that the manifest calls missing are named wherever they are not in; for any
other missing run it exits with 1, having written nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import files
from paper_figures import exhibit, pages, report
from paper_figures.load import ResultsError, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures", description="Redraw the paper's figures from our results."
    )
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder of collected results")
    add("--protocol", nargs="+", action="extend", metavar="NAME", help="default: all collected")
    add("--output", type=Path, default=Path("paper_figures/output"), help="folder to write to")
    add("--figure", nargs="+", action="extend", metavar="NAME", help="draw these exhibits only")
    add("--formats", nargs="+", default=exhibit.FORMATS, choices=exhibit.FORMATS)
    add("--pages", nargs="+", type=Path, default=[], metavar="FILE",
        help="pages into which to put the files of output that they name")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        shown = exhibit.collect(load(options.results, options.protocol))
        if options.figure:
            shown = _named(shown, options.figure)
    except ResultsError as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 1
    if options.figure:
        for one in shown:
            names = exhibit.write(one, options.output, options.formats)
            print(one.left_out or "\n".join(f"wrote {options.output / name}" for name in names))
        return 0
    index = exhibit.write_all(shown, options.output, options.formats)
    if "svg" in options.formats:
        files.write(options.output / "report.html", report.build(index, options.output))
    for page in options.pages:
        text = page.read_text(encoding="utf-8")
        files.write(page, pages.with_files(text, options.output))
    for one in shown:
        if one.left_out or one.finding:
            print(f"{one.id}: {one.left_out or one.finding}")
    written = sum(len(entry["files"]) for entry in index["exhibits"])
    print(f"wrote {written} files of {len(shown)} exhibits to {options.output}")
    return 0


def _named(shown, names):
    """The exhibits of these names, in their order."""
    known = {one.id for one in shown} | {one.name for one in shown}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ResultsError(
            f"Expected --figure from {', '.join(one.id for one in shown)}, or the end of it. "
            f"Received: --figure {' '.join(unknown)}."
        )
    return [one for one in shown if {one.id, one.name} & set(names)]


if __name__ == "__main__":
    sys.exit(main())
