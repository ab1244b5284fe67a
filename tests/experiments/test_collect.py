"""What the table and the manifest of a protocol say in fields."""

import pytest

from experiments.grid.protocols import PROTOCOLS
from experiments.grid.runs import select_runs
from experiments.records.collect import describe_arm
from experiments.records.measures import parse

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("training_loss", ("training_loss", "", "")),
        ("r_clipped_percent", ("r_clipped_percent", "", "")),
        ("r_clipped_percent_layer_03", ("r_clipped_percent", "layer", "3")),
        ("accuracy_alpha_0.3_percent", ("accuracy_percent", "alpha", "0.3")),
        ("mean_distance_alpha_0.003", ("mean_distance", "alpha", "0.003")),
        ("mean_distance_still", ("mean_distance_still", "", "")),
        ("movement_minibatch_512", ("movement", "minibatch", "512")),
        ("accuracy_minibatch_001_percent", ("accuracy_percent", "minibatch", "1")),
        ("accuracy_classes_04_running_percent", ("accuracy_running_percent", "classes", "4")),
        ("accuracy_mixed_minibatch_percent", ("accuracy_minibatch_percent", "images", "mixed")),
        ("accuracy_noise_1_running_percent", ("accuracy_running_percent", "images", "noise_1")),
        ("minibatch_mean_noise", ("minibatch_mean_noise", "", "")),
        ("training_minibatch_accuracy_percent", ("training_minibatch_accuracy_percent", "", "")),
    ],
)
def test_a_measurement_is_taken_apart_into_what_and_where(name, expected):
    assert parse(name) == expected


def described(arm):
    (run,) = select_runs("tiny_imagenet", [arm], [0])
    return describe_arm(run)


def test_the_structure_of_minibatches_is_the_protocols_or_the_arms():
    structures = {
        "bn-32": (None, None),
        "bn-noniid": (16, 2),
        "bn-halves-4x8": (4, 8),
        "brn-shuffled-4x8": (4, 8),
        "brn-noniid-2x16": (2, 16),
    }
    for arm, structure in structures.items():
        about = described(arm)
        assert (about["labels"], about["images"]) == structure


def test_the_control_has_the_same_normalization_and_structure():
    controls = {
        "bn-noniid": "bn-shuffled",
        "bn-halves": "bn-shuffled",
        "brn-noniid-4x8": "brn-shuffled-4x8",
        "brn-noniid-8x4": None,
        "bn-shuffled": None,
        "bn-32": None,
    }
    assert {arm: described(arm)["control"] for arm in controls} == controls


def test_what_repeats_an_arm_of_the_paper_says_which():
    counterparts = {
        "bn-4": "bn-4",
        "bn-halves-4x8": "bn-halves",
        "bn-noniid-8x4": None,
        "brn-4-full": None,
        "bn-shuffled": None,
    }
    assert {arm: described(arm)["paper"] for arm in counterparts} == counterparts


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_the_data_of_a_protocol_are_no_setting_of_its_runs(protocol):
    assert protocol.classes > 1
    assert protocol.training_images > protocol.classes
    assert not {"classes", "training_images"} & set(protocol.settings())
