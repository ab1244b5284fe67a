"""A layer in a new model.

Put the layer where batch normalization would stand, after a convolution without a bias and before
its activation. Give it the schedule for the length of your run: the bounds hold at 1 and 0 for the
first 4 % of it, which is batch normalization, and then relax. The monitor notes what the bounds
clip, and warns if the run is over before they move.
"""

import keras
from keras import layers
from sklearn.datasets import load_digits

import brn

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
x, y, x_test, y_test = images[:1500], labels[:1500], images[1500:], labels[1500:]

epochs, batch_size = 6, 50
r_max, d_max = brn.paper_clipping(total_steps=epochs * len(x) // batch_size)
model = keras.Sequential([keras.Input((8, 8, 1))])
for filters, strides in ((16, 1), (32, 2)):
    model.add(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
    # A short run: averages over the last ten steps or so, not over the last hundred.
    model.add(brn.BatchRenormalization(momentum=0.9, r_max=r_max, d_max=d_max))
    model.add(layers.ReLU())
model.add(layers.Flatten())
model.add(layers.Dense(10))

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
monitor = brn.callbacks.RenormMonitor(x[:batch_size], every=30, logs=["r_clipped", "d_clipped"])
model.fit(x, y, batch_size, epochs, verbose=0, callbacks=[monitor])

for row in monitor.history:
    if row["layer"] == model.layers[1].path:
        print("step {step:3}: r within {r_max:.2f}, {r_clipped:.0%} clipped".format(**row))
accuracy = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
print(f"{accuracy:.1%} of the test images")
assert [float(bound) for bound in model.layers[1].clipping_bounds()] == [3.0, 5.0]
assert accuracy > 0.8
