"""One HTML page of all exhibits, everything inline, nothing loaded from elsewhere."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATE = "report.html.jinja"


def build(index: dict, output: Path) -> str:
    """Put the page together.

    Args:
        index: As `exhibit.write_all` returns it.
        output: The folder with the pictures that it names.
    """

    def picture(entry, ending):
        data = (output / f"{entry['id']}{ending}.svg").read_bytes()
        return "data:image/svg+xml;base64," + base64.b64encode(data).decode("ascii")

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    entries = index["exhibits"]
    sections = [
        {
            **section,
            "shown": [
                e for e in entries if e["section"] == name and not (e["claims"] or e["left_out"])
            ],
            "left_out": [e["left_out"] for e in entries if e["section"] == name and e["left_out"]],
        }
        for name, section in index["sections"].items()
    ]
    claims = [entry for entry in entries if entry["claims"]]
    template = environment.get_template(TEMPLATE)
    return template.render(sections=sections, claims=claims, picture=picture)


def _marked(text):
    """Turn what Markdown marks as code and as strong into HTML."""
    text = str(escape(text))
    for mark, tag in (("`", "code"), ("**", "strong")):
        parts = text.split(mark)
        text = "".join(f"<{tag}>{p}</{tag}>" if i % 2 else p for i, p in enumerate(parts))
    return Markup(text)
