"""The grid of runs is data: ids, configurations, and the paper's arms."""

import csv
import json
from pathlib import Path

import pytest

from experiments import grid

PAPER = Path(__file__).parent.parent / "results" / "paper.csv"


def test_arms_are_those_of_the_paper():
    with PAPER.open() as file:
        rows = list(csv.DictReader(file))
    assert {arm.name for arm in grid.ARMS} == {row["arm"] for row in rows}
    for arm in grid.ARMS:
        of_arm = [row for row in rows if row["arm"] == arm.name]
        assert {row["section"] for row in of_arm} == {arm.section}
        assert {int(row["figure"]) for row in of_arm} == {arm.figure}
        statistics = any(row["measure"].startswith("minibatch_statistics") for row in of_arm)
        assert arm.minibatch_statistics == statistics


@pytest.mark.parametrize("scale", grid.SCALES, ids=lambda scale: scale.name)
def test_a_structured_minibatch_has_32_examples(scale):
    assert scale.labels_per_minibatch * scale.images_per_label == grid.MINIBATCH


def test_ids_name_scale_arm_and_seed():
    runs = grid.runs("smoke", arms=["brn-4", "bn-32"], seeds=[3])
    assert [run.id for run in runs] == ["smoke-brn-4-s3", "smoke-bn-32-s3"]
    assert len(grid.runs("smoke")) == len(grid.ARMS) * 2


def test_configurations_differ_between_arms_by_normalization_and_sampling_only():
    first, second = (run.config() for run in grid.runs("smoke", ["bn-4", "brn-noniid"], [0]))
    different = {name for name in first if first[name] != second[name]}
    assert different == {"arm", "normalization", "group", "sampling"}
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (("cifar",), "--scale cifar"),
        (("smoke", ["bn-8"]), "--arms bn-8"),
        (("smoke", None, [-1]), "--seeds -1"),
    ],
)
def test_unknown_names_are_refused(arguments, received):
    with pytest.raises(ValueError, match=received):
        grid.runs(*arguments)
