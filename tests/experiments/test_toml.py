"""Protocols from files: what they change, and what they refuse with the nearest right names."""

import dataclasses
import json

import pytest

from experiments.grid import protocols, toml
from experiments.grid.runs import Run, protocol_named, select_runs

pytestmark = pytest.mark.any_backend


@pytest.fixture
def file(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


WHOLE = """
base = "tiny_imagenet"
source = "folder:photos"
classes = 4
training_images = 800
steps = 300
learning_rate = 1
seeds = [0, 7]

[arms.bn-4]
[arms.brn-4]

[arms.brn-4-wide]
base = "brn-4"
bounds = "6/10"
alpha = 0.02
"""


def test_a_file_changes_what_it_says_and_nothing_else(file):
    protocol = protocol_named(file(WHOLE))
    assert protocol.name == "mine"
    changed = {"source": "folder:photos", "steps": 300, "learning_rate": 1.0}
    assert protocol.settings() == protocols.TINY_IMAGENET.settings() | changed
    assert isinstance(protocol.learning_rate, float)
    runs = select_runs(protocol)
    assert [run.id for run in runs] == [
        f"mine-{arm}-s{seed}" for arm in ("bn-4", "brn-4", "brn-4-wide") for seed in (0, 7)
    ]
    own = runs[-1].config()
    assert (own["normalization"], own["group"], own["bounds"], own["alpha"]) == (
        "brn", 4, "6/10", 0.02,
    )  # fmt: skip
    assert json.loads(json.dumps(own)) == own
    assert runs[-1].arm.figure is None


def test_a_group_can_be_all_images_of_a_step(file):
    protocol = protocol_named(file('base = "smoke"\n[arms.synchronized]\ngroup = "all"'))
    assert protocol.arms["synchronized"].normalization.group is None


def test_arms_keep_their_studies_and_others_get_one(file):
    protocol = protocol_named(file(WHOLE))
    studies = {study.name: [arm.name for arm in study.arms] for study in protocol.studies}
    assert studies["paper"] == ["bn-4", "brn-4"]
    assert studies["bounds"] == ["brn-4"]
    assert "high-rate" not in studies
    assert studies[toml.OWN] == ["brn-4-wide"]
    assert {study.seeds for study in protocol.studies} == {(0, 7)}


def test_without_arms_and_seeds_they_are_the_base_s(file):
    protocol = protocol_named(file('base = "smoke"'))
    assert protocol.studies == protocols.SMOKE.studies
    assert protocol.settings() == protocols.SMOKE.settings()


def test_arms_of_other_protocols_can_be_named(file):
    protocol = protocol_named(file('base = "smoke"\narms = ["gn", "bn-32"]'))
    assert list(protocol.arms) == ["bn-32", "gn"]


def test_a_setting_for_a_quick_try_names_its_runs():
    protocol = protocol_named("smoke", ["steps=4", 'source="folder:a b"', "classes=2",
                                        "training_images=40", "padding=reflect"])  # fmt: skip
    assert (protocol.steps, protocol.source, protocol.padding) == (4, "folder:a b", "reflect")
    assert protocol.name == (
        "smoke+steps=4+source=folder_a_b+classes=2+training_images=40+padding=reflect"
    )
    assert Run(protocol, protocol.arms["bn-32"], 0).config()["scale"] == protocol.name


def test_an_arm_of_another_protocol_is_known_by_its_name(file):
    names = ["brn-2", "bn-shuffled-16", "brn-4-alpha-0.01"]
    assert list(protocol_named(file(f'base = "smoke"\narms = {names}')).arms) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = [", "to be a protocol in TOML"),
        ("", r"base=None\. There are: smoke, digits"),
        ('base = "tiny_imagenett"', r"Nearest: tiny_imagenet,"),
        ('base = "smoke"\nstpes = 5', r"Received: stpes=5\. Nearest: steps"),
        ('base = "smoke"\nname = "x"', "Received: name='x'"),
        ('base = "smoke"\nsteps = 0', r"steps at least 1\. Received: steps=0"),
        ('base = "smoke"\nsteps = true', r"a whole number\. Received: steps=True"),
        ('base = "smoke"\nsteps = 1.5', r"a whole number\. Received: steps=1\.5"),
        ('base = "smoke"\nflip = 1', r"true or false\. Received: flip=1"),
        ('base = "smoke"\nlearning_rate = nan', r"learning_rate above 0\. Received: .*nan"),
        ('base = "smoke"\nalpha = 2', r"up to 1\. Received: alpha=2\.0"),
        ('base = "smoke"\npadding = "reflekt"', r"'reflekt'\. Nearest: reflect"),
        ('base = "smoke"\nnetwork = "inception_v4"', r"Nearest: inception_v3"),
        ('base = "smoke"\nwidth = 0', "width=0"),
        ('base = "smoke"\nlabels_per_minibatch = 8', r"8 x 2 = 16"),
        ('base = "smoke"\nsource = "folder:x"', "classes and training_images of the new source"),
        ('base = "smoke"\nseeds = []', r"seeds=\[\]"),
        ('base = "smoke"\nseeds = [0, 0]', r"seeds=\[0, 0\]"),
        ('base = "smoke"\nseeds = 3', "seeds=3"),
        ('base = "smoke"\narms = []', r"at least one arm"),
        ('base = "smoke"\narms = ["brn4"]', r"arms='brn4'\. Nearest: brn-4"),
        ('base = "smoke"\narms = [4]', "list of texts"),
        ('base = "smoke"\n[arms.brn-4]\ngroup = 8', r"name of its own.*'brn-4', .*its table empty"),
        ('base = "smoke"\n[arms.x]\ngruop = 8', r"arm x: .* setting='gruop'\. Nearest: group"),
        ('base = "smoke"\n[arms.x]\ngroup = 5', r"divides the 64 images.*group=5"),
        ('base = "smoke"\n[arms.x]\nnormalization = "bnr"', "Nearest: b"),
        ('base = "smoke"\n[arms.x]\nsampling = "iidd"', "Nearest: iid"),
        ('base = "smoke"\n[arms.x]\nbounds = "0.5/1"', "bounds='0.5/1'"),
        ('base = "smoke"\n[arms.x]\ngroup = 0', "arm x: .*group=0"),
        ('base = "smoke"\n[arms.x]\ngroup = "every"', "group='every'"),
        ('base = "smoke"\n[arms.x]\nbounds = "wide"', "bounds='wide'"),
        ('base = "smoke"\n[arms.x]\nsteps = 9', "set for all of them. Received: steps=9"),
        ('base = "smoke"\n[arms.x]\nbase = "brn-5"', "Nearest: brn-"),
        ('base = "smoke"\n[arms.x]\nimages_per_label = 4', r"arm x: .*16 x 4 = 64"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest_that_can(file, text, message):
    path = file(text)
    with pytest.raises(ValueError, match=message) as caught:
        protocol_named(path)
    assert path in str(caught.value)


@pytest.mark.parametrize("name", ["smoke.toml", "a b.toml", "a+b.toml"])
def test_results_are_named_after_the_file_so_its_name_is_checked(file, name):
    with pytest.raises(ValueError, match=r"Received: '(smoke|a b|a\+b)'"):
        protocol_named(file('base = "smoke"', name))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.toml .*No such file"):
        protocol_named(str(tmp_path / "absent.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.toml .*decode"):
        protocol_named(str(binary))


@pytest.mark.parametrize("setting", ["steps", "stpes=4", "steps=many", "width=0", "workers=3.5"])
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(ValueError, match=rf"--set.*Received: .*{setting.split('=')[0]}"):
        protocol_named("smoke", [setting])


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS, ids=lambda protocol: protocol.name)
def test_every_setting_there_is_could_have_been_written(protocol):
    for field in dataclasses.fields(protocol):
        if field.name not in ("name", "studies"):
            value = getattr(protocol, field.name)
            written = list(value) if field.name == "notes" else value
            assert toml.checked(field.name, written, "here") == value
    for arm in protocol.arms.values():
        toml._check_arm(protocol, arm, "here")
