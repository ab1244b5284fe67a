"""What is shown: a figure with its words and tables, or the reason why there is none.

A module of `exhibits/` has a function `exhibits(results)` that gives its `Exhibit`s. Here they are
collected, in the order in which they are shown, written, each in the same way, and put into an
index, `<output>/index.json`, from which the report and the documentation are made.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import files
from paper_figures import exhibits as rooms
from paper_figures.drawing import render
from paper_figures.load import Protocol, Results, describe_runs
from paper_figures.tables import to_markdown

FORMATS = ("png", "svg", "pdf")
INDEX = "index.json"


@dataclass(frozen=True)
class Part:
    """Some of what stands in a table's file: words in Markdown, a table of strings, or both."""

    words: str = ""
    table: pd.DataFrame | None = None

    def markdown(self) -> str:
        """Returns both, the words first."""
        table = "" if self.table is None else to_markdown(self.table)
        return "\n\n".join(part.rstrip("\n") for part in (self.words, table) if part)


@dataclass(frozen=True)
class Section:
    """What exhibits are about: a protocol's runs, the layers' speed; and the folder they go to.

    Attributes:
        name: Of the folder, and for links.
        title: Heading.
        introduction: What a reader must know before the results.
        missing: Which runs have no result yet.
        notes: What a reader must know after the results: in what this differs from the paper.
        settings: All that was set, by name.
        environment: What it was made with.
        cost: Runs and hours.
        page: Of the documentation, on which it is shown; "" for the page of results.
        first: Whether it comes before all others.
    """

    name: str
    title: str
    introduction: str = ""
    missing: str = ""
    notes: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    cost: str = ""
    page: str = ""
    first: bool = False

    @classmethod
    def of(cls, protocol: Protocol) -> "Section":
        """Describe the runs of a protocol."""
        manifest, runs = protocol.manifest, protocol.runs
        hours = manifest["core_hours"]
        missing = ""
        if manifest["missing"]:
            missing = (
                f"{len(manifest['missing'])} of {len(manifest['runs'])} runs are missing. "
                f"Everything here is from the other {len(runs)} and may change. "
                f"Missing: {describe_runs(protocol.missing)}."
            )
        if damaged := manifest.get("damaged"):
            missing += f" Of these, results that cannot be read: {', '.join(damaged)}."
        title = manifest["title"]
        return cls(
            protocol.name,
            title[0].upper() + title[1:],
            missing=missing,
            notes=tuple(manifest["notes"]),
            settings={
                **{name: str(manifest[name]) for name in ("classes", "training_images")},
                **{k: "none" if v is None else str(v) for k, v in protocol.settings.items()},
            },
            environment=tuple(manifest["environment"]),
            cost=f"{len(runs)} of {len(manifest['runs'])} runs have ended, "
            f"{(runs['status'] == 'diverged').sum()} of them diverged"
            + ("" if hours is None else f"; {hours:.1f} core-hours")
            + ".",
        )


@dataclass(frozen=True)
class Exhibit:
    """One thing that is shown, or why it is not.

    Attributes:
        section: What it is about.
        name: Of its files.
        title: Heading.
        draw: From whether panels stand one above the other, for narrow screens, to the figure;
            `None` for tables alone.
        caption: What the figure shows: subject, n, interval, diverged and missing runs.
        finding: What the runs show, in a sentence or two.
        tables: Name of a file -> what stands in it.
        numbers: Name of a CSV file -> its rows.
        left_out: Why there is nothing to show; "" if there is.
        claims: Whether its tables judge the paper's claims, which are shown first.
    """

    section: Section
    name: str
    title: str
    draw: Callable[[bool], Figure] | None = None
    caption: str = ""
    finding: str = ""
    tables: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    numbers: dict[str, pd.DataFrame] = field(default_factory=dict)
    left_out: str = ""
    claims: bool = False

    @property
    def id(self) -> str:
        """Where its files are below the output, without their endings."""
        return f"{self.section.name}/{self.name}"


