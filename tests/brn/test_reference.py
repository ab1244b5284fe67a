"""The reference is right: against mental arithmetic and against finite differences."""

import numpy as np
import pytest
from reference import Reference

pytestmark = pytest.mark.any_backend


def a_reference(channels=2, **arguments):
    ones = np.ones(channels)
    return Reference(gamma=ones, beta=0 * ones, mean=0 * ones, spread=ones, **arguments)


class TestMentalArithmetic:
    """x = (1, 3): mu_B = 2, and sigma_B = 1 where epsilon = 0."""

    def test_unclipped_training_is_inference(self):
        reference = Reference([1], [0], mean=[1], spread=[2], epsilon=0)
        done = reference.forward([[1], [3]])
        assert (done.r.item(), done.d.item()) == (0.5, 0.5)
        np.testing.assert_allclose(done.y, [[0], [1]])
        np.testing.assert_allclose(reference.inference([[1], [3]]), [[0], [1]])
        assert not done.r_clipped.any()
        assert not done.d_clipped.any()

    def test_clipped(self):
        # r = 1/4 -> 1/2 and d = (2 - 10) / 4 = -2 -> -1: x_hat = (-1, 1) / 2 - 1
        reference = Reference([2], [5], mean=[10], spread=[4], epsilon=0, r_max=2, d_max=1)
        done = reference.forward([[1], [3]])
        assert (done.r.item(), done.d.item()) == (0.5, -1)
        assert done.r_clipped.all()
        assert done.d_clipped.all()
        np.testing.assert_allclose(done.y, [[2], [4]])

    def test_update_averages_the_standard_deviation(self):
        reference = Reference([1], [0], mean=[0], spread=[5], epsilon=8, momentum=0.75)
        reference.update([[1], [3]])  # sigma_B = sqrt(8 + 1) = 3
        assert (reference.mean.item(), reference.spread.item()) == (0.5, 4.5)
        assert reference.step == 1

    def test_batch_normalization_averages_the_variance(self):
        reference = Reference(
            [1], [0], mean=[0], spread=[5], epsilon=8, momentum=0.75, renormalizes=False
        )
        done = reference.update([[1], [3]])
        np.testing.assert_allclose(done.y, [[-1 / 3], [1 / 3]])
        assert (reference.mean.item(), reference.spread.item()) == (0.5, 4)

    def test_microbatches_count_by_their_size(self):
        # Groups (1, 3), (5, 7) and (9): means 2, 6, 9, standard deviations 1, 1, 0
        reference = Reference([1], [0], [0], [1], epsilon=1e-99, momentum=0, microbatch_size=2)
        done = reference.update([[1], [3], [5], [7], [9]])
        np.testing.assert_allclose(done.mean, [[2], [6], [9]])
        np.testing.assert_allclose(reference.mean, [(2 * 2 + 6 * 2 + 9) / 5])
        np.testing.assert_allclose(reference.spread, [(1 * 2 + 1 * 2 + 0) / 5])

    def test_masked_elements_do_not_count(self):
        reference = Reference([1], [0], [0], [1], epsilon=0, momentum=0)
        done = reference.update([[1], [np.nan], [3]], mask=[True, False, True])
        assert (reference.mean.item(), reference.spread.item()) == (2, 1)
        np.testing.assert_allclose(done.y, [[1], [np.nan], [3]])

    def test_a_channel_without_elements_uses_and_keeps_the_state(self):
        reference = Reference([1, 1], [0, 0], [7, 0], [2, 1], epsilon=0, momentum=0)
        mask = np.array([[False, True], [False, True]])
        done = reference.update([[9.0, 1.0], [5.0, 3.0]], mask)
        np.testing.assert_allclose(done.y[:, 0], [1, -1])
        np.testing.assert_allclose(reference.mean, [7, 2])
        np.testing.assert_allclose(reference.spread, [2, 1])
        reference.update([[9.0, 1.0], [5.0, 3.0]], [False, False])
        assert reference.step == 1

    def test_bias_correction_gives_the_weighted_mean_of_the_steps(self):
        reference = a_reference(1, epsilon=0, momentum=0.5, bias_correction=True)
        reference.update([[1.0], [3.0]])
        assert reference.mean.item() == 2
        reference.update([[4.0], [6.0]])  # weights 1/2 and 1/4 -> (2 * 5 + 2) / 3
        assert reference.mean.item() == pytest.approx(4)

    def test_bounds_of_the_step(self):
        reference = a_reference(r_max=lambda step: 1 + step, d_max=lambda step: step, step=3)
        assert reference.bounds() == (4, 3)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("microbatch_size", [None, 2])
@pytest.mark.parametrize("masked", [None, "positions", "elements"])
def test_backward_against_finite_differences(rng, axis, microbatch_size, masked):
    x, upstream = rng.normal(size=(2, 5, 3, 3))
    mask = None
    if masked == "positions":
        mask = rng.random(x.shape[:1]) < 0.7
    if masked == "elements":
        mask = rng.random(x.shape) < 0.7
        mask[:2, 0] = mask[:2, :, 0] = False  # a channel of a microbatch without elements
    reference = Reference(
        gamma=rng.normal(size=3),
        beta=rng.normal(size=3),
        mean=[3, -3, 0],
        spread=[3, 0.3, 1],
        axis=axis,
        r_max=1.5,
        d_max=0.5,
        microbatch_size=microbatch_size,
    )
    done = reference.forward(x, mask)
    assert done.r_clipped.any()
    assert done.d_clipped.any()

    def loss():
        return np.sum(reference.forward(x, mask, corrections=(done.r, done.d)).y * upstream)

    gradients = reference.backward(x, upstream, mask)
    for value, gradient in zip((x, reference.gamma, reference.beta), gradients, strict=True):
        for at in np.ndindex(value.shape):
            kept, losses = value[at], []
            for shift in (1e-6, -1e-6):
                value[at] = kept + shift
                losses.append(loss())
            value[at] = kept
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[at], rel=1e-5, abs=1e-7)
