"""Class-structured minibatches for metric learning.

A contrastive loss needs several examples of each class in a minibatch, so minibatches are
structured: here 4 classes, 8 images of each. Their statistics depend on which classes were drawn,
and batch normalization lets the network see that while it trains, but not when it is used. That is
section 4.3 of the paper. Batch Renormalization normalizes towards the averages over all classes.

The measure is how many test images have an image of their own class as their nearest neighbour
among the training images, with embeddings from inference mode.
"""

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import brn

STEPS, CLASSES, IMAGES = 100, 4, 8

images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32")
x, y, x_test, y_test = images[:1200], labels[:1200], images[1200:], labels[1200:]


class Structured(keras.utils.PyDataset):
    """Minibatches of a few classes, with several images of each."""

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        classes = rng.choice(10, CLASSES, replace=False)
        chosen = [rng.choice(np.flatnonzero(y == c), IMAGES, replace=False) for c in classes]
        chosen = np.concatenate(chosen)
        return x[chosen], y[chosen]


def contrastive(labels, embeddings):
    """Of all pairs with an image, those of its class should be the most similar."""
    labels = ops.reshape(labels, (-1,))
    itself = ops.eye(CLASSES * IMAGES)
    similarity = ops.matmul(embeddings, ops.transpose(embeddings)) / 0.1 - 1e9 * itself
    same = ops.cast(labels[:, None] == labels[None, :], "float32") - itself
    return -ops.sum(same * ops.log_softmax(similarity, axis=-1), axis=-1) / (IMAGES - 1)


def neighbours_found(normalization):
    """Train an embedding; return the fraction of nearest neighbours that are of the right class."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, use_bias=False),
            normalization,
            keras.layers.ReLU(),
            keras.layers.Dense(16),
            keras.layers.UnitNormalization(),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), contrastive)
    model.fit(Structured(), shuffle=False, verbose=0)
    gallery, queries = (model.predict(part, batch_size=600, verbose=0) for part in (x, x_test))
    nearest = (queries @ gallery.T).argmax(axis=1)
    return np.mean(y[nearest] == y_test)


r_max, d_max = brn.paper_clipping(total_steps=STEPS)
bn = neighbours_found(brn.BatchNormalization(momentum=0.9))
renorm = neighbours_found(brn.BatchRenormalization(momentum=0.9, r_max=r_max, d_max=d_max))
print(f"nearest neighbours of the right class: {bn:.1%} with batch normalization, {renorm:.1%} "
      "with Batch Renormalization")  # fmt: skip
assert renorm > 0.8