def collect(results: Results) -> list[Exhibit]:
    """Returns all exhibits, section by section.

    After what is to come first, what took longest does, and last what has a page of its own in the
    documentation. In a section the families come in the order of their places.
    """
    modules = [
        importlib.import_module(f"{rooms.__name__}.{found.name}")
        for found in pkgutil.iter_modules(rooms.__path__)
    ]
    families = sorted((m for m in modules if hasattr(m, "exhibits")), key=lambda m: m.PLACE)
    found = [exhibit for family in families for exhibit in family.exhibits(results)]
    names = [
        *(protocol.name for protocol in results.protocols),
        *(one.section.name for one in found),
    ]

    def place(one):
        section = one.section
        return not section.first, section.page != "", names.index(section.name)

    return sorted(found, key=place)


def write(exhibit: Exhibit, output: Path, formats: Iterable[str] = FORMATS) -> list[str]:
    """Write an exhibit's figure and tables; return the files' names below the output.

    Each picture is drawn once for all formats, and once more, as SVG, for narrow screens.
    """
    if exhibit.left_out:
        return []
    written = {}
    if exhibit.draw:
        figure = exhibit.draw(False)
        written |= {f"{exhibit.id}.{kind}": render(figure, kind) for kind in formats}
        if "svg" in formats:
            written[f"{exhibit.id}_narrow.svg"] = render(exhibit.draw(True), "svg")
    folder = exhibit.section.name
    for name, parts in exhibit.tables.items():
        text = "\n\n".join(part.markdown() for part in parts)
        written[f"{folder}/{name}.md"] = f"{text}\n"
    for name, content in written.items():
        files.write(output / name, content)
    for name, rows in exhibit.numbers.items():
        files.write_csv(output / folder / f"{name}.csv", rows, "%.4f")
    return [*written, *(f"{folder}/{name}.csv" for name in exhibit.numbers)]


def write_all(shown: list[Exhibit], output: Path, formats: Iterable[str] = FORMATS) -> dict:
    """Write exhibits, captions and findings of each section, and the index; return the index.

    Files that the former index names and this one does not are removed.
    """
    sections = {exhibit.section.name: exhibit.section for exhibit in shown}
    entries = [{**_entry(exhibit), "files": write(exhibit, output, formats)} for exhibit in shown]
    index = {"sections": {n: asdict(s) for n, s in sections.items()}, "exhibits": entries}
    for name, section in sections.items():
        of = [exhibit for exhibit in shown if exhibit.section.name == name]
        _write_words(output / name, of, section.notes)
    path = output / INDEX
    former = json.loads(path.read_text(encoding="utf-8"))["exhibits"] if path.exists() else []
    now = {name for entry in entries for name in entry["files"]}
    for name in {name for entry in former for name in entry["files"]} - now:
        (output / name).unlink(missing_ok=True)
    files.write(path, json.dumps(index, indent=1) + "\n")
    return index


def _write_words(folder, shown, notes):
    """Write all captions of a section, the notes once after them, and its findings as a list."""
    drawn = [exhibit for exhibit in shown if exhibit.draw]
    if not drawn:
        return
    words = ["\n\n".join(filter(None, (e.caption, e.finding))) for e in drawn]
    words += [exhibit.left_out for exhibit in shown if exhibit.left_out]
    files.write(folder / "captions.md", "\n\n".join([*words, *notes]) + "\n")
    findings = "".join(f"- {exhibit.finding}\n" for exhibit in drawn if exhibit.finding)
    if findings:
        files.write(folder / "findings.md", findings)


def _entry(exhibit):
    drawn = exhibit.draw and not exhibit.left_out
    return {
        "section": exhibit.section.name,
        "id": exhibit.id,
        "title": exhibit.title,
        "picture": f"{exhibit.id}.png" if drawn else None,
        "caption": exhibit.caption,
        "finding": exhibit.finding,
        "tables": {
            f"{exhibit.section.name}/{name}.md": [
                {
                    "words": p.words,
                    "columns": list(p.table.columns),
                    "rows": p.table.to_numpy().tolist(),
                }
                for p in parts
                if p.table is not None
            ]
            for name, parts in exhibit.tables.items()
        },
        "left_out": exhibit.left_out,
        "claims": exhibit.claims,
    }
