"""Microbatches of 2 where memory is short, beside gradient accumulation.

Where only two examples fit into memory, gradients are accumulated over several forward passes.
Batch normalization then has two examples to take its statistics from. Batch Renormalization
corrects them towards the averages.

Count in forward passes: each one moves the averages and the layer's steps, whether or not the
optimizer then takes a step. So `total_steps` of the schedule are passes, and an average over the
last ten optimizer steps of four passes each takes a momentum of `1 - 0.1 / 4`.

To study small minibatches where memory is *not* short, as the paper does, train on batches of 16
with `microbatch_size=2`. The outputs are those of eight passes of 2 from one state; the averages
move once, so the momentum stays that of optimizer steps.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import brn

PASSES = 4  # forward passes for one step of the optimizer

# The outputs in microbatches of 2 are those of single passes of 2.
x = np.random.default_rng(0).normal(2.0, 3.0, (16, 5)).astype("float32")
together = brn.BatchRenormalization(r_max=2.0, d_max=1.0, momentum=1.0, microbatch_size=2)
alone = brn.BatchRenormalization(r_max=2.0, d_max=1.0, momentum=1.0)  # at rest, to compare
outputs = keras.ops.convert_to_numpy(together(x, training=True))
for first in range(0, 16, 2):
    two = keras.ops.convert_to_numpy(alone(x[first : first + 2], training=True))
    np.testing.assert_allclose(outputs[first : first + 2], two, atol=1e-5)

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
x, y, x_test, y_test = images[:800], labels[:800], images[800:], labels[800:]


def accuracy_with(normalization):
    """Train on batches of 2 with accumulated gradients; return the accuracy on test images."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((64,))])
    model.add(keras.layers.Dense(64, use_bias=False))
    model.add(normalization)
    model.add(keras.layers.ReLU())
    model.add(keras.layers.Dense(10))
    model.compile(
        keras.optimizers.Adam(0.01, gradient_accumulation_steps=PASSES),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=2, verbose=0)
    return model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]


momentum = 1 - 0.1 / PASSES
r_max, d_max = brn.paper_clipping(total_steps=len(x) // 2)  # forward passes
bn = accuracy_with(brn.BatchNormalization(momentum=momentum))
renorm = accuracy_with(brn.BatchRenormalization(momentum=momentum, r_max=r_max, d_max=d_max))
print(f"batches of 2: {bn:.1%} with batch normalization, {renorm:.1%} with Batch Renormalization")
assert renorm > 0.7
