import numpy as np
import pytest

from experiments.data.sampling import (
    ARRANGEMENTS,
    AUGMENTATION,
    DRAWS,
    EPOCHS,
    Iid,
    Structured,
    generator,
)

pytestmark = pytest.mark.any_backend

LABELS = np.repeat(np.arange(20), 5)[np.random.default_rng(1).permutation(100)]


def structured(**settings):
    return Structured(LABELS, **{"workers": 3, "seed": 7, **settings})


def test_streams_of_other_purposes_seeds_and_steps_differ():
    places = [(0, purpose, 0) for purpose in (EPOCHS, DRAWS, AUGMENTATION)]
    places += [(1, DRAWS, 0), (0, DRAWS, 1)]
    numbers = {generator(*place).integers(2**60) for place in places}
    assert len(numbers) == len(places)
    assert generator(0, DRAWS, 1).integers(2**60) == generator(0, DRAWS, 1).integers(2**60)


class TestIid:
    def test_an_epoch_has_every_example_once(self):
        sampler = Iid(examples=12, workers=2, minibatch_size=3)
        first = np.concatenate([sampler(0), sampler(1)])
        second = np.concatenate([sampler(2), sampler(3)])
        assert first.dtype == np.int64
        assert sampler(0).shape == (6,)
        assert sorted(first) == sorted(second) == list(range(12))
        assert list(first) != list(range(12))
        assert list(first) != list(second)

    def test_a_step_continues_in_the_next_epoch(self):
        # 10 examples, 4 a step: epochs end after 2.5, 5, 7.5 and 10 steps.
        sampler = Iid(examples=10, workers=2, minibatch_size=2)
        stream = np.concatenate([sampler(step) for step in range(10)])
        for epoch in stream.reshape(4, 10):
            assert sorted(epoch) == list(range(10))

    def test_a_step_can_be_longer_than_an_epoch(self):
        stream = Iid(examples=4, workers=5, minibatch_size=2)(0)
        assert sorted(stream[:4]) == sorted(stream[4:8]) == [0, 1, 2, 3]

    def test_depends_on_seed_and_step_alone(self):
        asked_late = Iid(100, 2, 4, seed=3)(41)
        sampler = Iid(100, 2, 4, seed=3)
        in_order = [sampler(step) for step in range(42)]
        np.testing.assert_array_equal(asked_late, in_order[41])
        assert list(Iid(100, 2, 4, seed=4)(41)) != list(asked_late)

    @pytest.mark.parametrize("name", ["examples", "workers", "minibatch_size"])
    def test_refuses_numbers_below_one(self, name):
        settings = {"examples": 10, "workers": 1, "minibatch_size": 2, name: 0}
        with pytest.raises(ValueError, match=f"Received: {name}=0"):
            Iid(**settings)

    def test_refuses_a_minibatch_larger_than_the_data(self):
        with pytest.raises(ValueError, match="Received: minibatch_size=11, examples=10"):
            Iid(10, 1, 11)


