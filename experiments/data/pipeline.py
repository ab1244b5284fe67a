"""Minibatches for Keras: a sampler's indices, a split's images, and their augmentation."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from experiments.data.augmentation import EVERYTHING, Augmentation
from experiments.data.sampling import AUGMENTATION, Iid, Structured, generator
from experiments.data.splits import Split


class Minibatches(keras.utils.PyDataset):
    """The training data of steps `first_step` to `total_steps`, one element a step.

    Element `i` is the pair of images and labels of step `first_step + i`; it depends on the step
    and the sampler's seed alone, so a resumed run continues where it stopped. Keras shuffles a
    `PyDataset` unless told otherwise: call `fit(minibatches, shuffle=False)`.

    Args:
        split: where images and labels come from.
        sampler: step -> indices, with its `seed`, which seeds the augmentation too.
        augmentation: what is done to the images.
        total_steps: steps of the whole run.
        first_step: step to start at.
        part: of the examples of each step, the ones to give; the others are neither read nor
            decoded. All parts together are the whole, augmentation included.
        ahead: how many of the next steps are read, decoded and augmented meanwhile, each in a
            thread. (Keras reads no step while it computes one; its `workers` would mix up the order
            of the steps.)

    Raises:
        ValueError: if `first_step` is not between 0 and `total_steps`.
    """

    def __init__(
        self,
        split: Split,
        sampler: Iid | Structured,
        augmentation: Augmentation | None = None,
        *,
        total_steps: int,
        first_step: int = 0,
        part: slice = EVERYTHING,
        ahead: int = 0,
    ):
        super().__init__()
        if not 0 <= first_step <= total_steps:
            raise ValueError(
                "Expected first_step between 0 and total_steps. "
                f"Received: first_step={first_step}, total_steps={total_steps}."
            )
        self.split = split
        self.sampler = sampler
        self.augmentation = augmentation or Augmentation()
        self.total_steps = total_steps
        self.first_step = first_step
        self.part = part
        self.ahead = ahead
        self._threads, self._begun = ThreadPoolExecutor(max(ahead, 1)), {}

    def __len__(self) -> int:
        return self.total_steps - self.first_step

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, float32 `(batch, height, width, channels)`, and labels, int32.

        Raises:
            IndexError: if the run has no such step.
        """
        if not 0 <= index < len(self):
            raise IndexError(
                f"Expected an index between 0 and {len(self) - 1}. Received: index={index}."
            )
        if not self.ahead:
            return self._made(index)
        wanted = range(index, min(index + self.ahead + 1, len(self)))
        self._begun = {
            at: self._begun.get(at) or self._threads.submit(self._made, at) for at in wanted
        }
        return self._begun.pop(index).result()

    def _made(self, index):
        step = self.first_step + index
        everything = self.sampler(step)
        examples = everything[self.part]
        rng = generator(self.sampler.seed, AUGMENTATION, step)
        images = self.split.images(examples)
        images = self.augmentation(images, rng, self.part, len(everything))
        return images, self.split.labels[examples].astype(np.int32)
