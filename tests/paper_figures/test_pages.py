"""Marked places of pages written by hand."""

import pytest

from paper_figures import pages

pytestmark = pytest.mark.any_backend
PAGE = """before
<!-- file a/table.md -->
old
<!-- end -->
between
<!-- file missing.md -->
old
<!-- end -->
after
"""


def test_places_are_filled_with_files_and_emptied_without_them(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "table.md").write_text("| new |\n")
    filled = pages.with_files(PAGE, tmp_path)
    assert "old" not in filled
    assert "-->\n\n| new |\n\n<!-- end -->\nbetween" in filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    assert pages.with_files(filled, tmp_path) == filled
