"""The monitor, through `fit`."""

import contextlib
import csv
import types

import keras
import numpy as np
import pytest
from harness import mirror, numpy, perturb

import brn
from brn.callbacks import QUANTITIES, SUMMARY, RenormMonitor
from brn.schedules import Ramp

SHAPE = (12, 5)
"""Twelve examples: an epoch of three steps of 4."""


def renormalization(**arguments):
    return brn.BatchRenormalization(**{"r_max": 2.0, "d_max": 1.5, "momentum": 0.8, **arguments})


def train(layer, x, monitor=None, epochs=2, callbacks=(), **arguments):
    """Train a model of this one layer on batches of 4, in order."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", **arguments)
    callbacks = [*([monitor] if monitor else []), *callbacks]
    data = (x.astype("float32"), np.zeros_like(x, "float32"))
    fit = {"batch_size": 4, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(*data, callbacks=callbacks, **fit)


def numbers_of(reference, x):
    """What the reference says of a minibatch, in the monitor's words."""
    found, (r_max, d_max) = reference.forward(x), reference.bounds()
    return {
        "r_mean": found.r.mean(),
        "r_smallest": found.r.min(),
        "r_largest": found.r.max(),
        "r_max": r_max,
        "r_clipped": found.r_clipped.mean(),
        "d_mean": found.d.mean(),
        "d_smallest": found.d.min(),
        "d_largest": found.d.max(),
        "d_max": d_max,
        "d_clipped": found.d_clipped.mean(),
        "mean_distance": np.abs((found.mean - reference.mean) / reference.sigma).mean(),
        "stddev_distance": np.abs(np.log(found.sigma / reference.sigma)).mean(),
    }


def test_history_is_the_references_and_training_is_as_without(rng):
    """A probe of 9 examples in microbatches of 4, before steps 0, 2 and 4, and after step 5."""
    x, probed = rng.normal(2.0, 3.0, SHAPE), rng.normal(2.0, 3.0, (9, 5))
    watched, alone = (perturb(renormalization(microbatch_size=4), x) for _ in range(2))
    reference, monitor = mirror(watched), RenormMonitor(probed, every=2)
    train(watched, x, monitor)
    train(alone, x)
    for value, expected in zip(watched.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)

    expected = []
    for step in range(6):
        if step % 2 == 0:
            expected.append({"step": step, "layer": watched.path, **numbers_of(reference, probed)})
        first = 4 * (step % 3)
        reference.update(x[first : first + 4])
    expected.append({"step": 6, "layer": watched.path, **numbers_of(reference, probed)})
    assert 0 < expected[0]["r_clipped"] < 1
    assert 0 < expected[0]["d_clipped"] < 1
    assert len(monitor.history) == len(expected)
    for row, wanted in zip(monitor.history, expected, strict=True):
        assert list(row) == ["step", "layer", *QUANTITIES]
        assert row.pop("layer") == wanted.pop("layer")
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_epoch_logs(rng, tmp_path):
    """What comes after the monitor sees the latest numbers."""
    x = rng.normal(2.0, 3.0, SHAPE)
    layer, monitor = perturb(renormalization(), x), RenormMonitor(x[:4], every=2, logs="all")
    after = keras.callbacks.CSVLogger(tmp_path / "after.csv")
    history = train(layer, x, monitor, callbacks=[after]).history
    with (tmp_path / "after.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in QUANTITIES:
        key = f"renorm/{layer.path}/{name}"
        wanted = [monitor.history[probe][name] for probe in (1, 2)]
        assert history[key] == wanted
        assert [float(row[key]) for row in rows] == wanted


@pytest.mark.filterwarnings("ignore:Layers had most r clipped")
def test_the_logs_are_short(rng):
    """The most clipped r and d of three layers, which layer that is, and its bounds."""
    x = rng.normal(size=SHAPE).astype("float32")
    model = keras.Sequential([keras.Input((5,))])
    for name, spread, r_max in (("a", 1.0, 100.0), ("b", 1e3, 3.0), ("c", 1.0, 1e3)):
        layer = renormalization(name=name, momentum=1.0, r_max=r_max)
        model.add(layer)
        layer.moving_stddev.assign(np.full(5, spread))
    layer.moving_mean.assign(np.full(5, 1e3))
    model.compile("sgd", "mse")
    monitor = RenormMonitor(x[:4])
    logs = model.fit(x, x, batch_size=4, verbose=0, callbacks=[monitor]).history
    found = {key: values[-1] for key, values in logs.items() if key != "loss"}
    assert found == {
        "renorm/r_clipped": 1.0,
        "renorm/r_layer": 1.0,
        "renorm/r_max": 3.0,
        "renorm/d_clipped": 1.0,
        "renorm/d_layer": 2.0,
        "renorm/d_max": 1.5,
    }
    assert [path.split("/")[-1] for path in monitor.layers] == ["a", "b", "c"]


class Two(keras.Model):
    """Two models with a training step of their own and no `call`: a GAN."""

    def __init__(self):
        super().__init__(name="two")
        self.generator, self.critic = (
            keras.Sequential([keras.Input((5,)), renormalization(name=name)], name=f"the_{name}")
            for name in ("generator", "critic")
        )
        self.built = True

    def train_step(self, *arguments):
        """Runs both; what they learn does not matter here."""
        (*state, x) = arguments if keras.backend.backend() == "jax" else (None, arguments[0])
        x = keras.ops.cast(keras.utils.unpack_x_y_sample_weight(x)[0], "float32")
        variables = self.non_trainable_variables
        held = [
            *zip(self.trainable_variables, state[0][0] if state[0] else (), strict=False),
            *zip(variables, state[0][1] if state[0] else (), strict=False),
        ]
        with keras.StatelessScope(held) if state[0] else contextlib.nullcontext() as scope:
            self.critic(self.generator(x, training=True), training=True)
        logs = {"loss": keras.ops.zeros(())}
        if not state[0]:
            return logs
        moved = [scope.get_current_value(variable) for variable in variables]
        return logs, (state[0][0], moved, *state[0][2:])


def fit_two(model, x, monitor):
    # One that never takes a step; on JAX `fit` needs to have it, elsewhere there is none.
    model.compile("sgd" if keras.backend.backend() == "jax" else None, run_eagerly=True)
    if model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)
    model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])


