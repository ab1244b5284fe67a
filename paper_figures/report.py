"""One self-contained HTML page: everything inline, nothing loaded from elsewhere."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from paper_figures import tables
from paper_figures.load import Paper, Scale, describe_runs
from paper_figures.test_time_findings import Finding

INTRODUCTION = (
    "Batch Renormalization (Ioffe 2017, arXiv:1702.03275) corrects a normalized minibatch towards "
    "the moving statistics, so that training depends less on how the minibatch was put together. "
    "This page draws the paper's figures 1 to 3 again from this repository's own runs, each beside "
    "the paper's curves, then what goes beyond the paper, statistics at test time, and the layers' "
    "speed. It is made from the files in the results folder alone, by `python -m paper_figures`."
)
TABLE_NOTE = (
    "Top-1 accuracy in percent. The paper's values are the maxima of its curves; ours are each "
    "run's maximum and final value, averaged over n seeds, with the 95 % t interval of the mean. "
    "Maxima are chosen on the images they are reported for. Of a diverged run counts what was "
    f"measured before it diverged. {tables.NOTE}"
)
CLAIMS_NOTE = (
    "By criteria written before the runs, but where it says post hoc: a claim is reproduced if "
    "the whole 95 % t interval of the mean over n seeds, paired by seed, is above the threshold, "
    "not reproduced if no part of it is, and else not decided, as with fewer than 3 seeds. What "
    "the runs cannot say anything about is not testable here. A diverged run counts with the "
    "level of chance."
)
STUDY_PAGE = "../../docs/test-time-statistics.md"
"""Seen from the report's folder in the repository; the built documentation has its own link."""
CSS = """
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: #222; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 3rem; border-top: 2px solid #222; }
figure { margin: 2rem 0; } figure img { width: 100%; height: auto; display: block; }
figcaption, .small { font-size: .875rem; color: #444; } .finding { color: #222; font-size: 1rem; }
.notes { background: #fff6e0; border-left: 4px solid #D55E00; padding: .5rem 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; }
@media (max-width: 600px) {
  thead { display: none; } tr { display: block; padding: .5rem 0; border-bottom: 1px solid #888; }
  td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0;
    text-align: right; }
  td::before { content: attr(data-label); color: #666; text-align: left; flex: none;
    max-width: 50%; }
}
"""


@dataclass(frozen=True)
class Drawing:
    """One figure of the report: two SVG pictures (wide, and stacked for phones) and its words.

    Where the figure is part of the answer to a question, `finding` is the answer in short, and
    `found` is what was measured.
    """

    name: str
    wide: bytes
    stacked: bytes
    caption: str
    finding: str
    question: str = ""
    found: Sequence[Finding] = ()


@dataclass(frozen=True)
class Section:
    """One scale of the report; `left_out` says why figures are, the tables are as shown.

    A scale that the paper has nothing beside has no table, and one without its arms no claims.
    """

    scale: Scale
    drawings: list[Drawing]
    left_out: list[str]
    table: pd.DataFrame | None
    claims: pd.DataFrame | None = None


@dataclass(frozen=True)
class SpeedSection:
    """The benchmark's part of the report: its figure twice, and what the reader sees beside it."""

    wide: bytes
    stacked: bytes
    caption: str
    summary: pd.DataFrame
    ratios: pd.DataFrame
    note: str
    environments: list[str]


def build(sections: list[Section], paper: Paper, speed: SpeedSection | None = None) -> str:
    """Put the page together."""
    title = "Batch Renormalization: the paper's figures, drawn again"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{_code(INTRODUCTION)}"
        + "".join(_section(section) for section in sections)
        + (_speed(speed) if speed else "")
        + _reported(paper)
        + "</body>\n</html>\n"
    )


def _section(section):
    manifest = section.scale.manifest
    runs = section.scale.runs
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in manifest["notes"])
    hours = manifest["core_hours"]
    cost = "not recorded" if hours is None else f"{hours:.2f} core hours"
    settings = manifest["protocol"].items()
    protocol = pd.DataFrame(
        [(name, "none" if value is None else str(value)) for name, value in settings],
        columns=["setting", "value"],
    )
    title = manifest["title"][0].upper() + manifest["title"][1:]
    return (
        f'<section id="{escape(manifest["scale"])}">\n'
        f"<h2>{escape(title)} (scale {escape(manifest['scale'])})</h2>\n"
        + (
            f'<div class="notes">\n<h3>In what this differs from the paper</h3>\n{notes}</div>\n'
            if notes
            else ""
        )
        + _missing(section.scale)
        + "".join(_drawing(drawing) for drawing in section.drawings)
        + "".join(f"<p>{escape(reason)}</p>\n" for reason in section.left_out)
        + _comparison(section.table)
        + _claims(section)
        + f"<h3>Protocol</h3>\n{_table(protocol)}"
        + "<h3>Environment and cost</h3>\n<ul>\n"
        + "".join(f"<li>{escape(line)}</li>\n" for line in manifest["environment"])
        + f"</ul>\n<p>{len(runs)} runs, {(runs['status'] == 'diverged').sum()} of them diverged; "
        f"{cost}.</p>\n</section>\n"
    )


