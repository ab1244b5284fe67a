"""The directive `map`: every package and module, by the first sentence of its docstring."""

import ast
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("brn", "experiments", "paper_figures")


def sentence(path):
    """Returns the first paragraph of a module's docstring, in one line.

    Raises:
        ValueError: if the module has no docstring.
    """
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"Expected a docstring. Received: {path}, which has none.")
    return " ".join(found.split("\n\n")[0].split())


def modules():
    """Returns the modules of each package, folder by folder; a package's `__init__` is first."""
    found = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return sorted(found, key=lambda path: (path.parent, path.name != "__init__.py", path.name))


def page():
    """Returns the map: each package with its sentence, and a list of its modules."""
    lines = [f"**`{path.name}`** {sentence(path)}\n" for path in sorted(ROOT.glob("*.py"))]
    for path in modules():
        if path.name == "__init__.py":
            lines.append(f"\n**`{path.parent.relative_to(ROOT)}/`** {sentence(path)}\n")
        else:
            lines.append(f"- `{path.name}`: {sentence(path)}")
    return "\n".join(lines)


class Map(SphinxDirective):
    """Shows the map."""

    def run(self):
        """Returns the lists."""
        for path in modules():
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(page())


def setup(app):
    """Registers the directive."""
    app.add_directive("map", Map)
    return {"parallel_read_safe": True}
