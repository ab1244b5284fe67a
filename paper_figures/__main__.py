"""Redraw the paper's figures and table from the collected results.

`python -m paper_figures [--results DIR] [--scale NAME ...] [--output DIR]` writes, per scale,
`<output>/<scale>/figure_<1|2|3>.<pdf|svg|png>` (`figure_3_4x8.png` for minibatches of another
structure), `captions.md`, `table.csv` and `table.md`; where the scale has the arms, figures beyond
the paper and the verdicts on its claims, `claims.csv` and `claims.md`; of a study of test-time
statistics, `question_<1|2|3>.md` and `finding_<1|2|3>.md` in place of tables;
`<output>/report.html`; where there are benchmarks, `<output>/speed/growth.<pdf|svg|png>`,
`growth.md`, `summary.md`, `ratios.md` and `parts.md`; and of a watched run, if there is one,
`<output>/monitor/clipped.<pdf|svg|png>` and `captions.md`. `--pages FILE ...` brings these files up
to date in pages that name them.
It takes seconds. Runs that the manifest calls missing are named wherever they are not in; for any
other missing run it exits with 1, having written nothing.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from paper_figures import (
    captions,
    claims,
    extensions,
    figures,
    monitor,
    pages,
    report,
    speed,
    tables,
    test_time,
)
from paper_figures.load import OWN, Paper, ResultsError, Scale, find_scales, load_paper, load_scale
from paper_figures.test_time_findings import write as write_findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures", description="Redraw the paper's figures from our results."
    )
    add = parser.add_argument
    add("--results", type=Path, default=Path("results"), help="folder with <scale>.csv and .json")
    add("--scale", nargs="+", action="extend", metavar="NAME", help="default: every collected one")
    add("--output", type=Path, default=Path("paper_figures/output"), help="folder to write to")
    add("--pages", nargs="+", type=Path, default=[], metavar="FILE",
        help="pages into which to put the files of output that they name")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        paper = load_paper(options.results)
        measured = speed.load_speed(options.results)
        scales = _load_scales(options.results, options.scale or find_scales(options.results))
    except ResultsError as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 1
    write_monitor(options.results, options.output / "monitor")
    sections = []
    for scale in scales:
        folder = options.output / scale.name
        sections.append(
            write_study(scale, folder)
            if test_time.is_study(scale.name)
            else write_scale(scale, paper, folder, measured, _shorter(scale, options.results))
        )
    benchmark = write_speed(measured, options.output / "speed") if measured else None
    _write(options.output / "report.html", report.build(sections, paper, benchmark).encode())
    for page in options.pages:
        text = page.read_text(encoding="utf-8")
        _write(page, pages.with_files(text, options.output).encode())
    return 0


def write_speed(measured: speed.Speed, folder: Path) -> report.SpeedSection:
    """Write the benchmarks' figure and tables, and return their section."""
    pictures = _write_pictures(speed.growth(measured), folder, "growth")
    summary, ratios = speed.summarize(measured), speed.show_ratios(measured)
    _write(folder / "summary.md", tables.to_markdown(summary).encode())
    _write(folder / "ratios.md", tables.to_markdown(ratios).encode())
    _write(folder / "growth.md", tables.to_markdown(speed.show_growth(measured)).encode())
    _write(folder / "parts.md", tables.to_markdown(speed.show_parts(measured)).encode())
    return report.SpeedSection(
        wide=pictures["svg"],
        stacked=figures.render(speed.growth(measured, stacked=True), "svg"),
        caption=speed.CAPTION,
        summary=summary,
        ratios=ratios,
        note=speed.NOTE,
        environments=measured.environments,
    )


def write_scale(
    scale: Scale,
    paper: Paper,
    folder: Path,
    measured: speed.Speed | None = None,
    shorter: Scale | None = None,
) -> report.Section:
    """Write the figures, captions and tables of one scale, say so, and return its section.

    A figure that cannot be drawn is left out with its reason, and its former files are removed.
    """
    drawings, reasons = [], []
    for name, plan in _plans(scale, paper).items():
        if plan.left_out:
            reasons.append(plan.left_out)
            _remove(folder, f"{name}.*")
            continue
        pictures = _write_pictures(plan.draw(False), folder, name)
        drawings.append(
            report.Drawing(
                name=name,
                wide=pictures["svg"],
                stacked=figures.render(plan.draw(True), "svg"),
                caption=plan.caption(),
                finding=plan.finding(),
            )
        )
    table = tables.comparison(scale, paper)
    shown = tables.show_comparison(table)
    words = [f"{drawing.caption}\n\n{drawing.finding}\n" for drawing in drawings]
    _write(folder / "captions.md", "\n".join([*words, *(f"{r}\n" for r in reasons)]).encode())
    _write(folder / "table.csv", tables.to_csv(table).encode())
    _write(folder / "table.md", f"{tables.to_markdown(shown)}\n{tables.NOTE}\n".encode())
    _write(folder / "paper_rows.md", tables.to_markdown(shown[shown["paper"] != "-"]).encode())
    findings = "".join(f"- {drawing.finding}\n" for drawing in drawings)
    _write(folder / "findings.md", findings.encode())
    judged = _write_claims(scale, paper, measured, shorter, folder)
    for sentence in [*(drawing.finding for drawing in drawings), *reasons]:
        print(sentence)
    return report.Section(scale, drawings, reasons, shown, judged)


