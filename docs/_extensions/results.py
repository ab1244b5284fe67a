"""What `make figures` made, in the pages.

The directive `results` shows findings, figures and table of each scale, the directive `monitor` the
run that `brn.callbacks.RenormMonitor` watched. The report is copied, its links led to the pages.
"""

import csv
import json
import re
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "paper_figures" / "output"


def scale_page(scale):
    """Returns a section of Markdown about one scale."""
    folder = OUTPUT / scale
    manifest = json.loads((ROOT / "results" / f"{scale}.json").read_text(encoding="utf-8"))
    captions = (folder / "captions.md").read_text(encoding="utf-8").split("\n\n")
    title = manifest["title"]
    lines = [f"## {title[0].upper()}{title[1:]}", *manifest["notes"]]
    for text in captions:
        name, separator, finding = text.partition(f", {scale}: ")
        if not separator:
            continue
        stem = name.lower().replace(", ", "_").replace(" x ", "x").replace(" ", "_")
        picture = Path("..") / (folder / f"{stem}.png").relative_to(ROOT)
        lines += [
            f"### {name}, {scale}",
            finding,
            f"![{name} on {scale}]({picture})",
        ]
    table = (folder / "table.md").read_text(encoding="utf-8")
    lines += [f"### The paper and ours, {scale}", f"{{.numbers}}\n{table}"]
    claims = folder / "claims.md"
    if claims.exists():
        lines += [f"### The paper's claims, {scale}", claims.read_text(encoding="utf-8")]
    return "\n\n".join(lines)


class Results(SphinxDirective):
    """Shows all scales that `paper_figures/output` holds."""

    def run(self):
        """Returns the sections."""
        scales = sorted(path.parent.name for path in OUTPUT.glob("*/table.md"))
        for path in OUTPUT.glob("*/*.md"):
            self.env.note_dependency(str(path))
        pages = [scale_page(scale) for scale in scales]
        return self.parse_text_to_nodes("\n\n".join(pages), allow_section_headings=True)


def monitor_page():
    """Returns the sections of Markdown about the run that was watched, and what that cost."""
    caption = (OUTPUT / "monitor" / "captions.md").read_text(encoding="utf-8")
    lines = [
        "## In a real run",
        "![r between its bounds, and the fractions of r and d that are clipped, over training]"
        "(../paper_figures/output/monitor/clipped.png)",
        caption,
        "## What looking costs",
    ]
    for path in sorted((ROOT / "results").glob("monitor-cost-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines += [
                "In the run {run} on {backend}, a step takes {step_ms:.0f} ms, and one with a look "
                "{probed_step_ms:.0f} ms (medians of {steps} steps, {probes} of them with a look; "
                "{device}, {cores} cores). With a look every {every} steps, the default, that adds "
                "{cost_percent:.1f} % to the time of training.".format(
                    **row
                    | {n: float(row[n]) for n in ("step_ms", "probed_step_ms", "cost_percent")}
                )
                for row in csv.DictReader(file)
            ]
    lines.append("`python -m experiments monitor` measures both again, and `make figures` draws.")
    return "\n\n".join(lines)


class Monitor(SphinxDirective):
    """Shows the figure of the run that was watched, and what looking cost."""

    def run(self):
        """Returns the sections."""
        for path in (OUTPUT / "monitor").glob("*"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(monitor_page(), allow_section_headings=True)


def copy_report(app, exception):
    """Copies the report beside the pages; its links to their sources become links to them."""
    if exception or app.builder.format != "html":
        return
    report = (OUTPUT / "report.html").read_text(encoding="utf-8")
    report = re.sub(r'href="\.\./\.\./docs/([\w-]+)\.md"', r'href="\1.html"', report)
    (Path(app.outdir) / "report.html").write_text(report, encoding="utf-8")


def setup(app):
    """Registers the directives and the copy."""
    app.add_directive("results", Results)
    app.add_directive("monitor", Monitor)
    app.connect("build-finished", copy_report)
    return {"parallel_read_safe": True}
