"""A training loop of your own in JAX.

Run it with `KERAS_BACKEND=jax`. The averages and the count of steps are among the model's
non-trainable variables: `stateless_call` returns their new values, and the loop has to carry them
on. A loop that drops them trains with the bounds of step 0 for ever.
"""

import jax
import keras
import numpy as np
from jax import numpy as jnp

import brn

assert keras.config.backend() == "jax"
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


def loss(trainable, non_trainable, x, y):
    """The loss, and the averages as the forward pass leaves them."""
    predicted, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
    return jnp.mean((predicted - y) ** 2), non_trainable


@jax.jit
def step(state, x, y):
    """One training step: the loss and the next state."""
    trainable, non_trainable, of_optimizer = state
    (value, non_trainable), gradients = jax.value_and_grad(loss, has_aux=True)(
        trainable, non_trainable, x, y
    )
    trainable, of_optimizer = optimizer.stateless_apply(of_optimizer, gradients, trainable)
    return value, (trainable, non_trainable, of_optimizer)


parts = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
state = tuple([variable.value for variable in part] for part in parts)
losses = []
for i in range(200):
    batch = slice(64 * i % 640, 64 * i % 640 + 64)
    value, state = step(state, x[batch], y[batch])
    losses.append(float(value))
for part, values in zip(parts, state, strict=True):  # back into the model, once training is over
    for variable, value in zip(part, values, strict=True):
        variable.assign(value)

print(f"loss {losses[0]:.1f} -> {losses[-1]:.1f}, {int(normalization.step)} steps")
assert int(normalization.step) == 200
assert losses[-1] < losses[0] / 4