@dataclass(frozen=True)
class _Plan:
    """How to make one figure and its words; `left_out` says why it cannot be made."""

    left_out: str | None
    draw: Callable[[bool], Figure]
    caption: Callable[[], str]
    finding: Callable[[], str]


def _plans(scale, paper):
    """The figures of a scale: the paper's, then those beyond it."""
    plans = {}
    for number, draw in figures.FIGURES.items():
        for at in scale.structures if number == 3 else [OWN]:
            where = {"structure": at} if at else {}
            plans[f"figure_{number}{at.replace('-', '_')}"] = _Plan(
                captions.left_out(number, scale, at),
                partial(draw, scale, paper, **where),
                partial(captions.caption, number, scale, at),
                partial(captions.finding, number, scale, paper, at),
            )
    for name, extension in extensions.EXTENSIONS.items():
        if prepared := extension.prepare(scale):
            plans[name] = _Plan(
                extensions.left_out(name, *prepared),
                partial(extension.draw, *prepared),
                partial(extensions.caption, name, *prepared),
                partial(extensions.finding, name, *prepared),
            )
    return plans


def _shorter(scale, results):
    """The collected runs of the protocol beside which the scale's damage is set, if any."""
    name = claims.SHORTER.get(scale.name)
    there = name is not None and (results / f"{name}.csv").exists()
    return load_scale(results, name) if there else None


def _write_claims(scale, paper, measured, shorter, folder):
    """Write the verdicts on the claims, if the scale has their arms; return what is shown."""
    if not claims.applies(scale):
        return None
    table = claims.judge(scale, paper, measured, shorter)
    _write(folder / "claims.csv", claims.to_csv(table).encode())
    markdown = claims.to_markdown(table, scale)
    _write(folder / "claims.md", markdown.encode())
    runs, missing = (len(scale.manifest[key]) for key in ("runs", "missing"))
    cost = f"{runs - missing} of {runs} runs have ended"
    if scale.manifest["core_hours"] is not None:
        cost += f", in {scale.manifest['core_hours']:.1f} core-hours"
    _write(folder / "verdicts.md", f"{cost}.\n\n{markdown}".encode())
    for heading, rows in claims.parts(table, scale).items():
        print(f"{scale.name}. {heading} {claims.count_verdicts(rows)}")
    return claims.show(table)


def write_monitor(results: Path, folder: Path) -> None:
    """Write the figure and the caption of the watched run, if there is one."""
    rows = monitor.find(results)
    if rows is None:
        return
    _write_pictures(monitor.figure(rows), folder, "clipped")
    _write(folder / "captions.md", f"{monitor.caption(rows)}\n".encode())


def write_study(scale: Scale, folder: Path) -> report.Section:
    """Write the figures, questions and findings on test-time statistics; return their section.

    A question without its arms is left out with the reason, and its former files are removed.
    """
    drawings, reasons = [], []
    for number, question in test_time.QUESTIONS.items():
        if reason := question.missing(scale):
            reasons.append(reason)
            _remove(folder, f"*_{number}.*")
            continue
        pictures = _write_pictures(question.draw(scale), folder, f"figure_{number}")
        found = question.find(scale)
        _write(folder / f"question_{number}.md", test_time.write_question(number).encode())
        _write(folder / f"finding_{number}.md", f"{write_findings(found)}\n".encode())
        stacked = figures.render(question.draw(scale, stacked=True), "svg")
        drawings.append(
            report.Drawing(
                name=f"{scale.name}-{number}",
                wide=pictures["svg"],
                stacked=stacked,
                caption=question.caption(scale),
                finding=question.answer,
                question=f"{number}. {question.question}",
                found=found,
            )
        )
    words = [*(drawing.caption for drawing in drawings), *reasons]
    _write(folder / "captions.md", "\n".join(f"{w}\n" for w in words).encode())
    return report.Section(scale, drawings, reasons, table=None)


def _write_pictures(figure, folder, name):
    """Write a figure in every format; return format -> bytes."""
    pictures = {kind: figures.render(figure, kind) for kind in figures.FORMATS}
    for kind, picture in pictures.items():
        _write(folder / f"{name}.{kind}", picture)
    return pictures


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


def _remove(folder, pattern):
    """Remove what an earlier run wrote of something that is now left out."""
    for path in folder.glob(pattern):
        path.unlink()


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