def _speed(speed):
    return (
        '<section id="speed">\n<h2>Speed of the layers</h2>\n'
        f"<p>{escape(speed.note)}</p>\n{_table(speed.summary)}"
        f"<figure>\n{_picture(speed, speed.caption)}"
        f"<figcaption><p>{escape(speed.caption)}</p></figcaption>\n</figure>\n"
        f"<h3>Every ratio</h3>\n{_table(speed.ratios)}<h3>Environment</h3>\n<ul>\n"
        + "".join(f"<li>{escape(line)}</li>\n" for line in speed.environments)
        + "</ul>\n</section>\n"
    )


def _missing(scale):
    """Name the runs that are missing, where nobody overlooks it."""
    missing = scale.manifest["missing"]
    if not missing:
        return ""
    return (
        f'<div class="notes">\n<h3>{len(missing)} of {len(scale.manifest["runs"])} runs are '
        f"missing</h3>\n<p>Everything below is from the other {len(scale.runs)} and may change. "
        f"Missing: {escape(describe_runs(scale.missing))}.</p>\n</div>\n"
    )


def _claims(section):
    if section.claims is None:
        return ""
    return (
        f'<h3>The paper\'s claims</h3>\n<p class="small">{CLAIMS_NOTE}</p>\n'
        f"{_table(section.claims)}"
    )


def _picture(drawing, words):
    return (
        f'<picture>\n<source media="(max-width: 600px)" srcset="{_data_uri(drawing.stacked)}">\n'
        f'<img alt="{escape(words)}" src="{_data_uri(drawing.wide)}">\n</picture>\n'
    )


def _comparison(table):
    if table is None:
        return ""
    note = f'<p class="small">{TABLE_NOTE}</p>\n'
    return f"<h3>The paper and ours</h3>\n{_table(table)}{note}"


def _drawing(drawing):
    if drawing.question:
        return _answer(drawing)
    return (
        f'<figure id="{drawing.name}">\n{_picture(drawing, drawing.finding)}'
        f'<figcaption><p class="finding">{escape(drawing.finding)}</p>\n'
        f"<p>{escape(drawing.caption)}</p></figcaption>\n</figure>\n"
    )


def _answer(drawing):
    """A question, its answer, the figure, what was measured, and where the reasoning is."""
    found = "".join(
        f"<p>{escape(finding.words)}</p>\n"
        + ("" if finding.table is None else _table(finding.table))
        for finding in drawing.found
    )
    return (
        f"<h3>{escape(drawing.question)}</h3>\n<p><strong>{escape(drawing.finding)}</strong></p>\n"
        f'<figure id="{drawing.name}">\n{_picture(drawing, drawing.caption)}'
        f"<figcaption><p>{escape(drawing.caption)}</p></figcaption>\n</figure>\n{found}"
        f'<p>Why, and where this stops being true: <a href="{STUDY_PAGE}">Three questions about '
        "batch normalization at test time</a>.</p>\n"
    )


def _reported(paper):
    table = paper.table
    shown = table[["row", "section", "figure", "value_percent", "step", "note"]].rename(
        columns={"value_percent": "top-1, %"}
    )
    shown["step"] = [f"{step / 1000:.0f}k" if step > 0 else "" for step in shown["step"]]
    sources = "; ".join(table["source"].unique())
    return (
        "<section>\n<h2>What the paper reports</h2>\n"
        f"{_table(shown.fillna('').astype(str))}"
        f'<p class="small">Source: {escape(sources)}. Its curves were read off the vector graphics '
        "of its figures.</p>\n</section>\n"
    )


def _table(table):
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(name)}">{escape(value)}</td>'
            for name, value in zip(table.columns, row, strict=True)
        )
        + "</tr>\n"
        for row in table.to_numpy()
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _code(text):
    """Write a paragraph with the parts between backquotes as code."""
    parts = escape(text).split("`")
    pieces = [f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)]
    return f"<p>{''.join(pieces)}</p>\n"


def _data_uri(svg):
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
