"""A run trains, averages, evaluates and resumes to the very weights it would have had."""

import contextlib
import dataclasses
import json
import types

import keras
import numpy as np
import pytest

from experiments.data.load import load
from experiments.grid import arms, protocols
from experiments.grid.runs import Run, select_runs
from experiments.records.store import DamagedError, Store
from experiments.training import instruments
from experiments.training import run as runner

ARMS = {arm.name: arm for arm in arms.PAPER}


@pytest.fixture(scope="module")
def source():
    return load(protocols.SMOKE.source)


@pytest.fixture(scope="module")
def trainer(source):
    return runner.Trainer(protocols.SMOKE, ARMS["brn-noniid"], source)


@pytest.fixture(scope="module")
def diverging(source):
    """A trainer of another arm, with a learning rate that no run survives."""
    protocol = dataclasses.replace(protocols.SMOKE, learning_rate=1e38, learning_rate_decay=1.0)
    return runner.Trainer(protocol, ARMS["bn-4"], source)


def weights(trainer):
    return [np.array(keras.ops.convert_to_numpy(w.value)) for w in trainer.model.variables]


def kernels(trainer):
    variables = trainer.model.variables
    return [v for v, w in zip(weights(trainer), variables, strict=True) if w.name == "kernel"]


def test_what_an_arm_changes_is_of_its_runs_and_leaves_them_the_same_run(source, tmp_path):
    arm = dataclasses.replace(ARMS["bn-4"], changes={"steps": 3, "evaluate_every": 1})
    run = Run(protocols.SMOKE, arm, seed=0)
    told = set()
    trainer = runner.Trainer(protocols.SMOKE, arm, source)
    result = trainer.run(0, Store(tmp_path), lambda run, step: told.add((run, step)))
    assert told == {(run, 1), (run, 2), (run, 3)}
    assert run.steps == result["config"]["total_steps"] == 3
    assert [point["step"] for point in result["curve"]] == [1, 2, 3]


def test_a_run_records_what_made_it_and_its_curve(trainer, tmp_path):
    seen = []
    store = Store(tmp_path)
    result = trainer.run(0, store, lambda run, step: seen.append((run.id, step)))
    run = select_runs("smoke", ["brn-noniid"], [0])[0]
    assert store.result(run) == json.loads(json.dumps(result))
    assert result["status"] == "finished"
    assert result["config"] == run.config()
    assert result["environment"]["backend"] == keras.config.backend()
    assert result["resumed_with"] == []
    assert result["parameters"] == trainer.model.count_params()
    assert [point["step"] for point in result["curve"]] == [2, 4, 6]
    assert all(0 <= p["validation_accuracy_percent"] <= 100 for p in result["curve"])
    assert seen == [(run.id, step) for step in range(1, 7)]
    assert all(0 <= point["r_clipped_percent_layer_01"] <= 100 for point in result["curve"])


@pytest.fixture(scope="module")
def undisturbed(trainer, tmp_path_factory):
    """The curve and the weights of a run that nothing disturbed."""
    whole = trainer.run(1, Store(tmp_path_factory.mktemp("whole")))
    return whole["curve"], weights(trainer)


def interrupt_at(last):
    def interrupt(run, step):
        if step == last:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize(
    ("ending", "minutes", "first"),
    [
        (interrupt_at(5), 10, 5),  # the last evaluation, with a checkpoint, was at step 4
        (interrupt_at(6), 0, 6),  # a checkpoint at every step
        (lambda run, step: step == 5, 10, 6),
    ],
    ids=["after an evaluation", "after a checkpoint between evaluations", "told to stop"],
)
def test_an_interrupted_run_ends_with_the_same_weights(
    trainer, undisturbed, tmp_path, ending, minutes, first
):
    store = Store(tmp_path / "parts")
    with contextlib.suppress(KeyboardInterrupt):
        assert trainer.run(1, store, ending, minutes) is None
    trainer.run(0, Store(tmp_path / "between"))  # whatever the process did in between
    seen, shown = [], []
    resumed = trainer.run(
        1,
        store,
        lambda run, step: seen.append(step),
        look=lambda run, curve: shown.append(curve[-1]["step"]),
    )
    assert seen == list(range(first, 7))
    assert shown == [6]
    assert resumed["curve"] == undisturbed[0]
    for value, other in zip(weights(trainer), undisturbed[1], strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_checkpoint_of_another_network_is_named(trainer, diverging, tmp_path):
    store = Store(tmp_path)
    trainer.run(1, store, lambda run, step: step == 3)
    run = select_runs("smoke", ["brn-noniid"], [1])[0]
    saved, arrays = store.checkpoint(run)
    arrays["model_0"] = arrays["model_0"][..., :1]
    store.write_checkpoint(run, saved, arrays)
    with pytest.raises(DamagedError, match="model weights of other shapes"):
        trainer.run(1, store)


def test_a_run_goes_on_with_its_backend_only_and_says_what_it_was_resumed_with(
    trainer, tmp_path, monkeypatch
):
    def interrupt(run, step):
        if step == 3:
            raise KeyboardInterrupt

    store = Store(tmp_path)
    here = runner.environment()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(1, store, interrupt)
    monkeypatch.setattr(runner, "environment", lambda: here | {"backend": "other"})
    with pytest.raises(ValueError, match="now KERAS_BACKEND=other"):
        trainer.run(1, store)
    monkeypatch.setattr(runner, "environment", lambda: here | {"device": "another"})
    result = trainer.run(1, store)
    assert result["environment"] == here
    assert result["resumed_with"] == [here | {"device": "another"}]


def test_seeds_differ_and_arms_start_alike(trainer, diverging):
    for each in (trainer, diverging):
        each._reset(0)
    first, second = kernels(trainer), kernels(diverging)
    for ours, others in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, others)
    trainer._reset(1)
    assert not np.array_equal(first[0], kernels(trainer)[0])


