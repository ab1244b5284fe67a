"""A training loop of your own in TensorFlow.

Run it with `KERAS_BACKEND=tensorflow`. A call with `training=True` moves the averages and the count
of steps, inside `tf.function` too: call the model once for each training step.
"""

import keras
import numpy as np
import tensorflow as tf

import brn

assert keras.config.backend() == "tensorflow"
rng = np.random.default_rng(0)
x = rng.normal(3.0, 2.0, (640, 4)).astype("float32")
y = x[:, :1] * x[:, 1:2]

keras.utils.set_random_seed(1)
r_max, d_max = brn.paper_clipping(total_steps=200)
normalization = brn.BatchRenormalization(momentum=0.9, r_max=r_max, d_max=d_max)
model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(32), normalization, keras.layers.ReLU()]
)
model.add(keras.layers.Dense(1))
optimizer = keras.optimizers.Adam(0.01)
optimizer.build(model.trainable_variables)


@tf.function
def step(x, y):
    """One training step: the loss."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    return loss


batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(64).repeat().take(200)
losses = [float(step(*batch)) for batch in batches]

print(f"loss {losses[0]:.1f} -> {losses[-1]:.1f}, {int(normalization.step)} steps")
assert int(normalization.step) == 200
assert losses[-1] < losses[0] / 4
