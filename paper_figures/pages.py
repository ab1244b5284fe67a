"""Pages written by hand, into which files of the output are put.

The place of a file lies between `<!-- file PATH -->` and `<!-- end -->`, each in a line of its own.
"""

import re
from pathlib import Path

_PLACE = re.compile(r"^(<!-- file (\S+) -->\n).*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE)


def with_files(page: str, folder: Path) -> str:
    """Fill every place with its file of a folder, in paragraphs of its own, if it is there."""

    def fill(place):
        path = folder / place[2]
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        return f"{place[1]}\n{text}\n\n{place[3]}"

    return _PLACE.sub(fill, page)