class TestStructured:
    def test_images_of_a_draw_are_adjacent_distinct_and_of_one_label(self):
        indices = structured(labels_per_minibatch=16, images_per_label=2)(0)
        assert indices.dtype == np.int64
        assert indices.shape == (3 * 32,)
        pairs = indices.reshape(-1, 2)
        np.testing.assert_array_equal(LABELS[pairs[:, 0]], LABELS[pairs[:, 1]])
        assert np.all(pairs[:, 0] != pairs[:, 1])

    def test_many_images_of_a_draw_are_distinct(self):
        draws = structured(images_per_label=5)(2).reshape(-1, 5)
        # Five of five: every image of the class, in an order that differs between draws.
        for draw in draws:
            assert len(set(draw)) == 5
            assert len(set(LABELS[draw])) == 1
        assert len({tuple(np.argsort(draw)) for draw in draws}) > 10

    def test_labels_are_drawn_with_replacement(self):
        # 16 draws of 20 labels are all different once in 6,500 minibatches.
        minibatches = LABELS[structured(workers=50)(0)].reshape(50, 16, 2)[..., 0]
        assert all(len(set(labels)) < 16 for labels in minibatches)
        assert len({tuple(labels) for labels in minibatches}) == 50

    def test_halves_hold_one_image_of_every_draw(self):
        pairs = structured()(5).reshape(3, 16, 2)
        halves = structured(arrangement="apart")(5).reshape(3, 2, 16)
        np.testing.assert_array_equal(halves[:, 0], pairs[..., 0])
        np.testing.assert_array_equal(halves[:, 1], pairs[..., 1])

    def test_parts_of_more_images_a_label(self):
        draws = structured(labels_per_minibatch=4, images_per_label=3)(5).reshape(3, 4, 3)
        apart = structured(labels_per_minibatch=4, images_per_label=3, arrangement="apart")
        np.testing.assert_array_equal(apart(5).reshape(3, 3, 4), draws.swapaxes(1, 2))

    def test_shuffled_holds_the_same_images_across_the_minibatches(self):
        adjacent = structured()(5)
        shuffled = structured(arrangement="shuffled")(5)
        assert sorted(shuffled) == sorted(adjacent)
        moved = [
            set(a) != set(b) for a, b in zip(*map(_minibatches, (adjacent, shuffled)), strict=True)
        ]
        assert all(moved)
        pairs = LABELS[shuffled.reshape(-1, 2)]
        assert np.mean(pairs[:, 0] == pairs[:, 1]) < 0.25

    @pytest.mark.parametrize("arrangement", ARRANGEMENTS)
    def test_depends_on_seed_and_step_alone(self, arrangement):
        sampler = structured(arrangement=arrangement)
        steps = [sampler(step) for step in range(4)]
        np.testing.assert_array_equal(structured(arrangement=arrangement)(3), steps[3])
        assert len({tuple(indices) for indices in steps}) == 4
        assert list(structured(arrangement=arrangement, seed=8)(3)) != list(steps[3])

    def test_minibatches_to_evaluate_on(self):
        sampler = structured(workers=1, labels_per_minibatch=25)
        assert sampler.minibatch_size == 50
        assert sampler(0).shape == (50,)

    def test_every_label_and_every_ordered_pair_is_equally_likely(self):
        # Classes of two and three images: 1/2 for a class, 1/2 or 1/6 for a pair within it.
        labels = np.array([4, 9, 4, 9, 9])
        pairs = Structured(labels, workers=100, seed=0)(0)
        pairs = np.concatenate([pairs, Structured(labels, workers=400, seed=0)(1)]).reshape(-1, 2)
        counts = {
            (a, b): 0 for a in range(5) for b in range(5) if a != b and labels[a] == labels[b]
        }
        for pair in pairs.tolist():
            counts[tuple(pair)] += 1
        assert len(pairs) == 8000
        for (first, _), count in counts.items():
            expected = 2000 if labels[first] == 4 else 8000 / 12
            assert abs(count - expected) < 4 * np.sqrt(expected)

    def test_refuses_a_class_with_too_few_images(self):
        with pytest.raises(
            ValueError, match=r"images_per_label=3 images .* Received: 2 of class 9"
        ):
            Structured(np.array([4, 4, 4, 9, 9]), workers=1, images_per_label=3)

    @pytest.mark.parametrize(
        ("settings", "received"),
        [
            ({"workers": 0}, "workers=0"),
            ({"labels_per_minibatch": 0}, "labels_per_minibatch=0"),
            ({"images_per_label": -1}, "images_per_label=-1"),
            ({"arrangement": "halves"}, "arrangement='halves'"),
            ({"seed": -1}, "seed=-1"),
        ],
    )
    def test_refuses_other_settings(self, settings, received):
        with pytest.raises(ValueError, match=f"Received: {received}"):
            structured(**settings)

    @pytest.mark.parametrize(
        ("labels", "received"),
        [
            (np.zeros((4, 1), int), r"shape \(4, 1\) and type int64"),
            (np.zeros(4), r"shape \(4,\) and type float64"),
            (np.zeros(0, int), r"shape \(0,\) and type int64"),
        ],
    )
    def test_refuses_other_labels(self, labels, received):
        with pytest.raises(ValueError, match=received):
            Structured(labels, workers=1)


def _minibatches(indices):
    return indices.reshape(3, 32).tolist()


@pytest.mark.parametrize("sampler", [Iid(100, 1, 2), structured()])
def test_refuses_a_negative_step(sampler):
    with pytest.raises(ValueError, match="Received: step=-1"):
        sampler(-1)