@pytest.mark.filterwarnings("ignore:Layers had most r clipped")
def test_a_part_of_a_model_without_call_is_watched(rng):
    """With the steps of its layers, as no optimizer counts any."""
    x = rng.normal(2.0, 3.0, SHAPE).astype("float32")
    model = Two()
    reference = mirror(perturb(model.critic.layers[0], x))
    monitor = RenormMonitor(x[:4], every=2, model=model.critic)
    fit_two(model, x, monitor)
    assert [row["step"] for row in monitor.history] == [0, 2, 3]
    assert monitor.layers == [model.critic.layers[0].path]
    first = {name: monitor.history[0][name] for name in QUANTITIES}
    assert first == pytest.approx(numbers_of(reference, x[:4]), rel=1e-4, abs=1e-5)


def test_a_model_without_call_names_its_parts(rng):
    x = rng.normal(size=SHAPE).astype("float32")
    message = r"no `call`.*Received: model='two', a Two, made of 'the_generator', 'the_critic'"
    with pytest.raises(ValueError, match=message):
        fit_two(Two(), x, RenormMonitor(x[:4]))
    for act in (brn.corrections, brn.recalibrate):
        with pytest.raises(ValueError, match=message):
            act(Two(), x)
    with pytest.raises(ValueError, match="Received: model=3"):
        RenormMonitor(x, model=3)


def test_steps_without_renormalization_are_counted(rng):
    """`brn.BatchNormalization` has no step of its own; an epoch may be executions of 2 and 1."""
    x = rng.normal(size=SHAPE)
    monitor = RenormMonitor(x[:4])
    several = {"steps_per_execution": 2} if keras.backend.backend() != "torch" else {}
    train(brn.BatchNormalization(), x, monitor, **several)
    assert [row["step"] for row in monitor.history] == [0, 6]


