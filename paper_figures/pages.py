"""Pages written by hand, in which marked places are filled in.

A place lies between `<!-- NAME -->` and `<!-- end -->`, each in a line of its own.
"""

import re
from pathlib import Path


def put(page: str, name: str, text: str) -> str:
    """Replace what is in the place of this name; the text stands in paragraphs of its own."""
    marks = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
    return re.sub(marks, lambda m: f"{m[1]}\n{text.strip()}\n\n{m[2]}", page, flags=re.DOTALL)


def with_files(page: str, folder: Path) -> str:
    """Fill every place `<!-- file PATH -->` with that file of a folder, if it is there."""
    for name in re.findall(r"^<!-- (file \S+) -->$", page, re.MULTILINE):
        path = folder / name.removeprefix("file ")
        page = put(page, name, path.read_text(encoding="utf-8") if path.is_file() else "")
    return page
