"""The claims in short: rows of the verdict tables, in words."""

from pathlib import Path

import pytest
from figures_fixtures import protocol_of

from paper_figures import claims
from paper_figures.exhibits import headline
from paper_figures.load import MINIBATCH, VALIDATION, load_paper

pytestmark = pytest.mark.any_backend

RESULTS = Path(__file__).parents[2] / "results"


def rows_of(name, measured, paper=None, **named):
    protocol = protocol_of(measured, **named)
    judged = {name: (protocol, claims.judge(protocol, paper))}
    found = list(headline.exhibit(judged))
    return found[0].tables["claims"][0].table.set_index("claim") if found else None


def test_a_row_has_the_judgement_in_words_beside_the_papers_end():
    measured = {"bn-32": [30, 40, 50], "bn-4": [27, 35, 43]}
    row = rows_of("tiny_imagenet", measured, load_paper(RESULTS)).iloc[0]
    assert row.name == "Over only 4 BN loses accuracy (BN over 32 - BN over 4 > 1)"
    assert row["ours [95 % interval]"] == "5.0 [0.0, 10.0]"
    assert row["the paper, at its end"] == "4.5"  # 78.2 and 73.7, the last points of its curves
    assert row["n"] == "3"
    assert row["verdict"] == "not decided"


def test_a_verdict_that_holms_correction_takes_says_so():
    measured = {"bn-32": [20.0, 21.0, 22.3], "bn-4": [17, 18, 19]}
    row = rows_of("tiny_imagenet", measured).iloc[0]
    assert row["verdict"] == "reproduced; not decided by Holm's correction"


def test_a_row_without_enough_runs_is_left_out_and_one_with_some_says_so():
    measured = {"bn-32": [20] * 3, "brn-32": [20] * 3, "bn-4": [10] * 2}
    rows = rows_of("tiny_imagenet", measured, missing=[("brn-32", 3), ("bn-32", 3)])
    assert rows["n"].tolist() == ["3 of 4"]
    assert rows.index[0].startswith("Over 32 examples")


def test_of_the_stage_the_row_that_was_judged_is_shown(monkeypatch):
    early = headline.Row("omniglot", "E1", "16 x 2", "Early", "averages - minibatch statistics")
    monkeypatch.setattr(headline, "ROWS", (early,))
    measured = {("bn-noniid", VALIDATION): [10] * 3, ("bn-noniid", MINIBATCH): [8] * 3}
    (row,) = rows_of("omniglot", measured, workers=400).itertuples()
    assert row.verdict == "reproduced"
    assert row.on == "made up, 26 epochs"


def test_protocols_that_no_row_is_about_have_no_table():
    assert rows_of("test_time", {"bn-32": [20] * 3, "brn-32": [20] * 3}) is None


def test_there_are_at_most_eight_rows_and_each_is_of_a_claim():
    assert len(headline.ROWS) <= 8
    names = {c.name for c in (*claims.criteria.END, *claims.criteria.STAGE, *claims.criteria.DEPTH)}
    assert {row.claim for row in headline.ROWS} <= names
