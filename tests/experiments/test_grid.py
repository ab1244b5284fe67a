"""The grid of runs is data: ids, configurations, and the paper's arms."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from experiments.grid import arms, protocols, runs
from experiments.grid.normalizations import UNBOUNDED, Bounds, Normalization
from experiments.grid.runs import Run, select_runs
from experiments.records import collect

pytestmark = pytest.mark.any_backend

RESULTS = Path(__file__).parents[2] / "results"
PAPER = RESULTS / "paper.csv"


def test_arms_are_those_of_the_paper():
    with PAPER.open() as file:
        rows = list(csv.DictReader(file))
    assert {arm.name for arm in arms.PAPER} == {row["arm"] for row in rows}
    for arm in arms.PAPER:
        of_arm = [row for row in rows if row["arm"] == arm.name]
        assert {row["section"] for row in of_arm} == {arm.section}
        assert {int(row["figure"]) for row in of_arm} == {arm.figure}
        statistics = any(row["measure"].startswith("minibatch_statistics") for row in of_arm)
        assert arm.minibatch_statistics == statistics


def test_ids_name_scale_arm_and_seed():
    runs = select_runs("smoke", arms=["brn-4", "bn-32"], seeds=[3])
    assert [run.id for run in runs] == ["smoke-brn-4-s3", "smoke-bn-32-s3"]
    assert len(select_runs("smoke")) == len(arms.PAPER) * 2


def test_an_arm_of_several_studies_is_run_once(monkeypatch):
    studies = (
        arms.Study("first", "", arms.PAPER[:2], (0, 1)),
        arms.Study("second", "", arms.PAPER[1:3], (1, 2)),
    )
    protocol = dataclasses.replace(protocols.SMOKE, studies=studies)
    monkeypatch.setattr(runs, "PROTOCOLS", (protocol,))
    ids = ["bn-32-s0", "bn-32-s1", "brn-32-s0", "brn-32-s1", "brn-32-s2", "bn-4-s1", "bn-4-s2"]
    assert [run.id for run in select_runs("smoke")] == [f"smoke-{name}" for name in ids]
    second = select_runs("smoke", studies=["second"])
    assert [run.id for run in second] == [f"smoke-{name}" for name in ids[3:]]


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS, ids=lambda protocol: protocol.name)
def test_changes_of_arms_are_settings_and_keep_the_minibatch(protocol):
    for arm in protocol.arms.values():
        changed = Run(protocol, arm, 0).effective_protocol.settings()
        different = {name for name, value in protocol.settings().items() if changed[name] != value}
        assert different <= set(arm.changes)
        assert changed["labels_per_minibatch"] * changed["images_per_label"] == protocols.MINIBATCH


def test_every_committed_run_has_the_configuration_of_the_grid():
    known = {run.id: run for protocol in protocols.PROTOCOLS for run in select_runs(protocol.name)}
    files = sorted((RESULTS / "runs").rglob("*.json"))
    assert len(files) > 200
    for file in files:
        written = json.loads(file.read_text())["config"]
        assert written == json.loads(json.dumps(known[file.stem].config())), file.stem


@pytest.mark.parametrize(
    ("bounds", "written"),
    [
        (Bounds(), "paper"),
        (Bounds(3, 5), "3/5"),
        (Bounds(1.5, 0.5), "1.5/0.5"),
        (UNBOUNDED, "inf/inf"),
        (Bounds(none_after=0.1), "none after 0.1"),
    ],
)
def test_a_normalization_is_written_as_run_files_hold_it(bounds, written):
    settings = Normalization("brn", 4, bounds).settings()
    assert settings == {"normalization": "brn", "bounds": written, "group": 4}


def test_a_normalization_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="kind='ln'"):
        Normalization("ln")
    with pytest.raises(ValueError, match="group=0"):
        Normalization("bn", 0)
    with pytest.raises(ValueError, match=r"r_max=3, d_max=None"):
        Bounds(3)
    with pytest.raises(ValueError, match=r"none_after=0\.5"):
        Bounds(3, 5, none_after=0.5)


def test_every_setting_of_the_papers_scale_says_where_it_is_from():
    sources = protocols.SOURCES[protocols.IMAGENET.name]
    assert set(sources) == set(protocols.IMAGENET.settings())
    kinds = {source.split()[0] for source in sources.values()}
    assert kinds == {"paper:", "chosen:", "nothing"}
    decay = 0.94 ** (protocols.IMAGENET.steps * 50 * 32 / 1_281_167 / 2)
    assert protocols.IMAGENET.learning_rate_decay == pytest.approx(decay, rel=0.01)


def test_the_papers_scale_has_all_arms_both_structures_and_synchronized_statistics():
    names = set(protocols.IMAGENET.arms)
    assert {arm.name for arm in (*arms.PAPER, *arms.CONTROLS)} <= names
    synchronized = select_runs("imagenet", ["bn-synchronized"])[0].config()
    assert (synchronized["normalization"], synchronized["group"]) == ("bn", None)


def test_structured_arms_and_their_controls():
    arm = arms.structured(arms.CONTROLS[0], 4, 8)
    assert (arm.name, arm.sampling, arm.normalization.kind) == ("bn-shuffled-4x8", "shuffled", "bn")
    config = Run(protocols.SMOKE, arm, 0).config()
    assert (config["labels_per_minibatch"], config["images_per_label"]) == (4, 8)
    assert config["test_labels_per_minibatch"] == 6


def test_validation_minibatches_can_hold_fewer_images_of_a_label():
    by_name = protocols.OMNIGLOT_CHAIN.arms
    run = Run(protocols.OMNIGLOT_CHAIN, by_name["bn-noniid-4x8"], 0)
    assert run.effective_protocol.test_structure == (12, 4)
    assert run.config()["images_per_label"] == 8
    assert protocols.OMNIGLOT_CHAIN.test_structure == (25, 2)
    # It is only evaluated in another way, so its control is still the one that was trained like it.
    assert collect.describe_arm(run)["control"] == "bn-shuffled-4x8"


def test_configurations_differ_between_arms_by_normalization_and_sampling_only():
    first, second = (run.config() for run in select_runs("smoke", ["bn-4", "brn-noniid"], [0]))
    different = {name for name in first if first[name] != second[name]}
    assert different == {"arm", "normalization", "group", "sampling"}
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (("cifar",), "--protocol cifar"),
        (("smoke", ["bn-8"]), "--arms bn-8"),
        (("smoke", None, [-1]), "--seeds -1"),
        (("smoke", None, None, ["speed"]), "--studies speed"),
    ],
)
def test_unknown_names_are_refused(arguments, received):
    with pytest.raises(ValueError, match=received):
        select_runs(*arguments)
