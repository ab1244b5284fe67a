"""What autodoc is told: docstrings in the Markdown they use, and constructors' arguments."""

import inspect
import re

from sphinx.util.inspect import stringify_signature


def convert(app, what, name, obj, options, lines):
    """Turns the parts of Markdown that docstrings use into reStructuredText, in place."""
    converted, inside = [], False
    for line in lines:
        fence = re.fullmatch(r"( *)```(\w*)", line)
        if fence:
            indent, language = fence.groups()
            converted += [""] if inside else [f"{indent}.. code-block:: {language or 'text'}", ""]
            inside = not inside
        else:
            converted.append(f"    {line}" if inside and line else _text(line))
    lines[:] = converted


def _text(line):
    """Escapes |x|, a substitution to reStructuredText, and parts code from a letter: `Ramp`s."""

    def escaped(found):
        code, letter = found.groups()
        return r"\|" if code is None else f"{code}\\ {letter}" if letter else code

    return re.sub(r"(`[^`]*`)(\w?)|\|", escaped, line)


def constructor(app, what, name, obj, options, signature, returns):
    """Returns a class's arguments as its `__init__` has them; Keras's layers hide them."""
    if what != "class":
        return None
    arguments = inspect.signature(obj.__init__)
    arguments = arguments.replace(parameters=list(arguments.parameters.values())[1:])
    return stringify_signature(arguments, show_annotation=False), None


def setup(app):
    """Registers both; the docstrings are converted before napoleon reads them."""
    app.connect("autodoc-process-docstring", convert, priority=100)
    app.connect("autodoc-process-signature", constructor)
    return {"parallel_read_safe": True}
