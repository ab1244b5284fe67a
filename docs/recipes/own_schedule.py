"""Bounds on a schedule of your own.

A schedule is a function of the layer's own count of steps. It is written with `keras.ops`, so that
it runs inside the compiled training step, and registered with Keras, so that it is saved with the
model. This one relaxes a bound by halves: every `half` steps do half of the way that is left.
"""

import os
import tempfile

import keras
import numpy as np
from keras import ops

import brn
from brn.schedules import ClipSchedule, as_float


@keras.saving.register_keras_serializable(package="recipes")
class ByHalves(ClipSchedule):
    """From `start`, ever closer to `end`."""

    def __init__(self, start, end, half):
        self.start, self.end, self.half = start, end, half

    def __call__(self, step):
        left = ops.power(0.5, as_float(step) / self.half)
        return self.end + (self.start - self.end) * left

    def get_config(self):
        return {"start": self.start, "end": self.end, "half": self.half}


layer = brn.BatchRenormalization(r_max=ByHalves(1.0, 3.0, 10), d_max=ByHalves(0.0, 5.0, 10))
model = keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(1)])
model.compile("adam", "mse")

rng = np.random.default_rng(0)
x = rng.normal(size=(160, 8)).astype("float32")
model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0)  # 20 steps, two halvings
r_max, d_max = layer.clipping_bounds()
print(f"after {int(layer.step)} steps: r_max {float(r_max)}, d_max {float(d_max)}")

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.keras")
    model.save(path)
    loaded = keras.saving.load_model(path)
print("loaded:", loaded.layers[0].r_max, "at step", int(loaded.layers[0].step))
