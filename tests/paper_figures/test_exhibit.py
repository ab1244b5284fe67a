"""The command line, on made-up results: what is written, the index and the report."""

import json
import os
from html.parser import HTMLParser

import pandas as pd
import pytest
from figures_fixtures import protocol_of, rows_of, write_results

import files
from paper_figures import exhibit
from paper_figures.__main__ import main
from paper_figures.exhibit import Exhibit, Part, Section

pytestmark = pytest.mark.any_backend

PICTURES = {
    f"figure_{number}{ending}"
    for number in (1, 2, 3)
    for ending in (".pdf", ".svg", ".png", "_narrow.svg")
}
TEXTS = {"captions.md", "findings.md", "paper_rows.md", "table.csv"}
MAGIC = {"pdf": b"%PDF-", "png": b"\x89PNG", "svg": b"<?xml"}


class Page(HTMLParser):
    """Collects a page's tags and text, and checks that every tag is closed in order."""

    EMPTY = ("meta", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def run(results, output, *arguments):
    return main(["--results", str(results), "--output", str(output), *arguments])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The output folder of one complete protocol, and the folder of its results."""
    folder = tmp_path_factory.mktemp("complete")
    results = write_results(folder / "results")
    assert run(results, folder / "output") == 0
    return folder / "output", results


def test_every_file_is_written_and_nothing_else(drawn):
    output, _ = drawn
    names = {path.name for path in output.iterdir()}
    assert names == {"made-up", "paper", "report.html", "index.json"}
    assert {path.name for path in (output / "made-up").iterdir()} == PICTURES | TEXTS
    for name in PICTURES:
        assert (output / "made-up" / name).read_bytes().startswith(MAGIC[name[-3:]])


def test_one_figure_alone_has_the_same_bytes_without_date_or_version(drawn, tmp_path, capsys):
    output, results = drawn
    assert run(results, tmp_path, "--figure", "figure_2") == 0
    written = {path.name for path in tmp_path.rglob("*.*")}
    assert written == {name for name in PICTURES if name.startswith("figure_2")}
    for path in tmp_path.rglob("*.*"):
        data = path.read_bytes()
        assert data == (output / path.relative_to(tmp_path)).read_bytes()
        for word in (b"CreationDate", b"dc:date", b"Matplotlib v", b"matplotlib.org"):
            assert word not in data
    assert f"wrote {tmp_path}/made-up/figure_2.png\n" in capsys.readouterr().out


def test_an_unknown_figure_is_refused_with_those_there_are(drawn, tmp_path, capsys):
    assert run(drawn[1], tmp_path, "--figure", "figure_7") == 1
    error = capsys.readouterr().err
    assert "from made-up/figure_1, made-up/figure_2" in error
    assert "Received: --figure figure_7." in error


def test_the_index_says_what_there_is_with_its_words_and_files(drawn):
    index = json.loads((drawn[0] / "index.json").read_text())
    assert list(index["sections"]) == ["made-up", "paper"]
    entries = {entry["id"]: entry for entry in index["exhibits"]}
    assert list(entries) == [
        *(f"made-up/figure_{number}" for number in (1, 2, 3)),
        "made-up/table",
        "made-up/clipping",
        "paper/reported",
    ]
    first = entries["made-up/figure_1"]
    assert first["picture"] == "made-up/figure_1.png"
    assert first["finding"].startswith("Figure 1, made-up: brn-32 ends 0.5 points above bn-32")
    (part,) = entries["made-up/table"]["tables"]["made-up/paper_rows.md"]
    assert part["rows"][0][0] == "bn-32"
    for entry in index["exhibits"]:
        assert all((drawn[0] / name).exists() for name in entry["files"])


def test_the_report_is_one_whole_page_that_loads_nothing(drawn):
    text = (drawn[0] / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    loads = [value for _, attributes in page.tags for name, value in attributes.items()
             if name in ("src", "srcset", "href", "data", "action")]  # fmt: skip
    inside = {value for value in loads if value.startswith("#")}
    assert len(loads) - len(inside) == 6  # three figures, each wide and narrow
    assert all(v.startswith("data:image/svg+xml;base64,") for v in set(loads) - inside)
    assert inside <= {f"#{attributes.get('id')}" for _, attributes in page.tags}
    assert not any(word in text for word in ("<script", "<link", "@import", "url("))


def test_the_report_has_results_before_caveats_and_says_each_once(drawn):
    index = json.loads((drawn[0] / "index.json").read_text())
    words = "".join(Page((drawn[0] / "report.html").read_text()).words)
    for entry in index["exhibits"]:
        assert entry["caption"] in words
        assert entry["finding"] in words
    for part in (
        "optimizer",
        "no machine at all",
        "21 of 21 runs have ended, 0 of them diverged; 1.2 core-hours.",
        "Ioffe 2017, arXiv:1702.03275v2",
        "78.6 in the legend of figure 3",
    ):
        assert part in words
    note = "Its numbers are <made up> & mean nothing."
    assert words.count(note) == 1
    assert words.index(note) > words.index(index["exhibits"][2]["finding"])


def test_a_missing_run_fails_by_name_and_writes_nothing(tmp_path, capsys):
    rows = [row for seed in (0, 2) for row in rows_of("bn-4", seed)]
    write_results(tmp_path / "results", ["bn-4"], rows=rows)
    assert run(tmp_path / "results", tmp_path / "output") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Missing: made-up-bn-4-s1." in captured.err
    assert not (tmp_path / "output").exists()


def test_what_is_there_is_drawn_and_what_the_manifest_calls_missing_is_named(tmp_path, capsys):
    lost = [f"made-up-{arm}-s{seed}" for arm in ("bn-4", "bn-halves") for seed in (0, 1, 2)]
    lost += ["made-up-brn-32-s1", "made-up-bn-32-s0", "made-up-bn-32-s2"]
    write_results(tmp_path / "results", missing=lost)
    output = tmp_path / "output"
    assert run(tmp_path / "results", output) == 0
    words = (output / "made-up" / "captions.md").read_text()
    for part in (
        "Not finished, so not in it: bn-32 seeds 0, 2; brn-32 seed 1.",
        "mean of n = 1 to 2 seeds",
        "no seed was measured both for brn-32 and bn-32",
        "Not finished, so not in it: bn-4 seeds 0, 1, 2.",
        "Figure 3, made-up: brn-noniid ends 24.9 points above bn-noniid (n = 3,",
        "no seed was measured both for bn-halves and bn-noniid",
    ):
        assert part in words
    shown = (output / "made-up" / "paper_rows.md").read_text()
    assert "| bn-4 | 74.2 at 210k | 73.7 | missing | missing | - |" in shown
    assert "| 1 of 3 |\n" in shown
    page = "".join(Page((output / "report.html").read_text()).words)
    assert "9 of 21 runs are missing" in page
    assert "Missing: bn-32 seeds 0, 2; brn-32 seed 1; bn-4 seeds 0, 1, 2; bn-halves" in page
    assert capsys.readouterr().err == ""


def test_files_of_what_is_left_out_now_are_removed_and_no_others(tmp_path):
    section = Section("room", "A room")
    table = {"rows": (Part("Rows:"),)}
    exhibit.write_all([Exhibit(section, "one", "One", tables=table)], tmp_path)
    (tmp_path / "room" / "notes.md").write_text("mine")
    assert (tmp_path / "room" / "rows.md").read_text() == "Rows:\n"
    exhibit.write_all([Exhibit(section, "one", "One", left_out="No runs.")], tmp_path)
    assert {path.name for path in (tmp_path / "room").iterdir()} == {"notes.md"}


def test_arms_of_one_figure_draw_that_figure_and_say_why_not_the_others(tmp_path, capsys):
    write_results(tmp_path / "results", ["bn-4", "brn-4", "bn-noniid"])
    assert run(tmp_path / "results", tmp_path / "output", "--formats", "png") == 0
    pictures = {path.name for path in (tmp_path / "output").rglob("*.png")}
    assert pictures == {"figure_2.png"}
    reasons = [
        "Figure 1 is left out: the protocol made-up does not run bn-32, brn-32.",
        "Figure 3 is left out: the protocol made-up does not run brn-noniid, bn-halves with 16 x "
        "2.",
    ]
    written = capsys.readouterr().out
    captions = (tmp_path / "output" / "made-up" / "captions.md").read_text()
    assert all(reason in written and reason in captions for reason in reasons)


def test_one_message_names_what_is_wrong_with_every_protocol(tmp_path, capsys):
    write_results(tmp_path, protocol="good")
    assert run(tmp_path, tmp_path / "output", "--protocol", "bad", "good", "worse") == 1
    error = capsys.readouterr().err
    assert error.startswith("paper_figures: ")
    assert "run --protocol bad`" in error
    assert "run --protocol worse`" in error


def test_a_part_is_words_a_table_or_both():
    table = pd.DataFrame([{"alpha": "0.1", "loss": "2"}])
    rows = "| alpha | loss |\n| --- | --- |\n| 0.1 | 2 |"
    assert Part("new:", table).markdown() == f"new:\n\n{rows}"
    assert Part(table=table).markdown() == rows
    assert Part("(n = 1.)").markdown() == "(n = 1.)"


def test_an_interrupted_write_leaves_the_former_file(drawn, tmp_path, monkeypatch):
    path = tmp_path / "made-up" / "figure_1.png"
    files.write(path, "former")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        run(drawn[1], tmp_path, "--formats", "png")
    assert path.read_text() == "former"
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_run_is_named_beside_the_missing_ones():
    protocol = protocol_of({"bn-32": [1, 2, 3]}, missing=[("brn-32", 0)])
    assert "cannot be read" not in Section.of(protocol).missing
    protocol.manifest["damaged"] = ["made-up-brn-32-s0"]
    assert Section.of(protocol).missing.endswith("cannot be read: made-up-brn-32-s0.")
