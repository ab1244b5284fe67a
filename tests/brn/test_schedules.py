"""Schedules are pure functions of the step, from the first to far past the last."""

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy

import brn
from brn.schedules import ClipSchedule, Constant, Ramp


@keras.saving.register_keras_serializable(package="brn_tests")
class Doubling(ClipSchedule):
    """A schedule of a user's: doubles every `period` steps, up to 8."""

    def __init__(self, period):
        self.period = period

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        return keras.ops.minimum(2.0 ** (step / self.period), 8.0)

    def get_config(self):
        return {"period": self.period}


def value(schedule, step):
    return float(numpy(schedule(step)))


RAMP = Ramp(start=1, end=3, begin=100, finish=200)
STEPS = {0: 1, 99: 1, 100: 1, 101: 1.02, 150: 2, 199: 2.98, 200: 3, 201: 3, 10**6: 3, 10**9: 3}


@pytest.mark.parametrize(("step", "expected"), STEPS.items())
def test_ramp(step, expected):
    assert value(RAMP, step) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_ramp_of_a_tensor(dtype):
    for step, expected in STEPS.items():
        bound = RAMP(keras.ops.convert_to_tensor(step, dtype=dtype))
        assert bound.shape == ()
        assert keras.backend.standardize_dtype(bound.dtype) == "float32"
        assert float(numpy(bound)) == pytest.approx(expected, rel=1e-6)


def test_ramp_stays_between_its_ends():
    """torchrl's warm-up factor passes 1, and r changes sign."""
    values = [value(RAMP, step) for step in np.geomspace(1, 2e9, 40).astype(int)]
    assert min(values) == 1
    assert max(values) == 3
    assert values == sorted(values)


def test_ramp_that_falls():
    falling = Ramp(start=4, end=2, begin=0, finish=4)
    assert [value(falling, step) for step in range(6)] == [4, 3.5, 3, 2.5, 2, 2]


def test_ramp_in_one_step():
    assert [value(Ramp(1, 3, 0, 1), step) for step in range(3)] == [1, 3, 3]


@pytest.mark.parametrize("at", [5, 4.5])
def test_jump(at):
    jump = Ramp(start=1, end=3, begin=at, finish=at)
    assert [value(jump, step) for step in (0, 4, 5, 6, 10**9)] == [1, 1, 3, 3, 3]


def test_jump_at_the_start():
    assert [value(Ramp(1, 3, 0, 0), step) for step in (0, 1)] == [3, 3]


@pytest.mark.parametrize("bound", [2, 2.5, 0, float("inf")])
def test_constant(bound):
    assert [value(Constant(bound), step) for step in (0, 7, 10**9)] == [bound] * 3


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [
        (0, 1, 0),
        (5_000, 1, 0),
        (15_000, 1 + 2 * 10 / 35, 2.5),
        (25_000, 1 + 2 * 20 / 35, 5),
        (40_000, 3, 5),
        (130_000, 3, 5),
        (10**9, 3, 5),
    ],
)
def test_paper_clipping(step, r_max, d_max):
    got = [value(schedule, step) for schedule in brn.paper_clipping()]
    assert got == pytest.approx([r_max, d_max], rel=1e-6)


@pytest.mark.parametrize("total_steps", [130, 2600, 1000, 1])
def test_paper_clipping_of_a_run_of_another_length(total_steps):
    r_max, d_max = brn.paper_clipping(total_steps)
    assert (r_max.start, r_max.end, d_max.start, d_max.end) == (1, 3, 0, 5)
    thousandths = total_steps / 130
    assert [r_max.begin, r_max.finish] == pytest.approx([5 * thousandths, 40 * thousandths])
    assert [d_max.begin, d_max.finish] == pytest.approx([5 * thousandths, 25 * thousandths])
    if total_steps == 130:
        assert [value(r_max, step) for step in (5, 12, 40)] == pytest.approx([1, 1.4, 3])
        assert [value(d_max, step) for step in (5, 9, 25)] == pytest.approx([0, 1, 5])


