import threading

import keras
import numpy as np
import pytest

from experiments.data.augmentation import Augmentation, scale
from experiments.data.digits import digits
from experiments.data.pipeline import Minibatches
from experiments.data.sampling import AUGMENTATION, Iid, generator
from experiments.data.splits import DecodedSplit

SPLIT = digits().train
SAMPLER = Iid(len(SPLIT), workers=2, minibatch_size=4, seed=3)


def test_an_element_is_the_images_and_labels_of_its_step():
    images, labels = Minibatches(SPLIT, SAMPLER, total_steps=10, first_step=6)[2]
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(images, scale(SPLIT.images(SAMPLER(8))))
    np.testing.assert_array_equal(labels, SPLIT.labels[SAMPLER(8)])


def test_augmentation_depends_on_seed_and_step_alone():
    augmentation = Augmentation(shift=1, noise=0.2)
    whole = Minibatches(SPLIT, SAMPLER, augmentation, total_steps=10)
    resumed = Minibatches(SPLIT, SAMPLER, augmentation, total_steps=10, first_step=7)
    np.testing.assert_array_equal(whole[8][0], resumed[1][0])
    expected = augmentation(SPLIT.images(SAMPLER(8)), generator(3, AUGMENTATION, 8))
    np.testing.assert_array_equal(whole[8][0], expected)


def test_has_the_steps_that_are_left():
    minibatches = Minibatches(SPLIT, SAMPLER, total_steps=10, first_step=7)
    assert len(minibatches) == 3
    assert len(list(minibatches)) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"Received: index={index}"):
            minibatches[index]


@pytest.mark.parametrize("first_step", [-1, 11])
def test_refuses_a_first_step_outside_the_run(first_step):
    with pytest.raises(ValueError, match=f"first_step={first_step}, total_steps=10"):
        Minibatches(SPLIT, SAMPLER, total_steps=10, first_step=first_step)


def test_keras_trains_on_the_steps_in_order():
    seen = []

    class Recorded(Minibatches):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    model.fit(Recorded(SPLIT, SAMPLER, total_steps=4), shuffle=False, verbose=0)
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert seen[-4:] == [0, 1, 2, 3]
    assert model.optimizer.iterations == 4


def test_the_next_step_is_read_while_one_is_computed_and_each_step_once():
    read, next_one = [], threading.Event()

    class Noted(DecodedSplit):
        def images(self, indices):
            read.append(indices.tolist())
            if len(read) == 2:
                next_one.set()
            return super().images(indices)

    noted = Noted(SPLIT.labels, SPLIT.array)
    augmentation = Augmentation(shift=1)
    minibatches = Minibatches(noted, SAMPLER, augmentation, total_steps=4, ahead=1)
    whole = Minibatches(SPLIT, SAMPLER, augmentation, total_steps=4)
    first = minibatches[0]
    assert next_one.wait(timeout=30)  # and nobody has asked for it
    given = [first, *(minibatches[index] for index in (1, 2, 3))]
    for pair, expected in zip(given, (whole[index] for index in range(4)), strict=True):
        np.testing.assert_array_equal(pair[0], expected[0])
        np.testing.assert_array_equal(pair[1], expected[1])
    assert read == [SAMPLER(step).tolist() for step in range(4)]


def test_an_image_that_cannot_be_read_ahead_is_said_when_its_step_comes():
    class Torn(DecodedSplit):
        def images(self, indices):
            if indices.tolist() == SAMPLER(1).tolist():
                raise ValueError("no image")
            return super().images(indices)

    minibatches = Minibatches(Torn(SPLIT.labels, SPLIT.array), SAMPLER, total_steps=3, ahead=1)
    minibatches[0]
    with pytest.raises(ValueError, match="no image"):
        minibatches[1]
