"""The directive `results`: findings, figures and table of each scale, made by `make figures`."""

import json
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
            f"```{{image}} {picture}\n:alt: {name} on {scale}\n```",
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


def setup(app):
    """Registers the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