def test_tensorboard(rng, tmp_path):
    """What Keras's callback writes; the writing itself takes an installed TensorBoard."""
    tf = pytest.importorskip("tensorflow")
    written = []

    class Board(keras.callbacks.TensorBoard):
        summary = types.SimpleNamespace(
            create_file_writer=tf.summary.create_file_writer,
            scalar=lambda name, value, step: written.append((name, value, step)),
        )

    x = rng.normal(2.0, 3.0, SHAPE)
    layer, board = perturb(renormalization(), x), Board(tmp_path, write_graph=False)
    logs = train(layer, x, RenormMonitor(x[:4], every=2), callbacks=[board]).history
    for name in SUMMARY:
        key = f"renorm/{name}"
        assert {(f"epoch_{key}", logs[key][epoch], epoch) for epoch in (0, 1)} <= set(written)


class Numbered(keras.utils.PyDataset):
    """Two minibatches of constants, 1 and 2."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((4, 5), index + 1.0), np.zeros((4, 5))


def a_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(
        np.repeat([1.0, 2.0], 4)[:, None] + np.zeros(5)
    ).batch(4)


def a_loader():
    torch = pytest.importorskip("torch")
    x = torch.tensor(np.repeat([1.0, 2.0], 4)[:, None] + np.zeros(5))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x), batch_size=4)


@pytest.mark.parametrize("make", [Numbered, a_dataset, a_loader])
def test_minibatches_follow_each_other(rng, make):
    """With mean 0 and deviation 1 at rest, the distance of the means is the constant."""
    layer = renormalization(momentum=1.0, r_max=float("inf"))
    monitor = RenormMonitor(make(), every=1)
    train(layer, rng.normal(size=SHAPE), monitor, epochs=1)
    distances = [row["mean_distance"] for row in monitor.history]
    assert distances == pytest.approx([1, 2, 1, 2])


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_a_model_that_has_no_weights_yet(rng, run_eagerly):
    x = rng.normal(2.0, 3.0, SHAPE).astype("float32")
    model = keras.Sequential([keras.layers.Dense(3), renormalization(r_max=float("inf"))])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    monitor = RenormMonitor(x[:4])
    model.fit(x, np.zeros((12, 3)), batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])
    assert [row["step"] for row in monitor.history] in ([0, 3], [1, 3])


def test_a_second_fit_goes_on(rng):
    x = rng.normal(size=SHAPE).astype("float32")  # near the averages: few r are clipped
    monitor = RenormMonitor(x[:4])
    model = keras.Sequential([keras.Input((5,)), renormalization()])
    model.compile("sgd", "mse")
    for _ in range(2):
        model.fit(x, x, batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])
    assert [row["step"] for row in monitor.history] == [0, 3, 3, 6]


class TestWarnings:
    """Warnings are errors in these tests: a run that is well, as above, gives none."""

    def test_a_run_within_the_hold(self, rng):
        layer = renormalization(r_max=Ramp(1, 3, 100, 200), d_max=Ramp(0, 5, 100, 200), name="held")
        x = rng.normal(size=SHAPE)
        with pytest.warns(UserWarning, match=r"plain batch normalization.*paper_clipping.*held"):
            train(layer, x, RenormMonitor(x[:4]))

    def test_bounds_that_are_meant_to_stay(self, rng):
        x = rng.normal(size=SHAPE)
        monitor = RenormMonitor(x[:4])
        train(renormalization(r_max=1, d_max=0), x, monitor)
        train(brn.BatchNormalization(), x, monitor)
        assert {(row["r_max"], row["d_max"]) for row in monitor.history} == {(1.0, 0.0)}

    def test_most_r_clipped(self, rng):
        """Inputs a hundred times as wide as the averages, which do not follow."""
        x = 100 * rng.normal(size=SHAPE)
        layer = renormalization(momentum=1.0, d_max=float("inf"), name="narrow")
        with pytest.warns(UserWarning, match=r"most r clipped.*narrow"):
            train(layer, x, RenormMonitor(x[:4]))

    def test_statistics_that_are_not_finite(self, rng):
        """Once, though six of its probes see it; only the first five layers are named."""
        x = rng.normal(size=SHAPE).astype("float32")
        model = keras.Sequential([keras.Input((5,))])
        for i in range(7):
            model.add(renormalization(name=f"n{i}"))
            model.layers[-1].moving_mean.assign(np.full(5, np.nan))
        model.compile("sgd", "mse")
        monitor = RenormMonitor(x[:4], every=1)
        with pytest.warns(UserWarning, match="not finite, after 0 steps.*n4 and 2 more") as caught:
            model.fit(x, x, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[monitor])
        assert len([warning for warning in caught if "not finite" in str(warning.message)]) == 1

    def test_nothing_to_watch(self, rng):
        x = rng.normal(size=SHAPE)
        with pytest.warns(UserWarning, match="no layer of this package that trains"):
            train(keras.layers.BatchNormalization(), x, RenormMonitor(x[:4]))


def test_a_minibatch_that_is_masked_entirely(rng):
    """It says nothing, and is no reason to warn."""
    x = rng.normal(size=(12, 2, 5)).astype("float32")
    model = keras.Sequential([keras.Input((2, 5)), keras.layers.Masking(0.0), renormalization()])
    model.compile("sgd", "mse")
    monitor = RenormMonitor(np.zeros((4, 2, 5)))
    model.fit(x, x, batch_size=4, shuffle=False, verbose=0, callbacks=[monitor])
    for row in monitor.history:
        assert (row["r_max"], row["d_max"]) == (2.0, 1.5)
        assert all(np.isnan(row[name]) for name in QUANTITIES if name not in ("r_max", "d_max"))


@pytest.mark.parametrize("every", [0, 2.5, True])
def test_steps_between_minibatches(every):
    with pytest.raises(ValueError, match=f"Received: every={every}"):
        RenormMonitor(np.zeros((2, 5)), every=every)


def test_quantities_have_names():
    with pytest.raises(ValueError, match=r"Received: logs=\('r_clip',\)"):
        RenormMonitor(np.zeros((2, 5)), logs=["r_clip"])


@pytest.mark.parametrize("data", [iter([np.zeros((2, 5))]), None, "abc"])
def test_data_that_ends(data):
    with pytest.raises(ValueError, match="Received: data="):
        RenormMonitor(data)


def test_the_logs_are_the_chosen_ones(rng):
    x = rng.normal(size=SHAPE)
    layer = renormalization()
    logs = train(layer, x, RenormMonitor(x[:4], logs=["d_max"])).history
    assert [key for key in logs if key.startswith("renorm")] == [f"renorm/{layer.path}/d_max"]
    assert numpy(logs[f"renorm/{layer.path}/d_max"]).tolist() == [1.5, 1.5]


class Empty(Numbered):
    def __len__(self):
        return 0


@pytest.mark.parametrize("make", [list, dict, Empty])
def test_data_without_minibatches_are_an_error_and_not_a_wait(rng, make):
    """Again and again, should somebody train again."""
    data = make()
    monitor = RenormMonitor(data)
    for _ in range(2):
        with pytest.raises(ValueError, match="one minibatch at least") as error:
            train(renormalization(), rng.normal(size=SHAPE), monitor)
        assert f"Received: data={data!r}" in str(error.value)


def test_labels_are_not_inputs(rng):
    x = rng.normal(size=SHAPE)
    with pytest.raises(ValueError, match=r"pass x alone.*of shapes \[\(4, 5\), \(4,\)\]"):
        train(renormalization(), x, RenormMonitor((x[:4], np.zeros(4))))


@pytest.mark.parametrize("logs", ["r_mean", None])
def test_quantities_are_a_list(logs):
    with pytest.raises(ValueError, match=rf"'all', or a list.*Received: logs={logs!r}"):
        RenormMonitor(np.zeros((2, 3)), logs=logs)