def test_an_arm_trains_with_the_settings_it_changes(source):
    arm = dataclasses.replace(ARMS["bn-4"], changes={"learning_rate": 0.25, "alpha": 0.5})
    model = runner.Trainer(protocols.SMOKE, arm, source).model
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model.optimizer.learning_rate), 0.25)
    assert {x.momentum for x in model.layers if hasattr(x, "momentum")} == {0.5}


def test_an_optimizer_is_the_one_that_was_named(trainer, source):
    adam = dataclasses.replace(ARMS["bn-4"], changes={"optimizer": "adam"})
    optimizer = runner.Trainer(protocols.SMOKE, adam, source).model.optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert isinstance(trainer.model.optimizer, keras.optimizers.RMSprop)
    assert optimizer._learning_rate.get_config() == (
        trainer.model.optimizer._learning_rate.get_config()
    )


def test_divergence_ends_the_run_and_is_recorded(diverging, tmp_path):
    result = diverging.run(0, Store(tmp_path))
    assert result["status"] == "diverged"
    last = result["curve"][-1]
    assert list(last) == ["step"]
    assert last["step"] < protocols.SMOKE.steps


@pytest.mark.any_backend
def test_spikes_are_counted_against_the_steps_before():
    calm = [1.0] * 60
    assert instruments.Spikes().count(calm) == 0
    assert instruments.Spikes().count([*calm, 1.6, 1.0, 1.4]) == 1
    assert instruments.Spikes().count([9.0, *calm[:10]]) == 0  # no window before it


@pytest.mark.any_backend
@pytest.mark.parametrize("piece", [1, 20, 70])
def test_spikes_are_the_same_however_the_run_is_cut(rng, piece):
    losses = rng.exponential(0.4, 200).tolist()
    whole, spikes = instruments.Spikes().count(losses), instruments.Spikes()
    assert whole > 10
    counted = 0
    for start in range(0, len(losses), piece):
        spikes = instruments.Spikes(spikes.window)  # as a resumed run does
        counted += spikes.count(losses[start : start + piece])
    assert counted == whole


def test_the_average_moves_by_its_formula():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    average = runner._Average(types.SimpleNamespace(model=model, devices=None), decay=0.5)
    model.set_weights([np.ones((1, 1)), np.full(1, 2.0)])
    average.update(step=1)  # decay min(0.5, 2 / 11)
    np.testing.assert_allclose(average.weights[0][0], [[9 / 11]], rtol=1e-6)
    average.update(step=100)  # decay 0.5
    np.testing.assert_allclose(average.weights[0][0], [[10 / 11]], rtol=1e-6)
    np.testing.assert_allclose(average.weights[0][1], [20 / 11], rtol=1e-6)


def test_the_average_takes_all_weights(trainer):
    trainer._reset(0)
    average = runner._Average(trainer, decay=0.5)
    names = [w.name for w in trainer.model.non_trainable_variables]
    assert {"moving_mean", "moving_stddev", "step"} <= set(names)
    before = [value.copy() for value in average.weights[1]]
    for variable in trainer.model.non_trainable_variables:
        variable.assign(variable + 2)
    average.update(step=100)
    for name, old, new in zip(names, before, average.weights[1], strict=True):
        np.testing.assert_allclose(new, old + (2 if name == "step" else 1), rtol=1e-6)


def test_last_minibatch_forgets_the_ones_before():
    metric = runner.LastMinibatch(lambda labels, predictions: labels - predictions, "difference")
    metric.update_state(np.array([3.0, 5.0]), np.array([0.0, 0.0]))
    metric.update_state(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    assert float(metric.result()) == 1.5


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["bn-halves", "bn-noniid", "brn-noniid"])
def test_arms_that_sample_by_class_see_the_same_images(source, name):
    sampler = runner.sampler(protocols.SMOKE, ARMS[name], source, seed=0)
    reference = runner.sampler(protocols.SMOKE, ARMS["bn-noniid"], source, seed=0)
    np.testing.assert_array_equal(np.sort(sampler(3)), np.sort(reference(3)))
    halves = source.train.labels[sampler(3)].reshape(-1, 2, 16)
    if name == "bn-halves":
        np.testing.assert_array_equal(halves[:, 0], halves[:, 1])
    else:
        np.testing.assert_array_equal(halves[..., 0::2], halves[..., 1::2])
