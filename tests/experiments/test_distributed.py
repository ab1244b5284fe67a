"""Several processes train what one trains: real ones on loopback, each with a device of its own.

What CI runs takes about a minute: one process alone, two of which one is killed, and two that go on
from its checkpoint. The rest is run by hand, whole or in parts, and what it measures goes into the
table from which docs/scale.md is made:

    KERAS_BACKEND=jax python -m pytest -m slow -s tests/experiments/test_distributed.py \
        --measured results/processes.csv [-k noniid]
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from group_fixtures import (
    DIFFERENCE,
    MEDIAN,
    ROOT,
    by_open_mpi,
    by_slurm,
    by_torchrun,
    check_equal,
    check_together,
    difference,
    differences,
    exchange,
    finish,
    lose,
    losses,
    result,
    start,
    weights,
)

from experiments.grid import arms

ON_JAX = pytest.mark.skipif(keras.config.backend() != "jax", reason="a group trains on JAX")
ALL = (*(arm.name for arm in arms.PAPER), "bn-synchronized")
DEEP_ARM = "brn-noniid"
"""With which Inception-v3 is trained."""
VARIANTS = {
    "reversed": "minibatches in reversed order",
    "nudged": "each pixel moved to the next number",
}
PAIRS = [",".join(ALL[number : number + 2]) for number in range(0, len(ALL), 2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process trains without a group."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(folder, None, "brn-noniid"))
    return folder


@ON_JAX
def test_two_processes_train_what_one_trains_also_when_one_is_killed_on_the_way(alone, tmp_path):
    killed = start(tmp_path, 2, "brn-noniid", killed=1, after=3)
    assert lose(killed, 1) < 60
    for read in tmp_path.glob("read-*.txt"):
        read.unlink()
    finish(start(tmp_path, 2, "brn-noniid"))
    check_equal(tmp_path, alone, "brn-noniid", 2)
    reads = [
        {line.split()[0]: line.split()[1:] for line in file.read_text().splitlines()}
        for file in (tmp_path / "read-0.txt", tmp_path / "read-1.txt", alone / "read-0.txt")
    ]
    for step in ("2", "3", "4", "5"):  # from the checkpoint on
        assert reads[0][step] + reads[1][step] == reads[2][step]


COMPILED = """
import sys
import keras, jax
import numpy as np
import brn
from experiments.training.devices import Devices
from experiments.training.group import Group
from experiments.training.launchers import Place

