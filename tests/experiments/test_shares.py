"""What a process of several reads, decodes and evaluates: its share, and nothing else."""

import numpy as np
import pytest

from experiments.data.augmentation import Augmentation
from experiments.data.digits import digits
from experiments.data.pipeline import Minibatches
from experiments.data.sampling import Iid, Structured
from experiments.data.splits import DecodedSplit
from experiments.training import evaluation

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("arrangement", [None, "adjacent", "shuffled"])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_a_step_are_its_examples_each_once_augmented_alike(processes, arrangement):
    split, changed = digits().train, []
    if arrangement:  # an image may be drawn twice, so places are what is dealt out
        sampler = Structured(split.labels, 4, 4, 2, arrangement, seed=3)
    else:
        sampler = Iid(len(split), workers=4, minibatch_size=8, seed=3)

    class Noted(DecodedSplit):
        def images(self, indices):
            changed.extend(indices)
            return super().images(indices)

    noted = Noted(split.labels, split.array)
    augmentation = Augmentation(flip=True, shift=2, noise=0.1, warp=0.2)
    whole = Minibatches(split, sampler, augmentation, total_steps=5)
    share = 32 // processes
    parts = [
        Minibatches(noted, sampler, augmentation, total_steps=5, part=slice(i, i + share))
        for i in range(0, 32, share)
    ]
    for index in (0, 3):
        changed.clear()
        given = [part[index] for part in parts]
        assert changed == sampler(index).tolist()  # decoded once, and no other
        assert arrangement or len(set(changed)) == 32
        for kind in (0, 1):
            together = np.concatenate([part[kind] for part in given])
            np.testing.assert_array_equal(together, whole[index][kind])


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_shared_evaluation_counts_each_image_once(processes):
    counts, seen = [], []

    class Share:
        size = processes

        def __init__(self, rank):
            self.rank = rank

        def moved(self):
            pass

        def everyone(self, count):
            counts.append(count)
            return counts

    def logits(weights, images):
        seen.append(len(images))
        return np.eye(2)[np.zeros(len(images), int)]

    split = DecodedSplit(np.arange(10) % 2, np.zeros((10, 1, 1, 1), np.uint8))
    for rank in range(processes):
        chunks = (split, np.arange(10), 3, Share(rank))
        percent = evaluation.accuracy_percent(logits, None, *chunks)
    assert percent == 50
    assert sorted(seen) == [1, 3, 3, 3]
