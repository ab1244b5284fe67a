"""What `make figures` made, in the pages: its index says what there is.

The directive `claims` shows the verdicts on the paper's claims, `results` all other exhibits that
have no page of their own, and `monitor` the run that `brn.callbacks.RenormMonitor` watched. The
report is copied beside the pages.
"""

import json
import shutil
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "paper_figures" / "output"


def index():
    """Returns the index of all exhibits."""
    path = OUTPUT / "index.json"
    if not path.exists():
        raise FileNotFoundError(f"Expected {path}, which `make figures` writes. Run it first.")
    return json.loads(path.read_text(encoding="utf-8"))


def text_of(name):
    """Returns a text of the output; a table that it starts with is one of numbers."""
    text = (OUTPUT / name).read_text(encoding="utf-8")
    return "{.numbers}\n" + text if text.startswith("|") else text


def exhibit(entry):
    """Returns the Markdown of one exhibit, without a heading."""
    lines = [entry["finding"]]
    if entry["picture"]:
        picture = Path("..") / (OUTPUT / entry["picture"]).relative_to(ROOT)
        lines += [f"![{entry['title']}]({picture})", entry["caption"]]
    lines += [text_of(name) for name, parts in entry["tables"].items() if parts]
    return "\n\n".join(line for line in lines if line)


def claims_page():
    """Returns all verdicts, protocol by protocol."""
    judged = [entry for entry in index()["exhibits"] if entry["claims"]]
    return "\n\n".join(
        f"### {entry['title']}\n\n" + "\n\n".join(text_of(name) for name in entry["tables"])
        for entry in judged
    )


def results_page():
    """Returns a section for each protocol: what came out, then what differs from the paper."""
    found = index()
    lines = []
    for name, section in found["sections"].items():
        entries = [entry for entry in found["exhibits"] if entry["section"] == name]
        shown = [entry for entry in entries if not (entry["claims"] or entry["left_out"])]
        if section["page"] or not shown:
            continue
        lines.append(f"## {section['title']}")
        lines += [text for text in (section["introduction"], section["missing"]) if text]
        for entry in shown:
            lines += [f"### {entry['title']}, {name}", exhibit(entry)]
        lines += [entry["left_out"] for entry in entries if entry["left_out"]]
        if section["notes"]:
            lines += [f"### What differs from the paper, {name}", *section["notes"]]
    return "\n\n".join(lines)


def monitor_page():
    """Returns the sections about the run that was watched, and what that cost."""
    (entry,) = (entry for entry in index()["exhibits"] if entry["section"] == "monitor")
    return "\n\n".join(
        [
            "## In a real run",
            exhibit({**entry, "finding": ""}),
            "## What looking costs",
            entry["finding"],
            "`python -m experiments monitor` measures both again, and `make figures` draws.",
        ]
    )


class _Page(SphinxDirective):
    """Shows what a function returns as Markdown."""

    def run(self):
        """Returns the sections."""
        for path in OUTPUT.rglob("*.md"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(self.page(), allow_section_headings=True)


def copy_report(app, exception):
    """Copies the report beside the pages."""
    if not exception and app.builder.format == "html":
        shutil.copy(OUTPUT / "report.html", app.outdir)


def setup(app):
    """Registers the directives and the copy."""
    pages = {"claims": claims_page, "results": results_page, "monitor": monitor_page}
    for name, page in pages.items():
        app.add_directive(name, type(name.title(), (_Page,), {"page": staticmethod(page)}))
    app.connect("build-finished", copy_report)
    return {"parallel_read_safe": True}
