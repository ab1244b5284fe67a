"""What training at the paper's scale asks of machines: its network counted, decoding timed.

    KERAS_BACKEND=jax python -m experiments demand        a minute

Puts rows into `processes.csv` in the folder of results; docs/scale.md plans with them.
"""

import io
import math
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from experiments.data.augmentation import Augmentation
from experiments.data.splits import EncodedSplit
from experiments.grid.protocols import IMAGENET, MINIBATCH
from experiments.speed.measured import note
from experiments.speed.timing import take_turns
from experiments.training import models

JPEG = (375, 500)
"""Height and width of an image as ImageNet's usually are."""


def multiply_adds(model: keras.Model) -> int:
    """Returns the multiplications of a forward pass over an image, of convolutions and products."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:-1])
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def jpeg() -> bytes:
    """Returns an image whose file is about as large as ImageNet's are in the mean, 110 kB."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(256, size=(25, 33, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(JPEG[::-1], Image.Resampling.BICUBIC), float)
    pixels = (smooth + rng.normal(0, 20, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def run(folder: str | Path, rounds: int = 31) -> None:
    """Counts and times, and puts rows into the table.

    Args:
        folder: the folder of results.
        rounds: how often a minibatch is decoded; the medians are given.
    """
    protocol = IMAGENET
    say = partial(note, Path(folder) / "processes.csv", protocol.name)
    shape = (protocol.image_size, protocol.image_size, 3)
    normalize = partial(keras.layers.BatchNormalization, scale=False)
    model = models.build(protocol.network, shape, protocol.classes, normalize)
    say("multiply-adds of an image, forward", multiply_adds(model))
    say("parameters", model.count_params())
    say("weights that training moves", sum(math.prod(v.shape) for v in model.trainable_variables))
    say("steps", protocol.steps)
    say("images a step", protocol.workers * MINIBATCH)
    evaluated = 2 * protocol.evaluation_images  # of validation and of training
    say("images evaluated", evaluated * (protocol.steps // protocol.evaluate_every))
    say("training images", protocol.training_images)
    say("side of an image", protocol.image_size)

    encoded = jpeg()
    records = [(io.BytesIO(encoded), 0) for _ in range(MINIBATCH)]
    split = EncodedSplit(np.zeros(MINIBATCH, np.int64), records, shape)
    examples, rng = np.arange(MINIBATCH), np.random.default_rng(0)
    images, augment = split.images(examples), Augmentation(flip=protocol.flip)
    times = take_turns(
        {"decode": lambda: split.images(examples), "scale": lambda: augment(images, rng)},
        rounds,
        clock=time.process_time,
    )
    say("a JPEG of 500x375", round(len(encoded) / 1000), "kB")
    name = "decoding, cutting and resizing an image"
    say(name, float(1e3 * np.median(times["decode"]) / MINIBATCH), "ms of a core")
    name = "flipping and scaling an image"
    say(name, float(1e3 * np.median(times["scale"]) / MINIBATCH), "ms of a core")
