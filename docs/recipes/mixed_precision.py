"""Mixed precision.

Set the policy as always; the layers need nothing else. They take their statistics in float32, from
inputs that were not rounded to float16 on the way in, and keep their weights and averages in
float32; only their output is float16. So averages move by a hundredth a step, which in float16 they
would not, and inputs beyond 65,504, the largest float16, survive.
"""

import keras
import numpy as np

import brn

keras.config.set_dtype_policy("mixed_float16")

layer = brn.BatchRenormalization(r_max=3.0, d_max=5.0)
x = np.array([[1e6], [3e6]], "float32")
layer.build(x.shape)
layer.moving_mean.assign([2e6])
layer.moving_stddev.assign([1e6])
outputs = layer(x, training=True)
print("outputs", keras.ops.convert_to_numpy(outputs).ravel(), keras.ops.dtype(outputs))
assert keras.ops.dtype(outputs) == "float16"
np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), [[-1], [1]], rtol=1e-3)
assert {keras.backend.standardize_dtype(weight.dtype) for weight in layer.weights} == {
    "float32", "int32",
}  # fmt: skip

# In a model, with the loss scaled as Keras does it.
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(3.0, 2.0, (640, 4)).astype("float32")
y = x[:, :1] - x[:, 1:2]
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, use_bias=False)])
model.add(brn.BatchRenormalization(momentum=0.9, r_max=3.0, d_max=5.0))
model.add(keras.layers.ReLU())
model.add(keras.layers.Dense(1, dtype="float32"))
model.compile(keras.optimizers.Adam(0.01), "mse")
losses = model.fit(x, y, batch_size=64, epochs=10, verbose=0).history["loss"]
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
assert losses[-1] < losses[0] / 2