group = Group(Place("localhost", int(sys.argv[1]), 1, 0), "")
devices = Devices(group)
assert devices.number == 2
for layers in (1, 3):
    with devices.distribution.scope():
        inputs = x = keras.Input((4, 4, 2))
        for _ in range(layers):
            x = keras.layers.Conv2D(2, 3, padding="same")(x)
            x = brn.BatchRenormalization(microbatch_size=4)(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = devices.shared(keras.Model(inputs, x), 8)
        model.compile("rmsprop", "mse")
        model.optimizer.build(model.trainable_variables)
        parts = (model.trainable_variables, model.non_trainable_variables)
        state = [[v.value for v in part] for part in (*parts, model.optimizer.variables, [])]
        layout = devices.distribution.get_data_layout((32, 4, 4, 2)).backend_layout
        x = jax.device_put(np.zeros((32, 4, 4, 2), "float32"), layout)
        layout = devices.distribution.get_data_layout((32,)).backend_layout
        y = jax.device_put(np.zeros(32, "int32"), layout)
        text = jax.jit(model.train_step).lower(tuple(state), (x, y)).compile().as_text()
    kinds = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter")
    kinds += ("collective-permute", "collective-broadcast")
    kinds += ("while",)
    print(*(text.count(f" {kind}(") + text.count(f" {kind}-start(") for kind in kinds))
group.leave()
"""


@ON_JAX
def test_a_step_has_one_all_reduce_whatever_the_layers_and_nothing_else_leaves_a_device():
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(port)],
        cwd=ROOT,
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["1 0 0 0 0 0 0"] * 2  # gloo greets before


@ON_JAX
def test_a_number_of_devices_that_does_not_divide_the_minibatches_is_refused():
    from experiments.training.devices import Devices

    some = SimpleNamespace(number=8, group=SimpleNamespace(size=2))
    with pytest.raises(ValueError, match=r"1, 2, 5, 10, 25, 50\. Received: 8 devices of 2 proc"):
        Devices.check(some, 50)
    some.number = 25
    Devices.check(some, 50)


# By hand


@ON_JAX
@pytest.mark.slow
def test_a_process_that_takes_longer_to_compile_is_waited_for():
    finish(exchange(late=40, steps=3))


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_survivor_of_a_killed_process_says_so_in_one_line_and_nothing_else_does(killed, note):
    processes = exchange(late=0, steps=10**9)
    for process in processes:
        while "steps" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
    time.sleep(1)
    processes[killed].kill()
    seconds = lose(processes, killed)
    what = f"process {killed} killed, exchanging numbers and nothing else"
    note(what, "the other ended after", round(seconds, 1), "s", processes=2)
    assert seconds < 60


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("names", PAIRS)
def test_every_arm_with_one_two_and_four_processes(tmp_path, names, note):
    finish(start(tmp_path / "alone", None, names))
    for size in (1, 2, 4):
        folder = tmp_path / f"{size}"
        finish(start(folder, size, names))
        for arm in names.split(","):
            for quantity, value in check_equal(folder, tmp_path / "alone", arm, size).items():
                note("smoke against one", quantity, value, arm=arm, processes=size)


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("arm", ["bn-32", "brn-noniid"])
def test_what_differs_between_one_and_several_is_rounding(tmp_path, arm, note):
    """In float64 next to nothing does; in float32 as much as if one sums in another order."""
    for variant in ("smoke", "smoke:reversed", "smoke:float64"):
        finish(start(tmp_path / variant, None, arm, protocol=variant))
    finish(start(tmp_path / "two", 2, arm, protocol="smoke:float64"))
    for name, of, expected in (
        (f"one process, {VARIANTS['reversed']}", "smoke:reversed", "smoke"),
        ("two processes against one, in float64", "two", "smoke:float64"),
    ):
        found = difference(weights(tmp_path / of, arm), weights(tmp_path / expected, arm))
        note(name, DIFFERENCE, found, arm=arm, processes=2 if of == "two" else 1)
    assert found < 1e-12


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes train, never interrupted."""
    folder = tmp_path_factory.mktemp("two")
    finish(start(folder, 2, "brn-4"))
    return folder


def check_goes_on(folder, two, note, other=None):
    """A run goes on bit-identically with as many processes, to rounding with another number."""
    if other:
        shutil.copytree(folder, other)
        finish(start(other, 4, "brn-4"))
        found = difference(weights(other, "brn-4"), weights(two, "brn-4"))
        note("killed with 2 processes, went on with 4", DIFFERENCE, found, arm="brn-4", processes=4)
        assert found < 1e-6
        assert result(other, "brn-4")["resumed_with"][0]["processes"] == 4
    finish(start(folder, 2, "brn-4"))
    for value, expected in zip(weights(folder, "brn-4"), weights(two, "brn-4"), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert result(folder, "brn-4")["curve"] == result(two, "brn-4")["curve"]


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_goes_on_bit_identically_after_any_process_was_killed(
    tmp_path, two, killed, after, note
):
    folder = tmp_path / "parts"
    seconds = lose(start(folder, 2, "brn-4", killed=killed, after=after), killed)
    when = f"after step {after}" if after else "before the first step"
    quantity, seconds_taken = "the other ended after", round(seconds, 1)
    note(f"process {killed} killed {when}", quantity, seconds_taken, "s", "brn-4", 2)
    assert seconds < 60
    if after:
        check_goes_on(folder, two, note, tmp_path / "other" if killed == 0 else None)


@ON_JAX
@pytest.mark.slow
def test_a_run_goes_on_bit_identically_after_one_process_was_told_to_stop(tmp_path, two, note):
    finish(start(tmp_path, 2, "brn-4", killed=1, after=3, number=signal.SIGTERM), code=75)
    with np.load(next(tmp_path.rglob("smoke-brn-4-s0.npz"))) as saved:
        step = json.loads(saved["notes"].item())["step"]
    note("process 1 told to stop after step 3", "both stopped after step", step, "", "brn-4", 2)
    assert 3 <= step < 6
    check_goes_on(tmp_path, two, note)


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("launcher", [by_slurm, by_torchrun, by_open_mpi])
def test_the_command_trains_together_as_launchers_start_it(tmp_path, launcher):
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    steps = (0, 1) if launcher is by_slurm else (0,)  # of one job, at the same time
    command = [sys.executable, "-m", "experiments", "run", "--protocol", "smoke", "--seeds", "0"]
    command += ["--coordinator", f"localhost:{port}"] if launcher is by_open_mpi else []
    processes = [
        subprocess.Popen(
            [*command, "--arms", ("bn-32", "brn-32")[step], "--results", tmp_path / str(step)],
            cwd=ROOT,
            env=os.environ | launcher(rank, port, step),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for step in steps
        for rank in range(2)
    ]
    finish(processes)
    for step in steps:
        (file,) = (tmp_path / str(step) / "runs" / "smoke").iterdir()
        assert json.loads(file.read_text())["environment"]["processes"] == 2
        assert not list((tmp_path / str(step) / "checkpoints").rglob("*.npz"))


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Trains the reduced Inception-v3 in a number of processes, or finds it trained.

    It gives the folder, on ImageNet from generated archives; `None` processes are one without a
    group.
    """
    from imagenet_archives import prepare_imagenet

    folder = tmp_path_factory.mktemp("inception")
    prepare_imagenet(folder / "data")

    def train(size, variant=""):
        trained = folder / f"{size}{variant}"
        if not trained.exists():
            trained.mkdir()
            (trained / "data").symlink_to(folder / "data")
            finish(start(trained, size, DEEP_ARM, protocol=f"imagenet{variant}"))
        return trained

    return train


def differ(folder, expected):
    """Returns by quantity what differs in the weights, after three steps."""
    found = differences(weights(folder, DEEP_ARM), weights(expected, DEEP_ARM))
    return {DIFFERENCE: max(found), MEDIAN: float(np.median(found))}


@ON_JAX
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_inception_v3_in_several_processes_is_that_of_one(inception, size, note):
    """In float64: in float32 it makes much of rounding, as the next test says."""
    together, alone = inception(size, ":float64"), inception(None, ":float64")
    check_together(together, DEEP_ARM, size)
    found = differ(together, alone)
    for quantity, value in found.items():
        note("Inception-v3 in float64 against one", quantity, value, "", DEEP_ARM, size)
    assert found[DIFFERENCE] < 1e-10


@ON_JAX
@pytest.mark.slow
def test_inception_v3_in_float32_differs_as_one_process_does_from_itself(inception, note):
    """Shifts near 0 move otherwise when a forward pass is rounded otherwise."""
    alone, itself = inception(None), {}
    for variant, words in VARIANTS.items():
        itself[variant] = differ(inception(None, f":{variant}"), alone)
        for quantity, value in itself[variant].items():
            note(f"Inception-v3, one process, {words}", quantity, value, "", DEEP_ARM, 1)
    first = losses(alone, DEEP_ARM)[0]
    for size in (1, 2, 4):
        together = inception(size)
        check_together(together, DEEP_ARM, size)
        found = differ(together, alone)
        for quantity, value in found.items():
            note("Inception-v3 against one", quantity, value, "", DEEP_ARM, size)
            assert value < 10 * itself["nudged"][quantity]
        # Before any weight has moved.
        value = float(abs(losses(together, DEEP_ARM)[0] - first) / first)
        name = "loss of the first step differs, of itself"
        note("Inception-v3 against one", name, value, "", DEEP_ARM, size)
        assert value < 1e-6
