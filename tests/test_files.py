"""Files are written whole or not at all."""

import pandas as pd
import pytest

import files

pytestmark = pytest.mark.any_backend


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "table.csv"
    files.write(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "\ud800")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_has_its_numbers_as_they_are_or_in_a_format(tmp_path):
    table = pd.DataFrame({"n": [1, 2], "value": [0.123456, None]})
    files.write_csv(tmp_path / "a.csv", table)
    files.write_csv(tmp_path / "b.csv", table, "%.2f")
    assert (tmp_path / "a.csv").read_text() == "n,value\n1,0.123456\n2,\n"
    assert (tmp_path / "b.csv").read_text() == "n,value\n1,0.12\n2,\n"


def test_a_row_takes_the_place_of_the_one_with_its_key_and_leaves_the_others_as_they_are(tmp_path):
    path = tmp_path / "table.csv"
    for what, n, value in (
        ("a", 1, 0.50),
        ("a", 2, "1.50"),
        ("b", "", 3),
        ("a", 1, "NA"),
        ("c", 1, 5),
    ):
        files.put_row(path, {"what": what, "n": n, "value": value}, ("what", "n"))
    assert path.read_text() == "what,n,value\na,1,NA\na,2,1.50\nb,,3\nc,1,5\n"


def test_only_what_killed_writes_of_this_file_left_is_tidied(tmp_path):
    for name in (".a.json.x.partial", ".b.json.x.partial", "a.json"):
        (tmp_path / name).write_text("half")
    files.tidy(tmp_path / "a.json")
    assert {path.name for path in tmp_path.iterdir()} == {".b.json.x.partial", "a.json"}
