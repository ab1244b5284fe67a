"""Python files as pages: the docstring, which is Markdown, and then the code."""

import ast
from pathlib import Path

from myst_parser.parsers.sphinx_ import MystParser


class RecipeParser(MystParser):
    """Reads a Python file: the first line of its docstring is the title."""

    supported = ("recipe",)

    def parse(self, inputstring, document):
        """Makes a Markdown page of the file, and parses that."""
        module = ast.parse(inputstring)
        title, _, words = ast.get_docstring(module).partition("\n")
        code = inputstring.splitlines()[module.body[0].end_lineno :]
        page = [
            f"# {title.rstrip('.')}",
            words,
            f"`docs/recipes/{Path(document['source']).name}`:",
            "````python",
            *"\n".join(code).strip().splitlines(),
            "````",
        ]
        super().parse("\n\n".join(page[:3]) + "\n\n" + "\n".join(page[3:]) + "\n", document)


def setup(app):
    """Registers the parser for `.py`."""
    app.add_source_suffix(".py", "recipe")
    app.add_source_parser(RecipeParser)
    return {"parallel_read_safe": True}
