"""How Sphinx builds these pages: `make docs` at the repository's root."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_extensions")]

import brn  # noqa: E402

project = "Batch Renormalization"
author = "the repository's contributors"
release = version = brn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "map",
    "recipe",
    "results",
]
exclude_patterns = ["*.py", "_*"]
nitpicky = True
nitpick_ignore_regex = [("py:class", r"(keras|numpy)\..*")]

myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3

default_role = "code"  # docstrings write code between single backquotes
autodoc_typehints = "none"  # the docstrings say more
autodoc_preserve_defaults = True
napoleon_custom_sections = [("Call arguments", "params_style")]
python_maximum_signature_line_length = 60

html_theme = "furo"
html_title = "Batch Renormalization"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
