"""Fine-tuning a converted model with a short schedule.

`brn.convert` swaps the batch normalization layers of a trained model and keeps all weights, so
predictions stay the same. The new layers count their steps from 0: give them a schedule for the
length of the fine-tuning, not the paper's, of which a short run would only see the start. The
averages are good from the first step on, so the bounds could also open at once, with numbers
(`r_max=3.0, d_max=5.0`). Afterwards `convert` goes back to Keras's own layers, to deploy without
this package.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import brn

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
x, y, x_new, y_new = images[:900], labels[:900], images[900:], labels[900:]

# Somebody's model, trained with Keras's batch normalization in large minibatches.
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(64, use_bias=False),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.ReLU(),
        keras.layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss)
model.fit(x, y, batch_size=100, epochs=5, verbose=0)

# Fine-tuned in minibatches of 4, on images that look otherwise: brighter.
x_new = np.sqrt(x_new)
steps = 400 // 4
r_max, d_max = brn.paper_clipping(total_steps=steps)
tuned = brn.convert(model, r_max=r_max, d_max=d_max)
np.testing.assert_allclose(tuned.predict(x_new, verbose=0), model.predict(x_new, verbose=0),
                           atol=1e-4)  # fmt: skip
tuned.compile(keras.optimizers.Adam(0.001), loss, metrics=["accuracy"])


def accuracy():
    """On the new images that are not trained on."""
    return tuned.evaluate(x_new[400:], y_new[400:], verbose=0, return_dict=True)["accuracy"]


first = accuracy()
tuned.fit(x_new[:400], y_new[:400], batch_size=4, verbose=0)
last = accuracy()
r_max, d_max = (float(bound) for bound in tuned.layers[1].clipping_bounds())
print(f"{first:.1%} before, {last:.1%} after {steps} steps; bounds at the end: {r_max}, {d_max}")
assert (r_max, d_max) == (3.0, 5.0)
assert last > 0.8

# Back to Keras's layers.
deployed = brn.convert(tuned, keras.layers.BatchNormalization)
assert type(deployed.layers[1]) is keras.layers.BatchNormalization
np.testing.assert_allclose(deployed.predict(x_new, verbose=0), tuned.predict(x_new, verbose=0),
                           atol=1e-4)  # fmt: skip
