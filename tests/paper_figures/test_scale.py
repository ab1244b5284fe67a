"""The tables of several processes and of the paper's own scale, from made-up numbers."""

import pytest

from paper_figures import exhibit
from paper_figures.exhibits import scale
from paper_figures.load import Results, ResultsError

pytestmark = pytest.mark.any_backend

ROWS = """\
what,arm,processes,quantity,value,unit,made with,commit
smoke against one,bn-4,10,weights differ,1e-07,,Keras 3,abc
smoke against one,bn-4,2,weights differ,2.0e-08,,Keras 3,abc
smoke against one,bn-4,2,losses,0,,Keras 3,abc
process 0 killed,,2,the other ended after,0.3,s,Keras 3,abc
"""
DEMAND = {
    "multiply-adds of an image, forward": 1e9,
    "parameters": 1e6,
    "steps": 3600,
    "images a step": 100,
    "images evaluated": 36_000,
    "training images": 36_000,
    "side of an image": 1000,
    "a JPEG of 500x375": 100,
    "decoding, cutting and resizing an image": 3,
    "flipping and scaling an image": 1,
}


def shown(folder, rows):
    (folder / scale.FILE).write_text(rows)
    return list(scale.exhibits(Results(folder, [], None)))


def with_demand(left_out=None):
    rows = [f'imagenet,,,"{k}",{v},,,abc\n' for k, v in DEMAND.items() if k != left_out]
    return ROWS + "".join(rows)


def test_what_was_compared_with_one_process_is_a_row_by_network_arm_and_number(tmp_path):
    (one,) = shown(tmp_path, ROWS)
    assert list(one.tables) == ["agreement", "processes"]
    (part,) = one.tables["agreement"]
    assert part.table.to_dict("records") == [
        {"network": "smoke", "arm": "bn-4", "processes": "2", "losses": "0"}
        | {"weights differ": "2.0e-08"},
        {"network": "smoke", "arm": "bn-4", "processes": "10", "losses": "-"}
        | {"weights differ": "1e-07"},
    ]
    (part,) = one.tables["processes"]
    assert part.table.to_numpy().tolist() == [
        ["process 0 killed", "", "2", "the other ended after", "0.3 s"]
    ]
    assert one.section.environment == ("Keras 3",)
    written = exhibit.write(one, tmp_path, ["png"])
    assert written == ["scale/agreement.md", "scale/processes.md"]


def test_the_plan_follows_from_what_was_counted_and_the_assumed_devices(tmp_path):
    (one,) = shown(tmp_path, with_demand())
    needs = dict(one.tables["demand"][0].table.to_numpy().tolist())
    assert needs["a step, with the gradient"] == "1 TFLOP"  # 3 x 2e9 x 100 are 0.6
    assert needs["an arm"] == "2.2e+15 FLOP in 3,600 steps, 10 epochs"
    assert needs["its evaluations"] == "7.2e+13 FLOP, 3 % more"
    assert needs["an epoch of JPEGs"] == "4 GB"
    assert needs["the same decoded"] == "108 GB"
    assert needs["images that a core makes"] == "250 a second"
    rows = one.tables["plan"][0].table.set_index("devices")
    # 0.6e12 / 50e12 s a step, 3600 times, and 0.72e14 / 50e12 s for the evaluations
    assert rows.loc["1"].tolist()[:3] == ["0.012 s", "-", "0.012 h"]
    assert rows.loc["1"].tolist()[5:] == ["33", "833 MB/s"]  # 100 images in 0.012 s
    # 2 x 4 MB, four fifths of them, over 10 GB/s
    assert rows.loc["5"].tolist()[:2] == ["0.0024 s", "0.00064 s"]


def test_a_number_that_was_not_counted_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"none for steps\. Run `python -m experiments demand`"):
        shown(tmp_path, with_demand(left_out="steps"))


def test_without_measurements_there_is_no_exhibit(tmp_path):
    assert list(scale.exhibits(Results(tmp_path, [], None))) == []