SCHEDULES = [Constant(2), Constant(float("inf")), RAMP, *brn.paper_clipping(1000), Doubling(3)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_serialization(schedule):
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert revived == schedule
    assert hash(revived) == hash(schedule)
    assert type(schedule).from_config(schedule.get_config()) == schedule
    assert value(revived, 137) == value(schedule, 137)


def test_equality_is_that_of_the_arguments():
    assert Ramp(1, 3, 0, 4) == Ramp(1.0, 3.0, 0.0, 4.0)
    assert Ramp(1, 3, 0, 4) != Ramp(1, 3, 0, 5)
    assert Constant(1) != Ramp(1, 1, 0, 0)
    assert Constant(1) != 1
    assert repr(Ramp(1, 3, 0, 4)) == "Ramp(start=1.0, end=3.0, begin=0.0, finish=4.0)"


def test_the_base_class_has_no_value():
    with pytest.raises(NotImplementedError, match="ClipSchedule must implement __call__"):
        ClipSchedule()(0)


def test_a_layer_with_a_schedule_of_the_users():
    layer = brn.BatchRenormalization(r_max=Doubling(2), d_max=Doubling(4))
    layer.build((None, 3))
    for step, bounds in {0: (1, 1), 2: (2, 2**0.5), 4: (4, 2), 100: (8, 8)}.items():
        layer.step.assign(step)
        assert [float(numpy(bound)) for bound in layer.clipping_bounds()] == pytest.approx(bounds)
    revived = brn.BatchRenormalization.from_config(layer.get_config())
    assert (revived.r_max, revived.d_max) == (Doubling(2), Doubling(4))


def test_compiled():
    """The step is data: one trace serves all of them."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(RAMP, input_signature=[tf.TensorSpec((), "int32")])
    elif BACKEND == "jax":
        import jax

        compiled = jax.jit(RAMP)
    else:
        compiled = RAMP
    for step, expected in STEPS.items():
        bound = compiled(keras.ops.convert_to_tensor(step, dtype="int32"))
        assert float(numpy(bound)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"begin": -1}, "begin=-1"),
        ({"begin": 5, "finish": 4}, "begin=5, finish=4"),
        ({"start": float("nan")}, "start=nan"),
        ({"end": float("inf")}, "end=inf"),
        ({"end": None}, "end=None"),
        ({"begin": "soon"}, "begin='soon'"),
        ({"finish": True}, "finish=True"),
        ({"finish": float("inf")}, "finish=inf"),
    ],
)
def test_ramps_that_are_refused(arguments, received):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`|`finish`") as error:
        Ramp(**{"start": 1, "end": 3, "begin": 0, "finish": 4, **arguments})
    assert f"Received: {received}" in str(error.value)


@pytest.mark.parametrize("bound", [float("nan"), None, "3", True, [3]])
def test_constants_that_are_refused(bound):
    with pytest.raises(ValueError, match="`value` must be a number") as error:
        Constant(bound)
    assert f"Received: value={bound!r}" in str(error.value)


@pytest.mark.parametrize("total_steps", [0, -130, float("nan"), float("inf"), None, "130"])
def test_lengths_of_runs_that_are_refused(total_steps):
    with pytest.raises(ValueError, match="`total_steps`") as error:
        brn.paper_clipping(total_steps)
    assert f"Received: total_steps={total_steps!r}" in str(error.value)


class TestNumbers:
    """Bounds as numbers of Python, which PyTorch clips by."""

    @pytest.mark.parametrize("schedule", [RAMP, Ramp(1.0, 3.0, 7, 7), Constant(2.5)])
    @pytest.mark.parametrize("step", [0, 6, 7, 8, 10, 150, 1000, 10**6])
    def test_they_are_the_bound(self, schedule, step):
        assert schedule.number(step) == pytest.approx(float(numpy(schedule(step))))

    def test_at_a_step_that_is_not_known_only_a_constant_has_one(self):
        assert (RAMP.number(None), Constant(2.5).number(None)) == (None, 2.5)

    def test_a_schedule_of_ones_own_has_none_whatever_its_base(self):
        class Doubled(Ramp):
            def __call__(self, step):
                return 2 * super().__call__(step)

        assert Doubled(1.0, 3.0, 5, 9).number(7) is None
